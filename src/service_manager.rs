//! What systemd is told: READY, STATUS, WATCHDOG, STOPPING. Without systemd all of it does nothing.
//!
//! The watchdog is fed only while every task makes progress: each counts its rounds, and a task that
//! stands still for a whole period starves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::debug;

/// Says that the queue is open and readings are taken.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// Says that the daemon is on its way out. systemd kills what is still there after `TimeoutStopSec`,
/// whatever it is told later; so this is for the end of the process alone.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// One plain sentence for `systemctl status`.
pub fn status(sentence: &str) {
    send(&[NotifyState::Status(sentence)]);
}

fn send(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "systemd was not reached");
    }
}

/// Feeds systemd's watchdog from the rounds that tasks count.
pub struct Watchdog {
    patience: Duration,
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
        let patience = sd_notify::watchdog_enabled()?.mul_f64(0.75);
        let watched = |(name, rounds)| Watched { name, rounds, seen: u64::MAX, moved_at: Instant::now() };
        Some(Self { patience, tasks: tasks.into_iter().map(watched).collect() })
    }

    /// Feeds the watchdog unless a task stands still; returns those that do.
    pub fn feed(&mut self) -> Vec<&'static str> {
        for task in &mut self.tasks {
            let rounds = task.rounds.load(Ordering::Relaxed);
            if std::mem::replace(&mut task.seen, rounds) != rounds {
                task.moved_at = Instant::now();
            }
        }
        let stuck = self.tasks.iter().filter(|task| task.moved_at.elapsed() > self.patience);
        let stuck: Vec<_> = stuck.map(|task| task.name).collect();
        if stuck.is_empty() {
            send(&[NotifyState::Watchdog]);
        }
        stuck
    }
}
