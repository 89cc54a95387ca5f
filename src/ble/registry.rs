//! What the gateway keeps of each sensor's device, in a file beside the queue, or inside where that place cannot be
//! written (a mount point's): addresses do not leave it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use super::identity::{Known, Seen};
use crate::blocking;
use crate::config::Address;
use crate::heart_rate::BodySensorLocation;
use crate::private;
use crate::queue::folder::SENSORS;
use crate::reading::{BootId, SensorId};

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
    /// one of these. None where the kernel lists none.
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
    /// The devices whose bond this gateway made.
    bonds: BTreeSet<Address>,
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
    /// Where it is written: in the first of them that can be. None where what is there could not be read: that
    /// stays for whoever makes it readable.
    places: Vec<PathBuf>,
    kept: Kept,
    /// The links that this very process made.
    made_here: BTreeSet<Address>,
    /// Whether the last writing failed: said once.
    unwritten: bool,
}

impl Registry {
    /// The registry of the gateway whose queue is at `queue_path`. A damaged one is set aside, and one that cannot
    /// be read is left alone; that is said, and each sensor then takes the device that its configuration names,
    /// as at the first start.
    pub fn open(queue_path: &Path) -> Self {
        let mut places = places(queue_path).to_vec();
        let mut newest = Kept::default();
        for place in places.clone() {
            match read(&place) {
                Ok(kept) if kept.turn >= newest.turn => newest = kept,
                Ok(_older) => {}
                Err(found) => {
                    let what = match is_damage(&found) {
                        true => set_aside(&place),
                        false => {
                            places.clear();
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
        Self::with(places, newest)
    }

    /// The same for a command: one that cannot be read is left as it is.
    pub fn read(queue_path: &Path) -> io::Result<Self> {
        let places = places(queue_path).to_vec();
        let kept = places.iter().map(|place| read(place)).collect::<io::Result<Vec<_>>>()?;
        let newest = kept.into_iter().max_by_key(|kept| kept.turn);
        Ok(Self::with(places, newest.unwrap_or_default()))
    }

    fn with(places: Vec<PathBuf>, kept: Kept) -> Self {
        let state = State { places, kept, made_here: BTreeSet::new(), unwritten: false };
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

    /// `seen` was connected to as the device of `sensor`: it may show another name from now on.
    pub async fn try_device(&self, sensor: &SensorId, seen: &Seen) {
        let (sensor, seen) = (sensor.clone(), seen.clone());
        self.update_soon(move |kept| {
            if kept.devices.get(&sensor).is_some_and(|known| known.is(&seen)) {
                return;
            }
            match kept.tried.get_mut(&sensor).filter(|tried| tried.is(&seen)) {
                Some(tried) => tried.update(&seen),
                None => _ = kept.tried.insert(sensor, Known::new(&seen)),
            }
        })
        .await;
    }

    /// From now on the device of `sensor` is `seen`; durable on return, or that it is not was said.
    pub async fn take(&self, sensor: &SensorId, seen: Seen, discovered: bool) -> Taken {
        let sensor = sensor.clone();
        self.update_soon(move |kept| {
            let tried = kept.tried.remove(&sensor).filter(|tried| tried.is(&seen));
            let before = kept.devices.remove(&sensor);
            let is_other = before.as_ref().is_some_and(|known| !known.is(&seen));
            let mut known = before.filter(|_| !is_other).or(tried).unwrap_or_else(|| Known::new(&seen));
            known.update(&seen);
            known.begins_session |= is_other;
            (known.released, known.discovered, known.turn) = (false, discovered, kept.turn);
            let taken = Taken { replaced: known.begins_session, location: known.location };
            if discovered {
                kept.make_room_for_discovered();
            }
            kept.devices.insert(sensor, known);
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
    pub async fn follow(&self, sensor: &SensorId, before: Seen, now: Seen) {
        let sensor = sensor.clone();
        self.update_soon(move |kept| {
            let known = kept.devices.get_mut(&sensor).filter(|known| known.is(&before));
            known.into_iter().for_each(|known| known.update(&now));
            let tried = kept.tried.get_mut(&sensor).filter(|tried| tried.is(&before));
            tried.into_iter().for_each(|tried| tried.update(&now));
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
        let left = || {
            let made = state.kept.links.get(&device);
            made.is_some_and(|made| {
                let stands = made.connections.iter().any(|made| now.connections.contains(made));
                made.is_of_same_run(now) && (stands || made.connections.is_empty())
            })
        };
        state.made_here.contains(&device) || left()
    }

    /// Notes that this gateway made a link.
    pub async fn note_link(&self, device: Address, link: MadeLink) {
        self.state().made_here.insert(device);
        self.update_soon(move |kept| {
            kept.links.retain(|_, made| made.is_of_same_run(&link));
            kept.links.insert(device, link);
        })
        .await;
    }

    /// Notes that a link of this gateway's, if there was one, is over.
    pub async fn note_no_link(&self, device: Address) {
        self.state().made_here.remove(&device);
        self.update_soon(move |kept| _ = kept.links.remove(&device)).await;
    }

    /// Whether this gateway made the device's bond.
    pub fn has_bond(&self, device: Address) -> bool {
        self.state().kept.bonds.contains(&device)
    }

    /// Notes that this gateway made the device's bond, or that there is none of its own.
    pub async fn note_bond(&self, device: Address, bonded: bool) {
        self.update_soon(move |kept| match bonded {
            true => kept.bonds.insert(device),
            false => kept.bonds.remove(&device),
        })
        .await;
    }

    /// Lets go of the device of `sensor`; whether there was one. Blocks on the disk.
    pub fn release(&self, sensor: &SensorId) -> bool {
        self.update(|kept| {
            let known = kept.devices.get_mut(sensor);
            known.is_some_and(|known| !std::mem::replace(&mut known.released, true))
        })
    }

    /// Goes with the queue to another place. Blocks on the disk.
    pub fn move_to(&self, queue_path: &Path) {
        let places = places(queue_path).to_vec();
        let before = std::mem::replace(&mut self.state().places, places.clone());
        if before != places {
            self.write();
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
        let (result, changed) = {
            let mut state = self.state();
            let before = state.kept.clone();
            let result = change(&mut state.kept);
            (result, state.kept != before || state.unwritten)
        };
        if changed {
            self.write();
        }
        result
    }

    /// Writes what is kept by then.
    fn write(&self) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (places, kept) = {
            let mut state = self.state();
            state.kept.turn += 1;
            (state.places.clone(), state.kept.clone())
        };
        let Some(written) = write_to_first(&places, &kept) else { return };
        let was_unwritten = std::mem::replace(&mut self.state().unwritten, written.is_err());
        if let Err(error) = written
            && !was_unwritten
        {
            let path = places[0].display();
            warn!(%error, "which device each sensor is could not be written to {path}; held in memory meanwhile");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Beside the queue's folder, and inside.
fn places(queue_path: &Path) -> [PathBuf; 2] {
    let mut name = queue_path.file_name().unwrap_or_default().to_owned();
    name.push(".sensors");
    [queue_path.with_file_name(name), queue_path.join(SENSORS)]
}

fn read(path: &Path) -> io::Result<Kept> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Kept::default()),
        Err(error) => Err(error),
    }
}

/// Whether the file was read and is none of ours, or half of one.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// Moves a damaged file away; says what became of it.
fn set_aside(path: &Path) -> String {
    let mut aside = path.to_owned().into_os_string();
    aside.push(".damaged");
    match std::fs::rename(path, &aside) {
        Ok(()) => format!("the file was set aside as {}", Path::new(&aside).display()),
        Err(failed) => format!("the file was not even moved away ({failed})"),
    }
}

/// Where it can be written; the first failure where it cannot be anywhere, nothing where there is no place.
fn write_to_first(places: &[PathBuf], kept: &Kept) -> Option<io::Result<()>> {
    let mut results = places.iter().map(|place| write(place, kept));
    let first = results.next()?;
    Some(first.or_else(|failed| results.find_map(Result::ok).ok_or(failed)))
}

fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    let mut file = private::NewFile::create(path)?;
    file.write_all(&serde_json::to_vec_pretty(kept)?)?;
    file.finish()
}
