//! The daemon's side of the socket.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::execute::{execute, tell};
use super::{Reply, Request, Sensors, whole};
use crate::blocking;
use crate::overview::Looker;
use crate::queue::handle::Handle;
use crate::queue::rescued::Rescuer;

/// Conversations at once. Whoever comes then takes the place of the one that moved longest ago: a pager that
/// was left open holds nobody up.
const CONVERSATIONS_MAX: usize = 16;
/// Pause after a connection that could not be accepted (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Answers for the queue of a running gateway.
pub struct Server {
    /// Where to listen; see [`socket_path`](super::socket_path).
    pub socket: PathBuf,
    /// Who answers.
    pub parts: Parts,
}

/// Who answers for what.
pub struct Parts {
    /// The queue.
    pub queue: Handle,
    /// Reads what is to be taken back into it.
    pub rescuer: Rescuer,
    /// The sensors.
    pub sensors: Sensors,
    /// The whole.
    pub looker: Looker,
}

impl Server {
    /// Serves for ever. Where the socket cannot be made, says so once and waits.
    pub async fn run(self) {
        // Left by a process that was killed; the store's lock shows that none is alive.
        _ = std::fs::remove_file(&self.socket);
        let listener = UnixListener::bind(&self.socket).and_then(|listener| {
            std::fs::set_permissions(&self.socket, std::fs::Permissions::from_mode(0o600))?;
            Ok(listener)
        });
        let listener = match listener {
            Ok(listener) => listener,
            Err(error) => {
                let socket = self.socket.display();
                warn!(%error, "`hr-gatewayd queue` and `sensor` cannot reach this process: no socket at {socket}");
                return std::future::pending().await;
            }
        };
        let _bound = Bound(self.socket);
        let mut conversations = FuturesUnordered::new();
        let mut places: Vec<Arc<Place>> = Vec::new();
        loop {
            let accepted = tokio::select! {
                Some(()) = conversations.next(), if !conversations.is_empty() => {
                    places.retain(|place| !place.left.is_cancelled());
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    debug!(%error, "no connection accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if places.len() >= CONVERSATIONS_MAX
                && let Some(slowest) = places.iter().min_by_key(|place| place.moved_at())
            {
                slowest.left.cancel();
            }
            let place = Arc::new(Place::default());
            places.push(place.clone());
            let server = &self.parts;
            conversations.push(async move {
                let ended = tokio::select! {
                    ended = serve(stream, server, &place) => ended,
                    () = place.left.cancelled() => Err(io::ErrorKind::TimedOut.into()),
                };
                if let Err(error) = ended {
                    debug!(%error, "a queue command ended early");
                }
                place.left.cancel();
            });
        }
    }
}

/// What the server knows of a conversation.
struct Place {
    left: CancellationToken,
    began: Instant,
    /// Milliseconds after `began`.
    moved: AtomicU64,
}

impl Default for Place {
    fn default() -> Self {
        Self { left: CancellationToken::new(), began: Instant::now(), moved: AtomicU64::default() }
    }
}

impl Place {
    fn moved_at(&self) -> Instant {
        self.began + Duration::from_millis(self.moved.load(Ordering::Relaxed))
    }

    fn moves(&self) {
        self.moved.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
    }
}

/// A socket that goes with its server.
struct Bound(PathBuf);

impl Drop for Bound {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.0);
    }
}

async fn serve(stream: UnixStream, parts: &Parts, place: &Place) -> io::Result<()> {
    /// A pager may pause for long; a request comes at once.
    const REQUEST_WAIT: Duration = Duration::from_secs(5);
    const READER_WAIT: Duration = Duration::from_secs(600);
    const REQUEST_BYTES_MAX: u64 = 16 << 20;
    const REPLIES_AHEAD: usize = 64;
    let (hears, writes) = stream.into_split();
    let mut line = String::new();
    let mut hears = BufReader::new(hears.take(REQUEST_BYTES_MAX));
    timeout(REQUEST_WAIT, hears.read_line(&mut line)).await??;
    let request: Request = serde_json::from_str(&line)?;
    let (say, mut said) = mpsc::channel(REPLIES_AHEAD);
    let answer = async move {
        let request = match request {
            Request::Queue(request) => request,
            Request::Gateway(request) => {
                // Who leaves says nothing more, and is not waited for.
                return tokio::select! {
                    told = whole::answer(&parts.looker, &request, &say) => told,
                    _ = hears.read_line(&mut line) => Ok(()),
                };
            }
            Request::Sensors(request) => {
                let sensors = parts.sensors.clone();
                for reply in blocking::run(move || sensors.answer(&request)).await {
                    tell(&say, reply).await?;
                }
                return Ok(());
            }
        };
        let end = match execute(&parts.queue, &parts.rescuer, &request, &say).await {
            Ok(count) => Reply::Done(count),
            Err(error) => failed(&error),
        };
        tell(&say, end).await
    };
    let pass_on = async {
        let mut out = BufWriter::new(writes);
        while let Some(reply) = said.recv().await {
            let mut line = serde_json::to_vec(&reply)?;
            line.push(b'\n');
            timeout(READER_WAIT, out.write_all(&line)).await??;
            if said.is_empty() {
                timeout(READER_WAIT, out.flush()).await??;
            }
            place.moves();
        }
        Ok(())
    };
    tokio::try_join!(answer, pass_on).map(|((), ())| ())
}

pub(super) fn failed(error: &dyn std::error::Error) -> Reply {
    let chain = std::iter::successors(Some(error), |error| error.source());
    Reply::Failed(chain.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}
