//! A device as the sensor's task works on it: connect, bond, subscribe, disconnect, forget. Each call is under
//! a timeout of ours; D-Bus would wait 25 to 120 s.
//!
//! What is not ours stays whole: a link that another program made is used and not cut, a bond that
//! others made is not removed.

use std::time::Duration;

use bluer::{Adapter, Device, ErrorKind, Session};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::agent::Bonds;
use super::call::{CALL_TIMEOUT, refused, within};
use super::gatt::{HEART_RATE_MEASUREMENT, SERVICES_TIMEOUT, answers, characteristic};
use super::kernel;
use super::radio::Radio;
use super::task::Task;
use super::values::Values;
use crate::ble::identity::Seen;
use crate::ble::lifecycle::Failure;
use crate::ble::registry::{MadeLink, Registry};
use crate::config::Address;
use crate::reading::{BootId, SensorId};

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
    /// Whether another program took the notifications.
    is_held: bool,
    /// The adapter's address, which it keeps.
    adapter_address: Address,
    registry: Registry,
    run: Run,
}

/// A run of bluetoothd.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) boot: BootId,
    /// Its name on the bus.
    pub(super) bluetoothd: String,
}

impl Link {
    pub(super) fn new(
        session: &Session,
        sensor: SensorId,
        seen: Seen,
        adapter_address: Address,
        registry: Registry,
        run: Run,
    ) -> bluer::Result<Self> {
        let adapter = session.adapter(&seen.adapter)?;
        let device = adapter.device(bluer::Address(seen.object.0))?;
        let (values, is_ours, is_held) = (None, false, false);
        Ok(Self { sensor, seen, adapter, device, values, is_ours, is_held, adapter_address, registry, run })
    }

    pub(super) async fn connect(&mut self, radio: &Radio) -> Result<(), Failure> {
        let failed = radio.pool().has_failed(self.adapter.name(), self.seen.address);
        let _permit = radio.connect(self.adapter.name(), failed).await;
        if !self.seen.is_paired {
            // A bond that it has later may be somebody else's.
            self.registry.note_bond(self.adapter_address, self.seen.address, false).await;
        }
        let is_up = within(CALL_TIMEOUT, self.device.is_connected()).await?;
        if is_up {
            let now = self.made(kernel::connections(self.adapter.name()));
            self.is_ours = self.registry.has_link(self.seen.object, &now);
        } else {
            self.registry.note_no_link(self.seen.object).await;
            self.make().await?;
        }
        within(SERVICES_TIMEOUT, self.device.services()).await?;
        Ok(())
    }

    async fn make(&mut self) -> Result<(), Failure> {
        let before = kernel::connections(self.adapter.name());
        // BlueZ answers that it connected where another program was faster.
        if within(CALL_TIMEOUT, self.device.is_connected()).await? {
            return Ok(());
        }
        let begun = Instant::now();
        // To be called off from now on, should this take too long or be given up.
        self.is_ours = true;
        match timeout(CONNECT_TIMEOUT, self.device.connect()).await.map_err(|_elapsed| Failure::Timeout)? {
            Ok(()) => {}
            // Another program is at it: whatever comes of it is its link.
            Err(error) if matches!(error.kind, ErrorKind::InProgress | ErrorKind::AlreadyConnected) => {
                self.is_ours = false;
                return Err(Failure::Busy);
            }
            Err(error) => {
                return Err(match refused(&error) {
                    Failure::Other if begun.elapsed() < AT_ONCE => Failure::Refused,
                    failure => failure,
                });
            }
        }
        let mut connections = kernel::connections(self.adapter.name());
        connections.retain(|connection| !before.contains(connection));
        self.registry.note_link(self.seen.object, self.made(connections)).await;
        // BlueZ tells of a link that the controller gave up as if it stood.
        match within(CALL_TIMEOUT, self.device.is_connected()).await? {
            true => Ok(()),
            false => Err(Failure::Other),
        }
    }

    fn made(&self, connections: Vec<u64>) -> MadeLink {
        let Run { boot, bluetoothd } = self.run.clone();
        MadeLink { boot, bluetoothd, connections }
    }

