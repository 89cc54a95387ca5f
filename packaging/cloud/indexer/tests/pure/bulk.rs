//! The bulk call.

use hr_indexer::bulk::{Operation, Verdict, bodies, verdicts};
use hr_indexer::stored::Version;
use proptest::prelude::*;

fn verdict(item: &str) -> Verdict {
    let mut verdicts = verdicts(format!("{{\"items\":[{item}]}}").as_bytes(), 1).unwrap();
    verdicts.remove(0)
}

fn refused(operation: &str, status: u16, kind: &str) -> Verdict {
    verdict(&format!(r#"{{"{operation}":{{"status":{status},"error":{{"type":"{kind}"}}}}}}"#))
}

#[test]
fn an_operation_is_ndjson() {
    let index = Operation::index("hr-readings-2025.07", "a\"\n", b"{}");
    assert_eq!(index.lines(), b"{\"index\":{\"_id\":\"a\\\"\\n\",\"_index\":\"hr-readings-2025.07\"}}\n{}\n");
    let create = Operation::index_over("hr-minutes-2025.07", "a", None, b"{}");
    assert_eq!(create.lines(), b"{\"create\":{\"_id\":\"a\",\"_index\":\"hr-minutes-2025.07\"}}\n{}\n");
    let version = Version { seq_no: 7, primary_term: 2 };
    let condition = r#""_id":"a","_index":"hr-minutes-2025.07","if_primary_term":2,"if_seq_no":7"#;
    let over = Operation::index_over("hr-minutes-2025.07", "a", Some(version), b"{}");
    assert_eq!(over.lines(), format!("{{\"index\":{{{condition}}}}}\n{{}}\n").as_bytes());
    let delete = Operation::delete("hr-minutes-2025.07", "a", version);
    assert_eq!(delete.lines(), format!("{{\"delete\":{{{condition}}}}}\n").as_bytes());
}

#[test]
fn the_status_of_an_item_is_its_verdict() {
    assert_eq!(verdict(r#"{"index":{"status":201}}"#), Verdict::Accepted);
    assert_eq!(verdict(r#"{"index":{"status":200}}"#), Verdict::Accepted);
    for (status, kind) in [(400, "mapper_parsing_exception"), (413, "")] {
        assert!(matches!(refused("index", status, kind), Verdict::Refused(_)), "{status} {kind}");
    }
    for operation in ["index", "create", "delete"] {
        assert_eq!(refused(operation, 409, "version_conflict_engine_exception"), Verdict::Outdated);
    }
    for status in [429, 500, 502, 503, 504, 302] {
        assert!(matches!(refused("index", status, "any_exception"), Verdict::Retry(_)), "{status}");
    }
}

#[test]
fn what_is_no_fault_of_the_document_does_not_set_it_aside() {
    for (status, kind) in [
        (403, "cluster_block_exception"),
        (403, "security_exception"),
        (404, "index_not_found_exception"),
        (400, "validation_exception"),
        // A shard with as many documents as Lucene counts, 2,147,483,519.
        (400, "illegal_argument_exception"),
        (400, "something_of_a_later_version"),
        (400, "index_closed_exception"),
    ] {
        assert!(matches!(refused("index", status, kind), Verdict::Retry(_)), "{status} {kind}");
    }
}

#[test]
fn to_delete_what_is_not_there_is_done() {
    assert_eq!(verdict(r#"{"delete":{"status":404}}"#), Verdict::Accepted);
    assert_eq!(refused("delete", 404, "index_not_found_exception"), Verdict::Accepted);
}

#[test]
fn an_answer_to_another_call_is_no_verdict() {
    assert!(verdicts(b"{\"items\":[{\"index\":{\"status\":200}}]}", 2).is_err());
    for answer in
        ["", "{}", "null", "{\"items\":[{\"index\":{}}]}", "{\"items\":[{\"update\":{\"status\":200}}]}"]
    {
        assert!(verdicts(answer.as_bytes(), 1).is_err(), "{answer}");
    }
}

proptest! {
    #[test]
    fn bodies_hold_each_operation_once_in_order_and_are_as_few_as_they_may(
        sizes in proptest::collection::vec(1usize..100, 0..50), bytes_max in 1usize..300,
    ) {
        let bodies = bodies(&sizes, bytes_max);
        let held: Vec<usize> = bodies.iter().cloned().flatten().collect();
        prop_assert_eq!(held, (0..sizes.len()).collect::<Vec<_>>());
        let bytes = |range: &std::ops::Range<usize>| sizes[range.clone()].iter().sum::<usize>();
        for (place, body) in bodies.iter().enumerate() {
            prop_assert!(!body.is_empty() && (bytes(body) <= bytes_max || body.len() == 1));
            if let Some(next) = bodies.get(place + 1) {
                prop_assert!(bytes(body) + sizes[next.start] > bytes_max);
            }
        }
    }
}
