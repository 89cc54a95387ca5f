//! The judge of endings: what a stop, a crash or a disk put back may cost, and what must be said of it.

use std::collections::BTreeSet;

use hr_gateway::config::DrainOrder;
use hr_gateway::queue::ReadingQueue;
use hr_gateway::queue::model::ModelQueue;
use hr_gateway::queue::sequence_set::SequenceSet;
use hr_gateway::queue::witness::{Finding, Found};

use crate::gaps::Heard;
use crate::history::{DiskIs, How, WitnessIs};
use crate::oracle::{Given, Id, Oracle};
use crate::store::Reopened;

impl Oracle {
    /// A process stopped in good order.
    pub fn stopped(&mut self) {
        let from = self.process_from;
        if let Some((n, _)) = self.sent.iter().enumerate().skip(from).find(|(_, s)| s.acknowledged < s.copies)
        {
            self.violated(|| format!("a stop in good order lost number {n}, which had been handed in"));
        }
        if self.calls.iter().any(|call| call.is_open) {
            self.violated(|| "a stop in good order left a call without hearing its answer".to_owned());
        }
    }

    /// A store was opened; `operation` is the opening's.
    pub fn reopened(&mut self, live: &ModelQueue, opened: &Reopened, operation: u64, how: How, disk: DiskIs) {
        self.saw(match how {
            How::Stop => "a stop in good order",
            How::Kill => "a kill",
            How::PowerCut => "a power cut",
        });
        self.saw(match opened.finding {
            Finding::Sound => "found sound",
            Finding::WentBack(_) => "found gone back",
            Finding::NoWitness => "found without a witness",
            Finding::OldWitness => "found with an old witness",
        });
        let is_orderly = how == How::Stop && disk == DiskIs::Kept;
        self.calls.iter_mut().filter(|call| call.is_open).for_each(|call| call.is_ambiguous = !is_orderly);
        self.calls.iter_mut().for_each(|call| call.is_open = false);
        self.giving.clear();
        self.process_from = self.sent.len();
        self.books = self.books_at[opened.operation as usize];
        self.note_books(operation);

        let before: Vec<Id> = self.queued.values().chain(self.dead.values()).copied().collect();
        self.queued.clear();
        self.dead.clear();
        let envelope = live.envelope();
        let id_of = |sequence: u64| (envelope.origins.of(sequence).epoch.0, sequence);
        let items = live.peek(DrainOrder::OldestFirst, &SequenceSet::default(), usize::MAX);
        let letters = live.dead_letters(0, usize::MAX).expect("memory can be read");
        self.queued =
            items.expect("memory can be read").iter().map(|i| (i.sequence, id_of(i.sequence))).collect();
        self.dead = letters.iter().map(|l| (l.item.sequence, id_of(l.item.sequence))).collect();
        let mut undone = false;
        for id in self.queued.values().chain(self.dead.values()).copied().collect::<Vec<_>>() {
            match self.given.get_mut(&id) {
                Some(given) => given.evicted = false,
                None => self.violated(|| format!("{id:?} is in the store and was never given")),
            }
            if let Some(acceptance) = self.accepted.get_mut(&id)
                && !is_orderly
            {
                // Its removal did not last.
                acceptance.may_come_again = true;
                undone = true;
            }
        }
        if undone {
            self.saw("a removal undone");
        }
        (self.epoch, self.next) = (envelope.origins.newest().epoch.0, live.mark().durable_before);
        self.heard = self.books.0.map(|page| Heard { last: page.last, ..Heard::default() });
        for id in before {
            let is_there = self.queued.get(&id.1) == Some(&id) || self.dead.get(&id.1) == Some(&id);
            if !is_there && self.given[&id].acknowledged && !self.accepted.contains_key(&id) {
                self.judge_loss(id, opened, disk);
            }
        }
        self.judge_finding(opened, disk);
        self.put_back |= matches!(disk, DiskIs::Back { .. } | DiskIs::Erased { .. });
    }

