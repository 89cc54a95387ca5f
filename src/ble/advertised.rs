//! What sensors say of the heart in their advertisements, without a link. Pure.
//!
//! There is no standard for it: each maker has bytes of its own under its company identifier. Those of Polar are
//! those of its SDK (`BlePolarHrAdvertisement`), those of Xiaomi and XOSS of the public decoders theengs and
//! ble_monitor. None has RR-Intervals.

use crate::heart_rate::HeartRateMeasurement;

/// Company identifiers (Bluetooth SIG, Assigned Numbers); XOSS uses one that is not assigned.
const POLAR: u16 = 0x006B;
const XIAOMI: u16 = 0x0157;
const XOSS: u16 = 0xFF04;

/// What an advertisement says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// The measurement; its heart rate is 0 where there was none.
    pub values: HeartRateMeasurement,
    /// The battery, percent.
    pub battery_percent: Option<u8>,
    /// Counts measurements: one that is the same as before is the same measurement, sent once more.
    pub counter: Option<u8>,
}

/// What the data of `company` in an advertisement say of the heart, if they do.
pub fn read(company: u16, data: &[u8]) -> Option<Advertised> {
    match company {
        POLAR => polar(data),
        XIAOMI => xiaomi(data),
        XOSS => xoss(data),
        _ => None,
    }
}

/// Blocks, of which that of the heart has no length of its own: three bytes, or four with the average that Polar
/// shows; it is the last.
fn polar(mut data: &[u8]) -> Option<Advertised> {
    const OTHER_BLOCK: u8 = 1 << 6;
    const CONTACT: u8 = 1 << 1;
    while let [flags, length, ..] = *data
        && flags & OTHER_BLOCK != 0
    {
        data = data.get(2 + usize::from(length)..)?;
    }
    let (flags, heart_rate) = match *data {
        [flags, _, fast] => (flags, fast),
        [flags, _, _, slow, ..] => (flags, slow),
        _ => return None,
    };
    Some(Advertised {
        values: measured(heart_rate, Some(flags & CONTACT != 0)),
        battery_percent: None,
        counter: Some(flags >> 2 & 0b111),
    })
}

/// Other first bytes are of messages that nobody has deciphered.
fn xiaomi(data: &[u8]) -> Option<Advertised> {
    const NONE: u8 = 0xFF;
    match *data {
        [0x02, _, _, heart_rate, ..] if data.len() == 24 => Some(Advertised {
            values: measured(if heart_rate == NONE { 0 } else { heart_rate }, None),
            battery_percent: None,
            counter: None,
        }),
        _ => None,
    }
}

fn xoss(data: &[u8]) -> Option<Advertised> {
    match *data {
        [0x01, battery, 0x06, heart_rate] => Some(Advertised {
            values: measured(heart_rate, None),
            battery_percent: Some(battery & 0x7F).filter(|percent| *percent <= 100),
            counter: None,
        }),
        _ => None,
    }
}

fn measured(heart_rate: u8, sensor_contact: Option<bool>) -> HeartRateMeasurement {
    HeartRateMeasurement {
        heart_rate: heart_rate.into(),
        sensor_contact,
        energy_expended_kj: None,
        rr_intervals: Vec::new(),
    }
}
