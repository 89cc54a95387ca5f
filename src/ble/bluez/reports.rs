//! What the operator hears of a sensor: one line for each change, with what to do about it.

use tracing::{error, info, warn};

use crate::ble::lifecycle::{Absence, Failure, NoAdapter, Report};
use crate::reading::SensorId;

/// Says it.
pub(super) fn say(sensor: &SensorId, report: Report) {
    match report {
        Report::Streaming => info!(%sensor, "sensor connected; readings flow"),
        Report::LinkLost => warn!(%sensor, "link to the sensor lost; looking for it again"),
        Report::Silent => {
            warn!(%sensor, "the sensor is connected and sends nothing; subscribing again");
        }
        Report::NoAdapter(why) => report_no_adapter(sensor, why),
        Report::Absent(why) => report_absent(sensor, why),
        Report::Held => warn!(
            %sensor,
            "another program takes the sensor's notifications (AcquireNotify); waiting for it to let go: nothing of \
             the sensor is taken until then, and its link and bond stay as they are"
        ),
        Report::Failing(failure) => report_failing(sensor, failure),
    }
}

/// Why readings do not flow, in a few words.
pub(super) fn reason(report: Report) -> &'static str {
    match report {
        Report::Streaming => "",
        Report::LinkLost => "link lost; looked for",
        Report::Silent => "connected, and sends nothing",
        Report::Held => "another program takes its notifications",
        Report::NoAdapter(why) => match why {
            NoAdapter::NoAnswer => "bluetoothd does not answer",
            NoAdapter::NoBluetoothd => "bluetoothd is not running",
            NoAdapter::Restarted => "bluetoothd was started again; looked for",
            NoAdapter::Missing => "no Bluetooth adapter",
            NoAdapter::NotThisOne => "its adapter is not there",
            NoAdapter::Blocked => "the adapter is blocked by rfkill",
            NoAdapter::Off => "the adapter is off",
            NoAdapter::NotReady => "the adapter is not ready",
            NoAdapter::DoesNotScan => "the adapter does not scan",
        },
        Report::Absent(why) => match why {
            Absence::NotSeen => "not in range; looked for",
            Absence::Stranger => "another device has its name",
            Absence::Ambiguous => "several devices have its name",
            Absence::LongerName => "a device's name only begins with its name",
            Absence::NothingSaid => "its advertisements say nothing of the heart",
            Absence::NoLinkLeft => "no adapter has a link left",
        },
        Report::Failing(failure) => match failure {
            Failure::BondNeeded => "it demands bonding",
            Failure::NoHeartRate => "it offers no Heart Rate Service",
            Failure::StaleServices => "it refuses by what BlueZ remembers of its services",
            _ => "it is there and does not work",
        },
    }
}

fn report_no_adapter(sensor: &SensorId, why: NoAdapter) {
    match why {
        // Said once for all sensors, where it was found.
        NoAdapter::NoAnswer | NoAdapter::DoesNotScan => {}
        // If that lasts, it is off, and the next look shows it.
        NoAdapter::NotReady => {}
        NoAdapter::Restarted => info!(%sensor, "bluetoothd was started again; looking for the sensor"),
        NoAdapter::NoBluetoothd => {
            warn!(%sensor, "bluetoothd is not running; waiting for it (systemctl status bluetooth)");
        }
        NoAdapter::Missing => {
            warn!(%sensor, "no Bluetooth adapter; waiting for one (`bluetoothctl list`, `dmesg`)");
        }
        NoAdapter::NotThisOne => warn!(
            %sensor,
            "the sensor's adapter is not there, though others are; waiting for it: an adapter that was plugged in \
             again may have another name: write its address, or leave `adapter` out to use them all (`bluetoothctl list`)"
        ),
        NoAdapter::Blocked => {
            error!(%sensor, "the Bluetooth adapter is blocked by rfkill; waiting for it: `rfkill unblock bluetooth`");
        }
        NoAdapter::Off => {
            error!(%sensor, "the Bluetooth adapter is off and bluetoothd does not switch it on: `bluetoothctl power on`");
        }
    }
}

fn report_absent(sensor: &SensorId, why: Absence) {
    match why {
        Absence::NotSeen => info!(%sensor, "sensor not in range; looking for it (is its broadcast on?)"),
        Absence::Stranger => warn!(
            %sensor,
            "a device has the sensor's name and is another than it was: nothing of it is taken; if it replaces the \
             former one: `hr-gatewayd sensor forget {sensor}`"
        ),
        Absence::Ambiguous => error!(
            %sensor,
            "several devices have the sensor's name, and nobody knows which is it: none is connected; write its `address` \
             into its block (`hr-gatewayd scan` shows it), or switch the others off until it was found once"
        ),
        Absence::LongerName => warn!(
            %sensor,
            "no device has the sensor's very name, and one's begins with it: write `name = \"…*\"` with a `*` at its \
             end to take any that begins so"
        ),
        Absence::NothingSaid => warn!(
            %sensor,
            "the sensor is heard, and its advertisements say nothing of the heart: if it has no mode in which they do, \
             leave `mode` out of its block, so that it is linked"
        ),
        Absence::NoLinkLeft => error!(
            %sensor,
            "no adapter that hears the sensor has a link left to give: take another sensor or program off it, or plug in \
             another adapter; trying on"
        ),
    }
}

fn report_failing(sensor: &SensorId, failure: Failure) {
    match failure {
        Failure::BondNeeded => error!(
            %sensor,
            "the sensor demands bonding: set `bond = true` in its [[sensor]] block; if it is set, the sensor has \
             forgotten the gateway: `bluetoothctl remove` its address"
        ),
        Failure::NoHeartRate => error!(
            %sensor,
            "the sensor offers no Heart Rate Service: switch its broadcast on, or check the address"
        ),
        Failure::StaleServices => error!(
            %sensor,
            "the sensor refuses by what BlueZ remembers of its services, which may be of another firmware: a bond that \
             this gateway made is made anew; one that others made stays: `bluetoothctl remove` its address, then pair again"
        ),
        failure => error!(
            %sensor, ?failure,
            "the sensor is there and does not work; trying on (restart it, or the gateway's Bluetooth)"
        ),
    }
}
