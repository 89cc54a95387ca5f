//! A call to bluetoothd, bounded, and what its refusal means.

use std::time::Duration;

use bluer::ErrorKind;
use tokio::time::timeout;
use tracing::debug;

use crate::ble::session::Failure;

/// A D-Bus call that only reads or writes bluetoothd's own state.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A bluer call under our timeout, its error as the session understands it.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = bluer::Result<T>>,
) -> Result<T, Failure> {
    timeout(limit, call).await.map_err(|_elapsed| Failure::Timeout)?.map_err(|error| refused(&error))
}

/// What BlueZ's error means to the session.
pub(super) fn refused(error: &bluer::Error) -> Failure {
    // Not the whole error: its text may name the device's address.
    debug!(kind = ?error.kind, "BlueZ refused");
    match error.kind {
        ErrorKind::NotPermitted
        | ErrorKind::NotAuthorized
        | ErrorKind::AuthenticationFailed
        | ErrorKind::AuthenticationRejected => Failure::BondNeeded,
        ErrorKind::NotReady | ErrorKind::Internal(_) => Failure::AdapterGone,
        ErrorKind::NotFound | ErrorKind::DoesNotExist => Failure::NotSeen,
        _ => Failure::Other,
    }
}
