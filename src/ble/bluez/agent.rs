//! Who BlueZ asks when something wants to bond.
//!
//! BlueZ bonds unasked: it answers a sensor that demands encryption by pairing with it, in the midst of
//! `StartNotify`, which it then leaves unanswered if nobody agrees. It asks the first agent there is,
//! whoever called. So every link has one, and all know of the same [`Bonds`]: yes to a sensor that is
//! being bonded with because its configuration says so; to any other no, noting that it demanded it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bluer::Address;
use bluer::agent::{Agent, ReqError, RequestPasskeyFn};
use tokio::sync::watch;

/// Which devices are being bonded with, and which demand it.
#[derive(Default)]
pub(super) struct Bonds {
    wanted: Mutex<HashSet<Address>>,
    demanded: watch::Sender<HashSet<Address>>,
}

/// While it lives, the device may bond.
pub(super) struct Bonding {
    bonds: Arc<Bonds>,
    device: Address,
}

impl Bonds {
    /// Lets the device bond.
    pub(super) fn allow(self: Arc<Self>, device: Address) -> Bonding {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).insert(device);
        Bonding { bonds: self, device }
    }

    /// Returns when the device demands to bond, from now on, and may not.
    pub(super) async fn demanded(&self, device: Address) {
        self.demanded.send_modify(|demanded| _ = demanded.remove(&device));
        // The sender lives in `self`, so this does not fail.
        _ = self.demanded.subscribe().wait_for(|demanded| demanded.contains(&device)).await;
    }

    fn answer(&self, device: Address) -> Result<(), ReqError> {
        if self.wanted.lock().unwrap_or_else(PoisonError::into_inner).contains(&device) {
            return Ok(());
        }
        self.demanded.send_modify(|demanded| _ = demanded.insert(device));
        Err(ReqError::Rejected)
    }
}

impl Drop for Bonding {
    fn drop(&mut self) {
        self.bonds.wanted.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.device);
    }
}

/// Confirms what needs no eyes, and types the configured passkey, for devices that may bond.
pub(super) fn agent(bonds: &Arc<Bonds>, passkey: Option<u32>) -> Agent {
    let [typing, confirming, authorizing] = [(); 3].map(|()| bonds.clone());
    let request_passkey: RequestPasskeyFn = Box::new(move |asked| {
        let answer = typing.answer(asked.device).and(passkey.ok_or(ReqError::Rejected));
        Box::pin(async move { answer })
    });
    Agent {
        request_passkey: passkey.is_some().then_some(request_passkey),
        request_confirmation: Some(Box::new(move |asked| {
            let answer = confirming.answer(asked.device);
            Box::pin(async move { answer })
        })),
        request_authorization: Some(Box::new(move |asked| {
            let answer = authorizing.answer(asked.device);
            Box::pin(async move { answer })
        })),
        ..Agent::default()
    }
}
