//! The queue commands, on a stopped or a running gateway.
//!
//! sled lets one process open a store, so the running daemon answers for it on a Unix socket beside
//! the store (which only its user and root reach): one request as a line of JSON, answered by lines of
//! [`Reply`]. On a stopped gateway the same [`execute`] runs in the command itself.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::{Notify, Semaphore};
use tracing::{debug, warn};

use crate::config::DrainOrder;
use crate::queue::sequence_set::SequenceSet;
use crate::queue::{self, QueueError, ReadingQueue};
use crate::wire::{self, Envelope};

/// Most requests served at once.
const REQUESTS_MAX: usize = 2;
/// Pause after a connection that could not be accepted (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Items read at once by an export.
const EXPORT_ITEMS: usize = 5_000;

/// What is asked of the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Ledger and depth, by sensor.
    Status,
    /// Every queued item, as it would be sent.
    Export,
    /// Every dead letter.
    DeadLetters,
    /// Dead letters back into the queue.
    Requeue(Selection),
    /// Dead letters away for good.
    Drop(Selection),
}

/// Which dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// All of them.
    All,
    /// These sequences.
    Sequences(Vec<u64>),
}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Box<queue::Status>),
    /// A queued item's NDJSON line.
    Line(String),
    /// A dead letter: its sequence, the sink's words, its NDJSON line.
    DeadLetter {
        /// Its sequence.
        sequence: u64,
        /// Why it was refused.
        reason: String,
        /// The line.
        line: String,
    },
    /// So many of so many are done.
    Progress(u64, u64),
    /// It is done; so many items were concerned.
    Done(u64),
    /// It failed.
    Failed(String),
}

/// Carries out `request`; what there is to say goes to `say` as it comes.
pub fn execute(
    queue: &dyn ReadingQueue,
    envelope: &Envelope,
    request: &Request,
    say: &mut dyn FnMut(Reply) -> io::Result<()>,
) -> Result<u64, ControlError> {
    match request {
        Request::Status => {
            say(Reply::Status(Box::new(queue::status(queue)?)))?;
            Ok(1)
        }
        Request::Export => export(queue, envelope, say),
        Request::DeadLetters => {
            let mut count = 0;
            each_dead_letter(queue, |letter| {
                let mut line = Vec::new();
                wire::write_line(&letter.item, envelope, &queue.anchors(), &mut line);
                let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
                count += 1;
                say(Reply::DeadLetter { sequence: letter.item.sequence, reason: letter.reason, line })
            })?;
            Ok(count)
        }
        Request::Requeue(selection) => in_steps(queue, selection, say, |sequences| queue.requeue(sequences)),
        Request::Drop(selection) => {
            in_steps(queue, selection, say, |sequences| queue.drop_dead_letters(sequences))
        }
    }
}

fn export(
    queue: &dyn ReadingQueue,
    envelope: &Envelope,
    say: &mut dyn FnMut(Reply) -> io::Result<()>,
) -> Result<u64, ControlError> {
    let total = queue.ledger().depth();
    let anchors = queue.anchors();
    let mut seen = SequenceSet::default();
    let mut count = 0;
    loop {
        let items = queue.peek(DrainOrder::OldestFirst, &seen, EXPORT_ITEMS)?;
        let Some(last) = items.last().map(|item| item.sequence) else { return Ok(count) };
        seen.insert_range(0..=last);
        for item in &items {
            let mut line = Vec::new();
            wire::write_line(item, envelope, &anchors, &mut line);
            say(Reply::Line(String::from_utf8_lossy(line.trim_ascii_end()).into_owned()))?;
        }
        count += items.len() as u64;
        say(Reply::Progress(count, total.max(count)))?;
    }
}

fn each_dead_letter(
    queue: &dyn ReadingQueue,
    mut visit: impl FnMut(queue::DeadLetter) -> io::Result<()>,
) -> Result<(), ControlError> {
    let mut from = 0;
    loop {
        let letters = queue.dead_letters(from, EXPORT_ITEMS)?;
        let Some(last) = letters.last() else { return Ok(()) };
        from = last.item.sequence + 1;
        letters.into_iter().try_for_each(&mut visit)?;
    }
}

