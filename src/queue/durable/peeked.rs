//! What is in segments that the drainer looked at: they leave the queue without being read again.

use std::collections::BTreeMap;

use crate::queue::sequence_set::SequenceSet;
use crate::reading::{Item, SensorId};

/// More than the drainer has in hand; what is forgotten is read again.
const SEGMENTS_MAX: usize = 512;

/// Segments by their first sequence.
#[derive(Default)]
pub(super) struct Peeked(BTreeMap<u64, Summary>);

/// What is in one.
pub(super) struct Summary {
    last: u64,
    pub(super) counts: Vec<Count>,
}

/// Items of one sensor and one account.
pub(super) struct Count {
    pub(super) sensor: SensorId,
    pub(super) is_reading: bool,
    pub(super) items: u64,
}

impl Peeked {
    /// The segment at `first` holds `items`.
    pub(super) fn note(&mut self, first: u64, items: &[Item]) {
        let Some(last) = items.last() else { return };
        let mut counts: Vec<Count> = Vec::new();
        for item in items {
            let is_reading = item.body.is_reading();
            let of = |count: &&mut Count| count.is_reading == is_reading && count.sensor == item.sensor;
            match counts.iter_mut().find(of) {
                Some(count) => count.items += 1,
                None => counts.push(Count { sensor: item.sensor.clone(), is_reading, items: 1 }),
            }
        }
        if self.0.len() == SEGMENTS_MAX {
            self.0.clear();
        }
        self.0.insert(first, Summary { last: last.sequence, counts });
    }

    /// The segment at `first` is another, or none, from now on.
    pub(super) fn forget(&mut self, first: u64) {
        self.0.remove(&first);
    }

    /// The last sequence of the segment at `first`, if `sequences` has all that is in it.
    pub(super) fn is_covered(&self, first: u64, sequences: &SequenceSet) -> Option<u64> {
        let last = self.0.get(&first)?.last;
        sequences.range_around(first).filter(|range| *range.end() >= last).map(|_| last)
    }

    /// Whether `sequences` are all that is in some segments.
    pub(super) fn cover(&self, sequences: &SequenceSet) -> bool {
        let mut next = sequences.first_at_or_after(0);
        while let Some(first) = next {
            let Some(last) = self.is_covered(first, sequences) else { return false };
            next = last.checked_add(1).and_then(|after| sequences.first_at_or_after(after));
        }
        true
    }

    /// What is in the segment at `first`, which leaves.
    pub(super) fn take(&mut self, first: u64) -> Option<Summary> {
        self.0.remove(&first)
    }
}
