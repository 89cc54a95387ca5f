//! The searches that fetch the readings of touched minutes, page by page. Pure.

use hr_gateway::wire::Timestamp;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::index::{Minute, minutes_index, readings_indices};
use crate::line::Reading;
use crate::window::{Span, TouchedMinutes};

/// Most minutes asked for at once: at a reading a second 7,200 rows, held until the minutes are summed.
pub const QUERY_MINUTES_MAX: usize = 120;

/// Rows of one page. OpenSearch gives at most 10,000 (`index.max_result_window`); half of it is 2 MB.
pub const PAGE_ROWS_MAX: usize = 5_000;

/// What limits the answer to what [`Page::parse`] reads, and makes a shard that cannot answer an error
/// instead of fewer rows.
pub const PARAMETERS: &str = "allow_partial_search_results=false&ignore_unavailable=true\
    &filter_path=timed_out%2Chits.hits._source%2Chits.hits.sort";

/// One question: the readings and gap records of these minutes, all of one month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The indices of the readings, as one pattern.
    pub indices: String,
    /// At least one minute and at most [`QUERY_MINUTES_MAX`].
    pub spans: Vec<Span>,
}

/// The questions that cover `touched`, each minute in one of them.
pub fn plan(touched: &TouchedMinutes) -> Vec<Query> {
    let mut spans = touched.spans(QUERY_MINUTES_MAX);
    spans.sort_by_cached_key(|span| readings_indices(span.first));
    let mut queries: Vec<Query> = Vec::new();
    for span in spans {
        let indices = readings_indices(span.first);
        let fits = |query: &&mut Query| {
            let minutes: usize = query.spans.iter().map(Span::len).sum();
            query.indices == indices && minutes + span.len() <= QUERY_MINUTES_MAX
        };
        match queries.last_mut().filter(fits) {
            Some(query) => query.spans.push(span),
            None => queries.push(Query { indices, spans: vec![span] }),
        }
    }
    queries
}

impl Query {
    /// Its minutes, with whose they are.
    pub fn minutes(&self) -> impl Iterator<Item = (&str, Minute)> {
        self.spans.iter().flat_map(|span| span.minutes().map(|minute| (&*span.sensor, minute)))
    }

    /// The index of their documents.
    pub fn minutes_index(&self) -> String {
        minutes_index(self.spans[0].first)
    }

    /// The body of `_search` for the page after the row with the sort values `after`.
    pub fn body(&self, after: Option<&RawValue>) -> Vec<u8> {
        let minutes: Vec<_> = self.spans.iter().map(clause).collect();
        let mut body = json!({
            "size": PAGE_ROWS_MAX,
            "track_total_hits": false,
            "_source": {"excludes": ["indexed_at", "lag_ms", "sensor_contact", "energy_expended_kj"]},
            "query": {"bool": {"filter": [{"bool": {"should": minutes, "minimum_should_match": 1}}]}},
            "sort": ["timestamp", "reading_id"],
        });
        if let Some(after) = after {
            body["search_after"] = json!(after);
        }
        body.to_string().into_bytes()
    }
}

/// The body of `_search` that asks which of at most [`PAGE_ROWS_MAX`] ids the indices hold.
pub fn ids_body(ids: &[String]) -> Vec<u8> {
    json!({
        "size": ids.len(),
        "track_total_hits": false,
        "_source": false,
        "query": {"ids": {"values": ids}},
    })
    .to_string()
    .into_bytes()
}

/// What limits the answer to what [`held_ids`] reads.
pub const IDS_PARAMETERS: &str = "allow_partial_search_results=false&ignore_unavailable=true\
    &filter_path=timed_out%2Chits.hits._id";

/// The ids that are in the answer to [`ids_body`].
pub fn held_ids(answer: &[u8]) -> Result<Vec<String>, UnreadableAnswer> {
    Ok(hits::<IdHit>(answer)?.into_iter().map(|hit| hit.id).collect())
}

#[derive(Deserialize)]
struct IdHit {
    #[serde(rename = "_id")]
    id: String,
}

fn clause(span: &Span) -> serde_json::Value {
    let from = Timestamp::from_ms(span.first.start_ms());
    let before = Timestamp::from_ms(span.last.next().start_ms());
    json!({"bool": {"filter": [
        {"term": {"sensor_id": span.sensor}},
        {"range": {"timestamp": {"gte": from.as_str(), "lt": before.as_str()}}},
    ]}})
}

/// One page of rows.
#[derive(Debug, Default)]
pub struct Page {
    /// The readings and gap records.
    pub readings: Vec<Reading<'static>>,
    /// Documents that are neither; something else has written into the index.
    pub foreign: usize,
    /// Where the next page begins; `None` at the last.
    pub after: Option<Box<RawValue>>,
}

/// The answer to a `_search` call is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer to a _search call cannot be read")]
pub struct UnreadableAnswer;

impl Page {
    /// Reads the answer's body.
    pub fn parse(answer: &[u8]) -> Result<Self, UnreadableAnswer> {
        let mut hits: Vec<Hit<'_>> = hits(answer)?;
        let last = hits.len() < PAGE_ROWS_MAX;
        let after = hits.last_mut().filter(|_| !last).map(|hit| hit.sort.to_owned());
        let rows = hits.len();
        let readings: Vec<_> = hits.iter().filter_map(|hit| Reading::parse(hit.source.get()).ok()).collect();
        Ok(Self { foreign: rows - readings.len(), readings, after })
    }
}

fn hits<'a, H: Deserialize<'a>>(answer: &'a [u8]) -> Result<Vec<H>, UnreadableAnswer> {
    let answer: SearchAnswer<H> = serde_json::from_slice(answer).map_err(|_| UnreadableAnswer)?;
    if answer.timed_out { Err(UnreadableAnswer) } else { Ok(answer.hits.hits) }
}

/// Without a hit the filter leaves no `hits` at all; that it is an answer, `timed_out` says.
#[derive(Deserialize)]
struct SearchAnswer<H> {
    timed_out: bool,
    #[serde(default = "Hits::none")]
    hits: Hits<H>,
}

#[derive(Deserialize)]
struct Hits<H> {
    #[serde(default = "Vec::new")]
    hits: Vec<H>,
}

impl<H> Hits<H> {
    fn none() -> Self {
        Self { hits: Vec::new() }
    }
}

#[derive(Deserialize)]
struct Hit<'a> {
    #[serde(rename = "_source", borrow)]
    source: &'a RawValue,
    #[serde(borrow)]
    sort: &'a RawValue,
}
