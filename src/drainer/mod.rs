//! Queue → sink: peek → put → settle → remove.
//!
//! [`dispatch`] decides, purely; [`Drainer::run`] is the thin part that owns the clock, the queue and
//! the calls in flight. What must hold: an item is removed only after the sink accepted it; a failure
//! of the sink never ends the drainer, a failure of the queue always does.

pub mod batch;
pub mod copy;
pub mod directory;
pub mod dispatch;
pub mod hold;
pub mod kinesis;
pub mod outage;
pub mod pace;
pub mod settle;
pub mod suspects;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::clock::{SystemClock, boottime};
use crate::config::DrainOrder;
use crate::fault;
use crate::queue::QueueError;
use crate::queue::handle::Handle;
use crate::queue::sequence_set::SequenceSet;
use batch::{Limits, Record, pack};
use dispatch::{Dispatcher, Step};
use settle::{CallError, EntryVerdict, ErrorClass, Settlement, Transition, advice, on_the_way};

/// Where records go. Implemented by Kinesis, the directory, and the scripts of the tests.
pub trait RecordSink: Send + Sync {
    /// Sends `records`, none of them twice by itself. One verdict per record, in their order, or the
    /// failure of the whole, after which each may or may not have been accepted.
    fn put<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Result<Vec<EntryVerdict>, CallError>>;

    /// What it is, in a word.
    fn kind(&self) -> &'static str;

    /// When what it identifies this gateway by ends for good, seconds since 1970, where that is known.
    fn identity_ends_at_s(&self) -> Option<i64>;

    /// Most calls that it takes at once.
    fn calls_in_flight_max(&self) -> usize {
        usize::MAX
    }
}

/// What the drainer shows of itself to the status line and the watchdog.
#[derive(Debug, Default)]
pub struct DrainerView {
    /// When the last acceptance was, milliseconds since boot; 0 for none yet.
    pub last_accepted_ms: AtomicU64,
    /// When the sink began to fail, or to accept again, milliseconds since boot; 0 while it did neither.
    pub turned_ms: AtomicU64,
    /// When what identifies the gateway to the sink ends for good, seconds since 1970; 0 where that is not known.
    pub identity_ends_at_s: AtomicI64,
    /// Items accepted since the start.
    pub accepted: AtomicU64,
    /// Rounds of the loop: the watchdog's proof of life.
    pub rounds: Arc<AtomicU64>,
}

/// The remove side of the queue, and the sink.
pub struct Drainer {
    /// The queue.
    pub queue: Handle,
    /// Where its items go.
    pub sink: Arc<dyn RecordSink>,
    /// The machine's clocks: what is sent is encoded with what they know by then.
    pub clock: SystemClock,
    /// Bounds of records and calls.
    pub limits: Limits,
    /// What goes first.
    pub order: DrainOrder,
    /// What others may look at.
    pub view: Arc<DrainerView>,
    /// The class of failure the sink is in, for the status line.
    pub failing: watch::Sender<Option<CallError>>,
    /// Seed of the jitter.
    pub random: fastrand::Rng,
}

/// Longest time without a round, so that the watchdog sees an idle drainer alive.
const ROUND_MAX: Duration = Duration::from_secs(5);
/// So long a sink may take to answer what is in flight when it is time to stop. Then that is left to its
/// end: it stays queued, and is sent again.
const SETTLE_MAX: Duration = Duration::from_secs(10);

