//! What stands under which key, and the store's description of itself.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::clock::Anchor;
use crate::queue::QueueError;
use crate::queue::segment::random_bytes;
use crate::queue::sequence_set::SequenceSet;
use crate::queue::sled::{Store, Writes, storage};
use crate::queue::witness::Before;
use crate::reading::{Epoch, GatewayId, Origin, Origins};

/// The newest layout of keys, values and segments that this program knows. A later one is noted beside
/// the store ([`Store::describe`]) before anything is stored in it. From 2 on each opening has its origin.
pub(in crate::queue) const FORMAT: u8 = 2;
/// Where [`Meta`] stands.
pub(in crate::queue) const META_KEY: &[u8] = b"m";
/// Where [`Past`] stands.
pub(in crate::queue) const PAST_KEY: &[u8] = b"o";

#[derive(Serialize, Deserialize)]
pub(in crate::queue) struct Meta {
    /// Of keys and values.
    pub(in crate::queue) format: u8,
    /// Drawn when the store was made; in format 1 all ids began with it.
    pub(in crate::queue) store: Epoch,
    pub(in crate::queue) next_sequence: u64,
    pub(in crate::queue) anchors: Vec<Anchor>,
}

/// The opening before the last; `None` for a first one.
pub(in crate::queue) type Past = Option<Before>;

/// The key of a range of sequences that are missing; its value is the last of them.
pub(in crate::queue) fn missing_key(first: u64) -> [u8; 9] {
    prefixed(b'x', first)
}

/// What is known to be missing, each range under a key of its own: there may be as many as there are items.
#[derive(Default)]
pub(in crate::queue) struct Missing(pub(in crate::queue) SequenceSet);

impl Missing {
    pub(in crate::queue) fn load(store: &Store) -> Result<Self, QueueError> {
        let mut missing = SequenceSet::default();
        for entry in store.range(missing_key(0)..=missing_key(u64::MAX)) {
            let (key, value) = entry?;
            missing.insert_range(
                decode_missing(&key, &value)
                    .ok_or_else(|| storage("read what it lacks")("a range of sequences is damaged"))?,
            );
        }
        Ok(Self(missing))
    }

    /// More are missing.
    pub(super) fn extend(&mut self, more: &SequenceSet, writes: &mut Writes) {
        self.0.ranges().for_each(|range| writes.remove(missing_key(*range.start())));
        self.0.insert_all(more);
        self.0.ranges().for_each(|range| write_missing(&range, writes));
    }

    /// One is missing no more.
    pub(super) fn remove(&mut self, sequence: u64, writes: &mut Writes) {
        let Some(around) = self.0.range_around(sequence) else { return };
        writes.remove(missing_key(*around.start()));
        self.0.remove_range(sequence..=sequence);
        let left = [sequence.checked_sub(1), sequence.checked_add(1)];
        let left = left.into_iter().flatten().filter_map(|beside| self.0.range_around(beside));
        left.for_each(|range| write_missing(&range, writes));
    }
}

fn write_missing(range: &RangeInclusive<u64>, writes: &mut Writes) {
    writes.insert(missing_key(*range.start()), encoded(range.end()));
}

/// The range of sequences that an entry says is missing.
pub(in crate::queue) fn decode_missing(key: &[u8], value: &[u8]) -> Option<RangeInclusive<u64>> {
    Some(sequence_of(key)..=postcard::from_bytes(value).ok()?)
}

impl Meta {
    /// Of a new store.
    pub(in crate::queue) fn new() -> Self {
        Self { format: FORMAT, store: random_epoch(), next_sequence: 1, anchors: Vec::new() }
    }

    /// Reads it, refusing a later format.
    pub(in crate::queue) fn from_bytes(bytes: &[u8]) -> Result<Self, QueueError> {
        match bytes.first() {
            Some(&found) if found > FORMAT => Err(QueueError::Newer { found, known: FORMAT }),
            _ => Self::decode(bytes).map_err(storage("read its own description")),
        }
    }

    /// The next sequence, used up.
    pub(in crate::queue) fn take_sequence(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence - 1
    }

    /// The value that stands under [`META_KEY`]: behind it, when each anchor was noted. Older programs do
    /// not read so far.
    pub(super) fn encode(&self) -> Vec<u8> {
        let memory = "memory takes all of it";
        let noted_ms: Vec<u64> = self.anchors.iter().map(|anchor| anchor.boottime_ms).collect();
        postcard::to_extend(&noted_ms, postcard::to_stdvec(self).expect(memory)).expect(memory)
    }

    fn decode(bytes: &[u8]) -> postcard::Result<Self> {
        let (mut meta, rest) = postcard::take_from_bytes::<Self>(bytes)?;
        let noted_ms: Vec<u64> = if rest.is_empty() { Vec::new() } else { postcard::from_bytes(rest)? };
        for (anchor, noted_ms) in meta.anchors.iter_mut().zip(noted_ms) {
            anchor.boottime_ms = noted_ms;
        }
        Ok(meta)
    }
}

pub(in crate::queue) fn random_epoch() -> Epoch {
    let mut epoch = [0; 8];
    random_bytes(&mut epoch);
    Epoch(u64::from_be_bytes(epoch))
}

pub(in crate::queue) fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("memory takes all of it")
}

pub(in crate::queue) fn origin_entry(origin: &Origin) -> ([u8; 9], Vec<u8>) {
    (prefixed(b'e', origin.first_sequence), encoded(&(origin.epoch, &origin.gateway)))
}

pub(in crate::queue) fn decode_origin(key: &[u8], value: &[u8]) -> Option<Origin> {
    let (epoch, gateway) = postcard::from_bytes(value).ok()?;
    Some(Origin { first_sequence: sequence_of(key), epoch, gateway })
}

/// The origins in `store`. Before format 2 there was one for all, and the gateway's name of the day.
pub(in crate::queue) fn load_origins(
    store: &Store,
    meta: &Meta,
    gateway: &GatewayId,
) -> Result<Origins, QueueError> {
    let mut origins = Vec::new();
    for entry in store.range(prefixed(b'e', 0)..=prefixed(b'e', u64::MAX)) {
        let (key, value) = entry?;
        origins
            .push(decode_origin(&key, &value).ok_or_else(|| storage("read its origins")("one is damaged"))?);
    }
    let before = || Origin { first_sequence: 1, epoch: meta.store, gateway: gateway.clone() };
    Ok(Origins::new(origins).unwrap_or_else(|| Origins::new(vec![before()]).expect("one is there")))
}

pub(in crate::queue) fn segment_key(first: u64) -> [u8; 9] {
    prefixed(b'q', first)
}

pub(in crate::queue) fn dead_letter_key(sequence: u64) -> [u8; 9] {
    prefixed(b'd', sequence)
}

fn prefixed(prefix: u8, sequence: u64) -> [u8; 9] {
    let mut key = [prefix; 9];
    key[1..].copy_from_slice(&sequence.to_be_bytes());
    key
}

pub(in crate::queue) fn sequence_of(key: &[u8]) -> u64 {
    let bytes = key.last_chunk::<8>().copied().unwrap_or_default();
    u64::from_be_bytes(bytes)
}
