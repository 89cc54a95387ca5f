//! Segments: both ways, encrypted, golden, damaged.

use hr_gateway::heart_rate::{BodySensorLocation, HeartRateMeasurement, RrInterval};
use hr_gateway::queue::segment::{SegmentCodec, SegmentError};
use hr_gateway::reading::{
    Body, BootId, Gap, GapReason, GatewayState, Item, Measurement, Mode, Moment, SensorState,
};
use proptest::prelude::*;

use crate::any::{any_body, any_moment};
use crate::support::{in_tree, sensor};

const KEY: &[u8] = b"q\0\0\0\0\0\0\0\x01";

fn any_items() -> impl Strategy<Value = Vec<Item>> {
    let item = (1u64..1000, 0u8..4, any::<u64>(), any_moment(), any_body());
    proptest::collection::vec(item, 1..40).prop_map(|parts| {
        let mut sequence = 0;
        let build = |(step, name, session, taken, body): (u64, u8, u64, Moment, Body)| {
            sequence += step;
            Item { sequence, sensor: sensor(&format!("s{name}")), session, taken, body }
        };
        parts.into_iter().map(build).collect()
    })
}

proptest! {
    #[test]
    fn what_is_encoded_is_read_back(items in any_items(), secret in proptest::option::of(any::<[u8; 32]>())) {
        let codec = secret.map_or_else(SegmentCodec::default, |secret| SegmentCodec::encrypted(&secret));
        prop_assert_eq!(codec.decode(KEY, &codec.encode(KEY, &items)), Ok(items));
    }

    #[test]
    fn damaged_bytes_are_an_error_or_other_items_and_never_a_panic(
        items in any_items(),
        at in any::<proptest::sample::Index>(),
        flip in 1u8..,
    ) {
        let codec = SegmentCodec::default();
        let mut value = codec.encode(KEY, &items);
        let at = at.index(value.len());
        value[at] ^= flip;
        _ = codec.decode(KEY, &value);
        _ = codec.decode(KEY, &value[..at]);
    }

    #[test]
    fn an_encrypted_segment_shows_any_change(items in any_items(), at in any::<proptest::sample::Index>(), flip in 1u8..) {
        let codec = SegmentCodec::encrypted(&[7; 32]);
        let mut value = codec.encode(KEY, &items);
        let at = at.index(value.len());
        value[at] ^= flip;
        prop_assert!(codec.decode(KEY, &value).is_err());
    }
}

/// One of each thing a segment can hold.
fn golden_items() -> Vec<Item> {
    let at = |n: u64, synchronized| Moment {
        boot: BootId(u128::from(n / 3)),
        boottime_ms: 5_000 + n * 1_000,
        wall_ms: 1_752_599_433_123 + n as i64 * 1_000,
        synchronized,
    };
    let measured = |heart_rate, sensor_contact, energy_expended_kj, rr: &[u16]| {
        let rr_intervals = rr.iter().copied().map(RrInterval).collect();
        Body::Measurement(
            HeartRateMeasurement { heart_rate, sensor_contact, energy_expended_kj, rr_intervals }.into(),
        )
    };
    let bodies = [
        measured(72, None, None, &[]),
        measured(300, Some(true), Some(1_000), &[1024, 512, 65_535]),
        measured(0, Some(false), None, &[]),
        Body::Gap(Gap { reason: GapReason::LinkDown, start: at(1, true), readings_lost: 0 }),
        Body::Gap(Gap { reason: GapReason::Evicted, start: at(0, false), readings_lost: 4_711 }),
    ];
    let names = ["adi-forerunner", "strap"];
    bodies
        .into_iter()
        .zip(0..)
        .map(|(body, n)| Item {
            sequence: 100 + n * n,
            sensor: sensor(names[n as usize % 2]),
            session: 90 + n / 2,
            taken: at(n, n != 2),
            body,
        })
        .collect()
}

