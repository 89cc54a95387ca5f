//! A sensor's task, as what works for it sees it: its configuration, what it shares, and what is said of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::agent::Bonds;
use super::bus::Answers;
use super::discovery::Discovery;
use super::objects::Objects;
use super::radio::Radio;
use super::reports::{reason, say};
use crate::ble::adapters::Offer;
use crate::ble::identity::{Choice, Identities, Seen};
use crate::ble::lifecycle::{Lifecycle, Report};
use crate::ble::registry::Registry;
use crate::ble::{SensorView, SensorViews, SourceEvent, SourceEventKind};
use crate::clock::{SystemClock, boottime};
use crate::config::{AdapterChoice, BluetoothConfig, SensorConfig};
use crate::heart_rate::BodySensorLocation;
use crate::reading::{GapReason, Moment, SensorId, SensorState};

/// So long is listened for another device of the name, before one is taken that was never this sensor.
const LISTEN: Duration = Duration::from_secs(3);
/// So long other adapters are given to hear a device that one hears.
const ADAPTERS_SETTLE: Duration = Duration::from_millis(900);

/// What the source obeys; replaced on SIGHUP.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// The configured sensors.
    pub sensors: Vec<SensorConfig>,
    /// How to look for them.
    pub bluetooth: BluetoothConfig,
}

/// What all sensor tasks share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) radio: Arc<Radio>,
    pub(super) discovery: Arc<Discovery>,
    pub(super) registry: Registry,
    pub(super) bonds: Arc<Bonds>,
    pub(super) clock: SystemClock,
    pub(super) events: mpsc::Sender<SourceEvent>,
    pub(super) states: watch::Sender<SensorViews>,
    pub(super) wanted: watch::Receiver<Wanted>,
    pub(super) answers: Answers,
}

/// One sensor's.
pub(super) struct Task {
    pub(super) config: SensorConfig,
    pub(super) shared: Shared,
    /// What it carried out, and what came of it.
    pub(super) moves: Arc<AtomicU64>,
    /// When it is to end.
    pub(super) stop: CancellationToken,
    /// Whether the device of the present link was taken as the sensor.
    taken: AtomicBool,
}

impl Task {
    pub(super) fn new(
        config: SensorConfig,
        shared: Shared,
        moves: Arc<AtomicU64>,
        stop: CancellationToken,
    ) -> Self {
        Self { config, shared, moves, stop, taken: AtomicBool::new(false) }
    }

    /// The next device that sends is looked at anew: it may be another.
    pub(super) fn note_new_link(&self) {
        self.taken.store(false, Ordering::Relaxed);
    }

    pub(super) fn sensor(&self) -> &SensorId {
        &self.config.id
    }

    pub(super) fn now(&self) -> Moment {
        self.shared.clock.now()
    }

    /// Whether it has a block; otherwise it was discovered.
    fn is_configured(&self) -> bool {
        self.shared.wanted.borrow().sensors.iter().any(|sensor| sensor.id == self.config.id)
    }

    /// As it is configured now.
    pub(super) fn silence_max(&self) -> Duration {
        self.shared.wanted.borrow().bluetooth.silence_max.0
    }

    /// The adapters that it may be reached by; none named are all.
    pub(super) fn adapters(&self) -> Vec<AdapterChoice> {
        self.shared.wanted.borrow().bluetooth.adapters_of(&self.config)
    }

    /// Something came over the bus.
    pub(super) fn note_answer(&self) {
        self.shared.answers.note();
        self.moves.fetch_add(1, Ordering::Relaxed);
    }

