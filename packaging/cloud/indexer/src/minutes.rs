//! The readings of one sensor's minute → its sums. Pure.

use std::collections::{BTreeMap, BTreeSet};

use hr_gateway::wire::{Timestamp, WireRecord};
use serde::{Deserialize, Serialize};

use crate::bulk::Operation;
use crate::counted::Counted;
use crate::index::{Minute, minutes_index};
use crate::line::Reading;
use crate::query::Query;
use crate::stored::Stored;

/// RR-Intervals in ms that count as beats of a heart; outside, an artefact: as the lake's `hrv` query.
const RR_BEATS_MS: std::ops::RangeInclusive<f64> = 300.0..=2_000.0;

/// Readings further apart than this have no successive beats. The longest RR-Interval is 2 s, and a beat
/// waits up to one notification, sent each second, to be told.
const RR_BREAK_MS: u64 = 3_000;

/// One document of the minutes' index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// When the minute begins, as `timestamp` in the wire record.
    pub minute: String,
    /// Whose it is.
    pub sensor_id: String,
    /// The gateway of the minute's last reading; of a minute that was added to, of the last that was added.
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
    /// The readings.
    #[serde(flatten)]
    pub counted: Counted,
}

impl Sums {
    /// With those of `later`, which counts other readings of the same minute.
    fn plus(self, later: Self) -> Self {
        let readings = self.readings + later.readings;
        let rr_differences = self.rr_differences + later.rr_differences;
        let squares = self.squares() + later.squares();
        let mut ids = self.counted.ids();
        ids.extend(later.counted.ids());
        Self {
            heart_rate_min: self.heart_rate_min.min(later.heart_rate_min),
            heart_rate_mean: (self.total() + later.total()) / readings as f64,
            heart_rate_max: self.heart_rate_max.max(later.heart_rate_max),
            rmssd_ms: (rr_differences > 0).then(|| (squares / rr_differences as f64).sqrt()),
            counted: Counted::of(ids.iter().map(String::as_str)),
            readings,
            rr_differences,
            ..later
        }
    }

    /// Of the heart rates, which are whole numbers.
    fn total(&self) -> f64 {
        (self.heart_rate_mean * self.readings as f64).round()
    }

    fn squares(&self) -> f64 {
        self.rmssd_ms.map_or(0.0, |rmssd| rmssd * rmssd * self.rr_differences as f64)
    }
}

/// A minute that was touched.
#[derive(Debug)]
pub struct Touched {
    sensor: String,
    minute: Minute,
    /// All that the indices hold of it.
    readings: Vec<Reading<'static>>,
    /// Its document.
    stored: Option<Stored>,
}

/// The minutes of `query` in its order, with all `readings` that the indices hold of them, and their documents
/// as they were before those were searched for.
pub fn gather(query: &Query, readings: Vec<Reading<'static>>, stored: Vec<Option<Stored>>) -> Vec<Touched> {
    let mut by_minute: BTreeMap<(String, Minute), Vec<Reading<'static>>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for reading in readings {
        // Written before and after the retention was changed, it is in a month's index and in a day's.
        if !seen.insert(reading.record.reading_id.to_string()) {
            continue;
        }
        let key = (reading.record.sensor_id.to_string(), Minute::of(reading.taken_ms));
        by_minute.entry(key).or_default().push(reading);
    }
    let with_readings = |((sensor, minute), stored): ((&str, Minute), Option<Stored>)| {
        let readings = by_minute.remove(&(sensor.to_owned(), minute)).unwrap_or_default();
        Touched { sensor: sensor.to_owned(), minute, readings, stored }
    };
    query.minutes().zip(stored).map(with_readings).collect()
}

/// The ids of readings that a document counts and that are not in its minute, in the indices: they moved, as
/// those do whose clock was corrected, or the retention took them.
pub fn not_found(minutes: &[Touched]) -> BTreeSet<String> {
    minutes.iter().flat_map(Touched::not_found).collect()
}

/// What makes `minutes` right. `moved` are those of [`not_found`] that the indices hold after all.
///
/// A minute that lost nothing to the retention is summed anew, and has no document without a reading. One
/// that did keeps what it counted, and more is added to that.
pub fn operations(minutes: Vec<Touched>, moved: &BTreeSet<String>) -> Vec<Operation> {
    minutes.into_iter().filter_map(|minute| minute.operation(moved)).collect()
}

