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
//!
//! An append writes one small segment. When [`SEAL_ITEMS`] items wait in small segments at the end, the
//! same batch merges them into one: a month offline stays small on disk and in memory. Segments never
//! overlap, and a segment's key is the sequence of its first item, also after a part was removed.
//!
//! After an error nothing more is written: memory and disk may disagree then, and only opening the
//! store anew settles it.

mod dead_letters;
mod intake;
mod layout;
mod lookup;
mod rewrite;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::capacity::{Admission, Capacity};
use super::ledger::{Ledger, Movement};
use super::segment::SegmentCodec;
use super::sequence_set::SequenceSet;
use intake::Intake;
use layout::{META_KEY, Meta, dead_letter_key, load_meta, new_meta, segment_key};
use rows::load_ledger;

use super::sled::{Store, Writes};
use super::{Appended, Counts, DeadLetter, QueueError, ReadingQueue};
use crate::clock::{ANCHORS_MAX, Anchor};
use crate::config::DrainOrder;
use crate::reading::{Content, Epoch, Item, Observation, SensorId};

/// Items in a sealed segment; 13 bytes each. Larger ones make a backlog hardly smaller, and every few
/// appends sled writes out again the whole leaf that the newest of them shares with the small ones: at
/// 500 items, one append cost an SD card half as much again (`benches/codec.rs`).
pub const SEAL_ITEMS: u32 = 100;

/// A [`ReadingQueue`] on disk.
pub struct DurableQueue {
    store: Store,
    codec: SegmentCodec,
    capacity: Capacity,
    /// Pass over what cannot be read, instead of failing.
    salvage: bool,
    unreadable: AtomicU64,
    state: Mutex<State>,
}

struct State {
    meta: Meta,
    ledger: Ledger,
    depth: u64,
    /// Small segments at the end of the queue: first sequence → items.
    tail: BTreeMap<u64, u32>,
    /// Sequences below it survive a power cut; none from it on leaves the gateway.
    durable_before: u64,
    /// What the drainer has in hand: evicted last.
    protected: SequenceSet,
    /// Rows that changed while the disk was too full to write.
    unwritten: BTreeSet<SensorId>,
    failed: bool,
}

/// A queue, and what happened when it was opened.
pub struct Opened {
    /// The queue.
    pub queue: DurableQueue,
    /// Where a damaged store was moved to; the queue is then a new one.
    pub set_aside: Option<PathBuf>,
}

impl DurableQueue {
    /// Opens the store in folder `path`, creating it.
    pub fn open(path: &Path, capacity: Capacity, codec: SegmentCodec) -> Result<Opened, QueueError> {
        let (store, set_aside) = Store::open(path, META_KEY)?;
        let queue = Self::load_from(store, capacity, codec, false)?;
        Ok(Opened { queue, set_aside })
    }

    /// Opens a store that is there, also one that was set aside as damaged: creates nothing, moves
    /// nothing, and passes over what cannot be read ([`unreadable`](Self::unreadable)).
    pub fn open_existing(path: &Path, capacity: Capacity, codec: SegmentCodec) -> Result<Self, QueueError> {
        Self::load_from(Store::open_existing(path)?, capacity, codec, true)
    }

    fn load_from(
        store: Store,
        capacity: Capacity,
        codec: SegmentCodec,
        salvage: bool,
    ) -> Result<Self, QueueError> {
        let meta = match store.get(META_KEY)? {
            Some(bytes) => load_meta(&bytes)?,
            None => new_meta(&store)?,
        };
        // What an earlier process applied without syncing is here, and not yet safe.
        store.sync()?;
        let ledger = load_ledger(&store)?;
        let state = State {
            durable_before: meta.next_sequence,
            meta,
            depth: ledger.depth(),
            ledger,
            tail: BTreeMap::new(),
            protected: SequenceSet::default(),
            unwritten: BTreeSet::new(),
            failed: false,
        };
        let unreadable = AtomicU64::new(0);
        let queue = Self { store, codec, capacity, salvage, unreadable, state: Mutex::new(state) };
        queue.find_tail()?;
        Ok(queue)
    }

    /// Segments that were passed over because they cannot be read.
    pub fn unreadable(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `change` under the lock and applies what it wrote; after an error, refuses all later ones.
    fn write<T>(
        &self,
        change: impl FnOnce(&Self, &mut State, &mut Writes) -> Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        let mut state = self.lock();
        if state.failed {
            return Err(QueueError::Failed);
        }
        // Also after a panic in between.
        state.failed = true;
        let mut writes = Writes::default();
        let result = change(self, &mut state, &mut writes)?;
        self.store.apply(writes)?;
        state.failed = false;
        Ok(result)
    }

    fn sync_store(&self) -> Result<(), QueueError> {
        let applied_before = self.lock().meta.next_sequence;
        let synced = self.store.sync();
        let mut state = self.lock();
        match &synced {
            Ok(()) => state.durable_before = state.durable_before.max(applied_before),
            Err(_) => state.failed = true,
        }
        synced
    }

    fn write_meta(&self, state: &State, writes: &mut Writes) {
        writes.insert(META_KEY, postcard::to_stdvec(&state.meta).expect("memory takes all of it"));
    }
}

impl ReadingQueue for DurableQueue {
    fn epoch(&self) -> Epoch {
        self.lock().meta.epoch
    }

