//! What bluetoothd knows, in one answer: its adapters and devices.

use std::collections::HashMap;
use std::time::Duration;

use bluer::{Uuid, UuidExt};
use dbus::Path;
use dbus::arg::{PropMap, RefArg, prop_cast};
use dbus::nonblock::Proxy;

use super::kernel::is_blocked;
use crate::ble::identity::Seen;
use crate::ble::lifecycle::NoAdapter;
use crate::config::{AdapterChoice, Address};
use crate::system_bus::{self, Connection};

/// D-Bus's own bound; the caller's is shorter.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// An adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterSeen {
    /// Its name, which it may not keep.
    pub name: String,
    /// Its address.
    pub address: Address,
    /// Whether it is on.
    pub power: Power,
    /// Whether anybody's scan goes on.
    pub is_discovering: bool,
}

/// Whether an adapter is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// It is.
    On,
    /// It is not.
    Off,
    /// It is blocked by rfkill.
    Blocked,
}

/// All of it, at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Objects {
    /// The bus name of this run of bluetoothd; `None` where it does not run.
    pub bluetoothd: Option<String>,
    /// Its adapters, by name.
    pub adapters: Vec<AdapterSeen>,
    /// Its devices, one for each adapter that knows them.
    pub devices: Vec<Seen>,
}

type Managed = HashMap<Path<'static>, HashMap<String, PropMap>>;

impl Objects {
    /// Asks for it.
    pub async fn ask(connection: &mut Connection) -> Result<Self, dbus::Error> {
        let (bus, connection) = connection;
        let asked = async {
            let bus = Proxy::new("org.freedesktop.DBus", "/", REPLY_TIMEOUT, &**connection);
            let owner = bus.method_call("org.freedesktop.DBus", "GetNameOwner", ("org.bluez",)).await;
            let bluetoothd = match owner {
                Ok((name,)) => name,
                Err(error) if error.name() == Some("org.freedesktop.DBus.Error.NameHasNoOwner") => {
                    return Ok(Self::default());
                }
                Err(error) => return Err(error),
            };
            let bluez = Proxy::new("org.bluez", "/", REPLY_TIMEOUT, &**connection);
            let manager = "org.freedesktop.DBus.ObjectManager";
            let (managed,): (Managed,) = bluez.method_call(manager, "GetManagedObjects", ()).await?;
            Ok(Self::of(bluetoothd, &managed))
        };
        tokio::select! {
            objects = asked => objects,
            lost = bus => Err(dbus::Error::new_failed(&lost.to_string())),
        }
    }

    /// [`ask`](Self::ask) over a connection of its own.
    pub async fn ask_once() -> Result<Self, dbus::Error> {
        Self::ask(&mut system_bus::connect().await?).await
    }

    fn of(bluetoothd: String, managed: &Managed) -> Self {
        let interfaces = |name| {
            let found = managed.iter().filter_map(move |(path, held)| Some((path, held.get(name)?)));
            found.filter_map(|(path, properties)| Some((path.strip_prefix("/org/bluez/")?, properties)))
        };
        let mut adapters: Vec<_> =
            interfaces("org.bluez.Adapter1").filter_map(|(path, found)| adapter(path, found)).collect();
        adapters.sort_by(|a, b| a.name.cmp(&b.name));
        let devices = interfaces("org.bluez.Device1").filter_map(|(path, found)| device(path, found));
        Self { bluetoothd: Some(bluetoothd), adapters, devices: devices.collect() }
    }

    /// The adapters that `choices` name; all of them, where there are no choices.
    pub fn chosen<'a>(&'a self, choices: &'a [AdapterChoice]) -> impl Iterator<Item = &'a AdapterSeen> {
        let is_chosen = move |adapter: &&AdapterSeen| {
            choices.is_empty() || choices.iter().any(|choice| adapter.is(choice))
        };
        self.adapters.iter().filter(is_chosen)
    }

    /// The names of the chosen adapters that are on.
    pub fn names_on(&self, choices: &[AdapterChoice]) -> Vec<String> {
        let on = self.chosen(choices).filter(|adapter| adapter.power == Power::On);
        on.map(|adapter| adapter.name.clone()).collect()
    }

    /// Why none of the adapters that `choices` name can be used, if none can.
    pub fn hindrance(&self, choices: &[AdapterChoice]) -> Option<NoAdapter> {
        let powers: Vec<Power> = self.chosen(choices).map(|adapter| adapter.power).collect();
        match &powers[..] {
            _ if self.bluetoothd.is_none() => Some(NoAdapter::NoBluetoothd),
            [] if self.adapters.is_empty() => Some(NoAdapter::Missing),
            [] => Some(NoAdapter::NotThisOne),
            powers if powers.contains(&Power::On) => None,
            powers if powers.contains(&Power::Off) => Some(NoAdapter::Off),
            _ => Some(NoAdapter::Blocked),
        }
    }

    /// How many links an adapter has, anybody's.
    pub fn links(&self, adapter: &str) -> usize {
        self.devices.iter().filter(|seen| seen.adapter == adapter && seen.is_connected).count()
    }
}

impl AdapterSeen {
    fn is(&self, choice: &AdapterChoice) -> bool {
        match choice {
            AdapterChoice::Name(name) => *name == self.name,
            AdapterChoice::Address(address) => *address == self.address,
        }
    }
}

fn adapter(path: &str, found: &PropMap) -> Option<AdapterSeen> {
    let power = match flag(found, "Powered") {
        true => Power::On,
        false if text(found, "PowerState") == Some("off-blocked") || is_blocked(path) => Power::Blocked,
        false => Power::Off,
    };
    let (name, is_discovering) = (path.to_owned(), flag(found, "Discovering"));
    Some(AdapterSeen { name, address: text(found, "Address")?.parse().ok()?, power, is_discovering })
}

fn device(path: &str, found: &PropMap) -> Option<Seen> {
    let (adapter, object) = path.split_once("/dev_")?;
    let services = prop_cast::<Vec<String>>(found, "UUIDs").into_iter().flatten();
    let mut services: Vec<String> = services.map(|uuid| short_uuid(uuid)).collect();
    services.sort();
    Some(Seen {
        adapter: adapter.to_owned(),
        object: object.replace('_', ":").parse().ok()?,
        address: text(found, "Address")?.parse().ok()?,
        is_random: text(found, "AddressType").is_some_and(|kind| kind == "random"),
        name: text(found, "Name").map(str::to_owned),
        rssi: prop_cast(found, "RSSI").copied(),
        is_connected: flag(found, "Connected"),
        is_paired: flag(found, "Paired"),
        services,
    })
}

fn text<'a>(properties: &'a PropMap, name: &str) -> Option<&'a str> {
    properties.get(name).and_then(|value| value.0.as_str())
}

fn flag(properties: &PropMap, name: &str) -> bool {
    prop_cast(properties, name).copied().unwrap_or(false)
}

/// `180d` for a UUID that the SIG assigned, the whole of any other.
fn short_uuid(text: &str) -> String {
    let short = text.parse::<Uuid>().ok().and_then(|uuid| uuid.as_u16());
    short.map_or_else(|| text.to_owned(), |short| format!("{short:04x}"))
}
