//! What bluetoothd tells of each advertisement that it hears.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Poll;

use dbus::Message;
use dbus::arg::{ArgType, PropMap, RefArg};
use dbus::message::MatchRule;
use dbus::nonblock::{MsgMatch, SyncConnection};
use dbus_tokio::connection::IOResource;
use futures_util::future::poll_fn;
use futures_util::{FutureExt, Stream, StreamExt};

use crate::system_bus;

const DEVICE: &str = "org.bluez.Device1";

/// An advertisement: which adapter heard it, of which object, with which makers' data.
pub(super) struct Heard {
    pub(super) adapter: String,
    /// As it stands in its object's path.
    pub(super) object: String,
    pub(super) data: HashMap<u16, Vec<u8>>,
}

/// Advertisements as they come, over a D-Bus connection of its own.
pub(super) struct Advertisements {
    bus: IOResource<SyncConnection>,
    messages: Box<dyn Stream<Item = Message> + Send + Sync + Unpin>,
    /// Removes the match when it goes.
    _listening: MsgMatch,
    /// Closed when it goes.
    _connection: Arc<SyncConnection>,
}

impl Advertisements {
    pub(super) async fn begin() -> Result<Self, dbus::Error> {
        let (mut bus, connection) = system_bus::connect().await?;
        let changes = MatchRule::new_signal("org.freedesktop.DBus.Properties", "PropertiesChanged")
            .with_sender("org.bluez");
        let (listening, messages) = tokio::select! {
            listening = connection.add_match(changes) => listening?.msg_stream(),
            lost = &mut bus => return Err(dbus::Error::new_failed(&lost.to_string())),
        };
        Ok(Self { bus, messages: Box::new(messages), _listening: listening, _connection: connection })
    }

    /// The next one; `None` when the bus is gone.
    pub(super) async fn next(&mut self) -> Option<Heard> {
        poll_fn(|context| {
            // Also what moves the messages along.
            if self.bus.poll_unpin(context).is_ready() {
                return Poll::Ready(None);
            }
            while let Poll::Ready(message) = self.messages.poll_next_unpin(context) {
                let Some(message) = message else { return Poll::Ready(None) };
                if let Some(heard) = heard(&message) {
                    return Poll::Ready(Some(heard));
                }
            }
            Poll::Pending
        })
        .await
    }
}

fn heard(message: &Message) -> Option<Heard> {
    let (interface, changed): (String, PropMap) = message.read2().ok()?;
    if interface != DEVICE {
        return None;
    }
    let path = message.path()?;
    let (adapter, object) = path.strip_prefix("/org/bluez/")?.split_once("/dev_")?;
    let data = makers_data(&*changed.get("ManufacturerData")?.0)?;
    Some(Heard { adapter: adapter.to_owned(), object: object.to_owned(), data })
}

/// Company → bytes, out of `a{qv}`.
fn makers_data(value: &dyn RefArg) -> Option<HashMap<u16, Vec<u8>>> {
    let entries: Vec<&dyn RefArg> = value.as_iter()?.collect();
    let entry = |pair: &[&dyn RefArg]| {
        let [company, bytes] = pair else { return None };
        let company = u16::try_from(company.as_u64()?).ok()?;
        Some((company, bytes_of(*bytes)?))
    };
    Some(entries.chunks(2).filter_map(entry).collect())
}

/// The bytes of `ay`, in a variant or not.
fn bytes_of(value: &dyn RefArg) -> Option<Vec<u8>> {
    if value.arg_type() == ArgType::Variant {
        return bytes_of(value.as_iter()?.next()?);
    }
    value.as_iter()?.map(|byte| u8::try_from(byte.as_u64()?).ok()).collect()
}
