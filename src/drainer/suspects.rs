//! Batches that the sink refused because of something in them, on the way down to what that is. Pure.

use std::collections::VecDeque;

use super::batch::Record;

/// So many readings refused alone, and nothing accepted between them: the sink refuses everything.
const REFUSED_ALONE_MAX: u32 = 8;

#[derive(Debug)]
struct Suspect {
    records: Vec<Record>,
    /// The number of accepted calls when it was first refused.
    since: u64,
    /// A single reading that was refused alone; it waits for the sink to accept anything else.
    alone: bool,
}

/// What is still to be tried in parts.
#[derive(Debug, Default)]
pub struct Suspects {
    waiting: VecDeque<Suspect>,
    /// Readings refused alone since the last acceptance.
    refused_alone: u32,
    /// What waits to be sent is tried before the suspects.
    others_first: bool,
}

/// What else is on its way to the sink, and may yet be accepted.
#[derive(Debug, Clone, Copy)]
pub struct Others {
    /// Readings that wait to be sent.
    pub waiting_items: usize,
    /// Whether a call is in flight.
    pub in_flight: bool,
}

/// What a refusal comes to.
#[derive(Debug)]
pub enum Refusal {
    /// Its parts are tried one by one.
    Narrowed,
    /// This one reading is refused for good, while others are accepted.
    ForGood(Record),
    /// The sink refuses whatever it gets.
    OfEverything(Vec<Record>),
}

impl Suspects {
    /// The next part to try, and the number of accepted calls when its batch was first refused.
    pub fn next(&mut self, accepted_calls: u64) -> Option<(Vec<Record>, u64)> {
        if std::mem::take(&mut self.others_first) {
            return None;
        }
        let proven = |suspect: &Suspect| !suspect.alone || accepted_calls > suspect.since;
        let index = self.waiting.iter().position(proven)?;
        self.waiting.remove(index).map(|Suspect { records, since, .. }| (records, since))
    }

    /// `records`, first refused at `since`, were refused again.
    pub fn refused(
        &mut self,
        mut records: Vec<Record>,
        since: u64,
        accepted_calls: u64,
        others: Others,
        random: &mut fastrand::Rng,
    ) -> Refusal {
        let mut halves = if records.len() > 1 {
            let rest = records.split_off(records.len() / 2);
            [records, rest]
        } else if let Some((first, second)) = records[0].split() {
            [vec![first], vec![second]]
        } else if accepted_calls > since {
            return Refusal::ForGood(records.remove(0));
        } else {
            // Refused alone, but nothing else was accepted meanwhile: is it the reading or the sink?
            self.refused_alone += 1;
            let untried = others.waiting_items > 0
                || others.in_flight
                || self.waiting.iter().any(|suspect| !suspect.alone);
            if self.refused_alone >= REFUSED_ALONE_MAX || !untried {
                return Refusal::OfEverything(records);
            }
            self.waiting.push_back(Suspect { records, since, alone: true });
            self.look_elsewhere(others.waiting_items, random);
            return Refusal::Narrowed;
        };
        halves.rotate_left((self.refused_alone > 0 && random.bool()).into());
        for records in halves.into_iter().rev() {
            self.waiting.push_front(Suspect { records, since, alone: false });
        }
        Refusal::Narrowed
    }

    /// Chooses by chance which reading not yet tried alone comes next: a row of refused ones at the head of
    /// the queue must not hide for ever that the sink takes what is behind it.
    fn look_elsewhere(&mut self, waiting_items: usize, random: &mut fastrand::Rng) {
        let suspects = self.waiting.iter().enumerate().filter(|(_, suspect)| !suspect.alone);
        let records = suspects.flat_map(|(index, suspect)| suspect.records.iter().map(move |r| (index, r)));
        let untried: Vec<usize> =
            records.flat_map(|(index, r)| r.sequences.iter().map(move |_| index)).collect();
        let chosen = random.usize(..(untried.len() + waiting_items).max(1));
        match untried.get(chosen).and_then(|index| self.waiting.remove(*index)) {
            Some(suspect) => self.waiting.push_front(suspect),
            None => self.others_first = waiting_items > 0,
        }
    }

    /// The sink accepted something.
    pub fn note_accepted(&mut self) {
        self.refused_alone = 0;
    }

    /// Gives up all of them: their records.
    pub fn release(&mut self) -> impl Iterator<Item = Record> {
        (self.refused_alone, self.others_first) = (0, false);
        self.waiting.drain(..).flat_map(|suspect| suspect.records)
    }
}
