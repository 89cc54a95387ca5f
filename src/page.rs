//! The live page and the metrics: what a browser, Prometheus and a health check see of a running gateway.
//!
//! Off until `[page] listen` is set. It only looks ([`Looker`]), and holds nobody up: who reads slowly misses some.
//! What must hold: heart rates go to nobody who was not meant to see them. A page on this machine alone answers to
//! this machine's own names only, so that no web site can reach it through a visitor's browser (DNS rebinding); one
//! that others can reach asks for a password.

mod events;
mod http;
pub mod metrics;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ring::digest::{Digest, SHA256, digest};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::overview::Looker;
use http::{Answer, Request, Status};
use metrics::Format;

/// The user that goes with the password.
pub const USER: &str = "hr";
/// Connections at once: a dozen browsers, each with a few.
const CONNECTIONS_MAX: usize = 32;
/// So often an address is tried that cannot be listened on: at the boot it may come later than the gateway.
const BIND_EVERY: Duration = Duration::from_secs(5);
/// So long one connection lasts; a page opens the next by itself.
const CONNECTION_MAX: Duration = Duration::from_secs(3600);
/// Pause after a connection that could not be accepted (too many open files), and after a wrong password.
const PAUSE: Duration = Duration::from_secs(1);

/// What is to be served.
pub struct Page {
    /// Where.
    pub listen: SocketAddr,
    /// Who may look: whoever reaches it, where there is none.
    pub password: Option<Password>,
    /// Whether the metrics have heart rates.
    pub metrics_have_heart_rates: bool,
    /// What there is to see.
    pub looker: Looker,
}

/// Somebody who is connected.
#[derive(Default)]
struct Seat {
    left: CancellationToken,
    /// Passed what is asked of a visitor, and is told of what is heard.
    may_look: AtomicBool,
}

/// A password, as it comes in a request: kept as its digest alone.
#[derive(Clone, Copy)]
pub struct Password(Digest);

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_ref() == other.0.as_ref()
    }
}

impl Password {
    /// Of this text.
    pub fn new(text: &str) -> Self {
        let given = base64_simd::STANDARD.encode_to_string(format!("{USER}:{text}"));
        Self(digest(&SHA256, format!("Basic {given}").as_bytes()))
    }

    /// Whether an Authorization header names it. Digests are compared, which tells nothing by its time.
    fn is(&self, header: &[u8]) -> bool {
        digest(&SHA256, header).as_ref() == self.0.as_ref()
    }
}

