//! Shards that accept nothing are asked one call at a time, and less and less often. Pure.
//!
//! A call can go through and have every entry rejected. Each entry's own delay bounds how often it is
//! tried, not how many calls that makes: 240 entries that come due one by one were 116 calls a second.
//! So a shard whose answers accept nothing is held back as a whole: what it gets goes into one call at
//! a time, with a growing pause between them. What must hold: a shard that accepts something is never
//! held back because of another, and the first entry that is accepted ends the hold.

use std::collections::HashMap;
use std::time::Duration;

use crate::backoff::Backoff;

/// So many answers in a row without an acceptance make a shard a barren one. At a fifth of all entries
/// failing, a lone reading meets that once in 125 times.
const BARREN_ANSWERS: u32 = 3;
const PAUSE_BASE: Duration = Duration::from_millis(100);
/// However short the configured delay between tries is, barren shards are asked about once a second.
pub const PAUSE_CEILING_MIN: Duration = Duration::from_secs(1);

/// Which shards are held back, and until when.
#[derive(Debug)]
pub struct Hold {
    backoff: Backoff,
    /// Answers without an acceptance since the last one with, by shard.
    barren_answers: HashMap<String, u32>,
    attempt: u32,
    until: Duration,
    /// A call with barren shards' records is under way.
    asking: bool,
}

impl Hold {
    /// Nothing is held back yet; pauses grow up to `ceiling`, but at least to [`PAUSE_CEILING_MIN`].
    pub fn new(ceiling: Duration) -> Self {
        let backoff = Backoff::new(PAUSE_BASE, ceiling.max(PAUSE_CEILING_MIN));
        Self {
            backoff: backoff.expect("the ceiling is above the base"),
            barren_answers: HashMap::new(),
            attempt: 0,
            until: Duration::ZERO,
            asking: false,
        }
    }

    /// Whether `shard` accepts nothing.
    pub fn is_barren(&self, shard: &str) -> bool {
        self.barren_answers.get(shard).is_some_and(|answers| *answers >= BARREN_ANSWERS)
    }

    /// Whether a record for `shard` may go into a call now. Otherwise when, or `None` for not before the
    /// call under way is answered.
    pub fn admit(&self, shard: &str, now: Duration) -> Result<(), Option<Duration>> {
        if !self.is_barren(shard) {
            return Ok(());
        }
        match self.asking {
            true => Err(None),
            false if now < self.until => Err(Some(self.until)),
            false => Ok(()),
        }
    }

    /// A call with records of a barren shard goes out.
    pub fn asked(&mut self) {
        self.asking = true;
    }

    /// That call ended, whatever its answer.
    pub fn asked_and_ended(&mut self) {
        self.asking = false;
    }

    /// What an answer says of the shards whose records were in the call: whether each accepted any.
    pub fn answered(&mut self, shards: HashMap<String, bool>, now: Duration, random: f64) {
        let mut barren = false;
        for (shard, accepted) in shards {
            if accepted {
                if self.is_barren(&shard) {
                    self.attempt = 0;
                }
                self.barren_answers.remove(&shard);
                continue;
            }
            let answers = self.barren_answers.entry(shard).or_default();
            *answers = answers.saturating_add(1);
            barren |= *answers >= BARREN_ANSWERS;
        }
        if barren && now >= self.until {
            // At least half of the pause: between nothing and all of it would not bound the calls.
            self.until = now + self.backoff.delay(self.attempt, 0.5 + random / 2.0);
            self.attempt = self.attempt.saturating_add(1);
        }
    }
}
