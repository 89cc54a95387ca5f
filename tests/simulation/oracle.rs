//! The judge. It knows the contract, what was sent, what was acknowledged and what the stream has; of the code
//! under test it believes nothing.
//!
//! Everything that got a place in the sequence has an id, and every id a fate: delivered (the stream has it),
//! queued, a dead letter, evicted and counted, or told of as missing. [`stream`](crate::stream) judges what
//! reaches the stream, [`gaps`](crate::gaps) the gap records, [`endings`](crate::endings) what crashes cost.

use std::collections::{BTreeMap, BTreeSet};

use hr_gateway::config::DrainOrder;
use hr_gateway::heart_rate::HeartRateMeasurement;
use hr_gateway::queue::model::ModelQueue;
use hr_gateway::queue::sequence_set::SequenceSet;
use hr_gateway::queue::{Appended, ReadingQueue};
use hr_gateway::reading::{Body, Content, Gap, GapReason, Item, Moment, Observation, SensorId, SensorState};

use crate::books::Books;
use crate::gaps::Heard;
use crate::history::SENSORS;
use crate::sensors::POISON;
use crate::stream::{Acceptance, Call};

/// Epoch and sequence.
pub type Id = (u64, u64);

/// A notification that is a measurement.
pub struct Sent {
    pub sensor: usize,
    pub at: Moment,
    /// Milliseconds since the history began, by a clock that is never wrong.
    pub true_ms: u64,
    pub measurement: HeartRateMeasurement,
    pub copies: u32,
    given: u32,
    pub acknowledged: u32,
}

/// What has an id.
pub struct Given {
    pub sensor: usize,
    pub taken: Moment,
    pub what: What,
    /// The operation that gave it.
    pub operation: u64,
    pub acknowledged: bool,
    pub evicted: bool,
    pub told_missing: bool,
}

pub enum What {
    /// By its number.
    Reading(usize),
    Gap(Gap),
    State(SensorState),
}

/// One boot of the machine.
pub struct Boot {
    pub id: u128,
    pub started_ms: u64,
    /// Its clock became right, and the queue was told so; perhaps it did not return.
    pub anchored: bool,
}

#[derive(Default)]
pub struct Oracle {
    violation: Option<String>,
    pub boots: Vec<Boot>,
    pub sent: Vec<Sent>,
    pub given: BTreeMap<Id, Given>,
    pub queued: BTreeMap<u64, Id>,
    pub dead: BTreeMap<u64, Id>,
    pub books: Books,
    pub books_at: Vec<Books>,
    pub calls: Vec<Call>,
    pub accepted: BTreeMap<Id, Acceptance>,
    /// What each sensor was last heard with, as this process knows.
    pub heard: [Heard; SENSORS.len()],
    pub epoch: u64,
    pub next: u64,
    /// Ids given by the append under way.
    pub giving: Vec<Id>,
    /// The first number sent to this process.
    pub process_from: usize,
    pub put_back: bool,
    /// What happened, how often: that the histories meet what they are made for.
    pub seen: BTreeMap<&'static str, u64>,
    /// Of everything that the stream took, in order.
    pub fingerprint: u64,
}

/// The index of a sensor.
pub fn sensor_index(sensor: &SensorId) -> usize {
    SENSORS.iter().position(|name| *name == sensor.as_str()).expect("no other sensor sends")
}

impl Oracle {
    /// What was found wrong first, if anything.
    pub fn verdict(&self) -> Result<(), String> {
        self.violation.clone().map_or(Ok(()), Err)
    }

    pub fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub fn violated(&mut self, what: impl FnOnce() -> String) {
        self.violation.get_or_insert_with(what);
    }

    /// The store was made.
    pub fn begun(&mut self, epoch: u64) {
        (self.epoch, self.next) = (epoch, 1);
        self.books_at = vec![Books::default()];
    }

    /// The number that the next measurement is sent with.
    pub fn next_number(&self) -> u16 {
        u16::try_from(self.sent.len()).expect("a history is short")
    }

    /// A measurement was handed to the process, so many times over.
    pub fn sent(&mut self, sensor: usize, at: Moment, measurement: HeartRateMeasurement, copies: u32) {
        let true_ms = self.true_ms(&at);
        self.sent.push(Sent { sensor, at, true_ms, measurement, copies, given: 0, acknowledged: 0 });
    }

