//! One sensor's task: carries out the actions of its [lifecycle](crate::ble::lifecycle), finds the device
//! that it is, and says what became of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bluer::Session;
use bluer::agent::AgentHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::agent::agent;
use super::call::{CALL_TIMEOUT, within};
use super::link::{Link, Run};
use super::objects::Objects;
use super::stream::stream;
use super::task::{Shared, Task};
use crate::ble::identity::{Choice, Seen};
use crate::ble::lifecycle::{Absence, Action, Failure, Lifecycle, NoAdapter, Outcome};
use crate::clock::boottime;
use crate::config::SensorConfig;
use crate::reading::GapReason;

/// One slice of looking: a watch advertises every second or so at the slowest.
const FIND_SLICE: Duration = Duration::from_secs(10);
/// BlueZ tells of the links before it tells of the adapter that took them down; and a bluetoothd that is just
/// starting keeps whoever asks it waiting.
const ADAPTER_GRACE: Duration = Duration::from_secs(15);
/// So long before the end of a stream is heard of, its adapter may be on again.
const SWITCHED_ON_BEFORE: Duration = Duration::from_secs(1);

/// So long who stops waits for a subscription that was begun, and for what is on its way over one.
const SUBSCRIBE_GRACE: Duration = Duration::from_secs(1);
const STREAM_GRACE: Duration = Duration::from_secs(3);

/// The state of a sensor's task.
struct Sensor {
    task: Task,
    attached: Option<Attached>,
    link: Option<Link>,
    described: bool,
    /// When the last stream ended, and over which adapter it came.
    ended: Option<(Instant, String)>,
}

struct Attached {
    /// The run of bluetoothd that it is attached to.
    bluetoothd: String,
    /// BlueZ asks it while bonding; dropped before the session that it unregisters over.
    _agent: AgentHandle,
    session: Session,
}

/// Keeps one sensor subscribed until `stop`.
pub(super) async fn keep_subscribed(
    config: SensorConfig,
    shared: Shared,
    moves: Arc<AtomicU64>,
    stop: CancellationToken,
) {
    let mut lifecycle = Lifecycle::new(config.bond);
    let task = Task::new(config, shared, moves, stop.clone());
    let mut sensor = Sensor { task, attached: None, link: None, described: false, ended: None };
    sensor.task.set_state(Some(false));
    loop {
        let action = lifecycle.action();
        let outcome = tokio::select! {
            outcome = sensor.perform(action, &mut lifecycle) => outcome,
            () = given_up(action, &stop) => break,
        };
        sensor.task.moves.fetch_add(1, Ordering::Relaxed);
        if matches!(outcome, Outcome::Ended { .. }) && stop.is_cancelled() {
            break;
        }
        lifecycle.handle(outcome, fastrand::f64());
        sensor.task.report(&mut lifecycle);
        if !matches!(lifecycle.action(), Action::Stream | Action::Subscribe) {
            sensor.task.set_state(Some(false));
        }
    }
    sensor.disconnect().await;
    sensor.task.set_state(None);
}

/// Returns when it is time to stop and `action` is not to be waited for. A sensor may send at once when it is
/// subscribed to, and what was sent is to be had: a stream ends by itself, after that.
async fn given_up(action: Action, stop: &CancellationToken) {
    stop.cancelled().await;
    match action {
        Action::Subscribe => sleep(SUBSCRIBE_GRACE).await,
        Action::Stream => sleep(STREAM_GRACE).await,
        _ => {}
    }
}

