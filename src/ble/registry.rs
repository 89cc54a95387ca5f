//! What the gateway keeps of each sensor's device, in a file beside the queue, or inside where that place cannot be
//! written (a mount point's): addresses do not leave it.

mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use super::identity::{Known, Seen};
use crate::blocking;
use crate::config::{Address, SensorConfig};
use crate::heart_rate::BodySensorLocation;
use crate::reading::{BootId, SensorId};
use file::{is_damage, newer, places, read, set_aside, write_to_first};

/// The devices by sensor.
pub type Devices = BTreeMap<SensorId, Known>;

/// Most devices that are kept of those that no block names.
const DISCOVERED_MAX: usize = 64;

/// A link that this gateway made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeLink {
    /// The boot.
    pub boot: BootId,
    /// The name on the bus of the bluetoothd that has it: no link outlives it.
    pub bluetoothd: String,
    /// What the kernel numbered while the link came up, and will not number so again in this boot: the link is
    /// one of these. Empty where the kernel lists none.
    #[serde(default)]
    pub connections: Vec<u64>,
}

impl MadeLink {
    fn is_of_same_run(&self, other: &Self) -> bool {
        (self.boot, &self.bluetoothd) == (other.boot, &other.bluetoothd)
    }
}

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    /// How often it was written: of two files the one that was written more often is the newer.
    turn: u64,
    devices: Devices,
    /// The devices that were connected to last and are not kept (yet).
    tried: Devices,
    /// The links that this gateway made and has not ended: one that a killed process left is still ours.
    links: BTreeMap<Address, MadeLink>,
    /// The bonds that this gateway made, by adapter and device.
    made_bonds: BTreeSet<(Address, Address)>,
}

/// What became of a sensor that took a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Whether it was another device when the queue had its last reading.
    pub replaced: bool,
    /// Where the device is worn, if that is known.
    pub location: Option<BodySensorLocation>,
}

impl Kept {
    /// Whoever passes by is not remembered for ever: who was taken longest ago goes.
    fn make_room_for_discovered(&mut self) {
        let discovered: Vec<_> = self.devices.iter().filter(|(_, known)| known.discovered).collect();
        if discovered.len() >= DISCOVERED_MAX {
            let oldest = discovered.iter().min_by_key(|(_, known)| known.turn);
            let id = oldest.map(|(id, _)| (*id).clone()).expect("there are many");
            self.devices.remove(&id);
        }
    }
}

/// The file and what is in it. Clones share it.
#[derive(Debug, Clone)]
pub struct Registry {
    state: Arc<Mutex<State>>,
    /// Held while it is written, which may take long: who only asks does not wait for it.
    writing: Arc<Mutex<()>>,
}

#[derive(Debug)]
struct State {
    queue_path: PathBuf,
    /// Whether what is there could not be read: it stays for whoever makes it readable.
    is_barred: bool,
    kept: Kept,
    /// Whether the last writing failed: said once.
    unwritten: bool,
}

impl Registry {
    /// The registry of the gateway whose queue is at `queue_path`. A damaged one is set aside, and one that cannot
    /// be read is left alone; that is said, and each sensor then takes the device that its configuration names,
    /// as at the first start.
    pub fn open(queue_path: &Path) -> Self {
        let mut is_barred = false;
        let mut newest = None;
        for place in places(queue_path) {
            match read(&place) {
                Ok(kept) => newest = newer(newest, kept),
                Err(found) => {
                    let what = match is_damage(&found) {
                        true => set_aside(&place),
                        false => {
                            is_barred = true;
                            "nothing is written meanwhile; make it readable and restart the gateway"
                                .to_owned()
                        }
                    };
                    error!(
                        error = %found,
                        "which device each sensor is cannot be read from {}: {what}; each sensor takes the device that \
                         its block names, as at its first start: see `hr-gatewayd sensor list`",
                        place.display()
                    );
                }
            }
        }
        Self::with(queue_path, newest, is_barred)
    }

