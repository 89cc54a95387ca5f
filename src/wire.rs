//! One reading, gap record, sensor or gateway state record ⇄ one line of NDJSON. Pure.
//!
//! What must hold: `timestamp` and `heart_rate` come first and keep their names, as consumers of such
//! a stream know them; what is absent costs no bytes; a line ends in `\n` and holds no other; a number
//! is never rounded. A change of meaning gets a new [`SCHEMA_VERSION`].

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::clock::{self, Anchor, ClockQuality};
use crate::heart_rate::{BodySensorLocation, RrInterval};
use crate::reading::{
    Body, Epoch, GapReason, GatewayState, Item, Measurement, Mode, Origin, Origins, SensorId, SensorState,
};

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
    /// The sensor's name; [`NO_SENSOR`](crate::reading::NO_SENSOR) in a gateway state record.
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
    /// The version of the gateway's program; gateway state records only, as are the next five.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_version: Option<Cow<'a, str>>,
    /// Sensors that it looks after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensors: Option<u32>,
    /// Those of them whose readings flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensors_streaming: Option<u32>,
    /// Lines that waited in its queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_depth: Option<u64>,
    /// How old the oldest of them was, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_oldest_s: Option<u64>,
    /// Bytes free on the queue's disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_free_bytes: Option<u64>,
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
    /// How the gateway was.
    GatewayState,
}

impl RecordKind {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SensorState => "sensor_state",
            Self::GatewayState => "gateway_state",
        }
    }
}

/// Appends the line of `item` to `out`.
pub fn write_line(item: &Item, envelope: &Envelope, out: &mut Vec<u8>) {
    LineWriter::new(envelope).write(item, out);
}

/// Writes lines as serde would write their [`WireRecord`]s, byte for byte, in a tenth of the time: no name that a
/// line holds needs escaping ([`crate::reading`]), and what many lines have in common is written once and copied.
pub struct LineWriter<'a> {
    envelope: &'a Envelope,
    /// From the end of the reading's id to its sequence, with what that was made of.
    middle: Vec<u8>,
    middle_of: Option<(SensorId, u64, Epoch)>,
    epoch: [u8; 16],
    day: Day,
}

impl<'a> LineWriter<'a> {
    /// For items of the queue that `envelope` is of.
    pub fn new(envelope: &'a Envelope) -> Self {
        Self { envelope, middle: Vec::new(), middle_of: None, epoch: [0; 16], day: Day::of(0) }
    }

    /// Appends the line of `item` to `out`.
    pub fn write(&mut self, item: &Item, out: &mut Vec<u8>) {
        let (taken_ms, clock) = clock::resolve(&item.taken, &self.envelope.anchors);
        let timestamp = self.day.timestamp(taken_ms);
        self.look_up_middle(item);
        out.extend_from_slice(b"{\"timestamp\":\"");
        out.extend_from_slice(&timestamp.0);
        out.push(b'"');
        if let Body::Measurement(measurement) = &item.body {
            put_field(out, "heart_rate", u64::from(measurement.values.heart_rate));
        }
        put(out, ",\"reading_id\":\"");
        out.extend_from_slice(&self.epoch);
        out.push(b'-');
        let at = out.len();
        put_number(out, item.sequence);
        let sequence = at..out.len();
        out.extend_from_slice(&self.middle);
        out.extend_from_within(sequence);
        match &item.body {
            Body::Measurement(measurement) => put_measurement(out, measurement),
            Body::State(state) => put_state(out, state),
            Body::Gateway(state) => put_gateway(out, state),
            Body::Gap(gap) => {
                let start_ms = clock::span_start(&gap.start, &item.taken, &self.envelope.anchors);
                put_word(out, "gap_reason", gap.reason.as_str());
                put_word(out, "gap_start", Timestamp::from_ms(start_ms).as_str());
                put_word(out, "gap_end", timestamp.as_str());
                if gap.readings_lost > 0 {
                    put_field(out, "gap_readings_lost", gap.readings_lost);
                }
            }
        }
        put_word(out, "clock", clock.as_str());
        put_field(out, "schema_version", u64::from(SCHEMA_VERSION));
        put(out, "}\n");
    }

    fn look_up_middle(&mut self, item: &Item) {
        let Origin { epoch, gateway, .. } = self.envelope.origins.of(item.sequence);
        let known = self.middle_of.as_ref();
        if known.is_some_and(|known| (&known.0, known.1, known.2) == (&item.sensor, item.session, *epoch)) {
            return;
        }
        self.middle_of = Some((item.sensor.clone(), item.session, *epoch));
        self.epoch = epoch.digits();
        let middle = &mut self.middle;
        middle.clear();
        put(middle, "\"");
        put_word(middle, "gateway_id", gateway.as_str());
        put_word(middle, "sensor_id", item.sensor.as_str());
        put(middle, ",\"session_id\":\"");
        middle.extend_from_slice(&self.envelope.origins.of(item.session).epoch.digits());
        put(middle, "-s");
        put_number(middle, item.session);
        put(middle, "\",\"sequence\":");
    }
}

