//! Who uses an adapter for what. Scanning while connecting is fragile on every controller, so the two
//! exclude each other; many may scan together, and many connect together. Who wants to connect goes
//! first: scanners see it and yield, so sensors that are not there never hold up one that is.
//!
//! Discovery begins and ends for one D-Bus client at a time ([`Radio::discovery`]): of two that begin at
//! once bluetoothd answers one only, and lets the other wait for ever.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, watch};

use crate::reading::SensorId;

/// The adapters, by name.
#[derive(Default)]
pub(super) struct Radio {
    adapters: Mutex<HashMap<String, watch::Sender<Use>>>,
    /// Which sensor's task holds which device: two must never share one.
    holders: Mutex<HashMap<[u8; 6], SensorId>>,
    discoveries: Mutex<HashMap<String, Arc<AsyncMutex<()>>>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Use {
    scanning: usize,
    connecting: usize,
    streaming: usize,
}

/// A share in an adapter, given back when dropped.
pub(super) struct Permit {
    adapter: watch::Sender<Use>,
    count: fn(&mut Use) -> &mut usize,
}

impl Radio {
    fn adapter(&self, name: &str) -> watch::Sender<Use> {
        let mut adapters = self.adapters.lock().unwrap_or_else(PoisonError::into_inner);
        adapters.entry(name.to_owned()).or_default().clone()
    }

    /// Takes the device for `sensor`, unless another has it.
    pub(super) fn hold(&self, device: [u8; 6], sensor: &SensorId) -> bool {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders.entry(device).or_insert_with(|| sensor.clone()) == sensor
    }

    /// Whether a task other than that of `sensor` has the device.
    pub(super) fn is_held_by_other(&self, device: [u8; 6], sensor: &SensorId) -> bool {
        let holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders.get(&device).is_some_and(|holder| holder != sensor)
    }

    /// Gives back whatever `sensor` holds.
    pub(super) fn release(&self, sensor: &SensorId) {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders.retain(|_, holder| holder != sensor);
    }

    /// Held while discovery is being begun or ended on the adapter, not while it goes on.
    pub(super) async fn discovery(&self, adapter: &str) -> OwnedMutexGuard<()> {
        let gate = {
            let mut discoveries = self.discoveries.lock().unwrap_or_else(PoisonError::into_inner);
            discoveries.entry(adapter.to_owned()).or_default().clone()
        };
        gate.lock_owned().await
    }

    /// Waits until nobody connects.
    pub(super) async fn scan(&self, adapter: &str) -> Permit {
        let sender = self.adapter(adapter);
        let mut receiver = sender.subscribe();
        loop {
            let taken = sender.send_if_modified(|now| {
                let free = now.connecting == 0;
                now.scanning += usize::from(free);
                free
            });
            if taken {
                return Permit { adapter: sender, count: |now| &mut now.scanning };
            }
            // The sender lives in `self`, so this does not fail.
            _ = receiver.wait_for(|now| now.connecting == 0).await;
        }
    }

    /// Has scanners yield, and waits until they did.
    pub(super) async fn connect(&self, adapter: &str) -> Permit {
        let permit = take(self.adapter(adapter), |now| &mut now.connecting);
        _ = permit.adapter.subscribe().wait_for(|now| now.scanning == 0).await;
        permit
    }

    /// Notes that readings flow over the adapter.
    pub(super) fn stream(&self, adapter: &str) -> Permit {
        take(self.adapter(adapter), |now| &mut now.streaming)
    }

    /// Whether anybody's readings flow over the adapter.
    pub(super) fn has_streams(&self, adapter: &str) -> bool {
        self.adapter(adapter).borrow().streaming > 0
    }
}

impl Permit {
    /// Whether a scanner should yield.
    pub(super) fn is_contended(&self) -> bool {
        self.adapter.borrow().connecting > 0
    }
}

fn take(adapter: watch::Sender<Use>, count: fn(&mut Use) -> &mut usize) -> Permit {
    adapter.send_modify(|now| *count(now) += 1);
    Permit { adapter, count }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.adapter.send_modify(|now| *(self.count)(now) -= 1);
    }
}

/// Shared by all that use the radio.
pub(super) type SharedRadio = Arc<Radio>;