    /// The same for a command: one that cannot be read is left as it is.
    pub fn read(queue_path: &Path) -> io::Result<Self> {
        let kept = places(queue_path).iter().try_fold(None, |newest, place| Ok(newer(newest, read(place)?)));
        kept.map(|kept| Self::with(queue_path, kept, false))
    }

    fn with(queue_path: &Path, kept: Option<Kept>, is_barred: bool) -> Self {
        let (queue_path, kept) = (queue_path.to_owned(), kept.unwrap_or_default());
        let state = State { queue_path, is_barred, kept, unwritten: false };
        Self { state: Arc::new(Mutex::new(state)), writing: Arc::default() }
    }

    /// What is kept of all sensors.
    pub fn devices(&self) -> Devices {
        self.state().kept.devices.clone()
    }

    /// What is kept of all sensors, and the devices that were only tried.
    pub fn devices_and_tried(&self) -> (Devices, Devices) {
        let state = self.state();
        (state.kept.devices.clone(), state.kept.tried.clone())
    }

    /// What is kept of one.
    pub fn device(&self, sensor: &SensorId) -> Option<Known> {
        self.state().kept.devices.get(sensor).cloned()
    }

    /// `seen` was connected to as the device of `sensor`: where that goes by the name, it may show another from now on.
    pub async fn try_device(&self, sensor: &SensorConfig, seen: &Seen) {
        let (id, name, seen) = (sensor.id.clone(), sensor.name.clone(), seen.clone());
        if name.is_none() {
            return;
        }
        self.update_soon(move |kept| {
            if kept.devices.get(&id).is_some_and(|known| known.is(&seen, name.as_ref())) {
                return;
            }
            match kept.tried.get_mut(&id).filter(|tried| tried.is(&seen, name.as_ref())) {
                Some(tried) => tried.update(&seen),
                None => _ = kept.tried.insert(id, Known::new(&seen)),
            }
        })
        .await;
    }

    /// From now on the device of `sensor` is `seen`; durable on return, or that it is not was said.
    pub async fn take(&self, sensor: &SensorConfig, seen: Seen, discovered: bool) -> Taken {
        let (id, name) = (sensor.id.clone(), sensor.name.clone());
        self.update_soon(move |kept| {
            let tried = kept.tried.remove(&id).filter(|tried| tried.is(&seen, name.as_ref()));
            let before = kept.devices.remove(&id);
            // Who let go of a device means another, though it be called the same.
            let is_it = |known: &Known| known.is(&seen, name.as_ref().filter(|_| !known.released));
            let is_other = before.as_ref().is_some_and(|known| !is_it(known));
            let mut known = before.filter(|_| !is_other).or(tried).unwrap_or_else(|| Known::new(&seen));
            known.update(&seen);
            known.begins_session |= is_other;
            (known.released, known.discovered, known.turn) = (false, discovered, kept.turn);
            let taken = Taken { replaced: known.begins_session, location: known.location };
            if discovered {
                kept.make_room_for_discovered();
            }
            kept.devices.insert(id, known);
            taken
        })
        .await
    }

    /// A session of `sensor` began and is in the queue. Does not wait for the disk: a session too many is no harm.
    pub fn note_session(&self, sensor: &SensorId) {
        if self.device(sensor).is_some_and(|known| known.begins_session) {
            let (registry, sensor) = (self.clone(), sensor.clone());
            blocking::start(move || {
                registry.update(|kept| {
                    let known = kept.devices.get_mut(&sensor);
                    known.into_iter().for_each(|known| known.begins_session = false);
                });
            });
        }
    }

    /// The device of `sensor` was `before` and is `now`: it gave its address by bonding.
    pub async fn follow(&self, sensor: &SensorConfig, before: Seen, now: Seen) {
        let (id, name) = (sensor.id.clone(), sensor.name.clone());
        self.update_soon(move |kept| {
            let known = [kept.devices.get_mut(&id), kept.tried.get_mut(&id)];
            let those = known.into_iter().flatten().filter(|known| known.is(&before, name.as_ref()));
            those.for_each(|known| known.update(&now));
        })
        .await;
    }

