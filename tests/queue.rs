//! The queue: one contract for the store and the model, random histories with crashes, kill -9.

#[path = "queue/contract.rs"]
mod contract;
#[path = "queue/crash.rs"]
mod crash;
#[path = "queue/durable.rs"]
mod durable;
#[path = "queue/full_disk.rs"]
mod full_disk;
#[path = "queue/model.rs"]
mod model;
#[path = "queue/recover.rs"]
mod recover;
#[path = "queue/salvage.rs"]
mod salvage;
#[path = "queue/salvage_damage.rs"]
mod salvage_damage;
mod support;
#[path = "queue/upkeep.rs"]
mod upkeep;
#[path = "queue/witness.rs"]
mod witness;
