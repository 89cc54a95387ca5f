//! Sensors over BlueZ's D-Bus API. Only this folder names bluer.
//!
//! [`BluezSource`] runs one task per sensor, each with a D-Bus connection of its own: bluer holds one
//! lock per connection across `StartNotify` and `StartDiscovery`, so on a shared one a hung sensor
//! would stall all others. `link` carries out the actions of one sensor's session; [`scan`] looks
//! around. What the tasks share is the `radio`: scanning and connecting exclude each other on an adapter.

mod agent;
mod bus;
mod call;
mod describe;
mod link;
mod radio;
pub mod scan;
mod subscription;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::session::{Action, Failure, Report, SensorSession};
use super::{NotificationSource, SourceEvent, SourceView};
use crate::clock::SystemClock;
use crate::config::{Address, BluetoothConfig, SensorConfig};
use crate::reading::SensorId;
use agent::Bonds;
use bus::{Answers, BusWatch};
use link::Link;
use radio::SharedRadio;

/// Longest time without a round of the supervisor: below the shortest watchdog that makes sense.
const ROUND_MAX: Duration = Duration::from_secs(2);
/// A sensor's task that did nothing for so long hangs: each of its actions is bounded by half a minute, and
/// it may have to wait for others to scan and connect.
const CHILD_STILL_MAX: Duration = Duration::from_secs(300);
/// How often `discover` looks around.
const DISCOVER_EVERY: Duration = Duration::from_secs(20);
/// So long a discovered sensor may be away before its place goes to another.
const DISCOVERED_KEPT: Duration = Duration::from_secs(600);

type Found = Result<Vec<scan::Nearby>, scan::ScanError>;

/// Sensors by name → whether readings flow.
pub type SensorStates = watch::Sender<BTreeMap<SensorId, bool>>;

/// What the source obeys; replaced on SIGHUP.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// The configured sensors.
    pub sensors: Vec<SensorConfig>,
    /// How to look for them.
    pub bluetooth: BluetoothConfig,
}

/// All sensors of the gateway.
pub struct BluezSource {
    /// What is wanted, now and after each reload.
    pub wanted: watch::Receiver<Wanted>,
    /// The machine's clocks.
    pub clock: SystemClock,
    /// Secret of this machine, from which names of discovered sensors are derived.
    pub name_secret: Vec<u8>,
    /// Who streams, for the status line.
    pub states: SensorStates,
    /// What the watchdog and the status line see of it.
    pub view: Arc<SourceView>,
    /// Whether the last look around failed: said once.
    pub discover_fails: bool,
}

/// What all sensor tasks share.
#[derive(Clone)]
struct Shared {
    radio: SharedRadio,
    bonds: Arc<Bonds>,
    clock: SystemClock,
    events: mpsc::Sender<SourceEvent>,
    states: SensorStates,
    wanted: watch::Receiver<Wanted>,
    view: Arc<SourceView>,
    answers: Answers,
    /// What this task carried out, and what came of it.
    moves: Arc<AtomicU64>,
}

