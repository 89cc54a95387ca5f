//! The ledger: received = delivered + queued + dead-lettered + evicted, per sensor, at every moment.
//! Pure.
//!
//! A [`Row`] is stored in the same atomic batch as the items it counts. Every movement below takes
//! from one column and adds to another, so no order of calls can unbalance a row; what could is a
//! store that lost items without their counts, which [`Row::queued`] against a walk of the queue
//! shows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::reading::{Body, BootId, Moment, SensorId};

/// One account: readings, or all other records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Taken in: `append` returned for them.
    pub received: u64,
    /// The sink accepted them.
    pub delivered: u64,
    /// Waiting to be delivered.
    pub queued: u64,
    /// Refused for good, kept aside.
    pub dead_lettered: u64,
    /// Made room for others, were not let in, or were dropped by hand.
    pub evicted: u64,
}

impl Account {
    /// Whether everything that was received is somewhere.
    pub fn balances(&self) -> bool {
        self.received == self.delivered + self.queued + self.dead_lettered + self.evicted
    }

    fn add(&mut self, other: &Account) {
        self.received += other.received;
        self.delivered += other.delivered;
        self.queued += other.queued;
        self.dead_lettered += other.dead_lettered;
        self.evicted += other.evicted;
    }
}

/// Where an item goes when it leaves the place it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Movement {
    /// Queue → sink.
    Deliver,
    /// Queue → dead letters.
    DeadLetter,
    /// Queue → nowhere.
    Evict,
    /// Dead letters → queue.
    Requeue,
    /// Dead letters → nowhere.
    DropDeadLetter,
}

impl Account {
    /// Moves so many items.
    pub fn apply(&mut self, movement: Movement, items: u64) {
        let (from, to) = match movement {
            Movement::Deliver => (&mut self.queued, &mut self.delivered),
            Movement::DeadLetter => (&mut self.queued, &mut self.dead_lettered),
            Movement::Evict => (&mut self.queued, &mut self.evicted),
            Movement::Requeue => (&mut self.dead_lettered, &mut self.queued),
            Movement::DropDeadLetter => (&mut self.dead_lettered, &mut self.evicted),
        };
        *from = from.checked_sub(items).expect("an item is counted where it is");
        *to += items;
    }
}

/// What the store keeps of one sensor beside its items.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its readings.
    pub readings: Account,
    /// Its gap and state records.
    pub other_records: Account,
    /// Notifications that could not be understood.
    pub malformed: u64,
    /// The current session: the sequence of its first item.
    pub session: u64,
    /// When the last reading was taken.
    pub last: Option<StoredMoment>,
    /// An eviction that no gap record tells of yet.
    pub evicting: Option<Evicting>,
}

/// A [`Moment`] as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMoment {
    boot: BootId,
    boottime_ms: u64,
    wall_ms: i64,
    synchronized: bool,
}

impl StoredMoment {
    /// Of two boots the wall clock tells, where it was right in both; where nobody can say, it is not.
    fn is_before(&self, other: &Self) -> bool {
        match self.boot == other.boot {
            true => self.boottime_ms < other.boottime_ms,
            false => self.synchronized && other.synchronized && self.wall_ms < other.wall_ms,
        }
    }
}

impl From<Moment> for StoredMoment {
    fn from(moment: Moment) -> Self {
        let Moment { boot, boottime_ms, wall_ms, synchronized } = moment;
        Self { boot, boottime_ms, wall_ms, synchronized }
    }
}

impl From<StoredMoment> for Moment {
    fn from(stored: StoredMoment) -> Self {
        let StoredMoment { boot, boottime_ms, wall_ms, synchronized } = stored;
        Self { boot, boottime_ms, wall_ms, synchronized }
    }
}

/// An episode of evictions that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evicting {
    /// When the earliest item that was lost had been taken.
    pub first: StoredMoment,
    /// When the latest had.
    pub last: StoredMoment,
    /// How many were lost.
    pub count: u64,
}

impl Row {
    /// Counts the loss of an item taken at `taken` towards the episode's gap record.
    pub fn note_eviction(&mut self, taken: Moment) {
        let taken = StoredMoment::from(taken);
        match &mut self.evicting {
            Some(episode) => {
                // What gives way does not always do so in the order in which it was taken.
                if taken.is_before(&episode.first) {
                    episode.first = taken;
                }
                if !taken.is_before(&episode.last) {
                    episode.last = taken;
                }
                episode.count += 1;
            }
            None => self.evicting = Some(Evicting { first: taken, last: taken, count: 1 }),
        }
    }

    /// The account that items of this kind belong to.
    pub fn account(&mut self, body: &Body) -> &mut Account {
        self.account_of(body.is_reading())
    }

    /// That of readings, or of all else.
    pub fn account_of(&mut self, readings: bool) -> &mut Account {
        if readings { &mut self.readings } else { &mut self.other_records }
    }

    /// Items of this sensor in the queue.
    pub fn queued(&self) -> u64 {
        self.readings.queued + self.other_records.queued
    }
}

/// All sensors' rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// By sensor.
    pub rows: BTreeMap<SensorId, Row>,
}

/// The sum over all sensors, as `demo` and `queue status` print it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Readings.
    #[serde(flatten)]
    pub readings: Account,
    /// Notifications that could not be understood.
    pub malformed: u64,
    /// Gap records, accounted for in the same way.
    pub other_records: Account,
}

impl Ledger {
    /// Sums up.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for row in self.rows.values() {
            totals.readings.add(&row.readings);
            totals.other_records.add(&row.other_records);
            totals.malformed += row.malformed;
        }
        totals
    }

    /// Items in the queue, gap records included.
    pub fn depth(&self) -> u64 {
        self.rows.values().map(Row::queued).sum()
    }

    /// Whether every account of every sensor balances.
    pub fn balances(&self) -> bool {
        self.rows.values().all(|row| row.readings.balances() && row.other_records.balances())
    }
}
