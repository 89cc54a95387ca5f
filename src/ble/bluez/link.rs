//! One sensor's link: carries out the actions of its [session](crate::ble::session), each under a
//! timeout of ours (D-Bus would wait 25 to 120 s).

use std::pin::Pin;
use std::time::Duration;

use bluer::agent::AgentHandle;
use bluer::{Adapter, Device, DeviceEvent, DeviceProperty, Session, SessionEvent};
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info};

use super::agent::agent;
use super::call::{CALL_TIMEOUT, within};
use super::describe::{characteristic, describe_when};
use super::subscription::Subscription;
use super::{Shared, scan};
use crate::ble::session::{Action, Failure, Outcome, SensorSession};
use crate::ble::{SourceEvent, SourceEventKind};
use crate::config::SensorConfig;
use crate::heart_rate::HeartRateMeasurement;
use crate::reading::GapReason;

const HEART_RATE_MEASUREMENT: u16 = 0x2A37;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
pub(super) const SERVICES_TIMEOUT: Duration = Duration::from_secs(10);
const PAIR_TIMEOUT: Duration = Duration::from_secs(30);
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(10);
/// One slice of scanning: a watch advertises every second or so at the slowest.
const SCAN_SLICE: Duration = Duration::from_secs(10);
const SCAN_LOOK_EVERY: Duration = Duration::from_millis(400);
/// So long a connection is kept while there is no adapter: one that is closed lingers for half a minute, as
/// bluer awaits answers that it no longer reads, so one for each try would pile up.
const ADAPTERLESS_KEPT: Duration = Duration::from_secs(60);
/// BlueZ tells of the links before it tells of the adapter that took them down.
const ADAPTER_GRACE: Duration = Duration::from_secs(5);
/// How often a quiet link is asked whether it still stands: a bluetoothd that died sends no signal.
const LINK_CHECK_EVERY: Duration = Duration::from_secs(3);

/// The link to one sensor.
pub(super) struct Link {
    config: SensorConfig,
    shared: Shared,
    attached: Option<Attached>,
    /// A connection that found no adapter, and since when.
    adapterless: Option<(Session, Instant)>,
    device: Option<Device>,
    values: Option<Subscription>,
    described: bool,
    /// When the stream last ended.
    ended_at: Option<Instant>,
    /// A power cycle was begun and not finished.
    adapter_is_off: bool,
}

struct Attached {
    adapter: Adapter,
    /// Adapters that came since: this one too, if bluetoothd was started anew and knows no agent of ours.
    arrivals: Pin<Box<dyn Stream<Item = SessionEvent> + Send>>,
    /// BlueZ asks it while bonding; dropped before the session that it unregisters over.
    _agent: AgentHandle,
    _session: Session,
}

impl Link {
    pub(super) fn new(config: SensorConfig, shared: Shared) -> Self {
        Self {
            config,
            shared,
            attached: None,
            adapterless: None,
            device: None,
            values: None,
            described: false,
            ended_at: None,
            adapter_is_off: false,
        }
    }

    /// Carries out `action`. Cancel-safe in this sense: [`close`](Self::close) cleans up after any.
    pub(super) async fn perform(&mut self, action: Action, session: &mut SensorSession) -> Outcome {
        let result = match action {
            Action::Attach => self.attach().await,
            Action::Find => self.find().await,
            Action::Connect => self.connect().await,
            Action::Bond => self.bond().await,
            Action::Subscribe => self.subscribe().await,
            Action::Stream => return self.stream(session).await,
            Action::Disconnect => {
                self.disconnect().await;
                Ok(())
            }
            Action::Forget => self.forget().await,
            Action::PowerCycle => self.power_cycle().await,
            Action::Wait(pause) => {
                sleep(pause).await;
                Ok(())
            }
        };
        match result {
            Ok(()) => Outcome::Done,
            Err(failure) => {
                debug!(sensor = %self.config.id, ?action, ?failure, "Bluetooth action failed");
                if failure == Failure::AdapterGone {
                    if self.ended_at.take().is_some_and(|at| at.elapsed() < ADAPTER_GRACE) {
                        self.tell_down(GapReason::AdapterGone).await;
                    }
                    self.detach();
                }
                Outcome::Failed(failure)
            }
        }
    }

