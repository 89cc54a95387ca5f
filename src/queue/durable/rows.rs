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
        let sensor = str::from_utf8(&key[1..]).ok().and_then(|name| name.parse().ok());
        let row = postcard::from_bytes(&value).ok();
        match (sensor, row) {
            (Some(sensor), Some(row)) => ledger.rows.insert(sensor, row),
            _ => return Err(storage("read its ledger")("a row is damaged")),
        };
    }
    Ok(ledger)
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
