//! A line of the wire as a line of CSV: every field of [`WireRecord`](crate::wire::WireRecord), under its name there.

use std::io::{self, Write};

use serde_json::{Map, Value};

/// The columns, in order. Those that came later stand behind.
pub(super) const CSV_COLUMNS: [&str; 27] = [
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
    "gap_readings_lost",
    "schema_version",
    "gateway_version",
    "sensors",
    "sensors_streaming",
    "queue_depth",
    "queue_oldest_s",
    "disk_free_bytes",
];

pub(super) fn write_csv(out: &mut impl Write, line: &str) -> io::Result<()> {
    let fields: Map<String, Value> = serde_json::from_str(line)?;
    let mut csv = ::csv::WriterBuilder::new().from_writer(Vec::new());
    csv.write_record(CSV_COLUMNS.map(|column| cell(&fields, column)))?;
    out.write_all(&csv.into_inner().map_err(|error| error.into_error())?)
}

/// Empty for what is absent. A list stays one, `[812.5,820.3]`: one of a single number would else be taken for that.
fn cell(fields: &Map<String, Value>, column: &str) -> String {
    match fields.get(column) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::wire::WireRecord;

    /// A line that has every field.
    const FULLEST: &str = r#"{"timestamp":"2025-07-15T17:10:33.123Z","heart_rate":72,"reading_id":"a-1","gateway_id":"g","sensor_id":"s","session_id":"a-1","sequence":1,"sensor_contact":true,"energy_expended_kj":5,"rr_intervals_ms":[812.5],"sensor_location":"wrist","mode":"advertisement","record":"sensor_state","battery_percent":80,"rssi_dbm":-60,"gateway_version":"0.1.0","sensors":2,"sensors_streaming":1,"queue_depth":3,"queue_oldest_s":4,"disk_free_bytes":5,"gap_reason":"link_down","gap_start":"2025-07-15T17:10:32.000Z","gap_end":"2025-07-15T17:10:33.123Z","gap_readings_lost":3,"clock":"synchronized","schema_version":1}"#;

    #[test]
    fn every_field_of_the_wire_has_a_column_and_a_lone_interval_is_a_list() {
        let record: WireRecord<'_> = serde_json::from_str(FULLEST).unwrap();
        let fields = serde_json::to_value(&record).unwrap();
        let fields: BTreeSet<&str> = fields.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, CSV_COLUMNS.into_iter().collect());
        let mut out = Vec::new();
        write_csv(&mut out, FULLEST).unwrap();
        let row = String::from_utf8(out).unwrap();
        assert_eq!(row.matches(',').count(), CSV_COLUMNS.len() - 1, "nothing is empty: {row}");
        assert!(row.contains(",[812.5],") && row.ends_with(",3,1,0.1.0,2,1,3,4,5\n"), "{row}");
    }
}
