//! The live page and the metrics: what a browser, Prometheus and a health check see of a running gateway.
//!
//! Off until `[page] listen` is set. It only looks ([`Looker`]), and holds nobody up: who reads slowly misses some.
//! What must hold: heart rates go to nobody who was not meant to see them. A page on this machine alone answers to
//! this machine's own names only, so that no web site can reach it through a visitor's browser (DNS rebinding); one
//! that others can reach asks for a password.

mod events;
pub mod metrics;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use ring::digest::{Digest, SHA256, digest};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::overview::Looker;
use metrics::Format;

/// The user that goes with the password.
pub const USER: &str = "hr";
/// Connections at once: a dozen browsers, each with a few.
const CONNECTIONS_MAX: usize = 32;
/// A head that takes longer does not come.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// So long one connection lasts; a page opens the next by itself.
const CONNECTION_MAX: Duration = Duration::from_secs(3600);
/// Pause after a connection that could not be accepted (too many open files), and after a wrong password.
const PAUSE: Duration = Duration::from_secs(1);

type Body = UnsyncBoxBody<Bytes, Infallible>;

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
    fn is(&self, header: Option<&HeaderValue>) -> bool {
        header.is_some_and(|given| digest(&SHA256, given.as_bytes()).as_ref() == self.0.as_ref())
    }
}

impl Page {
    /// Serves for ever. Where it cannot listen, says so once and waits.
    pub async fn run(self) {
        let listener = match TcpListener::bind(self.listen).await {
            Ok(listener) => listener,
            Err(error) => {
                warn!(%error, "no page: {} cannot be listened on; readings flow all the same", self.listen);
                return std::future::pending().await;
            }
        };
        let address = listener.local_addr().unwrap_or(self.listen);
        info!("the page is at http://{address}/, the metrics at http://{address}/metrics");
        self.looker.live.keep_recent();
        let mut connections = FuturesUnordered::new();
        loop {
            let accepted = tokio::select! {
                Some(()) = connections.next(), if !connections.is_empty() => continue,
                accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => accepted,
            };
            match accepted {
                Ok((stream, _)) => connections.push(self.serve(stream)),
                Err(error) => {
                    debug!(%error, "no connection accepted");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn serve(&self, stream: TcpStream) {
        _ = stream.set_nodelay(true);
        let service = hyper::service::service_fn(async |request| {
            Ok::<_, Infallible>(with_security_headers(self.answer(request).await))
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
        let connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        if let Ok(Err(error)) = timeout(CONNECTION_MAX, connection).await {
            debug!(%error, "a connection to the page ended early");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "this page is only looked at");
        }
        let path = request.uri().path();
        if path == "/healthz" {
            // That it answers is the answer: the tasks share its thread, and systemd's watchdog sees the others.
            return plain(StatusCode::OK, "ok");
        }
        if let Some(refusal) = self.refusal(&request).await {
            return refusal;
        }
        match path {
            "/" => asset("text/html; charset=utf-8", include_str!("page/index.html")),
            "/page.css" => asset("text/css; charset=utf-8", include_str!("page/page.css")),
            "/page.js" => asset("text/javascript; charset=utf-8", include_str!("page/page.js")),
            "/events" => {
                let mut response = Response::new(events::body(self.looker.clone()));
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                response
            }
            "/metrics" => self.metrics(&request).await,
            "/readyz" => self.readiness().await,
            _ => plain(StatusCode::NOT_FOUND, "there is nothing here; the page is at /"),
        }
    }

    /// Why a request is not answered, if it is not.
    async fn refusal(&self, request: &Request<Incoming>) -> Option<Response<Body>> {
        match &self.password {
            Some(password) if !password.is(request.headers().get(AUTHORIZATION)) => {
                if request.headers().contains_key(AUTHORIZATION) {
                    sleep(PAUSE).await;
                }
                let mut response = plain(
                    StatusCode::UNAUTHORIZED,
                    "the user is `hr`, the password that of the configuration",
                );
                let challenge = HeaderValue::from_static("Basic realm=\"hr-gatewayd\", charset=\"UTF-8\"");
                response.headers_mut().insert(http::header::WWW_AUTHENTICATE, challenge);
                Some(response)
            }
            None if !request.headers().get(HOST).is_some_and(is_this_machine) => Some(plain(
                StatusCode::FORBIDDEN,
                "this page answers to the names localhost, 127.0.0.1 and [::1] alone",
            )),
            _ => None,
        }
    }

    async fn metrics(&self, request: &Request<Incoming>) -> Response<Body> {
        let accepts = request.headers().get(http::header::ACCEPT).and_then(|accepts| accepts.to_str().ok());
        let format = match accepts.is_some_and(|accepts| accepts.contains("application/openmetrics-text")) {
            true => Format::OpenMetrics,
            false => Format::Prometheus,
        };
        let overview = match self.looker.look().await {
            Ok(overview) => overview,
            Err(error) => return plain(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        };
        let heart_rates = self.metrics_have_heart_rates.then(|| self.looker.live.latest());
        let text = metrics::text(&overview, heart_rates.as_ref(), format);
        let mut response = Response::new(body(text));
        let content_type = HeaderValue::from_static(format.content_type());
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        response
    }

    async fn readiness(&self) -> Response<Body> {
        match self.looker.look().await {
            Ok(overview) if overview.attention.is_empty() => plain(StatusCode::OK, "all is well"),
            Ok(overview) => plain(StatusCode::SERVICE_UNAVAILABLE, &overview.attention.join("\n")),
            Err(error) => plain(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        }
    }
}

/// Whether a Host header names this machine as it names itself.
fn is_this_machine(host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    matches!(name, Some("localhost" | "127.0.0.1" | "::1"))
}

fn body(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed_unsync()
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(body(format!("{text}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn asset(content_type: &'static str, text: &'static str) -> Response<Body> {
    let mut response = Response::new(body(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // Of the program's own version, which may be another tomorrow.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Nothing is loaded from elsewhere, and nobody shows the page inside his own.
fn with_security_headers(mut response: Response<Body>) -> Response<Body> {
    const POLICY: &str = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_own_names_are_its_own() {
        let is = |host: &str| is_this_machine(&HeaderValue::from_str(host).unwrap());
        assert!(
            ["localhost", "localhost:8180", "127.0.0.1:8180", "[::1]", "[::1]:8180"].map(is) == [true; 5]
        );
        assert!(
            ["evil.example", "localhost.evil.example:8180", "127.0.0.1.nip.io", ""].map(is) == [false; 4]
        );
    }

    #[test]
    fn a_password_is_right_with_its_user_alone() {
        let password = Password::new("correct horse");
        let is = |text: &str| {
            let given = base64_simd::STANDARD.encode_to_string(text);
            password.is(Some(&HeaderValue::from_str(&format!("Basic {given}")).unwrap()))
        };
        assert!(is("hr:correct horse"));
        assert!(["hr:wrong", "other:correct horse", "hr:", ""].map(is) == [false; 4]);
        assert!(!password.is(None));
    }
}
