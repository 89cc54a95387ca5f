//! Making a client of the stream's service: the SDK's settings, and ours.

use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_sdk_kinesis::Client;

use super::identity::{Identity, Source};
use super::network::{Network, NetworkError};
use super::{Connected, Keys, SigningTime, clock_offset_ms, profile};
use crate::config::KinesisConfig;

/// An endpoint that does not even complete a connection in this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A client by the environment, the profile's files and the certificates as they are now; its calls take
/// their keys from `identity`. Contacts nobody but, without a region, this instance's metadata.
pub(super) async fn connect(
    config: &KinesisConfig,
    request_timeout: Duration,
    keys: Keys,
    identity: &Identity,
) -> Result<Connected, NetworkError> {
    let network = Network::from_env()?;
    let timeouts =
        TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_timeout(request_timeout).build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .profile_files(profile::files())
        // Asked for no more than a region, by this instance's metadata: no proxy reaches that.
        .http_client(network.direct_client())
        // The identity is its own.
        .identity_cache(IdentityCache::no_cache())
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
    loader = match keys {
        Keys::DefaultChain => loader.credentials_provider(identity.clone()),
        Keys::MadeUp => loader.credentials_provider(Credentials::from_keys("made-up", "made-up", None)),
    };
    let loaded = loader.load().await;
    let clock_offset_ms = clock_offset_ms();
    let settings = aws_sdk_kinesis::config::Builder::from(&loaded)
        .http_client(network.client())
        .time_source(SigningTime(clock_offset_ms))
        .build();
    identity.set_source(Source {
        network,
        region: loaded.region().cloned(),
        profile: config.profile.clone(),
        helper_limit: config.credential_timeout.0,
    });
    Ok(Connected { client: Client::from_conf(settings), clock_offset_ms })
}
