//! Connections to the system bus that hold up nobody while they are made.
//!
//! libdbus's own way (`dbus_bus_get_private`) waits for the answer to Hello, for up to 25 s, under a lock of
//! the whole process that is also taken when any connection made so is let go: on a bus that is frozen, by
//! the one thread on which everything runs. Here the two steps are made apart, without that lock.

use std::sync::Arc;

use dbus::channel::Channel;
use dbus::nonblock::SyncConnection;
use dbus_tokio::connection::{IOResource, from_channel};

use crate::blocking;

/// A connection, and what moves its messages along while it is polled.
pub type Connection = (IOResource<SyncConnection>, Arc<SyncConnection>);

/// Blocks, on a bus that is frozen for 25 s.
pub fn open() -> Result<Channel, dbus::Error> {
    let address = std::env::var("DBUS_SYSTEM_BUS_ADDRESS");
    let address = address.unwrap_or_else(|_| "unix:path=/var/run/dbus/system_bus_socket".into());
    let mut channel = Channel::open_private(&address)?;
    channel.register()?;
    Ok(channel)
}

/// The same off the async threads. Whoever gives up waiting leaves a thread behind.
pub async fn connect() -> Result<Connection, dbus::Error> {
    from_channel(blocking::run(open).await?)
}
