//! A line of the wire as a line of CSV.

use std::io::{self, Write};

use serde::Serialize;

use crate::wire::WireRecord;

/// The columns, in order.
pub(super) const CSV_COLUMNS: [&str; 19] = [
    "timestamp",
    "heart_rate",
    "reading_id",
    "gateway_id",
    "sensor_id",
    "session_id",
    "sequence",
    "sensor_contact",
    "energy_expended_kj",
    "rr_intervals_ms",
    "gap_reason",
    "gap_start",
    "gap_end",
    "clock",
    "sensor_location",
    "mode",
    "record",
    "battery_percent",
    "rssi_dbm",
];

pub(super) fn write_csv(out: &mut impl Write, line: &str) -> io::Result<()> {
    let record: WireRecord<'_> = serde_json::from_str(line)?;
    let text = |value: Option<String>| value.unwrap_or_default();
    // As in a recording: a list in one cell, separated by spaces.
    let rr: Vec<String> = record.rr_intervals_ms.iter().map(ToString::to_string).collect();
    let cells = [
        record.timestamp.into_owned(),
        text(record.heart_rate.map(|value| value.to_string())),
        record.reading_id.into_owned(),
        record.gateway_id.into_owned(),
        record.sensor_id.into_owned(),
        record.session_id.into_owned(),
        record.sequence.to_string(),
        text(record.sensor_contact.map(|value| value.to_string())),
        text(record.energy_expended_kj.map(|value| value.to_string())),
        rr.join(" "),
        word(&record.gap_reason),
        text(record.gap_start.map(std::borrow::Cow::into_owned)),
        text(record.gap_end.map(std::borrow::Cow::into_owned)),
        word(&record.clock),
        word(&record.sensor_location),
        word(&record.mode),
        word(&record.record),
        text(record.battery_percent.map(|value| value.to_string())),
        text(record.rssi_dbm.map(|value| value.to_string())),
    ];
    let mut csv = ::csv::WriterBuilder::new().from_writer(Vec::new());
    csv.write_record(&cells)?;
    out.write_all(&csv.into_inner().map_err(|error| error.into_error())?)
}

/// The word that stands for a value on the wire; none for an absent one.
fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).ok();
    value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
