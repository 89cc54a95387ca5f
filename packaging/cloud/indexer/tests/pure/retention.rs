//! Minutes of which the index of readings holds a part, or nothing any more.

use std::collections::{BTreeMap, BTreeSet};

use hr_indexer::counted::Counted;
use hr_indexer::index::Minute;
use hr_indexer::line::Reading;
use hr_indexer::minutes::{Sums, gather, not_found, operations, sum};
use hr_indexer::query::{Query, plan};
use hr_indexer::stored::{Stored, Version, parse};
use hr_indexer::window::TouchedMinutes;
use proptest::prelude::*;

use crate::reading;

const MINUTE: Minute = Minute(29_209_990); // 2025-07-15T17:10Z
const VERSION: Version = Version { seq_no: 7, primary_term: 1 };

fn query() -> Query {
    let mut touched = TouchedMinutes::default();
    touched.touch("forerunner", MINUTE);
    plan(&touched).remove(0)
}

/// One a second, with as many RR-Intervals.
fn readings(sequences: impl IntoIterator<Item = u64>) -> Vec<Reading<'static>> {
    let one = |sequence: u64| {
        let taken_ms = MINUTE.start_ms() + sequence as i64 * 1_000;
        reading(sequence, taken_ms, &[800.0 + (sequence * sequence % 37) as f64])
    };
    sequences.into_iter().map(one).collect()
}

/// As they are read back: a decimal's last digit may be another.
fn sums(sequences: impl IntoIterator<Item = u64>) -> Sums {
    let sums = sum("forerunner", MINUTE, readings(sequences)).unwrap();
    serde_json::from_str(&serde_json::to_string(&sums).unwrap()).unwrap()
}

fn stored(sums: &Sums) -> Option<Stored> {
    Some(Stored { version: VERSION, sums: Some(sums.clone()) })
}

/// What is written, and whether over something: `None` if nothing is.
fn written(
    held: Vec<Reading<'static>>,
    stored: Option<Stored>,
    moved: &[&str],
) -> Option<(String, Option<Sums>)> {
    let minutes = gather(&query(), held, vec![stored]);
    let moved = moved.iter().map(|id| (*id).to_owned()).collect();
    let operation = operations(minutes, &moved).into_iter().next()?;
    let text = String::from_utf8(operation.lines().to_vec()).unwrap();
    let mut lines = text.lines();
    let action: BTreeMap<String, serde_json::Value> = serde_json::from_str(lines.next().unwrap()).unwrap();
    Some((action.into_keys().next().unwrap(), lines.next().map(|line| serde_json::from_str(line).unwrap())))
}

#[test]
fn a_minute_is_made_written_again_or_taken_away_and_only_if_nobody_else_did() {
    assert_eq!(written(readings(0..9), None, &[]), Some(("create".to_owned(), Some(sums(0..9)))));
    assert_eq!(
        written(readings(0..9), stored(&sums(0..5)), &[]),
        Some(("index".to_owned(), Some(sums(0..9))))
    );
    let moved = ["00000000000000aa-3"];
    assert_eq!(written(vec![], stored(&sums([3])), &moved), Some(("delete".to_owned(), None)));
    assert_eq!(written(vec![], None, &[]), None);
}

#[test]
fn what_a_document_counts_and_the_minute_lacks_is_looked_for() {
    let minutes = gather(&query(), readings(5..9), vec![stored(&sums(4..7))]);
    assert_eq!(Vec::from_iter(not_found(&minutes)), ["00000000000000aa-4"]);
}

#[test]
fn a_reading_that_moved_leaves_its_minute() {
    let moved = ["00000000000000aa-8"];
    assert_eq!(written(readings(0..8), stored(&sums(0..9)), &moved).unwrap().1, Some(sums(0..8)));
}

#[test]
fn what_the_retention_took_stays_counted_and_the_late_are_added_once() {
    let before = sums(0..30);
    // It is one minute's worth of lines, whatever came twice.
    let (action, after) = written(readings((20..30).chain(35..60)), stored(&before), &[]).unwrap();
    let (after, all) = (after.unwrap(), sums((0..30).chain(35..60)));
    assert_eq!((action.as_str(), &after.counted), ("index", &all.counted));
    assert_eq!(
        (after.readings, after.heart_rate_min, after.heart_rate_max),
        (55, all.heart_rate_min, all.heart_rate_max)
    );
    assert!((after.heart_rate_mean - all.heart_rate_mean).abs() < 1e-9);
    assert_eq!(after.rr_differences, all.rr_differences);
    assert!((after.rmssd_ms.unwrap() - all.rmssd_ms.unwrap()).abs() < 1e-9);
    // Between those that came before, with the beats on both sides.
    let (_, filled) = written(readings(20..60), stored(&after), &[]).unwrap();
    let (filled, all) = (filled.unwrap(), sums(0..60));
    assert_eq!((filled.readings, filled.rr_differences), (60, all.rr_differences));
    assert!((filled.rmssd_ms.unwrap() - all.rmssd_ms.unwrap()).abs() < 1e-9);
    assert_eq!(written(readings(40..60), stored(&sums(0..60)), &[]), None);
    assert_eq!(written(vec![], stored(&before), &[]), None);
}

