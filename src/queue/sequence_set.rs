//! A set of sequences as sorted, disjoint ranges: a million consecutive ones cost one entry. Pure.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Sequences, kept as the fewest inclusive ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SequenceSet {
    ends_by_start: BTreeMap<u64, u64>,
}

impl SequenceSet {
    /// Adds one sequence.
    pub fn insert(&mut self, sequence: u64) {
        self.insert_range(sequence..=sequence);
    }

    /// Adds a range; an empty one adds nothing.
    pub fn insert_range(&mut self, range: RangeInclusive<u64>) {
        let (mut start, mut end) = range.into_inner();
        if start > end {
            return;
        }
        if let Some((&before, &before_end)) = self.ends_by_start.range(..=start).next_back()
            && before_end >= start.saturating_sub(1)
        {
            start = before;
            end = end.max(before_end);
        }
        while let Some((&next, &next_end)) = self.ends_by_start.range(start..=end.saturating_add(1)).next() {
            end = end.max(next_end);
            self.ends_by_start.remove(&next);
        }
        self.ends_by_start.insert(start, end);
    }

    /// Takes a range out.
    pub fn remove_range(&mut self, range: RangeInclusive<u64>) {
        let (start, end) = range.into_inner();
        if start > end {
            return;
        }
        if let Some((&before, &before_end)) = self.ends_by_start.range(..start).next_back()
            && before_end >= start
        {
            self.ends_by_start.insert(before, start - 1);
            if before_end > end {
                self.ends_by_start.insert(end + 1, before_end);
                return;
            }
        }
        while let Some((&next, &next_end)) = self.ends_by_start.range(start..=end).next() {
            self.ends_by_start.remove(&next);
            if next_end > end {
                self.ends_by_start.insert(end + 1, next_end);
            }
        }
    }

    /// Takes all of `other` out.
    pub fn remove_all(&mut self, other: &SequenceSet) {
        other.ranges().for_each(|range| self.remove_range(range));
    }

    /// Adds all of `other`.
    pub fn insert_all(&mut self, other: &SequenceSet) {
        other.ranges().for_each(|range| self.insert_range(range));
    }

    /// The range that holds `sequence`.
    pub fn range_around(&self, sequence: u64) -> Option<RangeInclusive<u64>> {
        let (&start, &end) = self.ends_by_start.range(..=sequence).next_back()?;
        (end >= sequence).then_some(start..=end)
    }

    /// Whether `sequence` is in the set.
    pub fn contains(&self, sequence: u64) -> bool {
        self.range_around(sequence).is_some()
    }

    /// The smallest member that is at least `sequence`.
    pub fn first_at_or_after(&self, sequence: u64) -> Option<u64> {
        if self.contains(sequence) {
            return Some(sequence);
        }
        self.ends_by_start.range(sequence..).next().map(|(&start, _)| start)
    }

    /// The smallest sequence from `sequence` on that is not a member.
    pub fn first_absent_from(&self, sequence: u64) -> Option<u64> {
        match self.range_around(sequence) {
            Some(range) => range.end().checked_add(1),
            None => Some(sequence),
        }
    }

    /// The largest sequence up to `sequence` that is not a member.
    pub fn last_absent_until(&self, sequence: u64) -> Option<u64> {
        match self.range_around(sequence) {
            Some(range) => range.start().checked_sub(1),
            None => Some(sequence),
        }
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> impl DoubleEndedIterator<Item = RangeInclusive<u64>> {
        self.ends_by_start.iter().map(|(&start, &end)| start..=end)
    }

    /// How many sequences it holds.
    pub fn count(&self) -> u64 {
        self.ranges().map(|range| range.end() - range.start() + 1).sum()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.ends_by_start.is_empty()
    }
}

impl FromIterator<u64> for SequenceSet {
    fn from_iter<I: IntoIterator<Item = u64>>(sequences: I) -> Self {
        let mut set = Self::default();
        set.extend(sequences);
        set
    }
}

/// Runs of consecutive sequences, which is how they come, cost one insertion each.
impl Extend<u64> for SequenceSet {
    fn extend<I: IntoIterator<Item = u64>>(&mut self, sequences: I) {
        let mut sequences = sequences.into_iter();
        let Some(first) = sequences.next() else { return };
        let (mut start, mut end) = (first, first);
        for sequence in sequences {
            if end.checked_add(1) != Some(sequence) {
                self.insert_range(start..=end);
                start = sequence;
            }
            end = sequence;
        }
        self.insert_range(start..=end);
    }
}
