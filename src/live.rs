//! What is heard just now, for whoever looks on: `hr-gatewayd tail`, the page, the metrics.
//!
//! The ingest tells [`Live`] of what was appended, once that is durable; of a full queue also what it had no room for:
//! it is what was heard. Nobody who looks on holds an append up: whoever is too slow misses some, and is told how many.
//! Here are heart rates that no log ever shows.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::broadcast;

use crate::clock::boottime;
use crate::reading::{Body, Content, GapReason, Moment, Observation, SensorId};

/// So many records may wait for somebody who looks on.
const AHEAD: usize = 1024;
/// Readings that are kept of each sensor, so that a page that is opened has a line to show: ten minutes at 1 Hz.
const RECENT_MAX: usize = 600;

/// One record, as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Heard {
    /// Whose it is.
    pub sensor: SensorId,
    /// When it was taken by the wall clock, right or wrong, milliseconds since 1970.
    pub at_ms: i64,
    /// What it is.
    #[serde(flatten)]
    pub what: What,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// A reading.
    Reading {
        /// Beats per minute.
        heart_rate: u16,
        /// RR-Intervals, milliseconds.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        rr_ms: Vec<f64>,
        /// Skin contact, where the sensor tells.
        #[serde(skip_serializing_if = "Option::is_none")]
        contact: Option<bool>,
    },
    /// A span without readings ended.
    Gap {
        /// Why there were none.
        reason: GapReason,
        /// How long it lasted, where that is known, milliseconds.
        lasted_ms: Option<u64>,
    },
    /// How the sensor is.
    State {
        /// Its battery, percent.
        battery_percent: Option<u8>,
        /// How loudly it was heard last, dBm.
        rssi_dbm: Option<i16>,
    },
}

/// What is known of a sensor just now.
#[derive(Debug, Clone, Default)]
pub struct Latest {
    /// When its last reading was heard, since boot, and its beats per minute.
    pub reading: Option<(Duration, u16)>,
    /// Its battery, percent.
    pub battery_percent: Option<u8>,
    /// How loudly it was heard last, dBm.
    pub rssi_dbm: Option<i16>,
    /// Its last readings, oldest first: milliseconds since 1970, beats per minute. Kept where there is a page.
    pub recent: VecDeque<(i64, u16)>,
}

/// What is heard just now. Clones are the same.
#[derive(Clone)]
pub struct Live(Arc<Inner>);

struct Inner {
    latest: Mutex<BTreeMap<SensorId, Latest>>,
    heard: broadcast::Sender<Heard>,
    keeps_recent: AtomicBool,
}

impl Default for Live {
    fn default() -> Self {
        Self::new()
    }
}

impl Live {
    /// Nothing was heard yet.
    pub fn new() -> Self {
        let heard = broadcast::channel(AHEAD).0;
        Self(Arc::new(Inner { latest: Mutex::default(), heard, keeps_recent: AtomicBool::new(false) }))
    }

    /// From now on the last minutes are kept, for a page to show.
    pub fn keep_recent(&self) {
        self.0.keeps_recent.store(true, Ordering::Relaxed);
    }

    /// All that is heard from now on.
    pub fn listen(&self) -> broadcast::Receiver<Heard> {
        self.0.heard.subscribe()
    }

    /// What is known of each sensor.
    pub fn latest(&self) -> BTreeMap<SensorId, Latest> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SensorId, Latest>> {
        self.0.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What of `observations` is to be told of, once they are durable.
    pub(crate) fn prepare(observations: &[Observation]) -> Vec<Heard> {
        let heard = |observation: &Observation| {
            let Content::Body(body) = &observation.content else { return None };
            let taken = observation.taken;
            let what = What::of(body, &taken)?;
            Some(Heard { sensor: observation.sensor.clone(), at_ms: taken.wall_ms, what })
        };
        observations.iter().filter_map(heard).collect()
    }

    /// Tells of what has become durable.
    pub(crate) fn tell(&self, heard: Vec<Heard>) {
        let keeps_recent = self.0.keeps_recent.load(Ordering::Relaxed);
        let mut latest = self.lock();
        for heard in heard {
            let sensor = latest.entry(heard.sensor.clone()).or_default();
            sensor.note(&heard, keeps_recent);
            // Nobody looks on: it is told to nobody.
            _ = self.0.heard.send(heard);
        }
    }
}

impl Latest {
    fn note(&mut self, heard: &Heard, keeps_recent: bool) {
        match &heard.what {
            What::Reading { heart_rate, .. } => {
                self.reading = Some((boottime(), *heart_rate));
                if keeps_recent {
                    if self.recent.len() == RECENT_MAX {
                        self.recent.pop_front();
                    }
                    self.recent.push_back((heard.at_ms, *heart_rate));
                }
            }
            What::State { battery_percent, rssi_dbm } => {
                self.battery_percent = battery_percent.or(self.battery_percent);
                self.rssi_dbm = rssi_dbm.or(self.rssi_dbm);
            }
            What::Gap { .. } => {}
        }
    }
}

impl What {
    /// `None` for what is of no sensor.
    fn of(body: &Body, taken: &Moment) -> Option<Self> {
        Some(match body {
            Body::Measurement(measurement) => Self::Reading {
                heart_rate: measurement.values.heart_rate,
                rr_ms: measurement.values.rr_intervals.iter().map(|rr| rr.as_ms()).collect(),
                contact: measurement.values.sensor_contact,
            },
            Body::Gap(gap) => Self::Gap { reason: gap.reason, lasted_ms: taken.ms_since(&gap.start) },
            Body::State(state) => {
                Self::State { battery_percent: state.battery_percent, rssi_dbm: state.rssi_dbm }
            }
            Body::Gateway(_) => return None,
        })
    }
}
