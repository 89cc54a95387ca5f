//! What goes on beside the flow of readings: the clock, the status line, the watchdog, and the ledger
//! in the log.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info};

use super::clock_watch::ClockWatch;
use crate::ble::{SensorViews, SourceView};
use crate::clock::{SystemClock, boottime};
use crate::drainer::DrainerView;
use crate::drainer::settle::{CallError, ErrorClass};
use crate::queue::handle::Handle;
use crate::queue::ledger::Ledger;
use crate::service_manager::{self, Watchdog};

const BEAT: Duration = Duration::from_secs(2);

/// Runs beside the other tasks and only looks at them.
pub(super) struct Heartbeat {
    pub(super) queue: Handle,
    pub(super) clock: SystemClock,
    pub(super) states: watch::Receiver<SensorViews>,
    pub(super) failing: watch::Receiver<Option<CallError>>,
    /// `None` where no sink is configured.
    pub(super) drainer: Option<Arc<DrainerView>>,
    pub(super) ingest_rounds: Arc<AtomicU64>,
    pub(super) source_view: Option<Arc<SourceView>>,
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
        let mut ledger_at = now + self.ledger_interval;
        let mut ledger = Ledger::default();
        let mut stuck_before = Vec::new();
        let mut clock = ClockWatch::new(self.clock.clone(), self.queue.clone());
        loop {
            let now = Instant::now();
            clock.look();
            let stuck = watchdog.as_mut().map(Watchdog::feed).unwrap_or_default();
            if stuck != stuck_before {
                match stuck.join(", ") {
                    names if names.is_empty() => info!("all tasks move again"),
                    names => error!("standing still: {names}; systemd restarts the daemon if that goes on"),
                }
                stuck_before = stuck;
            }
            // A queue that waits for its disk does not hold up the heart.
            if let Ok(known) = timeout(BEAT, self.queue.ledger()).await {
                ledger = known;
            }
            if now >= ledger_at {
                ledger_at = now + self.ledger_interval;
                log_ledger(&ledger);
            }
            let sentence = self.sentence(&ledger);
            if sentence != said && service_manager::status(&sentence) {
                said = sentence;
            }
            tokio::select! {
                () = sleep(BEAT) => {}
                () = clock.answered() => {}
            }
        }
    }

    fn watchdog(&self) -> Option<Watchdog> {
        let mut tasks = vec![("ingest", self.ingest_rounds.clone())];
        tasks.extend(self.drainer.as_ref().map(|view| ("drainer", view.rounds.clone())));
        tasks.extend(self.source_view.as_ref().map(|view| ("source", view.rounds.clone())));
        Watchdog::new(tasks)
    }

    fn sentence(&self, ledger: &Ledger) -> String {
        let states = self.states.borrow();
        let streaming = states.values().filter(|view| view.streams).count();
        let depth = ledger.depth();
        let sensors = match states.len() {
            0 => "no sensor yet".to_owned(),
            all => format!("{streaming} of {all} sensors streaming"),
        };
        let sink = match (&self.drainer, &*self.failing.borrow()) {
            (None, _) => {
                format!("nothing to drain to: {}", super::what_to_write(&self.config_path))
            }
            (_, Some(failure)) if failure.needs_a_person() => format!("the sink refuses ({})", failure.code),
            (_, Some(failure)) if failure.class == ErrorClass::Throttled => {
                format!("the sink takes no more for now ({})", failure.code)
            }
            (_, Some(_)) => "the sink cannot be reached".to_owned(),
            (Some(view), None) => match view.last_accepted_ms.load(Ordering::Relaxed) {
                0 => "nothing accepted yet".to_owned(),
                last => format!("last accepted {}", ago(last)),
            },
        };
        let full = match ledger.rows.values().any(|row| row.evicting.is_some()) {
            true => "; THE QUEUE IS FULL, readings are being lost",
            false => "",
        };
        let unanswered = match self.source_view.as_ref().and_then(|view| *view.unanswered.borrow()) {
            Some(who) => format!("{who} does not answer; "),
            None => String::new(),
        };
        format!("{unanswered}{sensors}; {depth} items queued{full}; {sink}")
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
        other_records = totals.other_records.received,
        "ledger: {} received = {} delivered + {} queued + {} dead-lettered + {} evicted",
        readings.received,
        readings.delivered,
        readings.queued,
        readings.dead_lettered,
        readings.evicted,
    );
}

/// In steps that do not change with every beat.
fn ago(since_boot_ms: u64) -> String {
    match boottime().saturating_sub(Duration::from_millis(since_boot_ms)).as_secs() {
        0..10 => "just now".to_owned(),
        seconds @ 10..60 => format!("{} s ago", seconds / 10 * 10),
        seconds => format!("{} min ago", seconds / 60),
    }
}
