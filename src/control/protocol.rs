//! What is asked over the socket, and what is answered: a line of JSON each.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ble::identity::Known;
use crate::queue;
use crate::reading::SensorId;

/// What is asked of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Of its queue.
    Queue(QueueRequest),
    /// Of its sensors.
    Sensors(SensorRequest),
    /// Of the whole, while it runs.
    Gateway(GatewayRequest),
}

/// What is asked of a running gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GatewayRequest {
    /// How it is: lines of text, or of JSON; what is done is the number of things that somebody should look at.
    Status {
        /// JSON is wanted.
        json: bool,
    },
    /// What is heard from now on, a line each, until the asker leaves.
    Tail {
        /// Of this sensor alone.
        sensor: Option<SensorId>,
        /// JSON is wanted.
        json: bool,
    },
}

/// What is asked of the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueRequest {
    /// Ledger and depth, by sensor.
    Status,
    /// Every queued item, as it would be sent.
    Export,
    /// Every dead letter.
    DeadLetters,
    /// Dead letters back into the queue.
    Requeue(Selection),
    /// Dead letters away for good.
    Drop(Selection),
    /// What can be read of the damaged store in this folder back into the queue.
    Recover(PathBuf),
}

/// What is asked of the sensors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SensorRequest {
    /// Which device each is.
    List,
    /// To let go of the device of one.
    Forget(SensorId),
}

/// Which device a sensor is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SensorDevice {
    /// The sensor.
    pub sensor: SensorId,
    /// Its device, if it was found once.
    pub device: Option<Known>,
    /// Whether readings flow; absent where the gateway is stopped, or the sensor not wanted.
    pub streams: Option<bool>,
}

/// Which dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// All of them.
    All,
    /// These sequences.
    Sequences(Vec<u64>),
}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To [`QueueRequest::Status`].
    Status(Box<queue::Status>),
    /// A line to print: a queued item's NDJSON, or what was asked of the gateway.
    Line(String),
    /// A dead letter: its sequence, the sink's words, its NDJSON line.
    DeadLetter {
        /// Its sequence.
        sequence: u64,
        /// Why it was refused.
        reason: String,
        /// The line.
        line: String,
    },
    /// What could be read of a damaged store, and what is still known to be missing.
    Rescued {
        /// Queued items and dead letters that could be read.
        readable: u64,
        /// Entries, and stretches of its file, that could not.
        passed_over: u64,
        /// Sequences that are known to be missing, as ranges.
        missing: Vec<(u64, u64)>,
    },
    /// To [`SensorRequest::List`].
    Sensor(SensorDevice),
    /// So many records were not passed on: the asker was too slow.
    Missed(u64),
    /// So many of so many are done.
    Progress(u64, u64),
    /// It is done; so many items were concerned.
    Done(u64),
    /// It failed.
    Failed(String),
}
