//! The documents of minutes as the index holds them: the `_mget` call that asks for them. Pure.

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::minutes::Sums;

/// What limits the answer to what [`parse`] reads.
pub const PARAMETERS: &str =
    "filter_path=docs.found%2Cdocs._seq_no%2Cdocs._primary_term%2Cdocs._source%2Cdocs.error.type";

/// A minute's document.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Which writing of it this is.
    pub version: Version,
    /// What it says; `None` if something else wrote it.
    pub sums: Option<Sums>,
}

/// By which OpenSearch knows whether a document was written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// `_seq_no`.
    pub seq_no: u64,
    /// `_primary_term`.
    pub primary_term: u64,
}

/// The answer to an `_mget` call is not one, or leaves a document out that may be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer to a _mget call does not fit the call")]
pub struct UnreadableAnswer;

/// The body that asks for the documents `ids` of one index.
pub fn body(ids: &[String]) -> Vec<u8> {
    json!({ "ids": ids }).to_string().into_bytes()
}

/// The `asked` documents, in their order; `None` where there is none.
pub fn parse(answer: &[u8], asked: usize) -> Result<Vec<Option<Stored>>, UnreadableAnswer> {
    let answer: MgetAnswer<'_> = serde_json::from_slice(answer).map_err(|_| UnreadableAnswer)?;
    if answer.docs.len() != asked {
        return Err(UnreadableAnswer);
    }
    answer.docs.into_iter().map(Document::stored).collect()
}

#[derive(Deserialize)]
struct MgetAnswer<'a> {
    #[serde(borrow)]
    docs: Vec<Document<'a>>,
}

#[derive(Deserialize)]
struct Document<'a> {
    found: Option<bool>,
    #[serde(rename = "_seq_no")]
    seq_no: Option<u64>,
    #[serde(rename = "_primary_term")]
    primary_term: Option<u64>,
    #[serde(rename = "_source", borrow)]
    source: Option<&'a RawValue>,
    error: Option<Cause>,
}

#[derive(Deserialize)]
struct Cause {
    #[serde(rename = "type")]
    kind: String,
}

impl Document<'_> {
    fn stored(self) -> Result<Option<Stored>, UnreadableAnswer> {
        match self {
            Self { error: Some(cause), .. } if cause.kind == "index_not_found_exception" => Ok(None),
            Self { found: Some(false), .. } => Ok(None),
            Self {
                found: Some(true),
                seq_no: Some(seq_no),
                primary_term: Some(primary_term),
                source,
                ..
            } => {
                let sums = source.and_then(|source| serde_json::from_str(source.get()).ok());
                Ok(Some(Stored { version: Version { seq_no, primary_term }, sums }))
            }
            _ => Err(UnreadableAnswer),
        }
    }
}
