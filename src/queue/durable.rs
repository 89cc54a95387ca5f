//! The queue on disk.
//!
//! One ordered map, one atomic batch for each call. Keys, by their first byte:
//!
//! | key | value |
//! | --- | --- |
//! | `q` + first sequence, big-endian | a [`segment`](super::segment) of one or more queued items |
//! | `d` + sequence, big-endian | a dead letter: its reason, then a segment of one item |
//! | `l` + sensor | the sensor's ledger [`Row`](super::ledger::Row), postcard |
//! | `m` | the store's description, postcard |
//! | `e` + first sequence, big-endian | an origin: epoch and gateway, postcard |
//! | `o` | the opening before the last, postcard |
//! | `x` + first sequence, big-endian | the last of a range of sequences that are known to be missing, postcard |
//!
//! An append writes one small segment. When [`SEAL_ITEMS`] items wait in small segments at the end, the
//! same batch merges them into one: a month offline stays small on disk and in memory. Segments never
//! overlap, and a segment's key is the sequence of its first item, also after a part was removed.
//!
//! After an error nothing more is written: memory and disk may disagree then, and only opening the
//! store anew settles it.

mod absorb;
pub(super) mod dead_letters;
mod deferred;
mod intake;
pub(super) mod layout;
mod lookup;
mod open;
mod peeked;
mod rewrite;
pub(super) mod rows;
mod settings;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::capacity::{Admission, Capacity};
use super::ledger::{Ledger, Movement};
use super::segment::SegmentCodec;
use super::sequence_set::SequenceSet;
use deferred::Deferred;
use intake::Intake;
use layout::{Meta, Missing, Past, dead_letter_key, encoded};
use lookup::Walk;
pub use open::{Opened, SetAside};
use peeked::Peeked;
use settings::Settings;

use super::sled::{Store, storage};
use super::witness::Witness;
use super::{Absorbable, Appended, Counts, DeadLetter, QueueError, ReadingQueue};
use crate::clock::{ANCHORS_MAX, Anchor};
use crate::config::DrainOrder;
use crate::reading::{Content, GatewayId, Item, Observation, Origins, SensorId};
use crate::wire::Envelope;

/// Items in a sealed segment; 13 bytes each. Larger ones make a backlog hardly smaller, and every few
/// appends sled writes out again the whole leaf that the newest of them shares with the small ones: at
/// 500 items, one append cost an SD card half as much again (`benches/codec.rs`).
pub const SEAL_ITEMS: u32 = 100;

/// A [`ReadingQueue`] on disk.
pub struct DurableQueue {
    store: Store,
    settings: Settings,
    state: Mutex<State>,
}

struct State {
    meta: Meta,
    /// The next sequence as it stands in the store; `meta` is ahead of it while the disk is too full to write.
    stored_next: u64,
    past: Past,
    missing: Missing,
    dead: SequenceSet,
    origins: Origins,
    ledger: Ledger,
    depth: u64,
    /// Small segments at the end of the queue: first sequence → items.
    tail: BTreeMap<u64, u32>,
    peeked: Peeked,
    /// Sequences below it survive a power cut; none from it on leaves the gateway.
    durable_before: u64,
    /// What the drainer has in hand: evicted last.
    protected: SequenceSet,
    /// Rows that changed while the disk was too full to write.
    unwritten: BTreeSet<SensorId>,
    /// Changes that took items out since the last sync.
    removals: u32,
    deferred: Deferred,
    /// An audit under way.
    walk: Option<Walk>,
    /// `None` where nothing is to be written: the queue was opened to look at it.
    witness: Option<Witness>,
    failed: bool,
}

impl DurableQueue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadingQueue for DurableQueue {
    fn envelope(&self) -> Envelope {
        let state = self.lock();
        Envelope { origins: state.origins.clone(), anchors: state.meta.anchors.clone() }
    }

