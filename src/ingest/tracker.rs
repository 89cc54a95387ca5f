//! Events of the sensors → what is to be stored. Pure.

use std::collections::BTreeMap;

use tracing::{debug, trace};

use crate::ble::{SourceEvent, SourceEventKind};
use crate::config::SessionConfig;
use crate::heart_rate::{BodySensorLocation, HeartRateMeasurement};
use crate::queue::ledger::Ledger;
use crate::reading::{
    Body, Content, Gap, GapReason, Measurement, Mode, Moment, Observation, SensorId, SensorState,
};

/// A sensor's state is recorded so often, if nothing changes.
const STATE_EVERY_MS: u64 = 15 * 60 * 1000;

/// Turns events into observations.
#[derive(Debug)]
pub struct Tracker {
    idle_after_ms: u64,
    gap_after_ms: u64,
    /// Why there is nothing from before this process.
    before_us: GapReason,
    sensors: BTreeMap<SensorId, Track>,
}

#[derive(Debug, Default)]
struct Track {
    last_reading: Option<Moment>,
    /// The last reading, or that there was no contact.
    last: Option<Moment>,
    /// Whether `last` was seen by this process, not by one before it.
    seen: bool,
    down: Option<GapReason>,
    /// Whether another device became the sensor, and has sent no reading yet.
    replaced: bool,
    no_contact_since: Option<Moment>,
    unsynchronized_since: Option<Moment>,
    /// Where it is worn.
    location: Option<BodySensorLocation>,
    /// The state that was recorded last, and when.
    recorded: Option<(SensorState, Moment)>,
    /// One that came before any reading.
    unrecorded: Option<SensorState>,
    /// Notifications that ended in half an RR-Interval, and were not told of yet.
    padded: u64,
}

impl Tracker {
    /// Goes on where `ledger` says that each sensor was. What lies between is a gap because of `before_us`.
    pub fn new(config: &SessionConfig, ledger: &Ledger, before_us: GapReason) -> Self {
        let resume = |last: Option<Moment>| Track { last_reading: last, last, ..Track::default() };
        Self {
            idle_after_ms: config.idle_after.0.as_millis() as u64,
            gap_after_ms: config.gap_after.0.as_millis() as u64,
            before_us,
            sensors: (ledger.rows.iter())
                .map(|(sensor, row)| (sensor.clone(), resume(row.last.map(Moment::from))))
                .collect(),
        }
    }