    pub fn true_ms(&self, moment: &Moment) -> u64 {
        let boot = self.boots.iter().find(|boot| boot.id == moment.boot.0).expect("the machine was booted");
        boot.started_ms + moment.boottime_ms
    }

    pub fn note_books(&mut self, operation: u64) {
        self.books_at.resize(operation as usize + 1, self.books);
        self.books_at[operation as usize] = self.books;
    }

    /// An operation that changes no account.
    pub fn carried_on(&mut self, operation: u64) {
        self.note_books(operation);
    }

    /// An append was carried out, durable or not.
    pub fn appended(
        &mut self,
        operation: u64,
        observations: &[Observation],
        appended: &Appended,
        live: &ModelQueue,
    ) {
        if appended.evicted > 0 {
            self.saw("evicted");
            self.find_evicted(live);
        }
        let bodies = observations.iter().filter(|o| matches!(o.content, Content::Body(_))).count();
        let new = self.new_items(live, bodies);
        for observation in observations {
            let sensor = sensor_index(&observation.sensor);
            let Content::Body(body) = &observation.content else {
                self.books.0[sensor].malformed += 1;
                continue;
            };
            let is_there = new.iter().any(|item| item.sequence == self.next);
            self.give(operation, sensor, observation.taken, body, is_there);
        }
        self.take_reports(operation, new);
        self.note_books(operation);
    }

    /// Items above all that were given, ascending.
    fn new_items(&self, live: &ModelQueue, bodies: usize) -> Vec<Item> {
        let most = bodies + SENSORS.len();
        let newest = live.peek(DrainOrder::NewestFirst, &SequenceSet::default(), most);
        let newest = newest.expect("memory can be read").into_iter();
        let mut new: Vec<Item> = newest.take_while(|item| item.sequence >= self.next).collect();
        new.reverse();
        new
    }

    /// The gap records that the queue itself adds once it has room again.
    fn take_reports(&mut self, operation: u64, new: Vec<Item>) {
        for item in new.into_iter().filter(|item| item.sequence >= self.next).collect::<Vec<_>>() {
            let sensor = sensor_index(&item.sensor);
            let untold = std::mem::take(&mut self.books.0[sensor].untold);
            let tells = match &item.body {
                Body::Gap(gap) if gap.reason == GapReason::Evicted => gap.readings_lost,
                _ => 0,
            };
            if tells != untold || item.sequence != self.next {
                self.violated(|| format!("{untold} evicted without a word yet; a record tells {item:?}"));
            }
            self.give(operation, sensor, item.taken, &item.body, true);
            let id = (self.epoch, self.next - 1);
            if let Some(given) = self.given.get_mut(&id) {
                given.acknowledged = true;
            }
        }
    }

    fn give(&mut self, operation: u64, sensor: usize, taken: Moment, body: &Body, is_there: bool) {
        let id = (self.epoch, self.next);
        self.next += 1;
        let page = &mut self.books.0[sensor];
        let column = page.column(!body.is_reading());
        column.received += 1;
        match is_there {
            true => column.queued += 1,
            false => {
                column.evicted += 1;
                page.untold += 1;
            }
        }
        let what = match body {
            Body::Gap(gap) => What::Gap(gap.clone()),
            Body::State(state) => What::State(*state),
            Body::Gateway(_) => return self.violated(|| format!("{body:?} was never sent")),
            Body::Measurement(measurement) => {
                let number =
                    measurement.values.rr_intervals.first().map_or(usize::MAX, |rr| usize::from(rr.0));
                page.last = Some(number);
                match self.sent.get_mut(number) {
                    Some(sent) if sent.sensor == sensor && sent.given < sent.copies => sent.given += 1,
                    _ => self.violated(|| format!("{body:?} was never sent, or is taken in once too often")),
                }
                What::Reading(number)
            }
        };
        if is_there {
            self.queued.insert(id.1, id);
        }
        let (acknowledged, told_missing) = (false, false);
        let given = Given { sensor, taken, what, operation, acknowledged, evicted: !is_there, told_missing };
        if self.given.insert(id, given).is_some() {
            self.violated(|| format!("the id {id:?} was given twice"));
        }
        self.giving.push(id);
    }

