//! What stands under which key, and the store's description of itself.

use serde::{Deserialize, Serialize};

use crate::clock::Anchor;
use crate::queue::QueueError;
use crate::queue::segment::random_bytes;
use crate::queue::sled::{Store, Writes, storage};
use crate::reading::Epoch;

/// The newest layout of keys, values and segments that this program knows. A later one is noted beside
/// the store ([`Store::describe`]) before anything is stored in it.
const FORMAT: u8 = 1;
/// Where [`Meta`] stands.
pub(super) const META_KEY: &[u8] = b"m";

#[derive(Serialize, Deserialize)]
pub(super) struct Meta {
    /// Of keys and values.
    pub(super) format: u8,
    pub(super) epoch: Epoch,
    pub(super) next_sequence: u64,
    pub(super) anchors: Vec<Anchor>,
}

impl Meta {
    /// The next sequence, used up.
    pub(super) fn take_sequence(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence - 1
    }
}

/// Reads a store's description, refusing a later format.
pub(super) fn load_meta(bytes: &[u8]) -> Result<Meta, QueueError> {
    match bytes.first() {
        Some(&found) if found > FORMAT => Err(QueueError::Newer { found, known: FORMAT }),
        _ => postcard::from_bytes(bytes).map_err(storage("read its own description")),
    }
}

/// Describes a new store, durably.
pub(super) fn new_meta(store: &Store) -> Result<Meta, QueueError> {
    let mut epoch = [0; 8];
    random_bytes(&mut epoch);
    let meta = Meta {
        format: FORMAT,
        epoch: Epoch(u64::from_be_bytes(epoch)),
        next_sequence: 1,
        anchors: Vec::new(),
    };
    let mut writes = Writes::default();
    writes.insert(META_KEY, postcard::to_stdvec(&meta).expect("memory takes all of it"));
    store.apply(writes)?;
    store.sync()?;
    store.describe(FORMAT)?;
    Ok(meta)
}

pub(super) fn segment_key(first: u64) -> [u8; 9] {
    prefixed(b'q', first)
}

pub(super) fn dead_letter_key(sequence: u64) -> [u8; 9] {
    prefixed(b'd', sequence)
}

fn prefixed(prefix: u8, sequence: u64) -> [u8; 9] {
    let mut key = [prefix; 9];
    key[1..].copy_from_slice(&sequence.to_be_bytes());
    key
}

pub(super) fn sequence_of(key: &[u8]) -> u64 {
    let bytes = key.last_chunk::<8>().copied().unwrap_or_default();
    u64::from_be_bytes(bytes)
}