impl Page {
    /// Serves for ever. An address that is not there yet is waited for.
    pub async fn run(self) {
        let listener = self.listener().await;
        let address = listener.local_addr().unwrap_or(self.listen);
        info!("the page is at http://{address}/, the metrics at http://{address}/metrics");
        self.looker.live.keep_recent();
        let mut connections = FuturesUnordered::new();
        let mut seats: VecDeque<Arc<Seat>> = VecDeque::new();
        loop {
            let accepted = tokio::select! {
                Some(()) = connections.next(), if !connections.is_empty() => {
                    seats.retain(|seat| !seat.left.is_cancelled());
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    debug!(%error, "no connection accepted");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            if seats.len() >= CONNECTIONS_MAX {
                // Whoever may look is not pushed out by who only comes.
                let oldest =
                    seats.iter().find(|seat| !seat.may_look.load(Ordering::Relaxed)).or(seats.front());
                oldest.into_iter().for_each(|seat| seat.left.cancel());
            }
            let seat = Arc::new(Seat::default());
            seats.push_back(seat.clone());
            connections.push(self.serve(stream, seat));
        }
    }

    async fn listener(&self) -> TcpListener {
        let mut is_said = false;
        loop {
            match TcpListener::bind(self.listen).await {
                Ok(listener) => return listener,
                Err(error) if !is_said => {
                    is_said = true;
                    let address = self.listen;
                    warn!(%error, "no page yet: {address} cannot be listened on; trying on, and readings flow all the same");
                }
                Err(_again) => {}
            }
            sleep(BIND_EVERY).await;
        }
    }

    async fn serve(&self, mut stream: TcpStream, seat: Arc<Seat>) {
        _ = stream.set_nodelay(true);
        let conversation = timeout(CONNECTION_MAX, self.converse(&mut stream, &seat));
        if let Some(Ok(Err(error))) = seat.left.run_until_cancelled(conversation).await {
            debug!(%error, "a connection to the page ended early");
        }
        seat.left.cancel();
    }

    async fn converse(&self, stream: &mut TcpStream, seat: &Seat) -> io::Result<()> {
        let Some(request) = http::read(stream).await? else {
            return http::write(
                stream,
                &Answer::plain(Status::BAD_REQUEST, "that is no HTTP request"),
                false,
            )
            .await;
        };
        if request.path == "/events" && request.method == "GET" {
            return match self.refusal(&request).await {
                Some(refusal) => http::write(stream, &refusal, false).await,
                None => {
                    seat.may_look.store(true, Ordering::Relaxed);
                    events::tell(stream, &self.looker).await
                }
            };
        }
        // A disk that hangs holds the queue up, and not who asks.
        let answer = timeout(http::TIMEOUT, self.answer(&request)).await;
        let slow = |_| Answer::plain(Status::UNAVAILABLE, "the queue does not answer: look at the disk");
        let answer = answer.unwrap_or_else(slow);
        http::write(stream, &answer, request.method == "HEAD").await
    }

    async fn answer(&self, request: &Request) -> Answer {
        if request.method != "GET" && request.method != "HEAD" {
            return Answer::plain(Status::METHOD_NOT_ALLOWED, "this page is only looked at");
        }
        if request.path == "/healthz" {
            // That it answers is the answer: the tasks share its thread, and systemd's watchdog sees the others.
            return Answer::plain(Status::OK, "ok");
        }
        if let Some(refusal) = self.refusal(request).await {
            return refusal;
        }
        match request.path.as_str() {
            "/" => asset("text/html; charset=utf-8", include_str!("page/index.html")),
            "/page.css" => asset("text/css; charset=utf-8", include_str!("page/page.css")),
            "/page.js" => asset("text/javascript; charset=utf-8", include_str!("page/page.js")),
            "/metrics" => self.metrics(request).await,
            "/readyz" => self.readiness().await,
            _ => Answer::plain(Status::NOT_FOUND, "there is nothing here; the page is at /"),
        }
    }

    /// Why a request is not answered, if it is not.
    async fn refusal(&self, request: &Request) -> Option<Answer> {
        match (&self.password, &request.authorization) {
            (Some(password), Some(given)) if password.is(given) => None,
            (Some(_), given) => {
                if given.is_some() {
                    sleep(PAUSE).await;
                }
                let what = "the user is `hr`, the password that of the configuration";
                Some(Answer::plain(Status::UNAUTHORIZED, what))
            }
            (None, _) if request.host.as_deref().is_some_and(is_this_machine) => None,
            (None, _) => {
                let what = "this page answers to the names localhost, 127.0.0.1 and [::1] alone";
                Some(Answer::plain(Status::FORBIDDEN, what))
            }
        }
    }

    async fn metrics(&self, request: &Request) -> Answer {
        let format = match request.accept.contains("application/openmetrics-text") {
            true => Format::OpenMetrics,
            false => Format::Prometheus,
        };
        let overview = match self.looker.look().await {
            Ok(overview) => overview,
            Err(error) => return Answer::plain(Status::UNAVAILABLE, &error.to_string()),
        };
        let heart_rates = self.metrics_have_heart_rates.then(|| self.looker.live.latest());
        let text = metrics::text(&overview, heart_rates.as_ref(), format);
        Answer { status: Status::OK, content_type: format.content_type(), body: text.into_bytes() }
    }

    async fn readiness(&self) -> Answer {
        match self.looker.look().await {
            Ok(overview) if overview.attention.is_empty() => Answer::plain(Status::OK, "all is well"),
            Ok(overview) => Answer::plain(Status::UNAVAILABLE, &overview.attention.join("\n")),
            Err(error) => Answer::plain(Status::UNAVAILABLE, &error.to_string()),
        }
    }
}

fn asset(content_type: &'static str, text: &'static str) -> Answer {
    Answer { status: Status::OK, content_type, body: text.into() }
}

/// Whether a Host header names this machine as it names itself.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    matches!(name, Some("localhost" | "127.0.0.1" | "::1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_own_names_are_its_own() {
        let own = ["localhost", "localhost:8180", "127.0.0.1:8180", "[::1]", "[::1]:8180"];
        assert_eq!(own.map(is_this_machine), [true; 5]);
        let others = ["evil.example", "localhost.evil.example:8180", "127.0.0.1.nip.io", ""];
        assert_eq!(others.map(is_this_machine), [false; 4]);
    }

    #[test]
    fn a_password_is_right_with_its_user_alone() {
        let password = Password::new("correct horse");
        let is = |text: &str| {
            let given = base64_simd::STANDARD.encode_to_string(text);
            password.is(format!("Basic {given}").as_bytes())
        };
        assert!(is("hr:correct horse"));
        assert!(["hr:wrong", "other:correct horse", "hr:", ""].map(is) == [false; 4]);
    }
}
