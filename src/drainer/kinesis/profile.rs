//! The AWS profile, with its `credential_process` run by us instead of the SDK.
//!
//! The profile's files stay what they are, and the SDK's chain of profiles too; only where that chain ends
//! in a helper, a few lines laid over them name a source of ours in its place. So a role that is assumed
//! with a helper's keys works as before.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_config::profile::{self, Profile, ProfileFileCredentialsProvider, ProfileSet};
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_runtime::env_config::file::{Builder, EnvConfigFileKind, EnvConfigFiles};
use aws_types::os_shim_internal::{Env, Fs};
use serde_json::{Map, Value};
use tracing::warn;

use super::certificate;
use super::helper::{Helper, HelperError, program};
use crate::blocking;

/// Where the package keeps what the unit hands to the daemon; `hr-gatewayd check` given by hand looks
/// there itself.
const PACKAGED_FILES: [(&str, EnvConfigFileKind, &str); 2] = [
    ("AWS_CONFIG_FILE", EnvConfigFileKind::Config, "/etc/hr-gatewayd/aws-config"),
    ("AWS_SHARED_CREDENTIALS_FILE", EnvConfigFileKind::Credentials, "/etc/hr-gatewayd/aws-credentials"),
];
/// What the laid-over lines call our source. The SDK looks it up in lower case.
const SOURCE: &str = "hr-gatewayd-helper";

/// The helper that keys come from, as the log and the errors tell of it.
#[derive(Debug, Default)]
pub(super) struct HelperWatch {
    asked: Mutex<Option<(String, Instant)>>,
    /// That it was killed has been said since it last answered.
    told: Mutex<bool>,
    /// Since when it fails, in whatever way.
    failing_since: Mutex<Option<Instant>>,
    /// When its certificate ends, and the step at which that was told of.
    certificate: Mutex<(Option<i64>, Option<i64>)>,
}

impl HelperWatch {
    /// The helper that has not answered yet, and for how long.
    pub(super) fn unanswered(&self) -> Option<(String, Duration)> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.as_ref().map(|(program, since)| (program.clone(), since.elapsed()))
    }

    fn note(&self, asked: Option<(String, Instant)>) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = asked;
    }

    /// For how long it has failed.
    pub(super) fn failing_for(&self) -> Duration {
        let since = self.failing_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// When its certificate ends, seconds since 1970, if it names one.
    pub(super) fn certificate_ends_at_s(&self) -> Option<i64> {
        self.certificate.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Looks at the certificate that `command` names, if it does, and warns in good time.
    async fn look_at_certificate(&self, command: &str) {
        let Some(path) = certificate::of_command(command) else { return };
        let ends_at_s = blocking::run(move || certificate::ends_at_s(&std::fs::read(path).ok()?)).await;
        let mut known = self.certificate.lock().unwrap_or_else(PoisonError::into_inner);
        let left_s = ends_at_s.map(|ends_at_s| {
            ends_at_s - chrono::DateTime::<chrono::Utc>::from(SystemTime::now()).timestamp()
        });
        let step = left_s.and_then(certificate::step);
        if let (Some(left_s), Some(_)) = (left_s, step)
            && known.1 != step
        {
            let words = certificate::left(left_s);
            warn!(
                error_class = "credentials",
                "the certificate that this gateway identifies itself by {words}; without a new one nothing can be sent from \
                 then on, and everything is kept: run add-gateway.sh for this gateway again and put what it makes here"
            );
        }
        *known = (ends_at_s, step);
    }

    fn report(&self, answer: &Result<Credentials, HelperError>) {
        let mut since = self.failing_since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = answer.is_err().then(|| since.unwrap_or_else(Instant::now));
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error @ HelperError::Killed { .. }) = answer
            && !*told
        {
            warn!(
                "{error}; everything is kept and it is tried again; see why it hangs, or raise \
                 kinesis.credential_timeout"
            );
        }
        *told = matches!(answer, Err(HelperError::Killed { .. }));
    }
}

/// The files the SDK looks into by itself, and those of the package where nothing else is named.
pub(super) fn files() -> EnvConfigFiles {
    listed_files().build()
}

fn listed_files() -> Builder {
    let files =
        EnvConfigFiles::builder().include_default_config_file(true).include_default_credentials_file(true);
    let packaged = PACKAGED_FILES
        .into_iter()
        .filter(|(variable, _, path)| std::env::var_os(variable).is_none() && Path::new(path).exists());
    packaged.fold(files, |files, (_, kind, path)| files.with_file(kind, path))
}

