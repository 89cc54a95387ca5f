//! One reading, gap record or sensor state record ⇄ one line of NDJSON. Pure.
//!
//! What must hold: `timestamp` and `heart_rate` come first and keep their names, as consumers of such
//! a stream know them; what is absent costs no bytes; a line ends in `\n` and holds no other; a number
//! is never rounded. A change of meaning gets a new [`SCHEMA_VERSION`].

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::clock::{self, Anchor, ClockQuality};
use crate::heart_rate::{BodySensorLocation, RrInterval};
use crate::reading::{Body, GapReason, Item, Measurement, Mode, Origins};

/// The version of the line's meaning that this build writes.
pub const SCHEMA_VERSION: u32 = 1;

/// What a queue knows beside its items that their lines need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Whose readings they are, and how their ids begin.
    pub origins: Origins,
    /// How boots that began with a wrong clock are corrected.
    pub anchors: Vec<Anchor>,
}

/// A line, field by field. The order of the fields is the order on the wire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WireRecord<'a> {
    /// RFC 3339 UTC, always 24 characters: `2025-07-15T17:10:33.123Z`. When the reading was taken, or
    /// when the gap ended.
    pub timestamp: Cow<'a, str>,
    /// Beats per minute; readings only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heart_rate: Option<u16>,
    /// Unique for ever, unchanged over retries: epoch and sequence.
    pub reading_id: Cow<'a, str>,
    /// The gateway's name.
    pub gateway_id: Cow<'a, str>,
    /// The sensor's name.
    pub sensor_id: Cow<'a, str>,
    /// The session: epoch and the session's first sequence.
    pub session_id: Cow<'a, str>,
    /// Per gateway queue, +1 per line, no holes.
    pub sequence: u64,
    /// Skin contact; absent where the sensor does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensor_contact: Option<bool>,
    /// Energy Expended, kilojoules; absent where not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_expended_kj: Option<u16>,
    /// RR-Intervals in milliseconds, oldest first, exact; absent where not sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rr_intervals_ms: Vec<f64>,
    /// Where the sensor is worn; absent where it does not say so. Readings and sensor state records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensor_location: Option<BodySensorLocation>,
    /// `advertisement` for a reading that came without a link; absent for a notification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// What the line is, where it is neither a reading nor a gap record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordKind>,
    /// The sensor's battery, percent; sensor state records only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub battery_percent: Option<u8>,
    /// How loudly the sensor was heard last, dBm; sensor state records only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rssi_dbm: Option<i16>,
    /// Why there were no readings; gap records only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_reason: Option<GapReason>,
    /// When the gap began, on the time line of its end: never after it. Within one boot the two are as far
    /// apart as it lasted, though the clock was set meanwhile. Gap records only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_start: Option<Cow<'a, str>>,
    /// When it ended; gap records only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_end: Option<Cow<'a, str>>,
    /// How many sequences were lost with the gap, where known; gap records only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_readings_lost: Option<u64>,
    /// How far to trust `timestamp`.
    pub clock: ClockQuality,
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
}

/// What a line is, where it is neither a reading nor a gap record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// How a sensor was at its `timestamp`.
    SensorState,
}

impl WireRecord<'_> {
    /// The record's line, `\n` included, appended to `out`.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(&mut *out, self).expect("plain fields into memory always serialize");
        out.push(b'\n');
    }
}

/// Appends the line of `item` to `out`.
pub fn write_line(item: &Item, envelope: &Envelope, out: &mut Vec<u8>) {
    let (taken_ms, clock) = clock::resolve(&item.taken, &envelope.anchors);
    let timestamp = Timestamp::from_ms(taken_ms);
    let origin = envelope.origins.of(item.sequence);
    let reading_id = format!("{}-{}", origin.epoch, item.sequence);
    let session_id = format!("{}-s{}", envelope.origins.of(item.session).epoch, item.session);
    let mut record = WireRecord {
        timestamp: timestamp.as_str().into(),
        heart_rate: None,
        reading_id: reading_id.into(),
        gateway_id: origin.gateway.as_str().into(),
        sensor_id: item.sensor.as_str().into(),
        session_id: session_id.into(),
        sequence: item.sequence,
        sensor_contact: None,
        energy_expended_kj: None,
        rr_intervals_ms: Vec::new(),
        sensor_location: None,
        mode: None,
        record: None,
        battery_percent: None,
        rssi_dbm: None,
        gap_reason: None,
        gap_start: None,
        gap_end: None,
        gap_readings_lost: None,
        clock,
        schema_version: SCHEMA_VERSION,
    };
    match &item.body {
        Body::Measurement(Measurement { values, location, mode }) => {
            record.heart_rate = Some(values.heart_rate);
            record.sensor_contact = values.sensor_contact;
            record.energy_expended_kj = values.energy_expended_kj;
            record.rr_intervals_ms = values.rr_intervals.iter().map(|rr: &RrInterval| rr.as_ms()).collect();
            record.sensor_location = *location;
            record.mode = (*mode != Mode::default()).then_some(*mode);
        }
        Body::State(state) => {
            record.record = Some(RecordKind::SensorState);
            record.battery_percent = state.battery_percent;
            record.rssi_dbm = state.rssi_dbm;
            record.sensor_location = state.location;
        }
        Body::Gap(gap) => {
            let start_ms = clock::span_start(&gap.start, &item.taken, &envelope.anchors);
            record.gap_reason = Some(gap.reason);
            record.gap_start = Some(Timestamp::from_ms(start_ms).as_str().to_owned().into());
            record.gap_end = Some(timestamp.as_str().into());
            record.gap_readings_lost = (gap.readings_lost > 0).then_some(gap.readings_lost);
        }
    }
    record.write_line(out);
}

/// An RFC 3339 time stamp in UTC with milliseconds: 24 bytes, no allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp([u8; 24]);

impl Timestamp {
    /// For `ms` milliseconds since 1970. Outside the years 0 to 9999, which no clock that this
    /// gateway reads can show, it stays at the nearest of them.
    pub fn from_ms(ms: i64) -> Self {
        const FIRST_MS: i64 = -62_167_219_200_000; // 0000-01-01T00:00:00.000Z
        const LAST_MS: i64 = 253_402_300_799_999; // 9999-12-31T23:59:59.999Z
        use chrono::{Datelike, Timelike};
        let time = chrono::DateTime::from_timestamp_millis(ms.clamp(FIRST_MS, LAST_MS))
            .expect("the clamped range is inside chrono's");
        let mut text = *b"0000-00-00T00:00:00.000Z";
        put_digits(&mut text[0..4], time.year() as u32);
        put_digits(&mut text[5..7], time.month());
        put_digits(&mut text[8..10], time.day());
        put_digits(&mut text[11..13], time.hour());
        put_digits(&mut text[14..16], time.minute());
        put_digits(&mut text[17..19], time.second());
        put_digits(&mut text[20..23], time.timestamp_subsec_millis());
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("digits and punctuation")
    }

    /// The first ten characters: `2025-07-15`.
    pub fn date(&self) -> &str {
        &self.as_str()[..10]
    }
}

fn put_digits(place: &mut [u8], mut value: u32) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}
