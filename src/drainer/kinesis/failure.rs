//! A failed call, named as what it is.
//!
//! Between the gateway and Kinesis are name servers, proxies, portals that want a login, and machines that
//! open TLS on the way. Each of them fails in its own way, and its owner can only mend what is named. Only
//! an error that Kinesis itself has typed is its verdict; whatever else answers says nothing of a reading.

use std::error::Error;
use std::io;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kinesis::config::http::HttpResponse;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::put_records::PutRecordsError;
use rustls::CertificateError;

use super::helper::HelperError;
use super::identity::Identity;
use super::names::{NameError, Names};
use crate::drainer::settle::{CallError, ErrorClass, HELPER_FAILED, classify, failing_helper, untyped};

/// A lookup that takes longer is what a call waits for.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// The code of a call that ran out of time while a credential helper went on.
pub(super) const CREDENTIALS_PENDING: &str = "CredentialsPending";

/// What `error` comes to.
pub(super) fn call_error(error: &SdkError<PutRecordsError>, identity: &Identity) -> CallError {
    match error {
        SdkError::ServiceError(refusal) => match refusal.err().code() {
            Some(code) => CallError {
                class: classify(code, Some(refusal.raw().status().as_u16())),
                code: code.to_owned(),
                message: refusal.err().message().unwrap_or("no message").to_owned(),
            },
            None => not_kinesis(refusal.raw()),
        },
        SdkError::ResponseError(answer) => not_kinesis(answer.raw()),
        error => unanswered(error, identity),
    }
}

/// An answer that Kinesis would not give.
fn not_kinesis(answer: &HttpResponse) -> CallError {
    let status = answer.status().as_u16();
    let (class, code) = untyped(status);
    let kind = answer.headers().get("content-type").unwrap_or("no content type");
    let kind: String = kind.chars().filter(|char| !char.is_control()).take(60).collect();
    let message = format!("status {status} with {kind}, which is no answer of Kinesis");
    CallError { class, code: code.into(), message }
}

/// A 200 that names no verdict, though there were records.
pub(super) fn empty_answer() -> CallError {
    let (class, code) = untyped(200);
    CallError { class, code: code.into(), message: "status 200 without a word on any record".into() }
}

fn unanswered(error: &SdkError<PutRecordsError>, identity: &Identity) -> CallError {
    let made = |class, code: &str, message: String| CallError { class, code: code.to_owned(), message };
    if let Some((class, code)) = chain(error).find_map(|cause| cause.downcast_ref().and_then(tls)) {
        return made(class, code, innermost(error));
    }
    if let Some((class, code)) = chain(error).find_map(tunnel) {
        return made(class, code, innermost(error));
    }
    if let Some(unknown) = chain(error).find_map(|cause| cause.downcast_ref::<NameError>()) {
        return made(ErrorClass::Transient, "NameUnknown", unknown.to_string());
    }
    if let Some(helper) = chain(error).find_map(|cause| cause.downcast_ref::<HelperError>()) {
        let class = match helper {
            HelperError::Useless { .. } => ErrorClass::Blocked,
            _ => failing_helper(identity.helper_failing_for()),
        };
        return made(class, HELPER_FAILED, helper.to_string());
    }
    match chain(error).find_map(|cause| cause.downcast_ref::<CredentialsError>()) {
        // A provider that could not answer may only lack the network.
        Some(CredentialsError::ProviderError(_) | CredentialsError::ProviderTimedOut(_)) => {
            return made(ErrorClass::Transient, "CredentialsUnavailable", innermost(error));
        }
        Some(_) => return made(ErrorClass::Blocked, "MissingCredentials", innermost(error)),
        None if matches!(error, SdkError::ConstructionFailure(_)) => {
            return made(ErrorClass::Blocked, "MissingConfiguration", innermost(error));
        }
        None => {}
    }
    // It ran out of time, or could not connect: what was it waiting for?
    if let Some((program, since)) = identity.unanswered() {
        let waited = since.as_secs();
        let message = format!("the credential helper `{program}` has not answered for {waited} s");
        return made(ErrorClass::Transient, CREDENTIALS_PENDING, message);
    }
    if let Some((name, since)) = Names::unanswered()
        && since >= LOOKUP_TIMEOUT
    {
        let message = format!("the name servers have not answered for {name} in {} s", since.as_secs());
        return made(ErrorClass::Transient, "NameUnanswered", message);
    }
    let code = if matches!(error, SdkError::TimeoutError(_)) { "Timeout" } else { "Unreachable" };
    made(ErrorClass::Transient, code, innermost(error))
}

/// A failure of TLS that is more than a broken connection.
fn tls(error: &rustls::Error) -> Option<(ErrorClass, &'static str)> {
    use CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext,
    };
    match error {
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. }) => {
            Some((ErrorClass::Blocked, "CertificateExpired"))
        }
        rustls::Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => {
            Some((ErrorClass::Blocked, "CertificateNotYetValid"))
        }
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            Some((ErrorClass::Blocked, "CertificateForAnotherName"))
        }
        rustls::Error::InvalidCertificate(_) => Some((ErrorClass::Blocked, "UntrustedCertificate")),
        rustls::Error::InvalidMessage(_) => Some((ErrorClass::Transient, "NotTls")),
        _ => None,
    }
}

/// A proxy that opens no tunnel. The SDK's HTTP client does not show the type of its error; its words
/// are those of hyper-util's `TunnelError`.
fn tunnel(error: &(dyn Error + 'static)) -> Option<(ErrorClass, &'static str)> {
    match error.to_string().strip_prefix("tunnel error: ")? {
        "proxy authorization required" => Some((ErrorClass::Blocked, "ProxyAuthenticationRequired")),
        "failed to create underlying connection" => Some((ErrorClass::Transient, "ProxyUnreachable")),
        _ => Some((ErrorClass::Transient, "ProxyRefused")),
    }
}

/// `error` and its causes. An [`io::Error`] passes its payload over when asked for its source.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>() {
        Some(outer) => outer.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    })
}

/// The cause at the bottom: the SDK's outer errors say no more than "dispatch failure".
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map_or_else(String::new, ToString::to_string)
}
