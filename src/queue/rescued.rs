//! What can still be read of a damaged store, as a queue that is only looked at.
//!
//! It reads past sled ([`salvage`](super::salvage)), creates nothing and changes nothing. What must hold:
//! whatever is bad is passed over and counted, and the rest goes on; items come once and in order, and one
//! whose ids cannot be known does not come at all.

use std::fs::File;
use std::path::Path;

use super::capacity::Capacity;
use super::durable::dead_letters::decode_dead_letter;
use super::durable::layout::{META_KEY, Meta, dead_letter_key, decode_origin, segment_key, sequence_of};
use super::durable::rows::decode_row;
use super::ledger::{Ledger, Row};
use super::salvage::Salvaged;
use super::segment::{SegmentCodec, SegmentError};
use super::sequence_set::SequenceSet;
use super::sled::storage;
use super::witness::{Found, Mark, Witness};
use super::{Absorbable, Appended, Counts, DeadLetter, QueueError, ReadingQueue};
use crate::clock::Anchor;
use crate::config::DrainOrder;
use crate::reading::{GatewayId, Item, Observation, Origin, Origins, SensorId};
use crate::wire::Envelope;

/// What it takes to read a damaged store.
#[derive(Clone)]
pub struct Rescuer {
    /// Its key, if it is encrypted.
    pub codec: SegmentCodec,
    /// Whose it is, if it does not say.
    pub gateway: GatewayId,
}

impl Rescuer {
    /// Reads what is in `folder`. An error if there is no store at all, none of its ids can be known, or it
    /// needs another key.
    pub fn read(&self, folder: &Path) -> Result<Rescued, QueueError> {
        Rescued::of(folder, self.codec.clone(), &self.gateway)
    }
}

/// A damaged store.
pub struct Rescued {
    salvaged: Salvaged,
    codec: SegmentCodec,
    envelope: Envelope,
    ledger: Ledger,
    readable: SequenceSet,
    dead: SequenceSet,
    unreadable: u64,
    mark: Option<Mark>,
    next_sequence: u64,
}

impl Rescued {
    fn of(folder: &Path, codec: SegmentCodec, gateway: &GatewayId) -> Result<Self, QueueError> {
        let db = File::open(folder.join("db")).map_err(storage("find its store"))?;
        let salvaged = Salvaged::read(db).map_err(storage("read its store"))?;
        let meta = read(&salvaged, META_KEY)?.and_then(|bytes| Meta::from_bytes(&bytes).ok());
        let mark = match Witness::read_inside(folder) {
            Found::Mark(mark) => Some(mark),
            Found::Nothing | Found::Torn => None,
        };
        let origins = origins_of(&salvaged, meta.as_ref(), mark.as_ref(), gateway)?;
        let anchors = meta.as_ref().map_or_else(Vec::new, |meta| meta.anchors.clone());
        let mut rescued = Self {
            ledger: rows_of(&salvaged)?,
            envelope: Envelope { origins, anchors },
            readable: SequenceSet::default(),
            dead: SequenceSet::default(),
            unreadable: 0,
            mark,
            next_sequence: meta.map_or(1, |meta| meta.next_sequence),
            salvaged,
            codec,
        };
        rescued.survey()?;
        Ok(rescued)
    }

    /// Learns what can be read.
    fn survey(&mut self) -> Result<(), QueueError> {
        let mut keys: Vec<u64> = Vec::new();
        keys.extend(self.salvaged.keys(segment_key(0)..=segment_key(u64::MAX)).map(sequence_of));
        for key in keys {
            match self.segment(key)? {
                Some(items) => {
                    // What stands before the last is an older form of what is there.
                    let last = self.readable.ranges().next_back().map_or(0, |range| *range.end());
                    self.readable.extend(items.iter().map(|item| item.sequence).filter(|item| *item > last));
                }
                None => self.unreadable += 1,
            }
        }
        let letters: Vec<u64> =
            self.salvaged.keys(dead_letter_key(0)..=dead_letter_key(u64::MAX)).map(sequence_of).collect();
        for sequence in letters {
            match self.letter(sequence)? {
                Some(letter) => self.dead.insert(letter.item.sequence),
                None => self.unreadable += 1,
            }
        }
        Ok(())
    }

