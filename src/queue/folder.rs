//! The queue's folder: locked while a store in it is open, and emptied when that is damaged.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::FlockOperation;

use super::QueueError;
use super::sled::storage;
use super::witness;
use crate::private;

/// What the name of a folder ends with, or begins with inside a mount point, into which a damaged store was moved.
const ASIDE: &str = "damaged-";
/// What the gateway keeps in here of its sensors, where it cannot keep it beside.
pub const SENSORS: &str = "hr-gatewayd.sensors";
/// The store itself, as sled calls it.
pub const STORE: &str = "db";
/// A helper that is just being started holds, for a moment, the files that we have open, and their locks; and so
/// do the threads of a store that was just closed.
pub const LOCK_TRIES: u32 = 20;
/// Between two of them.
pub const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A queue's folder, which no other process uses meanwhile.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Takes the folder at `path`, creating it.
    pub fn take(path: &Path) -> Result<Self, QueueError> {
        private::create_folders(path).map_err(storage("create its folder"))?;
        private::restrict_folder(path).map_err(storage("restrict its folder to its owner"))?;
        Self::take_existing(path)
    }

    /// Takes the folder at `path` as it is.
    pub fn take_existing(path: &Path) -> Result<Self, QueueError> {
        // What is moved aside is the folder, not a link to it.
        let path = path.canonicalize().map_err(storage("find its folder"))?;
        let mut tries = 0;
        loop {
            match lock(&path).map_err(storage("lock its folder"))? {
                Some(lock) => return Ok(Self { path, _lock: lock }),
                None if tries == LOCK_TRIES => return Err(QueueError::InUse(path)),
                None => tries += 1,
            }
            std::thread::sleep(LOCK_PAUSE);
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves all that is in it to a folder beside it; where that cannot be (it is a mount point, or the folder
    /// above is not ours), to one inside. It is then empty, but for the witness and [`SENSORS`] in the
    /// latter case.
    pub fn move_aside(&mut self) -> Result<PathBuf, QueueError> {
        let moved = self.try_move_aside().map_err(storage("set a damaged store aside"))?;
        if !moved.starts_with(&self.path) {
            *self = Self::take(&self.path)?;
        }
        Ok(moved)
    }

    fn try_move_aside(&self) -> io::Result<PathBuf> {
        let path = &self.path;
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        let free = |name_at: &dyn Fn(u64) -> PathBuf| {
            let mut names = (0..).map(|n| name_at(seconds + n));
            names.find(|name| !name.exists()).expect("some second is free")
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let beside = free(&|second| path.with_file_name(format!("{name}.{ASIDE}{second}")));
        if std::fs::rename(path, &beside).is_ok() {
            return Ok(beside);
        }
        let inside = free(&|second| path.join(format!("{ASIDE}{second}")));
        private::create_folder(&inside)?;
        // Stays too, to tell a new store whose successor it is, should this be cut short.
        let witness = path.join(witness::INSIDE);
        if witness.exists() {
            std::fs::copy(&witness, inside.join(witness::INSIDE))?;
        }
        // The store first: what is left without it is of no use to any opening.
        let mut entries = vec![path.join(STORE)];
        for entry in std::fs::read_dir(path)? {
            entries.push(entry?.path());
        }
        for from in entries {
            let name = from.file_name().unwrap_or_default().to_owned();
            let is_no_part = ["lost+found", SENSORS].iter().any(|other| name == *other);
            let stays = name.to_string_lossy().starts_with(ASIDE) || is_no_part || from == witness;
            if stays {
                continue;
            }
            match std::fs::rename(&from, inside.join(name)) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                moved => moved?,
            }
        }
        Ok(inside)
    }
}

/// `None` if another process has it, or it was moved aside just now.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let folder = File::open(path)?;
    match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        locked => locked?,
    }
    let (ours, there) = (folder.metadata()?, path.metadata()?);
    Ok(((ours.dev(), ours.ino()) == (there.dev(), there.ino())).then_some(folder))
}

/// The folders that damaged stores of the queue in folder `path` were moved to, oldest first.
pub fn set_aside(path: &Path) -> io::Result<Vec<PathBuf>> {
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut folders = Vec::new();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    for (place, prefix) in [(path.parent(), format!("{name}.{ASIDE}")), (Some(path), ASIDE.to_owned())] {
        let entries = match place.map(std::fs::read_dir) {
            Some(Err(error)) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.transpose()?,
        };
        for entry in entries.into_iter().flatten() {
            let entry = entry?.path();
            let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // Without a store, all that is there are leftovers of a move that was cut short.
            let is_one = name.starts_with(&prefix) && entry.join(STORE).exists();
            folders.extend(is_one.then_some(entry));
        }
    }
    folders.sort();
    Ok(folders)
}
