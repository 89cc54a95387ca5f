//! Who uses an adapter for what. Scanning while connecting is fragile on every controller, so the two
//! exclude each other; many connect together. Who wants to connect goes first: the scan sees it and
//! yields, so sensors that are not there never hold up one that is. But whose connects fail leave the scan its
//! share: sensors that hang would keep all others from being found.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::ble::adapters::Pool;

/// The adapters, by name.
#[derive(Default)]
pub(super) struct Radio {
    adapters: Mutex<HashMap<String, watch::Sender<Use>>>,
    pool: Mutex<Pool>,
}

/// A connect that takes longer keeps others from being found.
const LONG: Duration = Duration::from_secs(5);
/// So long nobody whose connects fail connects again after one that was long: enough to find a sensor, and to
/// listen for others of its name.
const SCAN_SHARE: Duration = Duration::from_secs(8);

#[derive(Debug, Clone, Copy, Default)]
struct Use {
    /// Or it is being power-cycled: by one, while nobody connects.
    is_scanning: bool,
    /// How many wait to power-cycle it.
    to_cycle: usize,
    connecting: usize,
    /// Since when somebody connects, without a pause.
    connecting_since: Option<Instant>,
    /// Until when the scan has its share.
    scan_until: Option<Instant>,
    /// When we switched it on, last.
    switched_on_at: Option<Instant>,
}

impl Use {
    /// How long who failed before has to wait; `None` where that depends on the connects that go on.
    fn wait(&self) -> Option<Duration> {
        if self.connecting_since.is_some_and(|since| since.elapsed() > LONG) {
            return None;
        }
        Some(self.scan_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now())))
    }
}

/// The scan of an adapter, or what excludes it; ends when dropped.
pub(super) struct ScanPermit(watch::Sender<Use>);

/// A share in connecting over an adapter; given back when dropped.
pub(super) struct ConnectPermit(watch::Sender<Use>);

impl Radio {
    fn adapter(&self, name: &str) -> watch::Sender<Use> {
        let mut adapters = self.adapters.lock().unwrap_or_else(PoisonError::into_inner);
        adapters.entry(name.to_owned()).or_default().clone()
    }

    /// What is known of the adapters.
    pub(super) fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connect over the adapter.
    pub(super) fn connecting(&self, adapter: &str) -> usize {
        self.adapter(adapter).borrow().connecting
    }

    /// It was off, and was switched on.
    pub(super) fn note_switched_on(&self, adapter: &str) {
        self.adapter(adapter).send_modify(|now| now.switched_on_at = Some(Instant::now()));
    }

    /// Whether it was off at `since` or later, and was switched on.
    pub(super) fn was_switched_on(&self, adapter: &str, since: Instant) -> bool {
        self.adapter(adapter).borrow().switched_on_at.is_some_and(|at| at >= since)
    }

    /// Whether a scan goes on.
    pub(super) fn is_scanning(&self, adapter: &str) -> bool {
        self.adapter(adapter).borrow().is_scanning
    }

    /// Waits until nobody connects.
    pub(super) async fn scan(&self, adapter: &str) -> ScanPermit {
        let sender = self.adapter(adapter);
        let mut receiver = sender.subscribe();
        while !sender.send_if_modified(|now| {
            let free = now.connecting == 0 && now.to_cycle == 0 && !now.is_scanning;
            now.is_scanning |= free;
            free
        }) {
            // The sender lives in `self`, so this does not fail.
            _ = receiver.changed().await;
        }
        ScanPermit(sender)
    }

    /// Has the scan yield, and waits until nobody connects: for whom the adapter is his alone.
    pub(super) async fn power_cycle(&self, adapter: &str) -> ScanPermit {
        let wish = CycleWish::new(self.adapter(adapter));
        let mut receiver = wish.0.subscribe();
        while !wish.0.send_if_modified(|now| {
            let free = now.connecting == 0 && !now.is_scanning;
            now.is_scanning |= free;
            free
        }) {
            _ = receiver.changed().await;
        }
        ScanPermit(wish.0.clone())
    }

    /// Has the scan yield, and waits until it did. `failed` says that this sensor's last connect came to
    /// nothing: then the scan has its share first.
    pub(super) async fn connect(&self, adapter: &str, failed: bool) -> ConnectPermit {
        let sender = self.adapter(adapter);
        if failed {
            leave_scan_its_share(&sender).await;
        }
        sender.send_modify(|now| {
            now.connecting += 1;
            now.connecting_since.get_or_insert_with(Instant::now);
        });
        let permit = ConnectPermit(sender);
        _ = permit.0.subscribe().wait_for(|now| !now.is_scanning).await;
        permit
    }
}

async fn leave_scan_its_share(adapter: &watch::Sender<Use>) {
    loop {
        let wait = adapter.borrow().wait();
        match wait {
            Some(Duration::ZERO) => return,
            Some(wait) => sleep(wait).await,
            // The sender is borrowed, so this does not fail.
            None => _ = adapter.subscribe().wait_for(|now| now.connecting == 0).await,
        }
    }
}

impl ScanPermit {
    /// Returns when somebody wants to connect, or to power-cycle the adapter.
    pub(super) async fn contended(&self) {
        _ = self.0.subscribe().wait_for(|now| now.connecting > 0 || now.to_cycle > 0).await;
    }
}

/// Somebody waits to power-cycle an adapter; no more when dropped.
struct CycleWish(watch::Sender<Use>);

impl CycleWish {
    fn new(adapter: watch::Sender<Use>) -> Self {
        adapter.send_modify(|now| now.to_cycle += 1);
        Self(adapter)
    }
}

impl Drop for CycleWish {
    fn drop(&mut self) {
        self.0.send_modify(|now| now.to_cycle -= 1);
    }
}

impl Drop for ScanPermit {
    fn drop(&mut self) {
        self.0.send_modify(|now| now.is_scanning = false);
    }
}

impl Drop for ConnectPermit {
    fn drop(&mut self) {
        self.0.send_modify(|now| {
            now.connecting -= 1;
            if now.connecting == 0 {
                let was_long = now.connecting_since.take().is_some_and(|since| since.elapsed() > LONG);
                now.scan_until = was_long.then(|| Instant::now() + SCAN_SHARE);
            }
        });
    }
}