    /// The queued items that can be read.
    pub fn readable(&self) -> &SequenceSet {
        &self.readable
    }

    /// The dead letters that can be read.
    pub fn dead(&self) -> &SequenceSet {
        &self.dead
    }

    /// Above all sequences that are known of.
    pub fn next_sequence(&self) -> u64 {
        let readable = self.readable.ranges().next_back().map_or(1, |range| range.end() + 1);
        let marked = self.mark.map_or(1, |mark| mark.durable_before);
        self.next_sequence.max(readable).max(marked)
    }

    /// Entries, and stretches of the file, that had to be passed over.
    pub fn passed_over(&self) -> u64 {
        self.unreadable + self.salvaged.bad_messages()
    }

    /// What its ledger said, as far as it can be read.
    pub fn rows(&self) -> impl Iterator<Item = (&SensorId, &Row)> {
        self.ledger.rows.iter()
    }

    /// The segment under the key of `sequence`; `None` if it cannot be read.
    fn segment(&self, sequence: u64) -> Result<Option<Vec<Item>>, QueueError> {
        let key = segment_key(sequence);
        let Some(value) = read(&self.salvaged, &key)? else { return Ok(None) };
        let items = readable(self.codec.decode(&key, &value), sequence)?;
        // An older form of the segment may stand in for the last one.
        let settled_before = self.mark.map_or(0, |mark| mark.settled_before);
        Ok(items.map(|items| items.into_iter().filter(|item| item.sequence >= settled_before).collect()))
    }

    fn letter(&self, sequence: u64) -> Result<Option<DeadLetter>, QueueError> {
        let key = dead_letter_key(sequence);
        let Some(value) = read(&self.salvaged, &key)? else { return Ok(None) };
        readable(decode_dead_letter(&self.codec, &key, &value), sequence)
    }

    /// Items from `sequence` on that were not in an earlier segment.
    fn items_from(&self, sequence: u64, items_max: usize) -> Result<Vec<Item>, QueueError> {
        let mut found: Vec<Item> = Vec::new();
        // A segment that begins before may reach beyond.
        let before = self.salvaged.keys(segment_key(0)..=segment_key(sequence)).last().map_or(0, sequence_of);
        let keys = self.salvaged.keys(segment_key(before)..=segment_key(u64::MAX));
        for key in keys.map(sequence_of) {
            let next = found.last().map_or(sequence, |last| last.sequence + 1);
            let items = self.segment(key)?.unwrap_or_default();
            found.extend(items.into_iter().filter(|item| item.sequence >= next));
            if found.len() >= items_max {
                break;
            }
        }
        found.truncate(items_max);
        Ok(found)
    }
}

/// Damage is passed over; a key that is missing or wrong is not, and neither is a later version's format.
fn readable<T>(decoded: Result<T, SegmentError>, sequence: u64) -> Result<Option<T>, QueueError> {
    match decoded {
        Ok(decoded) => Ok(Some(decoded)),
        Err(SegmentError::Damaged) => Ok(None),
        Err(source) => Err(QueueError::Segment { sequence, source }),
    }
}

fn read(salvaged: &Salvaged, key: &[u8]) -> Result<Option<Vec<u8>>, QueueError> {
    salvaged.value(key).map_err(storage("read its store"))
}

fn origins_of(
    salvaged: &Salvaged,
    meta: Option<&Meta>,
    mark: Option<&Mark>,
    gateway: &GatewayId,
) -> Result<Origins, QueueError> {
    let mut origins = Vec::new();
    for key in salvaged.keys(&b"e"[..]..&b"f"[..]) {
        origins.extend(read(salvaged, key)?.and_then(|value| decode_origin(key, &value)));
    }
    let first = |epoch| Origin { first_sequence: 1, epoch, gateway: gateway.clone() };
    if let (true, Some(meta)) = (origins.is_empty(), meta) {
        origins.push(first(meta.store));
    }
    if let (true, Some(mark)) = (origins.is_empty(), mark) {
        // The last opening's is all that is known.
        origins.push(Origin { first_sequence: mark.opened_at, ..first(mark.opening) });
    }
    Origins::new(origins)
        .ok_or_else(|| storage("tell whose it is")("neither its description nor its witness can be read"))
}

