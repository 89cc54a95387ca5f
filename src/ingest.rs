//! Notifications → readings and gap records → group-committed append.
//!
//! [`Tracker`] is the pure part: it parses, begins sessions and finds gaps. [`Ingest::run`] is the thin
//! one: while one commit runs, what arrives goes into the next. It ends when its channel is closed and
//! everything in it is durable, or when the gateway begins anew: then the next one goes on with the [`Inlet`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, trace, warn};

use crate::ble::{EVENTS_MAX, SourceEvent, SourceEventKind};
use crate::config::SessionConfig;
use crate::heart_rate::HeartRateMeasurement;
use crate::queue::handle::Handle;
use crate::queue::ledger::Ledger;
use crate::queue::{Appended, QueueError};
use crate::reading::{Body, Content, Gap, GapReason, Moment, Observation, SensorId};

/// Turns events into observations.
#[derive(Debug)]
pub struct Tracker {
    idle_after_ms: u64,
    gap_after_ms: u64,
    /// Why there is nothing from before this process.
    before_us: GapReason,
    sensors: BTreeMap<SensorId, Track>,
}

#[derive(Debug, Default)]
struct Track {
    last_reading: Option<Moment>,
    /// The last reading, or that there was no contact.
    last: Option<Moment>,
    /// Whether `last` was seen by this process, not by one before it.
    seen: bool,
    down: Option<GapReason>,
    /// Whether another device became the sensor, and has sent no reading yet.
    replaced: bool,
    no_contact_since: Option<Moment>,
    unsynchronized_since: Option<Moment>,
    /// Notifications that ended in half an RR-Interval, and were not told of yet.
    padded: u64,
}

impl Tracker {
    /// Goes on where `ledger` says that each sensor was. What lies between is a gap because of `before_us`.
    pub fn new(config: &SessionConfig, ledger: &Ledger, before_us: GapReason) -> Self {
        let resume = |last: Option<Moment>| Track { last_reading: last, last, ..Track::default() };
        Self {
            idle_after_ms: config.idle_after.0.as_millis() as u64,
            gap_after_ms: config.gap_after.0.as_millis() as u64,
            before_us,
            sensors: (ledger.rows.iter())
                .map(|(sensor, row)| (sensor.clone(), resume(row.last.map(Moment::from))))
                .collect(),
        }
    }

    /// What `event` means; appended to `out`: gap records that end now, then the reading.
    pub fn handle(&mut self, event: SourceEvent, out: &mut Vec<Observation>) {
        let track = self.sensors.entry(event.sensor.clone()).or_default();
        let payload = match event.kind {
            SourceEventKind::Down(reason) => {
                track.down = Some(reason);
                return;
            }
            SourceEventKind::Notification(payload) => payload,
        };
        let taken = event.at;
        let observation = |content, starts_session| Observation {
            sensor: event.sensor.clone(),
            taken,
            starts_session,
            content,
        };
        let measurement = match HeartRateMeasurement::parse(&payload) {
            Ok(measurement) => measurement,
            Err(malformed) => {
                debug!(sensor = %event.sensor, %malformed, "malformed notification dropped");
                out.push(observation(Content::Malformed, false));
                return;
            }
        };
        track.padded += u64::from(HeartRateMeasurement::is_padded(&payload));
        let mut gap = |reason, start| {
            let gap = Gap { reason, start, readings_lost: 0 };
            out.push(observation(Content::Body(Body::Gap(gap)), false));
        };
        // `None`: another boot, and a clock that was wrong in one of them.
        let silence_ms = track.last.map(|last| taken.ms_since(&last));
        let is_gap = match silence_ms {
            None => false,
            Some(ms) => ms.is_none_or(|ms| ms >= self.gap_after_ms),
        };
        let down = track.down.take();
        let was_replaced = down == Some(GapReason::SensorReplaced);
        if (is_gap || was_replaced)
            && let Some(last) = track.last
        {
            let unexplained = if track.seen { GapReason::SensorSilent } else { self.before_us };
            let known = down.filter(|_| track.seen || was_replaced);
            gap(known.unwrap_or(unexplained), last);
        }
        track.replaced |= was_replaced;
        // Nobody's heart stands still: optical sensors say so off the skin, many of them without the contact bits.
        let is_reading = measurement.heart_rate > 0;
        match measurement.sensor_contact {
            _ if !is_reading => _ = track.no_contact_since.get_or_insert(taken),
            Some(false) => _ = track.no_contact_since.get_or_insert(taken),
            _ => track.no_contact_since.take().into_iter().for_each(|since| gap(GapReason::NoContact, since)),
        }
        // Also where the clock counts as right on both sides of it: the time stamps between which it was
        // set are not on one time line.
        if let Some(last) = track.last.filter(|last| taken.was_set_since(last)) {
            track.unsynchronized_since.get_or_insert(last);
        }
        match taken.synchronized {
            false => _ = track.unsynchronized_since.get_or_insert(taken),
            true => track
                .unsynchronized_since
                .take()
                .into_iter()
                .for_each(|since| gap(GapReason::ClockUnsynchronized, since)),
        }
        track.last = Some(taken);
        track.seen = true;
        if !is_reading {
            return;
        }
        let before = track.last_reading.replace(taken).and_then(|before| taken.ms_since(&before));
        let starts_session = track.replaced || before.is_none_or(|ms| ms >= self.idle_after_ms);
        track.replaced = false;
        trace!(sensor = %event.sensor, heart_rate = measurement.heart_rate, "reading");
        out.push(observation(Content::Body(Body::Measurement(measurement)), starts_session));
    }

    /// How many notifications of which sensor ended in half an RR-Interval since the last call.
    pub fn take_padded(&mut self) -> impl Iterator<Item = (&SensorId, u64)> {
        let counts =
            self.sensors.iter_mut().map(|(sensor, track)| (sensor, std::mem::take(&mut track.padded)));
        counts.filter(|(_, padded)| *padded > 0)
    }

    /// The gap records of what is still going on when the gateway stops.
    pub fn finish(&mut self, out: &mut Vec<Observation>) {
        for (sensor, track) in &mut self.sensors {
            let (Some(start), Some(taken)) = (track.no_contact_since.take(), track.last) else { continue };
            let gap = Gap { reason: GapReason::NoContact, start, readings_lost: 0 };
            let content = Content::Body(Body::Gap(gap));
            out.push(Observation { sensor: sensor.clone(), taken, starts_session: false, content });
        }
    }
}

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
            Some((known, tracker)) if known.is_same(queue) => Tracker { sensors: tracker.sensors, ..begun },
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
                let appended = self.queue.append(batch).await?;
                reporter.report(&appended);
                for (sensor, session) in appended.sessions_begun {
                    info!(%sensor, session, "session begins");
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
