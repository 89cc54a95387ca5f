//! Where notifications come from: BlueZ, or a simulated watch.
//!
//! [`lifecycle`] decides, purely, how a subscription is kept for ever, [`identity`] which device a sensor is, and
//! [`adapters`] by which adapter it is reached, [`advertised`] what an advertisement says; [`bluez`] carries it out.

pub mod adapters;
pub mod advertised;
pub mod bluez;
pub mod identity;
pub mod lifecycle;
pub mod recording;
pub mod registry;
pub mod simulator;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::heart_rate::{BodySensorLocation, HeartRateMeasurement};
use crate::reading::{GapReason, Moment, SensorId, SensorState};

/// Most events between a source and the ingest; a source that fills it waits.
pub const EVENTS_MAX: usize = 1024;

/// Something a source saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceEvent {
    /// Whose it is.
    pub sensor: SensorId,
    /// When it was seen.
    pub at: Moment,
    /// What it is.
    pub kind: SourceEventKind,
}

/// What a source saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceEventKind {
    /// A Heart Rate Measurement notification, as it was on the air.
    Notification(Vec<u8>),
    /// What an advertisement said of the heart.
    Advertisement(HeartRateMeasurement),
    /// Where the sensor is worn, as far as it is known: that goes with each reading from now on.
    Located(Option<BodySensorLocation>),
    /// How the sensor is.
    State(SensorState),
    /// From now on there will be none, for this reason, until the next notification.
    Down(GapReason),
}

/// How the gateway stands with each sensor that is at work.
pub type SensorViews = BTreeMap<SensorId, SensorView>;

/// How the gateway stands with a sensor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SensorView {
    /// Whether readings flow.
    pub streams: bool,
    /// Why not, if they do not.
    pub why: &'static str,
    /// The adapter that it was reached by last, if it was.
    pub adapter: Option<String>,
}

/// What a source shows of itself to the status line and the watchdog.
#[derive(Debug, Default)]
pub struct SourceView {
    /// The watchdog's proof of life: counted where something came of it.
    pub rounds: std::sync::Arc<AtomicU64>,
    /// Who does not answer, though readings can only come from there.
    pub unanswered: watch::Sender<Option<&'static str>>,
}

/// A source of notifications.
pub trait NotificationSource: Send {
    /// Runs until `stop`, or until the source has no more. What it found is in `events` on return.
    fn run(
        self: Box<Self>,
        events: mpsc::Sender<SourceEvent>,
        stop: CancellationToken,
    ) -> BoxFuture<'static, ()>;
}
