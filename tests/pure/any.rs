//! Made-up moments and bodies of items.

use hr_gateway::heart_rate::{BodySensorLocation, HeartRateMeasurement, RrInterval};
use hr_gateway::reading::{
    Body, BootId, Gap, GapReason, GatewayState, Measurement, Mode, Moment, SensorState,
};
use proptest::prelude::*;

pub fn any_moment() -> impl Strategy<Value = Moment> {
    (0u128..3, any::<u64>(), any::<i64>(), any::<bool>()).prop_map(
        |(boot, boottime_ms, wall_ms, synchronized)| Moment {
            boot: BootId(boot),
            boottime_ms,
            wall_ms,
            synchronized,
        },
    )
}

pub fn any_body() -> impl Strategy<Value = Body> {
    let rr = proptest::collection::vec(any::<u16>().prop_map(RrInterval), 0..5);
    let values = (any::<u16>(), any::<Option<bool>>(), any::<Option<u16>>(), rr).prop_map(
        |(heart_rate, sensor_contact, energy_expended_kj, rr_intervals)| HeartRateMeasurement {
            heart_rate,
            sensor_contact,
            energy_expended_kj,
            rr_intervals,
        },
    );
    let location = || (0u8..9).prop_map(BodySensorLocation::from_value);
    let mode = prop_oneof![Just(Mode::Notification), Just(Mode::Advertisement)];
    let measurement = (values, location(), mode)
        .prop_map(|(values, location, mode)| Body::Measurement(Measurement { values, location, mode }));
    let state = (any::<Option<u8>>(), any::<Option<i16>>(), location()).prop_map(
        |(battery_percent, rssi_dbm, location)| {
            Body::State(SensorState { battery_percent, rssi_dbm, location })
        },
    );
    let gap =
        (0..GapReason::ALL.len(), any_moment(), any::<u64>()).prop_map(|(reason, start, readings_lost)| {
            Body::Gap(Gap { reason: GapReason::ALL[reason], start, readings_lost })
        });
    let gateway = (any::<u32>(), any::<u32>(), any::<u64>(), any::<Option<u64>>(), any::<Option<u64>>())
        .prop_map(|(sensors, sensors_streaming, queue_depth, queue_oldest_s, disk_free_bytes)| {
            Body::Gateway(GatewayState {
                version: "0.1.0".parse().unwrap(),
                sensors,
                sensors_streaming,
                queue_depth,
                queue_oldest_s,
                disk_free_bytes,
            })
        });
    prop_oneof![4 => measurement, 1 => gap, 1 => state, 1 => gateway]
}
