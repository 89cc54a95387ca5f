//! Where the configuration points to: whole paths, and none that is in another's way.

use std::path::{Path, PathBuf};

use super::Config;
use super::mistakes::Mistakes;
use crate::control;

/// Longest path of a socket, of which the queue's has one: `sun_path` of unix(7), without its zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

impl Config {
    pub(super) fn look_at_paths(&self, mistakes: &mut Mistakes<'_>) {
        let key_file = self.queue.encryption_key_file.as_deref();
        let directory = self.directory.path.as_deref();
        let paths = [
            ("queue.path", Some(self.queue.path.as_path())),
            ("queue.encryption_key_file", key_file),
            ("directory.path", directory),
        ];
        for (key, path) in paths {
            if let Some(what) = path.and_then(refusal) {
                mistakes.add(key, what);
            }
        }
        if mistakes.concern("queue.path") {
            return;
        }
        let queue = &self.queue.path;
        let socket = control::socket_path(queue);
        if queue.file_name().is_none() {
            mistakes.add("queue.path", format!("found `{}`; name a folder of its own", queue.display()));
        } else if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            let what = format!("is too long: `{}` may have {SOCKET_PATH_BYTES_MAX} bytes", socket.display());
            mistakes.add("queue.path", what);
        }
        let inside = |path: &Path| real(path).starts_with(real(queue));
        for (key, path) in [("directory.path", directory), ("queue.encryption_key_file", key_file)] {
            if path.is_some_and(inside) {
                let what = format!("lies in `queue.path` ({}), which is the queue's alone", queue.display());
                mistakes.add(key, what);
            }
        }
    }
}

/// What is wrong with a path as such.
fn refusal(path: &Path) -> Option<String> {
    let shown = path.display();
    if path.to_str().is_none_or(|text| text.chars().any(char::is_control)) {
        return Some(format!("found `{shown}`; a path without control characters is needed"));
    }
    // The service runs in `/`, and whoever runs `check` elsewhere.
    path.is_relative().then(|| format!("found `{shown}`; write the whole path, from / on"))
}

/// Where `path` leads, as far as there is something there yet.
fn real(path: &Path) -> PathBuf {
    let there = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    let Some((above, real)) = there else { return path.to_owned() };
    path.strip_prefix(above).map_or_else(|_| path.to_owned(), |rest| real.join(rest))
}
