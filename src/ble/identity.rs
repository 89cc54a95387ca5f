//! Which device a sensor is. Pure.
//!
//! A name is no identity: it is not unique, it begins like another, and BlueZ shows the GAP name in place of
//! the advertised one after the first link. So the device that a sensor was once found as is kept
//! ([`Known`]), and what only has its name is another's: whose heart it would measure, nobody knows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::{Address, Fit, Follow, NamePattern, SensorConfig};
use crate::heart_rate::BodySensorLocation;
use crate::reading::SensorId;

/// Names that are kept of a device, the newest last.
const NAMES_MAX: usize = 4;

/// A device as one adapter shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The adapter's name.
    pub adapter: String,
    /// By which BlueZ calls it: not its `address` where it came to be known by another.
    pub object: Address,
    /// Its address.
    pub address: Address,
    /// Whether the address was made up by the device.
    pub is_random: bool,
    /// Its name: the advertised one, and after a link the GAP name.
    pub name: Option<String>,
    /// How loudly it is heard, dBm; absent while it is not.
    pub rssi: Option<i16>,
    /// Whether anybody has a link to it.
    pub is_connected: bool,
    /// Whether anybody bonded with it.
    pub is_paired: bool,
    /// Its services, as far as they are known.
    pub services: Vec<String>,
}

impl Seen {
    /// Whether it is there now.
    pub fn is_present(&self) -> bool {
        self.rssi.is_some() || self.is_connected
    }

    /// Whether it takes another address every few minutes, which a bond would see through
    /// (Core Specification, Vol 6, Part B, 1.3.2).
    pub fn changes_address(&self) -> bool {
        self.is_random && !self.is_paired && self.address.0[0] >> 6 != 0b11
    }
}

/// What is kept of the device that a sensor is, or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Its address.
    pub address: Address,
    /// The address that it had when it was found: before it bonded, that may have been another.
    pub found_as: Address,
    /// Its names, the newest last.
    pub names: Vec<String>,
    /// Whether it has no address that stays: then it is known by its names.
    pub changes_address: bool,
    /// Where it is worn, if it ever said so.
    pub location: Option<BodySensorLocation>,
    /// Whether no block names it: it was discovered.
    pub discovered: bool,
    /// Whether a person let go of it: the next device that the configuration names takes its place.
    pub released: bool,
    /// The turn of the registry in which it was last taken.
    #[serde(default)]
    pub turn: u64,
    /// Whether it took another's place and no reading of it is in the queue yet: the first begins a session.
    #[serde(default)]
    pub begins_session: bool,
}

impl Known {
    /// A device whose readings are taken from now on.
    pub fn new(seen: &Seen) -> Self {
        let (address, changes_address) = (seen.address, seen.changes_address());
        let mut known = Self {
            address,
            found_as: seen.object,
            names: Vec::new(),
            changes_address,
            location: None,
            discovered: false,
            released: false,
            turn: 0,
            begins_session: false,
        };
        known.note_name(seen.name.as_deref());
        known
    }

    /// Takes what is new about a device that is this one.
    pub fn update(&mut self, seen: &Seen) {
        self.address = seen.address;
        self.changes_address = seen.changes_address();
        self.note_name(seen.name.as_deref());
    }

    /// Whether `seen` is this device, of a sensor whose block has this `name`. One that changes its address is told
    /// by what it is called, as far as its owner chose that: the GAP name of a model says nothing.
    pub fn is(&self, seen: &Seen, name: Option<&NamePattern>) -> bool {
        let is_called_so = |shown: &String| {
            self.names.contains(shown) && name.is_some_and(|pattern| pattern.fit(shown).is_some())
        };
        let by_name = self.changes_address && seen.changes_address();
        self.address == seen.address || by_name && seen.name.as_ref().is_some_and(is_called_so)
    }

    fn note_name(&mut self, name: Option<&str>) {
        let Some(name) = name else { return };
        self.names.retain(|known| known != name);
        self.names.push(name.to_owned());
        let surplus = self.names.len().saturating_sub(NAMES_MAX);
        self.names.drain(..surplus);
    }
}

/// What is there of a sensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Choice<'a> {
    /// It: one device, as each adapter shows it that has it.
    Device(Vec<&'a Seen>),
    /// So many devices, and nobody knows which of them is it.
    Ambiguous(usize),
    /// A device that has its name and is another than the one that is kept.
    Stranger,
    /// A device whose name only begins with the configured one.
    Longer,
    /// Nothing.
    Nothing,
}

