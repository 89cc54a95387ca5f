//! Touched minutes → their documents, summed from what the index holds now.
//!
//! Doing it again changes nothing, so a caller that fails half-way simply begins again.

use std::collections::BTreeSet;

use tracing::{error, warn};

use crate::deadline::Deadline;
use crate::line::Reading;
use crate::minutes;
use crate::opensearch::{Answer, CallError, OpenSearch};
use crate::query::{self, PARAMETERS, Page, Query};
use crate::window::TouchedMinutes;
use crate::writing::{Fate, write};

/// Why minutes are not what their readings say. All of them are to be summed again.
#[derive(Debug, thiserror::Error)]
pub enum AggregationError {
    /// Their readings could not be fetched.
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
    for index in queries.iter().map(|query| &*query.index).collect::<BTreeSet<&str>>() {
        let path = format!("/{index}/_refresh?ignore_unavailable=true&filter_path=_shards.failed");
        post(search, &path, &[], deadline).await.map_err(AggregationError::Fetch)?;
    }
    for query in &queries {
        let readings = fetch(search, query, deadline).await.map_err(AggregationError::Fetch)?;
        let operations = minutes::operations(query, readings);
        let fates = write(search, &operations, deadline).await;
        let failed = fates.iter().filter(|fate| **fate == Fate::Failed).count();
        if failed > 0 {
            return Err(AggregationError::Write(failed));
        }
        for fate in &fates {
            if let Fate::Refused(refusal) = fate {
                error!(status = refusal.status, kind = refusal.kind, "OpenSearch refuses a minute's sums");
            }
        }
    }
    Ok(())
}

async fn fetch(
    search: &OpenSearch,
    query: &Query,
    deadline: &mut Deadline,
) -> Result<Vec<Reading<'static>>, CallError> {
    let path = format!("/{}/_search?{PARAMETERS}", query.index);
    let (mut readings, mut foreign, mut after) = (Vec::new(), 0, None);
    loop {
        let answer = post(search, &path, &query.body(after.as_deref()), deadline).await?;
        let page = Page::parse(&answer).map_err(|_| CallError::Unreadable)?;
        readings.extend(page.readings);
        foreign += page.foreign;
        after = page.after;
        if after.is_none() {
            break;
        }
    }
    if foreign > 0 {
        warn!(foreign, index = query.index, "Documents that are no readings are not in the minutes' sums");
    }
    Ok(readings)
}

/// Posts until it goes well, it cannot, or there is no more time.
async fn post(
    search: &OpenSearch,
    path: &str,
    body: &[u8],
    deadline: &mut Deadline,
) -> Result<Answer, CallError> {
    loop {
        let Some(timeout) = deadline.call_timeout() else { return Err(CallError::Timeout) };
        match search.post(path, body.to_vec(), timeout).await {
            Err(error) if error.may_pass() && deadline.pause().await => {}
            result => return result,
        }
    }
}
