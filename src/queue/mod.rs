//! The queue on disk: its contract, [`ReadingQueue`], and the two that keep it.
//!
//! What must hold, through a crash or a power cut at any moment:
//!
//! 1. What [`append`](ReadingQueue::append) returned for is there after any restart.
//! 2. An item leaves only by `remove` (delivered), `dead_letter`, eviction, or an operator's hand.
//! 3. Sequences have no holes, and no id is given twice, whatever state the disk was put back to: each
//!    opening begins a new [`Origin`](crate::reading::Origin). A store that went back in time is told
//!    apart by its [`witness`].
//! 4. The [`ledger`] changes in the same atomic batch as the items it counts, so it balances always.
//!
//! A removal may be undone by a crash: the item is then delivered again under the same `reading_id`.
//!
//! Calls of a queue block for as long as its disk does. So tasks never hold one: they hold a
//! [`handle::Handle`], whose thread owns the queue.
//!
//! What can be read of a damaged store is a [`rescued::Rescued`] queue, which is only looked at.
//!
//! [`durable::DurableQueue`] keeps the contract on disk, [`model::ModelQueue`] in memory and in the
//! plainest way; `tests/queue/contract.rs` holds both to it.

pub mod capacity;
pub mod durable;
pub mod folder;
pub mod handle;
pub mod ledger;
pub mod model;
pub mod rescued;
mod reserve;
pub mod salvage;
pub mod segment;
pub mod sequence_set;
mod sled;
pub mod witness;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::clock::Anchor;
use crate::config::DrainOrder;
use crate::reading::{GatewayId, Item, Observation, Origins, SensorId};
use crate::wire::Envelope;
use capacity::Capacity;
use ledger::Ledger;
use segment::{SegmentCodec, SegmentError};
use sequence_set::SequenceSet;

/// The contract. All calls block; a task makes them through a [`handle::Handle`].
pub trait ReadingQueue: Send + Sync {
    /// What the lines of its items need beside them.
    fn envelope(&self) -> Envelope;

    /// Gives each observation a sequence and stores it. **Durable on return**: a power cut may follow
    /// at once. Makes room as the capacity's policy says, and reports what that cost.
    fn append(&self, observations: &[Observation]) -> Result<Appended, QueueError>;

    /// Up to `items_max` items that are not `claimed`, in `order`. Takes nothing out.
    fn peek(
        &self,
        order: DrainOrder,
        claimed: &SequenceSet,
        items_max: usize,
    ) -> Result<Vec<Item>, QueueError>;

    /// Takes out what was accepted and counts it as delivered; sequences that are no longer queued are
    /// passed over. Not durable on return: a crash may bring items back, never lose others.
    fn remove(&self, accepted: &SequenceSet) -> Result<(), QueueError>;

    /// Moves items aside that the sink refuses for good. Durable as [`remove`](Self::remove) is.
    fn dead_letter(&self, refused: &SequenceSet, reason: &str) -> Result<(), QueueError>;

    /// Up to `items_max` dead letters from sequence `from` on, ascending.
    fn dead_letters(&self, from: u64, items_max: usize) -> Result<Vec<DeadLetter>, QueueError>;

    /// Puts dead letters back into the queue; returns how many. **Durable on return.**
    fn requeue(&self, sequences: &SequenceSet) -> Result<u64, QueueError>;

    /// Discards dead letters for good, counted as evicted; returns how many. **Durable on return.**
    fn drop_dead_letters(&self, sequences: &SequenceSet) -> Result<u64, QueueError>;

    /// Whether all that is stored can be read with `codec`: an error if something only opens with the key in
    /// use. Takes as long as reading everything does.
    fn opens_with(&self, codec: &SegmentCodec) -> Result<(), QueueError>;

    /// Goes on with other bounds, another key, or under another name. **Durable on return.** An error, and no
    /// change, if something stored does not [open](Self::opens_with) with the key.
    fn reconfigure(
        &self,
        capacity: Capacity,
        codec: SegmentCodec,
        gateway: &GatewayId,
    ) -> Result<(), QueueError>;