impl Drainer {
    /// Drains until `stop`, then settles what is in flight, within `SETTLE_MAX`.
    pub async fn run(self, stop: CancellationToken) -> Result<(), QueueError> {
        let started = Instant::now();
        let calls_in_flight_max = self.limits.calls_in_flight_max.min(self.sink.calls_in_flight_max());
        let limits = Limits { calls_in_flight_max, ..self.limits };
        let mut dispatcher = Dispatcher::new(limits, self.order, self.random.clone());
        let mut in_flight = FuturesUnordered::new();
        // The queue's thread works while calls are made.
        let mut fetching = FuturesUnordered::new();
        let mut leaving = FuturesUnordered::new();
        let mut leave_at = None;
        // When what was appended since has waited long enough for more.
        let mut lingers_until: Option<Duration> = None;
        loop {
            self.view.rounds.fetch_add(1, Ordering::Relaxed);
            let ends_at_s = self.sink.identity_ends_at_s().unwrap_or(0);
            self.view.identity_ends_at_s.store(ends_at_s, Ordering::Relaxed);
            if fault::injected("drainer-hangs") {
                return std::future::pending().await;
            }
            if lingers_until.is_some_and(|until| until <= started.elapsed()) {
                lingers_until = None;
                dispatcher.handle_appended();
            }
            let step = match leave_at {
                Some(_) => Step::Wait(leave_at),
                None => dispatcher.poll(started.elapsed()),
            };
            let wake = match step {
                Step::Fetch(items_max) => {
                    fetching.push(self.fetch(dispatcher.claimed().clone(), items_max));
                    continue;
                }
                Step::Send(batch) => {
                    let sink = &self.sink;
                    in_flight.push(async move {
                        let answer = sink.put(&batch.records).await;
                        (batch, answer)
                    });
                    continue;
                }
                Step::Wait(until) => {
                    let earliest = until.into_iter().chain(lingers_until).min();
                    earliest.map_or(ROUND_MAX, |at| at.saturating_sub(started.elapsed()).min(ROUND_MAX))
                }
            };
            if leave_at.is_some_and(|at| in_flight.is_empty() || at <= started.elapsed()) {
                // What was answered leaves the queue, or it would be sent again.
                while leaving.try_next().await?.is_some() {}
                return Ok(());
            }
            // In this order, so that a simulated history is the same each time it is run.
            tokio::select! {
                biased;
                () = stop.cancelled(), if leave_at.is_none() => leave_at = Some(started.elapsed() + SETTLE_MAX),
                Some((batch, answer)) = in_flight.next(), if !in_flight.is_empty() => {
                    let Settlement { accepted, refused, transition } =
                        dispatcher.handle_answer(batch, answer, started.elapsed());
                    if !accepted.is_empty() {
                        leaving.push(self.leave(accepted, None));
                    }
                    if let Some((sequences, reason)) = refused {
                        leaving.push(self.leave(sequences, Some(reason)));
                    }
                    transition.into_iter().for_each(|transition| self.report(transition));
                }
                Some(left) = leaving.next(), if !leaving.is_empty() => {
                    dispatcher.forget(&left?);
                    // A removal that ends a full queue adds gap records, and rings nobody.
                    if self.queue.depth() > dispatcher.claimed().count() {
                        lingers_until.get_or_insert(started.elapsed() + limits.linger);
                    }
                }
                Some(fetched) = fetching.next(), if !fetching.is_empty() && leave_at.is_none() => {
                    let (records, exhausted) = fetched?;
                    dispatcher.handle_fetched(records, exhausted, started.elapsed());
                }
                () = self.queue.rung() => {
                    lingers_until.get_or_insert(started.elapsed() + limits.linger);
                }
                () = tokio::time::sleep(wake) => {
                    if wake == ROUND_MAX {
                        self.queue.write_deferred().await?;
                    }
                }
            }
        }
    }

    async fn fetch(&self, claimed: SequenceSet, items_max: usize) -> Result<(Vec<Record>, bool), QueueError> {
        let clock_offset_ms = self.clock.offset_ms();
        let readings_max = self.limits.record_readings_max;
        let packed = self.queue.fetch(self.order, claimed, items_max, move |items, envelope| {
            let exhausted = items.len() < items_max;
            (pack(items, envelope, clock_offset_ms, readings_max), exhausted)
        });
        packed.await
    }

    /// Has what was accepted, or refused for that reason, leave the queue.
    async fn leave(
        &self,
        sequences: SequenceSet,
        refused: Option<String>,
    ) -> Result<SequenceSet, QueueError> {
        let Some(reason) = refused else {
            self.queue.remove(sequences.clone()).await?;
            self.note_accepted(sequences.count());
            return Ok(sequences);
        };
        error!(
            error_class = ErrorClass::Poison.as_str(),
            readings = sequences.count(),
            reason,
            "the sink refuses a reading for good; kept aside (see `hr-gatewayd queue dead-letters`)"
        );
        self.queue.dead_letter(sequences.clone(), reason).await?;
        Ok(sequences)
    }

    fn note_accepted(&self, items: u64) {
        self.view.last_accepted_ms.store(boottime().as_millis() as u64, Ordering::Relaxed);
        self.view.accepted.fetch_add(items, Ordering::Relaxed);
    }

    fn report(&self, transition: Transition) {
        let queued = self.queue.depth();
        if !matches!(transition, Transition::FailingAgain(_)) {
            self.view.turned_ms.store(boottime().as_millis() as u64, Ordering::Relaxed);
        }
        match transition {
            Transition::Recovered { from, after } => {
                self.failing.send_replace(None);
                let after_s = after.as_secs_f64();
                info!(
                    error_class = from.as_str(),
                    queued, "the sink accepts again after {after_s:.1} s; {queued} items wait"
                );
            }
            Transition::Failing(failure) => {
                let class = failure.class.as_str();
                if failure.needs_a_person() {
                    let advice = advice(&failure.code);
                    let what = match on_the_way(&failure.code) {
                        true => "the way to the sink is barred",
                        false => "the sink refuses the gateway",
                    };
                    error!(error_class = class, error = %failure, queued,
                        "{what}: {advice}; everything is kept, trying again slowly");
                } else {
                    let what = match failure.class {
                        ErrorClass::Throttled => {
                            "the sink takes no more for now: if that goes on, give the stream more shards or make \
                             it on-demand"
                        }
                        _ => "the sink cannot be reached",
                    };
                    let pace = if failure.is_slow() { "slowly" } else { "every few seconds" };
                    warn!(error_class = class, error = %failure, queued,
                        "{what}; everything is kept, trying again {pace}");
                }
                self.failing.send_replace(Some(failure));
            }
            Transition::FailingAgain(failure) => _ = self.failing.send_replace(Some(failure)),
        }
    }
}
