//! Counterparts and helpers that several test binaries share.
#![allow(dead_code, missing_docs, reason = "each binary uses a part; the names are the documentation")]

pub mod daemon;
pub mod draining;
pub mod fake_kinesis;
pub mod middlebox;
pub mod mock_bus;
pub mod process;
pub mod systemd;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hr_gateway::heart_rate::{HeartRateMeasurement, RrInterval};
use hr_gateway::reading::{Body, BootId, Content, Epoch, Moment, Observation, Origin, Origins, SensorId};
use hr_gateway::wire::Envelope;

/// Waits for a state, never for an edge: asks until `look` is satisfied, and says what was waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A file that the tests need from the tree.
pub fn in_tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A real recording where the shared ones are at hand, otherwise a small made-up one. Heart rates only.
pub fn recorded_heart_rates(name: &str, most: usize) -> Vec<u16> {
    let path = in_tree("../shared/data").join(name);
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let rates = text.lines().skip(1).filter_map(|line| line.split(',').nth(1)?.parse().ok());
            rates.take(most).collect()
        }
        Err(_) => (0..most.min(1000) as u16).map(|n| 60 + n % 120).collect(),
    }
}

/// RR-Intervals of a real recording, or made-up ones.
pub fn recorded_rr_intervals() -> Vec<RrInterval> {
    let path = in_tree("../shared/data/garmin-rr-intervals.csv");
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let cells = text.lines().skip(1).filter_map(|line| line.split(',').nth(1)?.parse().ok());
            cells.filter_map(RrInterval::from_ms).collect()
        }
        Err(_) => (0..200).map(|n| RrInterval(700 + n * 3)).collect(),
    }
}

pub fn sensor(name: &str) -> SensorId {
    name.parse().expect("a test's names are names")
}

/// Of a queue that was opened once.
pub fn envelope(gateway: &str, epoch: Epoch) -> Envelope {
    let origin = Origin { first_sequence: 1, epoch, gateway: gateway.parse().unwrap() };
    Envelope { origins: Origins::new(vec![origin]).unwrap(), anchors: Vec::new() }
}

/// `second` seconds into a boot whose clock is right.
pub fn moment(second: u64) -> Moment {
    Moment {
        boot: BootId(1),
        boottime_ms: 1_000_000 + second * 1000,
        wall_ms: 1_752_599_433_123 + second as i64 * 1000,
        synchronized: true,
    }
}

pub fn measurement(heart_rate: u16) -> HeartRateMeasurement {
    HeartRateMeasurement {
        heart_rate,
        sensor_contact: None,
        energy_expended_kj: None,
        rr_intervals: Vec::new(),
    }
}

/// A reading of `name` at `second`.
pub fn reading(name: &str, second: u64) -> Observation {
    Observation {
        sensor: sensor(name),
        taken: moment(second),
        starts_session: false,
        content: Content::Body(Body::Measurement(measurement(60 + (second % 100) as u16).into())),
    }
}
