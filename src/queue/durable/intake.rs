//! Giving observations their sequences, and counting them.

use super::State;
use super::rows::TouchedRows;
use crate::queue::Appended;
use crate::queue::capacity::Capacity;
use crate::reading::{Content, Item, Observation, SensorId};

/// One append on its way.
#[derive(Default)]
pub(super) struct Intake {
    /// How many items there is room for; the rest is counted as received and evicted.
    pub(super) room: u64,
    /// Items that gave way.
    pub(super) evicted: u64,
    /// Items to be stored.
    pub(super) new: Vec<Item>,
    sessions_begun: Vec<(SensorId, u64)>,
}

impl Intake {
    pub(super) fn with_room(room: u64) -> Self {
        Self { room, ..Self::default() }
    }

    /// Takes `observations` in: into `new` while there is room, and into the rows in any case.
    pub(super) fn take_in(&mut self, state: &mut State, observations: &[Observation]) -> TouchedRows {
        let mut touched = TouchedRows::default();
        for observation in observations {
            let Content::Body(body) = &observation.content else {
                touched.row(state, &observation.sensor).malformed += 1;
                continue;
            };
            let sequence = state.meta.take_sequence();
            let row = touched.row(state, &observation.sensor);
            if observation.starts_session || row.session == 0 {
                row.session = sequence;
                self.sessions_begun.push((observation.sensor.clone(), sequence));
            }
            if body.is_reading() {
                row.last = Some(observation.taken.into());
            }
            row.account(body).received += 1;
            if self.room == 0 {
                row.account(body).evicted += 1;
                row.note_eviction(observation.taken);
                self.evicted += 1;
                continue;
            }
            self.room -= 1;
            row.account(body).queued += 1;
            self.new.push(Item {
                sequence,
                sensor: observation.sensor.clone(),
                session: row.session,
                taken: observation.taken,
                body: body.clone(),
            });
            state.depth += 1;
        }
        touched
    }

    /// What it came to.
    pub(super) fn appended(&mut self, state: &State, capacity: &Capacity, free: u64) -> Appended {
        Appended {
            queued: self.new.len() as u64,
            evicted: self.evicted,
            is_full: !capacity.has_recovered(state.depth, free),
            disk_low: free < capacity.disk_headroom,
            sessions_begun: std::mem::take(&mut self.sessions_begun),
        }
    }
}
