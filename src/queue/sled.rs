//! The store beneath the queue. The only file that names sled.
//!
//! sled 0.34's `flush` calls `sync_file_range`, which is no fsync: a power cut takes what it
//! "flushed" (6 of 6 cuts, up to 12,070 records at once). Durable is `flush`, then `fdatasync` on a
//! handle of our own to sled's one file; with it none was lost in 38 cuts. So [`Store::sync`] is the
//! only way to durability here, and the lints ban the other.

use std::fs::File;
use std::io::{self, Write};
use std::ops::RangeBounds;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

use super::QueueError;
use super::folder::{Folder, LOCK_PAUSE, LOCK_TRIES, STORE};
use super::salvage::{Condition, condition, is_unreadable};
use crate::fault;

/// sled's page cache. Its default is 1 GB; the queue is read once, in order, so little helps as much.
const CACHE_BYTES: u64 = 2 << 20;
/// How often sled's own thread writes out and collects garbage. Its default of 500 ms would fsync an
/// SD card twice a second for nothing; turned off, the file would never shrink inside.
const HOUSEKEEPING_MS: u64 = 5_000;
/// Beside the store: says that it once was described, and with which format; the package's `preinst`
/// reads it, to refuse a version that would not read the store.
const DESCRIBED_MARK: &str = "hr-gatewayd.described";
/// Beside the store: says that it is damaged and must not be opened again.
const DAMAGED_MARK: &str = "hr-gatewayd.damaged";

/// An ordered map of bytes with atomic batches.
pub(super) struct Store {
    db: ::sled::Db,
    file: File,
    /// After the others: nobody else opens it before they are closed.
    folder: Folder,
}

/// A value as the store hands it out, without copying.
pub(super) type Value = ::sled::IVec;

/// Writes that happen together or not at all: `None` removes.
#[derive(Default)]
pub(super) struct Writes(::sled::Batch);

impl Writes {
    /// Sets `key`, whatever was there.
    pub(super) fn insert(&mut self, key: impl AsRef<[u8]>, value: Vec<u8>) {
        self.0.insert(key.as_ref(), value);
    }

    /// Removes `key`, if it is there.
    pub(super) fn remove(&mut self, key: impl AsRef<[u8]>) {
        self.0.remove(key.as_ref());
    }
}

impl Store {
    /// Opens the store in `folder`, creating it. A damaged one is moved aside, never deleted: where to
    /// is returned, and a new one begins: see [`is_damaged`]. As damaged counts also one that was
    /// [described](Self::describe) and has no `description` any more: sled takes a file of zeros for a
    /// new one.
    pub(super) fn open(
        mut folder: Folder,
        description: &[u8],
        is_whole: impl FnOnce(&Path) -> Result<bool, QueueError>,
    ) -> Result<(Self, Option<PathBuf>), QueueError> {
        let mut set_aside = None;
        if is_damaged(folder.path(), is_whole)? {
            set_aside = Some(folder.move_aside()?);
        }
        let db = match open_intact(folder.path(), description) {
            Ok(db) => db,
            Err(Unopened::Damaged) => {
                set_aside = Some(folder.move_aside()?);
                open_db(folder.path()).map_err(storage("begin a new store"))?
            }
            Err(Unopened::Refused(error)) => return Err(error),
        };
        let path = folder.path();
        let file = File::open(path.join(STORE)).map_err(storage("open its store's file"))?;
        // sled writes it once and never syncs it; a cut while the kernel did so itself, half a minute later,
        // left zeros, with which no store opens.
        File::open(path.join("conf"))
            .and_then(|parameters| parameters.sync_all())
            .map_err(storage("sync its store's parameters"))?;
        // A new file is only as durable as its name, and sled syncs no folder.
        for folder in [Some(path), path.parent()].into_iter().flatten() {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(storage("sync its folder"))?;
        }
        Ok((Self { db, file, folder }, set_aside))
    }

