//! A disk in memory that forgets what was not synced and can be put back, and the queue on it.
//!
//! The state machine is the model queue; the rules of opening are the real ones. What was applied since the
//! last sync is kept as a list of operations: a crash keeps a beginning of it. A torn operation is one that is
//! not there, since each is one atomic batch.

use std::sync::{Arc, Mutex, MutexGuard};

use hr_gateway::clock::Anchor;
use hr_gateway::config::DrainOrder;
use hr_gateway::queue::capacity::Capacity;
use hr_gateway::queue::ledger::Ledger;
use hr_gateway::queue::model::ModelQueue;
use hr_gateway::queue::segment::SegmentCodec;
use hr_gateway::queue::sequence_set::SequenceSet;
use hr_gateway::queue::witness::{Finding, Found, SYNC_STEP};
use hr_gateway::queue::{Absorbable, Appended, Counts, DeadLetter, QueueError, ReadingQueue};
use hr_gateway::reading::{Epoch, GatewayId, Item, Observation};
use hr_gateway::wire::Envelope;
use tokio::sync::Notify;

use crate::history::{DiskIs, How, WitnessIs};
use crate::oracle::Oracle;
use crate::plant::Plant;

/// A process that may die at any of its steps.
#[derive(Default)]
pub struct Life {
    steps_left: Mutex<Option<u32>>,
    pub died: Notify,
}

impl Life {
    /// From now on it makes so many steps more.
    pub fn dies_after(&self, steps: u32) {
        *self.steps_left.lock().unwrap() = Some(steps);
        if steps == 0 {
            self.died.notify_one();
        }
    }

    /// A step. What is after it happens only if this says so.
    pub fn goes_on(&self) -> bool {
        match &mut *self.steps_left.lock().unwrap() {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                if *left == 0 {
                    self.died.notify_one();
                }
                *left > 0
            }
        }
    }
}

enum Operation {
    Append(Vec<Observation>),
    Remove(SequenceSet),
    DeadLetter(SequenceSet, String),
    Requeue(SequenceSet),
    Drop(SequenceSet),
    Anchor(Anchor),
    /// Changes nothing that lasts, but what is evicted next.
    Protect(SequenceSet),
}

impl Operation {
    fn apply(&self, queue: &ModelQueue) -> Appended {
        let done = match self {
            Self::Append(observations) => return queue.append(observations).expect("memory takes all"),
            Self::Remove(sequences) => queue.remove(sequences),
            Self::DeadLetter(sequences, reason) => queue.dead_letter(sequences, reason),
            Self::Requeue(sequences) => queue.requeue(sequences).map(drop),
            Self::Drop(sequences) => queue.drop_dead_letters(sequences).map(drop),
            Self::Anchor(anchor) => queue.add_anchor(*anchor),
            Self::Protect(sequences) => {
                queue.protect(sequences.clone());
                Ok(())
            }
        };
        done.expect("memory takes all");
        Appended::default()
    }
}

struct Saved {
    queue: ModelQueue,
    operation: u64,
    witness: Found,
}

/// What an opening came to.
pub struct Reopened {
    pub finding: Finding,
    /// The last operation that the store knows of.
    pub operation: u64,
    /// The mark that the store was compared with.
    pub witness: Found,
}

/// The disk.
pub struct Disk {
    blank: ModelQueue,
    pub live: ModelQueue,
    durable: ModelQueue,
    /// Applied and not synced.
    unsynced: Vec<(u64, Operation)>,
    /// The number of the last operation.
    pub operation: u64,
    pub durable_operation: u64,
    /// What the witness's file held since it was synced last.
    witness: Vec<Found>,
    saved: Vec<Saved>,
    syncs: u32,
    epochs: u64,
    gateway: GatewayId,
}

impl Disk {
    /// `blank` is a queue that was never opened.
    pub fn new(blank: ModelQueue, gateway: GatewayId) -> Self {
        let live = blank.clone();
        live.begin_origin(&Found::Nothing, Epoch(1), gateway.clone());
        let mark = live.mark();
        Self {
            durable: live.clone(),
            live,
            blank,
            gateway,
            unsynced: Vec::new(),
            operation: 0,
            durable_operation: 0,
            witness: vec![Found::Mark(mark)],
            saved: Vec::new(),
            syncs: 0,
            epochs: 1,
        }
    }

    fn apply(&mut self, operation: Operation) -> Appended {
        self.operation += 1;
        let appended = operation.apply(&self.live);
        self.unsynced.push((self.operation, operation));
        appended
    }

    fn sync(&mut self) {
        self.unsynced.drain(..).for_each(|(_, operation)| _ = operation.apply(&self.durable));
        self.durable_operation = self.operation;
        self.note();
        self.syncs += 1;
        if self.syncs.is_multiple_of(8) {
            self.save();
        }
    }

