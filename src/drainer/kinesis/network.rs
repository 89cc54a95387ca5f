//! The way to AWS: proxies, trusted certificates and names, as the environment sets them.
//!
//! `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` (also in lower case) are read as other programs
//! read them. `AWS_CA_BUNDLE` takes the place of the system's certificates, as it does in AWS's own tools.
//! What cannot be used is an error, and not passed over: a gateway that goes another way than it was told
//! to would be found out much later.

use std::net::IpAddr;
use std::path::PathBuf;

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use http::Uri;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::names::Names;

/// The variables that name a proxy. Of each pair the first one that is set counts.
const PROXIES: [[&str; 2]; 3] =
    [["HTTPS_PROXY", "https_proxy"], ["HTTP_PROXY", "http_proxy"], ["ALL_PROXY", "all_proxy"]];
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];
const CA_BUNDLE: &str = "AWS_CA_BUNDLE";

/// A variable that cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("environment variable {variable}: {what}")]
pub struct NetworkError {
    variable: &'static str,
    what: String,
}

/// How AWS is reached.
#[derive(Debug, Clone)]
pub struct Network {
    tls: TlsContext,
    names: Names,
    /// What the environment asks for, for people: a variable and what it says.
    told: Vec<(&'static str, String)>,
}

impl Network {
    /// What the environment asks for. Reads the certificates; contacts nobody.
    pub fn from_env() -> Result<Self, NetworkError> {
        let mut told = Vec::new();
        for [upper, lower] in PROXIES {
            if let Some((variable, value)) = first_set([upper, lower]) {
                told.push((variable, proxy(variable, &value)?));
            }
        }
        if let Some((variable, value)) = first_set(NO_PROXY) {
            no_proxy(variable, &value)?;
            told.push((variable, value));
        }
        let mut trust = TrustStore::default();
        if let Some((variable, path)) = first_set([CA_BUNDLE]) {
            let (pem, count) = certificates(path.clone().into())
                .map_err(|what| NetworkError { variable, what: format!("{path}: {what}") })?;
            trust = TrustStore::empty().with_pem_certificate(pem);
            told.push((variable, format!("{path} ({count} certificates)")));
        }
        let tls = TlsContext::builder().with_trust_store(trust).build();
        let tls = tls.map_err(|error| NetworkError { variable: CA_BUNDLE, what: error.to_string() })?;
        Ok(Self { tls, names: Names::of_the_system(), told })
    }

    /// The variables that are set, and what they say; no password.
    pub fn told(&self) -> &[(&'static str, String)] {
        &self.told
    }

    /// A client by the proxies of the environment.
    pub fn client(&self) -> SharedHttpClient {
        self.through(ProxyConfig::from_env())
    }

    /// A client for what is on this machine or its link, where no proxy reaches: an instance's metadata.
    pub fn direct_client(&self) -> SharedHttpClient {
        self.through(ProxyConfig::disabled())
    }

    /// The resolver.
    pub fn names(&self) -> Names {
        self.names.clone()
    }

    fn through(&self, proxy: ProxyConfig) -> SharedHttpClient {
        let Self { tls, names, .. } = self.clone();
        Builder::new().build_with_connector_fn(move |settings, components| {
            let mut connector = Connector::builder()
                .proxy_config(proxy.clone())
                .tls_provider(Provider::Rustls(CryptoMode::Ring))
                .tls_context(tls.clone());
            connector.set_connector_settings(settings.cloned());
            connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
            connector.build_with_resolver(names.clone())
        })
    }
}

fn first_set<const N: usize>(variables: [&'static str; N]) -> Option<(&'static str, String)> {
    let (variable, value) = variables.into_iter().find_map(|name| Some((name, std::env::var(name).ok()?)))?;
    (!value.is_empty()).then_some((variable, value))
}

/// Checks a proxy's address; returns it without user and password. It is read as hyper-util's matcher does,
/// which passes over what it cannot read.
fn proxy(variable: &'static str, value: &str) -> Result<String, NetworkError> {
    let (scheme, rest) = value.split_at(value.find("://").map_or(0, |at| at + 3));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let usable = |uri: &Uri| {
        matches!(uri.scheme_str(), None | Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
    };
    match value.parse::<Uri>().ok().filter(usable) {
        Some(_) => Ok(format!("{}{host}", if scheme.is_empty() { "http://" } else { scheme })),
        // Not the parser's words: they may repeat the password.
        None => Err(NetworkError {
            variable,
            what: format!("`{scheme}{host}` is no proxy; allowed is http://host:port or https://host:port"),
        }),
    }
}

/// Checks which hosts are reached without a proxy: by that matcher's rules, an entry can also be one that no
/// host ever matches.
fn no_proxy(variable: &'static str, value: &str) -> Result<(), NetworkError> {
    let network = |entry: &str| {
        let (address, bits) = entry.split_once('/').unwrap_or((entry, "0"));
        let bits_max = address.parse().map(|address: IpAddr| if address.is_ipv4() { 32 } else { 128 });
        bits_max.is_ok_and(|max| bits.parse().is_ok_and(|bits: u8| bits <= max))
    };
    let name = |entry: &str| entry.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    match value.split(',').map(str::trim).find(|entry| !(*entry == "*" || name(entry) || network(entry))) {
        None => Ok(()),
        Some(entry) => Err(NetworkError {
            variable,
            what: format!(
                "`{entry}` matches no host; allowed are example.com (with all below it), addresses, networks like \
                 10.0.0.0/8, and * for every host"
            ),
        }),
    }
}

/// The file's text, checked, and how many certificates are in it.
fn certificates(path: PathBuf) -> Result<(Vec<u8>, usize), String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    for (index, found) in CertificateDer::pem_slice_iter(&pem).enumerate() {
        let unreadable = |error: String| format!("certificate {} cannot be read: {error}", index + 1);
        let certificate = found.map_err(|error| unreadable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
    }
    match roots.len() {
        0 => Err("there is no certificate in it; it must be PEM (-----BEGIN CERTIFICATE-----)".into()),
        count => Ok((pem, count)),
    }
}