    pub(super) async fn bond(&mut self, task: &Task) -> Result<(), Failure> {
        if within(CALL_TIMEOUT, self.device.is_paired()).await? {
            return Ok(());
        }
        let bonding = task.shared.bonds.clone().allow(self.device.address());
        let answer = timeout(PAIR_TIMEOUT, self.device.pair()).await;
        drop(bonding);
        let failure = match answer {
            Ok(Ok(())) => None,
            // Another program bonds with it: the bond is its.
            Ok(Err(error)) if matches!(error.kind, ErrorKind::InProgress | ErrorKind::AlreadyExists) => {
                return Err(Failure::Busy);
            }
            Ok(Err(error)) => Some(refused(&error)),
            Err(_elapsed) => Some(Failure::Timeout),
        };
        // BlueZ answers only when it has looked through the services once more: a link that is lost before that
        // leaves the bond without the answer.
        if let Some(failure) = failure
            && !within(CALL_TIMEOUT, self.device.is_paired()).await?
        {
            return Err(failure);
        }
        // By bonding it gives the address that stays.
        let address = Address(within(CALL_TIMEOUT, self.device.remote_address()).await?.0);
        let bonded = Seen { address, is_paired: true, ..self.seen.clone() };
        let before = std::mem::replace(&mut self.seen, bonded);
        self.registry.note_bond(self.adapter_address, address, true).await;
        task.note_address(&before, &self.seen).await;
        info!(sensor = %self.sensor, "bonded with the sensor");
        // A trusted device may connect and be found again after it changed its address.
        within(CALL_TIMEOUT, self.device.set_trusted(true)).await
    }

    pub(super) async fn subscribe(&mut self, bonds: &Bonds) -> Result<(), Failure> {
        // The old one first: beside it, a new one would not reach the sensor.
        if let Some(old) = self.values.take() {
            // A sensor that answers nothing would leave bluetoothd with an end and a beginning to wait for, and when
            // the link is then closed bluetoothd aborts (5.66: an assertion in `disable_ccc_callback`), and with it
            // everybody's links.
            if !answers(&self.device).await {
                self.values = Some(old);
                return Err(Failure::Timeout);
            }
            old.end().await;
        }
        let measurement = characteristic(&self.device, HEART_RATE_MEASUREMENT);
        let measurement = within(SERVICES_TIMEOUT, measurement).await?.ok_or(Failure::NoHeartRate)?;
        self.is_held = false;
        let values = tokio::select! {
            values = timeout(SUBSCRIBE_TIMEOUT, Values::begin(&measurement)) => {
                values.map_err(|_elapsed| Failure::Timeout)??
            }
            () = bonds.demanded(self.device.address()) => return Err(Failure::BondNeeded),
        };
        self.values = Some(values);
        Ok(())
    }

    /// Ends the subscription, and the link if it is ours and nobody else takes the notifications by now.
    pub(super) async fn disconnect(&mut self) {
        if !self.is_ours || self.is_held && self.is_taken().await {
            return self.release().await;
        }
        self.values = None;
        // Refused where there is no link, or no bluetoothd: then there is none either.
        if within(CALL_TIMEOUT, self.device.disconnect()).await != Err(Failure::Timeout) {
            self.registry.note_no_link(self.seen.object).await;
        }
    }

    /// Ends the subscription alone: another program takes the notifications.
    pub(super) async fn release(&mut self) {
        self.is_held = true;
        if let Some(values) = self.values.take() {
            values.end().await;
        }
    }

    /// Whether another program takes the notifications still.
    async fn is_taken(&mut self) -> bool {
        let measurement = characteristic(&self.device, HEART_RATE_MEASUREMENT);
        let Ok(Some(measurement)) = within(CALL_TIMEOUT, measurement).await else { return false };
        matches!(timeout(CALL_TIMEOUT, Values::begin(&measurement)).await, Ok(Err(Failure::Held)))
    }

    /// Has BlueZ forget the device: not one that somebody has a link to, nor a bond, unless it is ours and
    /// `with_bond` asks for it.
    pub(super) async fn forget(&mut self, with_bond: bool) -> Result<(), Failure> {
        let is_ours = with_bond && self.registry.has_bond(self.adapter_address, self.seen.address);
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
        self.registry.note_bond(self.adapter_address, self.seen.address, false).await;
        Ok(())
    }
}
