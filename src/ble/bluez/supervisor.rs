//! Who is wanted: one task for each configured sensor, and for each that was discovered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::agent::Bonds;
use super::bus::{Answers, BusWatch};
use super::children::Children;
use super::discovery::Discovery;
use super::listener::listen;
use super::radio::Radio;
use super::scan::{ScanError, has_heart_rate, heard};
use super::task::{Shared, Wanted};
use crate::ble::identity::{Identities, Seen};
use crate::ble::registry::Registry;
use crate::ble::{NotificationSource, SensorViews, SourceEvent, SourceView};
use crate::clock::SystemClock;
use crate::config::{AdapterChoice, Address, BluetoothConfig, Follow, SensorConfig};
use crate::pseudonym::pseudonym;
use crate::reading::{Mode, SensorId};

/// Longest time without a round of the supervisor: below the shortest watchdog that makes sense.
const ROUND_MAX: Duration = Duration::from_secs(2);
/// How often `discover` looks around, and for how long.
const DISCOVER_EVERY: Duration = Duration::from_secs(20);
const DISCOVER_SLICE: Duration = Duration::from_secs(6);
/// So long a discovered sensor may be away before its place goes to another.
const DISCOVERED_KEPT: Duration = Duration::from_secs(600);

type Found = Result<Vec<Seen>, ScanError>;

/// All sensors of the gateway.
pub struct BluezSource {
    /// What is wanted, now and after each reload.
    pub wanted: watch::Receiver<Wanted>,
    /// The machine's clocks.
    pub clock: SystemClock,
    /// Secret of this machine, from which names of discovered sensors are derived.
    pub name_secret: Vec<u8>,
    /// Which device each sensor is.
    pub registry: Registry,
    /// How it stands with each sensor.
    pub states: watch::Sender<SensorViews>,
    /// What the watchdog and the status line see of it.
    pub view: Arc<SourceView>,
    /// Whether the last look around failed: said once.
    pub discover_fails: bool,
}

impl NotificationSource for BluezSource {
    fn run(
        self: Box<Self>,
        events: mpsc::Sender<SourceEvent>,
        stop: CancellationToken,
    ) -> BoxFuture<'static, ()> {
        Box::pin(self.supervise(events, stop))
    }
}

