//! A line of the wire as a line of CSV.

use std::io::{self, Write};

use crate::wire::WireRecord;

/// The columns, in order.
pub(super) const CSV_COLUMNS: [&str; 14] = [
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
];

pub(super) fn write_csv(out: &mut impl Write, line: &str) -> io::Result<()> {
    let record: WireRecord<'_> = serde_json::from_str(line)?;
    let text = |value: Option<String>| value.unwrap_or_default();
    // As in a recording: a list in one cell, separated by spaces.
    let rr: Vec<String> = record.rr_intervals_ms.iter().map(ToString::to_string).collect();
    let reason = record.gap_reason.and_then(|reason| serde_json::to_value(reason).ok());
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
        text(reason.and_then(|reason| reason.as_str().map(str::to_owned))),
        text(record.gap_start.map(std::borrow::Cow::into_owned)),
        text(record.gap_end.map(std::borrow::Cow::into_owned)),
        text(serde_json::to_value(record.clock)?.as_str().map(str::to_owned)),
    ];
    let mut csv = ::csv::WriterBuilder::new().from_writer(Vec::new());
    csv.write_record(&cells)?;
    out.write_all(&csv.into_inner().map_err(|error| error.into_error())?)
}
