//! The wire record.

use hr_gateway::clock::{Anchor, ClockQuality, resolve};
use hr_gateway::heart_rate::{BodySensorLocation, HeartRateMeasurement, RrInterval};
use hr_gateway::reading::{
    Body, BootId, Epoch, Gap, GapReason, GatewayState, Item, Measurement, Mode, Moment, Origin, Origins,
    SensorState,
};
use hr_gateway::wire::{Envelope, LineWriter, Timestamp, WireRecord, write_line};
use proptest::prelude::*;

use crate::any::{any_body, any_moment};
use crate::support::{envelope, moment, sensor};

fn line_of(body: Body) -> String {
    line_at(moment(0), body, &[])
}

fn line_at(taken: Moment, body: Body, anchors: &[Anchor]) -> String {
    let item = Item { sequence: 48_151, sensor: sensor("adi-forerunner"), session: 48_000, taken, body };
    let envelope = Envelope { anchors: anchors.to_vec(), ..envelope("living-room", Epoch(0x1234_abcd)) };
    let mut line = Vec::new();
    write_line(&item, &envelope, &mut line);
    String::from_utf8(line).unwrap()
}

#[test]
fn a_full_reading_is_this_line() {
    let line = line_of(Body::Measurement(
        HeartRateMeasurement {
            heart_rate: 72,
            sensor_contact: Some(true),
            energy_expended_kj: Some(120),
            rr_intervals: vec![RrInterval(1024), RrInterval(853)],
        }
        .into(),
    ));
    assert_eq!(
        line,
        "{\"timestamp\":\"2025-07-15T17:10:33.123Z\",\"heart_rate\":72,\
         \"reading_id\":\"000000001234abcd-48151\",\"gateway_id\":\"living-room\",\"sensor_id\":\"adi-forerunner\",\
         \"session_id\":\"000000001234abcd-s48000\",\"sequence\":48151,\"sensor_contact\":true,\
         \"energy_expended_kj\":120,\"rr_intervals_ms\":[1000.0,833.0078125],\"clock\":\"synchronized\",\
         \"schema_version\":1}\n"
    );
}

#[test]
fn every_interval_that_a_sensor_can_send_is_written_exactly() {
    for ticks in 0..=u16::MAX {
        let rr_intervals = vec![RrInterval(ticks)];
        let values = HeartRateMeasurement { rr_intervals, ..crate::support::measurement(72) };
        let line = line_of(Body::Measurement(values.into()));
        let expected =
            format!("\"rr_intervals_ms\":[{}]", serde_json::to_string(&RrInterval(ticks).as_ms()).unwrap());
        assert!(line.contains(&expected), "{line} {expected}");
    }
}

#[test]
fn what_is_absent_costs_no_bytes() {
    let line = line_of(Body::Measurement(crate::support::measurement(72).into()));
    assert!(!line.contains("null") && !line.contains("rr_intervals") && !line.contains("gap"), "{line}");
}

#[test]
fn a_reading_says_where_it_was_worn_and_that_it_came_in_an_advertisement() {
    let values = crate::support::measurement(72);
    let located = Measurement {
        values: values.clone(),
        location: Some(BodySensorLocation::EarLobe),
        mode: Mode::Notification,
    };
    let line = line_of(Body::Measurement(located));
    assert!(line.contains("\"sensor_location\":\"ear_lobe\",\"clock\"") && !line.contains("mode"), "{line}");
    let advertised = Measurement { values, location: None, mode: Mode::Advertisement };
    let line = line_of(Body::Measurement(advertised));
    assert!(line.contains("\"mode\":\"advertisement\"") && !line.contains("sensor_location"), "{line}");
}

#[test]
fn a_sensor_state_record_is_this_line() {
    let location = Some(BodySensorLocation::Wrist);
    let line = line_of(Body::State(SensorState { battery_percent: Some(87), rssi_dbm: Some(-60), location }));
    assert_eq!(
        line,
        "{\"timestamp\":\"2025-07-15T17:10:33.123Z\",\"reading_id\":\"000000001234abcd-48151\",\
         \"gateway_id\":\"living-room\",\"sensor_id\":\"adi-forerunner\",\
         \"session_id\":\"000000001234abcd-s48000\",\"sequence\":48151,\"sensor_location\":\"wrist\",\
         \"record\":\"sensor_state\",\"battery_percent\":87,\"rssi_dbm\":-60,\"clock\":\"synchronized\",\
         \"schema_version\":1}\n"
    );
}

#[test]
fn a_gateway_state_record_is_this_line() {
    let state = GatewayState {
        version: "0.1.0".parse().unwrap(),
        sensors: 2,
        sensors_streaming: 1,
        queue_depth: 40,
        queue_oldest_s: Some(33),
        disk_free_bytes: None,
    };
    let line = line_of(Body::Gateway(state));
    let said = "\"record\":\"gateway_state\",\"gateway_version\":\"0.1.0\",\"sensors\":2,\"sensors_streaming\":1,\
                \"queue_depth\":40,\"queue_oldest_s\":33,\"clock\":\"synchronized\",\"schema_version\":1}\n";
    assert!(line.ends_with(said), "{line}");
}

