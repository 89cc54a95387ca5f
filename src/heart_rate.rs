//! Heart Rate Measurement (characteristic 0x2A37) ⇄ bytes. Pure.
//!
//! Source: Heart Rate Service 1.0, section 3.1, and GATT Specification Supplement, "Heart Rate
//! Measurement". What must hold: a payload that is too short for the heart rate, or for the Energy Expended that its
//! flags announce, is refused, never guessed at; nothing here panics; every RR-Interval is kept as the integer that was
//! on the air.

use serde::{Deserialize, Serialize};

const FLAG_16_BIT: u8 = 1 << 0;
const FLAG_CONTACT_DETECTED: u8 = 1 << 1;
const FLAG_CONTACT_SUPPORTED: u8 = 1 << 2;
const FLAG_ENERGY_EXPENDED: u8 = 1 << 3;
const FLAG_RR_INTERVALS: u8 = 1 << 4;

/// One notification of the Heart Rate Measurement characteristic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartRateMeasurement {
    /// Beats per minute; sent in 8 or 16 bits.
    pub heart_rate: u16,
    /// Skin contact; `None` where the sensor does not support the feature.
    pub sensor_contact: Option<bool>,
    /// Energy Expended since its last reset, kilojoules.
    pub energy_expended_kj: Option<u16>,
    /// RR-Intervals, oldest first. Empty where none were sent.
    pub rr_intervals: Vec<RrInterval>,
}

/// Where a sensor is worn (Heart Rate Service 1.0, section 3.2). At the chest it takes an ECG; elsewhere it is
/// optical as a rule, and its pulse intervals are no RR-Intervals of a heart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodySensorLocation {
    /// None of the following.
    Other,
    /// Chest.
    Chest,
    /// Wrist.
    Wrist,
    /// Finger.
    Finger,
    /// Hand.
    Hand,
    /// Ear lobe.
    EarLobe,
    /// Foot.
    Foot,
}

impl BodySensorLocation {
    const ALL: [Self; 7] =
        [Self::Other, Self::Chest, Self::Wrist, Self::Finger, Self::Hand, Self::EarLobe, Self::Foot];

    /// From the characteristic's value (0x2A38); `None` for one that is reserved.
    pub fn from_value(value: u8) -> Option<Self> {
        Self::ALL.get(usize::from(value)).copied()
    }

    /// The word on the wire and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Chest => "chest",
            Self::Wrist => "wrist",
            Self::Finger => "finger",
            Self::Hand => "hand",
            Self::EarLobe => "ear_lobe",
            Self::Foot => "foot",
        }
    }

    /// The characteristic's value.
    pub fn value(self) -> u8 {
        self as u8
    }
}

/// The time between two heartbeats, in the 1/1024 s that the sensor sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RrInterval(pub u16);

impl RrInterval {
    /// Milliseconds. Exact: 1000/1024 is 125/128, and a 16-bit integer times that fits a double.
    pub fn as_ms(self) -> f64 {
        f64::from(self.0) * 125.0 / 128.0
    }

    /// The nearest interval to `ms` milliseconds; `None` outside 0 to 63,999 ms.
    pub fn from_ms(ms: f64) -> Option<Self> {
        let ticks = (ms * 128.0 / 125.0).round();
        (0.0..=f64::from(u16::MAX)).contains(&ticks).then_some(Self(ticks as u16))
    }
}

/// Why a notification is not a Heart Rate Measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedMeasurement {
    /// No bytes at all.
    #[error("the notification is empty")]
    Empty,
    /// The flags announce a field that the payload ends before, or in the middle of.
    #[error("the notification of {found} bytes ends inside its {field}")]
    Truncated {
        /// The field that is not all there.
        field: &'static str,
        /// Length of the whole payload, bytes.
        found: usize,
    },
}

impl HeartRateMeasurement {
    /// Reads a notification's payload. Reserved flag bits, and bytes after the fields that the flags
    /// announce, are ignored: a later revision of the service may use them. So is half an RR-Interval at the
    /// end, which some devices append to every notification.
    pub fn parse(payload: &[u8]) -> Result<Self, MalformedMeasurement> {
        let (&flags, mut rest) = payload.split_first().ok_or(MalformedMeasurement::Empty)?;
        let truncated = |field| MalformedMeasurement::Truncated { field, found: payload.len() };

        let heart_rate = if flags & FLAG_16_BIT == 0 {
            let (&value, tail) = rest.split_first().ok_or(truncated("heart rate"))?;
            rest = tail;
            u16::from(value)
        } else {
            take_u16(&mut rest).ok_or(truncated("16-bit heart rate"))?
        };
        let sensor_contact =
            (flags & FLAG_CONTACT_SUPPORTED != 0).then_some(flags & FLAG_CONTACT_DETECTED != 0);
        let energy_expended_kj = match flags & FLAG_ENERGY_EXPENDED {
            0 => None,
            _ => Some(take_u16(&mut rest).ok_or(truncated("Energy Expended"))?),
        };
        let rr_intervals = match flags & FLAG_RR_INTERVALS {
            0 => Vec::new(),
            _ => rest.chunks_exact(2).map(|b| RrInterval(u16::from_le_bytes([b[0], b[1]]))).collect(),
        };
        Ok(Self { heart_rate, sensor_contact, energy_expended_kj, rr_intervals })
    }

    /// Whether a payload that can be read ends in half an RR-Interval.
    pub fn is_padded(payload: &[u8]) -> bool {
        let flags = payload.first().copied().unwrap_or_default();
        let before =
            2 + usize::from(flags & FLAG_16_BIT != 0) + 2 * usize::from(flags & FLAG_ENERGY_EXPENDED != 0);
        flags & FLAG_RR_INTERVALS != 0 && payload.len().saturating_sub(before) % 2 == 1
    }

    /// The payload a sensor would send for this measurement: 8 bits for a heart rate that fits them.
    pub fn encode(&self) -> Vec<u8> {
        let mut flags = 0;
        let mut payload = vec![0];
        match u8::try_from(self.heart_rate) {
            Ok(value) => payload.push(value),
            Err(_) => {
                flags |= FLAG_16_BIT;
                payload.extend(self.heart_rate.to_le_bytes());
            }
        }
        if let Some(contact) = self.sensor_contact {
            flags |= FLAG_CONTACT_SUPPORTED | if contact { FLAG_CONTACT_DETECTED } else { 0 };
        }
        if let Some(energy) = self.energy_expended_kj {
            flags |= FLAG_ENERGY_EXPENDED;
            payload.extend(energy.to_le_bytes());
        }
        if !self.rr_intervals.is_empty() {
            flags |= FLAG_RR_INTERVALS;
            payload.extend(self.rr_intervals.iter().flat_map(|rr| rr.0.to_le_bytes()));
        }
        payload[0] = flags;
        payload
    }
}

fn take_u16(rest: &mut &[u8]) -> Option<u16> {
    let (bytes, tail) = rest.split_first_chunk::<2>()?;
    *rest = tail;
    Some(u16::from_le_bytes(*bytes))
}
