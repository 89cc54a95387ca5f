//! Kinesis Data Streams as a sink. The only folder that names the AWS SDK.
//!
//! The SDK's own retries are off: the drainer is the one owner of retrying, and it would not see what
//! they hide. Timeouts are explicit, and a call that runs into one takes its connection with it: an HTTP/2
//! connection is shared, knows no keep-alive here, and may be dead for a quarter of an hour before the
//! kernel says so. The identity and the way there ([`network`]) are ours,
//! and nothing of them runs where the queue does. When somebody has to act, the environment's files are
//! read anew before the next try.

mod client;
mod failure;
mod helper;
mod identity;
pub mod names;
pub mod network;
mod profile;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sdk_kinesis::error::SdkError;
use aws_sdk_kinesis::operation::put_records::PutRecordsError;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use aws_sdk_kinesis::{Client, Config};
use aws_smithy_async::time::TimeSource;
use futures_util::future::BoxFuture;
use tokio::sync::RwLock;

use super::RecordSink;
use super::batch::Record;
use super::settle::{CallError, EntryVerdict, ErrorClass, doubts_identity, entry_verdict};
use crate::clock::boottime;
use crate::config::KinesisConfig;
use client::connect;
use failure::{CREDENTIALS_PENDING, call_error, empty_answer};
use identity::Identity;
use network::NetworkError;

/// Whose log says with each new client where keys are looked for, and with each try which place has none.
/// What it comes to, the drainer says once.
pub const TALKATIVE: &str = "aws_config";

/// 2^128: one more than the largest hash key there is, so no shard can own it.
const HASH_KEY_TOO_LARGE: &str = "340282366920938463463374607431768211456";

/// A stream.
pub struct KinesisSink {
    stream: String,
    config: KinesisConfig,
    request_timeout: Duration,
    keys: Keys,
    identity: Identity,
    client: RwLock<Result<Arc<Client>, NetworkError>>,
}

/// Where the keys that sign a call come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// Environment, profile, `credential_process`, container or instance, in the SDK's order.
    DefaultChain,
    /// Made-up ones, for test servers that check none.
    MadeUp,
}

impl KinesisSink {
    /// A sink for `stream`. Contacts nobody yet.
    pub async fn new(stream: &str, config: &KinesisConfig, request_timeout: Duration, keys: Keys) -> Self {
        let identity = Identity::new();
        let client = RwLock::new(connect(config, request_timeout, keys, &identity).await.map(Arc::new));
        Self { stream: stream.to_owned(), config: config.clone(), request_timeout, keys, identity, client }
    }

    /// Asks whether the stream would take a record from this gateway, without writing one: the call
    /// names a hash key that no stream accepts, which is looked at after identity, right and stream.
    /// Waits for a credential helper for as long as that may take.
    pub async fn probe(&self) -> Result<(), CallError> {
        loop {
            match self.probe_once().await {
                Err(failure) if failure.code == CREDENTIALS_PENDING => {}
                answer => return answer,
            }
        }
    }

    async fn probe_once(&self) -> Result<(), CallError> {
        let entry = PutRecordsRequestEntry::builder()
            .partition_key("probe")
            .explicit_hash_key(HASH_KEY_TOO_LARGE)
            .data(Blob::new(b"{}".to_vec()))
            .build()
            .expect("data and key are set");
        let client = self.client().await?;
        match client.put_records().stream_name(&self.stream).records(entry).send().await {
            Ok(output) if output.records().is_empty() => Err(empty_answer()),
            Ok(_) => Ok(()),
            Err(error) => match self.failed(&client, &error).await {
                refusal if refusal.class == ErrorClass::Poison => Ok(()),
                failure => Err(failure),
            },
        }
    }

    async fn client(&self) -> Result<Arc<Client>, CallError> {
        let mut client = self.client.read().await.clone();
        if client.is_err() {
            // Its file may have been mended.
            client = self.connect_anew(None).await;
        }
        let blocked = |code: &str, message: String| CallError {
            class: ErrorClass::Blocked,
            code: code.to_owned(),
            message,
        };
        let client = client.map_err(|error| blocked("NetworkSettings", error.to_string()))?;
        match client.config().region() {
            Some(_) => Ok(client),
            None => {
                _ = self.connect_anew(Some(&client)).await;
                Err(blocked("MissingConfiguration", "no region is configured".into()))
            }
        }
    }

    /// A client with connections of its own in the place of `former`, if that is still the one in use: of
    /// calls that fail together, only the first makes a new one.
    async fn connect_anew(&self, former: Option<&Arc<Client>>) -> Result<Arc<Client>, NetworkError> {
        let mut client = self.client.write().await;
        if let Ok(current) = &*client
            && !former.is_some_and(|former| Arc::ptr_eq(former, current))
        {
            return Ok(current.clone());
        }
        let made = connect(&self.config, self.request_timeout, self.keys, &self.identity).await;
        *client = made.map(Arc::new);
        client.clone()
    }

    /// What `error` comes to, prepared for the next try.
    async fn failed(&self, client: &Arc<Client>, error: &SdkError<PutRecordsError>) -> CallError {
        let failure = call_error(error, &self.identity);
        let blocked = failure.class == ErrorClass::Blocked;
        if blocked && doubts_identity(&failure.code) {
            self.identity.forget();
        }
        if blocked || matches!(error, SdkError::TimeoutError(_)) {
            _ = self.connect_anew(Some(client)).await;
        }
        failure
    }

    async fn put_records(&self, records: &[Record]) -> Result<Vec<EntryVerdict>, CallError> {
        let entries = records.iter().map(|record| {
            PutRecordsRequestEntry::builder()
                .partition_key(record.sensor.as_str())
                .data(Blob::new(record.data.clone()))
                .build()
                .expect("data and key are set")
        });
        let client = self.client().await?;
        let call = client.put_records().stream_name(&self.stream).set_records(Some(entries.collect()));
        let call = call.customize().config_override(Config::builder().time_source(signing_time(records)));
        match call.send().await {
            Ok(output) if output.records().is_empty() => Err(empty_answer()),
            Ok(output) => Ok(output
                .records()
                .iter()
                .map(|entry| entry_verdict(entry.error_code(), entry.sequence_number(), entry.shard_id()))
                .collect()),
            Err(error) => Err(self.failed(&client, &error).await),
        }
    }
}

impl RecordSink for KinesisSink {
    fn put<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Result<Vec<EntryVerdict>, CallError>> {
        Box::pin(self.put_records(records))
    }
}

/// The clock that `records` go by; if the clock was set between them, the one that it was set from.
fn signing_time(records: &[Record]) -> SigningTime {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now_ms = wall.as_millis() as i64 - boottime().as_millis() as i64;
    let offsets_ms = records.iter().map(|record| record.clock_offset_ms);
    SigningTime(offsets_ms.max_by_key(|offset_ms| offset_ms.abs_diff(now_ms)).unwrap_or(now_ms))
}

/// Time since boot, plus this many milliseconds.
#[derive(Debug)]
struct SigningTime(i64);

impl TimeSource for SigningTime {
    fn now(&self) -> SystemTime {
        let since_boot = i64::try_from(boottime().as_millis()).unwrap_or(i64::MAX);
        let wall_ms = u64::try_from(since_boot.saturating_add(self.0)).unwrap_or(0);
        SystemTime::UNIX_EPOCH + Duration::from_millis(wall_ms)
    }
}