#[test]
fn a_gap_record_has_reason_start_and_end_and_no_heart_rate() {
    let gap = Gap { reason: GapReason::LinkDown, start: moment(0), readings_lost: 0 };
    let line = line_of(Body::Gap(gap));
    assert!(
        line.contains("\"gap_reason\":\"link_down\",\"gap_start\":\"2025-07-15T17:10:33.123Z\""),
        "{line}"
    );
    assert!(
        line.contains("\"gap_end\":\"2025-07-15T17:10:33.123Z\"") && !line.contains("heart_rate"),
        "{line}"
    );
}

/// Start and end of a gap as its line says.
fn span(start: Moment, end: Moment, anchors: &[Anchor]) -> (String, String) {
    let gap = Gap { reason: GapReason::SensorSilent, start, readings_lost: 0 };
    let line = line_at(end, Body::Gap(gap), anchors);
    let record: WireRecord<'_> = serde_json::from_str(&line).unwrap();
    (record.gap_start.unwrap().into_owned(), record.gap_end.unwrap().into_owned())
}

fn said(start: &str, end: &str) -> (String, String) {
    (start.to_owned(), end.to_owned())
}

#[test]
fn a_gap_in_which_the_clock_was_set_is_as_long_as_it_was() {
    let back = Moment { wall_ms: moment(3).wall_ms - 3_600_000, ..moment(3) };
    assert_eq!(
        span(moment(0), back, &[]),
        said("2025-07-15T16:10:33.123Z", "2025-07-15T16:10:36.123Z"),
        "three seconds, on the time line of its end"
    );
    let before_1970 = Moment { wall_ms: -5_000, ..moment(3) };
    assert_eq!(
        span(moment(0), before_1970, &[]),
        said("1969-12-31T23:59:52.000Z", "1969-12-31T23:59:55.000Z")
    );
}

#[test]
fn a_gap_across_boots_goes_by_two_clocks_only_where_that_can_be_true() {
    let next_boot = |second| Moment { boot: BootId(2), boottime_ms: 40_000, ..moment(second) };
    let since_start = said("2025-07-15T17:20:13.123Z", "2025-07-15T17:20:53.123Z");
    assert_eq!(
        span(moment(0), next_boot(620), &[]),
        said("2025-07-15T17:10:33.123Z", "2025-07-15T17:20:53.123Z")
    );
    assert_eq!(span(moment(7_000), next_boot(620), &[]), since_start, "one of the two was wrong");
    let in_2019 = Moment { wall_ms: 1_546_300_860_000, synchronized: false, ..moment(0) };
    assert_eq!(span(in_2019, next_boot(620), &[]), since_start, "nobody knows how long it was off");
    let anchor = Anchor { boot: moment(0).boot, offset_ms: moment(0).offset_ms(), boottime_ms: u64::MAX };
    assert_eq!(
        span(in_2019, next_boot(620), &[anchor]),
        said("2025-07-15T17:10:33.123Z", "2025-07-15T17:20:53.123Z"),
        "known by now"
    );
}

#[test]
fn a_reading_taken_after_the_clock_was_set_is_not_corrected_by_what_was_known_before() {
    let anchor = Anchor { boot: BootId(7), offset_ms: 1_752_599_400_000, boottime_ms: 90_000 };
    let at = |boottime_ms: u64, offset_ms: i64| Moment {
        boot: BootId(7),
        boottime_ms,
        wall_ms: offset_ms + boottime_ms as i64,
        synchronized: false,
    };
    assert_eq!(resolve(&at(90_001, 0), &[anchor]), (90_001, ClockQuality::Unsynchronized));
    assert_eq!(resolve(&at(90_000, 0), &[anchor]).1, ClockQuality::Corrected);
    let back_again = at(95_000, 1_752_599_400_900);
    assert_eq!(
        resolve(&back_again, &[anchor]),
        (1_752_599_495_000, ClockQuality::Corrected),
        "the same clock"
    );
}

/// Sensors, sessions and origins that change from line to line; days too.
fn any_item() -> impl Strategy<Value = Item> {
    (0u64..40, 0u8..3, 0u64..40, any_moment(), any_body()).prop_map(
        |(sequence, name, session, taken, body)| Item {
            sequence,
            sensor: sensor(&format!("s{name}")),
            session,
            taken,
            body,
        },
    )
}

