//! Space kept back for the day when the disk is full.
//!
//! A store can be opened, and drained, only if it can write: a full disk would leave what is queued where it
//! is, though the way to the sink is free. So some files stand beside the store, made while there is room;
//! when an opening finds none, they are given up, with their space and their inodes.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, StatVfs, fallocate, statvfs};

/// Their number: an opening makes up to two new files at once.
const FILES: u32 = 4;
/// Bytes of each. Opening and draining 20,000 readings wrote less than two of them hold.
const FILE_BYTES: u64 = 2 << 20;
/// With less space than this an opening is not tried before the reserve is given up.
const SPACE_MIN: u64 = FILES as u64 * FILE_BYTES;
/// The same of inodes.
const INODES_MIN: u64 = FILES as u64;

/// Makes the reserve of the store in `folder`, as far as it is not there, unless that would leave less than
/// `headroom` bytes to others.
pub(super) fn make(folder: &Path, headroom: u64) -> io::Result<()> {
    let missing: Vec<PathBuf> = places(folder).filter(|place| !place.exists()).collect();
    let stat = statvfs(folder)?;
    if missing.is_empty() || free_bytes(&stat) < headroom.saturating_add(SPACE_MIN) || lacks_inodes(&stat) {
        return Ok(());
    }
    for place in missing {
        let made = File::create(&place).and_then(|file| {
            fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES)?;
            file.sync_all()
        });
        if let Err(error) = made {
            // One that holds nothing would only pretend to be a reserve.
            std::fs::remove_file(&place)?;
            return Err(error);
        }
    }
    Ok(())
}

/// Gives up the reserve of the store in `folder`; returns whether there was one.
pub(super) fn give_up(folder: &Path) -> io::Result<bool> {
    let mut there = false;
    for place in places(folder).filter(|place| place.exists()) {
        std::fs::remove_file(place)?;
        there = true;
    }
    Ok(there)
}

/// Whether the disk of `folder` is too full to open a store on it.
pub(super) fn is_needed(folder: &Path) -> io::Result<bool> {
    let stat = statvfs(folder)?;
    Ok(free_bytes(&stat) < SPACE_MIN || lacks_inodes(&stat))
}

fn places(folder: &Path) -> impl Iterator<Item = PathBuf> {
    (1..=FILES).map(move |n| folder.join(format!("hr-gatewayd.reserve-{n}")))
}

fn free_bytes(stat: &StatVfs) -> u64 {
    stat.f_bavail.saturating_mul(stat.f_frsize)
}

/// Some file systems have no fixed number of inodes, and say none.
fn lacks_inodes(stat: &StatVfs) -> bool {
    stat.f_files > 0 && stat.f_favail < INODES_MIN
}
