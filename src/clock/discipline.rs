//! What is known of the wall clock, look by look. Pure.
//!
//! It counts as right from when the system vouched for it until it is set. Every reading's time is a
//! look, so none is taken by a clock that was set and still counts as right.

use super::STEP_MS;
use crate::reading::Moment;

/// Who sets a clock needs a moment to say that it is synchronized. For so long, calls are signed by the
/// clock that it was set from: what was taken by a wrong one is then refused, and corrected later.
const GRACE_MS: u64 = 20_000;

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Time since boot, milliseconds.
    pub boottime_ms: u64,
    /// The wall clock, milliseconds since 1970.
    pub wall_ms: i64,
}

impl Look {
    fn offset_ms(&self) -> i64 {
        self.wall_ms.saturating_sub(i64::try_from(self.boottime_ms).unwrap_or(i64::MAX))
    }
}

/// The state of the wall clock within one boot.
#[derive(Debug)]
pub struct Discipline {
    trusted: bool,
    synchronized: bool,
    /// At the last look.
    offset_ms: i64,
    /// How often it was seen to have been set.
    steps: u64,
    /// It was set while it counted as right.
    doubted: bool,
    /// Where it was set from, and when that was seen.
    set_from: Option<(i64, u64)>,
    /// The offset before it was set, which the operator has not been told of.
    untold_from: Option<i64>,
}

impl Discipline {
    /// A clock that nobody vouched for yet; `trusted`: that need not be asked about.
    pub fn new(trusted: bool, now: Look) -> Self {
        Self {
            trusted,
            synchronized: trusted,
            offset_ms: now.offset_ms(),
            steps: 0,
            doubted: false,
            set_from: None,
            untold_from: None,
        }
    }

    /// Goes on from `last`, taken in this boot by a process before this one: the clock that was right
    /// then is right now, unless it was set since.
    pub fn resume(&mut self, last: &Moment, now: Look) {
        self.offset_ms = last.offset_ms();
        self.synchronized |= last.synchronized;
        self.look(now);
    }

    /// Notes how the clocks stand; returns whether the wall clock is known to be right.
    pub fn look(&mut self, now: Look) -> bool {
        let before_ms = std::mem::replace(&mut self.offset_ms, now.offset_ms());
        if self.offset_ms.abs_diff(before_ms) > STEP_MS {
            self.steps += 1;
            self.set_from = Some((before_ms, now.boottime_ms));
            if self.synchronized {
                self.untold_from.get_or_insert(before_ms);
                self.doubted = true;
            }
            self.synchronized = self.trusted;
        }
        self.synchronized
    }

    /// Whether the wall clock was right at the last look.
    pub fn is_synchronized(&self) -> bool {
        self.synchronized
    }

    /// How often the clock was set so far: what the system says of it is void if that changed since it
    /// was asked.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Whether what the system said before now may be of another clock.
    pub fn is_doubted(&self) -> bool {
        self.doubted
    }

    /// The system said that the clock is right, having been asked when it had been set `steps` times.
    /// Returns whether it counts as right from now on.
    pub fn vouch(&mut self, steps: u64, now: Look) -> bool {
        self.look(now);
        self.synchronized |= self.steps == steps;
        self.synchronized
    }

    /// Wall clock minus time since boot, milliseconds, of the clock that calls are signed by: as it is
    /// if it is right, and otherwise for a while the one that it was set from.
    pub fn signing_offset_ms(&mut self, now: Look) -> i64 {
        let is_right = self.look(now);
        match self.set_from {
            _ if is_right => self.offset_ms,
            Some((from_ms, at_ms)) if now.boottime_ms.saturating_sub(at_ms) < GRACE_MS => from_ms,
            _ => self.offset_ms,
        }
    }

    /// By how many milliseconds the clock was set while it counted as right, once for each time.
    pub fn take_step(&mut self) -> Option<i64> {
        self.untold_from.take().map(|from_ms| self.offset_ms.saturating_sub(from_ms))
    }
}
