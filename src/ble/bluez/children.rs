//! The sensors' tasks: one for each that is looked after, and those that are ending.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::sensor::keep_subscribed;
use super::task::Shared;
use crate::config::SensorConfig;
use crate::reading::SensorId;

/// A sensor's task that did nothing for so long hangs: each of its actions is bounded by half a minute, and
/// it may have to wait for others to scan and connect.
const CHILD_STILL_MAX: Duration = Duration::from_secs(300);

/// A sensor that is looked after.
pub(super) struct Child {
    pub(super) config: SensorConfig,
    stop: CancellationToken,
    /// Cancelled when its task has ended, and with it its link.
    ended: CancellationToken,
    /// For a sensor that was discovered: when it was last seen to stream.
    pub(super) discovered: Option<Instant>,
    moves: Arc<AtomicU64>,
    moves_seen: u64,
    moved_at: Instant,
}

impl Child {
    /// Whether its task did anything of late.
    pub(super) fn is_moving(&mut self) -> bool {
        let moves = self.moves.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.moves_seen, moves) != moves {
            self.moved_at = Instant::now();
        }
        self.moved_at.elapsed() < CHILD_STILL_MAX
    }
}

/// All of them.
pub(super) struct Children {
    pub(super) running: BTreeMap<SensorId, Child>,
    pub(super) tasks: JoinSet<()>,
    /// Of each that was told to stop and may not have: see [`start`](Self::start).
    ending: Vec<CancellationToken>,
    shared: Shared,
    stop: CancellationToken,
}

impl Children {
    pub(super) fn new(shared: Shared, stop: CancellationToken) -> Self {
        Self { running: BTreeMap::new(), tasks: JoinSet::new(), ending: Vec::new(), shared, stop }
    }

    /// Stops those that `keep` does not want.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&SensorId, &mut Child) -> bool) {
        self.running.retain(|id, child| {
            let keep = keep(id, child);
            if !keep {
                child.stop.cancel();
                self.ending.push(child.ended.clone());
            }
            keep
        });
    }

    /// Starts a sensor's task, once all have ended that were told to stop: the same device may have been theirs, and
    /// who closes a link cancels the bonding that another began over it.
    pub(super) fn start(&mut self, config: SensorConfig, discovered: Option<Instant>) {
        self.ending.retain(|ended| !ended.is_cancelled());
        let (stop, moves, ended) =
            (self.stop.child_token(), Arc::<AtomicU64>::default(), CancellationToken::new());
        let task = keep_subscribed(config.clone(), self.shared.clone(), Arc::clone(&moves), stop.clone());
        let (before, ends) = (self.ending.clone(), ended.clone().drop_guard());
        self.tasks.spawn(async move {
            let _ends = ends;
            for ended in before {
                ended.cancelled().await;
            }
            task.await;
        });
        let child = Child { config, stop, ended, discovered, moves, moves_seen: 0, moved_at: Instant::now() };
        self.running.insert(child.config.id.clone(), child);
    }
}