/// Who knows which device.
#[derive(Debug, Clone, Copy)]
pub struct Identities<'a> {
    /// The sensors as they are configured.
    pub sensors: &'a [SensorConfig],
    /// The devices that are kept.
    pub known: &'a BTreeMap<SensorId, Known>,
    /// Those that were connected to last, and are not kept (yet).
    pub tried: &'a BTreeMap<SensorId, Known>,
}

/// How strongly a device belongs to a sensor; the stronger is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Beginning(usize),
    /// A name that it showed before.
    Remembered(Fit),
    Name,
    Kept,
    Address,
}

impl Identities<'_> {
    /// What is there of `sensor` among `devices`.
    pub fn choose<'a>(&self, sensor: &SensorConfig, devices: &'a [Seen]) -> Choice<'a> {
        let present = || devices.iter().filter(|seen| seen.is_present());
        let mine: Vec<&Seen> = present().filter(|seen| self.owner(seen) == Some(&sensor.id)).collect();
        let kept = self.kept(sensor);
        let is_kept = |seen: &&&Seen| kept.is_some_and(|known| known.is(seen, sensor.name.as_ref()));
        let those: Vec<&Seen> = match mine.iter().filter(is_kept).copied().collect::<Vec<_>>() {
            those if those.is_empty() => {
                let stays = sensor.address.is_none() && sensor.follow == Follow::Same;
                if stays && kept.is_some() && !mine.is_empty() {
                    return Choice::Stranger;
                }
                mine
            }
            those => those,
        };
        let mut addresses: Vec<Address> = those.iter().map(|seen| seen.address).collect();
        addresses.sort();
        addresses.dedup();
        match addresses.len() {
            0 => {
                let longer = |seen: &Seen| {
                    let names = sensor.name.as_ref().zip(seen.name.as_ref());
                    names.is_some_and(|(want, have)| want.would_fit_as_prefix(have))
                };
                match present().any(|seen| longer(seen) && self.owner(seen).is_none()) {
                    true => Choice::Longer,
                    false => Choice::Nothing,
                }
            }
            1 => Choice::Device(those),
            devices => Choice::Ambiguous(devices),
        }
    }

    /// The sensor whose readings a device's are, or would be.
    pub fn owner(&self, seen: &Seen) -> Option<&SensorId> {
        let claims =
            || self.sensors.iter().filter_map(|sensor| Some((self.claim(sensor, seen)?, &sensor.id)));
        let (best, owner) = claims().max_by_key(|(claim, _)| *claim)?;
        // Of two with the same claim neither has it.
        (claims().filter(|(claim, _)| *claim == best).count() == 1).then_some(owner)
    }

    /// What is kept of `sensor`, unless its configuration names something else by now.
    fn kept(&self, sensor: &SensorConfig) -> Option<&Known> {
        let known = self.known.get(&sensor.id).filter(|known| !known.released)?;
        let is_named = sensor.name.as_ref().is_none_or(|pattern| {
            known.names.is_empty() || known.names.iter().any(|name| pattern.fit(name).is_some())
        });
        is_named.then_some(known)
    }

    fn claim(&self, sensor: &SensorConfig, seen: &Seen) -> Option<Claim> {
        if let Some(address) = sensor.address {
            let known = self.known.get(&sensor.id).filter(|known| known.found_as == address);
            let has_it = address == seen.address || address == seen.object;
            // Not by its name: an address is one device.
            let gave_it = known.is_some_and(|known| known.address == seen.address);
            return (has_it || gave_it).then_some(Claim::Address);
        }
        let pattern = sensor.name.as_ref()?;
        if sensor.follow == Follow::Same
            && self.kept(sensor).is_some_and(|known| known.is(seen, Some(pattern)))
        {
            return Some(Claim::Kept);
        }
        let shown = seen.name.as_ref().and_then(|name| pattern.fit(name)).map(|fit| match fit {
            Fit::Beginning(bytes) => Claim::Beginning(bytes),
            Fit::Whole => Claim::Name,
        });
        // A device may have shown another name before its first link than after it.
        let known = [self.known, self.tried].map(|devices| devices.get(&sensor.id));
        let known = known.into_iter().flatten().filter(|known| known.is(seen, Some(pattern)));
        let remembered = known.flat_map(|known| &known.names).filter_map(|name| pattern.fit(name));
        remembered.map(Claim::Remembered).max().max(shown)
    }
}