    /// As the real queue tells its witness.
    fn note(&mut self) {
        let mut mark = self.live.mark();
        mark.durable_before = self.durable.mark().durable_before;
        mark.settled_before = mark.settled_before.min(mark.durable_before);
        self.witness.push(Found::Mark(mark));
        if matches!(self.witness[0], Found::Mark(synced) if mark.durable_before - synced.durable_before >= SYNC_STEP)
        {
            self.witness = vec![Found::Mark(mark)];
        }
    }

    fn close(&mut self) {
        self.sync();
        let mut mark = self.durable.mark();
        mark.is_clean = true;
        self.witness = vec![Found::Mark(mark)];
        self.save();
    }

    fn save(&mut self) {
        let witness = *self.witness.last().expect("there is always one");
        self.saved.push(Saved { queue: self.durable.clone(), operation: self.durable_operation, witness });
    }

    /// What the disk holds after `how`, and after what was done to it then.
    fn found_after(&mut self, how: How, disk: DiskIs, draw: u64) -> (Option<ModelQueue>, u64, Found) {
        let mut random = fastrand::Rng::with_seed(draw);
        let (mut store, mut operation) = (self.durable.clone(), self.durable_operation);
        if how != How::Stop {
            let kept = random.usize(..=self.unsynced.len());
            for (number, kept) in &self.unsynced[..kept] {
                kept.apply(&store);
                operation = *number;
            }
        }
        let newest = self.witness.len() - 1;
        let at = if how == How::PowerCut { random.usize(..=newest) } else { newest };
        let mut witness = self.witness[at];
        let (states, is) = match disk {
            DiskIs::Kept => return (Some(store), operation, witness),
            DiskIs::Back { states, witness } => (states, witness),
            DiskIs::Erased { witness } => (1, witness),
        };
        let index = self.saved.len().saturating_sub(states as usize);
        let back = self.saved.get(index);
        match is {
            WitnessIs::Kept => {}
            WitnessIs::Back => witness = back.map_or(Found::Nothing, |saved| saved.witness),
            WitnessIs::Gone => witness = Found::Nothing,
            WitnessIs::Torn => witness = Found::Torn,
        }
        if matches!(disk, DiskIs::Erased { .. }) {
            return (None, 0, witness);
        }
        if let Some(saved) = back {
            (store, operation) = (saved.queue.clone(), saved.operation);
        }
        (Some(store), operation, witness)
    }

    /// Opens what is found, as the real queue does.
    pub fn reopen(&mut self, how: How, disk: DiskIs, draw: u64, plant: Option<Plant>) -> Reopened {
        let (store, operation, witness) = self.found_after(how, disk, draw);
        let is_new = store.is_none();
        self.live = store.unwrap_or_else(|| self.blank.clone());
        self.epochs += 1;
        let epoch = Epoch(self.epochs);
        let gateway = self.gateway.clone();
        let finding = match plant {
            Some(Plant::NoNewEpoch) if !is_new => Finding::Sound,
            Some(Plant::WitnessIgnored) if !is_new => {
                let own = self.live.mark();
                self.live.begin_origin(&Found::Mark(own), epoch, gateway)
            }
            _ => self.live.begin_origin(&witness, epoch, gateway),
        };
        // Until the opening comes to it.
        self.witness = vec![witness];
        self.unsynced.clear();
        self.durable = self.live.clone();
        self.operation += 1;
        self.durable_operation = self.operation;
        Reopened { finding, operation, witness }
    }

    /// The opening comes to the witness.
    pub fn begin_witness(&mut self) {
        self.witness = vec![Found::Mark(self.live.mark())];
        self.save();
    }
}

/// A process's queue on the disk.
pub struct SimulatedQueue {
    pub disk: Arc<Mutex<Disk>>,
    pub oracle: Arc<Mutex<Oracle>>,
    pub life: Arc<Life>,
    pub plant: Option<Plant>,
}

/// A simulated queue that its sink reaches too, when a bug wants that.
pub struct Shared(pub Arc<SimulatedQueue>);

impl SimulatedQueue {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    fn step(&self) -> Result<(), QueueError> {
        self.life.goes_on().then_some(()).ok_or(QueueError::Failed)
    }

    fn take_in(&self, observations: &[Observation]) -> Result<Appended, QueueError> {
        self.step()?;
        let mut disk = self.disk();
        let appended = disk.apply(Operation::Append(observations.to_vec()));
        self.oracle.lock().unwrap().appended(disk.operation, observations, &appended, &disk.live);
        self.step()?;
        if self.plant != Some(Plant::SyncForgotten) {
            disk.sync();
        }
        self.step()?;
        Ok(appended)
    }