    /// What `event` means; appended to `out`: gap records that end now, then the reading.
    pub fn handle(&mut self, event: SourceEvent, out: &mut Vec<Observation>) {
        let track = self.sensors.entry(event.sensor.clone()).or_default();
        let taken = event.at;
        let observation = |content, starts_session| Observation {
            sensor: event.sensor.clone(),
            taken,
            starts_session,
            content,
        };
        let (values, mode) = match event.kind {
            SourceEventKind::Down(reason) => {
                track.down = Some(reason);
                return;
            }
            SourceEventKind::Located(location) => {
                track.location = location;
                return;
            }
            SourceEventKind::State(state) => {
                track.location = state.location;
                track.unrecorded = Some(state);
                if track.last_reading.is_some() {
                    out.extend(track.take_state(taken).map(|body| observation(Content::Body(body), false)));
                }
                return;
            }
            SourceEventKind::Advertisement(values) => (values, Mode::Advertisement),
            SourceEventKind::Notification(payload) => match HeartRateMeasurement::parse(&payload) {
                Ok(values) => {
                    track.padded += u64::from(HeartRateMeasurement::is_padded(&payload));
                    (values, Mode::Notification)
                }
                Err(malformed) => {
                    debug!(sensor = %event.sensor, %malformed, "malformed notification dropped");
                    out.push(observation(Content::Malformed, false));
                    return;
                }
            },
        };
        let mut gap = |reason, start| {
            let gap = Gap { reason, start, readings_lost: 0 };
            out.push(observation(Content::Body(Body::Gap(gap)), false));
        };
        // `None`: another boot, and a clock that was wrong in one of them.
        let silence_ms = track.last.map(|last| taken.ms_since(&last));
        let is_gap = match silence_ms {
            None => false,
            Some(ms) => ms.is_none_or(|ms| ms >= self.gap_after_ms),
        };
        let down = track.down.take();
        let was_replaced = down == Some(GapReason::SensorReplaced);
        if (is_gap || was_replaced)
            && let Some(last) = track.last
        {
            let unexplained = if track.seen { GapReason::SensorSilent } else { self.before_us };
            let known = down.filter(|_| track.seen || was_replaced);
            gap(known.unwrap_or(unexplained), last);
        }
        track.replaced |= was_replaced;
        // Nobody's heart stands still: optical sensors say so off the skin, many of them without the contact bits.
        let is_reading = values.heart_rate > 0;
        match values.sensor_contact {
            _ if !is_reading => _ = track.no_contact_since.get_or_insert(taken),
            Some(false) => _ = track.no_contact_since.get_or_insert(taken),
            _ => track.no_contact_since.take().into_iter().for_each(|since| gap(GapReason::NoContact, since)),
        }
        // Also where the clock counts as right on both sides of it: the time stamps between which it was
        // set are not on one time line.
        if let Some(last) = track.last.filter(|last| taken.was_set_since(last)) {
            track.unsynchronized_since.get_or_insert(last);
        }
        match taken.synchronized {
            false => _ = track.unsynchronized_since.get_or_insert(taken),
            true => track
                .unsynchronized_since
                .take()
                .into_iter()
                .for_each(|since| gap(GapReason::ClockUnsynchronized, since)),
        }
        track.last = Some(taken);
        track.seen = true;
        if !is_reading {
            return;
        }
        let before = track.last_reading.replace(taken).and_then(|before| taken.ms_since(&before));
        let starts_session = track.replaced || before.is_none_or(|ms| ms >= self.idle_after_ms);
        track.replaced = false;
        trace!(sensor = %event.sensor, heart_rate = values.heart_rate, "reading");
        let measurement = Measurement { values, location: track.location, mode };
        out.push(observation(Content::Body(Body::Measurement(measurement)), starts_session));
        out.extend(track.take_state(taken).map(|body| observation(Content::Body(body), false)));
    }

    /// With what `before` knows of the sensors.
    pub(super) fn going_on_with(self, before: Self) -> Self {
        Self { sensors: before.sensors, ..self }
    }

    /// How many notifications of which sensor ended in half an RR-Interval since the last call.
    pub fn take_padded(&mut self) -> impl Iterator<Item = (&SensorId, u64)> {
        let counts =
            self.sensors.iter_mut().map(|(sensor, track)| (sensor, std::mem::take(&mut track.padded)));
        counts.filter(|(_, padded)| *padded > 0)
    }

    /// The gap records of what is still going on when the gateway stops.
    pub fn finish(&mut self, out: &mut Vec<Observation>) {
        for (sensor, track) in &mut self.sensors {
            let (Some(start), Some(taken)) = (track.no_contact_since.take(), track.last) else { continue };
            let gap = Gap { reason: GapReason::NoContact, start, readings_lost: 0 };
            let content = Content::Body(Body::Gap(gap));
            out.push(Observation { sensor: sensor.clone(), taken, starts_session: false, content });
        }
    }
}

impl Track {
    /// The state that came last, if it is to be recorded: it changed, or the last record is of long ago.
    fn take_state(&mut self, taken: Moment) -> Option<Body> {
        let state = self.unrecorded.take()?;
        let is_due = self.recorded.is_none_or(|(recorded, at)| {
            let changed =
                (recorded.battery_percent, recorded.location) != (state.battery_percent, state.location);
            changed || taken.ms_since(&at).is_none_or(|ms| ms >= STATE_EVERY_MS)
        });
        is_due.then(|| {
            self.recorded = Some((state, taken));
            Body::State(state)
        })
    }
}
