//! Looking around: for `scan`, for `discover`, and for a sensor that is wanted.

use std::collections::HashSet;
use std::pin::Pin;
use std::time::Duration;

use bluer::{Adapter, AdapterEvent, Device, DiscoveryFilter, DiscoveryTransport, Session, Uuid};
use futures_util::Stream;
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use super::call::refused;
use super::radio::Radio;
use crate::ble::session::Failure;
use crate::config::{Address, BluetoothConfig};

const HEART_RATE_SERVICE: Uuid = Uuid::from_u128(0x0000_180d_0000_1000_8000_0080_5f9b_34fb);
/// Longest that bluetoothd may take to begin or end discovery.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(5);
/// bluetoothd leaves a call unanswered when two clients begin at once; on another connection it answers.
const SCAN_ATTEMPTS: u32 = 3;
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

impl From<ScanError> for Failure {
    fn from(error: ScanError) -> Self {
        match error {
            // What is not found when discovery begins is the adapter: it was pulled out.
            ScanError::Bluez(error) => match refused(&error) {
                Self::NotSeen => Self::AdapterGone,
                failure => failure,
            },
            ScanError::NoAdapter => Self::AdapterGone,
            ScanError::Timeout => Self::Timeout,
        }
    }
}

/// What is known of a device object.
pub(super) struct Seen {
    pub(super) name: Option<String>,
    pub(super) in_range: bool,
    pub(super) connected: bool,
}

/// Keeps discovery going while it lives; its events are not read.
pub(super) type Discovering = Pin<Box<dyn Stream<Item = AdapterEvent> + Send>>;

/// Begins discovery of Low Energy devices with any of `services`, or of all. After a [`ScanError::Timeout`]
/// bluetoothd refuses this D-Bus connection any other discovery: it is of no more use.
pub(super) async fn start(
    radio: &Radio,
    adapter: &Adapter,
    services: &[Uuid],
) -> Result<Discovering, ScanError> {
    let _gate = radio.discovery(adapter.name()).await;
    let begin = async {
        adapter.set_discovery_filter(filter(services)).await?;
        Ok(Box::pin(adapter.discover_devices().await?) as Discovering)
    };
    timeout(DISCOVERY_TIMEOUT, begin).await.map_err(|_| ScanError::Timeout)?.map_err(ScanError::Bluez)
}

/// Ends discovery. One begun while bluetoothd still ends it would hear nothing, so this waits.
pub(super) async fn stop(radio: &Radio, adapter: &Adapter, discovering: Discovering) {
    let _gate = radio.discovery(adapter.name()).await;
    drop(discovering);
    // bluer ends it in the background; setting a filter waits for that, and asks bluetoothd nothing.
    _ = timeout(DISCOVERY_TIMEOUT, adapter.set_discovery_filter(filter(&[]))).await;
}

fn filter(services: &[Uuid]) -> DiscoveryFilter {
    DiscoveryFilter {
        uuids: services.iter().copied().collect::<HashSet<_>>(),
        transport: DiscoveryTransport::Le,
        duplicate_data: false,
        ..DiscoveryFilter::default()
    }
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
    scan(adapters, &[], duration, &Radio::default()).await
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
    let found = scan(&config.adapters, &[HEART_RATE_SERVICE], DISCOVER_SLICE, radio).await?;
    let loud = |device: &Nearby| device.rssi.is_some_and(|rssi| rssi >= config.discover_rssi_min);
    Ok(found.into_iter().filter(|device| device.heart_rate && loud(device)).collect())
}

/// One adapter after the other; one that fails is passed over, unless all do.
async fn scan(
    adapters: &[String],
    services: &[Uuid],
    duration: Duration,
    radio: &Radio,
) -> Result<Vec<Nearby>, ScanError> {
    let names = async {
        match adapters.is_empty() {
            true => Session::new().await?.adapter_names().await,
            false => Ok(adapters.to_vec()),
        }
    };
    let names = timeout(SCAN_CALLS_TIMEOUT, names).await.map_err(|_| ScanError::Timeout)??;
    let mut found = Vec::new();
    let mut result = Err(ScanError::NoAdapter);
    for name in names {
        let mut scanned = Err(ScanError::Timeout);
        for _ in 0..SCAN_ATTEMPTS {
            let attempt = scan_one(&name, services, duration, radio);
            scanned =
                timeout(duration + SCAN_CALLS_TIMEOUT, attempt).await.unwrap_or(Err(ScanError::Timeout));
            if !matches!(scanned, Err(ScanError::Timeout)) {
                break;
            }
        }
        match scanned {
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
    name: &str,
    services: &[Uuid],
    duration: Duration,
    radio: &Radio,
) -> Result<Vec<Nearby>, ScanError> {
    const LOOK_EVERY: Duration = Duration::from_millis(250);
    let session = Session::new().await?;
    let adapter = session.adapter(name)?;
    if !adapter.is_powered().await? {
        adapter.set_powered(true).await?;
    }
    let permit = radio.scan(name).await;
    let discovering = start(radio, &adapter, services).await?;
    let deadline = Instant::now() + duration;
    while Instant::now() < deadline && !permit.is_contended() {
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
    stop(radio, &adapter, discovering).await;
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
