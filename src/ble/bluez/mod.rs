//! Sensors over BlueZ's D-Bus API. Only this folder names bluer.
//!
//! [`BluezSource`] runs one task per `sensor`, each with a D-Bus connection of its own: bluer holds one
//! lock per connection across `StartNotify`, so on a shared one a hung sensor would stall all others. A
//! sensor's task carries out the actions of its [lifecycle](super::lifecycle): it finds the device that it
//! is among what [`discovery`] sees on all adapters, and works on it as a `link`.
//!
//! | module | |
//! | --- | --- |
//! | `supervisor`, `children` | who is wanted; one task each |
//! | `sensor`, `task`, `reports` | one sensor's task: finding its device; what it shares; what is said of it |
//! | `link` | a device: connect, bond, subscribe, forget |
//! | `stream` | its notifications, until they end |
//! | `gatt`, `values` | its characteristics and their values |
//! | `listener`, `advertisements` | sensors whose readings come in their advertisements |
//! | `signals` | the changes that bluetoothd tells of |
//! | [`discovery`] | one scan per adapter, for all who look |
//! | [`objects`], `kernel` | what bluetoothd knows, in one answer; what the kernel knows beside it |
//! | `radio` | who uses an adapter for what |
//! | `bus`, `agent`, `call` | whether bluetoothd answers; who it asks before it bonds; what its refusals mean |

mod advertisements;
mod agent;
mod bus;
mod call;
mod children;
pub mod discovery;
mod gatt;
mod kernel;
mod link;
mod listener;
pub mod objects;
mod radio;
mod reports;
pub mod scan;
mod sensor;
mod signals;
mod stream;
mod supervisor;
mod task;
mod values;

pub use supervisor::BluezSource;
pub use task::Wanted;
