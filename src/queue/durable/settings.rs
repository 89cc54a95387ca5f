//! What may change in a queue that stays open: its bounds, and the key that it is written with.
//!
//! A reload opens no store a second time. Of each that sled ever opened it keeps half a megabyte, a write
//! buffer among garbage that its idle threads do not collect (seen: 520 KiB more after each of 60 openings);
//! and a store that was closed might not open again, for reasons that have nothing to do with what changed.
//!
//! Another key is tried on all that is stored while the queue is in use, so the look is held up by nothing and
//! holds up nothing. What changes meanwhile and until the key does is written with the key in use: whether
//! the other one opens that too is a question to the two keys alone.

use std::sync::{Mutex, PoisonError, RwLock};

use super::DurableQueue;
use super::layout::{dead_letter_key, segment_key, sequence_of};
use crate::queue::QueueError;
use crate::queue::capacity::Capacity;
use crate::queue::segment::{SegmentCodec, SegmentError};
use crate::reading::{Body, BootId, Gap, GapReason, Item, Moment};

pub(super) struct Settings {
    capacity: RwLock<Capacity>,
    codec: RwLock<SegmentCodec>,
    /// Opened all that was stored, since `codec` is in use.
    tried: Mutex<Option<SegmentCodec>>,
}

impl Settings {
    pub(super) fn new(capacity: Capacity, codec: SegmentCodec) -> Self {
        Self { capacity: RwLock::new(capacity), codec: RwLock::new(codec), tried: Mutex::new(None) }
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

    /// Reads everything, as long as that takes; takes no lock.
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
        *self.settings.tried.lock().unwrap_or_else(PoisonError::into_inner) = Some(codec.clone());
        Ok(())
    }

    /// Whether all that is stored by now opens with `codec`: reads it only if an earlier look does not tell.
    pub(super) fn all_opens_now_with(&self, codec: &SegmentCodec) -> Result<(), QueueError> {
        let tried = self.settings.tried.lock().unwrap_or_else(PoisonError::into_inner).take();
        let in_use = self.codec();
        let has_its_key = |tried: &SegmentCodec| reads(tried, codec) && reads(codec, tried);
        match reads(codec, &in_use) && [tried, Some(in_use)].iter().flatten().any(has_its_key) {
            true => Ok(()),
            false => self.all_opens_with(codec),
        }
    }

    /// Writes and reads with `codec` from now on.
    pub(super) fn set_codec(&self, codec: SegmentCodec) {
        *self.settings.tried.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.settings.codec.write().unwrap_or_else(PoisonError::into_inner) = codec;
    }
}

/// Whether `reader` opens what `writer` writes.
fn reads(reader: &SegmentCodec, writer: &SegmentCodec) -> bool {
    let at = Moment { boot: BootId(0), boottime_ms: 0, wall_ms: 0, synchronized: false };
    let body = Body::Gap(Gap { reason: GapReason::QueueLost, start: at, readings_lost: 0 });
    let sensor = "none".parse().expect("it is a name");
    let item = Item { sequence: 0, sensor, session: 0, taken: at, body };
    let key = segment_key(item.sequence);
    reader.decode(&key, &writer.encode(&key, &[item])).is_ok()
}
