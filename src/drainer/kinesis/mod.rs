//! Kinesis Data Streams as a sink. The only folder that names the AWS SDK.
//!
//! The SDK's own retries are off: the drainer is the one owner of retrying, and it would not see what
//! they hide. Timeouts are explicit, and a call that runs into one takes its connection with it: an HTTP/2
//! connection is shared, knows no keep-alive here, and may be dead for a quarter of an hour before the
//! kernel says so. The identity and the way there ([`network`]) are ours,
//! and nothing of them runs where the queue does. When somebody has to act, the environment's files are
//! read anew before the next try.

pub mod certificate;
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
    connected: RwLock<Result<Arc<Connected>, NetworkError>>,
}

/// A client, and the clock that its calls are signed by.
struct Connected {
    client: Client,
    clock_offset_ms: i64,
}

/// Two readings of one clock against time since boot differ by less.
const SAME_CLOCK_MS: u64 = 1_000;

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
        let (stream, config) = (stream.to_owned(), config.clone());
        let connected = connect(&config, request_timeout, keys, &identity).await;
        let connected = RwLock::new(connected.map(Arc::new));
        Self { stream, config, request_timeout, keys, identity, connected }
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
        let connected = self.connected().await?;
        match connected.client.put_records().stream_name(&self.stream).records(entry).send().await {
            Ok(output) if output.records().is_empty() => Err(empty_answer()),
            Ok(_) => Ok(()),
            Err(error) => match self.failed(&connected, &error).await {
                refusal if refusal.class == ErrorClass::Poison => Ok(()),
                failure => Err(failure),
            },
        }
    }

    async fn connected(&self) -> Result<Arc<Connected>, CallError> {
        let mut connected = self.connected.read().await.clone();
        match &connected {
            // Its file may have been mended.
            Err(_) => connected = self.connect_anew(None).await,
            // The clock was set.
            Ok(current) if current.clock_offset_ms.abs_diff(clock_offset_ms()) > SAME_CLOCK_MS => {
                connected = self.connect_anew(Some(current)).await;
            }
            Ok(_) => {}
        }
        let blocked = |code: &str, message: String| CallError {
            class: ErrorClass::Blocked,
            code: code.to_owned(),
            message,
        };
        let connected = connected.map_err(|error| blocked("NetworkSettings", error.to_string()))?;
        match connected.client.config().region() {
            Some(_) => Ok(connected),
            None => {
                _ = self.connect_anew(Some(&connected)).await;
                Err(blocked("MissingConfiguration", "no region is configured".into()))
            }
        }
    }

    /// A client with connections of its own in the place of `former`, if that is still the one in use: of
    /// calls that fail together, only the first makes a new one.
    async fn connect_anew(&self, former: Option<&Arc<Connected>>) -> Result<Arc<Connected>, NetworkError> {
        let mut connected = self.connected.write().await;
        if let Ok(current) = &*connected
            && !former.is_some_and(|former| Arc::ptr_eq(former, current))
        {
            return Ok(current.clone());
        }
        let made = connect(&self.config, self.request_timeout, self.keys, &self.identity).await;
        *connected = made.map(Arc::new);
        connected.clone()
    }

    /// What `error` comes to, prepared for the next try.
    async fn failed(&self, connected: &Arc<Connected>, error: &SdkError<PutRecordsError>) -> CallError {
        let failure = call_error(error, &self.identity);
        let blocked = failure.class == ErrorClass::Blocked;
        if blocked && doubts_identity(&failure.code) {
            self.identity.forget();
        }
        if blocked || matches!(error, SdkError::TimeoutError(_)) {
            _ = self.connect_anew(Some(connected)).await;
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
        let connected = self.connected().await?;
        let call = connected.client.put_records().stream_name(&self.stream);
        let mut call = call.set_records(Some(entries.collect())).customize();
        let signs_by_ms = clock_offset_of(records, connected.clock_offset_ms);
        if signs_by_ms.abs_diff(connected.clock_offset_ms) > SAME_CLOCK_MS {
            call = call.config_override(Config::builder().time_source(SigningTime(signs_by_ms)));
        }
        match call.send().await {
            Ok(output) if output.records().is_empty() => Err(empty_answer()),
            Ok(output) => Ok(output
                .records()
                .iter()
                .map(|entry| entry_verdict(entry.error_code(), entry.sequence_number(), entry.shard_id()))
                .collect()),
            Err(error) => Err(self.failed(&connected, &error).await),
        }
    }
}

impl RecordSink for KinesisSink {
    fn put<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Result<Vec<EntryVerdict>, CallError>> {
        Box::pin(self.put_records(records))
    }

    fn kind(&self) -> &'static str {
        "kinesis"
    }

    fn identity_ends_at_s(&self) -> Option<i64> {
        self.identity.ends_at_s()
    }
}

/// Of the wall clock now: itself minus time since boot, milliseconds.
fn clock_offset_ms() -> i64 {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    wall.as_millis() as i64 - boottime().as_millis() as i64
}

/// Of the clock that `records` go by; if the clock was set between them, of the one that it was set from.
fn clock_offset_of(records: &[Record], now_ms: i64) -> i64 {
    let offsets_ms = records.iter().map(|record| record.clock_offset_ms);
    offsets_ms.max_by_key(|offset_ms| offset_ms.abs_diff(now_ms)).unwrap_or(now_ms)
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
