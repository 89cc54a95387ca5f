//! Heart Rate Measurement, both ways.

use hr_gateway::heart_rate::{HeartRateMeasurement, MalformedMeasurement, RrInterval};
use proptest::prelude::*;

fn any_measurement() -> impl Strategy<Value = HeartRateMeasurement> {
    let rr = proptest::collection::vec(any::<u16>().prop_map(RrInterval), 0..9);
    (any::<u16>(), any::<Option<bool>>(), any::<Option<u16>>(), rr).prop_map(
        |(heart_rate, sensor_contact, energy_expended_kj, rr_intervals)| HeartRateMeasurement {
            heart_rate,
            sensor_contact,
            energy_expended_kj,
            rr_intervals,
        },
    )
}

proptest! {
    #[test]
    fn what_is_encoded_is_read_back(measurement in any_measurement()) {
        prop_assert_eq!(HeartRateMeasurement::parse(&measurement.encode()), Ok(measurement));
    }

    #[test]
    fn no_payload_panics(payload in proptest::collection::vec(any::<u8>(), 0..40)) {
        _ = HeartRateMeasurement::parse(&payload);
    }

    #[test]
    fn reserved_flags_change_nothing(measurement in any_measurement(), reserved in 0u8..8) {
        let mut payload = measurement.encode();
        payload[0] |= reserved << 5;
        prop_assert_eq!(HeartRateMeasurement::parse(&payload), Ok(measurement));
    }

    #[test]
    fn a_payload_cut_short_is_refused_or_has_fewer_rr_intervals(measurement in any_measurement(), cut in 1usize..4) {
        let payload = measurement.encode();
        let short = &payload[..payload.len().saturating_sub(cut)];
        if let Ok(read) = HeartRateMeasurement::parse(short) {
            prop_assert!(read.rr_intervals.len() < measurement.rr_intervals.len());
            prop_assert_eq!(read.heart_rate, measurement.heart_rate);
        }
    }

    #[test]
    fn milliseconds_are_exact(ticks in any::<u16>()) {
        let ms = RrInterval(ticks).as_ms();
        prop_assert_eq!(ms * 1024.0, f64::from(ticks) * 1000.0);
        prop_assert_eq!(RrInterval::from_ms(ms), Some(RrInterval(ticks)));
    }
}

#[test]
fn payloads_of_real_sensors_read_as_the_specification_says() {
    let read = |payload: &[u8]| HeartRateMeasurement::parse(payload).unwrap();
    let plain = read(&[0x00, 72]);
    assert_eq!((plain.heart_rate, plain.sensor_contact), (72, None));
    assert_eq!(read(&[0x01, 0x2c, 0x01]).heart_rate, 300);
    assert_eq!(read(&[0x04, 72]).sensor_contact, Some(false));
    assert_eq!(read(&[0x06, 72]).sensor_contact, Some(true));
    // Contact detected without contact supported says nothing.
    assert_eq!(read(&[0x02, 72]).sensor_contact, None);
    assert_eq!(read(&[0x08, 72, 0x10, 0x27]).energy_expended_kj, Some(10_000));
    let all = read(&[0x1f, 0x48, 0x00, 0x01, 0x00, 0x00, 0x04, 0x00, 0x02]);
    assert_eq!(all.rr_intervals, [RrInterval(1024), RrInterval(512)]);
    assert_eq!(all.rr_intervals[0].as_ms(), 1000.0);
}

/// As a device sent them that appends a byte to each.
#[test]
fn an_odd_byte_behind_the_rr_intervals_costs_nothing() {
    for (payload, heart_rate, rr) in [
        (&[0x10, 0x3e, 0xb1, 0x03, 0xde][..], 62, &[945][..]),
        (&[0x10, 0x39, 0x23, 0x04, 0x35], 57, &[1059]),
        (&[0x10, 0x3d, 0xcf, 0x03, 0xef], 61, &[975]),
        (&[0x10, 72, 1], 72, &[]),
        (&[0x19, 0x2c, 0x01, 5, 0, 0x00, 0x04, 9], 300, &[1024]),
    ] {
        let read = HeartRateMeasurement::parse(payload).unwrap();
        let intervals: Vec<u16> = read.rr_intervals.iter().map(|rr| rr.0).collect();
        assert_eq!((read.heart_rate, &*intervals), (heart_rate, rr));
        assert!(HeartRateMeasurement::is_padded(payload));
        assert!(!HeartRateMeasurement::is_padded(&payload[..payload.len() - 1]));
    }
    for whole in [&[][..], &[0x10, 72], &[0x00, 72, 1], &[0x10, 72, 1, 2]] {
        assert!(!HeartRateMeasurement::is_padded(whole), "{whole:?}");
    }
}

#[test]
fn short_payloads_name_the_field_that_is_cut() {
    assert_eq!(HeartRateMeasurement::parse(&[]), Err(MalformedMeasurement::Empty));
    for payload in [&[0x00][..], &[0x01, 72], &[0x08, 72, 1], &[0x18, 72, 1]] {
        let error = HeartRateMeasurement::parse(payload).unwrap_err();
        assert!(
            matches!(error, MalformedMeasurement::Truncated { found, .. } if found == payload.len()),
            "{error}"
        );
    }
}
