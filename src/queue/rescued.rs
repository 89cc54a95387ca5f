//! What can still be read of a damaged store, as a queue that is only looked at.
//!
//! It reads past sled ([`salvage`](super::salvage)), creates nothing and changes nothing. What must hold:
//! whatever is bad is passed over and counted, and the rest goes on; items come once and in order, and one
//! whose ids cannot be known does not come at all.

mod entries;

use std::io;
use std::path::Path;

use entries::{missing_of, origins_of, read, rows_of};

use super::capacity::Capacity;
use super::durable::dead_letters::decode_dead_letter;
use super::durable::layout::{META_KEY, Meta, dead_letter_key, segment_key, sequence_of};
use super::ledger::{Ledger, Row};
use super::salvage::Salvaged;
use super::segment::{SegmentCodec, SegmentError};
use super::sequence_set::SequenceSet;
use super::sled::storage;
use super::witness::{Found, Mark, Witness};
use super::{Absorbable, Appended, Counts, DeadLetter, QueueError, ReadingQueue};
use crate::clock::Anchor;
use crate::config::DrainOrder;
use crate::reading::{Epoch, GatewayId, Item, Observation, SensorId};
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
    /// Reads what is in `folder`. It is [`Unreadable`](QueueError::Unreadable) if there is no store, or none of
    /// its ids can be known; another error if it needs another key, or the system refuses.
    pub fn read(&self, folder: &Path) -> Result<Rescued, QueueError> {
        let witness = Witness::read_inside(folder);
        let rescued = Rescued::of(folder, Salvaged::read, &witness, self)?;
        match rescued.is_whole(&witness) {
            true => Ok(rescued),
            // A hole in it was no power cut's.
            false => Rescued::of(folder, Salvaged::read_beyond, &witness, self),
        }
    }

    /// Whether the store in `folder`, which has a hole near its end, shows all that it had: a power cut may have
    /// made the hole then, and nothing is in it that was synced.
    pub fn finds_whole(&self, folder: &Path, witness: &Found) -> Result<bool, QueueError> {
        match Rescued::of(folder, Salvaged::read, &Found::Nothing, self) {
            Ok(rescued) => Ok(rescued.is_whole(witness)),
            // Before anything was stored in it.
            Err(QueueError::Unreadable { .. }) => {
                Ok(!matches!(witness, Found::Mark(mark) if mark.durable_before > 1))
            }
            // With the right key it is looked at again.
            Err(error) if error.needs_configuration() => Ok(true),
            Err(error) => Err(error),
        }
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
    /// What it knew to be missing itself.
    missing: SequenceSet,
    /// Something opened with the key: what does not is an older form, from before the key was changed.
    key_fits: bool,
    mark: Option<Mark>,
    store: Option<Epoch>,
    next_sequence: u64,
}

