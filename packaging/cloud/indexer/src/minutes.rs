//! The readings of one sensor's minute → its sums. Pure.

use std::collections::BTreeMap;

use hr_gateway::wire::{Timestamp, WireRecord};
use serde::Serialize;

use crate::bulk::Operation;
use crate::index::{Minute, minutes_index};
use crate::line::Reading;
use crate::query::Query;

/// RR-Intervals in ms that count as beats of a heart; outside, an artefact: as the lake's `hrv` query.
const RR_BEATS_MS: std::ops::RangeInclusive<f64> = 300.0..=2_000.0;

/// Readings further apart than this have no successive beats. The longest RR-Interval is 2 s, and a beat
/// waits up to one notification, sent each second, to be told.
const RR_BREAK_MS: u64 = 3_000;

/// One document of the minutes' index.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sums {
    /// When the minute begins, as `timestamp` in the wire record.
    pub minute: String,
    /// Whose it is.
    pub sensor_id: String,
    /// The gateway of the minute's last reading.
    pub gateway_id: String,
    /// How many readings there are; gap records are none.
    pub readings: usize,
    /// The lowest heart rate, beats per minute.
    pub heart_rate_min: u16,
    /// The mean.
    pub heart_rate_mean: f64,
    /// The highest.
    pub heart_rate_max: u16,
    /// How many differences of successive RR-Intervals there are.
    pub rr_differences: usize,
    /// The root of the mean of their squares, milliseconds; absent without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rmssd_ms: Option<f64>,
}

/// What makes the minutes of `query` right, given all `readings` that the index holds of them. A minute
/// that has no reading (any more) loses its document.
pub fn operations(query: &Query, readings: Vec<Reading<'static>>) -> Vec<Operation> {
    let mut minutes: BTreeMap<(String, Minute), Vec<Reading<'static>>> = BTreeMap::new();
    for reading in readings {
        let key = (reading.record.sensor_id.to_string(), Minute::of(reading.taken_ms));
        minutes.entry(key).or_default().push(reading);
    }
    let touched =
        query.spans.iter().flat_map(|span| span.minutes().map(|minute| (span.sensor.clone(), minute)));
    touched
        .map(|(sensor, minute)| {
            let (index, id) = (minutes_index(minute), minute.document_id(&sensor));
            let key = (sensor, minute);
            match minutes.remove(&key).and_then(|readings| sum(&key.0, minute, readings)) {
                Some(sums) => {
                    let document =
                        serde_json::to_vec(&sums).expect("plain fields into memory always serialize");
                    Operation::index(&index, &id, &document)
                }
                None => Operation::delete(&index, &id),
            }
        })
        .collect()
}

/// The sums of a minute's readings, in any order; `None` if there is no heart rate among them.
pub fn sum(sensor: &str, minute: Minute, mut readings: Vec<Reading<'_>>) -> Option<Sums> {
    readings.sort_by(|a, b| order(&a.record).cmp(&order(&b.record)));
    readings.retain(|reading| reading.record.record.is_none());
    let last = readings.iter().filter(|reading| heart_rate(reading).is_some());
    let last = last.max_by_key(|reading| (reading.taken_ms, reading.record.sequence))?;
    let rates: Vec<u16> = readings.iter().filter_map(heart_rate).collect();
    let total: u64 = rates.iter().copied().map(u64::from).sum();
    let differences = differences_ms(&readings);
    let squares: f64 = differences.iter().map(|difference| difference * difference).sum();
    Some(Sums {
        minute: Timestamp::from_ms(minute.start_ms()).as_str().to_owned(),
        sensor_id: sensor.to_owned(),
        gateway_id: last.record.gateway_id.to_string(),
        readings: rates.len(),
        heart_rate_min: rates.iter().copied().min()?,
        heart_rate_mean: total as f64 / rates.len() as f64,
        heart_rate_max: rates.iter().copied().max()?,
        rr_differences: differences.len(),
        rmssd_ms: (!differences.is_empty()).then(|| (squares / differences.len() as f64).sqrt()),
    })
}

/// Of a reading; none of a gap record. A 0, as optical sensors send it off the skin, is no heart rate.
fn heart_rate(reading: &Reading<'_>) -> Option<u16> {
    reading.record.heart_rate.filter(|rate| *rate > 0)
}

/// By gateway, queue and sequence: the order in which a queue took them.
fn order<'a>(record: &'a WireRecord<'_>) -> (&'a str, &'a str, u64) {
    (&record.gateway_id, queue(record), record.sequence)
}

/// The queue's epoch: a reading's id without its sequence.
fn queue<'a>(record: &'a WireRecord<'_>) -> &'a str {
    record.reading_id.rsplit_once('-').map_or(&*record.reading_id, |(epoch, _)| epoch)
}

/// Differences of successive RR-Intervals in `readings`, which are in [`order`]: both beats of one session,
/// no gap record between them, both plausible.
fn differences_ms(readings: &[Reading<'_>]) -> Vec<f64> {
    let mut differences = Vec::new();
    let mut before: Option<(&Reading<'_>, f64)> = None;
    for reading in readings {
        if heart_rate(reading).is_none() {
            before = None;
            continue;
        }
        before = before.filter(|(earlier, _)| may_follow(earlier, reading));
        for &rr in &reading.record.rr_intervals_ms {
            let both =
                before.filter(|(_, earlier)| RR_BEATS_MS.contains(earlier) && RR_BEATS_MS.contains(&rr));
            differences.extend(both.map(|(_, earlier)| rr - earlier));
            before = Some((reading, rr));
        }
    }
    differences
}

fn may_follow(earlier: &Reading<'_>, later: &Reading<'_>) -> bool {
    earlier.record.session_id == later.record.session_id
        && earlier.record.gateway_id == later.record.gateway_id
        && later.taken_ms.abs_diff(earlier.taken_ms) <= RR_BREAK_MS
}