    /// What is there of the sensor among `devices`.
    pub(super) fn choose<'a>(&self, devices: &'a [Seen]) -> Choice<'a> {
        let is_mine = |seen: &&Seen| Some(seen.address) == self.config.address;
        if self.is_configured() {
            self.among(&[], |identities| identities.choose(&self.config, devices))
        } else if devices.iter().filter(is_mine).any(|seen| self.is_anothers(seen)) {
            Choice::Nothing
        } else {
            let alone = std::slice::from_ref(&self.config);
            self.among(alone, |identities| identities.choose(&self.config, devices))
        }
    }

    /// Whether a device that was discovered is a configured sensor's by now: by its name, say, which it may only
    /// show after its first link.
    pub(super) fn is_anothers(&self, seen: &Seen) -> bool {
        if self.is_configured() {
            return false;
        }
        let objects = self.shared.discovery.latest();
        let now = objects.devices.iter().filter(|now| now.address == seen.address);
        self.among(&[], |identities| now.chain([seen]).any(|seen| identities.owner(seen).is_some()))
    }

    /// With who knows which device: the configured sensors, and `others`.
    fn among<T>(&self, others: &[SensorConfig], ask: impl FnOnce(Identities<'_>) -> T) -> T {
        let sensors = [&self.shared.wanted.borrow().sensors, others].concat();
        let (known, tried) = self.shared.registry.devices_and_tried();
        ask(Identities { sensors: &sensors, known: &known, tried: &tried })
    }

    /// How long to listen for others, once `seen` was heard by one of so many adapters.
    pub(super) fn settle(&self, seen: &Seen, adapters: usize) -> Duration {
        let known = self.shared.registry.device(self.sensor());
        let is_kept = known.is_some_and(|known| !known.released && known.is(seen, self.config.name.as_ref()));
        match (self.config.address.is_some() || is_kept, adapters) {
            (false, _) => LISTEN,
            (true, 0..=1) => Duration::ZERO,
            (true, _) => ADAPTERS_SETTLE,
        }
    }

    /// The best of what the adapters show of one device; `None` where none has a link left.
    pub(super) fn best<'a>(&self, seen: &[&'a Seen], objects: &Objects) -> Option<&'a Seen> {
        if let Some(linked) = seen.iter().find(|seen| seen.is_connected) {
            return Some(linked);
        }
        let radio = &self.shared.radio;
        let offer = |seen: &&'a Seen| Offer {
            adapter: &seen.adapter,
            rssi: seen.rssi,
            connecting: radio.connecting(&seen.adapter),
            links: objects.links(&seen.adapter),
        };
        let offers: Vec<Offer<'_>> = seen.iter().map(offer).collect();
        let adapter = radio.pool().choose(seen.first()?.address, &offers, boottime())?;
        seen.iter().find(|seen| seen.adapter == adapter).copied()
    }

    /// From now on `seen` is the sensor's device: its readings are taken.
    pub(super) async fn take_as_sensor(&self, seen: &Seen) {
        self.note_adapter(&seen.adapter);
        // Once for a link: whoever lets go of the device meanwhile means the next one.
        if self.taken.swap(true, Ordering::Relaxed) {
            return;
        }
        let taken = self.shared.registry.take(&self.config, seen.clone(), !self.is_configured()).await;
        if taken.replaced {
            warn!(
                sensor = %self.sensor(),
                "another device is the sensor now: a new session begins (`hr-gatewayd sensor list` shows which it is)"
            );
            self.tell_down(GapReason::SensorReplaced).await;
        }
        // From the first reading on, though the device be asked only now.
        self.tell(SourceEventKind::Located(taken.location)).await;
    }

    /// The device was `before` and is `now`: it gave its address by bonding.
    pub(super) async fn note_address(&self, before: &Seen, now: &Seen) {
        self.shared.registry.follow(&self.config, before.clone(), now.clone()).await;
    }

    /// Hands an event to the ingest; whether there is one.
    pub(super) async fn send(&self, at: Moment, kind: SourceEventKind) -> bool {
        let event = SourceEvent { sensor: self.sensor().clone(), at, kind };
        self.shared.events.send(event).await.is_ok()
    }

    /// Hands over one that is of now.
    async fn tell(&self, kind: SourceEventKind) {
        _ = self.send(self.now(), kind).await;
    }

    pub(super) async fn tell_down(&self, why: GapReason) {
        self.tell(SourceEventKind::Down(why)).await;
    }

    /// Where the sensor is worn, if it ever said so.
    pub(super) fn location(&self) -> Option<BodySensorLocation> {
        self.shared.registry.device(self.sensor())?.location
    }

    /// How the sensor is.
    pub(super) async fn tell_state(&self, state: SensorState) {
        self.shared.registry.note_location(self.sensor(), state.location).await;
        self.tell(SourceEventKind::State(state)).await;
    }

    /// Whether readings flow; `None` where the task is at its end.
    pub(super) fn set_state(&self, streams: Option<bool>) {
        match streams {
            Some(streams) => self.note(|view| view.streams = streams),
            None => self.shared.states.send_modify(|states| _ = states.remove(self.sensor())),
        }
    }

    /// The adapter that it is reached by.
    fn note_adapter(&self, adapter: &str) {
        self.note(|view| view.adapter = Some(adapter.to_owned()));
    }

    fn note(&self, change: impl FnOnce(&mut SensorView)) {
        self.shared.states.send_modify(|states| {
            let looked_for = || SensorView { why: "looked for", ..SensorView::default() };
            change(states.entry(self.sensor().clone()).or_insert_with(looked_for));
        });
    }

    /// Says what changed for the operator.
    pub(super) fn report(&self, lifecycle: &mut Lifecycle) {
        let Some(report) = lifecycle.take_report() else { return };
        if report == Report::Streaming {
            self.set_state(Some(true));
        }
        self.note(|view| view.why = reason(report));
        say(self.sensor(), report);
    }
}
