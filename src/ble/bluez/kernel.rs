//! What the kernel tells of adapters and bluetoothd does not, in `/sys`.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What the kernel lists of an adapter.
fn entries(adapter: &str) -> impl Iterator<Item = (String, PathBuf)> {
    let listed = std::fs::read_dir(Path::new("/sys/class/bluetooth").join(adapter));
    let listed = listed.into_iter().flatten().flatten();
    listed.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
}

/// Whether rfkill blocks an adapter. bluetoothd says so since version 5.73; the kernel always did.
pub(super) fn is_blocked(adapter: &str) -> bool {
    let is_set = |switch: &Path| {
        ["soft", "hard"]
            .iter()
            .any(|kind| std::fs::read_to_string(switch.join(kind)).is_ok_and(|state| state.trim() == "1"))
    };
    entries(adapter).any(|(name, path)| name.starts_with("rfkill") && is_set(&path))
}

/// The connections of an adapter. Each has a number that no other has in this boot: its inode in sysfs, which are
/// numbered in turn.
pub(super) fn connections(adapter: &str) -> Vec<u64> {
    let of_connections = entries(adapter)
        .filter(|(name, _)| name.strip_prefix(adapter).is_some_and(|handle| handle.starts_with(':')));
    of_connections.filter_map(|(_, path)| Some(path.symlink_metadata().ok()?.ino())).collect()
}