    fn append(&self, observations: &[Observation]) -> Result<Appended, QueueError> {
        let incoming = observations.iter().filter(|o| matches!(o.content, Content::Body(_))).count() as u64;
        let free = self.store.free_bytes()?;
        let depth = self.lock().depth;
        let mut intake = Intake::with_room(incoming);
        let capacity = self.capacity();
        match capacity.admit(depth, incoming, free) {
            Admission::Accept => {}
            Admission::AcceptFirst(some) => intake.room = some,
            Admission::Evict(count) => intake.evicted = self.evict_oldest(count)?,
            Admission::Refuse => {
                // Counted in memory; written, with the rest, when the disk has room again.
                intake.room = 0;
                let mut state = self.lock();
                let touched = intake.take_in(&mut state, observations);
                state.unwritten.extend(touched.into_sensors());
                return Ok(intake.appended(&state, &capacity, free));
            }
        }
        let mut state = self.lock_to_write()?;
        let deferred = std::mem::take(&mut state.deferred);
        let appended = self.write_after(&mut state, deferred.writes, |queue, state, writes| {
            let mut touched = intake.take_in(state, observations);
            touched.add(std::mem::take(&mut state.unwritten));
            touched.write(state, writes);
            intake.new.extend(queue.report_evictions(state, writes, free));
            let appended = intake.appended(state, &capacity, free);
            queue.seal(state, writes, intake.new)?;
            queue.write_meta(state, writes);
            Ok(appended)
        })?;
        drop(state);
        self.sync_store()?;
        Ok(appended)
    }

    fn peek(
        &self,
        order: DrainOrder,
        claimed: &SequenceSet,
        items_max: usize,
    ) -> Result<Vec<Item>, QueueError> {
        // Under the lock: a merge of segments half-way through would be seen twice, or not at all.
        let mut state = self.lock();
        let State { peeked: known, deferred, durable_before, .. } = &mut *state;
        let safe = *durable_before;
        let mut peeked = Vec::new();
        let mut cursor = match order {
            DrainOrder::OldestFirst => claimed.first_absent_from(0),
            DrainOrder::NewestFirst => safe.checked_sub(1).and_then(|last| claimed.last_absent_until(last)),
        };
        while let Some(sequence) = cursor
            && sequence < safe
            && peeked.len() < items_max
        {
            let wanted = |item: &Item| {
                let has_left = deferred.sequences.contains(item.sequence);
                item.sequence < safe && !has_left && !claimed.contains(item.sequence)
            };
            let room = items_max - peeked.len();
            cursor = match order {
                DrainOrder::OldestFirst => {
                    let Some((first, items)) = self.segment_from(sequence)? else { break };
                    if !deferred.sequences.contains(first) {
                        known.note(first, &items);
                    }
                    let end = items.last().map_or(sequence, |last| last.sequence);
                    peeked
                        .extend(items.into_iter().filter(|i| i.sequence >= sequence && wanted(i)).take(room));
                    end.checked_add(1).and_then(|next| claimed.first_absent_from(next))
                }
                DrainOrder::NewestFirst => {
                    let Some((first, items)) = self.segment_until(sequence)? else { break };
                    if !deferred.sequences.contains(first) {
                        known.note(first, &items);
                    }
                    let new_to_old = items.into_iter().rev();
                    peeked.extend(new_to_old.filter(|i| i.sequence <= sequence && wanted(i)).take(room));
                    first.checked_sub(1).and_then(|next| claimed.last_absent_until(next))
                }
            };
        }
        Ok(peeked)
    }

    fn remove(&self, accepted: &SequenceSet) -> Result<(), QueueError> {
        if self.defer(&mut *self.lock_to_write()?, accepted)? {
            return Ok(());
        }
        let reported = self.write(|queue, state, writes| {
            queue.deliver(state, writes, accepted)?;
            let mut reported = false;
            if state.ledger.rows.values().any(|row| row.evicting.is_some()) {
                let free = queue.store.free_bytes()?;
                let gaps = queue.report_evictions(state, writes, free);
                reported = !gaps.is_empty();
                queue.put_segment(state, writes, &gaps, true);
                queue.write_meta(state, writes);
            }
            Ok(reported)
        })?;
        // A gap record is as durable as a reading before it leaves.
        if reported { self.sync_store() } else { self.after_removal() }
    }

