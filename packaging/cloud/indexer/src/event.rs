//! What Lambda hands over for a Kinesis stream → records with their sequence numbers. Pure.
//!
//! `aws_lambda_events` has types for it, but there one record that is not base64 fails the whole batch.
//! Source: "Using Lambda to process records from Amazon Kinesis Data Streams" and "Implementing stateful
//! Kinesis Data Streams processing in Lambda" (AWS Lambda Developer Guide).

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The payload is not what an event source mapping of a Kinesis stream sends. It says where it stops
/// fitting and not what stands there, which may be a reading.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotKinesis {
    /// It has another shape.
    #[error(
        "the event is not a batch of a Kinesis stream (line {line}, column {column}): \
         invoke this function by an event source mapping of the stream"
    )]
    Shape {
        /// Where it stops fitting.
        line: usize,
        /// Where it stops fitting.
        column: usize,
    },
    /// The shape fits, but a record says that it is from elsewhere.
    #[error("record {0} of the event is not from a Kinesis stream: map this function to the stream alone")]
    Source(usize),
}

/// One invocation's work.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The shard that all records are of; empty if there are no records and no window.
    pub shard: Cow<'a, str>,
    /// In the stream's order.
    pub records: Vec<StreamRecord<'a>>,
    /// The tumbling window; `None` if the mapping has none.
    pub window: Option<Window<'a>>,
}

/// One record of the stream.
#[derive(Debug)]
pub struct StreamRecord<'a> {
    /// Its place in the shard; what Lambda wants to hear if it failed.
    pub sequence_number: Cow<'a, str>,
    /// Its bytes as base64.
    data: Cow<'a, str>,
}

/// A tumbling window, as it stands at this invocation.
#[derive(Debug)]
pub struct Window<'a> {
    /// What the invocation before this one answered as the window's state; `None` at the first.
    pub state: Option<&'a RawValue>,
    /// Nothing more comes in this window: its time is over, or its state grew too large.
    pub closes: bool,
}

/// Why nothing of a record can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Its `data` is not base64.
    #[error("the record is not base64")]
    NotBase64,
    /// The decoded bytes are not text.
    #[error("the record is not UTF-8")]
    NotUtf8,
}

impl<'a> Batch<'a> {
    /// Reads Lambda's payload.
    pub fn parse(payload: &'a str) -> Result<Self, NotKinesis> {
        let payload: Payload<'a> = serde_json::from_str(payload)
            .map_err(|error| NotKinesis::Shape { line: error.line(), column: error.column() })?;
        if let Some(foreign) = payload.records.iter().position(|record| record.event_source != "aws:kinesis")
        {
            return Err(NotKinesis::Source(foreign));
        }
        let shard = payload.shard_id.unwrap_or_else(|| match payload.records.first() {
            // Without a window the shard is named in each record's id alone: `shardId-000000000000:4959…`.
            Some(record) => record.event_id.split(':').next().unwrap_or_default().to_owned().into(),
            None => "".into(),
        });
        let closes = payload.is_final_invoke_for_window || payload.is_window_terminated_early;
        let window = payload.window.map(|_| Window { state: payload.state, closes });
        let records =
            payload.records.into_iter().map(|record| record.kinesis).map(StreamRecord::from).collect();
        Ok(Self { shard, records, window })
    }
}

impl StreamRecord<'_> {
    /// Its text: NDJSON, if all is well.
    pub fn text(&self) -> Result<String, Unreadable> {
        let bytes = STANDARD.decode(self.data.as_bytes()).map_err(|_| Unreadable::NotBase64)?;
        String::from_utf8(bytes).map_err(|_| Unreadable::NotUtf8)
    }
}

/// What Lambda wants to hear: the records to bring again, and the window's state. Lambda brings the first
/// of these records and all after it, whatever else is named.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// In the batch's order.
    pub batch_item_failures: Vec<ItemFailure>,
    /// For the window's next invocation. In a window, an answer without it counts as failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<crate::window::TouchedMinutes>,
}

/// A record to bring again.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemFailure {
    /// Its sequence number.
    pub item_identifier: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    #[serde(rename = "Records", borrow)]
    records: Vec<PayloadRecord<'a>>,
    window: Option<serde::de::IgnoredAny>,
    #[serde(borrow)]
    state: Option<&'a RawValue>,
    #[serde(borrow)]
    shard_id: Option<Cow<'a, str>>,
    #[serde(default)]
    is_final_invoke_for_window: bool,
    #[serde(default)]
    is_window_terminated_early: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PayloadRecord<'a> {
    #[serde(borrow)]
    event_source: Cow<'a, str>,
    #[serde(rename = "eventID", borrow)]
    event_id: Cow<'a, str>,
    #[serde(borrow)]
    kinesis: KinesisPart<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KinesisPart<'a> {
    #[serde(borrow)]
    sequence_number: Cow<'a, str>,
    #[serde(borrow)]
    data: Cow<'a, str>,
}

impl<'a> From<KinesisPart<'a>> for StreamRecord<'a> {
    fn from(part: KinesisPart<'a>) -> Self {
        Self { sequence_number: part.sequence_number, data: part.data }
    }
}