    /// Whether something was found that is not so.
    fn judge_finding(&mut self, opened: &Reopened, disk: DiskIs) {
        let finding = opened.finding;
        let has_mark = matches!(opened.witness, Found::Mark(_));
        let is_wrong = match finding {
            // Of a second try, what the first one was judged for.
            _ if opened.is_second_try => false,
            Finding::Sound => !has_mark && !matches!(disk, DiskIs::Erased { .. }),
            Finding::NoWitness => has_mark,
            Finding::OldWitness => disk == DiskIs::Kept,
            Finding::WentBack(back) => {
                // A disk that had gone back unseen has the same sequences under another epoch.
                let kept = self.queued.range(back.first_missing..).next().filter(|_| !self.put_back);
                disk == DiskIs::Kept || kept.is_some_and(|(sequence, _)| *sequence <= back.last)
            }
        };
        if is_wrong {
            self.violated(|| format!("{disk:?} with {:?} was found to be {finding:?}", opened.witness));
        }
    }

    /// An acknowledged item is no longer there.
    fn judge_loss(&mut self, id: Id, opened: &Reopened, disk: DiskIs) {
        let witness = match disk {
            DiskIs::Kept | DiskIs::WitnessOnly { .. } => {
                return self.violated(|| format!("{id:?} was acknowledged, and a crash took it away"));
            }
            DiskIs::Back { witness, .. } | DiskIs::Erased { witness } => witness,
        };
        let is_told = match opened.finding {
            Finding::WentBack(back) => {
                let was_dead =
                    matches!(opened.witness, Found::Mark(mark) if mark.dead.sequences().contains(id.1));
                was_dead || (back.first_missing..=back.last).contains(&id.1)
            }
            Finding::NoWitness | Finding::OldWitness => true,
            Finding::Sound => false,
        };
        let was_noted = matches!(opened.witness, Found::Mark(mark) if id.1 < mark.durable_before);
        // Nothing can know of it: the witness went back too, is gone with the store, or lags after a power cut.
        let is_unknowable = witness == WitnessIs::Back
            || !was_noted && matches!(opened.witness, Found::Mark(_))
            || matches!((disk, witness), (DiskIs::Erased { .. }, WitnessIs::Gone))
            || self.put_back && opened.finding != Finding::Sound;
        if !is_told && !is_unknowable {
            self.violated(|| format!("{id:?} went away with the store: {:?}, not a word", opened.finding));
        }
        self.saw(if is_told { "lost with the disk, and told" } else { "lost with the disk, unknowable" });
        self.given.get_mut(&id).expect("it was given").told_missing = true;
    }

    /// The end: everything was drained, and every id has its fate.
    pub fn judge_all(&mut self) -> Result<(), String> {
        let has_fate = |(id, given): &(&Id, &Given)| {
            let is_kept = self.queued.get(&id.1) == Some(id) || self.dead.get(&id.1) == Some(id);
            self.accepted.contains_key(id) || is_kept || given.evicted || given.told_missing
        };
        let lost = self.given.iter().find(|entry| entry.1.acknowledged && !has_fate(entry));
        if let Some((id, _)) = lost {
            let id = *id;
            self.violated(|| format!("{id:?} was acknowledged and is nowhere"));
        }
        let untold = self.books.0.iter().any(|page| page.untold > 0);
        if untold {
            self.violated(|| "evictions that no gap record tells of".to_owned());
        }
        if !self.put_back {
            let ends = |(id, given): &(&Id, &Given)| {
                given.evicted || self.accepted.contains_key(id) || self.dead.contains_key(&id.1)
            };
            let explained: BTreeSet<u64> = self.given.iter().filter(ends).map(|(id, _)| id.1).collect();
            let hole = (1..self.next).find(|n| !explained.contains(n) && !self.queued.contains_key(n));
            if let Some(sequence) = hole {
                self.violated(|| format!("the sequence has a hole at {sequence}"));
            }
        }
        self.verdict()
    }
}
