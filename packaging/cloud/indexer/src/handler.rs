//! One invocation: read the batch, write its readings, sum the minutes if it is time, say what failed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use crate::aggregation::{AggregationError, aggregate};
use crate::bulk::{Operation, Refusal};
use crate::deadline::{Deadline, WRITING_SHARE};
use crate::event::{Answer, Batch, ItemFailure, NotKinesis};
use crate::index::{AHEAD_MS_MAX, Minute, Retention};
use crate::intake::{Intake, Placed, SetAside};
use crate::opensearch::OpenSearch;
use crate::window::{STATE_MINUTES_MAX, TouchedMinutes};
use crate::writing::{Fate, chain, write};

/// Most lines whose positions are logged in one invocation; the summary counts all. A producer gone
/// wrong would otherwise write a batch's worth of log lines again and again.
const SET_ASIDE_LOGGED_MAX: usize = 1_000;

/// Why an invocation failed as a whole. Lambda brings the batch again, with the same state.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There was no batch.
    #[error("{0}")]
    NotKinesis(#[source] NotKinesis),
    /// The readings are written; writing them again changes nothing.
    #[error("the batch comes again, for its window's minutes are not summed")]
    Aggregation(#[source] AggregationError),
}

impl From<Failure> for lambda_runtime::Diagnostic {
    fn from(failure: Failure) -> Self {
        let error_type = match failure {
            Failure::NotKinesis(_) => "NotKinesis",
            Failure::Aggregation(_) => "AggregationError",
        };
        Self { error_type: error_type.to_owned(), error_message: chain(&failure) }
    }
}

/// Handles Lambda's `payload` at `now_ms`, milliseconds since 1970, with `time_left` until Lambda ends it.
/// Readings are kept as `retention` says.
pub async fn handle(
    search: &OpenSearch,
    retention: Retention,
    payload: &str,
    now_ms: i64,
    time_left: Duration,
) -> Result<Answer, Failure> {
    let began = Instant::now();
    let mut deadline = Deadline::new(time_left);
    let batch = Batch::parse(payload).map_err(Failure::NotKinesis)?;
    let mut intake = Intake::of(&batch);
    let operations: Vec<Operation> =
        intake.readings.iter().map(|placed| operation(placed, retention, now_ms)).collect();
    let fates = write(search, &operations, &mut deadline.part(WRITING_SHARE)).await;
    drop(operations);
    intake.set_aside.extend(refused(&intake.readings, &fates));
    log_set_aside(&batch, &mut intake.set_aside);

    let failed: Vec<usize> = (0..fates.len())
        .filter(|&position| matches!(fates[position], Fate::Failed | Fate::Outdated))
        .collect();
    let failed_records: BTreeSet<usize> =
        failed.iter().map(|&position| intake.readings[position].record).collect();
    let ahead =
        intake.readings.iter().filter(|placed| placed.reading.taken_ms > now_ms + AHEAD_MS_MAX).count();
    if ahead > 0 {
        warn!(
            lines = ahead,
            "lines of a clock that is ahead: they are in the index of the month that they claim"
        );
    }
    let mut touched = state(&batch);
    intake.readings.iter().for_each(|placed| touch(&mut touched, placed));
    let minutes = summed_now(&batch, &intake.readings, failed_records.first().copied(), &touched);
    let result = aggregate(search, &minutes, &mut deadline).await;
    info!(
        records = batch.records.len(),
        lines = intake.lines,
        indexed = fates.iter().filter(|fate| **fate == Fate::Written).count(),
        repeated = intake.repeated,
        set_aside = intake.set_aside.iter().map(|aside| aside.lines).sum::<usize>(),
        failed = failed.len(),
        minutes = if result.is_ok() { minutes.len() } else { 0 },
        ms = began.elapsed().as_millis() as u64,
        "Batch indexed"
    );
    result.map_err(Failure::Aggregation)?;
    if minutes == touched {
        touched = TouchedMinutes::default();
    }
    Ok(Answer {
        batch_item_failures: failed_records.into_iter().map(|record| item_failure(&batch, record)).collect(),
        state: batch.window.map(|_| touched),
    })
}

fn operation(placed: &Placed, retention: Retention, now_ms: i64) -> Operation {
    let reading = &placed.reading;
    Operation::index(
        &retention.readings_index(reading.taken_ms, now_ms),
        &reading.record.reading_id,
        &reading.document(now_ms),
    )
}

/// State records are in no sum.
fn touch(touched: &mut TouchedMinutes, placed: &Placed) {
    if placed.reading.record.record.is_some() {
        return;
    }
    touched.touch(&placed.reading.record.sensor_id, Minute::of(placed.reading.taken_ms));
}

fn item_failure(batch: &Batch<'_>, record: usize) -> ItemFailure {
    ItemFailure { item_identifier: batch.records[record].sequence_number.to_string() }
}

/// The minutes that the window has touched before.
fn state(batch: &Batch<'_>) -> TouchedMinutes {
    let state = batch.window.as_ref().and_then(|window| window.state);
    TouchedMinutes::from_state(state).unwrap_or_else(|error| {
        // To fail would stop the shard until the records are too old.
        error!(%error, shard = &*batch.shard, "Minutes of this window stay as they were until touched again");
        TouchedMinutes::default()
    })
}

/// What to sum in this invocation: at the window's end, and when too many wait, all that the window touched.
/// Without a window, what this batch touched. After a failure, of this batch, the minutes of the records before
/// the first that failed: those will not come again, and whether Lambda keeps the state of an answer that
/// reports failures is not documented.
fn summed_now(
    batch: &Batch<'_>,
    readings: &[Placed],
    first_failed: Option<usize>,
    touched: &TouchedMinutes,
) -> TouchedMinutes {
    let closes = batch.window.as_ref().is_some_and(|window| window.closes);
    if closes || touched.len() > STATE_MINUTES_MAX {
        return touched.clone();
    }
    let waits = batch.window.is_some() && first_failed.is_none();
    let done =
        readings.iter().filter(|placed| !waits && first_failed.is_none_or(|first| placed.record < first));
    let mut minutes = TouchedMinutes::default();
    done.for_each(|placed| touch(&mut minutes, placed));
    minutes
}

fn refused(readings: &[Placed], fates: &[Fate]) -> Vec<SetAside> {
    let refused = readings.iter().zip(fates).filter_map(|(placed, fate)| match fate {
        Fate::Refused(refusal) => Some((placed, refusal)),
        Fate::Written | Fate::Outdated | Fate::Failed => None,
    });
    let set_aside = |(placed, Refusal { status, kind }): (&Placed, &Refusal)| SetAside {
        record: placed.record,
        line: Some(placed.line),
        lines: 1,
        reason: format!("OpenSearch refuses the document: {status} {kind}"),
    };
    refused.map(set_aside).collect()
}

/// The alarm's metric filter looks for the words "line set aside".
fn log_set_aside(batch: &Batch<'_>, set_aside: &mut [SetAside]) {
    set_aside.sort_by_key(|aside| (aside.record, aside.line));
    for aside in set_aside.iter().take(SET_ASIDE_LOGGED_MAX) {
        error!(
            shard = &*batch.shard,
            sequence_number = &*batch.records[aside.record].sequence_number,
            line = aside.line,
            lines = aside.lines,
            reason = aside.reason,
            "line set aside"
        );
    }
}
