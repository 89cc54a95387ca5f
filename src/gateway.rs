//! The tasks of a running gateway: who owns what, and who stops when.
//!
//! | task | owns | stops when |
//! | --- | --- | --- |
//! | source (one child per sensor) | the links | it is told to |
//! | ingest | the append side of the queue | its channel is closed and empty |
//! | drainer | the remove side and the sink | its token is cancelled; it settles what is in flight, if the sink answers soon |
//! | control | the socket of `hr-gatewayd status`, `tail`, `queue` and `sensor` | last |
//! | copy | the directory beside Kinesis | the drainer is gone and nothing waits |
//! | page | the listener of the live page and the metrics | last |
//! | state | how the gateway is, as a record every few minutes | last |
//! | heartbeat | the clock, the status line, the watchdog, the ledger's log line | last |
//!
//! Stopping goes downstream, source first, under one deadline. Of it ingest and the queue's closing have
//! shares that no link and no sink can take: what was received is durable at the end, whoever hangs. A
//! task that ends early stops the rest in the same way and makes the whole fail: systemd restarts, there
//! is no supervisor inside.
//!
//! A gateway that begins anew with another configuration leaves its [`Source`] running: no link is cut for
//! it, and what arrives meanwhile waits.

mod clock_watch;
mod heartbeat;
mod state_records;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::ble::registry::Registry;
use crate::ble::{EVENTS_MAX, NotificationSource, SensorViews, SourceView};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::control::{Parts, Sensors, Server};
use crate::drainer::batch::Limits;
use crate::drainer::copy::Copier;
use crate::drainer::settle::CallError;
use crate::drainer::{Drainer, DrainerView, RecordSink};
use crate::ingest::{Ingest, Inlet};
use crate::live::Live;
use crate::overview::Looker;
use crate::page::{Page, Password};
use crate::queue::QueueError;
use crate::queue::handle::Handle;
use crate::queue::rescued::Rescuer;
use crate::reading::GapReason;
use crate::service_manager;
use heartbeat::Heartbeat;
use state_records::StateRecords;

/// Everything stops within this time; below the unit's `TimeoutStopSec`.
const STOP_DEADLINE: Duration = Duration::from_secs(20);
/// Of that, what links and sink may take, which others answer for; more than the drainer waits for calls.
pub const LINKS_DEADLINE: Duration = Duration::from_secs(12);
/// By then ingest has committed; the rest is for closing the queue.
const INGEST_DEADLINE: Duration = Duration::from_secs(16);
/// A source that ended by itself leaves a queue to drain; without progress for so long, it is left.
pub const DRAIN_IDLE_MAX: Duration = Duration::from_secs(30);

/// What a gateway is made of.
pub struct Gateway {
    /// Sections that the tasks read.
    pub config: Config,
    /// The queue.
    pub queue: Handle,
    /// Whether the queue's opening showed that readings are missing from it.
    pub queue_went_back: bool,
    /// Where it is drained to; without one, readings wait.
    pub sink: Option<Arc<dyn RecordSink>>,
    /// What copies what the sink accepts, if that is wanted.
    pub copier: Option<Copier>,
    /// The machine's clocks.
    pub clock: SystemClock,
    /// What is heard just now: told of it.
    pub live: Live,
    /// When the process began, since boot.
    pub started: Duration,
    /// The socket for the commands that ask a running gateway, if wanted, what reads damaged stores for it, and which
    /// device each sensor is.
    pub control: Option<(PathBuf, Rescuer, Registry)>,
    /// Where the page is, if there is one, and its password.
    pub page: Option<(SocketAddr, Option<Password>)>,
    /// The file that its user writes: named where something is missing.
    pub config_path: PathBuf,
}

/// Where notifications come from, at work. Dropping it leaves the links to their end: see
/// [`stop`](Self::stop).
pub struct Source {
    task: Task,
    inlet: Arc<Mutex<Inlet>>,
    stop: CancellationToken,
    states: watch::Receiver<SensorViews>,
    view: Option<Arc<SourceView>>,
}

impl Source {
    /// Sets `source` to work. `states` says how it stands with each sensor, `view` is what it shows of itself, if it
    /// does.
    pub fn start(
        source: Box<dyn NotificationSource>,
        states: watch::Receiver<SensorViews>,
        view: Option<Arc<SourceView>>,
    ) -> Self {
        let stop = CancellationToken::new();
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let task = Task::spawn("source", source.run(sender, stop.clone()).map(Ok));
        Self { task, inlet: Arc::new(Mutex::new(Inlet::new(events))), stop, states, view }
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        self.task.is_running()
    }

    /// Closes the links; what was received still reaches an ingest.
    pub async fn stop(&mut self, deadline: Instant) -> Result<(), GatewayError> {
        self.stop.cancel();
        self.task.stopped_by(deadline).await
    }
}

