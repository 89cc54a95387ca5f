//! What bluetoothd tells of each advertisement that it hears.

use std::collections::HashMap;
use std::future::poll_fn;

use dbus::Message;
use dbus::arg::{ArgType, PropMap, RefArg};

use super::signals::Signals;

const DEVICE: &str = "org.bluez.Device1";

/// An advertisement: which adapter heard it, of which object, with which makers' data.
pub(super) struct Heard {
    pub(super) adapter: String,
    /// As it stands in its object's path.
    pub(super) object: String,
    pub(super) data: HashMap<u16, Vec<u8>>,
}

/// Advertisements as they come.
pub(super) struct Advertisements(Signals);

impl Advertisements {
    pub(super) async fn begin() -> Result<Self, dbus::Error> {
        Ok(Self(Signals::begin(None).await?))
    }

    /// The next one; `None` when the bus is gone.
    pub(super) async fn next(&mut self) -> Option<Heard> {
        poll_fn(|context| self.0.poll_next(context, heard)).await
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