    fn find_evicted(&mut self, live: &ModelQueue) {
        let there = live.peek(DrainOrder::OldestFirst, &SequenceSet::default(), usize::MAX);
        let there: BTreeSet<u64> =
            there.expect("memory can be read").into_iter().map(|item| item.sequence).collect();
        let gone: Vec<u64> = self.queued.keys().copied().filter(|n| !there.contains(n)).collect();
        for sequence in gone {
            let id = self.queued[&sequence];
            let (sensor, is_gap) = self.leaves(sequence).expect("it was among the queued");
            self.given.get_mut(&id).expect("it was given").evicted = true;
            self.books.0[sensor].column(is_gap).evicted += 1;
            self.books.0[sensor].untold += 1;
        }
    }

    /// Takes a queued item out of the books' queue.
    fn leaves(&mut self, sequence: u64) -> Option<(usize, bool)> {
        let id = self.queued.remove(&sequence)?;
        let given = &self.given[&id];
        let is_other = !matches!(given.what, What::Reading(_));
        self.books.0[given.sensor].column(is_other).queued -= 1;
        Some((given.sensor, is_other))
    }

    /// `append` returned to its caller.
    pub fn acknowledged(&mut self, observations: &[Observation]) {
        let bodies = observations.iter().filter(|o| matches!(o.content, Content::Body(_))).count();
        let giving = std::mem::take(&mut self.giving);
        let by_the_queue =
            |id: &&Id| matches!(&self.given[id].what, What::Gap(gap) if gap.reason == GapReason::Evicted);
        let taken = giving.iter().filter(|id| !by_the_queue(id)).count();
        if taken != bodies {
            self.violated(|| format!("an append of {bodies} returned and {taken} were taken in"));
        }
        for id in giving {
            let Some(given) = self.given.get_mut(&id) else { continue };
            given.acknowledged = true;
            if let What::Reading(number) = given.what
                && let Some(sent) = self.sent.get_mut(number)
            {
                sent.acknowledged += 1;
            }
        }
    }

    /// Items left the queue as delivered. Returns whether the queue added records of its own.
    pub fn removed(&mut self, operation: u64, sequences: &SequenceSet, live: &ModelQueue) -> bool {
        for sequence in sequences.ranges().flatten() {
            let id = self.queued.get(&sequence).copied();
            let Some((sensor, is_gap)) = self.leaves(sequence) else { continue };
            self.books.0[sensor].column(is_gap).delivered += 1;
            let id = id.expect("it was among the queued");
            if !self.accepted.contains_key(&id) {
                self.violated(|| format!("{id:?} was removed as delivered; the stream does not have it"));
            }
        }
        let new = self.new_items(live, 0);
        let reported = !new.is_empty();
        self.take_reports(operation, new);
        self.giving.clear();
        self.note_books(operation);
        reported
    }

    pub fn dead_lettered(&mut self, operation: u64, sequences: &SequenceSet) {
        for sequence in sequences.ranges().flatten() {
            let Some(id) = self.queued.get(&sequence).copied() else { continue };
            let (sensor, is_gap) = self.leaves(sequence).expect("it was among the queued");
            self.books.0[sensor].column(is_gap).dead += 1;
            self.dead.insert(sequence, id);
            self.saw("a dead letter");
            let is_poison = match self.given[&id].what {
                What::Reading(number) => self.sent[number].measurement.heart_rate == POISON,
                What::Gap(_) | What::State(_) => false,
            };
            if !is_poison {
                self.violated(|| format!("{id:?} was set aside; the stream refuses it not"));
            }
        }
        self.note_books(operation);
    }

    pub fn dead_letters_moved(&mut self, operation: u64, sequences: &SequenceSet, requeued: bool) -> u64 {
        let moved: Vec<u64> = self.dead.keys().copied().filter(|n| sequences.contains(*n)).collect();
        for sequence in &moved {
            let id = self.dead.remove(sequence).expect("the key was just there");
            let given = self.given.get_mut(&id).expect("it was given");
            let page = &mut self.books.0[given.sensor];
            let column = page.column(!matches!(given.what, What::Reading(_)));
            column.dead -= 1;
            if requeued {
                column.queued += 1;
                self.queued.insert(*sequence, id);
            } else {
                column.evicted += 1;
                page.untold += 1;
                given.evicted = true;
            }
        }
        self.note_books(operation);
        moved.len() as u64
    }
}
