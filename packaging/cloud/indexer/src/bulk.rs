//! The `_bulk` call: its body, bounded in bytes, and the verdict on each of its items. Pure.
//!
//! A 200 carries failed items; the status of each item is its only verdict.

use std::ops::Range;

use serde::Deserialize;
use serde_json::json;

use crate::stored::Version;

/// Most bytes of one body. OpenSearch Service takes 10 MiB on its smallest instances ("Amazon OpenSearch
/// Service quotas", network limits); half of it, as OpenSearch recommends 5 to 15 MiB and the heap of a
/// t3.small is 1 GiB. An operation is below 1.1 KiB, or of one Kinesis record at most.
pub const BODY_BYTES_MAX: usize = 5 * 1024 * 1024;

/// One operation of a `_bulk` body: one or two lines of NDJSON, the last `\n` included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation(Vec<u8>);

impl Operation {
    /// Puts `document` under `id`, over what is there.
    pub fn index(index: &str, id: &str, document: &[u8]) -> Self {
        Self::lines_of(&json!({"index": {"_index": index, "_id": id}}), Some(document))
    }

    /// Puts `document` under `id` if there still is what `over` says: nothing, or the writing of that version.
    pub fn index_over(index: &str, id: &str, over: Option<Version>, document: &[u8]) -> Self {
        let action = match over {
            None => json!({"create": {"_index": index, "_id": id}}),
            Some(version) => json!({"index": conditional(index, id, version)}),
        };
        Self::lines_of(&action, Some(document))
    }

    /// Takes away what is under `id`, if it still is the writing of this `version`.
    pub fn delete(index: &str, id: &str, version: Version) -> Self {
        Self::lines_of(&json!({"delete": conditional(index, id, version)}), None)
    }

    fn lines_of(action: &serde_json::Value, document: Option<&[u8]>) -> Self {
        let mut lines = action.to_string().into_bytes();
        lines.push(b'\n');
        if let Some(document) = document {
            lines.extend_from_slice(document);
            lines.push(b'\n');
        }
        Self(lines)
    }

    /// Its lines.
    pub fn lines(&self) -> &[u8] {
        &self.0
    }
}

fn conditional(index: &str, id: &str, Version { seq_no, primary_term }: Version) -> serde_json::Value {
    json!({"_index": index, "_id": id, "if_seq_no": seq_no, "if_primary_term": primary_term})
}

/// Cuts operations of these `sizes`, in bytes, into bodies of at most `bytes_max`; one that is larger
/// has a body of its own. No body is empty.
pub fn bodies(sizes: &[usize], bytes_max: usize) -> Vec<Range<usize>> {
    let mut bodies = Vec::new();
    let (mut first, mut bytes) = (0, 0);
    for (position, size) in sizes.iter().enumerate() {
        if position > first && bytes + size > bytes_max {
            bodies.push(first..position);
            (first, bytes) = (position, 0);
        }
        bytes += size;
    }
    if first < sizes.len() {
        bodies.push(first..sizes.len());
    }
    bodies
}

/// What became of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The index holds it, or for a deletion, does not.
    Accepted,
    /// OpenSearch will never take this document.
    Refused(Refusal),
    /// Something else was written there meanwhile.
    Outdated,
    /// Not now.
    Retry(Refusal),
}

/// What OpenSearch said to an operation, without its `reason`, which quotes the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// As in HTTP.
    pub status: u16,
    /// `mapper_parsing_exception` and the like.
    pub kind: String,
}

/// What limits the answer to what [`verdicts`] reads: a tenth of its bytes, and no quoted documents.
/// Percent-encoded as the signature has it: who compares the two need not encode it first.
pub const FILTER_PATH: &str = "filter_path=items.%2A.status%2Citems.%2A.error.type";

/// The answer to a `_bulk` call is not one, or not to this call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer to a _bulk call does not fit the call")]
pub struct UnreadableAnswer;

/// The verdicts on the `asked` operations of a call, in their order, from its answer's body.
pub fn verdicts(answer: &[u8], asked: usize) -> Result<Vec<Verdict>, UnreadableAnswer> {
    let answer: BulkAnswer = serde_json::from_slice(answer).map_err(|_| UnreadableAnswer)?;
    if answer.items.len() != asked {
        return Err(UnreadableAnswer);
    }
    Ok(answer.items.into_iter().map(ItemAnswer::verdict).collect())
}

#[derive(Deserialize)]
struct BulkAnswer {
    items: Vec<ItemAnswer>,
}

/// Under the operation's name.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ItemAnswer {
    Index(Outcome),
    Create(Outcome),
    Delete(Outcome),
}

#[derive(Deserialize)]
struct Outcome {
    status: u16,
    error: Option<Cause>,
}

#[derive(Deserialize)]
struct Cause {
    #[serde(rename = "type")]
    kind: String,
}

impl ItemAnswer {
    fn verdict(self) -> Verdict {
        let (outcome, deletes) = match self {
            Self::Index(outcome) | Self::Create(outcome) => (outcome, false),
            Self::Delete(outcome) => (outcome, true),
        };
        let kind = outcome.error.map_or_else(String::new, |error| error.kind);
        let refusal = Refusal { status: outcome.status, kind };
        match outcome.status {
            200..=299 => Verdict::Accepted,
            404 if deletes => Verdict::Accepted,
            409 => Verdict::Outdated,
            _ if is_the_documents_fault(&refusal) => Verdict::Refused(refusal),
            _ => Verdict::Retry(refusal),
        }
    }
}

/// Whether a refusal says something about the document itself. Whatever else it is, people mend it: a full disk, a missing
/// right, too many shards or fields, a shard with as many documents as Lucene can count, a closed index. Until then each
/// reading would be set aside.
fn is_the_documents_fault(refusal: &Refusal) -> bool {
    const KINDS: [&str; 4] = [
        "mapper_parsing_exception",
        "document_parsing_exception",
        "strict_dynamic_mapping_exception",
        "parse_exception",
    ];
    match refusal.status {
        400 => KINDS.contains(&refusal.kind.as_str()),
        status => status == 413,
    }
}
