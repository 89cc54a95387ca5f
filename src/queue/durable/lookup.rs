//! Finding segments by the sequences in them.

use std::time::{Duration, Instant};

use super::layout::{segment_key, sequence_of};
use super::{DurableQueue, SEAL_ITEMS, State};
use crate::queue::segment::SegmentError;
use crate::queue::sequence_set::SequenceSet;
use crate::queue::sled::{Store, Value};
use crate::queue::{Counts, QueueError};
use crate::reading::Item;

/// Segments that one step of an audit reads: some milliseconds, in which nothing else is done.
const AUDIT_SEGMENTS: usize = 100;

/// An audit whose next step does not come in this time was given up.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(60);

/// An audit under way. What is taken out or put back before its cursor is counted as it happens, so that
/// its counts are those of one moment, the last step's.
#[derive(Debug)]
pub(super) struct Walk {
    /// Items below it are counted.
    cursor: u64,
    counts: Counts,
    stepped_at: Instant,
}

impl State {
    /// Whether an audit goes on; one that was given up ends here.
    pub(super) fn is_walked(&mut self) -> bool {
        self.walk.take_if(|walk| walk.stepped_at.elapsed() > GIVEN_UP_AFTER);
        self.walk.is_some()
    }
}

impl Walk {
    pub(super) fn begin() -> Self {
        Self { cursor: 0, counts: Counts::default(), stepped_at: Instant::now() }
    }

    fn count(&mut self, items: &[Item]) {
        let from = self.cursor;
        items.iter().filter(|item| item.sequence >= from).for_each(|item| self.counts.add(item));
        self.cursor = items.last().map_or(from, |last| last.sequence + 1);
    }

    pub(super) fn into_counts(self) -> Counts {
        self.counts
    }

    pub(super) fn taken_out(&mut self, item: &Item) {
        if item.sequence < self.cursor {
            self.counts.take(item);
        }
    }

    pub(super) fn put_back(&mut self, item: &Item) {
        if item.sequence < self.cursor {
            self.counts.add(item);
        }
    }
}

impl DurableQueue {
    /// Learns which segments at the end are small, from the end until one is not.
    pub(super) fn find_tail(&self) -> Result<(), QueueError> {
        let mut state = self.lock();
        let mut seen = 0;
        let last = state.meta.next_sequence;
        for entry in Backwards::new(&self.store, last) {
            let (first, items) = self.load(entry)?;
            let items = items.len() as u32;
            if items >= SEAL_ITEMS / 2 || seen >= SEAL_ITEMS {
                break;
            }
            seen += items;
            state.tail.insert(first, items);
        }
        Ok(())
    }

    pub(super) fn decode(&self, key: &[u8], value: &[u8]) -> Result<Vec<Item>, QueueError> {
        self.codec().decode(key, value).map_err(|source| {
            if source == SegmentError::Damaged
                && let Err(error) = self.store.mark_damaged()
            {
                return error;
            }
            QueueError::Segment { sequence: sequence_of(key), source }
        })
    }

    /// The segment that holds `sequence`, or the first after it.
    pub(super) fn segment_from(&self, sequence: u64) -> Result<Option<(u64, Vec<Item>)>, QueueError> {
        let key = segment_key(sequence);
        if let Some(value) = self.store.get(key)? {
            return self.load(Ok((Value::from(&key), value))).map(Some);
        }
        if let Some((key, items)) = self.segment_until(sequence)?
            && items.last().is_some_and(|last| last.sequence >= sequence)
        {
            return Ok(Some((key, items)));
        }
        let mut later = self.store.range(segment_key(sequence)..=segment_key(u64::MAX));
        later.next().map(|entry| self.load(entry)).transpose()
    }

    /// The last segment that begins at or before `sequence`.
    pub(super) fn segment_until(&self, sequence: u64) -> Result<Option<(u64, Vec<Item>)>, QueueError> {
        Backwards::new(&self.store, sequence).next().map(|entry| self.load(entry)).transpose()
    }

    fn load(&self, entry: Result<(Value, Value), QueueError>) -> Result<(u64, Vec<Item>), QueueError> {
        let (key, value) = entry?;
        Ok((sequence_of(&key), self.decode(&key, &value)?))
    }

    /// The first sequence that is queued.
    pub(super) fn first_queued(&self) -> Result<Option<u64>, QueueError> {
        let first = self.store.range(segment_key(0)..=segment_key(u64::MAX)).next().transpose()?;
        Ok(first.map(|(key, _)| sequence_of(&key)))
    }

    /// Goes on with `walk`; returns whether that was all.
    pub(super) fn step(&self, walk: &mut Walk) -> Result<bool, QueueError> {
        // Sealing may have merged what was counted with what was not.
        walk.stepped_at = Instant::now();
        let Some((key, items)) = self.segment_from(walk.cursor)? else { return Ok(true) };
        walk.count(&items);
        let mut later = self.store.range(segment_key(key + 1)..=segment_key(u64::MAX));
        for entry in later.by_ref().take(AUDIT_SEGMENTS) {
            walk.count(&self.load(entry)?.1);
        }
        Ok(later.next().is_none())
    }

    /// The oldest `count` sequences that are not in `except`.
    pub(super) fn oldest(&self, count: u64, except: &SequenceSet) -> Result<SequenceSet, QueueError> {
        let mut oldest = SequenceSet::default();
        let mut left = count as usize;
        let mut next = except.first_absent_from(0);
        while left > 0
            && let Some(sequence) = next
            && let Some((_, items)) = self.segment_from(sequence)?
        {
            let end = items.last().map_or(sequence, |last| last.sequence);
            let free =
                items.iter().filter(|item| item.sequence >= sequence && !except.contains(item.sequence));
            for item in free.take(left) {
                oldest.insert(item.sequence);
                left -= 1;
            }
            next = end.checked_add(1).and_then(|after| except.first_absent_from(after));
        }
        Ok(oldest)
    }
}

/// The segments that begin at or before a sequence, last first. Found by looking forward through
/// windows further and further back: sled's own way back carries a constant of a megabyte, an eighth
/// of the whole program.
struct Backwards<'a> {
    store: &'a Store,
    /// Found and not yet handed out.
    window: Vec<(Value, Value)>,
    /// Where the next window ends.
    end: Option<u64>,
    /// How many sequences it spans: at first what a sealed segment holds.
    width: u64,
}

impl<'a> Backwards<'a> {
    fn new(store: &'a Store, from: u64) -> Self {
        Self { store, window: Vec::new(), end: Some(from), width: SEAL_ITEMS.into() }
    }
}

impl Iterator for Backwards<'_> {
    type Item = Result<(Value, Value), QueueError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.window.is_empty() {
            let end = self.end?;
            let start = end.saturating_sub(self.width);
            self.end = start.checked_sub(1);
            self.width = self.width.saturating_mul(2);
            match self.store.range(segment_key(start)..=segment_key(end)).collect() {
                Ok(entries) => self.window = entries,
                Err(error) => {
                    self.end = None;
                    return Some(Err(error));
                }
            }
        }
        self.window.pop().map(Ok)
    }
}