    /// Ends the notify session and the link.
    pub(super) async fn close(&mut self) {
        self.disconnect().await;
        if self.adapter_is_off
            && let Ok(adapter) = self.adapter()
        {
            _ = within(CALL_TIMEOUT, adapter.set_powered(true)).await;
        }
        self.detach();
    }

    fn detach(&mut self) {
        self.values = None;
        self.let_go();
        self.attached = None;
    }

    /// Gives the device back to whoever else finds it.
    fn let_go(&mut self) {
        self.device = None;
        self.shared.radio.release(&self.config.id);
    }

    async fn attach(&mut self) -> Result<(), Failure> {
        self.detach();
        let gone = |_| Failure::AdapterGone;
        self.adapterless = self.adapterless.take().filter(|(_, since)| since.elapsed() < ADAPTERLESS_KEPT);
        let session = match &self.adapterless {
            Some((session, _)) => session.clone(),
            None if !self.shared.answers.next().await => return Err(Failure::AdapterGone),
            None => {
                let session = within(CALL_TIMEOUT, Session::new()).await.map_err(gone)?;
                self.adapterless.insert((session, Instant::now())).0.clone()
            }
        };
        let adapter = match &self.config.adapter {
            Some(name) => session.adapter(name).map_err(|_| Failure::AdapterGone)?,
            None => within(CALL_TIMEOUT, session.default_adapter()).await.map_err(gone)?,
        };
        if !within(CALL_TIMEOUT, adapter.is_powered()).await.map_err(gone)? {
            within(CALL_TIMEOUT, adapter.set_powered(true)).await.map_err(gone)?;
        }
        let agent = agent(&self.shared.bonds, self.config.passkey);
        let agent = within(CALL_TIMEOUT, session.register_agent(agent)).await?;
        let arrivals = Box::pin(within(CALL_TIMEOUT, session.events()).await?);
        self.adapterless = None;
        self.attached = Some(Attached { adapter, arrivals, _agent: agent, _session: session });
        Ok(())
    }

    fn adapter(&self) -> Result<&Adapter, Failure> {
        self.attached.as_ref().map(|attached| &attached.adapter).ok_or(Failure::AdapterGone)
    }

    fn device(&self) -> Result<&Device, Failure> {
        self.device.as_ref().ok_or(Failure::NotSeen)
    }

    async fn find(&mut self) -> Result<(), Failure> {
        let attached = self.attached.as_mut().ok_or(Failure::AdapterGone)?;
        let adapter = attached.adapter.clone();
        while let Some(event) = attached.arrivals.next().now_or_never() {
            match event {
                Some(SessionEvent::AdapterAdded(name)) if name != adapter.name() => {}
                Some(SessionEvent::AdapterRemoved(name)) if name != adapter.name() => {}
                _ => return Err(Failure::AdapterGone),
            }
        }
        self.let_go();
        // A link that a killed process left is up and invisible to scans: it ends first.
        if let Some(device) = self.look(&adapter, |seen| seen.connected).await? {
            _ = within(CALL_TIMEOUT, device.disconnect()).await;
        }
        let deadline = Instant::now() + SCAN_SLICE;
        while Instant::now() < deadline {
            let radio = self.shared.radio.clone();
            let permit = radio.scan(adapter.name()).await;
            let discovering = scan::start(&radio, &adapter, &[]).await?;
            while Instant::now() < deadline && !permit.is_contended() && self.device.is_none() {
                sleep(SCAN_LOOK_EVERY).await;
                self.device = self.look(&adapter, |seen| seen.in_range).await?;
            }
            scan::stop(&radio, &adapter, discovering).await;
            if self.device.is_some() {
                return Ok(());
            }
        }
        Err(Failure::NotSeen)
    }