    pub fn take_out(&self, sequences: &SequenceSet) -> Result<(), QueueError> {
        self.step()?;
        let mut disk = self.disk();
        disk.apply(Operation::Remove(sequences.clone()));
        let reported = self.oracle.lock().unwrap().removed(disk.operation, sequences, &disk.live);
        if reported && self.plant != Some(Plant::DeliveredBeforeDurable) {
            disk.sync();
        } else {
            disk.note();
        }
        self.step()
    }

    pub fn set_aside(&self, sequences: &SequenceSet, reason: &str) -> Result<(), QueueError> {
        self.step()?;
        let mut disk = self.disk();
        disk.apply(Operation::DeadLetter(sequences.clone(), reason.to_owned()));
        self.oracle.lock().unwrap().dead_lettered(disk.operation, sequences);
        self.step()
    }

    fn move_dead_letters(&self, sequences: &SequenceSet, requeued: bool) -> Result<u64, QueueError> {
        self.step()?;
        let mut disk = self.disk();
        let operation = if requeued { Operation::Requeue } else { Operation::Drop };
        disk.apply(operation(sequences.clone()));
        let moved = self.oracle.lock().unwrap().dead_letters_moved(disk.operation, sequences, requeued);
        disk.sync();
        self.step()?;
        Ok(moved)
    }
}

impl ReadingQueue for Shared {
    fn opens_with(&self, codec: &SegmentCodec) -> Result<(), QueueError> {
        self.0.disk().live.opens_with(codec)
    }

    fn reconfigure(&self, _: Capacity, _: SegmentCodec, _: &GatewayId) -> Result<(), QueueError> {
        Err(QueueError::ReadOnly)
    }

    fn absorb(&self, other: &Absorbable) -> Result<u64, QueueError> {
        self.0.disk().live.absorb(other)
    }

    fn envelope(&self) -> Envelope {
        self.0.disk().live.envelope()
    }

    fn append(&self, observations: &[Observation]) -> Result<Appended, QueueError> {
        let taken = match self.0.plant {
            Some(plant) => plant.on_append(observations),
            None => vec![observations.to_vec()],
        };
        self.0.oracle.lock().unwrap().handed_in(observations);
        let mut appended = Appended::default();
        for part in &taken {
            appended = self.0.take_in(part)?;
        }
        self.0.oracle.lock().unwrap().acknowledged(observations);
        Ok(appended)
    }

    fn peek(&self, order: DrainOrder, claimed: &SequenceSet, max: usize) -> Result<Vec<Item>, QueueError> {
        self.0.disk().live.peek(order, claimed, max)
    }

    fn remove(&self, accepted: &SequenceSet) -> Result<(), QueueError> {
        self.0.take_out(accepted)
    }

    fn dead_letter(&self, refused: &SequenceSet, reason: &str) -> Result<(), QueueError> {
        self.0.set_aside(refused, reason)
    }

    fn dead_letters(&self, from: u64, items_max: usize) -> Result<Vec<DeadLetter>, QueueError> {
        self.0.disk().live.dead_letters(from, items_max)
    }

    fn requeue(&self, sequences: &SequenceSet) -> Result<u64, QueueError> {
        self.0.move_dead_letters(sequences, true)
    }

    fn drop_dead_letters(&self, sequences: &SequenceSet) -> Result<u64, QueueError> {
        self.0.move_dead_letters(sequences, false)
    }

    fn ledger(&self) -> Ledger {
        let ledger = self.0.disk().live.ledger();
        self.0.plant.map_or_else(|| ledger.clone(), |plant| plant.on_ledger(ledger.clone()))
    }

    fn depth(&self) -> u64 {
        self.0.disk().live.depth()
    }

    fn missing(&self) -> SequenceSet {
        self.0.disk().live.missing()
    }

    fn protect(&self, in_hand: SequenceSet) {
        let mut disk = self.0.disk();
        disk.live.protect(in_hand.clone());
        let operation = disk.operation;
        disk.unsynced.push((operation, Operation::Protect(in_hand)));
    }

    fn begin_audit(&self) {}

    fn step_audit(&self) -> Result<Option<(Ledger, Counts)>, QueueError> {
        self.0.disk().live.step_audit()
    }

    fn add_anchor(&self, anchor: Anchor) -> Result<(), QueueError> {
        self.0.step()?;
        let mut disk = self.0.disk();
        disk.apply(Operation::Anchor(anchor));
        let operation = disk.operation;
        self.0.oracle.lock().unwrap().carried_on(operation);
        disk.sync();
        self.0.step()
    }

    fn sync(&self) -> Result<(), QueueError> {
        self.0.disk().sync();
        Ok(())
    }

    fn close(&self) -> Result<(), QueueError> {
        self.0.step()?;
        self.0.disk().close();
        Ok(())
    }
}
