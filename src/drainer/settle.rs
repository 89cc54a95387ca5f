//! What an answer of the sink means. Pure.
//!
//! A 200 of PutRecords can carry failed entries: the entry's own `ErrorCode` is the only verdict. An
//! error of the whole call is one of four classes, by what happens next ([`ErrorClass`]). A code that
//! nobody knows keeps everything: it blocks, it never costs a reading.

use std::time::Duration;

use serde::Serialize;

use crate::queue::sequence_set::SequenceSet;

/// The code of a credential helper that gave no credentials.
pub const HELPER_FAILED: &str = "CredentialHelperFailed";
/// A helper that fails for so long does not mend itself.
const HELPER_FAILING_MAX: Duration = Duration::from_secs(300);

/// The verdict on one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryVerdict {
    /// The sink has it, on this shard if it has shards. Only now may it be removed.
    Accepted {
        /// The shard's id.
        shard: Option<String>,
    },
    /// The shard takes no more for now.
    Throttled,
    /// The sink failed on it; try again.
    Failed,
}

/// Why a call as a whole failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct CallError {
    /// What to do about it.
    pub class: ErrorClass,
    /// The service's code, or ours for what never reached it.
    pub code: String,
    /// The service's words.
    pub message: String,
}

impl CallError {
    /// Whether it does not pass by itself.
    pub fn needs_a_person(&self) -> bool {
        matches!(self.class, ErrorClass::Blocked | ErrorClass::Poison)
    }

    /// Whether a try costs more than a call: then they are as rare as where a person must act.
    pub fn is_slow(&self) -> bool {
        self.needs_a_person() || self.code == HELPER_FAILED
    }
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// It may pass by itself: keep, try again soon, for ever.
    Transient,
    /// The service asks for less: keep, slow down.
    Throttled,
    /// A person must act: keep everything, try again slowly, say so.
    Blocked,
    /// Something on the way takes no call of this size: send less at once. Of one reading: [`Blocked`](Self::Blocked).
    TooLarge,
    /// The service refuses what was in the call: find the record, keep it aside, go on.
    Poison,
}

impl ErrorClass {
    /// The word in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Throttled => "throttled",
            Self::Blocked => "blocked",
            Self::TooLarge => "too_large",
            Self::Poison => "poison",
        }
    }
}

/// The verdict that an entry of a PutRecords answer carries.
pub fn entry_verdict(
    error_code: Option<&str>,
    sequence_number: Option<&str>,
    shard: Option<&str>,
) -> EntryVerdict {
    match (error_code, sequence_number) {
        (None, Some(_)) => EntryVerdict::Accepted { shard: shard.map(str::to_owned) },
        (Some(code), _) if classify(code, None) == ErrorClass::Throttled => EntryVerdict::Throttled,
        _ => EntryVerdict::Failed,
    }
}

/// The class of an error of a whole call.
pub fn classify(code: &str, http_status: Option<u16>) -> ErrorClass {
    match code {
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "LimitExceededException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "KMSThrottlingException"
        | "SlowDown" => ErrorClass::Throttled,
        "ValidationException" | "InvalidArgumentException" | "SerializationException" => ErrorClass::Poison,
        "InternalFailure" | "InternalFailureException" | "ServiceUnavailable" | "RequestTimeout" => {
            ErrorClass::Transient
        }
        _ => match http_status {
            // Not of the readings, but of how many there are in one call.
            Some(413) => ErrorClass::TooLarge,
            Some(429) => ErrorClass::Throttled,
            Some(408 | 500..=599) | None => ErrorClass::Transient,
            Some(_) => ErrorClass::Blocked,
        },
    }
}

/// The class of an answer that carries no error of Kinesis' own, by its status, and our code for it: a
/// proxy's or a portal's. Whatever it is, it is no verdict on a reading.
pub fn untyped(http_status: u16) -> (ErrorClass, &'static str) {
    match http_status {
        407 => (ErrorClass::Blocked, "ProxyAuthenticationRequired"),
        413 => (ErrorClass::TooLarge, "RequestTooLarge"),
        429 => (ErrorClass::Throttled, "TooManyRequests"),
        511 => (ErrorClass::Blocked, "NetworkLoginRequired"),
        408 | 500..=599 => (ErrorClass::Transient, "Unavailable"),
        _ => (ErrorClass::Blocked, "NotKinesis"),
    }
}

