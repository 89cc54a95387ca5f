//! Taking back what another store kept: the damaged one that this one replaced.
//!
//! What must hold: an item comes back under the id it had, and once. So it is taken back only while its
//! sequence is known to be missing here and belongs to the same origin there; in one atomic batch it is then
//! stored, counted as received, and no longer missing.

use super::layout::{dead_letter_key, encoded};
use super::rows::TouchedRows;
use super::{DurableQueue, SEAL_ITEMS, State};
use crate::queue::capacity::Admission;
use crate::queue::sled::Writes;
use crate::queue::{Absorbable, DeadLetter, QueueError};
use crate::reading::{Item, Origins};

impl DurableQueue {
    pub(super) fn take_back(&self, other: &Absorbable) -> Result<u64, QueueError> {
        let mut taken = 0;
        let mut items = other.items.as_slice();
        while !items.is_empty() {
            let (chunk, rest) = items.split_at(items.len().min(SEAL_ITEMS as usize));
            items = rest;
            self.has_room(chunk.len())?;
            taken += self
                .write(|queue, state, writes| queue.take_back_items(state, writes, chunk, &other.origins))?;
            self.after_removal()?;
        }
        for letter in &other.letters {
            self.has_room(0)?;
            taken += self.write(|queue, state, writes| {
                Ok(queue.take_back_letter(state, writes, letter, &other.origins))
            })?;
            self.after_removal()?;
        }
        self.sync_store()?;
        Ok(taken)
    }

    /// Nothing gives way for what is taken back: it is still there, and would be evicted first.
    fn has_room(&self, items: usize) -> Result<(), QueueError> {
        let (depth, free) = (self.lock().depth, self.store.free_bytes()?);
        match self.capacity().admit(depth, items as u64, free) {
            Admission::Accept => Ok(()),
            Admission::AcceptFirst(_) | Admission::Evict(_) | Admission::Refuse => Err(QueueError::NoRoom),
        }
    }

    /// At most a segment full of them: one atomic batch.
    fn take_back_items(
        &self,
        state: &mut State,
        writes: &mut Writes,
        items: &[Item],
        origins: &Origins,
    ) -> Result<u64, QueueError> {
        let wanted = |item: &&Item| may_come_back(item.sequence, state, origins);
        let wanted: Vec<Item> = items.iter().filter(wanted).cloned().collect();
        let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else { return Ok(0) };
        // Segments never overlap: together with the one that reaches into them, or begins among them.
        let mut together = wanted.clone();
        let (from, to) = (first.sequence, last.sequence);
        let before = self
            .segment_until(from)?
            .filter(|(_, items)| items.last().is_some_and(|last| last.sequence > from));
        let mut overlapping: Vec<(u64, Vec<Item>)> = before.into_iter().collect();
        let mut next = from + 1;
        while let Some((key, items)) = self.segment_from(next)?
            && key <= to
        {
            next = items.last().map_or(key, |last| last.sequence) + 1;
            overlapping.push((key, items));
        }
        overlapping.dedup_by_key(|(key, _)| *key);
        for (key, items) in overlapping {
            self.drop_segment(state, writes, key);
            together.extend(items);
        }
        together.sort_by_key(|item| item.sequence);
        together.chunks(SEAL_ITEMS as usize).for_each(|chunk| self.put_segment(state, writes, chunk, false));
        // No segment is merged across these.
        state.tail = state.tail.split_off(&to);

        let mut touched = TouchedRows::default();
        for item in &wanted {
            state.missing.remove(item.sequence, writes);
            let account = touched.row(state, &item.sensor).account(&item.body);
            account.received += 1;
            account.queued += 1;
            state.depth += 1;
            if let Some(walk) = &mut state.walk {
                walk.put_back(item);
            }
        }
        touched.write(state, writes);
        Ok(wanted.len() as u64)
    }

    fn take_back_letter(
        &self,
        state: &mut State,
        writes: &mut Writes,
        letter: &DeadLetter,
        origins: &Origins,
    ) -> u64 {
        let item = &letter.item;
        if !may_come_back(item.sequence, state, origins) {
            return 0;
        }
        state.missing.remove(item.sequence, writes);
        state.dead.insert(item.sequence);
        let mut touched = TouchedRows::default();
        let account = touched.row(state, &item.sensor).account(&item.body);
        account.received += 1;
        account.dead_lettered += 1;
        let key = dead_letter_key(item.sequence);
        let segment = self.codec().encode(&key, std::slice::from_ref(item));
        writes.insert(key, encoded(&(&letter.reason, segment)));
        touched.write(state, writes);
        1
    }
}

fn may_come_back(sequence: u64, state: &State, there: &Origins) -> bool {
    state.missing.0.contains(sequence) && there.of(sequence).epoch == state.origins.of(sequence).epoch
}
