//! A device as the sensor's task works on it: connect, bond, subscribe, disconnect, forget. Each call is under
//! a timeout of ours; D-Bus would wait 25 to 120 s.
//!
//! What is not ours stays whole: a link that another program made is used and not cut, a bond that
//! others made is not removed.

use std::time::Duration;

use bluer::{Adapter, Device, Session};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::agent::Bonds;
use super::call::{CALL_TIMEOUT, within};
use super::gatt::{HEART_RATE_MEASUREMENT, SERVICES_TIMEOUT, characteristic};
use super::radio::Radio;
use super::task::Task;
use super::values::Values;
use crate::ble::identity::Seen;
use crate::ble::lifecycle::Failure;
use crate::ble::registry::{Registry, Run};
use crate::config::Address;
use crate::reading::SensorId;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// A controller without a link to give says so at once; BlueZ has one error for that and for a sensor that
/// does not answer, which takes longer to notice.
const AT_ONCE: Duration = Duration::from_secs(1);
const PAIR_TIMEOUT: Duration = Duration::from_secs(30);
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(10);

/// A device, and the link to it, if there is one.
pub(super) struct Link {
    sensor: SensorId,
    /// As it was when it was found.
    pub(super) seen: Seen,
    pub(super) adapter: Adapter,
    pub(super) device: Device,
    pub(super) values: Option<Values>,
    /// Whether this gateway made the link, so that it may end it.
    is_ours: bool,
    registry: Registry,
    run: Run,
}

impl Link {
    pub(super) fn new(
        session: &Session,
        sensor: SensorId,
        seen: Seen,
        registry: Registry,
        run: Run,
    ) -> bluer::Result<Self> {
        let adapter = session.adapter(&seen.adapter)?;
        let device = adapter.device(bluer::Address(seen.object.0))?;
        Ok(Self { sensor, seen, adapter, device, values: None, is_ours: false, registry, run })
    }

    pub(super) async fn connect(&mut self, radio: &Radio) -> Result<(), Failure> {
        let failed = radio.pool().has_failed(self.adapter.name(), self.seen.address);
        let _permit = radio.connect(self.adapter.name(), failed).await;
        // One that is up and not of our making is another program's.
        let is_up = within(CALL_TIMEOUT, self.device.is_connected()).await?;
        self.is_ours = !is_up || self.registry.has_link(self.seen.object, &self.run);
        if !is_up {
            let begun = Instant::now();
            let connected = within(CONNECT_TIMEOUT, self.device.connect()).await;
            if connected == Err(Failure::Other) && begun.elapsed() < AT_ONCE {
                return Err(Failure::Refused);
            }
            connected?;
            self.registry.note_link(self.seen.object, Some(self.run.clone())).await;
            // BlueZ tells of a link that the controller gave up as if it stood.
            if !within(CALL_TIMEOUT, self.device.is_connected()).await? {
                return Err(Failure::Other);
            }
        }
        within(SERVICES_TIMEOUT, self.device.services()).await?;
        Ok(())
    }

    pub(super) async fn bond(&mut self, task: &Task) -> Result<(), Failure> {
        if within(CALL_TIMEOUT, self.device.is_paired()).await? {
            return Ok(());
        }
        let bonding = task.shared.bonds.clone().allow(self.device.address());
        within(PAIR_TIMEOUT, self.device.pair()).await?;
        drop(bonding);
        // A trusted device may connect and be found again after it changed its address.
        within(CALL_TIMEOUT, self.device.set_trusted(true)).await?;
        // By bonding it gives the address that stays.
        let address = Address(within(CALL_TIMEOUT, self.device.remote_address()).await?.0);
        let bonded = Seen { address, is_paired: true, ..self.seen.clone() };
        let before = std::mem::replace(&mut self.seen, bonded);
        self.registry.note_bond(address, true).await;
        task.note_address(&before, &self.seen).await;
        info!(sensor = %self.sensor, "bonded with the sensor");
        Ok(())
    }

    pub(super) async fn subscribe(&mut self, bonds: &Bonds) -> Result<(), Failure> {
        // The old one first: beside it, a new one would not reach the sensor.
        if let Some(old) = self.values.take() {
            old.end().await;
        }
        let measurement = characteristic(&self.device, HEART_RATE_MEASUREMENT);
        let measurement = within(SERVICES_TIMEOUT, measurement).await?.ok_or(Failure::NoHeartRate)?;
        let values = tokio::select! {
            values = timeout(SUBSCRIBE_TIMEOUT, Values::begin(&measurement)) => {
                values.map_err(|_elapsed| Failure::Timeout)??
            }
            () = bonds.demanded(self.device.address()) => return Err(Failure::BondNeeded),
        };
        self.values = Some(values);
        Ok(())
    }

    /// Ends the subscription, and the link if it is ours.
    pub(super) async fn disconnect(&mut self) {
        if !self.is_ours {
            return self.release().await;
        }
        self.values = None;
        // Refused where there is no link, or no bluetoothd: then there is none either.
        if within(CALL_TIMEOUT, self.device.disconnect()).await != Err(Failure::Timeout) {
            self.registry.note_link(self.seen.object, None).await;
        }
    }

    /// Ends the subscription alone; the link is left to others.
    pub(super) async fn release(&mut self) {
        if let Some(values) = self.values.take() {
            values.end().await;
        }
        self.is_ours = false;
        self.registry.note_link(self.seen.object, None).await;
    }

    /// Has BlueZ forget the device: not one that somebody has a link to, nor a bond, unless it is ours and
    /// `with_bond` asks for it.
    pub(super) async fn forget(&mut self, with_bond: bool) -> Result<(), Failure> {
        let is_ours = with_bond && self.registry.has_bond(self.seen.address);
        let is_paired = within(CALL_TIMEOUT, self.device.is_paired()).await?;
        if is_paired && !is_ours || within(CALL_TIMEOUT, self.device.is_connected()).await? {
            return Ok(());
        }
        match is_paired {
            true => {
                warn!(sensor = %self.sensor, "removing this gateway's bond with the sensor, to bond anew")
            }
            false => info!(sensor = %self.sensor, "having BlueZ forget the sensor, to begin anew"),
        }
        within(CALL_TIMEOUT, self.adapter.remove_device(self.device.address())).await?;
        self.registry.note_bond(self.seen.address, false).await;
        Ok(())
    }
}
