//! A Firehose delivery's lines → the same with their minute and zone, by day; what is no line of a gateway's is refused. Pure.
//!
//! Firehose takes a record's lines apart before it asks (RecordDeAggregation), so each of its records is one line, and a
//! refused one goes to the error prefix alone. Source: "Transform source data in Amazon Data Firehose" and "Apply
//! dynamic partitioning to aggregated data" (Amazon Data Firehose Developer Guide).

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hr_gateway::wire::Timestamp;
use serde::{Deserialize, Serialize};

use crate::index::Minute;
use crate::line::Reading;

/// Where the zones begin, per cent of the highest heart rate; below the first is zone 1. As in queries/zones.sql.
const ZONE_PERCENT: [u32; 4] = [60, 70, 80, 90];

/// The payload is not what Firehose sends. It says where it stops fitting and not what stands there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the event is not a batch of a Firehose delivery (line {line}, column {column}): \
     name this function in a delivery's processors"
)]
pub struct NotFirehose {
    line: usize,
    column: usize,
}

/// Heart rates that zones are parts of, beats per minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HighestRate(u16);

impl HighestRate {
    /// `None` if it is no person's.
    pub fn new(bpm: u16) -> Option<Self> {
        (100..=250).contains(&bpm).then_some(Self(bpm))
    }

    /// From 1 to 5.
    fn zone(self, heart_rate: u16) -> u8 {
        let percent_of_it = 100 * u32::from(heart_rate);
        1 + ZONE_PERCENT.iter().filter(|begins| percent_of_it >= **begins * u32::from(self.0)).count() as u8
    }
}

/// What became of a batch, beside the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lines that were taken.
    pub taken: usize,
    /// Lines that are no gateway's.
    pub refused: usize,
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    records: Vec<Given<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Given<'a> {
    #[serde(borrow)]
    record_id: Cow<'a, str>,
    #[serde(borrow)]
    data: Cow<'a, str>,
}

/// What Firehose is answered.
#[derive(Debug, Serialize)]
pub struct Answer<'a> {
    records: Vec<Transformed<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Transformed<'a> {
    record_id: Cow<'a, str>,
    result: &'static str,
    data: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    partition_keys: Keys,
}

#[derive(Debug, Serialize)]
struct Keys {
    date: String,
}

/// Transforms each record of Firehose's `payload`. Days before `first_day` (`2025-01-01`) become that day, as in the lake.
pub fn transform<'a>(
    payload: &'a str,
    highest: HighestRate,
    first_day: &str,
) -> Result<(Answer<'a>, Counts), NotFirehose> {
    let payload: Payload<'a> = serde_json::from_str(payload)
        .map_err(|error| NotFirehose { line: error.line(), column: error.column() })?;
    let mut counts = Counts::default();
    let records = payload.records.into_iter().map(|Given { record_id, data }| {
        let line = STANDARD.decode(&*data).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match line.and_then(|line| Reading::parse(&line).ok()) {
            Some(reading) => {
                counts.taken += 1;
                let day = &reading.record.timestamp[..10];
                let date = day.max(first_day).to_owned();
                let data = STANDARD.encode(with_fields(&reading, highest)).into();
                let metadata = Some(Metadata { partition_keys: Keys { date } });
                Transformed { record_id, result: "Ok", data, metadata }
            }
            None => {
                counts.refused += 1;
                // As it came: what is repaired can be sent again.
                Transformed { record_id, result: "ProcessingFailed", data, metadata: None }
            }
        }
    });
    let records = records.collect();
    Ok((Answer { records }, counts))
}

/// The line with its minute, and of a reading its zone. Ended, as Firehose puts lines side by side.
fn with_fields(reading: &Reading<'_>, highest: HighestRate) -> String {
    let fields = reading.object().strip_suffix('}').expect("a record was read from it");
    let minute = Timestamp::from_ms(Minute::of(reading.taken_ms).start_ms());
    let zone =
        reading.record.heart_rate.map_or(String::new(), |rate| format!(",\"zone\":{}", highest.zone(rate)));
    format!("{fields},\"minute\":\"{}\"{zone}}}\n", minute.as_str())
}
