//! What the gateway keeps of each sensor's device, in a file beside the queue: addresses do not leave it.

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
use crate::reading::{BootId, SensorId};

/// The devices by sensor.
pub type Devices = BTreeMap<SensorId, Known>;

/// Most devices that are kept of those that no block names.
const DISCOVERED_MAX: usize = 64;

/// A run of bluetoothd, which no link outlives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The boot.
    pub boot: BootId,
    /// Its name on the bus.
    pub bluetoothd: String,
}

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    devices: Devices,
    /// The links that this gateway made and has not ended: one that a killed process left is still ours.
    links: BTreeMap<Address, Run>,
    /// The devices whose bond this gateway made.
    bonds: BTreeSet<Address>,
}

/// What became of a sensor that took a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Whether it had been another device.
    pub replaced: bool,
    /// Where the device is worn, if that is known.
    pub location: Option<BodySensorLocation>,
}

impl Kept {
    /// Whoever passes by is not remembered for ever.
    fn make_room_for_discovered(&mut self) {
        let mut discovered = self.devices.iter().filter(|(_, known)| known.discovered).map(|(id, _)| id);
        if let Some(one) = discovered.nth(DISCOVERED_MAX - 1).cloned() {
            self.devices.remove(&one);
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
    path: PathBuf,
    kept: Kept,
    /// Whether the last writing failed: said once.
    unwritten: bool,
}

impl Registry {
    /// The registry of the gateway whose queue is at `queue_path`. One that cannot be read is set aside, and
    /// that is said: each sensor then takes the device that its configuration names, as at the first start.
    pub fn open(queue_path: &Path) -> Self {
        let path = path_beside(queue_path);
        let kept = read(&path).unwrap_or_else(|found| {
            let mut aside = path.clone().into_os_string();
            aside.push(".damaged");
            let moved = match std::fs::rename(&path, &aside) {
                Ok(()) => format!("set aside as {}", Path::new(&aside).display()),
                Err(failed) => format!("not even moved away ({failed})"),
            };
            error!(
                error = %found,
                "which device each sensor is cannot be read from {}: the file was {moved}; each sensor takes the device \
                 that its block names, as at its first start: see `hr-gatewayd sensor list`",
                path.display()
            );
            Kept::default()
        });
        Self::with(path, kept)
    }

    /// The same for a command: one that cannot be read is left as it is.
    pub fn read(queue_path: &Path) -> io::Result<Self> {
        let path = path_beside(queue_path);
        let kept = read(&path)?;
        Ok(Self::with(path, kept))
    }

    fn with(path: PathBuf, kept: Kept) -> Self {
        let state = State { path, kept, unwritten: false };
        Self { state: Arc::new(Mutex::new(state)), writing: Arc::default() }
    }

    /// What is kept of all sensors.
    pub fn devices(&self) -> Devices {
        self.state().kept.devices.clone()
    }

    /// What is kept of one.
    pub fn device(&self, sensor: &SensorId) -> Option<Known> {
        self.state().kept.devices.get(sensor).cloned()
    }

    /// From now on the device of `sensor` is `seen`; durable on return, or that it is not was said.
    pub async fn take(&self, sensor: &SensorId, seen: Seen, discovered: bool) -> Taken {
        let sensor = sensor.clone();
        self.update_soon(move |kept| {
            let before = kept.devices.remove(&sensor);
            let replaced = before.as_ref().is_some_and(|known| !known.is(&seen));
            let mut known = before.filter(|_| !replaced).unwrap_or_else(|| Known::new(&seen));
            known.update(&seen);
            (known.released, known.discovered) = (false, discovered);
            let location = known.location;
            if discovered {
                kept.make_room_for_discovered();
            }
            kept.devices.insert(sensor, known);
            Taken { replaced, location }
        })
        .await
    }

    /// The device of `sensor` was `before` and is `now`: it gave its address by bonding.
    pub async fn follow(&self, sensor: &SensorId, before: Seen, now: Seen) {
        let sensor = sensor.clone();
        self.update_soon(move |kept| {
            let known = kept.devices.get_mut(&sensor).filter(|known| known.is(&before));
            known.into_iter().for_each(|known| known.update(&now));
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

    /// Whether this gateway made a link to the device in this run, and has not ended it.
    pub fn has_link(&self, device: Address, run: &Run) -> bool {
        self.state().kept.links.get(&device) == Some(run)
    }

    /// Notes that this gateway made a link, or that it is over.
    pub async fn note_link(&self, device: Address, run: Option<Run>) {
        self.update_soon(move |kept| {
            kept.links.retain(|_, made_in| run.as_ref().is_none_or(|run| made_in == run));
            match run {
                Some(run) => _ = kept.links.insert(device, run),
                None => _ = kept.links.remove(&device),
            }
        })
        .await;
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
        let path = path_beside(queue_path);
        let before = std::mem::replace(&mut self.state().path, path.clone());
        if before != path {
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
        let (path, kept) = {
            let state = self.state();
            (state.path.clone(), state.kept.clone())
        };
        let written = write(&path, &kept);
        let was_unwritten = std::mem::replace(&mut self.state().unwritten, written.is_err());
        if let Err(error) = written
            && !was_unwritten
        {
            let path = path.display();
            warn!(%error, "which device each sensor is could not be written to {path}; held in memory meanwhile");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn path_beside(queue_path: &Path) -> PathBuf {
    let mut name = queue_path.file_name().unwrap_or_default().to_owned();
    name.push(".sensors");
    queue_path.with_file_name(name)
}

fn read(path: &Path) -> io::Result<Kept> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Kept::default()),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    let mut file = private::NewFile::create(path)?;
    file.write_all(&serde_json::to_vec_pretty(kept)?)?;
    file.finish()
}
