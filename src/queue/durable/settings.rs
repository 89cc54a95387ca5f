//! What may change in a queue that stays open: its bounds, and the key that it is written with.
//!
//! A reload opens no store a second time. Of each that sled ever opened it keeps half a megabyte, a write
//! buffer among garbage that its idle threads do not collect (seen: 520 KiB more after each of 60 openings);
//! and a store that was closed might not open again, for reasons that have nothing to do with what changed.

use std::sync::{PoisonError, RwLock};

use super::DurableQueue;
use super::layout::{dead_letter_key, segment_key, sequence_of};
use crate::queue::QueueError;
use crate::queue::capacity::Capacity;
use crate::queue::segment::{SegmentCodec, SegmentError};

pub(super) struct Settings {
    capacity: RwLock<Capacity>,
    codec: RwLock<SegmentCodec>,
}

impl Settings {
    pub(super) fn new(capacity: Capacity, codec: SegmentCodec) -> Self {
        Self { capacity: RwLock::new(capacity), codec: RwLock::new(codec) }
    }
}

impl DurableQueue {
    pub(super) fn capacity(&self) -> Capacity {
        *self.settings.capacity.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn codec(&self) -> SegmentCodec {
        self.settings.codec.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bounds the queue otherwise from the next append on.
    pub(super) fn set_capacity(&self, capacity: Capacity) {
        *self.settings.capacity.write().unwrap_or_else(PoisonError::into_inner) = capacity;
    }

    /// Reads everything, as long as that takes.
    pub(super) fn all_opens_with(&self, codec: &SegmentCodec) -> Result<(), QueueError> {
        let in_use = self.codec();
        let look = |key: &[u8], segment: &[u8]| match codec.decode(key, segment) {
            // What the key in use does not open either is damaged, and not this reload's concern.
            Err(source) if in_use.decode(key, segment).is_ok() => {
                let source = if source == SegmentError::Damaged { SegmentError::KeyWrong } else { source };
                Err(QueueError::Segment { sequence: sequence_of(key), source })
            }
            _ => Ok(()),
        };
        for entry in self.store.range(segment_key(0)..=segment_key(u64::MAX)) {
            let (key, value) = entry?;
            look(&key, &value)?;
        }
        for entry in self.store.range(dead_letter_key(0)..=dead_letter_key(u64::MAX)) {
            let (key, value) = entry?;
            if let Ok((_, segment)) = postcard::from_bytes::<(&str, Vec<u8>)>(&value) {
                look(&key, &segment)?;
            }
        }
        Ok(())
    }

    /// Writes and reads with `codec` from now on, or changes nothing if something stored does not
    /// open with it. All other calls wait meanwhile.
    pub(super) fn change_key(&self, codec: SegmentCodec) -> Result<(), QueueError> {
        let _state = self.lock();
        self.all_opens_with(&codec)?;
        *self.settings.codec.write().unwrap_or_else(PoisonError::into_inner) = codec;
        Ok(())
    }
}
