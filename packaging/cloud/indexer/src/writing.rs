//! Bulk operations → each one's fate. What may pass on a later try is tried again as long as there is
//! time; nothing is tried for ever.

use tracing::{error, warn};

use crate::bulk::{self, Operation, Refusal, Verdict};
use crate::deadline::Deadline;
use crate::opensearch::{CallError, OpenSearch};

/// What became of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The index holds it.
    Written,
    /// OpenSearch will never take it.
    Refused(Refusal),
    /// Something else was written there meanwhile: never, of an operation that asks for nothing.
    Outdated,
    /// Not written, or not known to be.
    Failed,
}

/// Why operations are still to be written after a pass over all.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Call(#[source] CallError),
    #[error("OpenSearch answered {} {} to an item", .0.status, .0.kind)]
    Item(Refusal),
}

/// Writes `operations`, and says what became of each, in their order.
pub async fn write(search: &OpenSearch, operations: &[Operation], deadline: &mut Deadline) -> Vec<Fate> {
    let mut fates = vec![Fate::Failed; operations.len()];
    let mut pending: Vec<usize> = (0..operations.len()).collect();
    let mut tries = 0;
    while !pending.is_empty() {
        let trouble = pass(search, operations, &mut pending, &mut fates, deadline).await;
        let Err(trouble) = trouble else { break };
        let (cause, waiting) = (chain(&trouble), pending.len());
        if let Trouble::Call(call) = &trouble
            && !call.may_pass()
        {
            error!(
                cause,
                waiting, "OpenSearch refuses the whole call: check the function's rights and endpoint"
            );
            break;
        }
        if tries == 0 {
            warn!(cause, waiting, "OpenSearch does not take all; trying again");
        }
        tries += 1;
        if !deadline.pause().await {
            warn!(cause, waiting, tries, "OpenSearch did not take all in this invocation's time");
            break;
        }
    }
    fates
}

/// One try for each of `pending`, which keeps those that are still to be written.
async fn pass(
    search: &OpenSearch,
    operations: &[Operation],
    pending: &mut Vec<usize>,
    fates: &mut [Fate],
    deadline: &Deadline,
) -> Result<(), Trouble> {
    let asked = std::mem::take(pending);
    let sizes: Vec<usize> = asked.iter().map(|&position| operations[position].lines().len()).collect();
    let mut trouble = None;
    for body in bulk::bodies(&sizes, bulk::BODY_BYTES_MAX) {
        let verdicts = match call(search, operations, &asked[body.clone()], deadline).await {
            Ok(verdicts) => verdicts,
            Err(error) => {
                // What troubles the whole of this call troubles the next one too.
                pending.extend_from_slice(&asked[body.start..]);
                return Err(Trouble::Call(error));
            }
        };
        for (&position, verdict) in asked[body].iter().zip(verdicts) {
            match verdict {
                Verdict::Accepted => fates[position] = Fate::Written,
                Verdict::Refused(refusal) => fates[position] = Fate::Refused(refusal),
                Verdict::Outdated => fates[position] = Fate::Outdated,
                Verdict::Retry(refusal) => {
                    pending.push(position);
                    trouble = Some(Trouble::Item(refusal));
                }
            }
        }
    }
    trouble.map_or(Ok(()), Err)
}

async fn call(
    search: &OpenSearch,
    operations: &[Operation],
    asked: &[usize],
    deadline: &Deadline,
) -> Result<Vec<Verdict>, CallError> {
    let timeout = deadline.call_timeout().ok_or(CallError::Timeout)?;
    let body = asked.iter().map(|&position| operations[position].lines()).collect::<Vec<_>>().concat();
    let answer = search.post(&format!("/_bulk?{}", bulk::FILTER_PATH), body, timeout).await?;
    bulk::verdicts(&answer, asked.len()).map_err(|_| CallError::Unreadable)
}

/// The error and what caused it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
