//! Kinesis Data Streams as a sink. The only file that names the AWS SDK.
//!
//! The SDK's own retries are off: the drainer is the one owner of retrying, and it would not see what
//! they hide. Timeouts are explicit. Credentials come from the AWS default chain; when the service says
//! that they are no good, they are loaded anew before the next try.

use std::path::Path;
use std::time::{Duration, SystemTime};

use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::put_records::PutRecordsError;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use aws_sdk_kinesis::{Client, Config};
use aws_smithy_async::time::TimeSource;
use aws_smithy_http_client::tls;
use futures_util::future::BoxFuture;
use tokio::sync::RwLock;

use super::RecordSink;
use super::batch::Record;
use super::settle::{CallError, EntryVerdict, ErrorClass, classify, entry_verdict};
use crate::clock::boottime;
use crate::config::KinesisConfig;

/// Whose log says with each new client where keys are looked for, and with each try which place has none.
/// What it comes to, the drainer says once.
pub const TALKATIVE: &str = "aws_config";
/// An endpoint that does not even complete a connection in this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// 2^128: one more than the largest hash key there is, so no shard can own it.
const HASH_KEY_TOO_LARGE: &str = "340282366920938463463374607431768211456";

/// Where the package keeps what the unit hands to the daemon; `hr-gatewayd check` given by hand looks
/// there itself.
const PACKAGED_FILES: [(&str, EnvConfigFileKind, &str); 2] = [
    ("AWS_CONFIG_FILE", EnvConfigFileKind::Config, "/etc/hr-gatewayd/aws-config"),
    ("AWS_SHARED_CREDENTIALS_FILE", EnvConfigFileKind::Credentials, "/etc/hr-gatewayd/aws-credentials"),
];

/// A stream.
pub struct KinesisSink {
    stream: String,
    config: KinesisConfig,
    request_timeout: Duration,
    keys: Keys,
    client: RwLock<Client>,
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
        let client = RwLock::new(connect(config, request_timeout, keys).await);
        Self { stream: stream.to_owned(), config: config.clone(), request_timeout, keys, client }
    }

    /// Asks whether the stream would take a record from this gateway, without writing one: the call
    /// names a hash key that no stream accepts, which is looked at after identity, right and stream.
    pub async fn probe(&self) -> Result<(), CallError> {
        let entry = PutRecordsRequestEntry::builder()
            .partition_key("probe")
            .explicit_hash_key(HASH_KEY_TOO_LARGE)
            .data(Blob::new(b"{}".to_vec()))
            .build()
            .expect("data and key are set");
        let client = self.client().await?;
        match client.put_records().stream_name(&self.stream).records(entry).send().await {
            Ok(_) => Ok(()),
            Err(error) => match call_error(&error) {
                refusal if refusal.class == ErrorClass::Poison => Ok(()),
                failure => Err(failure),
            },
        }
    }

    async fn client(&self) -> Result<Client, CallError> {
        let client = self.client.read().await.clone();
        if client.config().region().is_some() {
            return Ok(client);
        }
        Err(CallError {
            class: ErrorClass::Blocked,
            code: "MissingConfiguration".into(),
            message: "no region is configured".into(),
        })
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
            Ok(output) => Ok(output
                .records()
                .iter()
                .map(|entry| entry_verdict(entry.error_code(), entry.sequence_number(), entry.shard_id()))
                .collect()),
            Err(error) => {
                let error = call_error(&error);
                if error.class == ErrorClass::Blocked {
                    *self.client.write().await = connect(&self.config, self.request_timeout, self.keys).await;
                }
                Err(error)
            }
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

/// The files the SDK looks into by itself, and those of the package where nothing else is named.
fn profile_files() -> EnvConfigFiles {
    let files =
        EnvConfigFiles::builder().include_default_config_file(true).include_default_credentials_file(true);
    let packaged = PACKAGED_FILES
        .into_iter()
        .filter(|(variable, _, path)| std::env::var_os(variable).is_none() && Path::new(path).exists());
    packaged.fold(files, |files, (_, kind, path)| files.with_file(kind, path)).build()
}

async fn connect(config: &KinesisConfig, request_timeout: Duration, keys: Keys) -> Client {
    let https = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .build_https();
    let timeouts =
        TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_timeout(request_timeout).build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .profile_files(profile_files())
        .http_client(https)
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .timeout_config(timeouts);
    if let Some(region) = &config.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(endpoint) = &config.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(profile) = &config.profile {
        loader = loader.profile_name(profile);
    }
    if keys == Keys::MadeUp {
        loader = loader.credentials_provider(Credentials::from_keys("made-up", "made-up", None));
    }
    Client::new(&loader.load().await)
}

fn call_error(error: &SdkError<PutRecordsError>) -> CallError {
    let message = innermost(error);
    let made = |class, code: &str| CallError { class, code: code.to_owned(), message: message.clone() };
    if let SdkError::ServiceError(refusal) = error {
        let code = refusal.err().code().unwrap_or("UnknownError");
        let class = classify(code, Some(refusal.raw().status().as_u16()));
        let message = refusal.err().message().unwrap_or("no message").to_owned();
        return CallError { class, code: code.to_owned(), message };
    }
    match sources(error).find_map(|source| source.downcast_ref::<CredentialsError>()) {
        // A provider that could not answer may only lack the network.
        Some(CredentialsError::ProviderError(_) | CredentialsError::ProviderTimedOut(_)) => {
            made(ErrorClass::Transient, "CredentialsUnavailable")
        }
        Some(_) => made(ErrorClass::Blocked, "MissingCredentials"),
        None if matches!(error, SdkError::TimeoutError(_)) => made(ErrorClass::Transient, "Timeout"),
        None if matches!(error, SdkError::ConstructionFailure(_)) => {
            made(ErrorClass::Blocked, "MissingConfiguration")
        }
        None => made(ErrorClass::Transient, "Unreachable"),
    }
}

fn sources<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// The cause at the bottom: the SDK's outer errors say no more than "dispatch failure".
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    sources(error).last().map_or_else(String::new, ToString::to_string)
}
