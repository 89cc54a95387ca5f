//! Segments changed: items taken out, small ones merged, evictions made and told of.

use super::layout::segment_key;
use super::peeked::Count;
use super::rows::TouchedRows;
use super::{DurableQueue, SEAL_ITEMS, State};
use crate::queue::QueueError;
use crate::queue::ledger::Movement;
use crate::queue::sequence_set::SequenceSet;
use crate::queue::sled::Writes;
use crate::reading::{Body, Gap, GapReason, Item, SensorId};

impl DurableQueue {
    /// Takes the items of `accepted`, as far as they are queued, out of their segments and counts them as delivered.
    pub(super) fn deliver(
        &self,
        state: &mut State,
        writes: &mut Writes,
        accepted: &SequenceSet,
    ) -> Result<(), QueueError> {
        let mut rest = SequenceSet::default();
        let mut touched = TouchedRows::default();
        let mut next = accepted.first_at_or_after(0);
        while let Some(first) = next {
            // An audit counts what leaves item by item.
            let covered = state.peeked.is_covered(first, accepted).filter(|_| !state.is_walked());
            let last = match covered {
                Some(last) => {
                    let summary = state.peeked.take(first);
                    self.drop_segment(state, writes, first);
                    for Count { sensor, is_reading, items } in summary.into_iter().flat_map(|of| of.counts) {
                        let row = touched.row(state, &sensor);
                        row.account_of(is_reading).apply(Movement::Deliver, items);
                        state.depth -= items;
                    }
                    last
                }
                None => {
                    rest.insert(first);
                    first
                }
            };
            next = last.checked_add(1).and_then(|after| accepted.first_at_or_after(after));
        }
        touched.write(state, writes);
        self.take_out(state, writes, &rest, Movement::Deliver).map(drop)
    }

    /// Removes the segment at `first`; whether it was in the tail.
    pub(super) fn drop_segment(&self, state: &mut State, writes: &mut Writes, first: u64) -> bool {
        writes.remove(segment_key(first));
        state.peeked.forget(first);
        state.tail.remove(&first).is_some()
    }

    /// Takes the items of `sequences` that are queued out of their segments and moves their counts.
    pub(super) fn take_out(
        &self,
        state: &mut State,
        writes: &mut Writes,
        sequences: &SequenceSet,
        movement: Movement,
    ) -> Result<Vec<Item>, QueueError> {
        let mut taken = Vec::new();
        let mut touched = TouchedRows::default();
        let mut next = sequences.first_at_or_after(0);
        while let Some(sequence) = next {
            let Some((key, items)) = self.segment_from(sequence)? else { break };
            let end = items.last().map_or(sequence, |last| last.sequence.max(sequence));
            let (out, kept): (Vec<_>, Vec<_>) =
                items.into_iter().partition(|item| sequences.contains(item.sequence));
            if !out.is_empty() {
                let in_tail = self.drop_segment(state, writes, key);
                self.put_segment(state, writes, &kept, in_tail);
            }
            for item in &out {
                let row = touched.row(state, &item.sensor);
                row.account(&item.body).apply(movement, 1);
                if movement == Movement::Evict {
                    row.note_eviction(item.taken);
                }
                if let Some(walk) = &mut state.walk {
                    walk.taken_out(item);
                }
            }
            state.depth -= out.len() as u64;
            taken.extend(out);
            next = end.checked_add(1).and_then(|after| sequences.first_at_or_after(after));
        }
        touched.write(state, writes);
        Ok(taken)
    }

    /// Writes `items` as one segment; if it is small and `in_tail`, keeps it in mind for sealing. In the
    /// tail is only what no larger segment follows: merging across one would make segments overlap.
    pub(super) fn put_segment(&self, state: &mut State, writes: &mut Writes, items: &[Item], in_tail: bool) {
        let Some(first) = items.first().map(|item| item.sequence) else { return };
        let key = segment_key(first);
        writes.insert(key, self.codec().encode(&key, items));
        state.peeked.forget(first);
        match (items.len() as u32) < SEAL_ITEMS / 2 {
            _ if !in_tail => {}
            true => _ = state.tail.insert(first, items.len() as u32),
            false => state.tail = state.tail.split_off(&first),
        }
    }

    /// Merges the small segments at the end with `new` if they are enough for a sealed one.
    pub(super) fn seal(
        &self,
        state: &mut State,
        writes: &mut Writes,
        new: Vec<Item>,
    ) -> Result<(), QueueError> {
        let small: u32 = state.tail.values().sum();
        if small + (new.len() as u32) < SEAL_ITEMS {
            self.put_segment(state, writes, &new, true);
            return Ok(());
        }
        let mut items = Vec::new();
        for (first, _) in std::mem::take(&mut state.tail) {
            let key = segment_key(first);
            if let Some(value) = self.store.get(key)? {
                items.extend(self.decode(&key, &value)?);
                self.drop_segment(state, writes, first);
            }
        }
        items.extend(new);
        items.chunks(SEAL_ITEMS as usize).for_each(|chunk| self.put_segment(state, writes, chunk, true));
        Ok(())
    }

    /// Once a full queue has room again, lets a gap record tell what was lost.
    pub(super) fn report_evictions(&self, state: &mut State, writes: &mut Writes, free: u64) -> Vec<Item> {
        if !self.capacity().has_recovered(state.depth, free) {
            return Vec::new();
        }
        let mut touched = TouchedRows::default();
        let mut gaps = Vec::new();
        let sensors: Vec<SensorId> = (state.ledger.rows.iter())
            .filter(|(_, row)| row.evicting.is_some())
            .map(|(sensor, _)| sensor.clone())
            .collect();
        for sensor in sensors {
            let sequence = state.meta.take_sequence();
            let row = touched.row(state, &sensor);
            let Some(episode) = row.evicting.take() else { continue };
            row.other_records.received += 1;
            row.other_records.queued += 1;
            gaps.push(Item {
                sequence,
                session: row.session,
                taken: episode.last.into(),
                body: Body::Gap(Gap {
                    reason: GapReason::Evicted,
                    start: episode.first.into(),
                    readings_lost: episode.count,
                }),
                sensor,
            });
        }
        state.depth += gaps.len() as u64;
        touched.write(state, writes);
        gaps
    }

    /// In a batch of its own, so that the append after it reads segments as they are.
    pub(super) fn evict_oldest(&self, count: u64) -> Result<u64, QueueError> {
        self.write(|queue, state, writes| {
            let mut oldest = queue.oldest(count, &state.protected)?;
            if oldest.count() < count {
                oldest = queue.oldest(count, &SequenceSet::default())?;
            }
            Ok(queue.take_out(state, writes, &oldest, Movement::Evict)?.len() as u64)
        })
    }
}
