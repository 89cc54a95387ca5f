//! What is fetched and not yet sent, in the order in which it goes. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use super::batch::Record;

/// What is known of a record beside itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tries {
    /// How often it was sent in vain.
    pub(super) attempts: u32,
    /// The fetch that brought it.
    pub(super) fetch: u64,
}

/// A record that is not sent before its time.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) record: Record,
    pub(super) tries: Tries,
    pub(super) not_before: Duration,
}

/// All of them, and how many items they carry.
#[derive(Debug, Default)]
pub(super) struct WaitingRecords {
    records: VecDeque<Waiting>,
    items: usize,
}

impl WaitingRecords {
    pub(super) fn items(&self) -> usize {
        self.items
    }

    pub(super) fn get(&self, index: usize) -> Option<&Waiting> {
        self.records.get(index)
    }

    pub(super) fn push_back(&mut self, waiting: Waiting) {
        self.items += waiting.record.sequences.len();
        self.records.push_back(waiting);
    }

    /// Puts `all` before what is there, in their own order.
    pub(super) fn put_first(&mut self, all: Vec<Waiting>) {
        for waiting in all.into_iter().rev() {
            self.items += waiting.record.sequences.len();
            self.records.push_front(waiting);
        }
    }

    /// Removes the one at `index`.
    pub(super) fn take(&mut self, index: usize) -> Option<Waiting> {
        let taken = self.records.remove(index)?;
        self.items -= taken.record.sequences.len();
        Some(taken)
    }

    /// Removes all.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Record> {
        std::mem::take(self).records.into_iter().map(|waiting| waiting.record)
    }

    /// Puts parts of at most `bytes_max`, or of one line each, into the place of the record at `index`.
    pub(super) fn split(&mut self, index: usize, bytes_max: usize) {
        let Some(Waiting { record, tries, not_before }) = self.records.remove(index) else { return };
        for record in record.split_to(bytes_max).into_iter().rev() {
            self.records.insert(index, Waiting { record, tries, not_before });
        }
    }

    /// What waits from `index` on of the fetch that brought the record there.
    pub(super) fn bytes_of_fetch_at(&self, index: usize) -> usize {
        let fetch = self.records[index].tries.fetch;
        let together = self.records.range(index..).take_while(|waiting| waiting.tries.fetch == fetch);
        together.map(|waiting| waiting.record.bytes()).sum()
    }
}