    /// The sensor's device object, if it is as `wanted` and no other task's; it is then this one's.
    async fn look(
        &mut self,
        adapter: &Adapter,
        wanted: fn(&scan::Seen) -> bool,
    ) -> Result<Option<Device>, Failure> {
        let addresses = match self.config.address {
            Some(address) => vec![bluer::Address(address.0)],
            None => within(CALL_TIMEOUT, adapter.device_addresses()).await?,
        };
        for address in addresses {
            if self.shared.radio.is_held_by_other(address.0, &self.config.id) {
                continue;
            }
            let Ok(device) = adapter.device(address) else { continue };
            let seen = match within(CALL_TIMEOUT, scan::look_at(&device)).await {
                Ok(seen) => seen,
                Err(Failure::NotSeen | Failure::Other) => continue,
                Err(failure) => return Err(failure),
            };
            let named = match (&self.config.name, &seen.name) {
                (Some(want), have) => have.as_ref().is_some_and(|have| have.starts_with(want)),
                (None, _) => true,
            };
            if named && wanted(&seen) && self.shared.radio.hold(address.0, &self.config.id) {
                return Ok(Some(device));
            }
        }
        Ok(None)
    }

    async fn connect(&mut self) -> Result<(), Failure> {
        let device = self.device()?.clone();
        let radio = self.shared.radio.clone();
        let adapter = self.adapter()?.name().to_owned();
        let _permit = radio.connect(&adapter).await;
        within(CONNECT_TIMEOUT, device.connect()).await?;
        within(SERVICES_TIMEOUT, device.services()).await?;
        self.described = false;
        Ok(())
    }

    async fn bond(&mut self) -> Result<(), Failure> {
        let device = self.device()?;
        if within(CALL_TIMEOUT, device.is_paired()).await? {
            return Ok(());
        }
        let bonding = self.shared.bonds.clone().allow(device.address());
        within(PAIR_TIMEOUT, device.pair()).await?;
        drop(bonding);
        // A trusted device may connect and be found again after it changed its address.
        within(CALL_TIMEOUT, device.set_trusted(true)).await?;
        info!(sensor = %self.config.id, "bonded with the sensor");
        Ok(())
    }

    async fn subscribe(&mut self) -> Result<(), Failure> {
        // The old one first: beside it, a new one would not reach the sensor.
        if let Some(old) = self.values.take() {
            old.end().await;
        }
        let device = self.device()?;
        let measurement = within(SERVICES_TIMEOUT, characteristic(device, HEART_RATE_MEASUREMENT)).await?;
        let measurement = measurement.ok_or(Failure::NoHeartRate)?;
        let values = tokio::select! {
            values = timeout(SUBSCRIBE_TIMEOUT, Subscription::begin(&measurement)) => {
                values.map_err(|_elapsed| Failure::Timeout)??
            }
            () = self.shared.bonds.demanded(device.address()) => return Err(Failure::BondNeeded),
        };
        self.values = Some(values);
        Ok(())
    }

    async fn stream(&mut self, session: &mut SensorSession) -> Outcome {
        let (Ok(adapter), Ok(device)) = (self.adapter().cloned(), self.device().cloned()) else {
            return Outcome::Failed(Failure::AdapterGone);
        };
        let Some(mut values) = self.values.take() else {
            return Outcome::Ended { why: GapReason::LinkDown, notifications: 0 };
        };
        let streaming = self.shared.radio.stream(adapter.name());
        let describe = !std::mem::replace(&mut self.described, true);
        let sensor = self.config.id.clone();
        let outcome = tokio::select! {
            outcome = self.pass_on(&mut values, &device, session) => outcome,
            never = describe_when(describe, &device, &sensor) => never,
        };
        drop(streaming);
        // Kept for a re-subscription, which must end it first.
        self.values = Some(values);
        if let Outcome::Ended { why, .. } = outcome {
            self.ended_at = Some(Instant::now());
            self.tell_down(why).await;
        }
        outcome
    }