    /// Where the device of `sensor` is worn.
    pub async fn note_location(&self, sensor: &SensorId, location: Option<BodySensorLocation>) {
        let sensor = sensor.clone();
        self.update_soon(move |kept| {
            let known = kept.devices.get_mut(&sensor);
            known.into_iter().for_each(|known| known.location = location);
        })
        .await;
    }

    /// Whether a link to the device that stands is one that this gateway made. `now` is how a link would be that
    /// it makes now, and the connections that the kernel has now.
    pub fn has_link(&self, device: Address, now: &MadeLink) -> bool {
        let state = self.state();
        let made = state.kept.links.get(&device).filter(|made| made.is_of_same_run(now));
        // All of them: some may have been made by others in the same moment, and that one be gone which was ours.
        made.is_some_and(|made| made.connections.iter().all(|made| now.connections.contains(made)))
    }

    /// Notes that this gateway made a link.
    pub async fn note_link(&self, device: Address, link: MadeLink) {
        self.update_soon(move |kept| {
            kept.links.retain(|_, made| made.is_of_same_run(&link));
            kept.links.insert(device, link);
        })
        .await;
    }

    /// Notes that a link of this gateway's, if there was one, is over.
    pub async fn note_no_link(&self, device: Address) {
        self.update_soon(move |kept| _ = kept.links.remove(&device)).await;
    }

    /// Whether this gateway made the device's bond with the adapter.
    pub fn has_bond(&self, adapter: Address, device: Address) -> bool {
        self.state().kept.made_bonds.contains(&(adapter, device))
    }

    /// Notes that this gateway made it, or that there is none of its own.
    pub async fn note_bond(&self, adapter: Address, device: Address, bonded: bool) {
        self.update_soon(move |kept| match bonded {
            true => kept.made_bonds.insert((adapter, device)),
            false => kept.made_bonds.remove(&(adapter, device)),
        })
        .await;
    }

    /// Lets go of the device of `sensor`; whether there was one. Blocks on the disk. An error says that it was
    /// let go of until this process ends.
    pub fn release(&self, sensor: &SensorId) -> io::Result<bool> {
        let (released, written) = self.change(|kept| {
            let known = kept.devices.get_mut(sensor);
            known.is_some_and(|known| !std::mem::replace(&mut known.released, true))
        });
        written.map(|()| released)
    }

    /// Goes with the queue to another place. Blocks on the disk.
    pub fn move_to(&self, queue_path: &Path) {
        let moved = {
            let mut state = self.state();
            let moved = state.queue_path != queue_path;
            state.is_barred &= !moved;
            state.queue_path = queue_path.to_owned();
            moved
        };
        if moved {
            self.say_whether(&self.write());
        }
    }

    async fn update_soon<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Kept) -> T + Send + 'static,
    ) -> T {
        let registry = self.clone();
        blocking::run(move || registry.update(change)).await
    }

    fn update<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> T {
        let (result, written) = self.change(change);
        self.say_whether(&written);
        result
    }

    fn change<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> (T, io::Result<()>) {
        let (result, changed) = {
            let mut state = self.state();
            let before = state.kept.clone();
            let result = change(&mut state.kept);
            (result, state.kept != before || state.unwritten)
        };
        (result, if changed { self.write() } else { Ok(()) })
    }

    /// Writes what is kept by then.
    fn write(&self) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (places, kept) = {
            let mut state = self.state();
            if state.is_barred {
                return Ok(());
            }
            state.kept.turn += 1;
            (places(&state.queue_path), state.kept.clone())
        };
        write_to_first(&places, &kept)
    }

    /// Says it, if that is new.
    fn say_whether(&self, written: &io::Result<()>) {
        let was_unwritten = std::mem::replace(&mut self.state().unwritten, written.is_err());
        if let Err(error) = written
            && !was_unwritten
        {
            let path = places(&self.state().queue_path)[0].display().to_string();
            warn!(%error, "which device each sensor is could not be written to {path}; held in memory meanwhile");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
