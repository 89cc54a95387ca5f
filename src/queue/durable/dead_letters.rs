//! Dead letters: reading them, and putting them back.

use super::layout::{dead_letter_key, sequence_of};
use super::rows::TouchedRows;
use super::{DurableQueue, State};
use crate::queue::ledger::Movement;
use crate::queue::segment::{SegmentCodec, SegmentError};
use crate::queue::sequence_set::SequenceSet;
use crate::queue::sled::Writes;
use crate::queue::{DeadLetter, QueueError, ReadingQueue};
use crate::reading::Item;

impl DurableQueue {
    pub(super) fn decode_dead_letter(&self, key: &[u8], value: &[u8]) -> Result<DeadLetter, QueueError> {
        decode_dead_letter(&self.codec(), key, value)
            .map_err(|source| QueueError::Segment { sequence: sequence_of(key), source })
    }

    pub(super) fn move_dead_letters(
        &self,
        sequences: &SequenceSet,
        movement: Movement,
    ) -> Result<u64, QueueError> {
        let mut moved = 0;
        for range in sequences.ranges() {
            let mut from = *range.start();
            // One atomic batch each: a large re-queue may be cut short anywhere and still balances.
            while let Some(letter) = self.dead_letters(from, 1)?.pop()
                && range.contains(&letter.item.sequence)
            {
                from = letter.item.sequence + 1;
                self.write(|queue, state, writes| queue.move_one(state, writes, letter.item, movement))?;
                self.after_removal()?;
                moved += 1;
            }
        }
        self.sync_store()?;
        Ok(moved)
    }

    fn move_one(
        &self,
        state: &mut State,
        writes: &mut Writes,
        item: Item,
        movement: Movement,
    ) -> Result<(), QueueError> {
        let mut touched = TouchedRows::default();
        let row = touched.row(state, &item.sensor);
        row.account(&item.body).apply(movement, 1);
        if movement == Movement::DropDeadLetter {
            row.note_eviction(item.taken);
        }
        touched.write(state, writes);
        writes.remove(dead_letter_key(item.sequence));
        state.dead.remove_range(item.sequence..=item.sequence);
        if movement == Movement::Requeue {
            state.depth += 1;
            self.put_back(state, writes, item)?;
        }
        Ok(())
    }

    /// Puts one item back where its sequence belongs: into the segment that spans it, if one does.
    pub(super) fn put_back(
        &self,
        state: &mut State,
        writes: &mut Writes,
        item: Item,
    ) -> Result<(), QueueError> {
        let sequence = item.sequence;
        if let Some(walk) = &mut state.walk {
            walk.put_back(&item);
        }
        let mut in_tail = state.tail.keys().next().is_some_and(|&first| first < sequence);
        let mut items = vec![item];
        if let Some((key, around)) = self.segment_until(sequence)?
            && around.last().is_some_and(|last| last.sequence > sequence)
        {
            in_tail = self.drop_segment(state, writes, key);
            items.extend(around);
            items.sort_by_key(|item| item.sequence);
        }
        self.put_segment(state, writes, &items, in_tail);
        Ok(())
    }
}

/// The dead letter in `value`, which stood under `key`.
pub(in crate::queue) fn decode_dead_letter(
    codec: &SegmentCodec,
    key: &[u8],
    value: &[u8],
) -> Result<DeadLetter, SegmentError> {
    let (reason, segment): (String, Vec<u8>) =
        postcard::from_bytes(value).map_err(|_| SegmentError::Damaged)?;
    let item = codec.decode(key, &segment)?.into_iter().next().ok_or(SegmentError::Damaged)?;
    Ok(DeadLetter { item, reason })
}
