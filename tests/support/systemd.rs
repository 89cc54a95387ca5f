//! A systemd that listens to one daemon and notes when it was told what.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub struct Systemd {
    socket: PathBuf,
    told: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Systemd {
    /// Listens in `folder` until the test ends.
    pub fn listen(folder: &Path) -> Self {
        let socket = folder.join("notify");
        let listener = UnixDatagram::bind(&socket).unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = told.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length) = listener.recv(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
                heard.lock().unwrap().push((Instant::now(), text));
            }
        });
        Self { socket, told }
    }

    /// Has the daemon believe in it, with `WatchdogSec=`.
    pub fn watch(&self, command: &mut Command, watchdog: Duration) {
        command.env("NOTIFY_SOCKET", &self.socket).env("WATCHDOG_USEC", watchdog.as_micros().to_string());
    }

    pub fn told(&self, words: &str) -> Vec<Instant> {
        let told = self.told.lock().unwrap();
        told.iter().filter(|(_, text)| text.contains(words)).map(|(at, _)| *at).collect()
    }

    /// When the watchdog was fed, from `since` on.
    pub fn fed_since(&self, since: Instant) -> Vec<Instant> {
        self.told("WATCHDOG=1").into_iter().filter(|at| *at >= since).collect()
    }
}
