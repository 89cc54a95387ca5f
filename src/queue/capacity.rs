//! When the queue is full, and what gives way. Pure.
//!
//! sled must never meet a full disk: it does not recover from one while open. So the limit is a count
//! of items, and beside it the free space of the file system: below the headroom the queue stops
//! growing beyond [`FLOWING_ITEMS`], and below [`RESERVE_FRACTION`] of it nothing is written at all.

use crate::config::{QueueConfig, WhenFull};

/// With less than this fraction of the headroom free, even an append that evicts is refused: sled
/// writes before it reuses.
pub const RESERVE_FRACTION: u64 = 4;
/// So many items may wait on a disk without headroom: they are on their way to a sink that takes them, and
/// with nothing else to evict, each append would give up those. A few kilobytes.
pub const FLOWING_ITEMS: u64 = 500;
/// Most items evicted beyond need at once, so that a queue at its limit does not rewrite its oldest
/// segment at every append.
pub const EVICT_CHUNK_MAX: u64 = 256;

/// The configured bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Most items.
    pub items_max: u64,
    /// Disk space to leave free, bytes.
    pub disk_headroom: u64,
    /// What gives way.
    pub when_full: WhenFull,
}

/// What to do with an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// There is room.
    Accept,
    /// Evict so many of the oldest first.
    Evict(u64),
    /// Only the first so many have room; the rest are counted as received and evicted.
    AcceptFirst(u64),
    /// The disk is all but full: write nothing.
    Refuse,
}

impl Capacity {
    /// The bounds that `config` sets.
    pub fn from_config(config: &QueueConfig) -> Self {
        Self {
            items_max: config.items_max,
            disk_headroom: config.disk_headroom.0,
            when_full: config.when_full,
        }
    }

    /// Decides for `incoming` items onto `depth`, with `free` bytes on the disk.
    pub fn admit(&self, depth: u64, incoming: u64, free: u64) -> Admission {
        if free < self.disk_headroom / RESERVE_FRACTION {
            return Admission::Refuse;
        }
        let limit = match free < self.disk_headroom {
            true => depth.max(FLOWING_ITEMS).min(self.items_max),
            false => self.items_max,
        };
        let excess = (depth + incoming).saturating_sub(limit);
        if excess == 0 {
            return Admission::Accept;
        }
        match self.when_full {
            WhenFull::DropNewest => Admission::AcceptFirst(incoming - excess.min(incoming)),
            WhenFull::DropOldest => {
                let chunk = (self.items_max / 64).clamp(1, EVICT_CHUNK_MAX);
                Admission::Evict(excess.next_multiple_of(chunk).min(depth.max(excess)))
            }
        }
    }

    /// Whether something may be queued that shall never take a reading's place: there is room for it and for what may be
    /// appended meanwhile.
    pub fn has_room_to_spare(&self, depth: u64, free: u64) -> bool {
        let spare = (self.items_max / 8).clamp(1, 1_000);
        self.admit(depth, spare, free) == Admission::Accept
    }

    /// Whether a full queue has enough room again for the episode to be called over: an eighth of the
    /// limit (so that it does not end and begin with every reading), and the headroom.
    pub fn has_recovered(&self, depth: u64, free: u64) -> bool {
        depth <= self.items_max - self.items_max / 8 && free >= self.disk_headroom
    }
}
