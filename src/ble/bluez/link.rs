//! One sensor's link: carries out the actions of its [session](crate::ble::session), each under a
//! timeout of ours (D-Bus would wait 25 to 120 s).

use std::pin::Pin;
use std::time::Duration;

use bluer::agent::{Agent, AgentHandle};
use bluer::{Adapter, AdapterEvent, Device, DeviceEvent, DeviceProperty, ErrorKind, Session};
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info};

use super::describe::{characteristic, describe_when};
use super::{Shared, scan};
use crate::ble::session::{Action, Failure, Outcome, SensorSession};
use crate::ble::{SourceEvent, SourceEventKind};
use crate::config::SensorConfig;
use crate::reading::GapReason;

const HEART_RATE_MEASUREMENT: u16 = 0x2A37;

/// A D-Bus call that only reads or writes bluetoothd's own state.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
pub(super) const SERVICES_TIMEOUT: Duration = Duration::from_secs(10);
const PAIR_TIMEOUT: Duration = Duration::from_secs(30);
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(10);
/// One slice of scanning: a watch advertises every second or so at the slowest.
const SCAN_SLICE: Duration = Duration::from_secs(10);
const SCAN_LOOK_EVERY: Duration = Duration::from_millis(400);
/// How often a quiet link is asked whether it still stands: a bluetoothd that died sends no signal.
const LINK_CHECK_EVERY: Duration = Duration::from_secs(3);

type Values = Pin<Box<dyn Stream<Item = Vec<u8>> + Send>>;

/// The link to one sensor.
pub(super) struct Link {
    config: SensorConfig,
    shared: Shared,
    attached: Option<Attached>,
    device: Option<Device>,
    values: Option<Values>,
    described: bool,
    /// A power cycle was begun and not finished.
    adapter_is_off: bool,
}

struct Attached {
    adapter: Adapter,
    /// BlueZ asks it while bonding; dropped before the session that it unregisters over.
    _agent: Option<AgentHandle>,
    _session: Session,
}

