//! Looks at the wall clock beside the flow of readings, and asks the system about it while it is not
//! known to be right. Who is asked may take long, or hang: nothing waits for the answer.

use std::future::pending;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::blocking;
use crate::clock::SystemClock;
use crate::queue::QueueError;
use crate::queue::handle::Handle;

const ASK_EVERY: Duration = Duration::from_secs(10);

/// What the heartbeat does about the clock.
pub(super) struct ClockWatch {
    clock: SystemClock,
    queue: Handle,
    asking: Option<BoxFuture<'static, Result<bool, QueueError>>>,
    ask_at: Instant,
    steps: u64,
    /// What was said last.
    wrong: bool,
}

impl ClockWatch {
    pub(super) fn new(clock: SystemClock, queue: Handle) -> Self {
        let steps = clock.steps();
        Self { clock, queue, asking: None, ask_at: Instant::now(), steps, wrong: false }
    }

    /// Looks, says what changed, and begins to ask where that is due.
    pub(super) fn look(&mut self) {
        let step_ms = self.clock.take_step();
        let synchronized = self.clock.is_synchronized();
        if let Some(step_ms) = step_ms {
            self.wrong = !synchronized;
            warn_of_step(step_ms, synchronized);
        }
        if synchronized {
            if std::mem::take(&mut self.wrong) {
                info!("the clock is synchronized; queued readings of this boot are sent with corrected time");
            }
            return;
        }
        let steps = self.clock.steps();
        let was_set = std::mem::replace(&mut self.steps, steps) != steps;
        if self.asking.is_none() && (was_set || Instant::now() >= self.ask_at) {
            self.ask_at = Instant::now() + ASK_EVERY;
            self.asking = Some(ask(self.clock.clone(), self.queue.clone()).boxed());
        }
    }

    /// Takes the answer of who was asked; never comes back where nobody was.
    pub(super) async fn answered(&mut self) {
        let Some(asking) = &mut self.asking else { return pending().await };
        let answer = asking.await;
        self.asking = None;
        match answer {
            // The drainer looks again at what waits.
            Ok(true) => self.queue.ring(),
            Ok(false) if self.clock.is_synchronized() || std::mem::replace(&mut self.wrong, true) => {}
            Ok(false) => info!("the clock is not synchronized; readings are kept, and corrected once it is"),
            Err(error) => {
                warn!(%error, "the clock is synchronized, and the queue could not note by how much it was wrong");
            }
        }
    }
}

/// Whether the clock became synchronized; the queue then knows its anchor.
async fn ask(clock: SystemClock, queue: Handle) -> Result<bool, QueueError> {
    let asked = clock.clone();
    let Some(vouched) = blocking::run(move || asked.ask()).await else { return Ok(false) };
    let kept = queue.add_anchor(vouched.anchor).await;
    let accepted = clock.accept(&vouched);
    kept.map(|()| accepted)
}

fn warn_of_step(step_ms: i64, still_trusted: bool) {
    let by = humantime::format_duration(Duration::from_millis(step_ms.unsigned_abs()));
    let direction = if step_ms < 0 { "back" } else { "forward" };
    match still_trusted {
        true => warn!(
            step_ms,
            "the wall clock was set {direction} by {by}; clock.synchronization = \"trusted\" says that it is \
             right now too, a gap record marks the place, nothing is lost"
        ),
        false => warn!(
            step_ms,
            "the wall clock was set {direction} by {by}; readings are kept, marked unsynchronized, and corrected \
             once the system says that it is right (see `timedatectl`); nothing is lost"
        ),
    }
}
