//! The changes of properties that bluetoothd signals, over a D-Bus connection of their own.

use std::sync::Arc;
use std::task::{Context, Poll};

use dbus::Message;
use dbus::message::MatchRule;
use dbus::nonblock::{MsgMatch, SyncConnection};
use dbus_tokio::connection::IOResource;
use futures_util::{FutureExt, Stream, StreamExt};

use crate::system_bus;

/// The changes as they come; closed when dropped.
pub(super) struct Signals {
    bus: IOResource<SyncConnection>,
    pub(super) connection: Arc<SyncConnection>,
    messages: Box<dyn Stream<Item = Message> + Send + Sync + Unpin>,
    /// Removes the match when it goes.
    _listening: MsgMatch,
}

impl Signals {
    /// Listens to the changes of the object at `path`, or of all.
    pub(super) async fn begin(path: Option<dbus::Path<'static>>) -> Result<Self, dbus::Error> {
        let (mut bus, connection) = system_bus::connect().await?;
        let mut changes = MatchRule::new_signal("org.freedesktop.DBus.Properties", "PropertiesChanged")
            .with_sender("org.bluez");
        changes.path = path;
        let (listening, messages) = tokio::select! {
            listening = connection.add_match(changes) => listening?.msg_stream(),
            lost = &mut bus => return Err(dbus::Error::new_failed(&lost.to_string())),
        };
        Ok(Self { bus, connection, messages: Box::new(messages), _listening: listening })
    }

    /// What `call`, which is made over this connection, comes to.
    pub(super) async fn answer<T>(
        &mut self,
        call: impl Future<Output = Result<T, dbus::Error>>,
    ) -> Result<T, dbus::Error> {
        tokio::select! {
            answer = call => answer,
            lost = &mut self.bus => Err(dbus::Error::new_failed(&lost.to_string())),
        }
    }

    /// The next change that `read` makes something of; `None` when the bus is gone.
    pub(super) fn poll_next<T>(
        &mut self,
        context: &mut Context<'_>,
        read: impl Fn(&Message) -> Option<T>,
    ) -> Poll<Option<T>> {
        // Also what moves the messages along.
        if self.bus.poll_unpin(context).is_ready() {
            return Poll::Ready(None);
        }
        while let Poll::Ready(message) = self.messages.poll_next_unpin(context) {
            let Some(message) = message else { return Poll::Ready(None) };
            if let Some(found) = read(&message) {
                return Poll::Ready(Some(found));
            }
        }
        Poll::Pending
    }
}
