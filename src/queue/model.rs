//! The queue in memory, in the plainest way: what [`durable`](super::durable) is compared with, and
//! what simulations run on. Nothing here survives the process; a clone is a moment of it to come back to.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::capacity::{Admission, Capacity};
use super::ledger::{Ledger, Movement};
use super::segment::SegmentCodec;
use super::sequence_set::SequenceSet;
use super::witness::{Before, Cover, Finding, Found, Judgement, Mark, StoreState, judge};
use super::{Absorbable, Appended, Counts, DeadLetter, QueueError, ReadingQueue};
use crate::clock::Anchor;
use crate::config::DrainOrder;
use crate::reading::{
    Body, Content, Epoch, Gap, GapReason, GatewayId, Item, Observation, Origin, Origins, SensorId,
};
use crate::wire::Envelope;

/// A [`ReadingQueue`] in memory.
pub struct ModelQueue {
    state: Mutex<State>,
}

#[derive(Clone)]
struct State {
    capacity: Capacity,
    next_sequence: u64,
    items: BTreeMap<u64, Item>,
    dead: BTreeMap<u64, DeadLetter>,
    ledger: Ledger,
    anchors: Vec<Anchor>,
    free_bytes: u64,
    protected: SequenceSet,
    /// `None` before the first opening.
    identity: Option<Identity>,
    before: Option<Before>,
    missing: SequenceSet,
}

#[derive(Clone)]
struct Identity {
    store: Epoch,
    origins: Origins,
}

impl Clone for ModelQueue {
    fn clone(&self) -> Self {
        Self { state: Mutex::new(self.lock().clone()) }
    }
}

impl ModelQueue {
    /// Sets what the disk has free; at first it has no bounds.
    pub fn set_free_bytes(&self, free_bytes: u64) {
        self.lock().free_bytes = free_bytes;
    }

    /// An empty queue on a disk without bounds; it takes nothing before it is [opened](Self::begin_origin).
    pub fn unopened(capacity: Capacity) -> Self {
        let state = State {
            capacity,
            next_sequence: 1,
            items: BTreeMap::new(),
            dead: BTreeMap::new(),
            ledger: Ledger::default(),
            anchors: Vec::new(),
            free_bytes: u64::MAX,
            protected: SequenceSet::default(),
            identity: None,
            before: None,
            missing: SequenceSet::default(),
        };
        Self { state: Mutex::new(state) }
    }

    /// An empty queue on a disk without bounds, opened once.
    pub fn new(capacity: Capacity, gateway: GatewayId, epoch: Epoch) -> Self {
        let queue = Self::unopened(capacity);
        queue.begin_origin(&Found::Nothing, epoch, gateway);
        queue
    }

    /// Opens it: compares it with the witness that was `found`, and begins an origin with `epoch` for what
    /// `gateway` takes from now on.
    pub fn begin_origin(&self, found: &Found, epoch: Epoch, gateway: GatewayId) -> Finding {
        let mut state = self.lock();
        let next = state.next_sequence;
        let oldest = state.oldest_needed();
        let known = state.identity.as_ref().map(|identity| StoreState {
            store: identity.store,
            origins: &identity.origins,
            before: state.before,
            next,
        });
        let Judgement { first_sequence, finding } = judge(known.as_ref(), found);
        if let (Finding::WentBack(back), Found::Mark(mark)) = (&finding, found) {
            let mut lost = mark.dead.sequences();
            if state.identity.as_ref().is_some_and(|identity| identity.store == mark.store) {
                lost.remove_all(&state.items.keys().chain(state.dead.keys()).copied().collect());
            }
            lost.insert_range(back.first_missing..=back.last);
            state.missing.insert_all(&lost);
        }
        let begun = Origin { first_sequence, epoch, gateway };
        state.next_sequence = first_sequence;
        state.protected = SequenceSet::default();
        state.identity = Some(match state.identity.take() {
            None => Identity { store: epoch, origins: Origins::new(vec![begun]).expect("one is there") },
            Some(Identity { store, origins }) => {
                let newest = origins.newest();
                state.before = Some(Before { epoch: newest.epoch, ended_at: next });
                // What nothing leans on any more goes, but the last one, which the witness may name.
                let needed_from = oldest.map_or(u64::MAX, |oldest| origins.of(oldest).first_sequence);
                let needed_from = needed_from.min(newest.first_sequence);
                let needed = origins.iter().filter(|origin| origin.first_sequence >= needed_from);
                let origins = Origins::new(needed.cloned().chain([begun]).collect());
                Identity { store, origins: origins.expect("one was just begun") }
            }
        });
        finding
    }

