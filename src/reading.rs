//! What the gateway keeps of a notification: names, moments, and the [`Item`] that travels from the
//! ingest through the queue to the drainer.
//!
//! Names are validated once, in their constructors: they become partition keys, JSON strings and file
//! names, and none of these may need escaping.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::STEP_MS;
use crate::heart_rate::{BodySensorLocation, HeartRateMeasurement};

/// Longest name of a gateway or sensor, bytes. A partition key may have 256; 64 is enough for people.
pub const NAME_BYTES_MAX: usize = 64;

/// A name was empty, too long, or held a character that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is no name: use 1 to {NAME_BYTES_MAX} letters, digits, `.`, `_` or `-`")]
pub struct InvalidName {
    found: String,
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
                if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(allowed) {
                    return Err(InvalidName { found: text.to_owned() });
                }
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type! {
    /// The name of this gateway, as its readings carry it.
    GatewayId
}
name_type! {
    /// The name of a watch or strap, as its readings carry it.
    SensorId
}
name_type! {
    /// A version of this program.
    ProgramVersion
}

/// What stands for a sensor where a record is of none.
pub const NO_SENSOR: &str = "-";

impl SensorId {
    /// What a record of the gateway itself has in place of a sensor.
    pub fn none() -> Self {
        Self(NO_SENSOR.into())
    }
}

/// Begins the ids of one [`Origin`]: random. With it a `reading_id` stays unique even if a gateway is
/// wiped, or its store put back to an earlier state, and its sequence starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl Epoch {
    /// As ids have it: sixteen hexadecimal digits.
    pub fn digits(self) -> [u8; 16] {
        let nibble = |place: usize| (self.0 >> (60 - 4 * place)) as usize & 0xF;
        std::array::from_fn(|place| b"0123456789abcdef"[nibble(place)])
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Where ids come from. Each opening of a queue for writing begins an origin, so that no state to which
/// a disk was put back can lead to an id that was given before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The first sequence that belongs to it; the next origin's ends it.
    pub first_sequence: u64,
    /// What its ids begin with.
    pub epoch: Epoch,
    /// The gateway that its readings were taken by.
    pub gateway: GatewayId,
}

/// The origins of all sequences of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origins(Arc<[Origin]>);

impl Origins {
    /// Ordered by first sequence; of two with the same one, which the first never used, the last holds.
    /// `None` if there is none.
    pub fn new(mut origins: Vec<Origin>) -> Option<Self> {
        origins.sort_by_key(|origin| origin.first_sequence);
        origins.reverse();
        origins.dedup_by_key(|origin| origin.first_sequence);
        origins.reverse();
        (!origins.is_empty()).then(|| Self(origins.into()))
    }

    /// The origin of `sequence`; the first one also for what comes before it.
    pub fn of(&self, sequence: u64) -> &Origin {
        let after = self.0.partition_point(|origin| origin.first_sequence <= sequence);
        &self.0[after.saturating_sub(1)]
    }

    /// The origin that new readings belong to.
    pub fn newest(&self) -> &Origin {
        &self.0[self.0.len() - 1]
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Origin> {
        self.0.iter()
    }
}

/// Identifies one boot of the machine: `/proc/sys/kernel/random/boot_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BootId(pub u128);

/// When something happened, by both clocks of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The boot in which `boottime_ms` counts.
    pub boot: BootId,
    /// Time since boot (`CLOCK_BOOTTIME`), milliseconds.
    pub boottime_ms: u64,
    /// The wall clock, milliseconds since 1970-01-01 UTC, right or wrong.
    pub wall_ms: i64,
    /// Whether the wall clock was known to be right.
    pub synchronized: bool,
}

impl Moment {
    /// Wall clock minus time since boot, milliseconds: the same all through a boot, unless the clock is set.
    pub fn offset_ms(&self) -> i64 {
        self.wall_ms.saturating_sub(i64::try_from(self.boottime_ms).unwrap_or(i64::MAX))
    }

    /// Whether the wall clock was set between the two.
    pub fn was_set_since(&self, earlier: &Moment) -> bool {
        self.boot == earlier.boot && self.offset_ms().abs_diff(earlier.offset_ms()) > STEP_MS
    }

    /// Milliseconds from `earlier` to `self`: by the boot clock within one boot, by the wall clock
    /// across boots, where both were synchronized and it is no less than the time since the later boot;
    /// `None` where nobody can know.
    pub fn ms_since(&self, earlier: &Moment) -> Option<u64> {
        if self.boot == earlier.boot {
            return Some(self.boottime_ms.saturating_sub(earlier.boottime_ms));
        }
        let known = self.synchronized && earlier.synchronized;
        let ms = u64::try_from(self.wall_ms.saturating_sub(earlier.wall_ms)).ok();
        ms.filter(|ms| known && *ms >= self.boottime_ms)
    }
}

/// What one queued item says: a measurement, that there was none, how the sensor is, or how the gateway is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A reading.
    Measurement(Measurement),
    /// A gap record.
    Gap(Gap),
    /// A sensor state record.
    State(SensorState),
    /// A gateway state record, of [no sensor](SensorId::none).
    Gateway(GatewayState),
}