/// The class of a credential helper's failure: it may lack the network or a card, but not for ever.
pub fn failing_helper(failing_for: Duration) -> ErrorClass {
    match failing_for < HELPER_FAILING_MAX {
        true => ErrorClass::Transient,
        false => ErrorClass::Blocked,
    }
}

/// Whether a refusal may be of the identity, so that another one is worth a try.
pub fn doubts_identity(code: &str) -> bool {
    !(code.starts_with("KMS") || code == "ResourceNotFoundException" || on_the_way(code))
}

/// Whether a failure is of the way to the sink: the sink itself has not spoken.
pub fn on_the_way(code: &str) -> bool {
    [
        "NetworkSettings",
        "UntrustedCertificate",
        "CertificateExpired",
        "CertificateNotYetValid",
        "CertificateForAnotherName",
        "NetworkLoginRequired",
        "NotKinesis",
        "ProxyAuthenticationRequired",
        "RequestTooLarge",
        HELPER_FAILED,
    ]
    .contains(&code)
}

/// What an answer came to.
#[derive(Debug, Default)]
pub struct Settlement {
    /// To be removed from the queue, then [forgotten](super::dispatch::Dispatcher::forget).
    pub accepted: SequenceSet,
    /// To be dead-lettered, then forgotten, with the sink's words.
    pub refused: Option<(SequenceSet, String)>,
    /// What changed, for the log.
    pub transition: Option<Transition>,
}

/// A change of the sink's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// It works again, after so long.
    Recovered {
        /// Which state it leaves.
        from: ErrorClass,
        /// Since the first failure.
        after: Duration,
    },
    /// It failed, or fails in a way that is new since it last worked.
    Failing(CallError),
    /// It fails in another way than just before, which was told already.
    FailingAgain(CallError),
}

/// What a person does about a blocking error.
pub fn advice(code: &str) -> &'static str {
    match code {
        "ResourceNotFoundException" => "check [kinesis] stream and region, or create the stream",
        "AccessDeniedException" | "NotAuthorized" => {
            "allow the gateway's identity kinesis:PutRecords on the stream"
        }
        "ExpiredTokenException" | "ExpiredToken" => {
            "renew the gateway's credentials, then `systemctl restart hr-gatewayd`"
        }
        "InvalidSignatureException" | "SignatureDoesNotMatch" | "RequestExpired" | "RequestTimeTooSkewed" => {
            "check the clock (timedatectl), then the secret key"
        }
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "MissingAuthenticationToken"
        // systemd hands them over when the service starts, not when it reloads.
        | "MissingCredentials" => {
            "give the gateway credentials that are valid in this region, then `systemctl restart hr-gatewayd`"
        }
        "MissingConfiguration" => "set [kinesis] region",
        "NetworkSettings" => "mend what the message names, then `systemctl restart hr-gatewayd`",
        "UntrustedCertificate" => {
            "nobody this machine trusts has signed the certificate of what answers: if a proxy of yours opens TLS, \
             name its authority in AWS_CA_BUNDLE; otherwise check the network and [kinesis] endpoint"
        }
        "CertificateExpired" | "CertificateNotYetValid" => {
            "check the clock (timedatectl); if it is right, the certificate of what answers has to be renewed"
        }
        "CertificateForAnotherName" | "NetworkLoginRequired" | "NotKinesis" => {
            "something else answers in Kinesis' place: log in to the network's portal, or check [kinesis] endpoint \
             and HTTPS_PROXY"
        }
        "ProxyAuthenticationRequired" => {
            "give HTTPS_PROXY a user and a password that the proxy takes (http://user:password@host:port), then \
             `systemctl restart hr-gatewayd`"
        }
        HELPER_FAILED => {
            "run the profile's credential_process by hand, as the service's user, and mend what it complains of; \
             after a change of the profile, `systemctl restart hr-gatewayd`"
        }
        "RequestTooLarge" => {
            "something on the way to Kinesis (a proxy) refuses even one reading as too large: raise its limit"
        }
        code if code.starts_with("KMS") => "check the stream's KMS key and the right to use it",
        "DirectoryUnwritable" => "make [directory] path writable and give it space",
        _ => "see the message; everything is kept meanwhile",
    }
}
