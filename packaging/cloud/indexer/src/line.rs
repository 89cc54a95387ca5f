//! One line of a record → a reading, gap record or state record that the index can take, or why it cannot. Pure.
//!
//! A line that fails here would fail on every try: it is set aside. Reasons name a field and never what
//! stands in it.

use chrono::DateTime;
use hr_gateway::reading::{GatewayId, SensorId};
use hr_gateway::wire::{SCHEMA_VERSION, Timestamp, WireRecord};

/// Longest `_id` that OpenSearch takes, bytes.
pub const ID_BYTES_MAX: usize = 512;

/// Longest text of any other field, bytes: of one beyond 32,766 Lucene makes no term, and says so as it would of an index
/// that is full.
pub const TEXT_BYTES_MAX: usize = 512;

/// Why a line is none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Poison {
    /// Not JSON.
    #[error("the line is not JSON")]
    NotJson,
    /// JSON, but fields are missing or of another type.
    #[error("the line is not a wire record")]
    NotWireRecord,
    /// Its meaning may have changed: a newer gateway needs a newer indexer.
    #[error("the line's schema_version is unknown")]
    SchemaVersion,
    /// It cannot be the document's `_id`.
    #[error("the line's reading_id is empty or longer than {ID_BYTES_MAX} bytes")]
    ReadingId,
    /// A name that no gateway writes.
    #[error("the line's gateway_id or sensor_id is no name")]
    Name,
    /// Longer than a gateway writes it.
    #[error("the line has a text longer than {TEXT_BYTES_MAX} bytes")]
    TooLong,
    /// Not the 24 characters of a UTC time.
    #[error("the line's {0} is not a time")]
    Time(&'static str),
    /// Neither a reading, nor a gap record, nor a state record; or several.
    #[error("the line is neither a reading nor a gap record nor a state record")]
    Kind,
}

/// A line that belongs into the index.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading<'a> {
    /// What the line says.
    pub record: WireRecord<'a>,
    /// Its `timestamp`, milliseconds since 1970.
    pub taken_ms: i64,
    /// The line as it came, from its brace to the one that ends it: with the fields that a newer gateway adds.
    object: Box<str>,
}

impl Reading<'_> {
    /// Reads one line, with or without its `\n`.
    pub fn parse(line: &str) -> Result<Self, Poison> {
        let line = line.trim();
        let record: WireRecord<'_> = serde_json::from_str(line)
            .map_err(|error| if error.is_data() { Poison::NotWireRecord } else { Poison::NotJson })?;
        // Its fields in their order, as a list, would be read as well.
        if !line.starts_with('{') {
            return Err(Poison::NotWireRecord);
        }
        if record.schema_version != SCHEMA_VERSION {
            return Err(Poison::SchemaVersion);
        }
        if record.reading_id.is_empty() || record.reading_id.len() > ID_BYTES_MAX {
            return Err(Poison::ReadingId);
        }
        if record.gateway_id.parse::<GatewayId>().is_err() || record.sensor_id.parse::<SensorId>().is_err() {
            return Err(Poison::Name);
        }
        let texts = [&*record.session_id, record.gateway_version.as_deref().unwrap_or_default()];
        if texts.iter().any(|text| text.len() > TEXT_BYTES_MAX) {
            return Err(Poison::TooLong);
        }
        let taken_ms = time_ms(&record.timestamp).ok_or(Poison::Time("timestamp"))?;
        let kinds = (record.heart_rate, record.record, record.gap_reason);
        match (kinds, &record.gap_start, &record.gap_end) {
            ((Some(_), None, None) | (None, Some(_), None), None, None) => {}
            ((None, None, Some(_)), Some(start), Some(end)) => {
                time_ms(start).ok_or(Poison::Time("gap_start"))?;
                time_ms(end).ok_or(Poison::Time("gap_end"))?;
            }
            _ => return Err(Poison::Kind),
        }
        Ok(Self { record, taken_ms, object: line.into() })
    }

    /// The line as it came, without its end.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// The document, on one line, as of the time `now_ms` that it is indexed at.
    pub fn document(&self, now_ms: i64) -> Vec<u8> {
        let indexed_at = Timestamp::from_ms(now_ms);
        let lag_ms = now_ms.saturating_sub(self.taken_ms);
        let fields = self.object.strip_suffix('}').expect("a record was read from it");
        format!("{fields},\"indexed_at\":\"{}\",\"lag_ms\":{lag_ms}}}", indexed_at.as_str()).into_bytes()
    }
}

/// Milliseconds since 1970, if `text` is a time as the gateway writes it: any other form would be read
/// by OpenSearch in its own way, or not at all.
pub fn time_ms(text: &str) -> Option<i64> {
    let ms = DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis();
    (Timestamp::from_ms(ms).as_str() == text).then_some(ms)
}