    /// How far it has come, as its witness notes it.
    pub fn mark(&self) -> Mark {
        let state = self.lock();
        let Identity { store, origins } = state.identity.as_ref().expect("it was opened");
        Mark {
            store: *store,
            opening: origins.newest().epoch,
            opened_at: origins.newest().first_sequence,
            durable_before: state.next_sequence,
            settled_before: state.items.keys().next().copied().unwrap_or(state.next_sequence),
            dead: Cover::of(&state.dead.keys().copied().collect()),
            is_clean: false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn depth(&self) -> u64 {
        self.items.len() as u64
    }

    /// The first sequence whose origin something still leans on.
    fn oldest_needed(&self) -> Option<u64> {
        let sessions = self.ledger.rows.values().map(|row| row.session).filter(|session| *session > 0);
        let first_missing = self.missing.first_at_or_after(0);
        let first = [self.items.keys().next().copied(), self.dead.keys().next().copied(), first_missing];
        first.into_iter().flatten().chain(sessions).min()
    }

    fn take_sequence(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence - 1
    }

    fn count(&mut self, item: &Item, movement: Movement) {
        let row = self.ledger.rows.entry(item.sensor.clone()).or_default();
        row.account(&item.body).apply(movement, 1);
        if matches!(movement, Movement::Evict | Movement::DropDeadLetter) {
            row.note_eviction(item.taken);
        }
    }

    fn take_out(&mut self, sequences: &SequenceSet, movement: Movement) -> Vec<Item> {
        let there: Vec<u64> = self.items.keys().copied().filter(|s| sequences.contains(*s)).collect();
        let items: Vec<Item> = there.iter().filter_map(|sequence| self.items.remove(sequence)).collect();
        items.iter().for_each(|item| self.count(item, movement));
        items
    }

    fn report_evictions(&mut self) -> u64 {
        if !self.capacity.has_recovered(self.depth(), self.free_bytes) {
            return 0;
        }
        let sensors: Vec<SensorId> = self.ledger.rows.keys().cloned().collect();
        let mut reported = 0;
        for sensor in sensors {
            let row = self.ledger.rows.get_mut(&sensor).expect("the key was just there");
            let Some(episode) = row.evicting.take() else { continue };
            row.other_records.received += 1;
            row.other_records.queued += 1;
            let session = row.session;
            let sequence = self.take_sequence();
            let gap =
                Gap { reason: GapReason::Evicted, start: episode.first.into(), readings_lost: episode.count };
            let item = Item { sequence, sensor, session, taken: episode.last.into(), body: Body::Gap(gap) };
            self.items.insert(sequence, item);
            reported += 1;
        }
        reported
    }

    fn dead_in(&self, sequences: &SequenceSet) -> Vec<u64> {
        self.dead.keys().copied().filter(|s| sequences.contains(*s)).collect()
    }
}

impl ReadingQueue for ModelQueue {
    fn envelope(&self) -> Envelope {
        let state = self.lock();
        let identity = state.identity.as_ref().expect("it was opened");
        Envelope { origins: identity.origins.clone(), anchors: state.anchors.clone() }
    }

    fn append(&self, observations: &[Observation]) -> Result<Appended, QueueError> {
        let mut state = self.lock();
        let incoming = observations.iter().filter(|o| matches!(o.content, Content::Body(_))).count() as u64;
        let disk_low = state.free_bytes < state.capacity.disk_headroom;
        let mut room = incoming;
        let mut evicted = 0;
        match state.capacity.admit(state.depth(), incoming, state.free_bytes) {
            Admission::Accept => {}
            Admission::Refuse => room = 0,
            Admission::AcceptFirst(some) => room = some,
            Admission::Evict(count) => {
                let free =
                    state.items.keys().copied().filter(|sequence| !state.protected.contains(*sequence));
                let mut oldest: SequenceSet = free.take(count as usize).collect();
                if oldest.count() < count {
                    oldest = state.items.keys().copied().take(count as usize).collect();
                }
                evicted = state.take_out(&oldest, Movement::Evict).len() as u64;
            }
        }
        let mut queued = 0;
        let mut sessions_begun = Vec::new();
        for observation in observations {
            let Content::Body(body) = &observation.content else {
                state.ledger.rows.entry(observation.sensor.clone()).or_default().malformed += 1;
                continue;
            };
            let sequence = state.take_sequence();
            let row = state.ledger.rows.entry(observation.sensor.clone()).or_default();
            if observation.starts_session || row.session == 0 {
                row.session = sequence;
                sessions_begun.push((observation.sensor.clone(), sequence));
            }
            if body.is_reading() {
                row.last = Some(observation.taken.into());
            }
            row.account(body).received += 1;
            if queued == room {
                row.account(body).evicted += 1;
                row.note_eviction(observation.taken);
                evicted += 1;
                continue;
            }
            row.account(body).queued += 1;
            let session = row.session;
            let (sensor, taken) = (observation.sensor.clone(), observation.taken);
            state.items.insert(sequence, Item { sequence, sensor, session, taken, body: body.clone() });
            queued += 1;
        }
        queued += state.report_evictions();
        let is_full = !state.capacity.has_recovered(state.depth(), state.free_bytes);
        Ok(Appended { queued, evicted, is_full, disk_low, sessions_begun })
    }

    fn peek(
        &self,
        order: DrainOrder,
        claimed: &SequenceSet,
        items_max: usize,
    ) -> Result<Vec<Item>, QueueError> {
        let state = self.lock();
        let free = |item: &&Item| !claimed.contains(item.sequence);
        Ok(match order {
            DrainOrder::OldestFirst => state.items.values().filter(free).take(items_max).cloned().collect(),
            DrainOrder::NewestFirst => {
                state.items.values().rev().filter(free).take(items_max).cloned().collect()
            }
        })
    }

    fn remove(&self, accepted: &SequenceSet) -> Result<(), QueueError> {
        let mut state = self.lock();
        state.take_out(accepted, Movement::Deliver);
        state.report_evictions();
        Ok(())
    }

    fn dead_letter(&self, refused: &SequenceSet, reason: &str) -> Result<(), QueueError> {
        let mut state = self.lock();
        for item in state.take_out(refused, Movement::DeadLetter) {
            state.dead.insert(item.sequence, DeadLetter { item, reason: reason.to_owned() });
        }
        Ok(())
    }

    fn dead_letters(&self, from: u64, items_max: usize) -> Result<Vec<DeadLetter>, QueueError> {
        Ok(self.lock().dead.range(from..).map(|(_, letter)| letter.clone()).take(items_max).collect())
    }

    fn requeue(&self, sequences: &SequenceSet) -> Result<u64, QueueError> {
        let mut state = self.lock();
        let there = state.dead_in(sequences);
        for sequence in &there {
            let letter = state.dead.remove(sequence).expect("the key was just there");
            state.count(&letter.item, Movement::Requeue);
            state.items.insert(*sequence, letter.item);
        }
        Ok(there.len() as u64)
    }

    fn drop_dead_letters(&self, sequences: &SequenceSet) -> Result<u64, QueueError> {
        let mut state = self.lock();
        let there = state.dead_in(sequences);
        for sequence in &there {
            let letter = state.dead.remove(sequence).expect("the key was just there");
            state.count(&letter.item, Movement::DropDeadLetter);
        }
        Ok(there.len() as u64)
    }

    fn opens_with(&self, _: &SegmentCodec) -> Result<(), QueueError> {
        Ok(())
    }

    fn reconfigure(
        &self,
        capacity: Capacity,
        _: SegmentCodec,
        gateway: &GatewayId,
    ) -> Result<(), QueueError> {
        let mut state = self.lock();
        state.capacity = capacity;
        let first_sequence = state.next_sequence;
        let Some(Identity { origins, .. }) = &mut state.identity else { return Ok(()) };
        let newest = origins.newest().clone();
        if newest.gateway != *gateway {
            let epoch = Epoch(newest.epoch.0 + 1);
            let begun = Origin { first_sequence, epoch, gateway: gateway.clone() };
            *origins = Origins::new(origins.iter().cloned().chain([begun]).collect()).expect("one was begun");
        }
        Ok(())
    }

    fn absorb(&self, _: &Absorbable) -> Result<u64, QueueError> {
        // What is missing here is in no other store.
        Ok(0)
    }

    fn ledger(&self) -> Ledger {
        self.lock().ledger.clone()
    }

    fn protect(&self, in_hand: SequenceSet) {
        self.lock().protected = in_hand;
    }

    fn depth(&self) -> u64 {
        self.lock().depth()
    }

    fn missing(&self) -> SequenceSet {
        self.lock().missing.clone()
    }

    fn begin_audit(&self) {}

    fn step_audit(&self) -> Result<Option<(Ledger, Counts)>, QueueError> {
        let state = self.lock();
        let mut counts = Counts::default();
        state.items.values().for_each(|item| counts.add(item));
        Ok(Some((state.ledger.clone(), counts)))
    }

    fn add_anchor(&self, anchor: Anchor) -> Result<(), QueueError> {
        self.lock().anchors.push(anchor);
        Ok(())
    }

    fn sync(&self) -> Result<(), QueueError> {
        Ok(())
    }

    fn close(&self) -> Result<(), QueueError> {
        Ok(())
    }
}