impl Shared {
    /// Something came over the bus.
    fn note_answer(&self) {
        self.answers.note();
        self.moves.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it makes no sense to open another connection.
    fn nobody_answers(&self) -> bool {
        self.view.unanswered.borrow().is_some()
    }

    /// As it is configured now.
    fn silence_max(&self) -> Duration {
        self.wanted.borrow().bluetooth.silence_max.0
    }
}

struct Child {
    config: SensorConfig,
    stop: CancellationToken,
    /// For a sensor that was discovered: when it was last seen to stream.
    discovered: Option<Instant>,
    moves: Arc<AtomicU64>,
    moves_seen: u64,
    moved_at: Instant,
}

impl Child {
    /// Whether its task did anything of late.
    fn is_moving(&mut self) -> bool {
        let moves = self.moves.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.moves_seen, moves) != moves {
            self.moved_at = Instant::now();
        }
        self.moved_at.elapsed() < CHILD_STILL_MAX
    }
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
        let shared = Shared {
            radio: Arc::default(),
            bonds: Arc::default(),
            clock: self.clock.clone(),
            events,
            states: self.states.clone(),
            wanted: self.wanted.clone(),
            view: self.view.clone(),
            answers: Answers::default(),
            moves: Arc::default(),
        };
        let mut tasks = JoinSet::new();
        let mut children = BTreeMap::new();
        self.reconcile(&wanted, &mut children, &mut tasks, &shared, &stop);
        let watching = BusWatch::new(shared.answers.clone(), self.view.clone()).run();
        tokio::pin!(watching);
        let mut looking: Option<BoxFuture<'static, Found>> = None;
        let (mut round_at, mut discover_at) = (Instant::now(), Instant::now());
        let mut answers_seen = 0;
        loop {
            self.count_round(&mut children, &shared, &mut answers_seen);
            tokio::select! {
                () = &mut watching => {}
                () = stop.cancelled() => break,
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let wanted = self.wanted.borrow_and_update().clone();
                    self.reconcile(&wanted, &mut children, &mut tasks, &shared, &stop);
                }
                Some(ended) = tasks.join_next() => {
                    if let Err(panic) = ended && panic.is_panic() {
                        std::panic::resume_unwind(panic.into_panic());
                    }
                }
                found = some(&mut looking) => {
                    looking = None;
                    discover_at = Instant::now() + DISCOVER_EVERY;
                    let wanted = self.wanted.borrow().clone();
                    self.take_in(found, &wanted, &mut children, &mut tasks, &shared, &stop);
                }
                () = tokio::time::sleep_until(round_at) => {
                    round_at = Instant::now() + ROUND_MAX;
                    let bluetooth = self.wanted.borrow().bluetooth.clone();
                    let due = looking.is_none() && discover_at <= Instant::now();
                    if bluetooth.discover && due && !shared.nobody_answers() {
                        let radio = shared.radio.clone();
                        let look = async move { scan::heart_rate_sensors(&bluetooth, &radio).await };
                        looking = Some(Box::pin(look));
                    }
                }
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// A round counts where an answer came since the last, and no sensor's task hangs. One that never had an
    /// answer counts: whoever starts the daemon anew for want of answers would do so for ever, and each
    /// time hold up what is queued.
    fn count_round(&self, children: &mut BTreeMap<SensorId, Child>, shared: &Shared, answers_seen: &mut u64) {
        let answers = shared.answers.count();
        let answered = std::mem::replace(answers_seen, answers) != answers || answers == 0;
        let mut hanging = false;
        for child in children.values_mut() {
            hanging |= !child.is_moving();
        }
        if answered && !hanging {
            self.view.rounds.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Stops what is no longer wanted, starts what is new, leaves the others alone.
    fn reconcile(
        &self,
        wanted: &Wanted,
        children: &mut BTreeMap<SensorId, Child>,
        tasks: &mut JoinSet<()>,
        shared: &Shared,
        stop: &CancellationToken,
    ) {
        children.retain(|id, child| {
            let is_configured = wanted.sensors.iter().any(|sensor| sensor.address == child.config.address);
            let keep = match child.discovered {
                Some(_) => wanted.bluetooth.discover && !is_configured,
                None => wanted.sensors.contains(&child.config),
            };
            if !keep {
                info!(sensor = %id, "sensor no longer wanted; its link is closed");
                child.stop.cancel();
            }
            keep
        });
        for config in &wanted.sensors {
            if !children.contains_key(&config.id) {
                start(config.clone(), None, children, tasks, shared, stop);
            }
        }
    }

    /// Lets go of discovered sensors that have not streamed for long, so that others find a place.
    fn retire(&self, children: &mut BTreeMap<SensorId, Child>) {
        let states = self.states.borrow();
        children.retain(|id, child| {
            let Some(streamed_at) = &mut child.discovered else { return true };
            if states.get(id) == Some(&true) {
                *streamed_at = Instant::now();
            }
            let keep = streamed_at.elapsed() < DISCOVERED_KEPT;
            if !keep {
                info!(sensor = %id, "discovered sensor is gone");
                child.stop.cancel();
            }
            keep
        });
    }

    /// Starts sensors that discovery found.
    fn take_in(
        &mut self,
        found: Found,
        wanted: &Wanted,
        children: &mut BTreeMap<SensorId, Child>,
        tasks: &mut JoinSet<()>,
        shared: &Shared,
        stop: &CancellationToken,
    ) {
        if found.is_ok() == std::mem::replace(&mut self.discover_fails, found.is_err()) {
            match &found {
                Ok(_) => info!("discovery works again"),
                Err(error) => warn!(%error, "cannot look for sensors; trying on"),
            }
        }
        self.retire(children);
        let found = found.unwrap_or_default();
        for device in found {
            let configured = wanted.sensors.iter().any(|sensor| {
                sensor.address == Some(device.address)
                    || matches!((&sensor.name, &device.name), (Some(want), Some(have)) if have.starts_with(want))
            });
            let known = children.values().any(|child| child.config.address == Some(device.address));
            let discovered = children.values().filter(|child| child.discovered.is_some()).count();
            if configured || known || discovered >= wanted.bluetooth.discover_max {
                continue;
            }
            let config = SensorConfig {
                id: derived_name(&self.name_secret, device.address),
                address: Some(device.address),
                name: None,
                adapter: Some(device.adapter),
                bond: false,
                passkey: None,
            };
            info!(sensor = %config.id, "sensor discovered");
            start(config, Some(Instant::now()), children, tasks, shared, stop);
        }
    }
}

fn start(
    config: SensorConfig,
    discovered: Option<Instant>,
    children: &mut BTreeMap<SensorId, Child>,
    tasks: &mut JoinSet<()>,
    shared: &Shared,
    stop: &CancellationToken,
) {
    let stop = stop.child_token();
    let moves = Arc::default();
    let shared = Shared { moves: Arc::clone(&moves), ..shared.clone() };
    tasks.spawn(keep_subscribed(config.clone(), shared, stop.clone()));
    let child = Child { config, stop, discovered, moves, moves_seen: 0, moved_at: Instant::now() };
    children.insert(child.config.id.clone(), child);
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
    use sha2::{Digest, Sha256};
    let hash = Sha256::new().chain_update(secret).chain_update(address.0).finalize();
    let hex: String = hash[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("hr-{hex}").parse().expect("letters, digits and a dash")
}

/// The thin driver of one sensor's session.
async fn keep_subscribed(config: SensorConfig, shared: Shared, stop: CancellationToken) {
    let mut session = SensorSession::new(config.bond);
    let mut link = Link::new(config.clone(), shared.clone());
    shared.states.send_modify(|states| _ = states.insert(config.id.clone(), false));
    loop {
        let action = session.action();
        let outcome = tokio::select! {
            outcome = link.perform(action, &mut session) => outcome,
            () = stop.cancelled() => break,
        };
        shared.moves.fetch_add(1, Ordering::Relaxed);
        session.handle(outcome, fastrand::f64());
        if let Some(said) = session.take_report() {
            report(&config.id, said, &shared);
        }
        if !matches!(session.action(), Action::Stream | Action::Subscribe) {
            shared.states.send_modify(|states| _ = states.insert(config.id.clone(), false));
        }
    }
    link.close().await;
    shared.states.send_modify(|states| _ = states.remove(&config.id));
}

fn report(sensor: &SensorId, said: Report, shared: &Shared) {
    match said {
        Report::Streaming => {
            shared.states.send_modify(|states| _ = states.insert(sensor.clone(), true));
            info!(%sensor, "sensor connected; readings flow");
        }
        Report::LinkLost => warn!(%sensor, "link to the sensor lost; looking for it again"),
        Report::Silent => warn!(%sensor, "the sensor is connected and sends nothing; subscribing again"),
        Report::AdapterGone => warn!(
            %sensor,
            "no Bluetooth adapter, or bluetoothd is not running; waiting for it (systemctl status bluetooth)"
        ),
        Report::Searching => info!(%sensor, "sensor not in range; looking for it (is its broadcast on?)"),
        Report::CannotScan(failure) => error!(
            %sensor, ?failure,
            "the adapter does not scan; trying on (systemctl restart bluetooth, or plug it in again)"
        ),
        Report::Failing(Failure::BondNeeded) => {
            error!(
                %sensor,
                "the sensor demands bonding: set `bond = true` in its [[sensor]] block; \
                 if it is set, the sensor has forgotten the gateway: `bluetoothctl remove` its address"
            );
        }
        Report::Failing(Failure::NoHeartRate) => {
            error!(%sensor, "the sensor offers no Heart Rate Service: switch its broadcast on, or check the address");
        }
        Report::Failing(failure) => error!(
            %sensor, ?failure,
            "the sensor is there and does not work; trying on (restart it, or the gateway's Bluetooth)"
        ),
    }
}
