//! The invocation's time.

use std::time::Duration;

use hr_indexer::deadline::{ANSWER_MARGIN, CALL_TIMEOUT, Deadline};
use hr_indexer::opensearch::{CallError, ConfigError, OpenSearch};

#[test]
fn time_for_the_answer_is_kept_and_no_call_takes_all() {
    assert_eq!(Deadline::new(ANSWER_MARGIN).call_timeout(), None);
    assert_eq!(Deadline::new(Duration::from_secs(900)).call_timeout(), Some(CALL_TIMEOUT));
    let short = Deadline::new(ANSWER_MARGIN + Duration::from_secs(4));
    assert!(short.call_timeout().unwrap() <= Duration::from_secs(4));
    assert!(short.part(0.75).call_timeout().unwrap() <= Duration::from_secs(3));
}

#[test]
fn only_what_may_pass_is_worth_another_try() {
    for status in [408, 429, 500, 502, 503, 504] {
        assert!(CallError::Status(status).may_pass(), "{status}");
    }
    for status in [400, 401, 403, 404, 413] {
        assert!(!CallError::Status(status).may_pass(), "{status}");
    }
    assert!(CallError::Timeout.may_pass() && CallError::Unreadable.may_pass());
}

#[test]
fn an_environment_that_says_too_little_is_refused_before_the_first_batch() {
    let with = |endpoint: &'static str| {
        OpenSearch::from_environment(move |name| match name {
            "OPENSEARCH_ENDPOINT" => Some(endpoint.to_owned()),
            "AWS_SESSION_TOKEN" => None,
            _ => Some("set".to_owned()),
        })
    };
    for endpoint in ["https://search.example:9200", "http://127.0.0.1:9200/", "https://search.example"] {
        assert!(with(endpoint).is_ok(), "{endpoint}");
    }
    for endpoint in
        ["", "search.example", "ftp://search.example", "https://search.example/path", "https://a:b@c"]
    {
        assert_eq!(with(endpoint).unwrap_err(), ConfigError::Endpoint, "{endpoint}");
    }
    assert_eq!(
        OpenSearch::from_environment(|_| None).unwrap_err(),
        ConfigError::Missing("OPENSEARCH_ENDPOINT")
    );
}
