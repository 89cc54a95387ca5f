//! The gateway's identity: loaded once for all, kept while it is valid, renewed before it ends.
//!
//! It replaces the SDK's cache, which loads within a call's own time, forgets ten seconds early what it
//! then cannot renew, and drops what it waits for with the call. What must hold: one load at a time,
//! however many calls wait and give up; a load goes on by itself when its caller has left, and ends with the
//! identity; and while what is held is valid, no call waits for its renewal or fails because of it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_config::Region;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::network::Network;
use super::profile::{self, HelperWatch};

/// Renewal begins so long before the end, or half-way through a shorter life: time for a slow helper, and
/// for one that fails for a while.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// Keys without an end are looked up again so often: files and variables change.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(900);
/// After a renewal that failed, the next one is begun so much later.
const RENEW_PAUSE: Duration = Duration::from_secs(30);

/// What credentials are loaded with.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// The way to those who give them out.
    pub network: Network,
    /// For STS.
    pub region: Option<Region>,
    /// The profile, if not the environment's.
    pub profile: Option<String>,
    /// How long a helper may take.
    pub helper_limit: Duration,
}

/// Where each call's identity comes from; clones are one.
#[derive(Clone)]
pub(super) struct Identity(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    watch: Arc<HelperWatch>,
}

#[derive(Default)]
struct State {
    source: Option<Source>,
    held: Option<Held>,
    loading: Option<Loading>,
    renewal_failed: Option<Instant>,
}

struct Held {
    credentials: Credentials,
    renew_at: SystemTime,
}

impl Held {
    fn is_valid(&self, now: SystemTime) -> bool {
        self.credentials.expiry().is_none_or(|end| now < end)
    }
}

type Loading = Shared<BoxFuture<'static, Result<Credentials, LoadError>>>;

/// A failed load, for as many as wait for it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
struct LoadError(#[source] Arc<CredentialsError>);

impl From<LoadError> for CredentialsError {
    fn from(error: LoadError) -> Self {
        match &*error.0 {
            Self::CredentialsNotLoaded(_) => Self::not_loaded(error),
            Self::InvalidConfiguration(_) => Self::invalid_configuration(error),
            _ => Self::provider_error(error),
        }
    }
}

impl Identity {
    /// Nothing is loaded yet, and nothing can be before [`set_source`](Self::set_source).
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner { state: Mutex::default(), watch: Arc::default() }))
    }

    /// Loads go by `source` from now on. What is held, or being loaded, stays.
    pub(super) fn set_source(&self, source: Source) {
        self.state().source = Some(source);
    }

    /// The service does not take what is held: the next call waits for another.
    pub(super) fn forget(&self) {
        self.state().held = None;
    }

    /// The helper that calls wait for, and for how long.
    pub(super) fn unanswered(&self) -> Option<(String, Duration)> {
        let waited_for = !self.state().held.as_ref().is_some_and(|held| held.is_valid(SystemTime::now()));
        waited_for.then(|| self.0.watch.unanswered())?
    }

    /// For how long the helper has failed.
    pub(super) fn helper_failing_for(&self) -> Duration {
        self.0.watch.failing_for()
    }

    /// When the certificate ends that its helper identifies the gateway by, seconds since 1970, if there is one.
    pub(super) fn ends_at_s(&self) -> Option<i64> {
        self.0.watch.certificate_ends_at_s()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn credentials(&self) -> Result<Credentials, CredentialsError> {
        let loading = match self.state().now(SystemTime::now(), &self.0.watch) {
            Now::Have(credentials) => return Ok(credentials),
            Now::WaitFor(loading) => loading,
        };
        let loaded = loading.clone().await;
        self.state().settle(&loading, &loaded);
        Ok(loaded?)
    }
}

enum Now {
    Have(Credentials),
    WaitFor(Loading),
}

impl State {
    fn now(&mut self, now: SystemTime, watch: &Arc<HelperWatch>) -> Now {
        if let Some(held) = &self.held {
            let valid = held.is_valid(now);
            let paused = self.renewal_failed.is_some_and(|at| at.elapsed() < RENEW_PAUSE);
            if valid && (now < held.renew_at || paused && self.loading.is_none()) {
                return Now::Have(held.credentials.clone());
            }
            if valid {
                let credentials = held.credentials.clone();
                let renewal = self.loading(watch);
                // A look, no wait: whoever comes next looks again.
                if let Some(loaded) = renewal.clone().now_or_never() {
                    self.settle(&renewal, &loaded);
                    return Now::Have(loaded.unwrap_or(credentials));
                }
                return Now::Have(credentials);
            }
        }
        Now::WaitFor(self.loading(watch))
    }

    fn loading(&mut self, watch: &Arc<HelperWatch>) -> Loading {
        let begin = || {
            let (mut sender, receiver) = oneshot::channel();
            let load = load(self.source.clone(), watch.clone());
            tokio::spawn(async move {
                tokio::select! {
                    loaded = load => drop(sender.send(loaded)),
                    () = sender.closed() => {}
                }
            });
            let ended =
                |_| Err(LoadError(Arc::new(CredentialsError::provider_error("the load was cut short"))));
            receiver.map(move |loaded| loaded.unwrap_or_else(ended)).boxed().shared()
        };
        self.loading.get_or_insert_with(begin).clone()
    }

    /// `loading` came to `loaded`; several may say so.
    fn settle(&mut self, loading: &Loading, loaded: &Result<Credentials, LoadError>) {
        if !self.loading.as_ref().is_some_and(|known| known.ptr_eq(loading)) {
            return;
        }
        self.loading = None;
        match loaded {
            Ok(credentials) => {
                if self.renewal_failed.take().is_some() {
                    info!("the gateway's credentials are renewed");
                }
                let now = SystemTime::now();
                let life = credentials.expiry().map(|end| end.duration_since(now).unwrap_or_default());
                let fresh =
                    life.map_or(LOOK_AGAIN_AFTER, |life| (life / 2).max(life.saturating_sub(RENEW_BEFORE)));
                self.held = Some(Held { credentials: credentials.clone(), renew_at: now + fresh });
            }
            Err(error) if self.held.is_some() => {
                if self.renewal_failed.replace(Instant::now()).is_none() {
                    let cause = super::failure::innermost(error);
                    warn!(
                        "the gateway's credentials cannot be renewed: {cause}; those it has are used while they are valid"
                    );
                }
            }
            Err(_) => {}
        }
    }
}

/// The SDK's own order, with helpers run by us and nothing on this machine asked through a proxy.
async fn load(source: Option<Source>, watch: Arc<HelperWatch>) -> Result<Credentials, LoadError> {
    let Some(Source { network, region, profile, helper_limit }) = source else {
        return Err(LoadError(Arc::new(CredentialsError::not_loaded_no_source())));
    };
    let config = ProviderConfig::without_region().with_region(region).with_http_client(network.client());
    let local = config.clone().with_http_client(network.direct_client());
    let chain =
        CredentialsProviderChain::first_try("Environment", EnvironmentVariableCredentialsProvider::new())
            .or_else("Profile", profile::provider(&config, profile.as_deref(), helper_limit, watch).await)
            .or_else(
                "WebIdentityToken",
                WebIdentityTokenCredentialsProvider::builder().configure(&config).build(),
            )
            .or_else(
                "EcsContainer",
                EcsCredentialsProvider::builder().configure(&local).dns(network.names()).build(),
            )
            .or_else("Ec2InstanceMetadata", ImdsCredentialsProvider::builder().configure(&local).build());
    chain.provide_credentials().await.map_err(|error| LoadError(Arc::new(error)))
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

impl ProvideCredentials for Identity {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }
}