impl Rescued {
    fn of(
        folder: &Path,
        salvage: fn(&Path) -> io::Result<Salvaged>,
        witness: &Found,
        Rescuer { codec, gateway }: &Rescuer,
    ) -> Result<Self, QueueError> {
        let unreadable = |why| QueueError::Unreadable { folder: folder.to_owned(), why };
        let salvaged = match salvage(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(unreadable("there is no store"));
            }
            salvaged => salvaged.map_err(storage("read its store"))?,
        };
        let meta = read(&salvaged, META_KEY)?.and_then(|bytes| Meta::from_bytes(&bytes).ok());
        let mark = match witness {
            Found::Mark(mark) => Some(*mark),
            Found::Nothing | Found::Torn => None,
        };
        let origins = origins_of(&salvaged, meta.as_ref(), mark.as_ref(), gateway)?
            .ok_or_else(|| unreadable("neither its description nor its witness can be read"))?;
        let anchors = meta.as_ref().map_or_else(Vec::new, |meta| meta.anchors.clone());
        let mut rescued = Self {
            ledger: rows_of(&salvaged)?,
            envelope: Envelope { origins, anchors },
            readable: SequenceSet::default(),
            dead: SequenceSet::default(),
            unreadable: 0,
            missing: missing_of(&salvaged)?,
            key_fits: false,
            mark,
            store: meta.as_ref().map(|meta| meta.store),
            next_sequence: meta.map_or(1, |meta| meta.next_sequence),
            salvaged,
            codec: codec.clone(),
        };
        rescued.survey()?;
        Ok(rescued)
    }

    /// Whether it has come as far as `witness` saw it, and holds what its ledger says. What is not known is taken
    /// for whole.
    fn is_whole(&self, witness: &Found) -> bool {
        let is_behind = match witness {
            Found::Mark(mark) => {
                self.store.is_none_or(|store| store == mark.store) && self.next_sequence < mark.durable_before
            }
            Found::Nothing | Found::Torn => false,
        };
        let totals = self.ledger.totals();
        let dead = totals.readings.dead_lettered + totals.other_records.dead_lettered;
        !is_behind && self.readable.count() == self.ledger.depth() && self.dead.count() == dead
    }

    /// Learns what can be read.
    fn survey(&mut self) -> Result<(), QueueError> {
        let keys = |range| self.salvaged.keys(range).map(sequence_of).collect::<Vec<u64>>();
        let segments = keys(segment_key(0)..=segment_key(u64::MAX));
        let letters = keys(dead_letter_key(0)..=dead_letter_key(u64::MAX));
        let mut locked = None;
        for key in segments {
            match self.segment(key) {
                Ok(Some(items)) => {
                    // What stands before the last is an older form of what is there.
                    let last = self.readable.ranges().next_back().map_or(0, |range| *range.end());
                    self.readable.extend(items.iter().map(|item| item.sequence).filter(|item| *item > last));
                }
                Ok(None) => self.unreadable += 1,
                Err(error @ QueueError::Segment { .. }) => locked = Some(error),
                Err(error) => return Err(error),
            }
        }
        for sequence in letters {
            match self.letter(sequence) {
                Ok(Some(letter)) => self.dead.insert(letter.item.sequence),
                Ok(None) => self.unreadable += 1,
                Err(error @ QueueError::Segment { .. }) => locked = Some(error),
                Err(error) => return Err(error),
            }
        }
        self.key_fits = !(self.readable.is_empty() && self.dead.is_empty());
        match locked {
            Some(error) if !self.key_fits => Err(error),
            _ => Ok(()),
        }
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
        let items = self.readable_or(self.codec.decode(&key, &value), sequence)?;
        // An older form of the segment may stand in for the last one.
        let settled_before = self.mark.map_or(0, |mark| mark.settled_before);
        Ok(items.map(|items| items.into_iter().filter(|item| item.sequence >= settled_before).collect()))
    }

    fn letter(&self, sequence: u64) -> Result<Option<DeadLetter>, QueueError> {
        let key = dead_letter_key(sequence);
        let Some(value) = read(&self.salvaged, &key)? else { return Ok(None) };
        self.readable_or(decode_dead_letter(&self.codec, &key, &value), sequence)
    }

    /// Damage is passed over; a key that is missing or wrong for all there is is not, and neither is a later
    /// version's format.
    fn readable_or<T>(
        &self,
        decoded: Result<T, SegmentError>,
        sequence: u64,
    ) -> Result<Option<T>, QueueError> {
        match decoded {
            Ok(decoded) => Ok(Some(decoded)),
            Err(SegmentError::Damaged) => Ok(None),
            Err(SegmentError::KeyWrong | SegmentError::KeyMissing) if self.key_fits => Ok(None),
            Err(source) => Err(QueueError::Segment { sequence, source }),
        }
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

    /// What it knew to be missing; and what its witness says was there, and cannot be read.
    fn missing(&self) -> SequenceSet {
        let mut missing = self.missing.clone();
        if let Some(mark) = self.mark {
            missing.insert_all(&mark.dead.sequences());
            if mark.settled_before < mark.durable_before {
                missing.insert_range(mark.settled_before..=mark.durable_before - 1);
            }
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
