//! A simulated watch: plays a recording, or makes up a walk, a run and a rest.
//!
//! It sends what a real one sends, bytes of the Heart Rate Measurement characteristic, so that
//! everything behind it is the real thing.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::recording::Point;
use super::{NotificationSource, SourceEvent, SourceEventKind};
use crate::clock::SystemClock;
use crate::heart_rate::{HeartRateMeasurement, RrInterval};
use crate::reading::{BootId, Moment, SensorId};

/// One or more simulated watches.
pub struct Simulator {
    /// Their names; a recording that names its sensors plays under those.
    pub sensors: Vec<SensorId>,
    /// What they send.
    pub script: Script,
    /// How much faster than real time.
    pub speed: f64,
    /// Stop after so much real time.
    pub stop_after: Option<Duration>,
    /// The machine's clock.
    pub clock: SystemClock,
}

/// What a simulated watch sends.
pub enum Script {
    /// The points of a recording, once.
    Replay(Vec<Point>),
    /// Made-up readings at 1 Hz, without end.
    MadeUp,
}

impl NotificationSource for Simulator {
    fn run(
        self: Box<Self>,
        events: mpsc::Sender<SourceEvent>,
        stop: CancellationToken,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let timeline = Timeline::new(&self);
            let play = self.play(timeline, events);
            tokio::select! {
                () = play => {}
                () = stop.cancelled() => {}
                () = sleep_or_never(self.stop_after) => {}
            }
        })
    }
}

async fn sleep_or_never(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

impl Simulator {
    async fn play(&self, timeline: Timeline, events: mpsc::Sender<SourceEvent>) {
        let mut index = 0;
        loop {
            let point = match &self.script {
                Script::Replay(points) => match points.get(index) {
                    Some(point) => point.clone(),
                    None => return,
                },
                Script::MadeUp => {
                    let at = Duration::from_secs(index as u64);
                    Point { sensor: None, offset: at, play_at: at, measurement: made_up(index) }
                }
            };
            index += 1;
            tokio::time::sleep_until(timeline.started + point.play_at.div_f64(self.speed)).await;
            for sensor in point.sensor.as_ref().map_or(&*self.sensors, std::slice::from_ref) {
                let kind = SourceEventKind::Notification(point.measurement.encode());
                let event = SourceEvent { sensor: sensor.clone(), at: timeline.at(point.offset), kind };
                if events.send(event).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Turns offsets into moments. A recording played faster than real time is dated back, so that it ends
/// now and not in the future.
struct Timeline {
    started: Instant,
    base: Moment,
}

impl Timeline {
    fn new(simulator: &Simulator) -> Self {
        let (length, played) = match &simulator.script {
            Script::Replay(points) => {
                points.last().map(|point| (point.offset, point.play_at)).unwrap_or_default()
            }
            Script::MadeUp => {
                let length = simulator.stop_after.unwrap_or_default().mul_f64(simulator.speed);
                (length, length)
            }
        };
        let ahead = length.saturating_sub(played.div_f64(simulator.speed));
        let now = simulator.clock.now();
        let base = Moment {
            // Its own, made-up boot: simulated time must never be corrected by the machine's.
            boot: BootId(fastrand::u128(..)),
            boottime_ms: 0,
            wall_ms: now.wall_ms - ahead.as_millis() as i64,
            synchronized: now.synchronized,
        };
        Self { started: Instant::now(), base }
    }

    fn at(&self, offset: Duration) -> Moment {
        let ms = offset.as_millis();
        Moment {
            boottime_ms: self.base.boottime_ms + ms as u64,
            wall_ms: self.base.wall_ms + ms as i64,
            ..self.base
        }
    }
}

/// A slow wave between rest and effort, with the RR-Intervals that belong to it.
fn made_up(second: usize) -> HeartRateMeasurement {
    const PERIOD_S: f64 = 300.0;
    let phase = second as f64 / PERIOD_S * std::f64::consts::TAU;
    let breathing = (second as f64 / 4.0 * std::f64::consts::TAU).sin();
    let heart_rate = 100.0 - 35.0 * phase.cos() + 1.5 * breathing;
    let rr = RrInterval::from_ms(60_000.0 / heart_rate);
    let beats = if heart_rate >= 90.0 { 2 } else { 1 };
    HeartRateMeasurement {
        heart_rate: heart_rate.round() as u16,
        sensor_contact: Some(true),
        energy_expended_kj: None,
        rr_intervals: rr.into_iter().cycle().take(beats).collect(),
    }
}