#[test]
fn every_version_ever_written_stays_readable() {
    let plain = SegmentCodec::default();
    let sealed = SegmentCodec::encrypted(&[42; 32]);
    for (name, codec) in [("segment-v1.bin", &plain), ("segment-v2-key-2a.bin", &sealed)] {
        let path = in_tree("tests/vectors").join(name);
        if std::env::var_os("HR_WRITE_VECTORS").is_some() {
            std::fs::write(&path, codec.encode(KEY, &golden_items())).unwrap();
        }
        let stored = std::fs::read(&path).unwrap();
        assert_eq!(codec.decode(KEY, &stored), Ok(golden_items()), "{name}");
    }
    let stored = std::fs::read(in_tree("tests/vectors/segment-v1.bin")).unwrap();
    assert_eq!(plain.encode(KEY, &golden_items()), stored, "what is written is version 1, byte for byte");
}

/// What readings and records have had since the first vectors were written.
fn later_items() -> Vec<Item> {
    let template = &golden_items()[0];
    let values = crate::support::measurement(61);
    let state = SensorState {
        battery_percent: Some(87),
        rssi_dbm: Some(-60),
        location: Some(BodySensorLocation::EarLobe),
    };
    let bodies = [
        Body::Measurement(Measurement {
            values: values.clone(),
            location: Some(BodySensorLocation::Chest),
            mode: Mode::Notification,
        }),
        Body::Measurement(Measurement { values, location: None, mode: Mode::Advertisement }),
        Body::State(state),
        Body::State(SensorState::default()),
        Body::Gap(Gap { reason: GapReason::SensorReplaced, start: template.taken, readings_lost: 0 }),
        Body::Gap(Gap { reason: GapReason::AdapterFull, start: template.taken, readings_lost: 0 }),
        Body::Gateway(GatewayState {
            version: "0.1.0".parse().unwrap(),
            sensors: 2,
            sensors_streaming: 1,
            queue_depth: 40,
            queue_oldest_s: Some(33),
            disk_free_bytes: Some(1 << 30),
        }),
    ];
    let item = |(body, n): (Body, u64)| Item { sequence: 100 + n, body, ..template.clone() };
    bodies.into_iter().zip(0..).map(item).collect()
}

#[test]
fn states_locations_and_advertised_readings_stay_readable() {
    let path = in_tree("tests/vectors/segment-v1-states.bin");
    if std::env::var_os("HR_WRITE_VECTORS").is_some() {
        std::fs::write(&path, SegmentCodec::default().encode(KEY, &later_items())).unwrap();
    }
    let stored = std::fs::read(&path).unwrap();
    assert_eq!(SegmentCodec::default().decode(KEY, &stored), Ok(later_items()));
}

#[test]
fn each_way_a_segment_cannot_be_read_has_its_own_word() {
    let sealed = SegmentCodec::encrypted(&[1; 32]).encode(KEY, &golden_items());
    assert_eq!(SegmentCodec::default().decode(KEY, &sealed), Err(SegmentError::KeyMissing));
    assert_eq!(SegmentCodec::encrypted(&[2; 32]).decode(KEY, &sealed), Err(SegmentError::KeyWrong));
    let moved = SegmentCodec::encrypted(&[1; 32]).decode(b"q\0\0\0\0\0\0\0\x02", &sealed);
    assert_eq!(moved, Err(SegmentError::KeyWrong), "a segment moved elsewhere does not open");
    assert_eq!(SegmentCodec::default().decode(KEY, &[9, 0]), Err(SegmentError::Newer(9)));
    assert_eq!(SegmentCodec::default().decode(KEY, &[]), Err(SegmentError::Damaged));
    assert_eq!(SegmentCodec::default().decode(KEY, &[1, 255]), Err(SegmentError::Damaged));
}

#[test]
fn a_live_second_without_rr_intervals_takes_13_bytes_in_a_sealed_segment() {
    let item = |n: u64| Item {
        sequence: n,
        sensor: sensor("a"),
        session: 1,
        taken: crate::support::moment(n),
        body: Body::Measurement(crate::support::measurement(72).into()),
    };
    let bytes = |count| SegmentCodec::default().encode(KEY, &(1..=count).map(item).collect::<Vec<_>>()).len();
    assert_eq!(bytes(500) - bytes(400), 1_300);
}