#[test]
fn an_earlier_versions_document_gives_way_to_no_fewer_readings() {
    let old = Sums { counted: Counted::default(), ..sums(0..30) };
    assert_eq!(written(readings(0..29), stored(&old), &[]), None);
    assert_eq!(written(vec![], stored(&old), &[]), None);
    assert_eq!(written(readings(0..30), stored(&old), &[]).unwrap().1, Some(sums(0..30)));
}

#[test]
fn a_reading_in_two_indices_is_counted_once() {
    let twice = [readings(0..9), readings(3..12)].concat();
    assert_eq!(written(twice, None, &[]).unwrap().1, Some(sums(0..12)));
}

#[test]
fn what_is_no_document_of_ours_is_written_over() {
    let foreign = Some(Stored { version: VERSION, sums: None });
    assert_eq!(written(readings(0..5), foreign, &[]).unwrap().0, "index");
}

#[test]
fn a_document_is_there_or_not_or_not_known() {
    let document = serde_json::to_string(&sums(0..3)).unwrap();
    let answer = format!(
        r#"{{"docs":[{{"found":true,"_seq_no":7,"_primary_term":1,"_source":{document}}},{{"found":false}},
            {{"error":{{"type":"index_not_found_exception"}}}},{{"found":true,"_seq_no":7,"_primary_term":1,"_source":{{}}}}]}}"#
    );
    let found = parse(answer.as_bytes(), 4).unwrap();
    assert_eq!(found, [stored(&sums(0..3)), None, None, Some(Stored { version: VERSION, sums: None })]);
    for answer in [
        "",
        "{}",
        r#"{"docs":[]}"#,
        r#"{"docs":[{}]}"#,
        r#"{"docs":[{"found":true,"_source":{}}]}"#,
        r#"{"docs":[{"error":{"type":"no_shard_available_action_exception"}}]}"#,
    ] {
        assert!(parse(answer.as_bytes(), 1).is_err(), "{answer}");
    }
}

#[test]
fn readings_of_one_sensor_take_few_bytes() {
    let ids: Vec<String> =
        (0..60).map(|second| format!("00000000000000aa-{}", 1_000_000 + 10 * second)).collect();
    let counted = Counted::of(ids.iter().map(String::as_str));
    assert!(serde_json::to_string(&counted).unwrap().len() < 250);
}

/// The document after one more sum, of these readings in the index.
fn summed(held: &BTreeSet<u64>, document: Option<Sums>) -> Option<Sums> {
    let before = document.as_ref().and_then(stored);
    match written(readings(held.iter().copied()), before, &[]) {
        Some((_, after)) => after,
        None => document,
    }
}

proptest! {
    #[test]
    fn counted_ids_come_back(ids in proptest::collection::btree_set("[ab]{0,2}-?(0|0?[1-9][0-9]{0,3}|18446744073709551615)?", 0..30)) {
        let counted = Counted::of(ids.iter().map(String::as_str));
        prop_assert_eq!(&counted.ids(), &ids);
        prop_assert_eq!(counted.is_empty(), ids.is_empty());
        let text = serde_json::to_string(&counted).unwrap();
        prop_assert_eq!(serde_json::from_str::<Counted>(&text).unwrap(), counted);
    }

    /// Readings come in any parts, some again, and now and then the retention takes all that came before: each is
    /// counted once. Doing a sum again changes nothing.
    #[test]
    fn each_reading_is_counted_once_whatever_the_retention_takes(
        steps in proptest::collection::vec((proptest::collection::btree_set(0u64..60, 0..20), any::<bool>()), 1..8),
    ) {
        let (mut held, mut ever, mut document) = (BTreeSet::new(), BTreeSet::new(), None::<Sums>);
        let mut was_taken = false;
        for (sequences, is_taken) in steps {
            if is_taken {
                held.clear();
            }
            was_taken |= is_taken;
            held.extend(sequences.iter().copied());
            ever.extend(sequences);
            document = summed(&held, document);
            prop_assert_eq!(&summed(&held, document.clone()), &document);
            let Some(document) = &document else { prop_assert!(ever.is_empty()); continue };
            let all = sums(ever.iter().copied());
            prop_assert_eq!(&document.counted, &all.counted);
            prop_assert_eq!(
                (document.readings, document.heart_rate_min, document.heart_rate_max),
                (all.readings, all.heart_rate_min, all.heart_rate_max)
            );
            prop_assert!((document.heart_rate_mean - all.heart_rate_mean).abs() < 1e-9);
            if !was_taken {
                prop_assert_eq!(document, &all);
            }
        }
    }
}
