//! Time on a machine without a battery clock, or whose clock is set while it runs.
//!
//! A Pi boots in the past. So every reading keeps its boot id and time since boot beside the wall
//! clock ([`Moment`]), and once the clock is synchronized the boot gets an [`Anchor`]: from then on,
//! also after later boots, that boot's readings are sent with the corrected time.
//!
//! What must hold:
//! * How long something took is told by time since boot, which nobody can set. The wall clock says when.
//! * Within one boot, wall clock minus time since boot names the clock: slewing moves both alike (both are
//!   disciplined by the kernel), so only a set clock changes it. By more than [`STEP_MS`] it is another
//!   clock, and nobody knows whether that one is right until the system says so again
//!   ([`Discipline`]). What was taken before it was set stays as it was vouched for.
//! * A gap's start and end are on one time line, that of its end ([`span_start`]): never negative, never
//!   longer than anybody knows it to be.
//!
//! All here is pure; [`SystemClock`] is the thin part.

mod discipline;
#[cfg(feature = "daemon")]
mod system;

use serde::{Deserialize, Serialize};

use crate::reading::{BootId, Moment};
pub use discipline::{Discipline, Look};
#[cfg(feature = "daemon")]
pub use system::{Synchronization, SystemClock, Vouched, boottime};

/// The wall clock was set if it moved by more against time since boot. A leap second moves it by one
/// second, and is right.
pub const STEP_MS: u64 = 1_500;

/// Two clocks cannot be read at once: by so much two readings of both may differ, and nothing was set.
const READ_APART_MS: u64 = 20;

/// How far a reading's `timestamp` can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockQuality {
    /// The wall clock was synchronized when the reading was taken, and had not been set since.
    Synchronized,
    /// It was not, but was later in the same boot; the time stamp was computed back.
    Corrected,
    /// It was not later in that boot either: the time stamp is what the wall clock said.
    Unsynchronized,
}

impl ClockQuality {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Synchronized => "synchronized",
            Self::Corrected => "corrected",
            Self::Unsynchronized => "unsynchronized",
        }
    }
}

/// What turns a boot's time since boot into wall time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The boot it holds for.
    pub boot: BootId,
    /// Wall clock minus time since boot, milliseconds, when the clock was last found synchronized.
    pub offset_ms: i64,
    /// Time since boot when that was, milliseconds: it holds for what was taken before. Stored apart, as
    /// stores of older versions have none: there it holds for the whole boot.
    #[serde(skip, default = "whole_boot")]
    pub boottime_ms: u64,
}

fn whole_boot() -> u64 {
    u64::MAX
}

impl Anchor {
    /// Whether it tells the time of `moment`: taken before, or by the very clock that was found right.
    fn holds_for(&self, moment: &Moment) -> bool {
        let before = moment.boottime_ms <= self.boottime_ms;
        self.boot == moment.boot && (before || moment.offset_ms().abs_diff(self.offset_ms) <= STEP_MS)
    }
}

/// Most anchors a store keeps, newest last; a boot has one.
pub const ANCHORS_MAX: usize = 64;

/// The wall time to send for `moment`, milliseconds since 1970, and how far to trust it.
pub fn resolve(moment: &Moment, anchors: &[Anchor]) -> (i64, ClockQuality) {
    if moment.synchronized {
        return (moment.wall_ms, ClockQuality::Synchronized);
    }
    match anchors.iter().rfind(|anchor| anchor.holds_for(moment)) {
        Some(anchor) => {
            let since_boot = i64::try_from(moment.boottime_ms).unwrap_or(i64::MAX);
            (since_boot.saturating_add(anchor.offset_ms), ClockQuality::Corrected)
        }
        None => (moment.wall_ms, ClockQuality::Unsynchronized),
    }
}

/// The wall time at which a span began that lasted from `start` to `end`, on the time line of its end.
///
/// Within one boot it is as long as time since boot says. Across boots the wall clock says it, if both
/// ends go by one that is known to be right, or neither does, and if it can be true: the machine was
/// started in between. Otherwise nobody knows how long it was off, and the span is told from the start
/// of the machine on.
pub fn span_start(start: &Moment, end: &Moment, anchors: &[Anchor]) -> i64 {
    let (end_ms, end_quality) = resolve(end, anchors);
    let back = |ms: u64| end_ms.saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX));
    if start.boot == end.boot {
        let begun_ms = back(end.boottime_ms.saturating_sub(start.boottime_ms));
        // By the same clock it is the very time stamp of the reading that it began with.
        let (start_ms, _) = resolve(start, anchors);
        return if start_ms.abs_diff(begun_ms) <= READ_APART_MS { start_ms.min(end_ms) } else { begun_ms };
    }
    let (start_ms, start_quality) = resolve(start, anchors);
    let known = |quality| quality != ClockQuality::Unsynchronized;
    let started_ms = back(end.boottime_ms);
    let comparable = known(start_quality) == known(end_quality);
    if comparable && start_ms <= started_ms { start_ms } else { started_ms }
}
