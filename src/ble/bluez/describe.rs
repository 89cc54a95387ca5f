//! What a sensor says of itself: battery, place on the body, maker and model.

use bluer::gatt::remote::Characteristic;
use bluer::{Device, Uuid};
use tracing::info;

use super::call::{CALL_TIMEOUT, within};
use super::link::SERVICES_TIMEOUT;
use crate::ble::session::Outcome;
use crate::reading::SensorId;

const BODY_SENSOR_LOCATION: u16 = 0x2A38;
const BATTERY_LEVEL: u16 = 0x2A19;
const MANUFACTURER_NAME: u16 = 0x2A29;
const MODEL_NUMBER: u16 = 0x2A24;

/// The device's characteristic with an assigned number.
pub(super) async fn characteristic(device: &Device, assigned: u16) -> bluer::Result<Option<Characteristic>> {
    let uuid = Uuid::from_u128(0x0000_0000_0000_1000_8000_0080_5f9b_34fb | u128::from(assigned) << 96);
    for service in device.services().await? {
        for characteristic in service.characteristics().await? {
            if characteristic.uuid().await? == uuid {
                return Ok(Some(characteristic));
            }
        }
    }
    Ok(None)
}

/// Logs once per link what the sensor says of itself, then never ends. Beside the stream, so that a
/// sensor that hangs on a read delays no reading.
pub(super) async fn describe_when(wanted: bool, device: &Device, sensor: &SensorId) -> Outcome {
    if wanted {
        let read = async |assigned| {
            let found = within(SERVICES_TIMEOUT, characteristic(device, assigned)).await.ok()??;
            within(CALL_TIMEOUT, found.read()).await.ok()
        };
        let text = |bytes: Option<Vec<u8>>| bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let battery_percent = read(BATTERY_LEVEL).await.and_then(|bytes| bytes.first().copied());
        let location = read(BODY_SENSOR_LOCATION).await.and_then(|bytes| bytes.first().copied());
        let manufacturer = text(read(MANUFACTURER_NAME).await);
        let model = text(read(MODEL_NUMBER).await);
        info!(
            %sensor,
            battery_percent,
            location = location.map(location_name),
            manufacturer,
            model,
            "sensor described"
        );
    }
    std::future::pending().await
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
