//! The queue commands, on a stopped or a running gateway.
//!
//! sled lets one process open a store, so the running daemon answers for it on a Unix socket beside
//! the store (which only its user and root reach): one request as a line of JSON, answered by lines of
//! [`Reply`]. On a stopped gateway the same [`execute`] runs in the command itself.

use std::io::{self, BufRead, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::config::DrainOrder;
use crate::queue::handle::Handle;
use crate::queue::sequence_set::SequenceSet;
use crate::queue::{self, DeadLetter, QueueError};
use crate::reading::Item;
use crate::wire::{self, Envelope};

/// Conversations at once. Whoever comes then takes the place of the one that moved longest ago: a pager that
/// was left open holds nobody up.
const CONVERSATIONS_MAX: usize = 16;
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

/// Carries out `request`; what there is to say goes to `say` as it comes. Who hears slowly holds up nobody
/// else: between two steps the queue is free.
pub async fn execute(
    queue: &Handle,
    request: &Request,
    say: &mpsc::Sender<Reply>,
) -> Result<u64, ControlError> {
    match request {
        Request::Status => {
            tell(say, Reply::Status(Box::new(queue.status().await?))).await?;
            Ok(1)
        }
        Request::Export => export(queue, say).await,
        Request::DeadLetters => {
            let mut letters = DeadLetters::of(queue);
            let mut count = 0;
            while let Some((letter, envelope)) = letters.next().await? {
                let line = line_of(&letter.item, envelope);
                let sequence = letter.item.sequence;
                count += 1;
                tell(say, Reply::DeadLetter { sequence, reason: letter.reason, line }).await?;
            }
            Ok(count)
        }
        Request::Requeue(selection) => in_steps(queue, selection, AfterAll::Queue, say).await,
        Request::Drop(selection) => in_steps(queue, selection, AfterAll::Nowhere, say).await,
    }
}

/// Fails when nobody hears any more.
async fn tell(say: &mpsc::Sender<Reply>, reply: Reply) -> io::Result<()> {
    say.send(reply).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
}

fn line_of(item: &Item, envelope: &Envelope) -> String {
    let mut line = Vec::new();
    wire::write_line(item, envelope, &mut line);
    String::from_utf8_lossy(line.trim_ascii_end()).into_owned()
}

async fn export(queue: &Handle, say: &mpsc::Sender<Reply>) -> Result<u64, ControlError> {
    let total = queue.depth();
    let mut seen = SequenceSet::default();
    let mut count = 0;
    loop {
        let envelope = queue.envelope().await;
        let items = queue.peek(DrainOrder::OldestFirst, seen.clone(), EXPORT_ITEMS).await?;
        let Some(last) = items.last().map(|item| item.sequence) else { return Ok(count) };
        seen.insert_range(0..=last);
        for item in &items {
            tell(say, Reply::Line(line_of(item, &envelope))).await?;
        }
        count += items.len() as u64;
        tell(say, Reply::Progress(count, total.max(count))).await?;
    }
}

/// All dead letters, read some at a time.
struct DeadLetters<'a> {
    queue: &'a Handle,
    from: u64,
    read: std::vec::IntoIter<DeadLetter>,
    envelope: Option<Envelope>,
}

impl<'a> DeadLetters<'a> {
    fn of(queue: &'a Handle) -> Self {
        Self { queue, from: 0, read: Vec::new().into_iter(), envelope: None }
    }

    async fn next(&mut self) -> Result<Option<(DeadLetter, &Envelope)>, QueueError> {
        if self.read.as_slice().is_empty() {
            self.read = self.queue.dead_letters(self.from, EXPORT_ITEMS).await?.into_iter();
            self.envelope = Some(self.queue.envelope().await);
        }
        let next = self.read.next();
        self.from = next.as_ref().map_or(self.from, |letter| letter.item.sequence + 1);
        Ok(next.zip(self.envelope.as_ref()))
    }
}

/// Where dead letters go in the end.
#[derive(Debug, Clone, Copy)]
enum AfterAll {
    Queue,
    Nowhere,
}

async fn in_steps(
    queue: &Handle,
    selection: &Selection,
    to: AfterAll,
    say: &mpsc::Sender<Reply>,
) -> Result<u64, ControlError> {
    const STEP: usize = 500;
    let mut chosen = Vec::new();
    match selection {
        Selection::Sequences(sequences) => chosen.clone_from(sequences),
        Selection::All => {
            let mut letters = DeadLetters::of(queue);
            while let Some((letter, _)) = letters.next().await? {
                chosen.push(letter.item.sequence);
            }
        }
    }
    let mut moved = 0;
    for (step, sequences) in chosen.chunks(STEP).enumerate() {
        let set = sequences.iter().copied().collect();
        moved += match to {
            AfterAll::Queue => queue.requeue(set).await?,
            AfterAll::Nowhere => queue.drop_dead_letters(set).await?,
        };
        tell(say, Reply::Progress((step * STEP + sequences.len()) as u64, chosen.len() as u64)).await?;
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
    match std::os::unix::net::UnixStream::connect(socket_path(queue_path)) {
        Ok(stream) => Some(converse(stream, request, hear)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Some(Err(ControlError::Remote("run this as root, or as the gateway's user".into())))
        }
        // Nobody listens: there is no gateway, or it was killed.
        Err(_) => None,
    }
}

fn converse(
    mut stream: std::os::unix::net::UnixStream,
    request: &Request,
    hear: &mut dyn FnMut(Reply) -> io::Result<()>,
) -> Result<u64, ControlError> {
    let mut line = serde_json::to_vec(request).map_err(io::Error::from)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    for line in io::BufReader::new(stream).lines() {
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
    pub queue: Handle,
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
            let queue = &self.queue;
            conversations.push(async move {
                let ended = tokio::select! {
                    ended = serve(stream, queue, &place) => ended,
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

async fn serve(stream: UnixStream, queue: &Handle, place: &Place) -> io::Result<()> {
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
        let end = match execute(queue, &request, &say).await {
            Ok(count) => Reply::Done(count),
            Err(error) => {
                let first = Some(&error as &dyn std::error::Error);
                let chain = std::iter::successors(first, |error| error.source());
                Reply::Failed(chain.map(ToString::to_string).collect::<Vec<_>>().join(": "))
            }
        };
        tell(&say, end).await
    };
    let pass_on = async {
        let mut out = BufWriter::new(writes);
        while let Some(reply) = said.recv().await {
            let mut line = serde_json::to_vec(&reply)?;
            line.push(b'\n');
            timeout(READER_WAIT, out.write_all(&line)).await??;
            place.moves();
        }
        timeout(READER_WAIT, out.flush()).await?
    };
    tokio::try_join!(answer, pass_on).map(|((), ())| ())
}
