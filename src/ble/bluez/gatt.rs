//! A device's characteristics, and what it says of itself by them: battery, place on the body, maker and
//! model.

use std::time::Duration;

use bluer::gatt::remote::Characteristic;
use bluer::{Device, Uuid, UuidExt};

use super::call::{CALL_TIMEOUT, within};
use crate::ble::lifecycle::Failure;
use crate::heart_rate::BodySensorLocation;

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

/// Whether the device answers at all, as far as it has something to be asked for.
pub(super) async fn answers(device: &Device) -> bool {
    for assigned in [BATTERY_LEVEL, BODY_SENSOR_LOCATION, MANUFACTURER_NAME, MODEL_NUMBER] {
        if let Ok(Some(found)) = within(SERVICES_TIMEOUT, characteristic(device, assigned)).await {
            return within(CALL_TIMEOUT, found.read()).await != Err(Failure::Timeout);
        }
    }
    true
}

/// What a sensor says of itself, beside its heart rates.
pub(super) struct Description {
    pub(super) battery_percent: Option<u8>,
    pub(super) location: Option<BodySensorLocation>,
    pub(super) manufacturer: Option<String>,
    pub(super) model: Option<String>,
}

/// Asks the device for all of it.
pub(super) async fn describe(device: &Device) -> Description {
    let text = |bytes: Option<Vec<u8>>| bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Description {
        battery_percent: battery(device).await,
        location: byte(device, BODY_SENSOR_LOCATION).await.and_then(BodySensorLocation::from_value),
        manufacturer: text(read(device, MANUFACTURER_NAME).await),
        model: text(read(device, MODEL_NUMBER).await),
    }
}

/// Asks the device for its battery, percent.
pub(super) async fn battery(device: &Device) -> Option<u8> {
    // More than 100 is reserved (Battery Service 1.1, section 3.1).
    byte(device, BATTERY_LEVEL).await.filter(|percent| *percent <= 100)
}

async fn byte(device: &Device, assigned: u16) -> Option<u8> {
    read(device, assigned).await?.first().copied()
}

async fn read(device: &Device, assigned: u16) -> Option<Vec<u8>> {
    let found = within(SERVICES_TIMEOUT, characteristic(device, assigned)).await.ok()??;
    within(CALL_TIMEOUT, found.read()).await.ok()
}
