//! Sensors whose readings come in their advertisements: one task for all of them, without a link.
//!
//! bluetoothd tells of each advertisement that it hears while a scan asks for all of them. How many an adapter
//! passes on is its own affair: many report the same device a few times in ten seconds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::advertisements::{Advertisements, Heard};
use super::objects::Objects;
use super::task::{Shared, Task};
use crate::ble::SourceEventKind;
use crate::ble::advertised::{Advertised, read};
use crate::ble::identity::{Choice, Seen};
use crate::ble::lifecycle::{Absence, Lifecycle, NoAdapter};
use crate::config::SensorConfig;
use crate::reading::{GapReason, Mode, SensorId, SensorState};

/// An advertisement is sent several times a second; a heart rate is asked for once.
const READING_EVERY: Duration = Duration::from_millis(900);
/// A counter counts seconds, and to eight: after so long the same count is another measurement.
const COUNTED_ANEW_AFTER: Duration = Duration::from_secs(4);
/// Pause before the next try, where the bus is gone.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// How often a sensor's state is told, where it is heard: a record follows now and then.
const STATE_EVERY: Duration = Duration::from_secs(300);

/// Listens to the wanted sensors of this mode until `stop`.
pub(super) async fn listen(shared: Shared, stop: CancellationToken) {
    let mut wanted = shared.wanted.clone();
    let mut sensors = BTreeMap::new();
    loop {
        reconcile(&mut sensors, &shared, &stop);
        let listening = async {
            match sensors.is_empty() {
                true => std::future::pending().await,
                false => hear(&mut sensors, &shared).await,
            }
        };
        tokio::select! {
            () = listening => sleep(RETRY_PAUSE).await,
            changed = wanted.changed() => if changed.is_err() { break },
            () = stop.cancelled() => break,
        }
    }
    sensors.values().for_each(|sensor| sensor.task.set_state(None));
}

/// A sensor that is listened to.
struct Listened {
    task: Task,
    /// Says what changes for the operator; it has no link to act on.
    lifecycle: Lifecycle,
    /// Its objects, one for each adapter that hears it.
    seen: Vec<Seen>,
    /// When a reading was last taken from it, and what counted it.
    last: Option<(Instant, Option<u8>)>,
    /// Whether its advertisements ever said anything.
    was_heard: bool,
    /// When it was heard last, or that it was not was told.
    heard_at: Instant,
    state_at: Option<Instant>,
}

fn reconcile(sensors: &mut BTreeMap<SensorId, Listened>, shared: &Shared, stop: &CancellationToken) {
    let wanted: Vec<SensorConfig> = {
        let wanted = shared.wanted.borrow();
        wanted.sensors.iter().filter(|sensor| sensor.mode == Mode::Advertisement).cloned().collect()
    };
    sensors.retain(|_, sensor| {
        let keep = wanted.contains(&sensor.task.config);
        if !keep {
            sensor.task.set_state(None);
        }
        keep
    });
    for config in wanted {
        sensors.entry(config.id.clone()).or_insert_with(|| {
            let task = Task::new(config, shared.clone(), Arc::<AtomicU64>::default(), stop.clone());
            task.set_state(Some(false));
            Listened {
                task,
                lifecycle: Lifecycle::new(false),
                seen: Vec::new(),
                last: None,
                was_heard: false,
                heard_at: Instant::now(),
                state_at: None,
            }
        });
    }
}

/// Listens until the bus is gone.
async fn hear(sensors: &mut BTreeMap<SensorId, Listened>, shared: &Shared) {
    if !shared.answers.next().await {
        return;
    }
    let Ok(mut heard) = Advertisements::begin().await else { return };
    let mut looking = shared.discovery.listen();
    loop {
        let silence_max = shared.wanted.borrow().bluetooth.silence_max.0;
        let silent_at = sensors.values().map(|sensor| sensor.heard_at + silence_max).min();
        tokio::select! {
            advertisement = heard.next() => {
                let Some(Heard { adapter, object, data }) = advertisement else { return };
                shared.answers.note();
                let is_it = |seen: &Seen| seen.adapter == adapter && object_name(seen) == object;
                let hearing = sensors.values_mut().find(|sensor| sensor.seen.iter().any(is_it));
                let advertised = data.iter().find_map(|(company, data)| read(*company, data));
                if let (Some(sensor), Some(advertised)) = (hearing, advertised) {
                    sensor.take(advertised, &adapter).await;
                }
            }
            objects = looking.next() => {
                for sensor in sensors.values_mut() {
                    sensor.look(&objects, silence_max).await;
                }
            }
            () = sleep_until(silent_at.unwrap_or_else(Instant::now)), if silent_at.is_some() => {
                for sensor in sensors.values_mut().filter(|sensor| sensor.heard_at.elapsed() >= silence_max) {
                    sensor.note_silence().await;
                }
            }
        }
    }
}