    /// Takes back what another store kept, as far as it is known to be missing here; returns how many items.
    /// **Durable on return.** In steps of a segment, each of which balances.
    fn absorb(&self, other: &Absorbable) -> Result<u64, QueueError>;

    /// The ledger as it is now.
    fn ledger(&self) -> Ledger;

    /// Items in the queue, gap records included.
    fn depth(&self) -> u64;

    /// Sequences that are known to be missing: a store that went back in time had them.
    fn missing(&self) -> SequenceSet;

    /// What is on its way to the sink: evicted only if nothing else is left to evict.
    fn protect(&self, in_hand: SequenceSet);

    /// Begins a walk through the queue, instead of one that was not ended.
    fn begin_audit(&self);

    /// Goes on with the walk, for some milliseconds. At its end returns how many items are there, and the
    /// ledger of the same moment, which must say as many are `queued`.
    fn step_audit(&self) -> Result<Option<(Ledger, Counts)>, QueueError>;

    /// Keeps the anchor of a boot. **Durable on return.**
    fn add_anchor(&self, anchor: Anchor) -> Result<(), QueueError>;

    /// Writes what waits for the next append, as nothing else goes on. Not durable by that.
    fn write_deferred(&self) -> Result<(), QueueError> {
        Ok(())
    }

    /// Makes all that was done so far durable.
    fn sync(&self) -> Result<(), QueueError>;

    /// [`sync`](Self::sync), and notes that the queue was closed in good order.
    fn close(&self) -> Result<(), QueueError>;
}

/// A whole walk: see [`ReadingQueue::step_audit`].
pub fn audit(queue: &dyn ReadingQueue) -> Result<(Ledger, Counts), QueueError> {
    queue.begin_audit();
    loop {
        if let Some(counted) = queue.step_audit()? {
            return Ok(counted);
        }
    }
}

/// What an append came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Appended {
    /// Items now in the queue because of it.
    pub queued: u64,
    /// Items that gave way: old ones under `drop-oldest`, new ones under `drop-newest`.
    pub evicted: u64,
    /// Whether there is too little room, by count or on the disk, to call the queue recovered.
    pub is_full: bool,
    /// Whether the disk has less free than its headroom.
    pub disk_low: bool,
    /// Sessions that began: the sensor, and the sequence that names the session.
    pub sessions_begun: Vec<(SensorId, u64)>,
}

/// Items in the queue by sensor: readings, gap records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts(pub BTreeMap<SensorId, (u64, u64)>);

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, item: &Item) {
        *self.of(item) += 1;
    }

    /// Counts one less, that was counted before.
    pub fn take(&mut self, item: &Item) {
        let count = self.of(item);
        *count = count.checked_sub(1).expect("an item is taken out that was counted");
        if self.0[&item.sensor] == (0, 0) {
            self.0.remove(&item.sensor);
        }
    }

    fn of(&mut self, item: &Item) -> &mut u64 {
        let (readings, other_records) = self.0.entry(item.sensor.clone()).or_default();
        if item.body.is_reading() { readings } else { other_records }
    }

    /// Whether `ledger` says the same.
    pub fn agree_with(&self, ledger: &Ledger) -> bool {
        let sensors = self.0.keys().chain(ledger.rows.keys());
        sensors.into_iter().all(|sensor| {
            let counted = self.0.get(sensor).copied().unwrap_or_default();
            let row = ledger.rows.get(sensor);
            counted == row.map_or((0, 0), |row| (row.readings.queued, row.other_records.queued))
        })
    }
}

/// Items and dead letters of another store: see [`ReadingQueue::absorb`].
#[derive(Debug, Clone)]
pub struct Absorbable {
    /// Whose they are there.
    pub origins: Origins,
    /// Queued there, ascending.
    pub items: Vec<Item>,
    /// Refused for good there.
    pub letters: Vec<DeadLetter>,
}

/// An item that the sink refused for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The item.
    pub item: Item,
    /// The sink's words.
    pub reason: String,
}