fn rows_of(salvaged: &Salvaged) -> Result<Ledger, QueueError> {
    let mut ledger = Ledger::default();
    for key in salvaged.keys(&b"l"[..]..&b"m"[..]) {
        let row = read(salvaged, key)?.and_then(|value| decode_row(key, &value));
        ledger.rows.extend(row);
    }
    Ok(ledger)
}

impl ReadingQueue for Rescued {
    fn envelope(&self) -> Envelope {
        self.envelope.clone()
    }

    fn append(&self, _: &[Observation]) -> Result<Appended, QueueError> {
        Err(QueueError::ReadOnly)
    }

    fn peek(
        &self,
        order: DrainOrder,
        claimed: &SequenceSet,
        items_max: usize,
    ) -> Result<Vec<Item>, QueueError> {
        match order {
            DrainOrder::NewestFirst => Err(QueueError::ReadOnly),
            DrainOrder::OldestFirst => {
                let from = claimed.first_absent_from(0).unwrap_or(u64::MAX);
                let items = self.items_from(from, items_max)?;
                Ok(items.into_iter().filter(|item| !claimed.contains(item.sequence)).collect())
            }
        }
    }

    fn remove(&self, _: &SequenceSet) -> Result<(), QueueError> {
        Err(QueueError::ReadOnly)
    }

    fn dead_letter(&self, _: &SequenceSet, _: &str) -> Result<(), QueueError> {
        Err(QueueError::ReadOnly)
    }

    fn dead_letters(&self, from: u64, items_max: usize) -> Result<Vec<DeadLetter>, QueueError> {
        let mut letters = Vec::new();
        for sequence in self.dead.ranges().flatten().filter(|sequence| *sequence >= from).take(items_max) {
            letters.extend(self.letter(sequence)?);
        }
        Ok(letters)
    }

    fn requeue(&self, _: &SequenceSet) -> Result<u64, QueueError> {
        Err(QueueError::ReadOnly)
    }

    fn drop_dead_letters(&self, _: &SequenceSet) -> Result<u64, QueueError> {
        Err(QueueError::ReadOnly)
    }

    fn opens_with(&self, _: &SegmentCodec) -> Result<(), QueueError> {
        Err(QueueError::ReadOnly)
    }

    fn reconfigure(&self, _: Capacity, _: SegmentCodec, _: &GatewayId) -> Result<(), QueueError> {
        Err(QueueError::ReadOnly)
    }

    fn absorb(&self, _: &Absorbable) -> Result<u64, QueueError> {
        Err(QueueError::ReadOnly)
    }

    fn ledger(&self) -> Ledger {
        self.ledger.clone()
    }

    fn depth(&self) -> u64 {
        self.readable.count()
    }

    /// What its witness says was queued, and cannot be read.
    fn missing(&self) -> SequenceSet {
        let mut missing = SequenceSet::default();
        if let Some(mark) = self.mark
            && mark.settled_before < mark.durable_before
        {
            missing.insert_range(mark.settled_before..=mark.durable_before - 1);
        }
        missing.remove_all(&self.readable);
        missing.remove_all(&self.dead);
        missing
    }

    fn protect(&self, _: SequenceSet) {}

    fn begin_audit(&self) {}

    fn step_audit(&self) -> Result<Option<(Ledger, Counts)>, QueueError> {
        let mut counts = Counts::default();
        let mut from = 0;
        loop {
            let items = self.items_from(from, 5_000)?;
            let Some(last) = items.last() else { return Ok(Some((self.ledger.clone(), counts))) };
            from = last.sequence + 1;
            items.iter().for_each(|item| counts.add(item));
        }
    }

    fn add_anchor(&self, _: Anchor) -> Result<(), QueueError> {
        Err(QueueError::ReadOnly)
    }

    fn sync(&self) -> Result<(), QueueError> {
        Ok(())
    }

    fn close(&self) -> Result<(), QueueError> {
        Ok(())
    }
}
