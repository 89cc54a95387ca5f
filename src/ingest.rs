//! Notifications → readings and gap records → group-committed append.
//!
//! [`Tracker`] is the pure part: it parses, begins sessions and finds gaps. [`Ingest::run`] is the thin one: while one commit runs, what arrives goes into the next. It ends when its channel is closed and
//! everything in it is durable, or when the gateway begins anew: then the next one goes on with the [`Inlet`].

mod tracker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use tracker::Tracker;

use crate::ble::registry::Registry;
use crate::ble::{EVENTS_MAX, SourceEvent};
use crate::config::SessionConfig;
use crate::live::Live;
use crate::queue::handle::Handle;
use crate::queue::{Appended, QueueError};
use crate::reading::{Content, GapReason, Observation, SensorId};

/// The append side of the queue.
pub struct Ingest {
    /// The queue.
    pub queue: Handle,
    /// When a session ends, and what is a gap.
    pub session: SessionConfig,
    /// Why there is nothing from before this process.
    pub before_us: GapReason,
    /// Wait so long for more before a commit.
    pub commit_interval: Duration,
    /// Rounds of the loop: the watchdog's proof of life.
    pub rounds: Arc<AtomicU64>,
    /// Which device each sensor is: told of the sessions that are in the queue.
    pub registry: Option<Registry>,
    /// Told of what has become durable.
    pub live: Live,
}

/// Longest time without a round.
const ROUND_MAX: Duration = Duration::from_secs(5);

/// What comes to an ingest. It outlives one: the next goes on with what waits, and with what is known of
/// each sensor in the queue that the last one appended to.
pub struct Inlet {
    events: mpsc::Receiver<SourceEvent>,
    known: Option<(Handle, Tracker)>,
}

impl Inlet {
    /// Nothing is known yet.
    pub fn new(events: mpsc::Receiver<SourceEvent>) -> Self {
        Self { events, known: None }
    }

    /// What is known of the sensors in `queue`.
    async fn tracker(&mut self, config: &SessionConfig, queue: &Handle, before_us: GapReason) -> Tracker {
        let begun = Tracker::new(config, &queue.ledger().await, before_us);
        match self.known.take() {
            Some((known, tracker)) if known.is_same(queue) => begun.going_on_with(tracker),
            _ => begun,
        }
    }
}

impl Ingest {
    /// Appends until `inlet` is closed and empty, or until `leave`: what arrives from then on waits in it.
    pub async fn run(self, inlet: Arc<Mutex<Inlet>>, leave: CancellationToken) -> Result<(), QueueError> {
        let mut inlet = inlet.lock().await;
        let mut tracker = inlet.tracker(&self.session, &self.queue, self.before_us).await;
        self.append_from(&mut inlet.events, &mut tracker, &leave).await?;
        inlet.known = Some((self.queue, tracker));
        Ok(())
    }

    async fn append_from(
        &self,
        events: &mut mpsc::Receiver<SourceEvent>,
        tracker: &mut Tracker,
        leave: &CancellationToken,
    ) -> Result<(), QueueError> {
        let mut reporter = Reporter::default();
        let mut arrived = Vec::new();
        let mut observations = Vec::new();
        loop {
            self.rounds.fetch_add(1, Ordering::Relaxed);
            let arrival = timeout(ROUND_MAX, events.recv_many(&mut arrived, EVENTS_MAX));
            match leave.run_until_cancelled(arrival).await {
                None => return Ok(()),
                Some(Err(_idle)) => continue,
                Some(Ok(0)) => tracker.finish(&mut observations),
                // What was waited for is appended also when it is time to leave.
                Some(Ok(_)) => {
                    _ = leave.run_until_cancelled(self.wait_for_more(events, &mut arrived)).await;
                }
            }
            let closed = arrived.is_empty();
            arrived.drain(..).for_each(|event| tracker.handle(event, &mut observations));
            tracker.take_padded().for_each(|(sensor, padded)| reporter.count_padded(sensor, padded));
            if !observations.is_empty() {
                let batch = std::mem::take(&mut observations);
                reporter.count_malformed(&batch);
                let heard = Live::prepare(&batch);
                let appended = self.queue.append(batch).await?;
                self.live.tell(heard);
                reporter.report(&appended);
                for (sensor, session) in appended.sessions_begun {
                    info!(%sensor, session, "session begins");
                    self.registry.iter().for_each(|registry| registry.note_session(&sensor));
                }
            }
            if closed {
                return Ok(());
            }
        }
    }

