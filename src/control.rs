//! The commands about the queue, the sensors and the whole, on a stopped or a running gateway.
//!
//! sled lets one process open a store, so the running daemon answers for it on a Unix socket beside
//! the store (which only its user and root reach): one request as a line of JSON, answered by lines of
//! [`Reply`]. On a stopped gateway the same [`execute`] runs in the command itself.

mod client;
mod execute;
mod protocol;
mod sensors;
mod server;
mod whole;

use std::io;

pub use client::{ask, socket_path};
pub use execute::execute;
pub use protocol::{GatewayRequest, QueueRequest, Reply, Request, Selection, SensorDevice, SensorRequest};
pub use sensors::Sensors;
pub use server::{Parts, Server};

use crate::queue::QueueError;

/// Why a queue command failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The queue said no.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The other side of the pipe went away.
    #[error("the answer could not be passed on")]
    Io(#[from] io::Error),
    /// The running daemon said no.
    #[error("the running gateway answered: {0}")]
    Remote(String),
}
