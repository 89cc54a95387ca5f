//! The registry's file: where it is, how it is read, and written whole or not at all.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Kept;
use crate::private;
use crate::queue::folder::SENSORS;

/// Beside the queue's folder, and inside.
pub(super) fn places(queue_path: &Path) -> [PathBuf; 2] {
    let mut name = queue_path.file_name().unwrap_or_default().to_owned();
    name.push(".sensors");
    [queue_path.with_file_name(name), queue_path.join(SENSORS)]
}

pub(super) fn newer(one: Option<Kept>, other: Option<Kept>) -> Option<Kept> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.turn > one.turn { other } else { one }),
        (one, other) => one.or(other),
    }
}

/// `None` where there is none.
pub(super) fn read(path: &Path) -> io::Result<Option<Kept>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the file was read and is none of ours, or half of one.
pub(super) fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// Moves a damaged file away; says what became of it.
pub(super) fn set_aside(path: &Path) -> String {
    let mut aside = path.to_owned().into_os_string();
    aside.push(".damaged");
    match std::fs::rename(path, &aside) {
        Ok(()) => format!("the file was set aside as {}", Path::new(&aside).display()),
        Err(failed) => format!("the file was not even moved away ({failed})"),
    }
}

/// Beside the queue's folder, and inside only where it cannot be written there. The failure is the former's.
pub(super) fn write_to_first([beside, inside]: &[PathBuf; 2], kept: &Kept) -> io::Result<()> {
    match write(beside, kept) {
        Ok(()) => {
            // Of an earlier day, and of no more use.
            _ = std::fs::remove_file(inside);
            Ok(())
        }
        Err(failed) => write(inside, kept).map_err(|_| failed),
    }
}

fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    let mut file = private::NewFile::create(path)?;
    file.write_all(&serde_json::to_vec_pretty(kept)?)?;
    file.finish()
}
