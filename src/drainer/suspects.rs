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
        let proven = |suspect: &Suspect| !suspect.alone || accepted_calls > suspect.since;
        let index = self.waiting.iter().position(proven)?;
        self.waiting.remove(index).map(|Suspect { records, since, .. }| (records, since))
    }

    /// `records`, first refused at `since`, were refused again. `others` says that something else is
    /// waiting or under way, which may yet be accepted.
    pub fn refused(
        &mut self,
        mut records: Vec<Record>,
        since: u64,
        accepted_calls: u64,
        others: bool,
    ) -> Refusal {
        let halves = if records.len() > 1 {
            let rest = records.split_off(records.len() / 2);
            [records, rest]
        } else if let Some((first, second)) = records[0].split() {
            [vec![first], vec![second]]
        } else if accepted_calls > since {
            return Refusal::ForGood(records.remove(0));
        } else {
            // Refused alone, but nothing else was accepted meanwhile: is it the reading or the sink?
            self.refused_alone += 1;
            let untried = others || self.waiting.iter().any(|suspect| !suspect.alone);
            if self.refused_alone >= REFUSED_ALONE_MAX || !untried {
                return Refusal::OfEverything(records);
            }
            self.waiting.push_back(Suspect { records, since, alone: true });
            return Refusal::Narrowed;
        };
        for records in halves.into_iter().rev() {
            self.waiting.push_front(Suspect { records, since, alone: false });
        }
        Refusal::Narrowed
    }

    /// The sink accepted something.
    pub fn note_accepted(&mut self) {
        self.refused_alone = 0;
    }

    /// Gives up all of them: their records.
    pub fn release(&mut self) -> impl Iterator<Item = Record> {
        self.refused_alone = 0;
        self.waiting.drain(..).flat_map(|suspect| suspect.records)
    }
}
