//! Removals of a few readings, which wait for the next append and are written with it: at one reading a second that is
//! half of all writing. A crash in between has them sent again, as it would where a removal was not synced.
//! They wait for some seconds at most: see [`ReadingQueue::write_deferred`](crate::queue::ReadingQueue::write_deferred).

use super::{DurableQueue, State};
use crate::queue::QueueError;
use crate::queue::sequence_set::SequenceSet;
use crate::queue::sled::Writes;

/// More items are removed at once.
const ITEMS_MAX: u64 = 50;

/// What is counted, and not written yet.
#[derive(Default)]
pub(super) struct Deferred {
    pub(super) writes: Writes,
    /// What leaves with it: still in the store until then.
    pub(super) sequences: SequenceSet,
}

impl DurableQueue {
    /// Counts `accepted` as delivered, to be written later, if that can be; whether it could.
    pub(super) fn defer(&self, state: &mut State, accepted: &SequenceSet) -> Result<bool, QueueError> {
        let all = state.deferred.sequences.count() + accepted.count();
        let is_evicting = state.ledger.rows.values().any(|row| row.evicting.is_some());
        if all > ITEMS_MAX || is_evicting || state.is_walked() || !state.peeked.cover(accepted) {
            return Ok(false);
        }
        let mut writes = std::mem::take(&mut state.deferred.writes);
        self.deliver(state, &mut writes, accepted)?;
        state.deferred.writes = writes;
        state.deferred.sequences.insert_all(accepted);
        Ok(true)
    }

    /// Writes what waits, before anything else looks at the store.
    pub(super) fn apply_deferred(&self, state: &mut State) -> Result<(), QueueError> {
        if state.deferred.sequences.is_empty() {
            return Ok(());
        }
        if state.failed {
            return Err(QueueError::Failed);
        }
        let applied = self.store.apply(std::mem::take(&mut state.deferred).writes);
        state.failed |= applied.is_err();
        applied
    }
}