impl Body {
    /// Whether it is a reading: the ledger has an account for them, and one for all else.
    pub fn is_reading(&self) -> bool {
        matches!(self, Self::Measurement(_))
    }
}

/// A measurement, and what a reader must know to take it for what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measurement {
    /// What the sensor sent.
    pub values: HeartRateMeasurement,
    /// Where it is worn, if it says so.
    pub location: Option<BodySensorLocation>,
    /// How it came.
    pub mode: Mode,
}

impl From<HeartRateMeasurement> for Measurement {
    fn from(values: HeartRateMeasurement) -> Self {
        Self { values, location: None, mode: Mode::Notification }
    }
}

/// How a sensor's readings come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Over a link, as notifications.
    #[default]
    Notification,
    /// In its advertisements, without a link: some may be missed, and none has RR-Intervals.
    Advertisement,
}

impl Mode {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notification => "notification",
            Self::Advertisement => "advertisement",
        }
    }
}

/// How a sensor is, as far as it says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SensorState {
    /// Its battery, percent.
    pub battery_percent: Option<u8>,
    /// How loudly it was heard last, dBm.
    pub rssi_dbm: Option<i16>,
    /// Where it is worn.
    pub location: Option<BodySensorLocation>,
}

/// How the gateway is. Whoever gets one every few minutes knows that it lives, though no sensor is in reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayState {
    /// Its program's version.
    pub version: ProgramVersion,
    /// Sensors that it looks after.
    pub sensors: u32,
    /// Those of them whose readings flow.
    pub sensors_streaming: u32,
    /// Items that waited in its queue.
    pub queue_depth: u64,
    /// How old the oldest of them was, seconds, where that is known.
    pub queue_oldest_s: Option<u64>,
    /// Bytes free where the queue is.
    pub disk_free_bytes: Option<u64>,
}

/// A span without (trustworthy) readings. It ends at its item's own moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Why there are none.
    pub reason: GapReason,
    /// When it began.
    pub start: Moment,
    /// How many sequences were lost with it, where that is known (`evicted`); otherwise 0.
    pub readings_lost: u64,
}

/// Why a span has no readings, or none to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The sensor's link was down: out of range, switched off, dropped.
    LinkDown,
    /// The Bluetooth adapter or bluetoothd was gone, or did not answer.
    AdapterGone,
    /// The link stood, and nothing came over it.
    SensorSilent,
    /// The sensor reported no skin contact; its readings in the span are kept but mean little.
    NoContact,
    /// The daemon was not running.
    GatewayDown,
    /// The wall clock was not synchronized, or it was set; the span's readings carry estimated time.
    ClockUnsynchronized,
    /// The queue was full and readings made room.
    Evicted,
    /// The queue's store was damaged or put back to an earlier state, and readings that it had are missing.
    QueueLost,
    /// Another device became the sensor.
    SensorReplaced,
    /// No adapter that heard the sensor had a link left to give.
    AdapterFull,
}

impl GapReason {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::LinkDown,
        Self::AdapterGone,
        Self::SensorSilent,
        Self::NoContact,
        Self::GatewayDown,
        Self::ClockUnsynchronized,
        Self::Evicted,
        Self::QueueLost,
        Self::SensorReplaced,
        Self::AdapterFull,
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LinkDown => "link_down",
            Self::AdapterGone => "adapter_gone",
            Self::SensorSilent => "sensor_silent",
            Self::NoContact => "no_contact",
            Self::GatewayDown => "gateway_down",
            Self::ClockUnsynchronized => "clock_unsynchronized",
            Self::Evicted => "evicted",
            Self::QueueLost => "queue_lost",
            Self::SensorReplaced => "sensor_replaced",
            Self::AdapterFull => "adapter_full",
        }
    }
}

/// One element of the queue: a reading or another record, with its place in the sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Position in this gateway's queue: +1 per item, no holes, never reused within an [`Epoch`].
    pub sequence: u64,
    /// Whose it is.
    pub sensor: SensorId,
    /// The session, named by the sequence of its first item.
    pub session: u64,
    /// When it was measured; for a gap record, when the gap ended; for a state, when it was so.
    pub taken: Moment,
    /// The reading or record itself.
    pub body: Body,
}

/// What the ingest hands to the queue, which gives it a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Whose it is.
    pub sensor: SensorId,
    /// When it was measured, or when the gap ended.
    pub taken: Moment,
    /// Whether a new session begins with it.
    pub starts_session: bool,
    /// The reading or gap, or that a notification could not be understood.
    pub content: Content,
}

/// What was observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// To be queued.
    Body(Body),
    /// To be counted only.
    Malformed,
}
