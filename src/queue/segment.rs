//! Items ⇄ the bytes of one queue value. Pure.
//!
//! A value is a version byte and a body. Version 1: the body is postcard. Version 2: a 24-byte nonce,
//! then the same body sealed with XChaCha20-Poly1305, the version byte and the segment's key as
//! associated data, so that a segment cannot be moved to another place unnoticed. Every version ever
//! written stays readable (`tests/vectors/`).
//!
//! Items are stored as steps from the one before: at 1 Hz most fields are then one byte, and a reading
//! without RR-Intervals takes 13.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chacha20::{R20, hchacha};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};

use crate::heart_rate::{BodySensorLocation, HeartRateMeasurement, RrInterval};
use crate::reading::{
    Body, BootId, Gap, GapReason, GatewayState, Item, Measurement, Mode, Moment, SensorId, SensorState,
};

const VERSION_PLAIN: u8 = 1;
const VERSION_SEALED: u8 = 2;
const NONCE_BYTES: usize = 24;

/// Writes and reads segments, encrypting them if it holds a key.
#[derive(Clone, Default)]
pub struct SegmentCodec {
    key: Option<Arc<[u8; 32]>>,
    /// A segment opened with this key: one that does not is damaged.
    key_is_right: Arc<AtomicBool>,
}

/// Why a segment cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// Written by a later version of this program.
    #[error("format version {0} is newer than this program; upgrade it again")]
    Newer(u8),
    /// Encrypted, and no key is configured.
    #[error("it is encrypted; set `queue.encryption_key_file` to the key it was written with")]
    KeyMissing,
    /// The key is not the one it was written with, or the bytes were changed.
    #[error("it does not open with the configured key")]
    KeyWrong,
    /// Not a segment.
    #[error("its bytes are damaged")]
    Damaged,
}

impl SegmentCodec {
    /// Encrypts with `key`.
    pub fn encrypted(key: &[u8; 32]) -> Self {
        Self { key: Some(Arc::new(*key)), ..Self::default() }
    }

    /// The bytes of `items`, which are of ascending sequence and not none, to stand under `key`.
    pub fn encode(&self, key: &[u8], items: &[Item]) -> Vec<u8> {
        let body = SegmentBody::from_items(items);
        let Some(secret) = &self.key else {
            return postcard::to_extend(&body, vec![VERSION_PLAIN]).expect("memory takes all of it");
        };
        let mut sealed = postcard::to_stdvec(&body).expect("memory takes all of it");
        // A random 24-byte nonce: collisions are out of reach for any number of segments.
        let mut nonce = [0; NONCE_BYTES];
        random_bytes(&mut nonce);
        let (cipher, rest) = cipher(secret, nonce);
        cipher
            .seal_in_place_append_tag(rest, associated_data(key), &mut sealed)
            .expect("a segment is far below the cipher's limit");
        [&[VERSION_SEALED], &nonce[..], &sealed].concat()
    }

    /// The items in `value`, which stood under `key`.
    pub fn decode(&self, key: &[u8], value: &[u8]) -> Result<Vec<Item>, SegmentError> {
        let (&version, rest) = value.split_first().ok_or(SegmentError::Damaged)?;
        let items = match version {
            VERSION_PLAIN => items_in(rest),
            VERSION_SEALED => {
                let secret = self.key.as_ref().ok_or(SegmentError::KeyMissing)?;
                let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(SegmentError::Damaged)?;
                let (cipher, rest) = cipher(secret, *nonce);
                let mut sealed = sealed.to_vec();
                let body =
                    cipher.open_in_place(rest, associated_data(key), &mut sealed).map_err(|_| match self
                        .key_is_right
                        .load(Ordering::Relaxed)
                    {
                        true => SegmentError::Damaged,
                        false => SegmentError::KeyWrong,
                    })?;
                self.key_is_right.store(true, Ordering::Relaxed);
                items_in(body)
            }
            newer => return Err(SegmentError::Newer(newer)),
        };
        items.ok_or(SegmentError::Damaged)
    }
}

fn associated_data(key: &[u8]) -> Aad<Vec<u8>> {
    Aad::from([&[VERSION_SEALED], key].concat())
}

/// XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03, section 2.3): HChaCha20 makes of the key and the first 16 bytes
/// of the nonce a key for ChaCha20-Poly1305, which takes the other 8 after four zeros.
fn cipher(key: &[u8; 32], nonce: [u8; NONCE_BYTES]) -> (LessSafeKey, Nonce) {
    let (first, last) = nonce.split_first_chunk::<16>().expect("24 bytes");
    let key = UnboundKey::new(&CHACHA20_POLY1305, &hchacha::<R20>(key.into(), first.into()));
    let mut rest = [0; 12];
    rest[4..].copy_from_slice(last);
    (LessSafeKey::new(key.expect("32 bytes")), Nonce::assume_unique_for_key(rest))
}

/// Fills `out` from the kernel's random generator.
pub(super) fn random_bytes(out: &mut [u8]) {
    use rustix::rand::{GetRandomFlags, getrandom};
    let mut filled = 0;
    while filled < out.len() {
        filled += getrandom(&mut out[filled..], GetRandomFlags::empty()).expect("Linux gives random bytes");
    }
}

#[derive(Serialize)]
struct SegmentBody {
    boots: Vec<BootId>,
    sensors: Vec<SensorId>,
    items: Vec<StoredItem>,
}

/// An item as steps from the one before it (from zero for the first).
#[derive(Serialize, Deserialize)]
struct StoredItem {
    sequence_step: u64,
    sensor: u32,
    session_step: i64,
    taken: StoredMoment,
    body: StoredBody,
}

#[derive(Serialize, Deserialize)]
struct StoredMoment {
    boot: u32,
    boottime_step: i64,
    /// Wall clock minus time since boot: hardly ever changes.
    offset_step: i64,
    synchronized: bool,
}

#[derive(Serialize, Deserialize)]
enum StoredBody {
    Measurement(StoredValues),
    Gap {
        reason: GapReason,
        start: StoredMoment,
        readings_lost: u64,
    },
    State {
        battery_percent: Option<u8>,
        rssi_dbm: Option<i16>,
        location: Option<u8>,
    },
    /// One of which more is known than its values.
    MeasurementAt {
        location: Option<u8>,
        is_advertised: bool,
        values: StoredValues,
    },
    Gateway(GatewayState),
}

#[derive(Serialize, Deserialize)]
struct StoredValues {
    heart_rate: u16,
    sensor_contact: Option<bool>,
    energy_expended_kj: Option<u16>,
    rr_intervals: Vec<RrInterval>,
}

impl StoredValues {
    fn into_values(self) -> HeartRateMeasurement {
        let Self { heart_rate, sensor_contact, energy_expended_kj, rr_intervals } = self;
        HeartRateMeasurement { heart_rate, sensor_contact, energy_expended_kj, rr_intervals }
    }
}

fn store_measurement(measurement: &Measurement) -> StoredBody {
    let HeartRateMeasurement { heart_rate, sensor_contact, energy_expended_kj, rr_intervals } =
        measurement.values.clone();
    let values = StoredValues { heart_rate, sensor_contact, energy_expended_kj, rr_intervals };
    match (measurement.location, measurement.mode) {
        (None, Mode::Notification) => StoredBody::Measurement(values),
        (location, mode) => StoredBody::MeasurementAt {
            location: location.map(BodySensorLocation::value),
            is_advertised: mode == Mode::Advertisement,
            values,
        },
    }
}

#[derive(Clone, Copy, Default)]
struct Before {
    sequence: u64,
    session: u64,
    boottime_ms: u64,
    offset_ms: i64,
}

impl SegmentBody {
    fn from_items(items: &[Item]) -> Self {
        let mut body =
            Self { boots: Vec::new(), sensors: Vec::new(), items: Vec::with_capacity(items.len()) };
        let mut before = Before::default();
        for item in items {
            let start = match &item.body {
                Body::Gap(gap) => Some(store_moment(&mut body.boots, &gap.start, &mut before)),
                Body::Measurement(_) | Body::State(_) | Body::Gateway(_) => None,
            };
            let taken = store_moment(&mut body.boots, &item.taken, &mut before);
            body.items.push(StoredItem {
                sequence_step: item.sequence - before.sequence,
                sensor: index_of(&mut body.sensors, &item.sensor),
                session_step: item.session.wrapping_sub(before.session) as i64,
                taken,
                body: match (&item.body, start) {
                    (Body::Gap(gap), Some(start)) => {
                        StoredBody::Gap { reason: gap.reason, start, readings_lost: gap.readings_lost }
                    }
                    (Body::Measurement(measurement), _) => store_measurement(measurement),
                    (Body::State(state), _) => StoredBody::State {
                        battery_percent: state.battery_percent,
                        rssi_dbm: state.rssi_dbm,
                        location: state.location.map(BodySensorLocation::value),
                    },
                    (Body::Gateway(state), _) => StoredBody::Gateway(state.clone()),
                    (Body::Gap(_), None) => unreachable!("a gap's start was stored above"),
                },
            });
            before.sequence = item.sequence;
            before.session = item.session;
        }
        body
    }
}