    fn append(&self, observations: &[Observation]) -> Result<Appended, QueueError> {
        let incoming = observations.iter().filter(|o| matches!(o.content, Content::Body(_))).count() as u64;
        let free = self.store.free_bytes()?;
        let depth = self.lock().depth;
        let mut intake = Intake::with_room(incoming);
        match self.capacity.admit(depth, incoming, free) {
            Admission::Accept => {}
            Admission::AcceptFirst(some) => intake.room = some,
            Admission::Evict(count) => intake.evicted = self.evict_oldest(count)?,
            Admission::Refuse => {
                // Counted in memory; written, with the rest, when the disk has room again.
                intake.room = 0;
                let mut state = self.lock();
                let touched = intake.take_in(&mut state, observations);
                state.unwritten.extend(touched.into_sensors());
                return Ok(intake.appended(&state, &self.capacity, free));
            }
        }
        let appended = self.write(|queue, state, writes| {
            let mut touched = intake.take_in(state, observations);
            touched.add(std::mem::take(&mut state.unwritten));
            touched.write(state, writes);
            intake.new.extend(queue.report_evictions(state, writes, free));
            let appended = intake.appended(state, &queue.capacity, free);
            queue.seal(state, writes, intake.new)?;
            queue.write_meta(state, writes);
            Ok(appended)
        })?;
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
        let state = self.lock();
        let safe = state.durable_before;
        let mut peeked = Vec::new();
        let mut cursor = match order {
            DrainOrder::OldestFirst => claimed.first_absent_from(0),
            DrainOrder::NewestFirst => safe.checked_sub(1).and_then(|last| claimed.last_absent_until(last)),
        };
        while let Some(sequence) = cursor
            && sequence < safe
            && peeked.len() < items_max
        {
            let wanted = |item: &Item| item.sequence < safe && !claimed.contains(item.sequence);
            let room = items_max - peeked.len();
            cursor = match order {
                DrainOrder::OldestFirst => {
                    let Some((_, items)) = self.segment_from(sequence)? else { break };
                    let end = items.last().map_or(sequence, |last| last.sequence);
                    peeked
                        .extend(items.into_iter().filter(|i| i.sequence >= sequence && wanted(i)).take(room));
                    end.checked_add(1).and_then(|next| claimed.first_absent_from(next))
                }
                DrainOrder::NewestFirst => {
                    let Some((first, items)) = self.segment_until(sequence)? else { break };
                    let new_to_old = items.into_iter().rev();
                    peeked.extend(new_to_old.filter(|i| i.sequence <= sequence && wanted(i)).take(room));
                    first.checked_sub(1).and_then(|next| claimed.last_absent_until(next))
                }
            };
        }
        Ok(peeked)
    }

    fn remove(&self, accepted: &SequenceSet) -> Result<(), QueueError> {
        let reported = self.write(|queue, state, writes| {
            queue.take_out(state, writes, accepted, Movement::Deliver)?;
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
        if reported { self.sync_store() } else { Ok(()) }
    }

    fn protect(&self, in_hand: SequenceSet) {
        self.lock().protected = in_hand;
    }

    fn dead_letter(&self, refused: &SequenceSet, reason: &str) -> Result<(), QueueError> {
        self.write(|queue, state, writes| {
            for item in queue.take_out(state, writes, refused, Movement::DeadLetter)? {
                let key = dead_letter_key(item.sequence);
                let segment = queue.codec.encode(&key, std::slice::from_ref(&item));
                let value = postcard::to_stdvec(&(reason, segment)).expect("memory takes all of it");
                writes.insert(key, value);
            }
            Ok(())
        })
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

    fn ledger(&self) -> Ledger {
        self.lock().ledger.clone()
    }

    fn audit(&self) -> Result<(Ledger, Counts), QueueError> {
        let state = self.lock();
        let mut counts = Counts::default();
        for entry in self.store.range(segment_key(0)..=segment_key(u64::MAX)) {
            let (_, items) = self.load(entry)?.unwrap_or_default();
            items.iter().for_each(|item| counts.add(item));
        }
        Ok((state.ledger.clone(), counts))
    }

    fn anchors(&self) -> Vec<Anchor> {
        self.lock().meta.anchors.clone()
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

    fn sync(&self) -> Result<(), QueueError> {
        self.sync_store()
    }
}