/// How a gateway is asked to end.
#[derive(Clone, Default)]
pub struct Stops {
    /// With its source.
    pub whole: CancellationToken,
    /// Without it, to begin anew.
    pub anew: CancellationToken,
    /// When that was asked of the gateway before it: the deadline counts from then.
    pub asked_at: Option<Instant>,
}

impl Stops {
    async fn asked(&self) {
        tokio::select! {
            () = self.whole.cancelled() => {}
            () = self.anew.cancelled() => {}
        }
    }

    /// Whether it was.
    pub fn are_asked(&self) -> bool {
        self.whole.is_cancelled() || self.anew.is_cancelled()
    }
}

/// What a gateway without a sink needs.
pub fn what_to_write(config_path: &Path) -> String {
    format!(
        "write [kinesis] stream and region (or [directory] path) and [[sensor]] blocks into {}, then \
         `systemctl reload hr-gatewayd`",
        config_path.display()
    )
}

/// Why a gateway ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The queue failed: look at the disk; systemd starts the daemon again.
    #[error("the {task} stopped")]
    Queue {
        /// Which task met it.
        task: &'static str,
        /// The queue's error.
        #[source]
        source: QueueError,
    },
    /// A bug.
    #[error("the {0} panicked; please report it with the lines above")]
    Panicked(&'static str),
    /// A task did not stop in time.
    #[error("the {0} did not stop in time; it was abandoned")]
    Hung(&'static str),
}

impl GatewayError {
    /// Whether somebody must change the configuration before a restart helps.
    pub fn needs_configuration(&self) -> bool {
        matches!(self, Self::Queue { source, .. } if source.needs_configuration())
    }
}

impl Gateway {
    /// Runs until asked to end, or until a finite `source` has ended and the queue is drained.
    pub async fn run(self, source: &mut Source, stops: Stops) -> Result<(), GatewayError> {
        let (failing, failing_seen) = watch::channel(None::<CallError>);
        let drainer_view = Arc::new(DrainerView::default());
        let ingest_rounds = Arc::new(AtomicU64::new(0));
        let (leave, drain_stop) = (CancellationToken::new(), CancellationToken::new());

        let ingest = Ingest {
            queue: self.queue.clone(),
            session: self.config.session.clone(),
            before_us: if self.queue_went_back { GapReason::QueueLost } else { GapReason::GatewayDown },
            commit_interval: self.config.queue.commit_interval.0,
            rounds: ingest_rounds.clone(),
            registry: self.control.as_ref().map(|(_, _, registry)| registry.clone()),
            live: self.live.clone(),
        };
        let looker = Looker {
            queue: self.queue.clone(),
            queue_path: self.config.queue.path.clone(),
            live: self.live,
            clock: self.clock.clone(),
            states: source.states.clone(),
            source_view: source.view.clone(),
            sink: self.sink.as_ref().map(|sink| sink.kind()),
            drainer: drainer_view.clone(),
            failing: failing_seen.clone(),
            started: self.started,
        };
        let heartbeat = Heartbeat {
            queue: self.queue.clone(),
            clock: self.clock.clone(),
            states: source.states.clone(),
            failing: failing_seen,
            drainer: self.sink.is_some().then(|| drainer_view.clone()),
            ingest_rounds,
            source_view: source.view.clone(),
            ledger_interval: self.config.log.ledger_interval.0,
            config_path: self.config_path,
        };
        let page = self.page.map(|(listen, password)| Page {
            listen,
            password,
            metrics_have_heart_rates: self.config.page.metrics_heart_rates,
            looker: looker.clone(),
        });
        let records = StateRecords::wanted(&self.config, looker.clone());
        let queue = self.queue.clone();
        let control = self.control.map(|(socket, rescuer, registry)| {
            let sensors = Sensors { registry, states: source.states.clone() };
            Server { socket, parts: Parts { queue, rescuer, sensors, looker } }
        });
        let drainer = self.sink.map(|sink| Drainer {
            queue: self.queue.clone(),
            sink,
            clock: self.clock,
            limits: Limits::from_config(&self.config.drain),
            order: self.config.drain.order,
            view: drainer_view.clone(),
            failing,
            random: fastrand::Rng::new(),
        });

        let mut ingest = Task::spawn("ingest", ingest.run(source.inlet.clone(), leave.clone()));
        let mut drainer = Task::spawn_if("drainer", drainer.map(|drainer| drainer.run(drain_stop.clone())));
        let mut copier = Task::spawn_if("copy", self.copier.map(|copier| copier.run().map(Ok)));
        let mut heartbeat = Task::spawn("heartbeat", heartbeat.run().map(Ok));
        let mut control = Task::spawn_if("control", control.map(|server| server.run().map(Ok)));
        let mut page = Task::spawn_if("page", page.map(|page| page.run().map(Ok)));
        let mut records = Task::spawn_if("state", records.map(StateRecords::run));
        service_manager::ready();

        let mut result = tokio::select! {
            () = stops.asked() => Ok(()),
            ended = source.task.ended() => ended,
            ended = ingest.ended() => ended,
            ended = drainer.ended() => ended,
            ended = heartbeat.ended() => ended,
            ended = control.ended() => ended,
            ended = page.ended() => ended,
            ended = records.ended() => ended,
        };
        if result.is_ok() && !stops.are_asked() {
            // The source has no more: its channel closed with it, so the ingest ends by itself.
            if ingest.is_running() {
                result = tokio::select! {
                    ended = ingest.ended() => ended,
                    () = stops.asked() => Ok(()),
                };
            }
            if result.is_ok() && drainer.is_running() {
                result = tokio::select! {
                    () = drained(&self.queue, &drainer_view) => Ok(()),
                    () = stops.asked() => Ok(()),
                    ended = drainer.ended() => ended,
                };
            }
        }
        let mut asked_at = stops.asked_at.unwrap_or_else(Instant::now);
        drain_stop.cancel();
        let anew = result.is_ok() && stops.anew.is_cancelled();
        if anew && !stops.whole.is_cancelled() {
            // Appending goes on while calls in flight are settled.
            tokio::select! {
                settled = drainer.stopped_by(asked_at + LINKS_DEADLINE) => result = settled,
                () = stops.whole.cancelled() => asked_at = Instant::now(),
            }
            tokio::select! {
                // It ends with the drainer's sink. A copy that hangs is no failure of the gateway.
                _ = copier.stopped_by(asked_at + LINKS_DEADLINE) => {}
                () = stops.whole.cancelled() => asked_at = Instant::now(),
            }
        }
        if anew && result.is_ok() && !stops.whole.is_cancelled() {
            leave.cancel();
        } else {
            info!("stopping");
            result = result.and(source.stop(asked_at + LINKS_DEADLINE).await);
        }
        result = result.and(ingest.stopped_by(asked_at + INGEST_DEADLINE).await);
        result = result.and(drainer.stopped_by(asked_at + INGEST_DEADLINE).await);
        _ = copier.stopped_by(asked_at + INGEST_DEADLINE).await;
        heartbeat.abort().await;
        control.abort().await;
        page.abort().await;
        records.abort().await;
        let queue = self.queue;
        let mut close = Task::spawn("queue", async move { queue.close().await });
        result.and(close.stopped_by(asked_at + STOP_DEADLINE).await)
    }
}

/// Waits until the queue is empty, or nothing was accepted for [`DRAIN_IDLE_MAX`].
async fn drained(queue: &Handle, view: &DrainerView) {
    const LOOK_EVERY: Duration = Duration::from_millis(20);
    let mut accepted = 0;
    let mut progress_at = Instant::now();
    while queue.depth() > 0 && progress_at.elapsed() < DRAIN_IDLE_MAX {
        let now = view.accepted.load(Ordering::Relaxed);
        if std::mem::replace(&mut accepted, now) != now {
            progress_at = Instant::now();
        }
        sleep(LOOK_EVERY).await;
    }
}

/// A spawned task.
struct Task {
    name: &'static str,
    handle: Option<JoinHandle<Result<(), QueueError>>>,
}

impl Task {
    fn spawn(
        name: &'static str,
        future: impl Future<Output = Result<(), QueueError>> + Send + 'static,
    ) -> Self {
        Self::spawn_if(name, Some(future))
    }

    fn spawn_if(
        name: &'static str,
        future: Option<impl Future<Output = Result<(), QueueError>> + Send + 'static>,
    ) -> Self {
        Self { name, handle: future.map(tokio::spawn) }
    }

    fn is_running(&self) -> bool {
        self.handle.is_some()
    }

    /// Its end; never, if there is nothing to end.
    async fn ended(&mut self) -> Result<(), GatewayError> {
        let Some(handle) = &mut self.handle else { return std::future::pending().await };
        let ended = handle.await;
        self.handle = None;
        match ended {
            Ok(result) => result.map_err(|source| GatewayError::Queue { task: self.name, source }),
            Err(_panic) => Err(GatewayError::Panicked(self.name)),
        }
    }

    /// Its end by `deadline`, if it has not ended.
    async fn stopped_by(&mut self, deadline: Instant) -> Result<(), GatewayError> {
        if !self.is_running() {
            return Ok(());
        }
        match timeout_at(deadline, self.ended()).await {
            Ok(ended) => ended,
            Err(_elapsed) => {
                self.abort().await;
                Err(GatewayError::Hung(self.name))
            }
        }
    }

    /// Ends it where it stands; what it held is free on return.
    async fn abort(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.abort();
            _ = handle.await;
        }
    }
}