    /// Opens the store in `folder` as it is: creates nothing and moves nothing aside.
    pub(super) fn open_existing(folder: Folder) -> Result<Self, QueueError> {
        let file = File::open(folder.path().join(STORE)).map_err(storage("find its store"))?;
        let db = open_db(folder.path()).map_err(|error| refusal(folder.path(), error))?;
        Ok(Self { db, file, folder })
    }

    /// Notes outside the store that it has a description from now on, and its format.
    pub(super) fn describe(&self, format: u8) -> Result<(), QueueError> {
        let noted = std::fs::read_to_string(self.folder.path().join(DESCRIBED_MARK));
        if noted.is_ok_and(|noted| noted.trim() == format.to_string()) {
            return Ok(());
        }
        File::create(self.folder.path().join(DESCRIBED_MARK))
            .and_then(|mut mark| {
                writeln!(mark, "{format}")?;
                mark.sync_all()
            })
            .and_then(|()| File::open(self.folder.path())?.sync_all())
            .map_err(storage("describe itself"))
    }

    /// The value at `key`.
    pub(super) fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>, QueueError> {
        self.db.get(key).map_err(|error| self.failure("read", error))
    }

    /// The entries in a range of keys, in order. sled's way back is not offered: it carries a constant
    /// of a megabyte into the program.
    pub(super) fn range<K: AsRef<[u8]>>(
        &self,
        range: impl RangeBounds<K>,
    ) -> impl Iterator<Item = Result<(Value, Value), QueueError>> {
        self.db.range(range).map(|entry| entry.map_err(|error| self.failure("read", error)))
    }

    /// Applies all of `writes` atomically. Not durable until [`sync`](Self::sync).
    pub(super) fn apply(&self, writes: Writes) -> Result<(), QueueError> {
        self.db.apply_batch(writes.0).map_err(|error| self.failure("write", error))
    }

    /// Makes everything applied so far survive a power cut.
    #[expect(clippy::disallowed_methods, reason = "the one place that adds the fdatasync it lacks")]
    pub(super) fn sync(&self) -> Result<(), QueueError> {
        self.db.flush().map_err(storage("write out"))?;
        if fault::injected("no-second-sync") {
            return Ok(());
        }
        self.file.sync_data().map_err(storage("sync"))
    }

    /// The queue's error for sled's. Damage is noted, so that the next start sets the store aside
    /// instead of meeting it again.
    fn failure(&self, operation: &'static str, error: ::sled::Error) -> QueueError {
        if tells_of_damage(&error)
            && let Err(error) = self.mark_damaged()
        {
            return error;
        }
        storage(operation)(error)
    }

    /// Bytes free to us on the file system that holds the store. An error if it is read-only: it can
    /// become so under open files, and ext4's fdatasync then returns at once and without one.
    pub(super) fn free_bytes(&self) -> Result<u64, QueueError> {
        let stat = rustix::fs::statvfs(self.folder.path()).map_err(storage("ask for free disk space"))?;
        if stat.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Err(storage("write to its disk")("the file system is read-only"));
        }
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Has the next [`open`](Self::open) set this store aside.
    pub(super) fn mark_damaged(&self) -> Result<(), QueueError> {
        File::create(self.folder.path().join(DAMAGED_MARK))
            .and_then(|mark| mark.sync_all())
            .map_err(storage("mark itself as damaged"))
    }
}

fn open_db(path: &Path) -> Result<::sled::Db, ::sled::Error> {
    let config =
        ::sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(Some(HOUSEKEEPING_MS));
    let mut tries = 0;
    loop {
        // sled panics on some damage instead of returning it.
        let opened = std::panic::catch_unwind(AssertUnwindSafe(|| config.open()))
            .unwrap_or_else(|_| Err(::sled::Error::ReportableBug("sled panicked while opening".into())));
        match opened {
            Err(::sled::Error::Io(error)) if is_in_use(&error) && tries < LOCK_TRIES => tries += 1,
            opened => return opened,
        }
        std::thread::sleep(LOCK_PAUSE);
    }
}

fn is_in_use(error: &io::Error) -> bool {
    error.to_string().contains("lock")
}

