//! Writing to the store, and what follows from it: what is durable, and what the witness knows.

use std::sync::MutexGuard;

use super::layout::META_KEY;
use super::rows::TouchedRows;
use super::{DurableQueue, State};
use crate::queue::QueueError;
use crate::queue::sled::{Writes, storage};
use crate::queue::witness::Cover;

/// So many removals may wait for the next sync. What a power cut tears is then the log's last part, and not
/// taken for damage of what lies before: 2,500 readings taken out at once write some 30 KB.
const UNSYNCED_REMOVALS_MAX: u32 = 8;

/// So much free space is enough for the ledger's rows, when the queue is closed.
const CLOSING_BYTES: u64 = 1 << 20;

impl DurableQueue {
    pub(super) fn lock_to_write(&self) -> Result<MutexGuard<'_, State>, QueueError> {
        let state = self.lock();
        if state.failed {
            return Err(QueueError::Failed);
        }
        if state.witness.is_none() {
            return Err(QueueError::ReadOnly);
        }
        Ok(state)
    }

    /// Runs `change` under the lock and applies what it wrote; after an error, refuses all later ones.
    pub(super) fn write<T>(
        &self,
        change: impl FnOnce(&Self, &mut State, &mut Writes) -> Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        let mut state = self.lock_to_write()?;
        self.apply_deferred(&mut state)?;
        self.write_after(&mut state, Writes::default(), change)
    }

    /// Applies `writes`, and what `change` adds to them.
    pub(super) fn write_after<T>(
        &self,
        state: &mut State,
        mut writes: Writes,
        change: impl FnOnce(&Self, &mut State, &mut Writes) -> Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        // Also after a panic in between.
        state.failed = true;
        let result = change(self, state, &mut writes)?;
        self.store.apply(writes)?;
        state.failed = false;
        Ok(result)
    }

    pub(super) fn sync_store(&self) -> Result<(), QueueError> {
        let applied_before = {
            let state = self.lock();
            if state.failed {
                return Err(QueueError::Failed);
            }
            state.stored_next
        };
        let synced = self.store.sync();
        let mut state = self.lock();
        let noted = synced.and_then(|()| {
            state.durable_before = state.durable_before.max(applied_before);
            state.removals = 0;
            self.note(&mut state)
        });
        state.failed |= noted.is_err();
        noted
    }

    /// After what need not survive a power cut; but many at once must not be torn: see
    /// [`UNSYNCED_REMOVALS_MAX`].
    pub(super) fn after_removal(&self) -> Result<(), QueueError> {
        let mut state = self.lock();
        state.removals += 1;
        if state.removals < UNSYNCED_REMOVALS_MAX {
            return self.note(&mut state);
        }
        drop(state);
        self.sync_store()
    }

    /// Tells the witness how far the store has come.
    pub(super) fn note(&self, state: &mut State) -> Result<(), QueueError> {
        let first_queued = self.first_queued()?.unwrap_or(state.durable_before);
        let (durable_before, settled_before) = (state.durable_before, first_queued.min(state.durable_before));
        match &mut state.witness {
            Some(witness) => {
                let dead = Cover::of(&state.dead);
                witness.note(durable_before, settled_before, dead).map_err(storage("write its witness"))
            }
            None => Ok(()),
        }
    }

    pub(super) fn write_meta(&self, state: &mut State, writes: &mut Writes) {
        writes.insert(META_KEY, state.meta.encode());
        state.stored_next = state.meta.next_sequence;
    }

    /// Writes what was deferred, and what was counted while the disk was too full, if it takes this little: what is
    /// not written is sent again.
    pub(super) fn write_what_waits(&self) -> Result<(), QueueError> {
        let waits = {
            let state = self.lock();
            !state.unwritten.is_empty() || !state.deferred.sequences.is_empty()
        };
        if !waits || self.store.free_bytes()? < CLOSING_BYTES {
            return Ok(());
        }
        self.write(|queue, state, writes| {
            TouchedRows::of(std::mem::take(&mut state.unwritten)).write(state, writes);
            queue.write_meta(state, writes);
            Ok(())
        })
    }
}
