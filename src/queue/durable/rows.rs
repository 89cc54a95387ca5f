//! Ledger rows: loading them all, and writing those that one call changed.

use std::collections::BTreeSet;

use super::State;
use crate::queue::QueueError;
use crate::queue::ledger::{Ledger, Row};
use crate::queue::sled::{Store, Writes, storage};
use crate::reading::SensorId;

/// Reads every row of the store.
pub(super) fn load_ledger(store: &Store) -> Result<Ledger, QueueError> {
    let mut ledger = Ledger::default();
    for entry in store.range(&b"l"[..]..&b"m"[..]) {
        let (key, value) = entry?;
        let row = decode_row(&key, &value);
        ledger.rows.extend([row.ok_or_else(|| storage("read its ledger")("a row is damaged"))?]);
    }
    Ok(ledger)
}

pub(in crate::queue) fn decode_row(key: &[u8], value: &[u8]) -> Option<(SensorId, Row)> {
    let sensor = str::from_utf8(key.get(1..)?).ok()?.parse().ok()?;
    Some((sensor, postcard::from_bytes(value).ok()?))
}

/// Rows changed by one call, written once each.
#[derive(Default)]
pub(super) struct TouchedRows(BTreeSet<SensorId>);

impl TouchedRows {
    /// The sensor's row, to be changed.
    pub(super) fn row<'a>(&mut self, state: &'a mut State, sensor: &SensorId) -> &'a mut Row {
        if !self.0.contains(sensor) {
            self.0.insert(sensor.clone());
        }
        state.ledger.rows.entry(sensor.clone()).or_default()
    }

    /// These rows are to be written.
    pub(super) fn of(sensors: BTreeSet<SensorId>) -> Self {
        Self(sensors)
    }

    /// More rows that are to be written.
    pub(super) fn add(&mut self, sensors: BTreeSet<SensorId>) {
        self.0.extend(sensors);
    }

    /// Whose rows were changed.
    pub(super) fn into_sensors(self) -> BTreeSet<SensorId> {
        self.0
    }

    /// Writes what was changed.
    pub(super) fn write(self, state: &State, writes: &mut Writes) {
        for sensor in self.0 {
            let row = postcard::to_stdvec(&state.ledger.rows[&sensor]).expect("memory takes all of it");
            writes.insert([b"l", sensor.as_str().as_bytes()].concat(), row);
        }
    }
}
