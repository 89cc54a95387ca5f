//! Items → records → batches. Pure.
//!
//! A record carries one sensor's readings, one per line, so that a partition key keeps a sensor on one
//! shard. Its size adapts by itself: what is waiting goes in, so a live sensor has one reading per
//! record and a backlog as many as are allowed.

use std::time::Duration;

use crate::config::{DrainConfig, RECORD_READINGS_MAX};
use crate::reading::{Item, SensorId};
use crate::wire::{Envelope, LineWriter};

/// Most entries in one PutRecords call (API reference, PutRecords).
pub const BATCH_RECORDS_MAX: usize = 500;
/// Largest record. Kinesis takes 1 MiB; a fifth of that leaves a throttled shard finer grains to
/// accept, and costs nothing: pricing rounds to 25 KB at the coarsest.
pub const RECORD_BYTES_MAX: usize = 192 << 10;
/// After a call that something on the way (a proxy) found too large, twice as much is tried so much later:
/// a try that is refused costs one call, and a limit that is gone costs speed until then.
const CALL_SIZE_DOUBLES_EVERY: Duration = Duration::from_secs(60);

/// What one PutRecords entry carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The sensor, which is the partition key.
    pub sensor: SensorId,
    /// NDJSON, one line for each of `sequences`.
    pub data: Vec<u8>,
    /// The items in it, in the order of the lines.
    pub sequences: Vec<u64>,
    /// The [offset](crate::clock::SystemClock::offset_ms) of the clock that its time stamps go by. A call
    /// is signed by the same one: where that is wrong, it is refused, and not accepted with wrong time
    /// stamps because the clock was set in between.
    pub clock_offset_ms: i64,
}

impl Record {
    /// What counts towards the limits of a call: data and partition key, bytes.
    pub fn bytes(&self) -> usize {
        self.data.len() + self.sensor.as_str().len()
    }

    /// Itself, or parts of it of at most `bytes_max`, or of one line each where that is more.
    pub fn split_to(self, bytes_max: usize) -> Vec<Record> {
        match self.split() {
            Some((first, second)) if self.bytes() > bytes_max => {
                let mut parts = first.split_to(bytes_max);
                parts.extend(second.split_to(bytes_max));
                parts
            }
            _ => vec![self],
        }
    }

    /// Two records with half of the lines each; `None` where there is only one.
    pub fn split(&self) -> Option<(Record, Record)> {
        let half = self.sequences.len() / 2;
        let last_line = half.checked_sub(1)?;
        let end = self.data.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(last_line)?.0 + 1;
        let part = |data: &[u8], sequences: &[u64]| Record {
            sensor: self.sensor.clone(),
            data: data.to_vec(),
            sequences: sequences.to_vec(),
            clock_offset_ms: self.clock_offset_ms,
        };
        Some((
            part(&self.data[..end], &self.sequences[..half]),
            part(&self.data[end..], &self.sequences[half..]),
        ))
    }
}

/// How large a call may be: as configured, or what something on the way was seen to take.
#[derive(Debug)]
pub struct CallSize {
    configured: usize,
    seen: usize,
    refused_at: Duration,
}

impl CallSize {
    /// As configured, until told otherwise.
    pub fn new(bytes_max: usize) -> Self {
        Self { configured: bytes_max, seen: bytes_max, refused_at: Duration::ZERO }
    }

    /// Most bytes of a call now.
    pub fn bytes_max(&mut self, now: Duration) -> usize {
        if self.seen < self.configured && now.saturating_sub(self.refused_at) >= CALL_SIZE_DOUBLES_EVERY {
            self.seen = (self.seen * 2).min(self.configured);
            self.refused_at = now;
        }
        self.seen
    }

    /// A call of `bytes` was too large. Returns the new limit: half of it.
    pub fn refused(&mut self, bytes: usize, now: Duration) -> usize {
        self.refused_at = now;
        self.seen = self.seen.min(bytes / 2).max(1);
        self.seen
    }
}

/// The bounds of records and calls.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most lines in a record.
    pub record_readings_max: usize,
    /// Most bytes in a call.
    pub batch_bytes_max: usize,
    /// Most calls in flight.
    pub calls_in_flight_max: usize,
    /// So long what was appended waits for more.
    pub linger: Duration,
    /// Ceiling of the delay between tries of what fails by itself.
    pub retry_delay_max: Duration,
    /// Ceiling of the delay between tries of what a person must mend.
    pub blocked_delay_max: Duration,
}

impl Limits {
    /// The bounds that `config` sets.
    pub fn from_config(config: &DrainConfig) -> Self {
        Self {
            record_readings_max: config.record_readings_max.clamp(1, RECORD_READINGS_MAX),
            batch_bytes_max: config.batch_bytes_max.0 as usize,
            calls_in_flight_max: config.calls_in_flight_max,
            linger: config.linger.0,
            retry_delay_max: config.retry_delay_max.0,
            blocked_delay_max: config.blocked_delay_max.0,
        }
    }
}

/// Packs `items` by sensor. Lines of a record ascend by sequence, whatever the order of `items`.
pub fn pack(items: Vec<Item>, envelope: &Envelope, clock_offset_ms: i64, readings_max: usize) -> Vec<Record> {
    let mut groups: Vec<(SensorId, Vec<Item>)> = Vec::new();
    let mut lines = LineWriter::new(envelope);
    let mut records = Vec::new();
    for item in items {
        let known = groups.iter().position(|(sensor, _)| *sensor == item.sensor);
        let index = known.unwrap_or_else(|| {
            groups.push((item.sensor.clone(), Vec::new()));
            groups.len() - 1
        });
        let group = &mut groups[index].1;
        group.push(item);
        if group.len() == readings_max {
            write_records(std::mem::take(group), &mut lines, clock_offset_ms, &mut records);
        }
    }
    for (_, group) in groups {
        write_records(group, &mut lines, clock_offset_ms, &mut records);
    }
    records
}

fn write_records(
    mut items: Vec<Item>,
    lines: &mut LineWriter<'_>,
    clock_offset_ms: i64,
    records: &mut Vec<Record>,
) {
    items.sort_unstable_by_key(|item| item.sequence);
    let mut items = items.into_iter().peekable();
    while let Some(first) = items.peek() {
        let mut record =
            Record { sensor: first.sensor.clone(), data: Vec::new(), sequences: Vec::new(), clock_offset_ms };
        while record.data.len() < RECORD_BYTES_MAX
            && let Some(item) = items.next()
        {
            lines.write(&item, &mut record.data);
            record.sequences.push(item.sequence);
        }
        records.push(record);
    }
}
