//! Calls to OpenSearch over HTTP, signed. The only file that names hyper and aws-sigv4.
//!
//! One attempt a call: whether and when to try again is for the caller to say.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use hyper::http::uri::{Authority, Scheme, Uri};
use hyper::{Method, Request};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// A domain in the same region answers a SYN within milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Connections idle for longer are dropped: OpenSearch Service's balancer closes them after a minute.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Most bytes of an answer: ten times a page of rows.
const ANSWER_BYTES_MAX: usize = 20 * 1024 * 1024;

/// What the domain is signed for.
const SERVICE: &str = "es";

/// The environment does not say where OpenSearch is, or who asks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A variable is not set.
    #[error("{0} is not set")]
    Missing(&'static str),
    /// The endpoint is no such URL.
    #[error("OPENSEARCH_ENDPOINT is not of the form https://host[:port]")]
    Endpoint,
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There was no connection, or it broke.
    #[error("OpenSearch cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer in time.
    #[error("OpenSearch did not answer in time")]
    Timeout,
    /// It said no. What else it said may quote a document.
    #[error("OpenSearch answered {0}")]
    Status(u16),
    /// It said yes, in words that mean nothing here.
    #[error("OpenSearch's answer cannot be read")]
    Unreadable,
}

impl CallError {
    /// Whether the same call may go well later, without anybody changing anything.
    pub fn may_pass(&self) -> bool {
        !matches!(self, Self::Status(status @ 400..=499) if ![408, 429].contains(status))
    }
}

/// The body of an answer.
pub type Answer = Bytes;

/// Where OpenSearch is, and who asks.
#[derive(Debug)]
pub struct OpenSearch {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    scheme: Scheme,
    authority: Authority,
    region: String,
    credentials: Credentials,
}

impl OpenSearch {
    /// As the environment says, which `variable` reads. Connects to nothing yet.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let required = |name: &'static str| variable(name).ok_or(ConfigError::Missing(name));
        let endpoint: Uri = required("OPENSEARCH_ENDPOINT")?.parse().map_err(|_| ConfigError::Endpoint)?;
        let parts = endpoint.into_parts();
        let known = [Scheme::HTTP, Scheme::HTTPS];
        let scheme = parts.scheme.filter(|scheme| known.contains(scheme)).ok_or(ConfigError::Endpoint)?;
        let bare = parts.path_and_query.is_none_or(|path| path == "/");
        // A password in it would stand in the environment for all to read, and the signature is what counts.
        let plain = |authority: &Authority| bare && !authority.as_str().contains('@');
        let authority = parts.authority.filter(plain).ok_or(ConfigError::Endpoint)?;
        let credentials = Credentials::new(
            required("AWS_ACCESS_KEY_ID")?,
            required("AWS_SECRET_ACCESS_KEY")?,
            variable("AWS_SESSION_TOKEN"),
            None,
            "environment",
        );
        let region = required("AWS_REGION")?;
        Ok(Self { client: client(), scheme, authority, region, credentials })
    }

    /// POSTs `body` to `path`, and its query, within `timeout`. Returns what a 2xx answers.
    pub async fn post(&self, path: &str, body: Vec<u8>, timeout: Duration) -> Result<Answer, CallError> {
        let request = self.signed(path, body.into());
        let call = async {
            let answer =
                self.client.request(request).await.map_err(|error| CallError::Unreachable(error.into()))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect();
            let body = body.await.map_err(CallError::Unreachable)?.to_bytes();
            if status.is_success() { Ok(body) } else { Err(CallError::Status(status.as_u16())) }
        };
        tokio::time::timeout(timeout, call).await.unwrap_or(Err(CallError::Timeout))
    }

    fn signed(&self, path: &str, body: Bytes) -> Request<Full<Bytes>> {
        let uri = format!("{}://{}{path}", self.scheme, self.authority);
        let headers = [(HOST.as_str(), self.authority.as_str()), (CONTENT_TYPE.as_str(), "application/json")];
        let identity = self.credentials.clone().into();
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(SERVICE)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .expect("all that is required is set");
        let signable = SignableRequest::new("POST", &uri, headers.into_iter(), SignableBody::Bytes(&body))
            .expect("paths are plain ASCII");
        let (instructions, _) = sign(signable, &parameters.into()).expect("plain headers sign").into_parts();
        // hyper leaves the length of an empty body out, and a proxy may answer 411 to that.
        let mut request =
            Request::builder().method(Method::POST).uri(&uri).header(CONTENT_LENGTH, body.len());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut request = request.body(Full::new(body)).expect("paths are plain ASCII");
        instructions.apply_to_request_http1x(&mut request);
        request
    }
}

/// TLS 1.2 or newer, or none for an `http` endpoint.
fn client() -> Client<HttpsConnector<HttpConnector>, Full<Bytes>> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_nodelay(true);
    let tls =
        HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().wrap_connector(tcp);
    Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE_TIMEOUT).build(tls)
}