impl Sensor {
    /// Carries out `action`. Cancel-safe in this sense: [`disconnect`](Self::disconnect) cleans up after any.
    async fn perform(&mut self, action: Action, lifecycle: &mut Lifecycle) -> Outcome {
        let result = match action {
            Action::Attach => self.attach().await,
            Action::Find => self.find().await,
            Action::Connect => self.connect().await,
            Action::Bond => match &mut self.link {
                Some(link) => link.bond(&self.task).await,
                None => Err(Failure::Other),
            },
            Action::Subscribe => match &mut self.link {
                Some(link) => link.subscribe(&self.task.shared.bonds).await,
                None => Err(Failure::Other),
            },
            Action::Stream => return self.stream(lifecycle).await,
            Action::Disconnect => {
                self.disconnect().await;
                Ok(())
            }
            Action::Release => {
                if let Some(link) = &mut self.link {
                    link.release().await;
                }
                Ok(())
            }
            Action::Forget | Action::BondAnew => match &mut self.link {
                Some(link) => link.forget(action == Action::BondAnew).await,
                None => Ok(()),
            },
            Action::PowerCycle => match &self.link {
                Some(link) => self.task.shared.discovery.power_cycle(link.adapter.name()).await,
                None => Ok(()),
            },
            Action::Wait(pause) => {
                sleep(pause).await;
                Ok(())
            }
        };
        match result {
            Ok(()) => Outcome::Done,
            Err(failure) => {
                debug!(sensor = %self.task.config.id, ?action, ?failure, "Bluetooth action failed");
                if matches!(action, Action::Connect | Action::Subscribe) {
                    self.note_failure();
                }
                Outcome::Failed(failure)
            }
        }
    }

    /// Opens a D-Bus connection, once there is an adapter: one that is closed lingers for half a minute, as
    /// bluer awaits answers that it no longer reads, so one for each try would pile up.
    async fn attach(&mut self) -> Result<(), Failure> {
        self.link = None;
        self.attached = None;
        let mut looking = self.task.shared.discovery.look();
        let no_answer = Failure::NoAdapter(NoAdapter::NoAnswer);
        let objects = timeout(FIND_SLICE, looking.next()).await.map_err(|_elapsed| no_answer)?;
        if let Some(why) = objects.hindrance(&self.task.adapters())
            && why != NoAdapter::Off
        {
            self.note_adapter(&objects).await;
            return Err(Failure::NoAdapter(why));
        }
        let bluetoothd = objects.bluetoothd.clone().ok_or(Failure::NoAdapter(NoAdapter::NoBluetoothd))?;
        if !self.task.shared.answers.next().await {
            return Err(no_answer);
        }
        let session = within(CALL_TIMEOUT, Session::new()).await?;
        let agent = agent(&self.task.shared.bonds, self.task.config.passkey);
        let agent = within(CALL_TIMEOUT, session.register_agent(agent)).await?;
        self.attached = Some(Attached { bluetoothd, _agent: agent, session });
        Ok(())
    }