impl Listened {
    /// Takes a reading, unless it is one that was taken.
    async fn take(&mut self, advertised: Advertised, adapter: &str) {
        let is_old = self.last.is_some_and(|(at, counter)| {
            let is_repeated = counter.is_some() && counter == advertised.counter;
            at.elapsed() < if is_repeated { COUNTED_ANEW_AFTER } else { READING_EVERY }
        });
        self.heard_at = Instant::now();
        self.was_heard = true;
        if is_old {
            return;
        }
        let is_first = self.last.is_none();
        self.last = Some((Instant::now(), advertised.counter));
        let Some(seen) = self.seen.iter().find(|seen| seen.adapter == adapter).cloned() else { return };
        if is_first {
            self.task.take_as_sensor(&seen).await;
            self.lifecycle.handle_first_notification();
            self.task.report(&mut self.lifecycle);
        }
        _ = self.task.send(self.task.now(), SourceEventKind::Advertisement(advertised.values)).await;
        if self.state_at.is_none_or(|at| at.elapsed() >= STATE_EVERY) {
            self.state_at = Some(Instant::now());
            let (battery_percent, location) = (advertised.battery_percent, self.task.location());
            let state = SensorState { battery_percent, rssi_dbm: seen.rssi, location };
            self.task.tell_state(state).await;
        }
    }

    /// Finds which device it is among what there is.
    async fn look(&mut self, objects: &Objects, silence_max: Duration) {
        let choices = self.task.adapters();
        let hindrance = objects.hindrance(&choices).filter(|why| *why != NoAdapter::Off);
        if let Some(why) = hindrance {
            self.seen.clear();
            if self.last.take().is_some() {
                self.task.tell_down(GapReason::AdapterGone).await;
            }
            self.say(|lifecycle| lifecycle.handle_no_adapter(why));
            return;
        }
        let on = objects.names_on(&choices);
        let devices: Vec<Seen> =
            objects.devices.iter().filter(|seen| on.contains(&seen.adapter)).cloned().collect();
        let absence = match self.task.choose(&devices) {
            Choice::Device(seen) => {
                self.seen = seen.into_iter().cloned().collect();
                return;
            }
            Choice::Stranger => Absence::Stranger,
            Choice::Ambiguous(_) => Absence::Ambiguous,
            Choice::Longer => Absence::LongerName,
            Choice::Nothing if self.heard_at.elapsed() < silence_max => return,
            Choice::Nothing => Absence::NotSeen,
        };
        self.seen.clear();
        self.say(|lifecycle| lifecycle.handle_absence(absence));
    }

    /// It sends no more.
    async fn note_silence(&mut self) {
        self.heard_at = Instant::now();
        self.task.note_new_link();
        if self.last.take().is_some() {
            self.task.tell_down(GapReason::LinkDown).await;
        }
        let is_mute = !self.was_heard && self.seen.iter().any(|seen| seen.rssi.is_some());
        let absence = if is_mute { Absence::NothingSaid } else { Absence::NotSeen };
        self.say(|lifecycle| lifecycle.handle_absence(absence));
    }

    fn say(&mut self, what: impl FnOnce(&mut Lifecycle)) {
        what(&mut self.lifecycle);
        self.task.set_state(Some(self.last.is_some()));
        self.task.report(&mut self.lifecycle);
    }
}

/// What bluetoothd calls a device, in its object's path.
fn object_name(seen: &Seen) -> String {
    seen.object.to_string().replace(':', "_")
}
