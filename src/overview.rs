//! How a running gateway is, in one look: what `hr-gatewayd status`, the page and the metrics show.
//!
//! [`Looker`] holds what there is to look at and changes nothing; [`Overview`] is what it saw, without a heart rate.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use crate::ble::{SensorViews, SourceView};
use crate::blocking;
use crate::clock::{SystemClock, boottime};
use crate::config::DrainOrder;
use crate::drainer::DrainerView;
use crate::drainer::kinesis::certificate;
use crate::drainer::settle::{CallError, ErrorClass};
use crate::live::Live;
use crate::queue::QueueError;
use crate::queue::handle::Handle;
use crate::queue::ledger::{Account, Ledger, Totals};
use crate::queue::sequence_set::SequenceSet;
use crate::reading::{GatewayId, Moment, NO_SENSOR, SensorId};

/// How a gateway is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overview {
    /// Its program's version.
    pub version: String,
    /// Its name.
    pub gateway: GatewayId,
    /// How long it has been running, seconds.
    pub running_s: u64,
    /// When it started by the clock as it is now, seconds since 1970.
    pub started_at_s: u64,
    /// What that clock shows, milliseconds.
    pub now_ms: i64,
    /// What somebody should look at, a sentence each; none where all is well.
    pub attention: Vec<String>,
    /// Its sensors: those at work, and those that it ever had a reading of.
    pub sensors: Vec<SensorOverview>,
    /// Where it drains to.
    pub sink: SinkOverview,
    /// Its queue.
    pub queue: QueueOverview,
    /// Whether its clock is known to be right.
    pub clock_synchronized: bool,
    /// Bytes free where the queue is.
    pub disk_free_bytes: Option<u64>,
}

/// How a sensor is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SensorOverview {
    /// Its name.
    pub sensor: SensorId,
    /// Whether it is at work; it was once, where not.
    pub wanted: bool,
    /// Whether readings flow.
    pub streams: bool,
    /// Why not; empty where they do.
    pub why: String,
    /// How old its last reading is, seconds, where that is known.
    pub last_reading_s: Option<u64>,
    /// Its battery, percent.
    pub battery_percent: Option<u8>,
    /// How loudly it was heard last, dBm.
    pub rssi_dbm: Option<i16>,
    /// The adapter that it was reached by last.
    pub adapter: Option<String>,
    /// Its readings.
    pub readings: Account,
    /// Its notifications that could not be understood.
    pub malformed: u64,
}

/// How the sink is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SinkOverview {
    /// `kinesis`, `directory`, or `none`.
    pub kind: String,
    /// Whether it accepts, as far as is known.
    pub state: SinkState,
    /// The code of its failure; empty where there is none.
    pub code: String,
    /// How long it has been so, seconds; `None` since the start.
    pub since_s: Option<u64>,
    /// How long ago it accepted something, seconds; `None` for not yet.
    pub last_accepted_s: Option<u64>,
    /// How long the certificate is valid that the gateway identifies itself by, seconds, where there is one.
    pub certificate_ends_in_s: Option<i64>,
}

/// Whether a sink accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkState {
    /// There is none.
    Missing,
    /// It was not asked yet.
    Unknown,
    /// It accepts.
    Accepts,
    /// It takes no more for now.
    Throttles,
    /// It cannot be reached; that may pass by itself.
    Unreachable,
    /// It refuses until somebody acts.
    Refuses,
}

/// How the queue is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QueueOverview {
    /// Items in it.
    pub depth: u64,
    /// How old the oldest of them is, seconds, where that is known.
    pub oldest_s: Option<u64>,
    /// Whether readings are being lost because it is full.
    pub is_full: bool,
    /// The ledger.
    pub totals: Totals,
    /// Whether it balances.
    pub balances: bool,
}

/// What there is to look at.
#[derive(Clone)]
pub struct Looker {
    /// The queue.
    pub queue: Handle,
    /// Its folder.
    pub queue_path: PathBuf,
    /// What is heard just now.
    pub live: Live,
    /// The clock.
    pub clock: SystemClock,
    /// How it stands with the sensors.
    pub states: watch::Receiver<SensorViews>,
    /// What the source shows of itself, if it does.
    pub source_view: Option<Arc<SourceView>>,
    /// What kind of sink there is.
    pub sink: Option<&'static str>,
    /// What the drainer shows of itself.
    pub drainer: Arc<DrainerView>,
    /// The class of failure that the sink is in.
    pub failing: watch::Receiver<Option<CallError>>,
    /// When the process began, since boot.
    pub started: Duration,
}

impl Looker {
    /// Looks.
    pub async fn look(&self) -> Result<Overview, QueueError> {
        let ledger = self.queue.ledger().await;
        let oldest = self.queue.peek(DrainOrder::OldestFirst, SequenceSet::default(), 1).await?;
        let now = self.clock.now();
        let path = self.queue_path.clone();
        let disk_free_bytes = blocking::run(move || free_bytes(&path)).await;
        let mut overview = Overview {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            gateway: self.queue.envelope().await.origins.newest().gateway.clone(),
            running_s: boottime().saturating_sub(self.started).as_secs(),
            started_at_s: u64::try_from(now.offset_ms() + self.started.as_millis() as i64).unwrap_or(0)
                / 1_000,
            now_ms: now.wall_ms,
            attention: Vec::new(),
            sensors: self.sensors(&ledger, &now),
            sink: self.sink(),
            queue: QueueOverview {
                depth: ledger.depth(),
                oldest_s: oldest.first().and_then(|item| now.ms_since(&item.taken)).map(|ms| ms / 1_000),
                is_full: ledger.rows.values().any(|row| row.evicting.is_some()),
                totals: ledger.totals(),
                balances: ledger.balances(),
            },
            clock_synchronized: self.clock.is_synchronized(),
            disk_free_bytes,
        };
        let unanswered = self.source_view.as_ref().and_then(|view| *view.unanswered.borrow());
        overview.attention = overview.what_needs_attention(unanswered);
        Ok(overview)
    }

