//! The notifications of a link, until they end.

use std::time::Duration;

use bluer::{Device, DeviceEvent, DeviceProperty};
use futures_util::StreamExt;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::info;

use super::call::{CALL_TIMEOUT, within};
use super::gatt::{Description, battery, describe};
use super::link::Link;
use super::task::Task;
use super::values::Values;
use crate::ble::SourceEventKind;
use crate::ble::identity::Seen;
use crate::ble::lifecycle::{Lifecycle, Outcome};
use crate::heart_rate::{BodySensorLocation, HeartRateMeasurement};
use crate::printable::Printable;
use crate::reading::{GapReason, SensorState};

/// How often a sensor is asked for its battery: a record follows where it changed, or now and then.
const BATTERY_EVERY: Duration = Duration::from_secs(300);
/// How often a quiet link is asked whether it still stands: a bluetoothd that died sends no signal.
const LINK_CHECK_EVERY: Duration = Duration::from_secs(3);

/// Passes on what the sensor sends. The first measurement that can be read is told to `lifecycle`, and makes
/// the device the sensor's. `described` says whether the sensor was asked already what it is.
pub(super) async fn stream(
    link: &mut Link,
    task: &Task,
    lifecycle: &mut Lifecycle,
    described: &mut bool,
) -> Outcome {
    let Some(mut values) = link.values.take() else {
        return Outcome::Ended { why: GapReason::LinkDown, notifications: 0 };
    };
    let device = link.device.clone();
    let mut notifications = 0;
    let outcome = {
        // Beside the stream, so that a sensor that hangs on a read delays no reading.
        let taken = Notify::new();
        let describing = async {
            // What a device says of itself is kept with it, once it is known to be the sensor.
            taken.notified().await;
            keep_described(&device, link.seen.rssi, task, described).await
        };
        tokio::select! {
            why = pass_on(&mut values, &device, &link.seen, task, lifecycle, &mut notifications, &taken) => why,
            why = describing => why,
        }
    };
    // Kept for a re-subscription, which must end it first.
    link.values = Some(values);
    Outcome::Ended { why: outcome, notifications }
}

async fn pass_on(
    values: &mut Values,
    device: &Device,
    seen: &Seen,
    task: &Task,
    lifecycle: &mut Lifecycle,
    notifications: &mut u64,
    taken: &Notify,
) -> GapReason {
    let Ok(changes) = within(CALL_TIMEOUT, device.events()).await else {
        return GapReason::LinkDown;
    };
    let mut changes = std::pin::pin!(changes);
    let mut last_value = Instant::now();
    let mut check_at = Instant::now() + LINK_CHECK_EVERY;
    let mut link_is_down = false;
    let mut stopping = false;
    loop {
        let silence_max = task.silence_max();
        tokio::select! {
            // What was received counts, though the link be lost by now.
            biased;
            value = values.next() => {
                let Some(value) = value else { return GapReason::LinkDown };
                let at = task.now();
                task.note_answer();
                if task.is_anothers(seen) {
                    return GapReason::LinkDown;
                }
                last_value = Instant::now();
                let is_measurement = HeartRateMeasurement::parse(&value).is_ok();
                if *notifications == 0 && is_measurement {
                    task.take_as_sensor(seen).await;
                    lifecycle.handle_first_notification();
                    task.report(lifecycle);
                    taken.notify_one();
                }
                *notifications += u64::from(is_measurement);
                if !task.send(at, SourceEventKind::Notification(value)).await {
                    return GapReason::GatewayDown;
                }
            }
            change = changes.next(), if !link_is_down => {
                link_is_down = is_end(change);
                if link_is_down {
                    values.finish();
                }
            }
            () = task.stop.cancelled(), if !stopping => {
                stopping = true;
                values.finish();
            }
            () = sleep_until(check_at.min(last_value + silence_max)), if !link_is_down => {
                check_at = Instant::now() + LINK_CHECK_EVERY.min(silence_max);
                match within(CALL_TIMEOUT, device.is_connected()).await {
                    Ok(true) if last_value.elapsed() < silence_max => task.note_answer(),
                    Ok(true) => return GapReason::SensorSilent,
                    Ok(false) => return GapReason::LinkDown,
                    Err(_) => return GapReason::AdapterGone,
                }
            }
        }
    }
}

/// Asks the sensor how it is, now and then.
async fn keep_described(
    device: &Device,
    rssi_dbm: Option<i16>,
    task: &Task,
    described: &mut bool,
) -> GapReason {
    let told = |battery_percent, location| SensorState { battery_percent, rssi_dbm, location };
    if !std::mem::replace(described, true) {
        let Description { battery_percent, location, manufacturer, model } = describe(device).await;
        let [manufacturer, model] =
            [manufacturer, model].map(|text| text.map(|text| Printable(&text).to_string()));
        let (sensor, place) = (task.sensor(), location.map(BodySensorLocation::as_str));
        info!(%sensor, battery_percent, location = place, manufacturer, model, "sensor described");
        task.tell_state(told(battery_percent, location)).await;
    }
    loop {
        sleep(BATTERY_EVERY).await;
        let battery_percent = battery(device).await;
        task.tell_state(told(battery_percent, task.location())).await;
    }
}

/// Whether a change of the device says that its link is over.
fn is_end(change: Option<DeviceEvent>) -> bool {
    matches!(change, Some(DeviceEvent::PropertyChanged(DeviceProperty::Connected(false))) | None)
}