    fn protect(&self, in_hand: SequenceSet) {
        self.lock().protected = in_hand;
    }

    fn dead_letter(&self, refused: &SequenceSet, reason: &str) -> Result<(), QueueError> {
        self.write(|queue, state, writes| {
            for item in queue.take_out(state, writes, refused, Movement::DeadLetter)? {
                let key = dead_letter_key(item.sequence);
                let segment = queue.codec().encode(&key, std::slice::from_ref(&item));
                writes.insert(key, encoded(&(reason, segment)));
                state.dead.insert(item.sequence);
            }
            Ok(())
        })?;
        self.after_removal()
    }

    fn dead_letters(&self, from: u64, items_max: usize) -> Result<Vec<DeadLetter>, QueueError> {
        let range = dead_letter_key(from)..=dead_letter_key(u64::MAX);
        let entries = self.store.range(range).take(items_max);
        entries.map(|entry| entry.and_then(|(key, value)| self.decode_dead_letter(&key, &value))).collect()
    }

    fn requeue(&self, sequences: &SequenceSet) -> Result<u64, QueueError> {
        self.move_dead_letters(sequences, Movement::Requeue)
    }

    fn drop_dead_letters(&self, sequences: &SequenceSet) -> Result<u64, QueueError> {
        self.move_dead_letters(sequences, Movement::DropDeadLetter)
    }

    fn opens_with(&self, codec: &SegmentCodec) -> Result<(), QueueError> {
        self.all_opens_with(codec)
    }

    fn reconfigure(
        &self,
        capacity: Capacity,
        codec: SegmentCodec,
        gateway: &GatewayId,
    ) -> Result<(), QueueError> {
        self.all_opens_now_with(&codec)?;
        let renamed = self.rename(gateway);
        self.lock().failed |= renamed.is_err();
        renamed?;
        self.set_codec(codec);
        self.set_capacity(capacity);
        Ok(())
    }

    fn absorb(&self, other: &Absorbable) -> Result<u64, QueueError> {
        self.take_back(other)
    }

    fn ledger(&self) -> Ledger {
        self.lock().ledger.clone()
    }

    fn depth(&self) -> u64 {
        self.lock().depth
    }

    fn missing(&self) -> SequenceSet {
        self.lock().missing.0.clone()
    }

    fn begin_audit(&self) {
        self.lock().walk = Some(Walk::begin());
    }

    fn step_audit(&self) -> Result<Option<(Ledger, Counts)>, QueueError> {
        let mut state = self.lock();
        self.apply_deferred(&mut state)?;
        let mut walk = state.walk.take().unwrap_or_else(Walk::begin);
        if self.step(&mut walk)? {
            return Ok(Some((state.ledger.clone(), walk.into_counts())));
        }
        state.walk = Some(walk);
        Ok(None)
    }

    fn add_anchor(&self, anchor: Anchor) -> Result<(), QueueError> {
        self.write(|queue, state, writes| {
            let anchors = &mut state.meta.anchors;
            anchors.retain(|known| known.boot != anchor.boot);
            anchors.push(anchor);
            let surplus = anchors.len().saturating_sub(ANCHORS_MAX);
            anchors.drain(..surplus);
            queue.write_meta(state, writes);
            Ok(())
        })?;
        self.sync_store()
    }

    fn write_deferred(&self) -> Result<(), QueueError> {
        self.apply_deferred(&mut self.lock())
    }

    fn sync(&self) -> Result<(), QueueError> {
        self.write_deferred()?;
        self.sync_store()
    }

    fn close(&self) -> Result<(), QueueError> {
        self.lock().walk = None;
        self.write_what_waits()?;
        self.sync_store()?;
        match &mut self.lock().witness {
            Some(witness) => witness.close().map_err(storage("close its witness")),
            None => Ok(()),
        }
    }
}