fn put_measurement(out: &mut Vec<u8>, Measurement { values, location, mode }: &Measurement) {
    if let Some(contact) = values.sensor_contact {
        put(out, if contact { ",\"sensor_contact\":true" } else { ",\"sensor_contact\":false" });
    }
    if let Some(energy) = values.energy_expended_kj {
        put_field(out, "energy_expended_kj", u64::from(energy));
    }
    let mut before = ",\"rr_intervals_ms\":[";
    for rr in &values.rr_intervals {
        put(out, before);
        put_rr_interval(out, *rr);
        before = ",";
    }
    if !values.rr_intervals.is_empty() {
        out.push(b']');
    }
    put_location(out, *location);
    if *mode != Mode::default() {
        put_word(out, "mode", mode.as_str());
    }
}

fn put_state(out: &mut Vec<u8>, state: &SensorState) {
    put_location(out, state.location);
    put_word(out, "record", RecordKind::SensorState.as_str());
    if let Some(percent) = state.battery_percent {
        put_field(out, "battery_percent", u64::from(percent));
    }
    if let Some(dbm) = state.rssi_dbm {
        put(out, if dbm < 0 { ",\"rssi_dbm\":-" } else { ",\"rssi_dbm\":" });
        put_number(out, u64::from(dbm.unsigned_abs()));
    }
}

fn put_gateway(out: &mut Vec<u8>, state: &GatewayState) {
    put_word(out, "record", RecordKind::GatewayState.as_str());
    put_word(out, "gateway_version", state.version.as_str());
    let fields = [
        ("sensors", Some(u64::from(state.sensors))),
        ("sensors_streaming", Some(u64::from(state.sensors_streaming))),
        ("queue_depth", Some(state.queue_depth)),
        ("queue_oldest_s", state.queue_oldest_s),
        ("disk_free_bytes", state.disk_free_bytes),
    ];
    fields
        .into_iter()
        .for_each(|(name, value)| value.into_iter().for_each(|value| put_field(out, name, value)));
}

fn put_location(out: &mut Vec<u8>, location: Option<BodySensorLocation>) {
    location.into_iter().for_each(|location| put_word(out, "sensor_location", location.as_str()));
}

/// The exact milliseconds of n/1024 s, of which there are seven decimals: 1000/1024 is 125/128, and 1/128 is
/// 0.0078125. No shorter number is the same double, so it is what serde writes.
fn put_rr_interval(out: &mut Vec<u8>, RrInterval(ticks): RrInterval) {
    let of_128 = u64::from(ticks) * 125;
    put_number(out, of_128 / 128);
    let mut decimals = *b".0000000";
    put_digits(&mut decimals[1..], (of_128 % 128) as u32 * 78_125);
    let zeros = decimals[2..].iter().rev().take_while(|digit| **digit == b'0').count();
    out.extend_from_slice(&decimals[..decimals.len() - zeros]);
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    put(out, ",\"");
    put(out, name);
    put(out, "\":");
}

/// One that is a number.
fn put_field(out: &mut Vec<u8>, name: &str, value: u64) {
    put_name(out, name);
    put_number(out, value);
}

/// One that is a text in which nothing needs escaping.
fn put_word(out: &mut Vec<u8>, name: &str, word: &str) {
    put_name(out, name);
    put(out, "\"");
    put(out, word);
    put(out, "\"");
}

fn put_number(out: &mut Vec<u8>, value: u64) {
    put(out, itoa::Buffer::new().format(value));
}

/// An RFC 3339 time stamp in UTC with milliseconds: 24 bytes, no allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp([u8; 24]);

impl Timestamp {
    /// For `ms` milliseconds since 1970. Outside the years 0 to 9999, which no clock that this
    /// gateway reads can show, it stays at the nearest of them.
    pub fn from_ms(ms: i64) -> Self {
        Day::of(ms).timestamp(ms)
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

/// A day's time stamps.
struct Day {
    first_ms: i64,
    midnight: [u8; 24],
}

impl Day {
    const MS: i64 = 86_400_000;

    fn clamp(ms: i64) -> i64 {
        const FIRST_MS: i64 = -62_167_219_200_000; // 0000-01-01T00:00:00.000Z
        const LAST_MS: i64 = 253_402_300_799_999; // 9999-12-31T23:59:59.999Z
        ms.clamp(FIRST_MS, LAST_MS)
    }

    /// The day in which `ms` is.
    fn of(ms: i64) -> Self {
        use chrono::Datelike;
        let ms = Self::clamp(ms);
        let date = chrono::DateTime::from_timestamp_millis(ms).expect("the clamped range is inside chrono's");
        let mut midnight = *b"0000-00-00T00:00:00.000Z";
        put_digits(&mut midnight[0..4], date.year() as u32);
        put_digits(&mut midnight[5..7], date.month());
        put_digits(&mut midnight[8..10], date.day());
        Self { first_ms: ms - ms.rem_euclid(Self::MS), midnight }
    }

    /// The time stamp for `ms`; of another day, this becomes that day.
    fn timestamp(&mut self, ms: i64) -> Timestamp {
        let ms = Self::clamp(ms);
        if !(0..Self::MS).contains(&(ms - self.first_ms)) {
            *self = Self::of(ms);
        }
        let of_day = (ms - self.first_ms) as u32;
        let mut text = self.midnight;
        put_digits(&mut text[11..13], of_day / 3_600_000);
        put_digits(&mut text[14..16], of_day / 60_000 % 60);
        put_digits(&mut text[17..19], of_day / 1_000 % 60);
        put_digits(&mut text[20..23], of_day % 1_000);
        Timestamp(text)
    }
}

fn put_digits(place: &mut [u8], mut value: u32) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}