impl BluezSource {
    async fn supervise(mut self: Box<Self>, events: mpsc::Sender<SourceEvent>, stop: CancellationToken) {
        let wanted = self.wanted.borrow_and_update().clone();
        let (radio, answers) = (Arc::<Radio>::default(), Answers::default());
        let discovery = Discovery::new(radio.clone(), answers.clone());
        let shared = Shared {
            radio,
            discovery: discovery.clone(),
            registry: self.registry.clone(),
            bonds: Arc::<Bonds>::default(),
            clock: self.clock.clone(),
            events,
            states: self.states.clone(),
            wanted: self.wanted.clone(),
            answers,
        };
        let mut children = Children::new(shared.clone(), stop.clone());
        self.reconcile(&wanted, &mut children, &shared);
        let watching = BusWatch::new(shared.answers.clone(), self.view.clone()).run();
        let now_wanted = self.wanted.clone();
        let discovering = discovery.clone().run(move || choices(&now_wanted.borrow()));
        let listening = listen(shared.clone(), stop.clone());
        tokio::pin!(watching, discovering, listening);
        let mut looking: Option<BoxFuture<'static, Found>> = None;
        let (mut round_at, mut discover_at) = (Instant::now(), Instant::now());
        let mut answers_seen = 0;
        loop {
            self.count_round(&mut children, &shared, &mut answers_seen);
            tokio::select! {
                () = &mut watching => {}
                () = &mut discovering => {}
                () = &mut listening => break,
                () = stop.cancelled() => break,
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let wanted = self.wanted.borrow_and_update().clone();
                    self.reconcile(&wanted, &mut children, &shared);
                }
                Some(ended) = children.tasks.join_next() => {
                    if let Err(panic) = ended && panic.is_panic() {
                        std::panic::resume_unwind(panic.into_panic());
                    }
                }
                found = some(&mut looking) => {
                    looking = None;
                    discover_at = Instant::now() + DISCOVER_EVERY;
                    let wanted = self.wanted.borrow().clone();
                    self.take_in(found, &wanted, &mut children);
                }
                () = tokio::time::sleep_until(round_at) => {
                    round_at = Instant::now() + ROUND_MAX;
                    let bluetooth = self.wanted.borrow().bluetooth.clone();
                    let due = looking.is_none() && discover_at <= Instant::now();
                    if bluetooth.discover && due && self.view.unanswered.borrow().is_none() {
                        looking = Some(Box::pin(heart_rate_sensors(discovery.clone(), bluetooth)));
                    }
                }
            }
        }
        // Links end over calls to bluetoothd, which the watch over it has no part in.
        while children.tasks.join_next().await.is_some() {}
        discovery.settled().await;
    }

    /// A round counts where an answer came since the last, and no sensor's task hangs. One that never had an
    /// answer counts: whoever starts the daemon anew for want of answers would do so for ever, and each
    /// time hold up what is queued.
    fn count_round(&self, children: &mut Children, shared: &Shared, answers_seen: &mut u64) {
        let answers = shared.answers.count();
        let answered = std::mem::replace(answers_seen, answers) != answers || answers == 0;
        let mut hanging = false;
        for child in children.running.values_mut() {
            hanging |= !child.is_moving();
        }
        if answered && !hanging {
            self.view.rounds.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Stops what is no longer wanted, starts what is new, leaves the others alone.
    fn reconcile(&self, wanted: &Wanted, children: &mut Children, shared: &Shared) {
        let ((known, tried), latest) = (self.registry.devices_and_tried(), shared.discovery.latest());
        let identities = Identities { sensors: &wanted.sensors, known: &known, tried: &tried };
        children.retain(|id, child| {
            let is_configured = latest
                .devices
                .iter()
                .any(|seen| Some(seen.address) == child.config.address && identities.owner(seen).is_some());
            let keep = match child.discovered {
                Some(_) => {
                    let has_block = wanted.sensors.iter().any(|sensor| sensor.id == *id);
                    wanted.bluetooth.discover && !is_configured && !has_block
                }
                None => wanted.sensors.contains(&child.config),
            };
            if !keep {
                info!(sensor = %id, "sensor no longer wanted; its link is closed");
            }
            keep
        });
        for config in wanted.sensors.iter().filter(|config| config.mode == Mode::Notification) {
            if !children.running.contains_key(&config.id) {
                children.start(config.clone(), None);
            }
        }
    }

    /// Lets go of discovered sensors that have not streamed for long, so that others find a place.
    fn retire(&self, children: &mut Children) {
        let states = self.states.borrow();
        children.retain(|id, child| {
            let Some(streamed_at) = &mut child.discovered else { return true };
            if states.get(id).is_some_and(|view| view.streams) {
                *streamed_at = Instant::now();
            }
            let keep = streamed_at.elapsed() < DISCOVERED_KEPT;
            if !keep {
                info!(sensor = %id, "discovered sensor is gone");
            }
            keep
        });
    }

    /// Starts sensors that discovery found.
    fn take_in(&mut self, found: Found, wanted: &Wanted, children: &mut Children) {
        if found.is_ok() == std::mem::replace(&mut self.discover_fails, found.is_err()) {
            match &found {
                Ok(_) => info!("discovery works again"),
                Err(error) => warn!(%error, "cannot look for sensors; trying on"),
            }
        }
        self.retire(children);
        let (known, tried) = self.registry.devices_and_tried();
        let identities = Identities { sensors: &wanted.sensors, known: &known, tried: &tried };
        for device in found.unwrap_or_default() {
            let configured = identities.owner(&device).is_some();
            let known = children.running.values().any(|child| child.config.address == Some(device.address));
            let discovered = children.running.values().filter(|child| child.discovered.is_some()).count();
            if configured || known || discovered >= wanted.bluetooth.discover_max {
                continue;
            }
            let config = SensorConfig {
                id: derived_name(&self.name_secret, device.address),
                address: Some(device.address),
                name: None,
                mode: Mode::Notification,
                follow: Follow::Same,
                adapter: None,
                bond: false,
                passkey: None,
            };
            info!(sensor = %config.id, "sensor discovered");
            children.start(config, Some(Instant::now()));
        }
    }
}

/// What comes of it; never, where there is nothing to wait for.
async fn some<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// A name that stays the same for this sensor on this gateway and does not tell its address.
fn derived_name(secret: &[u8], address: Address) -> SensorId {
    let hex = pseudonym(secret, &address.0);
    format!("hr-{hex}").parse().expect("letters, digits and a dash")
}

/// What advertises the Heart Rate Service loudly enough.
async fn heart_rate_sensors(discovery: Arc<Discovery>, config: BluetoothConfig) -> Found {
    let found = heard(&discovery, &config.adapters, DISCOVER_SLICE).await?;
    let is_loud = |seen: &Seen| seen.rssi.is_some_and(|rssi| rssi >= config.discover_rssi_min);
    Ok(found.into_iter().filter(|seen| has_heart_rate(seen) && is_loud(seen)).collect())
}

/// The adapters on which is looked for what is wanted.
fn choices(wanted: &Wanted) -> Vec<Vec<AdapterChoice>> {
    let mut choices: Vec<_> =
        wanted.sensors.iter().map(|sensor| wanted.bluetooth.adapters_of(sensor)).collect();
    if wanted.bluetooth.discover {
        choices.push(wanted.bluetooth.adapters.clone());
    }
    choices
}
