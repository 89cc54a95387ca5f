//! End to end: the real binary, and in some tests of the drainer its parts in this process; BlueZ as a mock on a
//! private bus, through the real bluer; real sled; and Kinesis as our fake and as moto.

#[path = "gateway/adapters.rs"]
mod adapters;
#[path = "gateway/bluetooth.rs"]
mod bluetooth;
#[path = "gateway/bonding.rs"]
mod bonding;
#[path = "gateway/commands.rs"]
mod commands;
#[path = "gateway/credentials.rs"]
mod credentials;
#[path = "gateway/durability.rs"]
mod durability;
#[path = "gateway/glance.rs"]
mod glance;
#[path = "gateway/identity.rs"]
mod identity;
#[path = "gateway/journal.rs"]
mod journal;
#[path = "gateway/kinesis.rs"]
mod kinesis;
#[path = "gateway/measurements.rs"]
mod measurements;
#[path = "gateway/moto.rs"]
mod moto;
#[path = "gateway/names.rs"]
mod names;
#[path = "gateway/network.rs"]
mod network;
#[path = "gateway/others.rs"]
mod others;
#[path = "gateway/passive.rs"]
mod passive;
#[path = "gateway/private.rs"]
mod private;
#[path = "gateway/registry.rs"]
mod registry;
#[path = "gateway/reload.rs"]
mod reload;
mod support;
#[path = "gateway/watchdog.rs"]
mod watchdog;