    async fn tell_down(&mut self, why: GapReason) {
        let (sensor, at) = (self.config.id.clone(), self.shared.clock.now());
        _ = self.shared.events.send(SourceEvent { sensor, at, kind: SourceEventKind::Down(why) }).await;
    }

    async fn pass_on(
        &mut self,
        values: &mut Subscription,
        device: &Device,
        session: &mut SensorSession,
    ) -> Outcome {
        let mut notifications = 0;
        let ended = |why, notifications| Outcome::Ended { why, notifications };
        let Ok(changes) = within(CALL_TIMEOUT, device.events()).await else {
            return ended(GapReason::LinkDown, notifications);
        };
        let mut changes = std::pin::pin!(changes);
        let mut last_value = Instant::now();
        let mut check_at = Instant::now() + LINK_CHECK_EVERY;
        let mut link_is_down = false;
        loop {
            let silence_max = self.shared.silence_max();
            tokio::select! {
                // What was received counts, though the link be lost by now.
                biased;
                value = values.next() => {
                    let Some(value) = value else { return ended(GapReason::LinkDown, notifications) };
                    let at = self.shared.clock.now();
                    self.shared.note_answer();
                    last_value = Instant::now();
                    let is_measurement = HeartRateMeasurement::parse(&value).is_ok();
                    if notifications == 0 && is_measurement {
                        session.handle_first_notification();
                        if let Some(said) = session.take_report() {
                            super::report(&self.config.id, said, &self.shared);
                        }
                    }
                    notifications += u64::from(is_measurement);
                    let kind = SourceEventKind::Notification(value);
                    let event = SourceEvent { sensor: self.config.id.clone(), at, kind };
                    if self.shared.events.send(event).await.is_err() {
                        return ended(GapReason::GatewayDown, notifications);
                    }
                }
                change = changes.next(), if !link_is_down => {
                    link_is_down = matches!(
                        change,
                        Some(DeviceEvent::PropertyChanged(DeviceProperty::Connected(false))) | None
                    );
                    if link_is_down {
                        values.finish();
                    }
                }
                () = sleep_until(check_at.min(last_value + silence_max)), if !link_is_down => {
                    check_at = Instant::now() + LINK_CHECK_EVERY.min(silence_max);
                    match within(CALL_TIMEOUT, device.is_connected()).await {
                        Ok(true) if last_value.elapsed() < silence_max => self.shared.note_answer(),
                        Ok(true) => return ended(GapReason::SensorSilent, notifications),
                        Ok(false) => return ended(GapReason::LinkDown, notifications),
                        Err(_) => return ended(GapReason::AdapterGone, notifications),
                    }
                }
            }
        }
    }

    async fn disconnect(&mut self) {
        self.values = None;
        if let Some(device) = &self.device {
            _ = within(CALL_TIMEOUT, device.disconnect()).await;
        }
    }

    async fn forget(&mut self) -> Result<(), Failure> {
        if let Some(device) = self.device.clone() {
            self.let_go();
            info!(sensor = %self.config.id, "having BlueZ forget the sensor, to begin anew");
            within(CALL_TIMEOUT, self.adapter()?.remove_device(device.address())).await?;
        }
        Ok(())
    }

    async fn power_cycle(&mut self) -> Result<(), Failure> {
        let adapter = self.adapter()?.clone();
        let radio = self.shared.radio.clone();
        let _permit = radio.connect(adapter.name()).await;
        if radio.has_streams(adapter.name()) {
            return Ok(());
        }
        info!(sensor = %self.config.id, adapter = adapter.name(), "power-cycling the Bluetooth adapter");
        self.adapter_is_off = true;
        within(CALL_TIMEOUT, adapter.set_powered(false)).await?;
        sleep(Duration::from_secs(1)).await;
        within(CALL_TIMEOUT, adapter.set_powered(true)).await?;
        self.adapter_is_off = false;
        Ok(())
    }
}
