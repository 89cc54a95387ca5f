//! What systemd is told: READY, STATUS, WATCHDOG, STOPPING. Without systemd all of it does nothing.
//!
//! The watchdog is fed only while every task makes progress: each counts its rounds, and a task that
//! stands still for a whole period starves it. A systemd that does not listen holds nobody up.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::debug;

/// Says that the queue is open and readings are taken.
pub fn ready() {
    send(NotifyState::Ready, ONCE_TIMEOUT);
}

/// Says that the daemon is on its way out. systemd kills what is still there after `TimeoutStopSec`,
/// whatever it is told later; so this is for the end of the process alone.
pub fn stopping() {
    send(NotifyState::Stopping, ONCE_TIMEOUT);
}

/// One plain sentence for `systemctl status`. Returns whether it was said.
pub fn status(sentence: &str) -> bool {
    send(NotifyState::Status(sentence), Duration::ZERO)
}

/// What is said once waits so long for systemd to make room; what is said again and again does not.
const ONCE_TIMEOUT: Duration = Duration::from_secs(2);

fn send(state: NotifyState<'_>, timeout: Duration) -> bool {
    let sent = try_send(&state, timeout);
    if let Err(error) = &sent {
        debug!(%error, "systemd was not reached");
    }
    sent.is_ok()
}

/// Not [`sd_notify::notify`], which waits for as long as systemd's socket is full.
fn try_send(state: &NotifyState<'_>, timeout: Duration) -> std::io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&path)?,
    };
    let socket = UnixDatagram::unbound()?;
    match timeout {
        Duration::ZERO => socket.set_nonblocking(true)?,
        timeout => socket.set_write_timeout(Some(timeout))?,
    }
    socket.send_to_addr(format!("{state}\n").as_bytes(), &address).map(drop)
}

/// Feeds systemd's watchdog from the rounds that tasks count.
pub struct Watchdog {
    timeout: Duration,
    tasks: Vec<Watched>,
}

struct Watched {
    name: &'static str,
    rounds: Arc<AtomicU64>,
    seen: u64,
    moved_at: Instant,
}

impl Watchdog {
    /// `None` where systemd watches nothing.
    pub fn new(tasks: Vec<(&'static str, Arc<AtomicU64>)>) -> Option<Self> {
        // Fed until a task has stood still for three quarters of the period: systemd acts in the last.
        let timeout = sd_notify::watchdog_enabled()?.mul_f64(0.75);
        let watched = |(name, rounds)| Watched { name, rounds, seen: u64::MAX, moved_at: Instant::now() };
        Some(Self { timeout, tasks: tasks.into_iter().map(watched).collect() })
    }

    /// Feeds the watchdog unless a task stands still; returns those that do.
    pub fn feed(&mut self) -> Vec<&'static str> {
        for task in &mut self.tasks {
            let rounds = task.rounds.load(Ordering::Relaxed);
            if std::mem::replace(&mut task.seen, rounds) != rounds {
                task.moved_at = Instant::now();
            }
        }
        let stuck = self.tasks.iter().filter(|task| task.moved_at.elapsed() > self.timeout);
        let stuck: Vec<_> = stuck.map(|task| task.name).collect();
        if stuck.is_empty() {
            send(NotifyState::Watchdog, Duration::ZERO);
        }
        stuck
    }
}
