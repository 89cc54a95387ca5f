//! `systemctl reload`: another configuration for a gateway that runs.
//!
//! What must hold: a reload that cannot be carried out changes nothing and says why; readings flow on
//! under the configuration in force, and the reload can be repeated. So everything that can fail is done
//! before anything is stopped: the whole configuration is looked at, another queue is opened beside the one
//! in use, and another key is tried on all that is stored. The queue that stays is not closed at all.

use std::path::PathBuf;

use tracing::{error, info, warn};

use super::run::{Life, Open, open_soon};
use super::{chain, layers};
use crate::ble::bluez::Wanted;
use crate::clock::SystemClock;
use crate::config::{Config, Validated};
use crate::queue::QueueError;
use crate::queue::capacity::Capacity;
use crate::telemetry;

/// What a reload comes to.
pub(super) enum Reload {
    /// Sensors come and go, or the log says more or less; the gateway goes on.
    Beside(Box<Validated>),
    /// The gateway begins anew.
    Anew(Box<Prepared>),
}

/// All that a gateway needs which begins anew.
pub(super) struct Prepared {
    validated: Validated,
    /// Only where another one is configured.
    queue: Option<Open>,
    /// Only where it is another one: then what reads it begins anew too.
    clock: Option<SystemClock>,
}

/// Reads the configuration again and prepares all that it needs. An error is one line per reason.
pub(super) async fn prepare(config_path: Option<PathBuf>, life: &Life) -> Result<Reload, Vec<String>> {
    let new = layers(config_path).and_then(|layers| layers.config());
    let new = new.map_err(|error| error.mistakes().iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let old = &life.validated;
    new.warnings().iter().for_each(|warning| warn!("{warning}"));
    let has_key = new.has_key_of(old);
    if has_key
        && new.page() == old.page()
        && with_what_changes_beside(new.config(), old.config()) == *old.config()
    {
        return Ok(Reload::Beside(Box::new(new)));
    }
    let queue = if new.config().queue.path != old.config().queue.path {
        Some(open_soon(&new).await.map_err(|error| vec![chain(&error)])?)
    } else {
        if !has_key {
            life.open.queue.opens_with(new.codec()).await.map_err(|error| vec![other_key(&error)])?;
        }
        None
    };
    let synchronization = new.config().clock.synchronization;
    let clock = match synchronization == old.config().clock.synchronization {
        true => None,
        false => Some(SystemClock::new(synchronization).map_err(|error| vec![chain(&error)])?),
    };
    Ok(Reload::Anew(Box::new(Prepared { validated: new, queue, clock })))
}

fn with_what_changes_beside(new: &Config, old: &Config) -> Config {
    let mut comparable = new.clone();
    comparable.sensor.clone_from(&old.sensor);
    comparable.bluetooth.clone_from(&old.bluetooth);
    comparable.log.level.clone_from(&old.log.level);
    comparable
}

/// What was wrong with another key, or with the disk meanwhile.
fn other_key(error: &QueueError) -> String {
    match error {
        QueueError::Segment { .. } => format!(
            "`queue.encryption_key_file`: what is queued was written with another key ({}): put that back, or wait \
             until `hr-gatewayd queue status` shows nothing queued and no dead letters",
            chain(error)
        ),
        _ => chain(error),
    }
}

/// What the sensors' tasks obey.
pub(super) fn wanted(config: &Config) -> Wanted {
    Wanted { sensors: config.sensor.clone(), bluetooth: config.bluetooth.clone() }
}

impl Prepared {
    /// Whether the links have to begin anew too.
    pub(super) fn has_other_clock(&self) -> bool {
        self.clock.is_some()
    }

    /// What follows `old`, which has stopped; `old` itself where that is not possible after all.
    pub(super) async fn take_over(self, old: Life) -> Life {
        let Self { validated, queue, clock } = self;
        let (capacity, gateway) = (Capacity::from_config(&validated.config().queue), validated.gateway_id());
        let open = match queue {
            Some(other) => {
                say_what_stays(&old).await;
                other
            }
            None => {
                // A reading may have come since another key was tried.
                let queue = &old.open.queue;
                if let Err(error) = queue.reconfigure(capacity, validated.codec(), gateway).await {
                    let is_key = matches!(error, QueueError::Segment { .. });
                    let error_class = if is_key { "config" } else { "storage" };
                    error!(error_class, "{}; the configuration stays as it was", other_key(&error));
                    return old;
                }
                // What was found when it was opened has been told of.
                Open { queue: old.open.queue, went_back: false }
            }
        };
        telemetry::set_filter(validated.filter());
        info!("configuration changed; the gateway begins anew with it");
        Life { validated, open, clock: clock.unwrap_or(old.clock) }
    }
}

async fn say_what_stays(old: &Life) {
    let ledger = old.open.queue.ledger().await;
    let totals = ledger.totals();
    let stay = ledger.depth() + totals.readings.dead_lettered + totals.other_records.dead_lettered;
    if stay > 0 {
        let path = old.validated.config().queue.path.display();
        warn!(
            items = stay,
            "the former queue at {path} keeps {stay} items that are not delivered; they are, once it is configured again"
        );
    }
}
