//! Sensors that beat, drop, lie and repeat themselves.
//!
//! A notification's first RR-Interval is its number in the history, so that the judge knows it again
//! wherever it turns up.

use hr_gateway::heart_rate::{HeartRateMeasurement, RrInterval};

/// The heart rate that the model stream refuses for good, with all that is in the same call.
pub const POISON: u16 = 251;

/// What a sensor does in a second.
pub enum Sent {
    Nothing,
    /// Bytes that are no Heart Rate Measurement.
    Malformed(Vec<u8>),
    /// A measurement, so many times over.
    Measurement(HeartRateMeasurement, u32),
}

/// What the sensor does, if its next notification has `number`.
pub fn beat(random: &mut fastrand::Rng, number: u16, poison: u32) -> Sent {
    if random.u32(..100) < poison {
        return Sent::Measurement(measurement(random, number, POISON), 1);
    }
    match random.u32(..40) {
        0..2 => Sent::Nothing,
        2 => Sent::Malformed(Vec::new()),
        // Flags that announce more than there is.
        3 => Sent::Malformed(vec![0b11001, 70]),
        4 => Sent::Measurement(measurement(random, number, 300), 2),
        _ => {
            let rate = random.u16(40..220);
            Sent::Measurement(measurement(random, number, rate), 1)
        }
    }
}

fn measurement(random: &mut fastrand::Rng, number: u16, heart_rate: u16) -> HeartRateMeasurement {
    let more = random.usize(..3);
    let more: Vec<u16> = (0..more).map(|_| random.u16(..)).collect();
    let rr_intervals = std::iter::once(number).chain(more);
    HeartRateMeasurement {
        heart_rate,
        sensor_contact: [None, Some(true), Some(true), Some(false)][random.usize(..4)],
        energy_expended_kj: random.bool().then(|| random.u16(..)),
        rr_intervals: rr_intervals.map(RrInterval).collect(),
    }
}

/// A measurement that nothing is wrong with.
pub fn healthy(number: u16) -> HeartRateMeasurement {
    HeartRateMeasurement {
        heart_rate: 60,
        sensor_contact: None,
        energy_expended_kj: None,
        rr_intervals: vec![RrInterval(number)],
    }
}
