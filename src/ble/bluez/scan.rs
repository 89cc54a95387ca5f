//! Looking around: for `scan`, for `discover`, and for a sensor that is wanted.

use std::collections::HashSet;
use std::time::Duration;

use bluer::{Adapter, Device, DiscoveryFilter, DiscoveryTransport, Session, Uuid};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use super::link::Discovering;
use super::radio::{Permit, Radio};
use crate::config::{Address, BluetoothConfig};

const HEART_RATE_SERVICE: Uuid = Uuid::from_u128(0x0000_180d_0000_1000_8000_0080_5f9b_34fb);
const STOP_PAUSE: Duration = Duration::from_millis(100);
const DISCOVER_SLICE: Duration = Duration::from_secs(6);
/// Longest that bluetoothd may take to answer all the questions of a scan.
const SCAN_CALLS_TIMEOUT: Duration = Duration::from_secs(20);

/// A device nearby.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Nearby {
    /// Its address.
    pub address: Address,
    /// Its advertised name.
    pub name: Option<String>,
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
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// bluetoothd or the adapter said no.
    #[error("Bluetooth is not available: is bluetoothd running, and is there an adapter?")]
    Bluez(#[from] bluer::Error),
    /// There is nothing to scan with.
    #[error("there is no Bluetooth adapter")]
    NoAdapter,
    /// bluetoothd does not answer.
    #[error("bluetoothd does not answer: try `systemctl restart bluetooth`")]
    Timeout,
}

/// What is known of a device object.
pub(super) struct Seen {
    pub(super) name: Option<String>,
    pub(super) in_range: bool,
    pub(super) connected: bool,
}

/// Begins discovery of Low Energy devices with any of `services`, or of all.
pub(super) async fn start(adapter: &Adapter, services: &[Uuid]) -> bluer::Result<Discovering> {
    let filter = DiscoveryFilter {
        uuids: services.iter().copied().collect::<HashSet<_>>(),
        transport: DiscoveryTransport::Le,
        duplicate_data: false,
        ..DiscoveryFilter::default()
    };
    adapter.set_discovery_filter(filter).await?;
    Ok(Box::pin(adapter.discover_devices().await?))
}

/// Ends discovery, and gives BlueZ the moment that takes: it ends in the background.
pub(super) async fn stop(discovering: Discovering) {
    drop(discovering);
    sleep(STOP_PAUSE).await;
}

/// Asks BlueZ about a device. RSSI is there only while a scan hears it.
pub(super) async fn look_at(device: &Device) -> bluer::Result<Seen> {
    Ok(Seen {
        name: device.name().await?,
        in_range: device.rssi().await?.is_some(),
        connected: device.is_connected().await?,
    })
}

/// Scans on `adapters` (none: on all) for `duration` and returns what was heard, loudest first.
pub async fn nearby(adapters: &[String], duration: Duration) -> Result<Vec<Nearby>, ScanError> {
    scan(adapters, &[], duration, None).await
}

/// The names of the machine's adapters and whether each is powered.
pub async fn adapters() -> Result<Vec<(String, bool)>, ScanError> {
    let calls = async {
        let session = Session::new().await?;
        let mut found = Vec::new();
        for name in session.adapter_names().await? {
            found.push((name.clone(), session.adapter(&name)?.is_powered().await?));
        }
        Ok(found)
    };
    timeout(SCAN_CALLS_TIMEOUT, calls).await.map_err(|_| ScanError::Timeout)?
}

/// What advertises the Heart Rate Service loudly enough.
pub(super) async fn heart_rate_sensors(
    config: &BluetoothConfig,
    radio: &Radio,
) -> Result<Vec<Nearby>, ScanError> {
    let found = scan(&config.adapters, &[HEART_RATE_SERVICE], DISCOVER_SLICE, Some(radio)).await?;
    let loud = |device: &Nearby| device.rssi.is_some_and(|rssi| rssi >= config.discover_rssi_min);
    Ok(found.into_iter().filter(|device| device.heart_rate && loud(device)).collect())
}

/// One adapter after the other; one that fails is passed over, unless all do.
async fn scan(
    adapters: &[String],
    services: &[Uuid],
    duration: Duration,
    radio: Option<&Radio>,
) -> Result<Vec<Nearby>, ScanError> {
    let names = async {
        let session = Session::new().await?;
        let names = if adapters.is_empty() { session.adapter_names().await? } else { adapters.to_vec() };
        Ok::<_, bluer::Error>((session, names))
    };
    let (session, names) = timeout(SCAN_CALLS_TIMEOUT, names).await.map_err(|_| ScanError::Timeout)??;
    let mut found = Vec::new();
    let mut result = Err(ScanError::NoAdapter);
    for name in names {
        let scanned = scan_one(&session, &name, services, duration, radio);
        let scanned = timeout(duration + SCAN_CALLS_TIMEOUT, scanned).await;
        match scanned.unwrap_or(Err(ScanError::Timeout)) {
            Ok(devices) => {
                found.extend(devices);
                result = Ok(());
            }
            Err(error) if result.is_err() => result = Err(error),
            Err(_) => {}
        }
    }
    result?;
    found.sort_by_key(|device: &Nearby| std::cmp::Reverse(device.rssi));
    Ok(found)
}

async fn scan_one(
    session: &Session,
    name: &str,
    services: &[Uuid],
    duration: Duration,
    radio: Option<&Radio>,
) -> Result<Vec<Nearby>, ScanError> {
    const LOOK_EVERY: Duration = Duration::from_millis(250);
    let adapter = session.adapter(name)?;
    if !adapter.is_powered().await? {
        adapter.set_powered(true).await?;
    }
    let permit = match radio {
        Some(radio) => Some(radio.scan(name).await),
        None => None,
    };
    let discovering = start(&adapter, services).await?;
    let deadline = Instant::now() + duration;
    while Instant::now() < deadline && !permit.as_ref().is_some_and(Permit::is_contended) {
        sleep(LOOK_EVERY.min(duration)).await;
    }
    let mut found = Vec::new();
    for address in adapter.device_addresses().await? {
        let device = adapter.device(address)?;
        // A device may go while it is asked.
        let Ok(Some(rssi)) = device.rssi().await else { continue };
        let uuids = device.uuids().await.ok().flatten().unwrap_or_default();
        let mut services: Vec<String> = uuids.iter().map(short_uuid).collect();
        services.sort();
        found.push(Nearby {
            address: Address(address.0),
            name: device.name().await.ok().flatten(),
            rssi: Some(rssi),
            heart_rate: uuids.contains(&HEART_RATE_SERVICE),
            services,
            adapter: name.to_owned(),
        });
    }
    stop(discovering).await;
    Ok(found)
}

/// `180d` for a UUID that the SIG assigned, the whole of any other.
fn short_uuid(uuid: &Uuid) -> String {
    let text = uuid.to_string();
    match text.strip_prefix("0000").and_then(|rest| rest.strip_suffix("-0000-1000-8000-00805f9b34fb")) {
        Some(short) => short.to_owned(),
        None => text,
    }
}
