//! Heart-rate watches → a durable queue on disk → Amazon Kinesis Data Streams.
//!
//! ```text
//! watch ──notification──▶ ble ──▶ ingest ──append──▶ queue (sled) ──peek──▶ drainer ──PutRecords──▶ Kinesis
//!                                                       ▲                      │
//!                                                       └──────remove──────────┘  (accepted ones only)
//! ```
//!
//! One way, no back and forth. What must always hold:
//!
//! * received = delivered + queued + dead-lettered + evicted, for each sensor, at every moment
//!   ([`queue::ledger`]). *Received* is what an `append` returned for, and it returns only when the
//!   reading would survive a power cut ([`queue`]).
//! * An item is removed only after the sink accepted it ([`drainer`]).
//! * Where something was lost or could not be measured, a gap record says from when to when and why
//!   ([`reading::GapReason`]).
//! * Decisions are pure, with time and randomness passed in; what acts on them is thin. The tasks of a
//!   running gateway are spawned in [`gateway`]; one module names bluer ([`ble::bluez`]), one sled, one the AWS SDK
//!   ([`drainer::kinesis`]).
//!
//! The modules, by name, the pure ones first. Without the feature `daemon` only those that touch
//! nothing are here; the cloud side uses them.

#![warn(unreachable_pub)]

pub mod backoff;
pub mod clock;
pub mod heart_rate;
pub mod reading;
pub mod wire;

#[cfg(feature = "daemon")]
pub mod ble;
#[cfg(feature = "daemon")]
pub mod blocking;
#[cfg(feature = "daemon")]
pub mod cli;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod control;
#[cfg(feature = "daemon")]
pub mod drainer;
#[cfg(feature = "daemon")]
pub mod fault;
#[cfg(feature = "daemon")]
pub mod gateway;
#[cfg(feature = "daemon")]
pub mod ingest;
#[cfg(feature = "daemon")]
pub mod live;
#[cfg(feature = "daemon")]
pub mod overview;
#[cfg(feature = "daemon")]
pub mod page;
#[cfg(feature = "daemon")]
pub mod printable;
#[cfg(feature = "daemon")]
pub mod private;
#[cfg(feature = "daemon")]
pub mod pseudonym;
#[cfg(feature = "daemon")]
pub mod queue;
#[cfg(feature = "daemon")]
pub mod service_manager;
#[cfg(feature = "daemon")]
pub mod system_bus;
#[cfg(feature = "daemon")]
pub mod telemetry;
#[cfg(feature = "daemon")]
mod units;
