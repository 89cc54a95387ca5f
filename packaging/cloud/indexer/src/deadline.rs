//! How long to try again: within the invocation's time, with full jitter.

use std::time::{Duration, Instant};

use hr_gateway::backoff::Backoff;

/// Kept from the invocation's time for the answer: an invocation that Lambda ends by force answers
/// nothing, and its whole batch comes again.
pub const ANSWER_MARGIN: Duration = Duration::from_secs(2);

/// What the readings' writing may take of the time: items that stay throttled must leave enough to sum
/// the minutes of the others.
pub const WRITING_SHARE: f64 = 0.75;

/// Longest time for one call: a bulk of 5 MiB takes a busy t3.small seconds, and a call that takes longer
/// than this is better made again.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Low, as in the gateway: a backoff that grows keeps readings waiting after the domain is back.
const BACKOFF: Backoff = match Backoff::new(Duration::from_millis(100), Duration::from_secs(5)) {
    Some(backoff) => backoff,
    None => unreachable!(),
};

/// What is left of an invocation's time.
#[derive(Debug)]
pub struct Deadline {
    ends: Instant,
    attempt: u32,
}

impl Deadline {
    /// For an invocation that Lambda ends `time_left` from now.
    pub fn new(time_left: Duration) -> Self {
        Self { ends: Instant::now() + time_left.saturating_sub(ANSWER_MARGIN), attempt: 0 }
    }

    /// Its first part, a share between 0 and 1 of it.
    pub fn part(&self, share: f64) -> Self {
        let now = Instant::now();
        Self { ends: now + self.ends.saturating_duration_since(now).mul_f64(share), attempt: 0 }
    }

    /// How long the next call may take; `None` if there is no time for one.
    pub fn call_timeout(&self) -> Option<Duration> {
        let left = self.ends.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| left.min(CALL_TIMEOUT))
    }

    /// Waits before another try. `false` at once if that would leave no time for it.
    pub async fn pause(&mut self) -> bool {
        let delay = BACKOFF.delay(self.attempt, fastrand::f64());
        self.attempt += 1;
        if Instant::now() + delay >= self.ends {
            return false;
        }
        tokio::time::sleep(delay).await;
        true
    }
}