fn in_steps(
    queue: &dyn ReadingQueue,
    selection: &Selection,
    say: &mut dyn FnMut(Reply) -> io::Result<()>,
    apply: impl Fn(&SequenceSet) -> Result<u64, QueueError>,
) -> Result<u64, ControlError> {
    const STEP: usize = 500;
    let mut chosen = Vec::new();
    match selection {
        Selection::Sequences(sequences) => chosen.clone_from(sequences),
        Selection::All => each_dead_letter(queue, |letter| {
            chosen.push(letter.item.sequence);
            Ok(())
        })?,
    }
    let mut moved = 0;
    for (step, sequences) in chosen.chunks(STEP).enumerate() {
        moved += apply(&sequences.iter().copied().collect())?;
        say(Reply::Progress((step * STEP + sequences.len()) as u64, chosen.len() as u64))?;
    }
    Ok(moved)
}

/// Why a queue command failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The queue said no.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The other side of the pipe went away.
    #[error("the answer could not be passed on")]
    Io(#[from] io::Error),
    /// The running daemon said no.
    #[error("the running gateway answered: {0}")]
    Remote(String),
}

/// The socket of the gateway whose queue is at `queue_path`.
pub fn socket_path(queue_path: &Path) -> PathBuf {
    let mut name = queue_path.file_name().unwrap_or_default().to_owned();
    name.push(".sock");
    queue_path.with_file_name(name)
}

/// Asks the running gateway, if there is one: `None` if nobody listens.
pub fn ask(
    queue_path: &Path,
    request: &Request,
    hear: &mut dyn FnMut(Reply) -> io::Result<()>,
) -> Option<Result<u64, ControlError>> {
    match UnixStream::connect(socket_path(queue_path)) {
        Ok(stream) => Some(converse(stream, request, hear)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Some(Err(ControlError::Remote("run this as root, or as the gateway's user".into())))
        }
        // Nobody listens: there is no gateway, or it was killed.
        Err(_) => None,
    }
}

fn converse(
    mut stream: UnixStream,
    request: &Request,
    hear: &mut dyn FnMut(Reply) -> io::Result<()>,
) -> Result<u64, ControlError> {
    let mut line = serde_json::to_vec(request).map_err(io::Error::from)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    for line in BufReader::new(stream).lines() {
        match serde_json::from_str(&line?).map_err(io::Error::from)? {
            Reply::Done(count) => return Ok(count),
            Reply::Failed(words) => return Err(ControlError::Remote(words)),
            reply => hear(reply)?,
        }
    }
    Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
}

/// The daemon's side of the socket.
pub struct Server {
    /// Where to listen; see [`socket_path`].
    pub socket: PathBuf,
    /// The queue.
    pub queue: Arc<dyn ReadingQueue>,
    /// What all lines have in common.
    pub envelope: Envelope,
    /// Rung when something was put back into the queue.
    pub appended: Arc<Notify>,
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
                warn!(%error, "`hr-gatewayd queue` cannot reach this process: no socket at {socket}");
                return std::future::pending().await;
            }
        };
        let _bound = Bound(self.socket);
        let places = Arc::new(Semaphore::new(REQUESTS_MAX));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream.into_std(),
                Err(error) => {
                    debug!(%error, "no connection accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (queue, envelope, appended) =
                (self.queue.clone(), self.envelope.clone(), self.appended.clone());
            tokio::task::spawn_blocking(move || {
                let _place = place;
                let result = stream.and_then(|stream| serve(&stream, &*queue, &envelope));
                appended.notify_one();
                if let Err(error) = result {
                    debug!(%error, "a queue command ended early");
                }
            });
        }
    }
}

/// A socket that goes with its server.
struct Bound(PathBuf);

impl Drop for Bound {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.0);
    }
}

fn serve(stream: &UnixStream, queue: &dyn ReadingQueue, envelope: &Envelope) -> io::Result<()> {
    /// A pager may pause for long; a request comes at once.
    const REQUEST_WAIT: Duration = Duration::from_secs(5);
    const READER_WAIT: Duration = Duration::from_secs(600);
    const REQUEST_BYTES_MAX: u64 = 16 << 20;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(REQUEST_WAIT))?;
    stream.set_write_timeout(Some(READER_WAIT))?;
    let mut line = String::new();
    BufReader::new(stream.take(REQUEST_BYTES_MAX)).read_line(&mut line)?;
    let request: Request = serde_json::from_str(&line)?;
    let mut out = io::BufWriter::new(stream);
    let mut say = |reply: Reply| -> io::Result<()> {
        serde_json::to_writer(&mut out, &reply)?;
        out.write_all(b"\n")
    };
    let end = match execute(queue, envelope, &request, &mut say) {
        Ok(count) => Reply::Done(count),
        Err(error) => {
            let chain = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
            Reply::Failed(chain.map(ToString::to_string).collect::<Vec<_>>().join(": "))
        }
    };
    say(end)?;
    out.flush()
}