    async fn wait_for_more(&self, events: &mut mpsc::Receiver<SourceEvent>, arrived: &mut Vec<SourceEvent>) {
        if self.commit_interval.is_zero() {
            return;
        }
        let deadline = Instant::now() + self.commit_interval;
        while arrived.len() < EVENTS_MAX && Instant::now() < deadline {
            self.rounds.fetch_add(1, Ordering::Relaxed);
            let round = deadline.min(Instant::now() + ROUND_MAX);
            if let Ok(0) = timeout_at(round, events.recv_many(arrived, EVENTS_MAX)).await {
                return;
            }
        }
    }
}

/// Logs what appends came to: transitions, not repetitions.
#[derive(Debug, Default)]
struct Reporter {
    evicted: u64,
    disk_low: bool,
    malformed: BTreeMap<SensorId, Occurrences>,
    padded: BTreeMap<SensorId, Occurrences>,
}

/// What happens again and again with one sensor.
#[derive(Debug, Default)]
struct Occurrences {
    unreported: u64,
    reported: Option<Instant>,
}

impl Occurrences {
    /// How many there were, if that is to be said now: at once, and then at most so often.
    fn take_due(&mut self, every: Duration) -> Option<u64> {
        let is_due = self.unreported > 0 && self.reported.is_none_or(|at| at.elapsed() >= every);
        is_due.then(|| {
            self.reported = Some(Instant::now());
            std::mem::take(&mut self.unreported)
        })
    }
}

/// Malformed notifications of a sensor are reported at most this often.
const MALFORMED_REPORT_EVERY: Duration = Duration::from_secs(60);
/// And those with a byte too many, which cost nothing.
const PADDED_REPORT_EVERY: Duration = Duration::from_secs(3600);

impl Reporter {
    fn count_padded(&mut self, sensor: &SensorId, count: u64) {
        self.padded.entry(sensor.clone()).or_default().unreported += count;
    }

    fn count_malformed(&mut self, batch: &[Observation]) {
        for observation in batch.iter().filter(|o| o.content == Content::Malformed) {
            self.malformed.entry(observation.sensor.clone()).or_default().unreported += 1;
        }
    }

    fn report(&mut self, appended: &Appended) {
        if appended.disk_low && !self.disk_low && appended.evicted == 0 {
            warn!(
                error_class = "full",
                "the disk is nearly full: the queue no longer grows; nothing is lost yet"
            );
        }
        self.disk_low = appended.disk_low;
        if appended.evicted > 0 {
            if self.evicted == 0 {
                let cause =
                    if appended.disk_low { "the disk is nearly full" } else { "it is at queue.items_max" };
                error!(
                    error_class = "full",
                    "the queue is full ({cause}): readings are being lost as queue.when_full says; \
                     make room or restore the way to the sink"
                );
            }
            self.evicted += appended.evicted;
        } else if self.evicted > 0 && !appended.is_full {
            info!(evicted = self.evicted, "the queue has room again; {} items were lost", self.evicted);
            self.evicted = 0;
        }
        for (sensor, malformed) in &mut self.malformed {
            if let Some(count) = malformed.take_due(MALFORMED_REPORT_EVERY) {
                warn!(
                    error_class = "malformed",
                    %sensor,
                    count,
                    "notifications that are no Heart Rate Measurement were dropped and counted"
                );
            }
        }
        for (sensor, padded) in &mut self.padded {
            if let Some(count) = padded.take_due(PADDED_REPORT_EVERY) {
                info!(
                    %sensor,
                    count,
                    "notifications had half an RR-Interval at their end, which was left out; nothing else is missing"
                );
            }
        }
    }
}