/// The provider for `profile`, or for the one that the environment selects. Its helper, if it has one,
/// may take up to `limit`.
pub(super) async fn provider(
    config: &ProviderConfig,
    profile: Option<&str>,
    limit: Duration,
    watch: Arc<HelperWatch>,
) -> ProfileFileCredentialsProvider {
    let mut provider = ProfileFileCredentialsProvider::builder().configure(config);
    if let Some(profile) = profile {
        provider = provider.profile_name(profile);
    }
    let selected = profile.map(|name| name.to_owned().into());
    // A file that cannot be read is the SDK's provider's to report.
    let set = profile::load(&Fs::real(), &Env::real(), &files(), selected).await.ok();
    let Some((name, command)) = set.as_ref().and_then(helper_of) else {
        return provider.profile_files(files()).build();
    };
    let lines = match set.as_ref().and_then(|set| set.get_profile(name)).is_some_and(assumes_role) {
        // Its own source, which would be named twice.
        true => format!(
            "[profile {name}]\nsource_profile = {SOURCE}\n[profile {SOURCE}]\ncredential_source = {SOURCE}\n"
        ),
        false => format!("[profile {name}]\ncredential_source = {SOURCE}\n"),
    };
    let files = listed_files().with_contents(EnvConfigFileKind::Config, lines).build();
    let source = HelperSource { command: command.to_owned(), limit, watch };
    provider.profile_files(files).with_custom_provider(SOURCE, source).build()
}

fn assumes_role(profile: &Profile) -> bool {
    profile.get("role_arn").is_some() && profile.get("web_identity_token_file").is_none()
}

/// The profile that the selected one's chain ends in, and its helper's command, if it ends in one; by the
/// SDK's order of preference.
fn helper_of(set: &ProfileSet) -> Option<(&str, &str)> {
    /// What a profile may have that comes before its helper.
    const PREFERRED: [&str; 7] = [
        "credential_source",
        "web_identity_token_file",
        "login_session",
        "sso_session",
        "sso_account_id",
        "sso_start_url",
        "sso_role_name",
    ];
    let mut seen: Vec<&str> = Vec::new();
    let mut name = set.selected_profile();
    loop {
        let profile = set.get_profile(name)?;
        let has = |key: &&str| profile.get(key).is_some();
        let keys = ["aws_access_key_id", "aws_secret_access_key"];
        if seen.contains(&name) || !seen.is_empty() && keys.iter().all(has) {
            return None;
        }
        seen.push(name);
        match profile.get("source_profile") {
            Some(source) if assumes_role(profile) && source != name => name = source,
            _ if PREFERRED.iter().any(has) => return None,
            _ => return Some((profile.name(), profile.get("credential_process")?)),
        }
    }
}

#[derive(Debug)]
struct HelperSource {
    command: String,
    limit: Duration,
    watch: Arc<HelperWatch>,
}

impl HelperSource {
    async fn ask(&self) -> Result<Credentials, CredentialsError> {
        self.watch.look_at_certificate(&self.command).await;
        let asked = Asked::new(&self.watch, &self.command);
        let answer = match Helper::start(&self.command, self.limit) {
            Ok(helper) => helper.answer().await,
            Err(error) => Err(error),
        };
        drop(asked);
        let useless = |what| HelperError::Useless { program: program(&self.command), what };
        let answer = answer.and_then(|answer| credentials(&answer).map_err(useless));
        self.watch.report(&answer);
        answer.map_err(CredentialsError::provider_error)
    }
}

impl ProvideCredentials for HelperSource {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.ask())
    }
}

/// While it lives, the helper has been asked and has not answered.
struct Asked<'a>(&'a HelperWatch);

impl<'a> Asked<'a> {
    fn new(watch: &'a HelperWatch, command: &str) -> Self {
        watch.note(Some((program(command), Instant::now())));
        Self(watch)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.note(None);
    }
}

/// Reads a helper's answer ("Sourcing credentials with an external process", AWS SDKs Reference Guide);
/// names in any case, as the SDK takes them.
fn credentials(answer: &[u8]) -> Result<Credentials, String> {
    // Not the parser's words: they may repeat what is secret.
    let answer: Map<String, Value> =
        serde_json::from_slice(answer).map_err(|_| "its answer is not a JSON object".to_owned())?;
    let value = |name: &str| answer.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v);
    let text = |name: &str| value(name).and_then(Value::as_str).map(str::to_owned);
    let needed = |name: &str| text(name).ok_or_else(|| format!("its answer has no `{name}`"));
    if value("Version").and_then(Value::as_u64) != Some(1) {
        return Err("its answer has no `Version` of 1".into());
    }
    let mut credentials = Credentials::builder()
        .access_key_id(needed("AccessKeyId")?)
        .secret_access_key(needed("SecretAccessKey")?)
        .provider_name("CredentialProcess");
    credentials.set_session_token(text("SessionToken"));
    if let Some(expiration) = text("Expiration") {
        let end = chrono::DateTime::parse_from_rfc3339(&expiration)
            .map_err(|_| "its answer's `Expiration` is no RFC 3339 time".to_owned())?;
        credentials.set_expiry(Some(SystemTime::from(end)));
    }
    Ok(credentials.build())
}
