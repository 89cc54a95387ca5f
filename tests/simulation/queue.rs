//! A process's queue: the model disk reached through the contract, one step after the other, any of which may
//! be the last.

use std::sync::{Arc, Mutex, MutexGuard};

use hr_gateway::clock::Anchor;
use hr_gateway::config::DrainOrder;
use hr_gateway::queue::capacity::Capacity;
use hr_gateway::queue::ledger::Ledger;
use hr_gateway::queue::segment::SegmentCodec;
use hr_gateway::queue::sequence_set::SequenceSet;
use hr_gateway::queue::{Absorbable, Appended, Counts, DeadLetter, QueueError, ReadingQueue};
use hr_gateway::reading::{GatewayId, Item, Observation};
use hr_gateway::wire::Envelope;

use crate::life::Life;
use crate::oracle::Oracle;
use crate::plant::Plant;
use crate::store::{Disk, Operation};

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
        self.0.disk().protect(in_hand);
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