impl Touched {
    fn not_found(&self) -> BTreeSet<String> {
        let held: BTreeSet<&str> = self.readings.iter().map(|reading| &*reading.record.reading_id).collect();
        self.counted().into_iter().filter(|id| !held.contains(id.as_str())).collect()
    }

    /// What the document counts.
    fn counted(&self) -> BTreeSet<String> {
        let sums = self.stored.as_ref().and_then(|stored| stored.sums.as_ref());
        sums.map(|sums| sums.counted.ids()).unwrap_or_default()
    }

    fn operation(self, moved: &BTreeSet<String>) -> Option<Operation> {
        let (index, id) = (minutes_index(self.minute), self.minute.document_id(&self.sensor));
        let (counted, is_whole) = (self.counted(), self.not_found().is_subset(moved));
        let version = self.stored.as_ref().map(|stored| stored.version);
        let before = self.stored.and_then(|stored| stored.sums);
        let sums = match before {
            Some(before) if !is_whole => {
                Some(before.plus(sum_of_others(&self.sensor, self.minute, self.readings, &counted)?))
            }
            _ => {
                let sums = sum(&self.sensor, self.minute, self.readings);
                // An earlier version's document does not say which readings it counts.
                let readings = sums.as_ref().map_or(0, |sums| sums.readings);
                if before.is_some_and(|before| before.counted.is_empty() && before.readings > readings) {
                    return None;
                }
                sums
            }
        };
        match (sums, version) {
            (Some(sums), version) => {
                let document = serde_json::to_vec(&sums).expect("plain fields into memory always serialize");
                Some(Operation::index_over(&index, &id, version, &document))
            }
            (None, version) => Some(Operation::delete(&index, &id, version?)),
        }
    }
}

/// The sums of a minute's readings, in any order; `None` if there is no heart rate among them.
pub fn sum(sensor: &str, minute: Minute, readings: Vec<Reading<'_>>) -> Option<Sums> {
    sum_of_others(sensor, minute, readings, &BTreeSet::new())
}

/// The sums of those that are not in `counted`. A beat of theirs may follow one of the counted, or go before it.
fn sum_of_others(
    sensor: &str,
    minute: Minute,
    mut readings: Vec<Reading<'_>>,
    counted: &BTreeSet<String>,
) -> Option<Sums> {
    readings.sort_by(|a, b| order(&a.record).cmp(&order(&b.record)));
    readings.retain(|reading| reading.record.record.is_none());
    let is_new = |reading: &Reading<'_>| !counted.contains(&*reading.record.reading_id);
    let beating: Vec<&Reading<'_>> =
        readings.iter().filter(|reading| heart_rate(reading).is_some() && is_new(reading)).collect();
    let last = beating.iter().max_by_key(|reading| (reading.taken_ms, reading.record.sequence))?;
    let rates: Vec<u16> = beating.iter().filter_map(|reading| heart_rate(reading)).collect();
    let total: u64 = rates.iter().copied().map(u64::from).sum();
    let differences = differences_ms(&readings, is_new);
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
        counted: Counted::of(beating.iter().map(|reading| &*reading.record.reading_id)),
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

/// Differences of successive RR-Intervals in `readings`, which are in [`order`]: both beats of one session, one
/// of them at least of a reading that `is_new`, no gap record between them, both plausible.
fn differences_ms(readings: &[Reading<'_>], is_new: impl Fn(&Reading<'_>) -> bool) -> Vec<f64> {
    let mut differences = Vec::new();
    let mut before: Option<(&Reading<'_>, f64)> = None;
    for reading in readings {
        if heart_rate(reading).is_none() {
            before = None;
            continue;
        }
        before = before.filter(|(earlier, _)| may_follow(earlier, reading));
        for &rr in &reading.record.rr_intervals_ms {
            let both = before.filter(|(earlier, before)| {
                RR_BEATS_MS.contains(before)
                    && RR_BEATS_MS.contains(&rr)
                    && (is_new(earlier) || is_new(reading))
            });
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
