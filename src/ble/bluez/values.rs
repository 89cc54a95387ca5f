//! The subscription to a characteristic's values, over a D-Bus connection of its own.
//!
//! bluer's `notify` begins to listen when bluetoothd has answered `StartNotify`: what the sensor sends at
//! once is lost (seen on a real BlueZ). Here listening comes first. And closing the connection ends the
//! subscription for certain: bluetoothd forgets what a client that left had begun.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bluer::gatt::remote::Characteristic;
use dbus::Message;
use dbus::arg::{PropMap, prop_cast};
use dbus::nonblock::Proxy;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::call::{CALL_TIMEOUT, refused};
use super::signals::Signals;
use crate::ble::lifecycle::Failure;

const BLUEZ: &str = "org.bluez";
/// D-Bus's own bound; the caller's is shorter.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(60);
/// A bluetoothd that does not answer by then has nothing more to say.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);
const CHARACTERISTIC: &str = "org.bluez.GattCharacteristic1";

/// Values as they come, from before `StartNotify` is called until the bus is gone.
pub(super) struct Values {
    signals: Signals,
    path: dbus::Path<'static>,
    /// Once asked for: the answer that comes after the last value.
    last: Option<BoxFuture<'static, ()>>,
}

impl Values {
    /// Subscribes. Takes as long as bluetoothd: the caller bounds it.
    pub(super) async fn begin(characteristic: &Characteristic) -> Result<Self, Failure> {
        let path = path_of(characteristic);
        let mut signals = Signals::begin(Some(path.clone())).await.map_err(refuse)?;
        let proxy = Proxy::new(BLUEZ, path.clone(), BEGIN_TIMEOUT, signals.connection.clone());
        let () =
            signals.answer(proxy.method_call(CHARACTERISTIC, "StartNotify", ())).await.map_err(refuse)?;
        Ok(Self { signals, path, last: None })
    }

    /// Has [`next`](Self::next) end after what is on its way: the end of a link is told over another D-Bus
    /// connection, and may overtake the link's last values. bluetoothd's answer here cannot.
    pub(super) fn finish(&mut self) {
        let proxy = Proxy::new(BLUEZ, "/", FINISH_TIMEOUT, self.signals.connection.clone());
        let answer = proxy.method_call::<(), _, _, _>("org.freedesktop.DBus.Peer", "Ping", ());
        self.last = Some(answer.map(drop).boxed());
    }

    /// The next value; `None` when the bus is gone, or the last was handed out.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        poll_fn(|context| match (self.signals.poll_next(context, value_in), &mut self.last) {
            (Poll::Pending, Some(answer)) => answer.poll_unpin(context).map(|()| None),
            (polled, _) => polled,
        })
        .await
    }

    /// Has bluetoothd tell the sensor to stop; a subscription begun next then reaches the sensor too.
    pub(super) async fn end(mut self) {
        let proxy = Proxy::new(BLUEZ, self.path, CALL_TIMEOUT, self.signals.connection.clone());
        // Refused where the link is gone already; the connection closes in any case.
        let stop = proxy.method_call::<(), _, _, _>(CHARACTERISTIC, "StopNotify", ());
        _ = self.signals.answer(stop).await;
    }
}

/// Where bluetoothd keeps it.
fn path_of(characteristic: &Characteristic) -> dbus::Path<'static> {
    let device = characteristic.device_address().to_string().replace(':', "_");
    let (adapter, service) = (characteristic.adapter_name(), characteristic.service_id());
    format!("/org/bluez/{adapter}/dev_{device}/service{service:04x}/char{:04x}", characteristic.id()).into()
}

/// The value that a change of properties tells of.
fn value_in(message: &Message) -> Option<Vec<u8>> {
    let (interface, changed): (String, PropMap) = message.read2().ok()?;
    if interface != CHARACTERISTIC {
        return None;
    }
    prop_cast::<Vec<u8>>(&changed, "Value").cloned()
}

fn refuse(error: dbus::Error) -> Failure {
    refused(&error.into())
}