impl Link {
    pub(super) fn new(config: SensorConfig, shared: Shared) -> Self {
        Self {
            config,
            shared,
            attached: None,
            device: None,
            values: None,
            described: false,
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
        let session = within(CALL_TIMEOUT, Session::new()).await.map_err(gone)?;
        let adapter = match &self.config.adapter {
            Some(name) => session.adapter(name).map_err(|_| Failure::AdapterGone)?,
            None => within(CALL_TIMEOUT, session.default_adapter()).await.map_err(gone)?,
        };
        if !within(CALL_TIMEOUT, adapter.is_powered()).await.map_err(gone)? {
            within(CALL_TIMEOUT, adapter.set_powered(true)).await.map_err(gone)?;
        }
        let agent = match self.config.bond {
            true => Some(within(CALL_TIMEOUT, session.register_agent(self.agent())).await?),
            false => None,
        };
        self.attached = Some(Attached { adapter, _agent: agent, _session: session });
        Ok(())
    }

    fn adapter(&self) -> Result<&Adapter, Failure> {
        self.attached.as_ref().map(|attached| &attached.adapter).ok_or(Failure::AdapterGone)
    }

    fn device(&self) -> Result<&Device, Failure> {
        self.device.as_ref().ok_or(Failure::NotSeen)
    }

    /// Confirms what needs no eyes, and types the configured passkey.
    fn agent(&self) -> Agent {
        let passkey = self.config.passkey;
        let request_passkey: bluer::agent::RequestPasskeyFn =
            Box::new(move |_| Box::pin(async move { passkey.ok_or(bluer::agent::ReqError::Rejected) }));
        Agent {
            request_passkey: passkey.is_some().then_some(request_passkey),
            request_confirmation: Some(Box::new(|_| Box::pin(async { Ok(()) }))),
            request_authorization: Some(Box::new(|_| Box::pin(async { Ok(()) }))),
            authorize_service: Some(Box::new(|_| Box::pin(async { Ok(()) }))),
            ..Agent::default()
        }
    }

    async fn find(&mut self) -> Result<(), Failure> {
        let adapter = self.adapter()?.clone();
        self.let_go();
        // A link that a killed process left is up and invisible to scans: it ends first.
        if let Some(device) = self.look(&adapter, |seen| seen.connected).await? {
            _ = within(CALL_TIMEOUT, device.disconnect()).await;
        }
        let deadline = Instant::now() + SCAN_SLICE;
        while Instant::now() < deadline {
            let radio = self.shared.radio.clone();
            let permit = radio.scan(adapter.name()).await;
            let discovering = within(SUBSCRIBE_TIMEOUT, scan::start(&adapter, &[])).await?;
            while Instant::now() < deadline && !permit.is_contended() && self.device.is_none() {
                sleep(SCAN_LOOK_EVERY).await;
                self.device = self.look(&adapter, |seen| seen.in_range).await?;
            }
            scan::stop(discovering).await;
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
        within(PAIR_TIMEOUT, device.pair()).await?;
        // A trusted device may connect and be found again after it changed its address.
        within(CALL_TIMEOUT, device.set_trusted(true)).await?;
        info!(sensor = %self.config.id, "bonded with the sensor");
        Ok(())
    }

    async fn subscribe(&mut self) -> Result<(), Failure> {
        // The old session first: beside a live one bluer sends no StartNotify.
        self.values = None;
        let device = self.device()?;
        let measurement = within(SERVICES_TIMEOUT, characteristic(device, HEART_RATE_MEASUREMENT)).await?;
        let measurement = measurement.ok_or(Failure::NoHeartRate)?;
        let values = within(SUBSCRIBE_TIMEOUT, measurement.notify()).await?;
        self.values = Some(Box::pin(values));
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
            let down = SourceEvent {
                sensor: self.config.id.clone(),
                at: self.shared.clock.now(),
                kind: SourceEventKind::Down(why),
            };
            _ = self.shared.events.send(down).await;
        }
        outcome
    }

    async fn pass_on(
        &mut self,
        values: &mut Values,
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
        loop {
            let silence_max = self.shared.silence_max();
            tokio::select! {
                value = values.next() => {
                    let Some(value) = value else { return ended(GapReason::LinkDown, notifications) };
                    let at = self.shared.clock.now();
                    last_value = Instant::now();
                    if notifications == 0 {
                        session.handle_first_notification();
                        if let Some(said) = session.take_report() {
                            super::report(&self.config.id, said, &self.shared);
                        }
                    }
                    notifications += 1;
                    let kind = SourceEventKind::Notification(value);
                    let event = SourceEvent { sensor: self.config.id.clone(), at, kind };
                    if self.shared.events.send(event).await.is_err() {
                        return ended(GapReason::GatewayDown, notifications);
                    }
                }
                change = changes.next() => match change {
                    Some(DeviceEvent::PropertyChanged(DeviceProperty::Connected(false))) | None => {
                        return ended(GapReason::LinkDown, notifications);
                    }
                    Some(_) => {}
                },
                () = sleep_until(check_at.min(last_value + silence_max)) => {
                    check_at = Instant::now() + LINK_CHECK_EVERY.min(silence_max);
                    match within(CALL_TIMEOUT, device.is_connected()).await {
                        Ok(true) if last_value.elapsed() < silence_max => {}
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

/// A bluer call under our timeout, its error as the session understands it.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = bluer::Result<T>>,
) -> Result<T, Failure> {
    match timeout(limit, call).await {
        Err(_elapsed) => Err(Failure::Timeout),
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            // Not the whole error: its text may name the device's address.
            debug!(kind = ?error.kind, "BlueZ refused");
            Err(match error.kind {
                ErrorKind::NotPermitted
                | ErrorKind::NotAuthorized
                | ErrorKind::AuthenticationFailed
                | ErrorKind::AuthenticationRejected => Failure::BondNeeded,
                ErrorKind::NotReady => Failure::AdapterGone,
                ErrorKind::NotFound | ErrorKind::DoesNotExist => Failure::NotSeen,
                ErrorKind::Internal(_) => Failure::AdapterGone,
                _ => Failure::Other,
            })
        }
    }
}

/// Keeps discovery going while it lives; its events are not read.
pub(super) type Discovering = Pin<Box<dyn Stream<Item = AdapterEvent> + Send>>;