/// The items in the bytes of a [`SegmentBody`], one by one: the whole of it would be as large again.
fn items_in(body: &[u8]) -> Option<Vec<Item>> {
    let (boots, rest) = postcard::take_from_bytes::<Vec<BootId>>(body).ok()?;
    let (sensors, rest) = postcard::take_from_bytes::<Vec<SensorId>>(rest).ok()?;
    let (count, mut rest) = postcard::take_from_bytes::<usize>(rest).ok()?;
    let mut before = Before::default();
    // An item has more than one byte.
    let mut items = Vec::with_capacity(count.min(rest.len()));
    for _ in 0..count {
        let (stored, after) = postcard::take_from_bytes::<StoredItem>(rest).ok()?;
        rest = after;
        let start = match &stored.body {
            StoredBody::Gap { start, .. } => Some(load_moment(&boots, start, &mut before)?),
            _ => None,
        };
        let taken = load_moment(&boots, &stored.taken, &mut before)?;
        before.sequence = before.sequence.checked_add(stored.sequence_step)?;
        before.session = before.session.wrapping_add(stored.session_step as u64);
        items.push(Item {
            sequence: before.sequence,
            sensor: sensors.get(stored.sensor as usize)?.clone(),
            session: before.session,
            taken,
            body: load_body(stored.body, start)?,
        });
    }
    (!items.is_empty()).then_some(items)
}

fn load_body(stored: StoredBody, start: Option<Moment>) -> Option<Body> {
    let location = |value: Option<u8>| value.and_then(BodySensorLocation::from_value);
    Some(match stored {
        StoredBody::Measurement(values) => Body::Measurement(values.into_values().into()),
        StoredBody::MeasurementAt { location: at, is_advertised, values } => Body::Measurement(Measurement {
            values: values.into_values(),
            location: location(at),
            mode: if is_advertised { Mode::Advertisement } else { Mode::Notification },
        }),
        StoredBody::State { battery_percent, rssi_dbm, location: at } => {
            Body::State(SensorState { battery_percent, rssi_dbm, location: location(at) })
        }
        StoredBody::Gateway(state) => Body::Gateway(state),
        StoredBody::Gap { reason, readings_lost, .. } => {
            Body::Gap(Gap { reason, start: start?, readings_lost })
        }
    })
}

fn store_moment(boots: &mut Vec<BootId>, moment: &Moment, before: &mut Before) -> StoredMoment {
    let offset_ms = moment.wall_ms.wrapping_sub(moment.boottime_ms as i64);
    let stored = StoredMoment {
        boot: index_of(boots, &moment.boot),
        boottime_step: moment.boottime_ms.wrapping_sub(before.boottime_ms) as i64,
        offset_step: offset_ms.wrapping_sub(before.offset_ms),
        synchronized: moment.synchronized,
    };
    before.boottime_ms = moment.boottime_ms;
    before.offset_ms = offset_ms;
    stored
}

fn load_moment(boots: &[BootId], stored: &StoredMoment, before: &mut Before) -> Option<Moment> {
    before.boottime_ms = before.boottime_ms.wrapping_add(stored.boottime_step as u64);
    before.offset_ms = before.offset_ms.wrapping_add(stored.offset_step);
    Some(Moment {
        boot: *boots.get(stored.boot as usize)?,
        boottime_ms: before.boottime_ms,
        wall_ms: before.offset_ms.wrapping_add(before.boottime_ms as i64),
        synchronized: stored.synchronized,
    })
}

fn index_of<T: Clone + PartialEq>(known: &mut Vec<T>, value: &T) -> u32 {
    let position = known.iter().position(|other| other == value).unwrap_or_else(|| {
        known.push(value.clone());
        known.len() - 1
    });
    position as u32
}