/// Ledger and store as `queue status` shows them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The store's epoch, as it stands in every `reading_id`.
    pub epoch: String,
    /// By sensor.
    pub sensors: Vec<SensorStatus>,
    /// The sum.
    pub totals: ledger::Totals,
    /// Whether every account balances and a walk of the queue agrees with what is `queued`.
    pub balances: bool,
    /// How many readings and gap records are known to be missing: the store had them, and went back in time.
    #[serde(default)]
    pub missing: u64,
    /// Their sequences, as ranges.
    #[serde(default)]
    pub missing_sequences: Vec<(u64, u64)>,
}

/// One sensor in [`Status`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SensorStatus {
    /// Its name.
    pub sensor: SensorId,
    /// Its readings.
    pub readings: ledger::Account,
    /// Its gap records.
    pub other_records: ledger::Account,
    /// Notifications of its that could not be understood.
    pub malformed: u64,
}

/// Reads ledger and queue, and compares them.
pub fn status(queue: &dyn ReadingQueue) -> Result<Status, QueueError> {
    let (ledger, counts) = audit(queue)?;
    Ok(Status::new(ledger, &counts, &queue.envelope(), &queue.missing()))
}

impl Status {
    /// What an audit, and what the queue says of itself, come to.
    pub fn new(ledger: Ledger, counts: &Counts, envelope: &Envelope, missing: &SequenceSet) -> Self {
        let balances = ledger.balances() && counts.agree_with(&ledger);
        let totals = ledger.totals();
        let sensors = ledger.rows.into_iter().map(|(sensor, row)| SensorStatus {
            sensor,
            readings: row.readings,
            other_records: row.other_records,
            malformed: row.malformed,
        });
        Self {
            epoch: envelope.origins.newest().epoch.to_string(),
            sensors: sensors.collect(),
            totals,
            balances,
            missing: missing.count(),
            missing_sequences: missing.ranges().map(std::ops::RangeInclusive::into_inner).collect(),
        }
    }
}

/// Why the queue cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The file system or the store beneath refused. Stop, look at the disk, start again.
    #[error("the queue could not {operation}")]
    Storage {
        /// What was being done.
        operation: &'static str,
        /// The store's words.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something stored cannot be read; the store is set aside at the next start.
    #[error("the segment at sequence {sequence} of the queue cannot be read")]
    Segment {
        /// Its first sequence.
        sequence: u64,
        /// Why.
        #[source]
        source: SegmentError,
    },
    /// Another process has the store open.
    #[error("the queue at {} is open in another process: use the running daemon's, or stop it", .0.display())]
    InUse(PathBuf),
    /// Made by a later version of this program; nothing was touched.
    #[error(
        "the queue has format {found}, newer than this program's {known}: install the later version again"
    )]
    Newer {
        /// The store's.
        found: u8,
        /// The newest this program knows.
        known: u8,
    },
    /// So damaged that nothing of it can be known.
    #[error("nothing can be read of the damaged store at {}: {why}", .folder.display())]
    Unreadable {
        /// Where it is.
        folder: PathBuf,
        /// What is lacking.
        why: &'static str,
    },
    /// What is to be taken back would not fit.
    #[error(
        "there is no room for what is to be taken back: make room on the disk, or raise queue.items_max; \
         what was not taken back yet stays where it is"
    )]
    NoRoom,
    /// It was opened to look at it.
    #[error("the queue was opened for reading only")]
    ReadOnly,
    /// An earlier call failed; nothing more is written until the store is opened anew.
    #[error("the queue failed before and takes nothing until it is opened again")]
    Failed,
}

impl QueueError {
    /// Whether somebody must change the configuration or the installation before a restart helps.
    pub fn needs_configuration(&self) -> bool {
        match self {
            Self::Newer { .. } => true,
            Self::Segment { source, .. } => {
                matches!(source, SegmentError::KeyMissing | SegmentError::KeyWrong | SegmentError::Newer(_))
            }
            Self::Storage { .. }
            | Self::Unreadable { .. }
            | Self::InUse(_)
            | Self::NoRoom
            | Self::ReadOnly
            | Self::Failed => false,
        }
    }
}
