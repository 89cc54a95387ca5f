//! Which minutes to sum: the window's state, and the searches that cover it.

use std::collections::BTreeSet;

use hr_indexer::index::{Minute, Retention, minutes_index, readings_indices};
use hr_indexer::query::{PAGE_ROWS_MAX, Page, QUERY_MINUTES_MAX, held_ids, plan};
use hr_indexer::window::{STATE_MINUTES_MAX, TouchedMinutes};
use proptest::prelude::*;
use serde_json::value::RawValue;

use crate::line;

/// 2025-08-01T00:00Z.
const AUGUST: Minute = Minute(29_233_440);

fn touched(minutes: &[(usize, i64)]) -> TouchedMinutes {
    let mut touched = TouchedMinutes::default();
    minutes
        .iter()
        .for_each(|(sensor, minute)| touched.touch(&format!("sensor-{sensor}"), Minute(AUGUST.0 + minute)));
    touched
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

#[test]
fn a_window_begins_with_nothing() {
    for state in [None, Some(raw("{}")), Some(raw("null"))] {
        assert!(TouchedMinutes::from_state(state.as_deref()).unwrap().is_empty());
    }
    assert!(TouchedMinutes::from_state(Some(&raw("{\"minutes\":7}"))).is_err());
}

#[test]
fn a_full_state_of_the_longest_names_is_far_below_what_lambda_takes() {
    let mut touched = TouchedMinutes::default();
    (0..STATE_MINUTES_MAX).for_each(|sensor| touched.touch(&format!("{sensor:0>64}"), AUGUST));
    assert!(serde_json::to_string(&touched).unwrap().len() < 180_000);
}

#[test]
fn up_to_31_days_there_is_an_index_a_day_but_for_what_is_old_or_ahead() {
    let now_ms = AUGUST.start_ms() + 12 * 3_600_000;
    let index = |days, hours: i64| Retention { days }.readings_index(now_ms + hours * 3_600_000, now_ms);
    assert_eq!(
        (index(31, 0).as_str(), index(32, 0).as_str()),
        ("hr-readings-2025.08.01", "hr-readings-2025.08")
    );
    assert_eq!(
        (index(2, 1).as_str(), index(2, 13).as_str()),
        ("hr-readings-2025.08.01", "hr-readings-2025.08")
    );
    assert_eq!(
        (index(2, -72).as_str(), index(2, -73).as_str()),
        ("hr-readings-2025.07.29", "hr-readings-2025.07")
    );
    assert_eq!(Retention { days: 2 }.readings_index(0, 0), "hr-readings-undated");
}

#[test]
fn minutes_on_both_sides_of_a_months_end_are_asked_for_apart() {
    let queries = plan(&touched(&[(0, -2), (0, -1), (0, 0), (0, 1)]));
    let asked: Vec<_> = queries.iter().map(|query| (&*query.indices, query.spans[0].len())).collect();
    assert_eq!(asked, [("hr-readings-2025.07*", 2), ("hr-readings-2025.08*", 2)]);
}

#[test]
fn a_search_asks_for_the_sensor_and_its_minutes_after_the_page_before() {
    let query = plan(&touched(&[(0, 0), (0, 1), (1, 5)])).remove(0);
    let body: serde_json::Value =
        serde_json::from_slice(&query.body(Some(&raw("[1754006400000,\"a\"]")))).unwrap();
    let clauses = &body["query"]["bool"]["filter"][0]["bool"]["should"];
    assert_eq!(clauses[0]["bool"]["filter"][0]["term"]["sensor_id"], "sensor-0");
    let range = &clauses[0]["bool"]["filter"][1]["range"]["timestamp"];
    assert_eq!(
        (range["gte"].as_str(), range["lt"].as_str()),
        (Some("2025-08-01T00:00:00.000Z"), Some("2025-08-01T00:02:00.000Z"))
    );
    assert_eq!(clauses.as_array().unwrap().len(), 2);
    assert_eq!(body["search_after"], serde_json::json!([1_754_006_400_000i64, "a"]));
}

#[test]
fn a_full_page_has_a_next_one_and_foreign_documents_are_counted() {
    let hit = format!("{{\"_source\":{},\"sort\":[1,\"a\"]}}", line("forerunner", 1, 0, &[]));
    let page = |hits: &[&str]| {
        Page::parse(format!("{{\"timed_out\":false,\"hits\":{{\"hits\":[{}]}}}}", hits.join(",")).as_bytes())
            .unwrap()
    };
    let full = page(&vec![&*hit; PAGE_ROWS_MAX]);
    assert_eq!(
        (full.readings.len(), full.after.as_deref().map(RawValue::get)),
        (PAGE_ROWS_MAX, Some("[1,\"a\"]"))
    );
    let last = page(&[&hit, "{\"_source\":{},\"sort\":[2]}"]);
    assert_eq!((last.readings.len(), last.foreign, last.after.is_none()), (1, 1, true));
    assert!(Page::parse(b"{\"timed_out\":false}").unwrap().readings.is_empty());
    for answer in ["", "{}", "[]", "{\"timed_out\":true}"] {
        assert!(Page::parse(answer.as_bytes()).is_err(), "{answer}");
    }
}

#[test]
fn the_ids_that_the_index_holds_are_read() {
    assert_eq!(
        held_ids(br#"{"timed_out":false,"hits":{"hits":[{"_id":"a-1"},{"_id":"b"}]}}"#).unwrap(),
        ["a-1", "b"]
    );
    assert!(held_ids(br#"{"timed_out":false}"#).unwrap().is_empty());
    for answer in ["", "{}", r#"{"timed_out":true,"hits":{"hits":[]}}"#] {
        assert!(held_ids(answer.as_bytes()).is_err(), "{answer}");
    }
}

proptest! {
    #[test]
    fn the_state_comes_back_as_it_went(minutes in proptest::collection::vec((0usize..5, -500i64..500), 0..200)) {
        let touched = touched(&minutes);
        let state = raw(&serde_json::to_string(&touched).unwrap());
        prop_assert_eq!(TouchedMinutes::from_state(Some(&state)).unwrap(), touched);
    }

    #[test]
    fn each_minute_is_in_one_search_of_its_index_and_no_other_minute_is(
        minutes in proptest::collection::vec((0usize..5, -500i64..500), 0..600),
    ) {
        let touched = touched(&minutes);
        let mut asked = Vec::new();
        for query in plan(&touched) {
            prop_assert!(query.spans.iter().map(|span| span.len()).sum::<usize>() <= QUERY_MINUTES_MAX);
            for span in &query.spans {
                prop_assert!(span.minutes().all(|minute| readings_indices(minute) == query.indices));
                prop_assert!(span.minutes().all(|minute| minutes_index(minute) == query.minutes_index()));
                asked.extend(span.minutes().map(|minute| (span.sensor.clone(), minute)));
            }
        }
        let wanted: BTreeSet<_> = minutes.iter().map(|(sensor, minute)| (format!("sensor-{sensor}"), Minute(AUGUST.0 + minute))).collect();
        prop_assert_eq!(asked.len(), touched.len());
        prop_assert_eq!(asked.into_iter().collect::<BTreeSet<_>>(), wanted);
    }
}