    /// Looks for the device that this sensor is, for one slice.
    async fn find(&mut self) -> Result<(), Failure> {
        self.link = None;
        let deadline = Instant::now() + FIND_SLICE;
        let mut looking = self.task.shared.discovery.look();
        let mut failure = Failure::NoAdapter(NoAdapter::NoAnswer);
        let mut heard_since = None;
        while let Ok(objects) = timeout_at(deadline, looking.next()).await {
            self.note_adapter(&objects).await;
            let attached = self.attached.as_ref().ok_or(Failure::NoAdapter(NoAdapter::NoAnswer))?;
            if objects.bluetoothd.as_ref().is_some_and(|now| *now != attached.bluetoothd) {
                return Err(Failure::NoAdapter(NoAdapter::Restarted));
            }
            let choices = self.task.adapters();
            match objects.hindrance(&choices) {
                // It is being switched on.
                Some(NoAdapter::Off) => {
                    failure = Failure::NoAdapter(NoAdapter::Off);
                    continue;
                }
                Some(why) => return Err(Failure::NoAdapter(why)),
                None => {}
            }
            let on = objects.names_on(&choices);
            let devices: Vec<Seen> =
                objects.devices.iter().filter(|seen| on.contains(&seen.adapter)).cloned().collect();
            let seen = match self.task.choose(&devices) {
                Choice::Device(seen) => seen,
                Choice::Ambiguous(_) => return Err(Failure::Absent(Absence::Ambiguous)),
                choice => {
                    heard_since = None;
                    failure = match choice {
                        Choice::Stranger => Failure::Absent(Absence::Stranger),
                        Choice::Longer => Failure::Absent(Absence::LongerName),
                        _ if self.task.shared.discovery.are_deaf(&on) => {
                            Failure::NoAdapter(NoAdapter::DoesNotScan)
                        }
                        _ => Failure::Absent(Absence::NotSeen),
                    };
                    continue;
                }
            };
            let heard_since = *heard_since.get_or_insert_with(Instant::now);
            if seen.first().is_none_or(|seen| heard_since.elapsed() < self.task.settle(seen, on.len())) {
                continue;
            }
            let Some(seen) = self.task.best(&seen, &objects) else {
                self.task.tell_down(GapReason::AdapterFull).await;
                return Err(Failure::Absent(Absence::NoLinkLeft));
            };
            let (id, registry) = (self.task.config.id.clone(), self.task.shared.registry.clone());
            let run = Run { boot: self.task.now().boot, bluetoothd: attached.bluetoothd.clone() };
            let of_adapter = objects.adapters.iter().find(|adapter| adapter.name == seen.adapter);
            let adapter = of_adapter.ok_or(Failure::Other)?.address;
            let link = Link::new(&attached.session, id, seen.clone(), adapter, registry, run);
            self.link = Some(link.map_err(|_| Failure::Other)?);
            return Ok(());
        }
        Err(failure)
    }

    async fn connect(&mut self) -> Result<(), Failure> {
        let link = self.link.as_mut().ok_or(Failure::Absent(Absence::NotSeen))?;
        self.described = false;
        self.task.note_new_link();
        let shared = &self.task.shared;
        let connected = link.connect(&shared.radio).await;
        if connected.is_ok() {
            shared.registry.try_device(&self.task.config, &link.seen).await;
        }
        if connected == Err(Failure::Refused) {
            let (adapter, links) =
                (link.adapter.name(), shared.discovery.latest().links(link.adapter.name()));
            shared.radio.pool().refused(adapter, link.seen.address, links, boottime());
        }
        connected
    }

    async fn stream(&mut self, lifecycle: &mut Lifecycle) -> Outcome {
        let Some(link) = &mut self.link else { return Outcome::Failed(Failure::Other) };
        self.ended = None;
        let outcome = stream(link, &self.task, lifecycle, &mut self.described).await;
        let adapter = link.adapter.name().to_owned();
        if let Outcome::Ended { why, notifications } = outcome {
            match notifications {
                0 => self.note_failure(),
                _ => self.task.shared.radio.pool().succeeded(&adapter, link.seen.address),
            }
            self.ended = Some((Instant::now(), adapter));
            if !self.task.stop.is_cancelled() {
                self.task.tell_down(why).await;
            }
        }
        outcome
    }

    async fn disconnect(&mut self) {
        if let Some(link) = &mut self.link {
            link.disconnect().await;
        }
    }

    fn note_failure(&self) {
        if let Some(link) = &self.link {
            self.task.shared.radio.pool().failed(link.adapter.name(), link.seen.address);
        }
    }

    /// Tells of it, if the last stream ended because its adapter went, or bluetoothd.
    async fn note_adapter(&mut self, objects: &Objects) {
        let Some((at, adapter)) = self.ended.as_ref().filter(|(at, _)| at.elapsed() < ADAPTER_GRACE) else {
            return;
        };
        // One that was only off may be on again by now.
        let was_off = self.task.shared.radio.was_switched_on(adapter, *at - SWITCHED_ON_BEFORE);
        let was_restarted =
            self.attached.as_ref().is_some_and(|was| objects.bluetoothd.as_ref() != Some(&was.bluetoothd));
        if was_restarted || was_off || !objects.names_on(&[]).contains(adapter) {
            self.ended = None;
            self.task.tell_down(GapReason::AdapterGone).await;
        }
    }
}
