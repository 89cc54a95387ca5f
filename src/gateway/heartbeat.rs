//! What goes on beside the flow of readings: the clock, the status line, the watchdog, and the ledger
//! in the log.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use crate::clock::SystemClock;
use crate::drainer::settle::{CallError, ErrorClass};
use crate::drainer::{DrainerView, look_at_clock};
use crate::queue::handle::Handle;
use crate::queue::ledger::Ledger;
use crate::reading::SensorId;
use crate::service_manager::{self, Watchdog};

const BEAT: Duration = Duration::from_secs(2);
const CLOCK_EVERY: Duration = Duration::from_secs(10);

/// Runs beside the other tasks and only looks at them.
pub(super) struct Heartbeat {
    pub(super) queue: Handle,
    pub(super) clock: SystemClock,
    pub(super) states: watch::Receiver<BTreeMap<SensorId, bool>>,
    pub(super) failing: watch::Receiver<Option<CallError>>,
    /// `None` where no sink is configured.
    pub(super) drainer: Option<Arc<DrainerView>>,
    pub(super) ingest_rounds: Arc<AtomicU64>,
    pub(super) source_rounds: Option<Arc<AtomicU64>>,
    pub(super) ledger_interval: Duration,
    /// Where the status line says to write what is missing.
    pub(super) config_path: PathBuf,
}

impl Heartbeat {
    /// Beats until it is aborted.
    pub(super) async fn run(self) {
        let mut watchdog = self.watchdog();
        let mut said = String::new();
        let now = Instant::now();
        let (mut clock_at, mut ledger_at) = (now, now + self.ledger_interval);
        let mut stuck_before = Vec::new();
        let mut clock_wrong = false;
        loop {
            let now = Instant::now();
            if now >= clock_at && !self.clock.is_synchronized() {
                clock_at = now + CLOCK_EVERY;
                self.look_at_clock(clock_wrong).await;
                clock_wrong |= !self.clock.is_synchronized();
            }
            if clock_wrong && self.clock.is_synchronized() {
                clock_wrong = false;
                info!("the clock is synchronized; queued readings of this boot are sent with corrected time");
            }
            let stuck = watchdog.as_mut().map(Watchdog::feed).unwrap_or_default();
            if stuck != stuck_before {
                match stuck.join(", ") {
                    names if names.is_empty() => info!("all tasks move again"),
                    names => error!("standing still: {names}; systemd restarts the daemon if that goes on"),
                }
                stuck_before = stuck;
            }
            if now >= ledger_at {
                ledger_at = now + self.ledger_interval;
                log_ledger(&self.queue.ledger().await);
            }
            let sentence = self.sentence(&self.queue.ledger().await);
            if sentence != said {
                service_manager::status(&sentence);
                said = sentence;
            }
            sleep(BEAT).await;
        }
    }

    fn watchdog(&self) -> Option<Watchdog> {
        let mut tasks = vec![("ingest", self.ingest_rounds.clone())];
        tasks.extend(self.drainer.as_ref().map(|view| ("drainer", view.rounds.clone())));
        tasks.extend(self.source_rounds.clone().map(|rounds| ("source", rounds)));
        Watchdog::new(tasks)
    }

    /// Until it is synchronized. `before`: whether an earlier look found that it was not.
    async fn look_at_clock(&self, before: bool) {
        let looked = look_at_clock(&self.clock, &self.queue).await;
        self.clock.note_offset();
        match looked {
            Ok(true) => {}
            Ok(false) if before || self.clock.is_synchronized() => {}
            Ok(false) => info!("the clock is not synchronized; readings are kept, and corrected once it is"),
            Err(error) => {
                warn!(%error, "the clock is synchronized, and the queue could not note by how much it was wrong");
            }
        }
    }

    fn sentence(&self, ledger: &Ledger) -> String {
        let states = self.states.borrow();
        let streaming = states.values().filter(|streams| **streams).count();
        let depth = ledger.depth();
        let sensors = match states.len() {
            0 => "no sensor yet".to_owned(),
            all => format!("{streaming} of {all} sensors streaming"),
        };
        let sink = match (&self.drainer, &*self.failing.borrow()) {
            (None, _) => {
                format!("nothing to drain to: {}", super::what_to_write(&self.config_path))
            }
            (_, Some(failure)) => match failure.class {
                ErrorClass::Blocked | ErrorClass::Poison => format!("the sink refuses ({})", failure.code),
                ErrorClass::Transient | ErrorClass::Throttled | ErrorClass::TooLarge => {
                    "the sink cannot be reached".to_owned()
                }
            },
            (Some(view), None) => match view.last_accepted_ms.load(Ordering::Relaxed) {
                0 => "nothing accepted yet".to_owned(),
                last => format!("last accepted {}", ago(last)),
            },
        };
        let full = match ledger.rows.values().any(|row| row.evicting.is_some()) {
            true => "; THE QUEUE IS FULL, readings are being lost",
            false => "",
        };
        format!("{sensors}; {depth} items queued{full}; {sink}")
    }
}

fn log_ledger(ledger: &Ledger) {
    let totals = ledger.totals();
    let readings = totals.readings;
    info!(
        received = readings.received,
        delivered = readings.delivered,
        queued = readings.queued,
        dead_lettered = readings.dead_lettered,
        evicted = readings.evicted,
        malformed = totals.malformed,
        gap_records = totals.gap_records.received,
        "ledger: {} received = {} delivered + {} queued + {} dead-lettered + {} evicted",
        readings.received,
        readings.delivered,
        readings.queued,
        readings.dead_lettered,
        readings.evicted,
    );
}

/// In steps that do not change with every beat.
fn ago(wall_ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    match now.saturating_sub(Duration::from_millis(wall_ms)).as_secs() {
        0..10 => "just now".to_owned(),
        seconds @ 10..60 => format!("{} s ago", seconds / 10 * 10),
        seconds => format!("{} min ago", seconds / 60),
    }
}
