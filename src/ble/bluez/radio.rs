//! Who uses an adapter for what. Scanning while connecting is fragile on every controller, so the two
//! exclude each other; many connect together. Who wants to connect goes first: the scan sees it and
//! yields, so sensors that are not there never hold up one that is.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::ble::adapters::Pool;

/// The adapters, by name.
#[derive(Default)]
pub(super) struct Radio {
    adapters: Mutex<HashMap<String, watch::Sender<Use>>>,
    pool: Mutex<Pool>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Use {
    is_scanning: bool,
    connecting: usize,
}

/// The scan of an adapter; ends when dropped.
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

    /// Whether a scan goes on.
    pub(super) fn is_scanning(&self, adapter: &str) -> bool {
        self.adapter(adapter).borrow().is_scanning
    }

    /// Waits until nobody connects.
    pub(super) async fn scan(&self, adapter: &str) -> ScanPermit {
        let sender = self.adapter(adapter);
        let mut receiver = sender.subscribe();
        while !sender.send_if_modified(|now| {
            let free = now.connecting == 0;
            now.is_scanning |= free;
            free
        }) {
            // The sender lives in `self`, so this does not fail.
            _ = receiver.wait_for(|now| now.connecting == 0).await;
        }
        ScanPermit(sender)
    }

    /// Has the scan yield, and waits until it did.
    pub(super) async fn connect(&self, adapter: &str) -> ConnectPermit {
        let sender = self.adapter(adapter);
        sender.send_modify(|now| now.connecting += 1);
        let permit = ConnectPermit(sender);
        _ = permit.0.subscribe().wait_for(|now| !now.is_scanning).await;
        permit
    }
}

impl ScanPermit {
    /// Returns when somebody wants to connect.
    pub(super) async fn contended(&self) {
        _ = self.0.subscribe().wait_for(|now| now.connecting > 0).await;
    }
}

impl Drop for ScanPermit {
    fn drop(&mut self) {
        self.0.send_modify(|now| now.is_scanning = false);
    }
}

impl Drop for ConnectPermit {
    fn drop(&mut self) {
        self.0.send_modify(|now| now.connecting -= 1);
    }
}
