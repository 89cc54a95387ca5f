//! Full-jitter exponential delay. Pure: the randomness is passed in.
//!
//! Source: "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015). The ceiling is low on
//! purpose: a backoff that grows to minutes keeps data waiting long after the network is back.

use std::time::Duration;

/// A validated pair of bounds: `base` is not zero and not above `ceiling`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// `None` if `base` is zero or above `ceiling`.
    pub const fn new(base: Duration, ceiling: Duration) -> Option<Self> {
        if base.is_zero() || base.as_nanos() > ceiling.as_nanos() {
            return None;
        }
        Some(Self { base, ceiling })
    }

    /// The delay before retry number `attempt` (0 is the first), for a `random` in `0.0..1.0`: evenly
    /// between nothing and `base * 2^attempt`, never above the ceiling.
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        let factor = 1u32.checked_shl(attempt).unwrap_or(u32::MAX);
        let bound = self.base.checked_mul(factor).unwrap_or(self.ceiling).min(self.ceiling);
        bound.mul_f64(random.clamp(0.0, 1.0))
    }
}
