//! The judge of gap records: every silence of `gap_after` has one, with its reason, and none is made up.

use hr_gateway::reading::{Body, Content, Gap, GapReason, Moment, Observation};

use crate::history::SENSORS;
use crate::oracle::{Oracle, sensor_index};

/// `[session] gap_after`.
const GAP_AFTER_MS: u64 = 10_000;

/// How a process knows a sensor.
#[derive(Debug, Clone, Copy, Default)]
pub struct Heard {
    /// The number of its last reading.
    pub last: Option<usize>,
    /// It was heard by this process.
    pub by_this: bool,
    pub down: Option<GapReason>,
}

impl Oracle {
    /// What is handed to `append`, before anything is done with it.
    pub fn handed_in(&mut self, observations: &[Observation]) {
        let mut told: [Option<(Gap, Moment)>; SENSORS.len()] = [const { None }; SENSORS.len()];
        for observation in observations {
            let sensor = sensor_index(&observation.sensor);
            match &observation.content {
                Content::Malformed | Content::Body(Body::State(_) | Body::Gateway(_)) => {}
                Content::Body(Body::Gap(gap)) => {
                    if self.true_ms(&gap.start) > self.true_ms(&observation.taken) {
                        self.violated(|| format!("a gap ends before it begins: {observation:?}"));
                    }
                    if is_silence(gap.reason) {
                        told[sensor] = Some((gap.clone(), observation.taken));
                    } else if !self.began_so(sensor, gap) {
                        self.violated(|| format!("a gap begins where nothing did: {observation:?}"));
                    }
                }
                Content::Body(Body::Measurement(measurement)) => {
                    let number =
                        usize::from(measurement.values.rr_intervals.first().map_or(u16::MAX, |rr| rr.0));
                    self.hear(sensor, number, told[sensor].take());
                }
            }
        }
        if let Some((gap, _)) = told.into_iter().flatten().next() {
            self.violated(|| format!("a silence is told of that no reading ended: {gap:?}"));
        }
    }

    /// No contact, or a wrong clock, begins with a reading that says so.
    fn began_so(&self, sensor: usize, gap: &Gap) -> bool {
        self.sent.iter().any(|sent| {
            let is_so = match gap.reason {
                GapReason::NoContact => sent.measurement.sensor_contact == Some(false),
                _ => !sent.at.synchronized,
            };
            is_so && sent.sensor == sensor && sent.at == gap.start
        })
    }

    fn hear(&mut self, sensor: usize, number: usize, told: Option<(Gap, Moment)>) {
        let heard = self.heard[sensor];
        self.heard[sensor] = Heard { last: Some(number), by_this: true, down: None };
        let expected = heard.last.and_then(|last| {
            let (last, now) = (&self.sent[last], &self.sent[number]);
            let is_known = last.at.boot == now.at.boot || last.at.synchronized && now.at.synchronized;
            let is_silence = !is_known || now.true_ms - last.true_ms >= GAP_AFTER_MS;
            let reason = match heard.by_this {
                true => heard.down.unwrap_or(GapReason::SensorSilent),
                false => GapReason::GatewayDown,
            };
            is_silence.then_some((reason, last.at, now.at))
        });
        let found = told.map(|(gap, end)| (gap.reason, gap.start, end));
        if expected != found {
            self.violated(|| format!("before number {number}: the gap {found:?}; it should be {expected:?}"));
        }
    }
}

fn is_silence(reason: GapReason) -> bool {
    use GapReason::{AdapterGone, GatewayDown, LinkDown, SensorSilent};
    matches!(reason, LinkDown | AdapterGone | SensorSilent | GatewayDown)
}
