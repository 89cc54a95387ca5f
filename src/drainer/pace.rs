//! How fast each shard is fed. Pure.
//!
//! A shard takes 1 MB/s or 1,000 records/s (Kinesis quotas). Hammering it with more only gets entries
//! rejected, so each shard has a token bucket. It starts at the documented rate and doubles while
//! nothing is rejected (a sink may have no limit at all). The first rejection sets it back to the
//! documented rate; from then on it creeps up and steps back gently, which keeps the shard's own
//! bucket near empty: all of its capacity used, few entries rejected, other writers made room for.
//!
//! Which shard a sensor's records go to is learned from the answers; PutRecords is all that the
//! gateway may call.

use std::collections::HashMap;
use std::time::Duration;

use super::batch::Record;
use crate::reading::SensorId;

/// The documented write rate of a shard, bytes per second.
pub const SHARD_BYTES_PER_S: f64 = 1_000_000.0;
/// What a record costs at least, bytes: 1,000 of these a second are the other limit.
pub const RECORD_COST_MIN: f64 = 1_000.0;
const DOUBLE_EVERY: Duration = Duration::from_millis(100);
/// Growth per second after a rejection, doubled every [`CREEP_DOUBLES_EVERY`] without another.
const CREEP_PER_S: f64 = 0.002;
const CREEP_DOUBLES_EVERY: Duration = Duration::from_secs(15);
const CREEP_PER_S_MAX: f64 = 0.2;
const STEP_BACK: f64 = 0.985;
/// Rejections of one burst count once.
const STEP_BACK_EVERY: Duration = Duration::from_millis(500);
const RATE_MIN: f64 = 10_000.0;
const RATE_MAX: f64 = 1e9;
/// Tokens saved up while idle, as time at the current rate.
const BURST: Duration = Duration::from_millis(50);

/// The buckets of all shards.
#[derive(Debug, Default)]
pub struct Pacer {
    shard_of: HashMap<SensorId, String>,
    buckets: HashMap<String, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    rate: f64,
    tokens: f64,
    refilled_at: Duration,
    grown_at: Duration,
    stepped_back_at: Option<Duration>,
    /// Something had to wait for tokens since the last growth: only then is more asked for.
    limited: bool,
}

impl Pacer {
    /// Takes the tokens for `record` if its shard has them now. Otherwise says how long to wait.
    pub fn admit(&mut self, record: &Record, now: Duration) -> Result<(), Duration> {
        let bucket = self.bucket(&record.sensor, now);
        bucket.refill(now);
        if bucket.tokens > 0.0 {
            // Into debt by at most one record: a large one need not wait for a full bucket.
            bucket.tokens -= cost(record);
            return Ok(());
        }
        bucket.limited = true;
        Err(Duration::from_secs_f64((1.0 - bucket.tokens) / bucket.rate).max(Duration::from_millis(1)))
    }

    /// A record was accepted by `shard`.
    pub fn accepted(&mut self, sensor: &SensorId, shard: Option<&str>) {
        if let Some(shard) = shard
            && self.shard_of.get(sensor).map(String::as_str) != Some(shard)
        {
            self.shard_of.insert(sensor.clone(), shard.to_owned());
        }
    }

    /// A record was rejected because its shard is at its limit.
    pub fn throttled(&mut self, sensor: &SensorId, now: Duration) {
        self.bucket(sensor, now).step_back(now);
    }

    /// The shard that the sensor's records went to last; empty until an answer told.
    pub fn shard(&self, sensor: &SensorId) -> &str {
        self.shard_of.get(sensor).map_or("", String::as_str)
    }

    fn bucket(&mut self, sensor: &SensorId, now: Duration) -> &mut Bucket {
        // Until an answer tells the shard, all sensors share the bucket without a name.
        let shard = self.shard(sensor).to_owned();
        self.buckets.entry(shard).or_insert_with(|| Bucket::new(now))
    }
}

fn cost(record: &Record) -> f64 {
    (record.bytes() as f64).max(RECORD_COST_MIN)
}

impl Bucket {
    fn new(now: Duration) -> Self {
        Self {
            rate: SHARD_BYTES_PER_S,
            tokens: SHARD_BYTES_PER_S * BURST.as_secs_f64(),
            refilled_at: now,
            grown_at: now,
            stepped_back_at: None,
            limited: false,
        }
    }

    fn refill(&mut self, now: Duration) {
        self.grow(now);
        let elapsed = now.saturating_sub(self.refilled_at).as_secs_f64();
        self.refilled_at = now;
        self.tokens = (self.tokens + elapsed * self.rate).min(self.rate * BURST.as_secs_f64());
    }

    fn grow(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.grown_at);
        if elapsed < DOUBLE_EVERY {
            return;
        }
        self.grown_at = now;
        if !std::mem::take(&mut self.limited) {
            return;
        }
        let factor = match self.stepped_back_at {
            None => 2.0,
            Some(at) => {
                let calm = now.saturating_sub(at).as_secs_f64() / CREEP_DOUBLES_EVERY.as_secs_f64();
                1.0 + (CREEP_PER_S * calm.floor().exp2()).min(CREEP_PER_S_MAX)
                    * elapsed.as_secs_f64().min(1.0)
            }
        };
        self.rate = (self.rate * factor).min(RATE_MAX);
    }

    fn step_back(&mut self, now: Duration) {
        if self.stepped_back_at.is_some_and(|at| now.saturating_sub(at) < STEP_BACK_EVERY) {
            return;
        }
        self.rate = match self.stepped_back_at {
            None if self.rate > SHARD_BYTES_PER_S => SHARD_BYTES_PER_S,
            // Rejected again at once: the shard gives far less, another writer has the rest.
            Some(at) if now.saturating_sub(at) < STEP_BACK_EVERY * 4 => self.rate * 0.7,
            _ => self.rate * STEP_BACK,
        }
        .max(RATE_MIN);
        self.tokens = self.tokens.min(0.0);
        self.stepped_back_at = Some(now);
        self.grown_at = now;
    }
}
