//! A set of sequences as sorted, disjoint ranges: a million consecutive ones cost one entry. Pure.

use std::ops::RangeInclusive;

/// Sequences, kept as the fewest inclusive ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SequenceSet {
    /// First and last, ascending; between two of them something is absent.
    ranges: Vec<(u64, u64)>,
}

impl SequenceSet {
    /// Adds one sequence.
    pub fn insert(&mut self, sequence: u64) {
        self.insert_range(sequence..=sequence);
    }

    /// Adds a range; an empty one adds nothing.
    pub fn insert_range(&mut self, range: RangeInclusive<u64>) {
        let (start, end) = range.into_inner();
        if start > end {
            return;
        }
        // Those that it overlaps or continues become one with it.
        let from = self.ranges.partition_point(|(_, last)| last.saturating_add(1) < start);
        let to = self.ranges.partition_point(|(first, _)| *first <= end.saturating_add(1));
        if from == to {
            self.ranges.insert(from, (start, end));
            return;
        }
        self.ranges[from] = (start.min(self.ranges[from].0), end.max(self.ranges[to - 1].1));
        self.ranges.drain(from + 1..to);
    }

    /// Takes a range out.
    pub fn remove_range(&mut self, range: RangeInclusive<u64>) {
        let (start, end) = range.into_inner();
        let from = self.ranges.partition_point(|(_, last)| *last < start);
        let to = self.ranges.partition_point(|(first, _)| *first <= end);
        if start > end || from >= to {
            return;
        }
        let (first, last) = (self.ranges[from].0, self.ranges[to - 1].1);
        let before = (first < start).then(|| (first, start - 1));
        let after = (last > end).then(|| (end + 1, last));
        self.ranges.splice(from..to, before.into_iter().chain(after));
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
        let (start, end) = *self.ranges.get(self.ranges.partition_point(|(_, last)| *last < sequence))?;
        (start <= sequence).then_some(start..=end)
    }

    /// Whether `sequence` is in the set.
    pub fn contains(&self, sequence: u64) -> bool {
        self.range_around(sequence).is_some()
    }

    /// The smallest member that is at least `sequence`.
    pub fn first_at_or_after(&self, sequence: u64) -> Option<u64> {
        let (start, _) = self.ranges.get(self.ranges.partition_point(|(_, last)| *last < sequence))?;
        Some(sequence.max(*start))
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
        self.ranges.iter().map(|(start, end)| *start..=*end)
    }

    /// How many sequences it holds.
    pub fn count(&self) -> u64 {
        self.ranges().map(|range| range.end() - range.start() + 1).sum()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

impl FromIterator<u64> for SequenceSet {
    fn from_iter<I: IntoIterator<Item = u64>>(sequences: I) -> Self {
        let mut set = Self::default();
        set.extend(sequences);
        set
    }
}

/// In any order; those of several sensors in turn come as many short runs, which are sorted once.
impl Extend<u64> for SequenceSet {
    fn extend<I: IntoIterator<Item = u64>>(&mut self, sequences: I) {
        let before = self.ranges.len();
        for sequence in sequences {
            match self.ranges.last_mut() {
                Some((_, end)) if end.checked_add(1) == Some(sequence) => *end = sequence,
                _ => self.ranges.push((sequence, sequence)),
            }
        }
        let is_sorted = |pair: &[(u64, u64)]| pair[0].1.checked_add(1).is_some_and(|next| next < pair[1].0);
        if self.ranges[before.saturating_sub(1)..].windows(2).all(is_sorted) {
            return;
        }
        self.ranges.sort_unstable();
        self.ranges.dedup_by(|next, before| {
            let is_one = before.1.saturating_add(1) >= next.0;
            if is_one {
                before.1 = before.1.max(next.1);
            }
            is_one
        });
    }
}
