//! A device's characteristics, and what it says of itself by them: battery, place on the body, maker and
//! model.

use std::time::Duration;

use bluer::gatt::remote::Characteristic;
use bluer::{Device, Uuid, UuidExt};
use tracing::info;

use super::call::{CALL_TIMEOUT, within};
use crate::reading::SensorId;

/// Longest that a device's services may take to be known.
pub(super) const SERVICES_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) const HEART_RATE_MEASUREMENT: u16 = 0x2A37;
const BODY_SENSOR_LOCATION: u16 = 0x2A38;
const BATTERY_LEVEL: u16 = 0x2A19;
const MANUFACTURER_NAME: u16 = 0x2A29;
const MODEL_NUMBER: u16 = 0x2A24;

/// The device's characteristic with an assigned number.
pub(super) async fn characteristic(device: &Device, assigned: u16) -> bluer::Result<Option<Characteristic>> {
    let uuid = Uuid::from_u16(assigned);
    for service in device.services().await? {
        for characteristic in service.characteristics().await? {
            if characteristic.uuid().await? == uuid {
                return Ok(Some(characteristic));
            }
        }
    }
    Ok(None)
}

/// Logs what the sensor says of itself.
pub(super) async fn describe(device: &Device, sensor: &SensorId) {
    let read = async |assigned| {
        let found = within(SERVICES_TIMEOUT, characteristic(device, assigned)).await.ok()??;
        within(CALL_TIMEOUT, found.read()).await.ok()
    };
    let text = |bytes: Option<Vec<u8>>| bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let battery_percent = read(BATTERY_LEVEL).await.and_then(|bytes| bytes.first().copied());
    let location = read(BODY_SENSOR_LOCATION).await.and_then(|bytes| bytes.first().copied());
    let manufacturer = text(read(MANUFACTURER_NAME).await);
    let model = text(read(MODEL_NUMBER).await);
    let location = location.map(location_name);
    info!(%sensor, battery_percent, location, manufacturer, model, "sensor described");
}

/// Body Sensor Location (Heart Rate Service 1.0, section 3.2).
fn location_name(value: u8) -> &'static str {
    match value {
        1 => "chest",
        2 => "wrist",
        3 => "finger",
        4 => "hand",
        5 => "ear lobe",
        6 => "foot",
        _ => "other",
    }
}
