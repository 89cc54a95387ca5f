//! The gateway state records: one every few minutes, so that a gateway with nothing to send differs from a dead one.

use std::time::Duration;

use tokio::time::sleep;

use crate::config::Config;
use crate::overview::Looker;
use crate::queue::QueueError;
use crate::queue::capacity::Capacity;
use crate::reading::{Body, Content, GatewayState, Observation, SensorId};

/// Appends the records.
pub(super) struct StateRecords {
    looker: Looker,
    capacity: Capacity,
    every: Duration,
}

impl StateRecords {
    /// As `config` wants them; `None` for never.
    pub(super) fn wanted(config: &Config, looker: Looker) -> Option<Self> {
        let every = config.gateway.state_every.0;
        (!every.is_zero()).then(|| Self { looker, capacity: Capacity::from_config(&config.queue), every })
    }

    /// Appends until it is aborted, or the queue fails.
    pub(super) async fn run(self) -> Result<(), QueueError> {
        // Ids of this run are of an epoch of their own, and so is the session.
        let mut starts_session = true;
        loop {
            sleep(self.every).await;
            if self.record(starts_session).await? {
                starts_session = false;
            }
        }
    }

    /// Whether there was room for one.
    async fn record(&self, starts_session: bool) -> Result<bool, QueueError> {
        let overview = self.looker.look().await?;
        let queue = &overview.queue;
        let free = overview.disk_free_bytes.unwrap_or_default();
        if queue.is_full || !self.capacity.has_room_to_spare(queue.depth, free) {
            return Ok(false);
        }
        let wanted = || overview.sensors.iter().filter(|sensor| sensor.wanted);
        let state = GatewayState {
            version: overview.version.parse().expect("a version is letters, digits and dots"),
            sensors: wanted().count() as u32,
            sensors_streaming: wanted().filter(|sensor| sensor.streams).count() as u32,
            queue_depth: queue.depth,
            queue_oldest_s: queue.oldest_s,
            disk_free_bytes: overview.disk_free_bytes,
        };
        let record = Observation {
            sensor: SensorId::none(),
            taken: self.looker.clock.now(),
            starts_session,
            content: Content::Body(Body::Gateway(state)),
        };
        self.looker.queue.append(vec![record]).await.map(|_appended| true)
    }
}
