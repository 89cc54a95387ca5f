//! Touched minutes → their documents, summed from what the index holds now and from what they counted of readings
//! that the retention took.
//!
//! Doing it again changes nothing, so a caller that fails half-way simply begins again.

use std::collections::BTreeSet;

use tracing::{error, warn};

use crate::deadline::Deadline;
use crate::line::Reading;
use crate::minutes;
use crate::opensearch::{CallError, OpenSearch};
use crate::query::{self, IDS_PARAMETERS, PAGE_ROWS_MAX, PARAMETERS, Page, Query};
use crate::stored::{self, Stored};
use crate::window::TouchedMinutes;
use crate::writing::{Fate, write};

/// Why minutes are not what their readings say. All of them are to be summed again.
#[derive(Debug, thiserror::Error)]
pub enum AggregationError {
    /// Their readings or their documents could not be fetched.
    #[error("the readings of the touched minutes could not be fetched")]
    Fetch(#[source] CallError),
    /// Their documents were not taken.
    #[error("{0} of the touched minutes could not be written")]
    Write(usize),
}

/// Sums each touched minute. On return their documents are right as of a moment after the call; readings
/// that are written later touch their minutes themselves.
pub async fn aggregate(
    search: &OpenSearch,
    touched: &TouchedMinutes,
    deadline: &mut Deadline,
) -> Result<(), AggregationError> {
    let queries = query::plan(touched);
    // A search sees what was written before the index's last refresh only.
    for indices in queries.iter().map(|query| &*query.indices).collect::<BTreeSet<&str>>() {
        let path = format!("/{indices}/_refresh?ignore_unavailable=true&filter_path=_shards.failed");
        ask(search, &path, &[], deadline, |_| Some(())).await.map_err(AggregationError::Fetch)?;
    }
    for query in &queries {
        // After a reshard, or an invocation that Lambda gave up, another one may sum the same minute.
        loop {
            match sum(search, query, deadline).await? {
                0 => break,
                outdated if !deadline.pause().await => return Err(AggregationError::Write(outdated)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Sums the minutes of one query once. Returns how many of their documents were written by another meanwhile.
async fn sum(search: &OpenSearch, query: &Query, deadline: &mut Deadline) -> Result<usize, AggregationError> {
    // The documents first: what they count the search shall find.
    let stored = documents(search, query, deadline).await.map_err(AggregationError::Fetch)?;
    let readings = fetch(search, query, deadline).await.map_err(AggregationError::Fetch)?;
    let minutes = minutes::gather(query, readings, stored);
    let moved = held(search, query, minutes::not_found(&minutes), deadline);
    let moved = moved.await.map_err(AggregationError::Fetch)?;
    let fates = write(search, &minutes::operations(minutes, &moved), deadline).await;
    let failed = fates.iter().filter(|fate| **fate == Fate::Failed).count();
    if failed > 0 {
        return Err(AggregationError::Write(failed));
    }
    for fate in &fates {
        if let Fate::Refused(refusal) = fate {
            error!(status = refusal.status, kind = refusal.kind, "OpenSearch refuses a minute's sums");
        }
    }
    Ok(fates.iter().filter(|fate| **fate == Fate::Outdated).count())
}

/// The documents of the query's minutes, in their order.
async fn documents(
    search: &OpenSearch,
    query: &Query,
    deadline: &mut Deadline,
) -> Result<Vec<Option<Stored>>, CallError> {
    let ids: Vec<String> = query.minutes().map(|(sensor, minute)| minute.document_id(sensor)).collect();
    let path = format!("/{}/_mget?{}", query.minutes_index(), stored::PARAMETERS);
    let read = |answer: &[u8]| stored::parse(answer, ids.len()).ok();
    ask(search, &path, &stored::body(&ids), deadline, read).await
}

/// Which of the readings `ids` the query's indices hold, in whatever minute.
async fn held(
    search: &OpenSearch,
    query: &Query,
    ids: BTreeSet<String>,
    deadline: &mut Deadline,
) -> Result<BTreeSet<String>, CallError> {
    let path = format!("/{}/_search?{IDS_PARAMETERS}", query.indices);
    let (ids, mut held) = (Vec::from_iter(ids), BTreeSet::new());
    for part in ids.chunks(PAGE_ROWS_MAX) {
        let read = |answer: &[u8]| query::held_ids(answer).ok();
        held.extend(ask(search, &path, &query::ids_body(part), deadline, read).await?);
    }
    Ok(held)
}

async fn fetch(
    search: &OpenSearch,
    query: &Query,
    deadline: &mut Deadline,
) -> Result<Vec<Reading<'static>>, CallError> {
    let path = format!("/{}/_search?{PARAMETERS}", query.indices);
    let (mut readings, mut foreign, mut after) = (Vec::new(), 0, None);
    loop {
        let read = |answer: &[u8]| Page::parse(answer).ok();
        let page = ask(search, &path, &query.body(after.as_deref()), deadline, read).await?;
        readings.extend(page.readings);
        foreign += page.foreign;
        after = page.after;
        if after.is_none() {
            break;
        }
    }
    if foreign > 0 {
        warn!(
            foreign,
            indices = query.indices,
            "Documents that are no readings are not in the minutes' sums"
        );
    }
    Ok(readings)
}

/// Asks until there is an answer that `read` can read, it cannot go well, or there is no more time.
async fn ask<T>(
    search: &OpenSearch,
    path: &str,
    body: &[u8],
    deadline: &mut Deadline,
    read: impl Fn(&[u8]) -> Option<T>,
) -> Result<T, CallError> {
    loop {
        let Some(timeout) = deadline.call_timeout() else { return Err(CallError::Timeout) };
        let answer = search.post(path, body.to_vec(), timeout).await;
        match answer.and_then(|answer| read(&answer).ok_or(CallError::Unreadable)) {
            Err(error) if error.may_pass() && deadline.pause().await => {}
            result => return result,
        }
    }
}