/// Whether the store at `path` must not be opened: it was [marked](Store::mark_damaged), or sled would take
/// damage inside its log for the log's end, and write over what follows. `is_whole` looks closely at one that
/// has a hole where a power cut may have left it.
pub(super) fn is_damaged(
    path: &Path,
    is_whole: impl FnOnce(&Path) -> Result<bool, QueueError>,
) -> Result<bool, QueueError> {
    // Moving it aside was cut short, where there is only what stood beside it.
    let is_gone = path.join(DESCRIBED_MARK).exists() && !path.join(STORE).exists();
    if is_gone || path.join(DAMAGED_MARK).exists() {
        return Ok(true);
    }
    match condition(path).map_err(storage("read its store"))? {
        Condition::Whole => Ok(false),
        Condition::Damaged => Ok(true),
        Condition::Torn => Ok(!is_whole(path)?),
    }
}

/// Why a store did not open.
enum Unopened {
    Damaged,
    Refused(QueueError),
}

/// The queue's error for one of sled's while opening.
fn refusal(path: &Path, error: ::sled::Error) -> QueueError {
    match error {
        ::sled::Error::Io(error) if is_in_use(&error) => QueueError::InUse(path.to_owned()),
        error => storage("open its store")(error),
    }
}

/// Whether it is the store that is bad: what sled cannot make sense of, or what the disk does not give back.
fn tells_of_damage(error: &::sled::Error) -> bool {
    match error {
        ::sled::Error::Corruption { .. } | ::sled::Error::ReportableBug(_) => true,
        ::sled::Error::Io(error) => error.kind() == io::ErrorKind::InvalidData || is_unreadable(error),
        _ => false,
    }
}

/// Opens the store at `path` if it can be, if need be without what sled makes anew: a snapshot or its
/// parameters can be damaged beside an intact log, or left half written by a crash, and sled refuses both.
fn open_intact(path: &Path, description: &[u8]) -> Result<::sled::Db, Unopened> {
    type Spare = fn(&str) -> bool;
    let spares: [Spare; 5] = [
        |_| false,
        |name| name.ends_with(".generating"),
        |name| name.starts_with("snap."),
        |name| name == "conf",
        |name| name == "conf" || name.starts_with("snap."),
    ];
    let is_described = path.join(DESCRIBED_MARK).exists();
    for spare in spares {
        let hidden = hide(path, spare).map_err(Unopened::Refused)?;
        let opened = open_db(path).and_then(|db| match is_described {
            true => db.get(description).map(|found| (db, found.is_some())),
            false => Ok((db, true)),
        });
        if let Ok((db, true)) = opened {
            // What a store does without, it has made anew.
            hidden.iter().for_each(|(_, hidden)| _ = std::fs::remove_file(hidden));
            return Ok(db);
        }
        for (name, hidden) in hidden {
            std::fs::rename(hidden, name)
                .map_err(storage("put its snapshot back"))
                .map_err(Unopened::Refused)?;
        }
        match opened {
            Ok(_undescribed) => break,
            // What the system refused, another try would meet again.
            Err(error @ ::sled::Error::Io(_)) if !tells_of_damage(&error) => {
                return Err(Unopened::Refused(refusal(path, error)));
            }
            Err(_damage) => {}
        }
    }
    Err(Unopened::Damaged)
}

/// Renames the files in `path` that `spare` names, so that sled does not see them: from where, to where.
fn hide(path: &Path, spare: fn(&str) -> bool) -> Result<Vec<(PathBuf, PathBuf)>, QueueError> {
    let mut hidden = Vec::new();
    for entry in std::fs::read_dir(path).map_err(storage("read its folder"))? {
        let from = entry.map_err(storage("read its folder"))?.path();
        let name = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if spare(&name) {
            let to = path.join(format!("unused-{name}"));
            std::fs::rename(&from, &to).map_err(storage("pass over its snapshot"))?;
            hidden.push((from, to));
        }
    }
    Ok(hidden)
}

/// Turns an error of the store into the queue's, naming the operation.
pub(super) fn storage<E>(operation: &'static str) -> impl FnOnce(E) -> QueueError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |source| QueueError::Storage { operation, source: source.into() }
}