proptest! {
    /// What is written by hand is what serde writes of the record that it says it is.
    #[test]
    fn lines_are_byte_for_byte_those_of_their_records(items in proptest::collection::vec(any_item(), 1..30)) {
        let origin = |first_sequence, epoch, gateway: &str| {
            Origin { first_sequence, epoch: Epoch(epoch), gateway: gateway.parse().unwrap() }
        };
        let origins = vec![origin(0, 1, "old"), origin(10, u64::MAX, "new"), origin(20, 0xab << 40, "new")];
        let anchors = vec![Anchor { boot: BootId(1), offset_ms: 1_752_599_400_000, boottime_ms: 1 << 39 }];
        let envelope = Envelope { origins: Origins::new(origins).unwrap(), anchors };
        let mut lines = LineWriter::new(&envelope);
        for item in &items {
            let mut line = Vec::new();
            lines.write(item, &mut line);
            let text = std::str::from_utf8(&line).unwrap();
            let record: WireRecord<'_> = serde_json::from_str(text).unwrap();
            prop_assert_eq!(serde_json::to_string(&record).unwrap() + "\n", text);
            let origin = envelope.origins.of(item.sequence);
            prop_assert_eq!(&record.reading_id, &format!("{}-{}", origin.epoch, item.sequence));
            prop_assert_eq!(&record.gateway_id, origin.gateway.as_str());
            let session = envelope.origins.of(item.session);
            prop_assert_eq!(&record.session_id, &format!("{}-s{}", session.epoch, item.session));
            prop_assert_eq!((record.sequence, &*record.sensor_id), (item.sequence, item.sensor.as_str()));
            let (taken_ms, clock) = resolve(&item.taken, &envelope.anchors);
            let timestamp = Timestamp::from_ms(taken_ms);
            prop_assert_eq!((&*record.timestamp, record.clock), (timestamp.as_str(), clock));
        }
    }

    #[test]
    fn a_line_is_read_back_without_loss(heart_rate in any::<u16>(), rr in proptest::collection::vec(any::<u16>(), 0..9)) {
        let intervals: Vec<RrInterval> = rr.iter().copied().map(RrInterval).collect();
        let exact: Vec<f64> = intervals.iter().map(|rr| rr.as_ms()).collect();
        let line = line_of(Body::Measurement(HeartRateMeasurement {
            heart_rate, sensor_contact: None, energy_expended_kj: None, rr_intervals: intervals,
        }.into()));
        prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
        let record: WireRecord<'_> = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(record.heart_rate, Some(heart_rate));
        prop_assert_eq!(&record.rr_intervals_ms, &exact);
        prop_assert_eq!(serde_json::to_string(&record).unwrap() + "\n", line);
    }

    #[test]
    fn a_timestamp_is_what_chrono_says(ms in -62_167_219_200_000i64..253_402_300_800_000) {
        let chrono = chrono::DateTime::from_timestamp_millis(ms).unwrap();
        let expected = chrono.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        let timestamp = Timestamp::from_ms(ms);
        prop_assert_eq!(timestamp.as_str(), expected);
    }

    #[test]
    fn a_timestamp_always_has_24_characters(ms in any::<i64>()) {
        prop_assert_eq!(Timestamp::from_ms(ms).as_str().len(), 24);
    }
}

#[test]
fn a_boot_in_2019_is_corrected_once_its_clock_was_right_and_only_that_boot() {
    let wrong =
        Moment { boot: BootId(7), boottime_ms: 60_000, wall_ms: 1_546_300_860_000, synchronized: false };
    assert_eq!(resolve(&wrong, &[]), (1_546_300_860_000, ClockQuality::Unsynchronized));
    let anchor = Anchor { boot: BootId(7), offset_ms: 1_752_599_400_000, boottime_ms: 90_000 };
    assert_eq!(resolve(&wrong, &[anchor]), (1_752_599_460_000, ClockQuality::Corrected));
    let other_boot = Moment { boot: BootId(8), ..wrong };
    assert_eq!(resolve(&other_boot, &[anchor]).1, ClockQuality::Unsynchronized);
    let right = Moment { synchronized: true, ..wrong };
    assert_eq!(resolve(&right, &[anchor]), (1_546_300_860_000, ClockQuality::Synchronized));
}

/// A JSON Schema's enumeration, as text.
fn words(schema: &serde_json::Value, field: &str) -> Vec<String> {
    let words = schema["properties"][field]["enum"].as_array().unwrap();
    words.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

proptest! {
    #[test]
    fn wire_schema_knows_every_field_and_what_every_line_has(taken in any_moment(), body in any_body()) {
        let path = crate::support::in_tree("docs/wire.schema.json");
        let schema: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let line: serde_json::Value = serde_json::from_str(&line_at(taken, body, &[])).unwrap();
        let (line, fields) = (line.as_object().unwrap(), schema["properties"].as_object().unwrap());
        for name in schema["required"].as_array().unwrap() {
            prop_assert!(line.contains_key(name.as_str().unwrap()), "{name} is required: {line:?}");
        }
        for (name, value) in line {
            prop_assert!(fields.contains_key(name), "{name} is not in the schema");
            if let Some(allowed) = fields[name]["enum"].as_array() {
                prop_assert!(allowed.contains(value), "{name} may not be {value}");
            }
        }
        let kinds = ["heart_rate", "gap_reason", "record"].iter().filter(|kind| line.contains_key(**kind));
        prop_assert_eq!(kinds.count(), 1);
    }
}

#[test]
fn wire_schema_has_every_word() {
    let path = crate::support::in_tree("docs/wire.schema.json");
    let schema: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(words(&schema, "gap_reason"), GapReason::ALL.map(GapReason::as_str));
    let locations: Vec<&str> =
        (0..=6).map(|value| BodySensorLocation::from_value(value).unwrap().as_str()).collect();
    assert_eq!(words(&schema, "sensor_location"), locations);
}
