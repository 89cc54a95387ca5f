//! What is nearby: for `scan`, and for `discover`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::bus::{Answers, BusWatch};
use super::discovery::{Discovery, Looking};
use super::objects::Objects;
use crate::ble::identity::Seen;
use crate::ble::lifecycle::NoAdapter;
use crate::config::{AdapterChoice, Address};

/// The Heart Rate Service's number.
const HEART_RATE_SERVICE: &str = "180d";
/// Longest that bluetoothd may take to answer, and its adapters to begin.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(20);

/// A device nearby.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Nearby {
    /// Its address.
    pub address: Address,
    /// Its name, as it was sent: see [`Printable`](crate::printable::Printable).
    pub name: Option<String>,
    /// Whether it takes another address every few minutes.
    pub changes_address: bool,
    /// How loudly it was heard, dBm.
    pub rssi: Option<i16>,
    /// Whether it advertises the Heart Rate Service.
    pub heart_rate: bool,
    /// The services it advertises.
    pub services: Vec<String>,
    /// The adapter that heard it.
    pub adapter: String,
}

/// Why looking around failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// There is nothing to scan with.
    #[error("{}", hindrance(*.0))]
    NoAdapter(NoAdapter),
}

/// What hinders, and what to do about it.
pub fn hindrance(why: NoAdapter) -> &'static str {
    match why {
        NoAdapter::NoAnswer => "bluetoothd does not answer: try `systemctl restart bluetooth`",
        NoAdapter::NoBluetoothd | NoAdapter::Restarted => {
            "Bluetooth is not available: bluetoothd is not running (`systemctl status bluetooth`)"
        }
        NoAdapter::Missing => "there is no Bluetooth adapter: plug one in, or see `rfkill list` and `dmesg`",
        NoAdapter::NotThisOne => {
            "there is no adapter of that name or address (`bluetoothctl list` shows them)"
        }
        NoAdapter::Blocked => "the Bluetooth adapter is blocked by rfkill: `rfkill unblock bluetooth`",
        NoAdapter::Off | NoAdapter::NotReady => "the Bluetooth adapter is off: `bluetoothctl power on`",
        NoAdapter::DoesNotScan => {
            "the Bluetooth adapter does not scan: `systemctl restart bluetooth`, or plug it in again"
        }
    }
}

/// Scans on `adapters` (none: on all) for `duration` and returns what was heard, loudest first.
pub async fn nearby(adapters: Vec<AdapterChoice>, duration: Duration) -> Result<Vec<Nearby>, ScanError> {
    let answers = Answers::default();
    let discovery = Discovery::new(Arc::default(), answers.clone());
    let watching = BusWatch::new(answers, Arc::default()).run();
    let choices = vec![adapters.clone()];
    let running = discovery.clone().run(move || choices.clone());
    tokio::select! {
        found = heard(&discovery, &adapters, duration) => Ok(found?.iter().map(Nearby::of).collect()),
        () = watching => Err(ScanError::NoAdapter(NoAdapter::NoAnswer)),
        () = running => Err(ScanError::NoAdapter(NoAdapter::NoAnswer)),
    }
}

/// What bluetoothd knows of adapters and devices.
pub async fn objects() -> Result<Objects, ScanError> {
    let why = match timeout(BEGIN_TIMEOUT, Objects::ask_once()).await {
        Ok(Ok(objects)) => return Ok(objects),
        Ok(Err(_no_bus)) => NoAdapter::NoBluetoothd,
        Err(_elapsed) => NoAdapter::NoAnswer,
    };
    Err(ScanError::NoAdapter(why))
}

/// What is heard while `discovery` looks for so long, loudest first.
pub(super) async fn heard(
    discovery: &Arc<Discovery>,
    adapters: &[AdapterChoice],
    duration: Duration,
) -> Result<Vec<Seen>, ScanError> {
    let mut looking = discovery.look();
    let begun = timeout(BEGIN_TIMEOUT, scanning(discovery, &mut looking, adapters));
    begun.await.unwrap_or(Err(NoAdapter::NoAnswer)).map_err(ScanError::NoAdapter)?;
    let deadline = Instant::now() + duration;
    let mut found = BTreeMap::new();
    while let Ok(objects) = timeout_at(deadline, looking.next()).await {
        let on = objects.names_on(adapters);
        let heard = objects.devices.iter().filter(|seen| seen.rssi.is_some() && on.contains(&seen.adapter));
        found.extend(heard.map(|seen| ((seen.adapter.clone(), seen.address), seen.clone())));
    }
    let mut found: Vec<Seen> = found.into_values().collect();
    found.sort_by_key(|seen| std::cmp::Reverse(seen.rssi));
    Ok(found)
}

/// Returns when one of `adapters` is scanned on.
async fn scanning(
    discovery: &Discovery,
    looking: &mut Looking,
    adapters: &[AdapterChoice],
) -> Result<(), NoAdapter> {
    loop {
        let objects = looking.next().await;
        let on = objects.names_on(adapters);
        match objects.hindrance(adapters) {
            Some(NoAdapter::Off) => {}
            Some(why) => return Err(why),
            None if discovery.are_deaf(&on) => return Err(NoAdapter::DoesNotScan),
            None if discovery.does_any_scan(&on) => return Ok(()),
            None => {}
        }
    }
}

/// Whether a device says that it has the Heart Rate Service.
pub(super) fn has_heart_rate(seen: &Seen) -> bool {
    seen.services.iter().any(|service| service == HEART_RATE_SERVICE)
}

impl Nearby {
    fn of(seen: &Seen) -> Self {
        Self {
            address: seen.address,
            changes_address: seen.changes_address(),
            name: seen.name.clone(),
            rssi: seen.rssi,
            heart_rate: has_heart_rate(seen),
            services: seen.services.clone(),
            adapter: seen.adapter.clone(),
        }
    }
}
