//! A call to bluetoothd, bounded, and what its refusal means.

use std::time::Duration;

use bluer::{ErrorKind, InternalErrorKind};
use tokio::time::timeout;
use tracing::debug;

use crate::ble::lifecycle::{Absence, Failure, NoAdapter};

/// A D-Bus call that only reads or writes bluetoothd's own state.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// What BlueZ says when another program took the notifications by AcquireNotify (`src/gatt-client.c`).
const NOTIFY_ACQUIRED: &str = "Notify acquired";
/// How what a sensor's attribute table answers begins (`src/gatt-client.c`): of a subscription, that the table is
/// not the one that BlueZ stored.
const ATT_ERROR: &str = "Operation failed with ATT error";

/// What an adapter that rfkill blocks is not switched on with (`src/adapter.c`); bluer knows no kind for it.
const BLOCKED: &str = "org.bluez.Error.Blocked";

/// A bluer call under our timeout, its error as the lifecycle understands it.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = bluer::Result<T>>,
) -> Result<T, Failure> {
    timeout(limit, call).await.map_err(|_elapsed| Failure::Timeout)?.map_err(|error| refused(&error))
}

/// What BlueZ's error means to the lifecycle.
pub(super) fn refused(error: &bluer::Error) -> Failure {
    // Not the whole error: its text may name the device's address.
    debug!(kind = ?error.kind, "BlueZ refused");
    match &error.kind {
        ErrorKind::NotPermitted if error.message == NOTIFY_ACQUIRED => Failure::Held,
        ErrorKind::Failed if error.message.starts_with(ATT_ERROR) => Failure::StaleServices,
        ErrorKind::NotPermitted
        | ErrorKind::NotAuthorized
        | ErrorKind::AuthenticationFailed
        | ErrorKind::AuthenticationRejected => Failure::BondNeeded,
        ErrorKind::Internal(InternalErrorKind::DBus(name)) if name == BLOCKED => {
            Failure::NoAdapter(NoAdapter::Blocked)
        }
        ErrorKind::NotReady => Failure::NoAdapter(NoAdapter::NotReady),
        ErrorKind::Internal(_) => Failure::NoAdapter(NoAdapter::NoBluetoothd),
        ErrorKind::NotFound | ErrorKind::DoesNotExist => Failure::Absent(Absence::NotSeen),
        _ => Failure::Other,
    }
}
