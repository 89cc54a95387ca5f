//! How fast each shard is fed. Pure.
//!
//! A shard takes 1 MB/s or 1,000 records/s (Kinesis quotas). Hammering it with more only gets entries
//! rejected, so each shard has a token bucket. It starts at the documented rate and doubles while
//! nothing is rejected (a sink may have no limit at all). The first rejection sets it back to the
//! documented rate; from then on it creeps up and steps back gently, which keeps the shard's own
//! bucket near empty: all of its capacity used, few entries rejected, other writers made room for.
//!
//! A shard has other writers: after an outage a fleet of gateways comes back at once. So the buckets then
//! start low, one that is rejected again and again steps back by much, and where it gives little, records
//! are small: a rejection costs what was sent. What that comes to for 10,000 gateways: docs/scale.md.
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
const CREEP_DOUBLES_EVERY: Duration = Duration::from_secs(6);
const CREEP_PER_S_MAX: f64 = 0.2;
const STEP_BACK: f64 = 0.985;
/// Where others have most of the shard: so few records accepted since the last rejection.
const CROWDED_STEP_BACK: f64 = 0.5;
const CROWDED_RECORDS: u32 = 16;
/// After so many in vain, how much a shard takes that takes something again is found out anew.
const IN_VAIN_MAX: u32 = 3;
/// Rejections of one burst count once.
const STEP_BACK_EVERY: Duration = Duration::from_millis(500);
/// Of each sensor on the shard: two live readings a second, each in a record of its own.
const RATE_MIN: f64 = 2.0 * RECORD_COST_MIN;
/// After an outage: the documented rate is reached within a second or two, if the shard is free.
const RATE_AFTER_OUTAGE: f64 = 16_000.0;
const RATE_MAX: f64 = 1e9;
/// Tokens saved up while idle, as time at the current rate.
const BURST: Duration = Duration::from_millis(50);
/// A record of a shard that gives little is no larger than what it gives in this time.
const RECORD_SPAN: Duration = Duration::from_secs(5);

/// The buckets of all shards.
#[derive(Debug, Default)]
pub struct Pacer {
    shard_of: HashMap<SensorId, String>,
    buckets: HashMap<String, Bucket>,
}

#[derive(Debug, Clone)]
struct Bucket {
    rate: f64,
    tokens: f64,
    refilled_at: Duration,
    grown_at: Duration,
    stepped_back_at: Option<Duration>,
    /// Records accepted since then.
    accepted: u32,
    /// Steps back since a record was last accepted.
    in_vain: u32,
    /// Whether one was accepted since the last growth: what is on its way has not said yet that it was too much.
    confirmed: bool,
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

    /// How large a record of the sensor should be now, bytes.
    pub fn record_bytes_max(&self, sensor: &SensorId) -> usize {
        let rate = self.buckets.get(self.shard(sensor)).map_or(SHARD_BYTES_PER_S, |bucket| bucket.rate);
        (rate * RECORD_SPAN.as_secs_f64()) as usize
    }

    /// The sink is back after an outage, and so it may be for many.
    pub fn outage_ended(&mut self, now: Duration) {
        for bucket in self.buckets.values_mut() {
            *bucket = Bucket::new(bucket.rate.min(RATE_AFTER_OUTAGE), now);
        }
    }

    /// A record was accepted by `shard`.
    pub fn accepted(&mut self, sensor: &SensorId, shard: Option<&str>) {
        let known = self.shard_of.get(sensor).map_or("", String::as_str);
        let named = shard.filter(|shard| *shard != known).map(str::to_owned);
        // What was learned of a shard while it had no name.
        if let Some(shard) = &named
            && let Some(before) = self.buckets.get(known).cloned()
        {
            self.buckets.entry(shard.clone()).or_insert(before);
        }
        if let Some(bucket) = self.buckets.get_mut(shard.unwrap_or(known)) {
            bucket.accept();
        }
        if let Some(shard) = named {
            self.shard_of.insert(sensor.clone(), shard);
        }
    }

    /// A record was rejected because its shard is at its limit.
    pub fn throttled(&mut self, sensor: &SensorId, now: Duration) {
        let shard = self.shard(sensor);
        let sensors = self.shard_of.values().filter(|of| *of == shard).count();
        self.bucket(sensor, now).step_back(RATE_MIN * sensors.max(1) as f64, now);
    }

    /// The shard that the sensor's records went to last; empty until an answer told.
    pub fn shard(&self, sensor: &SensorId) -> &str {
        self.shard_of.get(sensor).map_or("", String::as_str)
    }

    fn bucket(&mut self, sensor: &SensorId, now: Duration) -> &mut Bucket {
        // Until an answer tells the shard, all sensors share the bucket without a name.
        let shard = self.shard(sensor).to_owned();
        self.buckets.entry(shard).or_insert_with(|| Bucket::new(SHARD_BYTES_PER_S, now))
    }
}

fn cost(record: &Record) -> f64 {
    (record.bytes() as f64).max(RECORD_COST_MIN)
}

impl Bucket {
    fn new(rate: f64, now: Duration) -> Self {
        Self {
            rate,
            tokens: rate * BURST.as_secs_f64(),
            refilled_at: now,
            grown_at: now,
            stepped_back_at: None,
            accepted: 0,
            in_vain: 0,
            confirmed: false,
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
        if elapsed < DOUBLE_EVERY || (self.stepped_back_at.is_none() && !self.confirmed) {
            return;
        }
        self.confirmed = false;
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

    fn accept(&mut self) {
        if self.in_vain >= IN_VAIN_MAX {
            self.stepped_back_at = None;
        }
        self.in_vain = 0;
        self.accepted = self.accepted.saturating_add(1);
        self.confirmed = true;
    }

    fn step_back(&mut self, rate_min: f64, now: Duration) {
        if self.stepped_back_at.is_some_and(|at| now.saturating_sub(at) < STEP_BACK_EVERY) {
            return;
        }
        self.rate = match self.stepped_back_at {
            None if self.rate > SHARD_BYTES_PER_S => SHARD_BYTES_PER_S,
            // The shard gives far less, other writers have the rest.
            _ if self.accepted < CROWDED_RECORDS => self.rate * CROWDED_STEP_BACK,
            _ => self.rate * STEP_BACK,
        }
        .max(rate_min);
        self.accepted = 0;
        self.in_vain = self.in_vain.saturating_add(1);
        self.tokens = self.tokens.min(0.0);
        self.stepped_back_at = Some(now);
        self.grown_at = now;
    }
}