    fn sensors(&self, ledger: &Ledger, now: &Moment) -> Vec<SensorOverview> {
        let (states, latest) = (self.states.borrow().clone(), self.live.latest());
        let mut ids: Vec<&SensorId> = states.keys().chain(ledger.rows.keys()).collect();
        ids.retain(|id| id.as_str() != NO_SENSOR);
        ids.sort();
        ids.dedup();
        let overview = |id: &SensorId| {
            let row = ledger.rows.get(id).cloned().unwrap_or_default();
            let (view, heard) = (states.get(id), latest.get(id));
            let heard_ago =
                heard.and_then(|heard| Some(boottime().saturating_sub(heard.reading?.0).as_secs()));
            // From before this process.
            let taken_ago = || Some(now.ms_since(&row.last?.into())? / 1_000);
            SensorOverview {
                sensor: id.clone(),
                wanted: view.is_some(),
                streams: view.is_some_and(|view| view.streams),
                why: view.filter(|view| !view.streams).map_or_else(String::new, |view| view.why.to_owned()),
                last_reading_s: heard_ago.or_else(taken_ago),
                battery_percent: heard.and_then(|heard| heard.battery_percent),
                rssi_dbm: heard.and_then(|heard| heard.rssi_dbm),
                adapter: view.and_then(|view| view.adapter.clone()),
                readings: row.readings,
                malformed: row.malformed,
            }
        };
        ids.into_iter().map(overview).collect()
    }

    fn sink(&self) -> SinkOverview {
        let ago = |ms: u64| (ms > 0).then(|| boottime().saturating_sub(Duration::from_millis(ms)).as_secs());
        let last_accepted_s = ago(self.drainer.last_accepted_ms.load(Ordering::Relaxed));
        let failing = self.failing.borrow();
        let state = match (self.sink, &*failing) {
            (None, _) => SinkState::Missing,
            (_, Some(failure)) if failure.needs_a_person() => SinkState::Refuses,
            (_, Some(failure)) if failure.class == ErrorClass::Throttled => SinkState::Throttles,
            (_, Some(_)) => SinkState::Unreachable,
            (_, None) if last_accepted_s.is_none() => SinkState::Unknown,
            (_, None) => SinkState::Accepts,
        };
        SinkOverview {
            kind: self.sink.unwrap_or("none").to_owned(),
            state,
            code: failing.as_ref().map_or_else(String::new, |failure| failure.code.clone()),
            since_s: ago(self.drainer.turned_ms.load(Ordering::Relaxed)),
            last_accepted_s,
            certificate_ends_in_s: match self.drainer.identity_ends_at_s.load(Ordering::Relaxed) {
                0 => None,
                ends_at_s => Some(ends_at_s - self.clock.now().wall_ms / 1_000),
            },
        }
    }
}

fn free_bytes(path: &std::path::Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

impl Overview {
    fn what_needs_attention(&self, unanswered: Option<&str>) -> Vec<String> {
        let mut attention: Vec<String> = Vec::new();
        attention.extend(unanswered.map(|who| format!("{who} does not answer")));
        let away = self.sensors.iter().filter(|sensor| sensor.wanted && !sensor.streams);
        attention.extend(away.map(|sensor| format!("{}: {}", sensor.sensor, sensor.why)));
        if !self.sensors.iter().any(|sensor| sensor.wanted) {
            attention.push("no sensor is configured or discovered".into());
        }
        if let Some(words) = self.sink.state.needs_attention() {
            let code =
                if self.sink.code.is_empty() { String::new() } else { format!(" ({})", self.sink.code) };
            attention.push(format!("{words}{code}"));
        }
        if let Some(left_s) = self.sink.certificate_ends_in_s
            && certificate::step(left_s).is_some()
        {
            let left = certificate::left(left_s);
            attention.push(format!("the certificate that the gateway identifies itself by {left}"));
        }
        if self.queue.is_full {
            attention.push("the queue is full: readings are being lost".into());
        }
        if self.queue.totals.readings.dead_lettered > 0 {
            attention.push("the sink refused readings for good: `hr-gatewayd queue dead-letters`".into());
        }
        if !self.queue.balances {
            attention.push("the ledger does not balance: please report it".into());
        }
        if !self.clock_synchronized {
            attention.push("the clock is not synchronized: readings carry estimated time".into());
        }
        attention
    }
}

impl SinkState {
    fn needs_attention(self) -> Option<&'static str> {
        match self {
            Self::Unknown | Self::Accepts => None,
            Self::Missing => Some("there is nothing to drain to: write [kinesis] or [directory]"),
            Self::Throttles => Some("the sink takes no more for now"),
            Self::Unreachable => Some("the sink cannot be reached"),
            Self::Refuses => Some("the sink refuses until somebody acts"),
        }
    }
}
