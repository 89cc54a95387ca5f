//! A disk in memory that forgets what was not synced and can be put back.
//!
//! The state machine is the model queue; the rules of opening are the real ones. What was applied since the
//! last sync is kept as a list of operations: a crash keeps a beginning of it. A torn operation is one that is
//! not there, since each is one atomic batch.

use hr_gateway::clock::Anchor;
use hr_gateway::queue::model::ModelQueue;
use hr_gateway::queue::sequence_set::SequenceSet;
use hr_gateway::queue::witness::{Finding, Found, SYNC_STEP};
use hr_gateway::queue::{Appended, ReadingQueue};
use hr_gateway::reading::{Epoch, GatewayId, Observation};

use crate::history::{DiskIs, How, WitnessIs};
use crate::plant::Plant;

/// What changes the store, in one atomic batch.
pub enum Operation {
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
    /// The opening before this one did not come to the witness.
    pub is_second_try: bool,
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
    /// An opening has begun and has not come to the witness.
    opening: bool,
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
            opening: false,
        }
    }

    pub fn apply(&mut self, operation: Operation) -> Appended {
        self.operation += 1;
        let appended = operation.apply(&self.live);
        self.unsynced.push((self.operation, operation));
        appended
    }

    pub fn sync(&mut self) {
        self.unsynced.drain(..).for_each(|(_, operation)| _ = operation.apply(&self.durable));
        self.durable_operation = self.operation;
        self.note();
        self.syncs += 1;
        if self.syncs.is_multiple_of(8) {
            self.save();
        }
    }

    /// What is evicted last from now on; no operation of its own.
    pub fn protect(&mut self, in_hand: SequenceSet) {
        self.live.protect(in_hand.clone());
        self.unsynced.push((self.operation, Operation::Protect(in_hand)));
    }

    /// As the real queue tells its witness.
    pub fn note(&mut self) {
        let mut mark = self.live.mark();
        mark.durable_before = self.durable.mark().durable_before;
        mark.settled_before = mark.settled_before.min(mark.durable_before);
        self.witness.push(Found::Mark(mark));
        if matches!(self.witness[0], Found::Mark(synced) if mark.durable_before - synced.durable_before >= SYNC_STEP)
        {
            self.witness = vec![Found::Mark(mark)];
        }
    }

    pub fn close(&mut self) {
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
            DiskIs::Back { states, witness } | DiskIs::WitnessOnly { states, witness } => (states, witness),
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
        if let (Some(saved), DiskIs::Back { .. }) = (back, disk) {
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
            // What is said is true, and the ids go on as they were.
            Some(Plant::NoNewEpoch) if !is_new => self.live.clone().begin_origin(&witness, epoch, gateway),
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
        let is_second_try = std::mem::replace(&mut self.opening, true);
        Reopened { finding, operation, witness, is_second_try }
    }

    /// The opening comes to the witness.
    pub fn begin_witness(&mut self) {
        self.opening = false;
        self.witness = vec![Found::Mark(self.live.mark())];
        self.save();
    }
}
