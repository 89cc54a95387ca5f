//! Packing, pacing and verdicts, driven by hand.

use std::time::Duration;

use hr_gateway::backoff::Backoff;
use hr_gateway::config::DrainConfig;
use hr_gateway::config::DrainOrder;
use hr_gateway::drainer::batch::{Limits, RECORD_BYTES_MAX, Record, pack};
use hr_gateway::drainer::dispatch::{Dispatcher, Step};
use hr_gateway::drainer::pace::Pacer;
use hr_gateway::drainer::settle::{
    CallError, EntryVerdict, ErrorClass, Transition, classify, entry_verdict, untyped,
};
use hr_gateway::heart_rate::{HeartRateMeasurement, RrInterval};
use hr_gateway::reading::{Body, Epoch, Item};
use proptest::prelude::*;

use crate::support::{envelope, measurement, moment, sensor};

fn item(name: &str, sequence: u64) -> Item {
    let body = Body::Measurement(measurement(70).into());
    Item { sequence, sensor: sensor(name), session: 1, taken: moment(sequence), body }
}

fn packed(items: Vec<Item>, readings_max: usize) -> Vec<Record> {
    pack(items, &envelope("g", Epoch(1)), 0, readings_max)
}

proptest! {
    #[test]
    fn packing_keeps_every_item_once_by_sensor_and_within_bounds(
        names in proptest::collection::vec(0u8..4, 1..300),
        readings_max in 1usize..50,
        newest_first in any::<bool>(),
    ) {
        let mut items: Vec<Item> = names.iter().zip(1..).map(|(n, sequence)| item(&format!("s{n}"), sequence)).collect();
        if newest_first {
            items.reverse();
        }
        let records = packed(items, readings_max);
        let mut all: Vec<u64> = Vec::new();
        for record in &records {
            prop_assert!(record.sequences.len() <= readings_max);
            prop_assert!(record.sequences.is_sorted());
            let lines: Vec<&[u8]> = record.data.split_inclusive(|byte| *byte == b'\n').collect();
            prop_assert_eq!(lines.len(), record.sequences.len());
            for (line, sequence) in lines.iter().zip(&record.sequences) {
                let value: serde_json::Value = serde_json::from_slice(line).unwrap();
                prop_assert_eq!(value["sequence"].as_u64(), Some(*sequence));
                prop_assert_eq!(value["sensor_id"].as_str(), Some(record.sensor.as_str()));
            }
            all.extend(&record.sequences);
        }
        all.sort_unstable();
        prop_assert_eq!(all, (1..=names.len() as u64).collect::<Vec<_>>());
    }

    #[test]
    fn halves_of_a_record_are_the_record(count in 1u64..20) {
        let record = packed((1..=count).map(|n| item("a", n)).collect(), 500).remove(0);
        match record.split() {
            None => prop_assert_eq!(count, 1),
            Some((first, second)) => {
                prop_assert_eq!([first.data, second.data].concat(), record.data);
                prop_assert_eq!([first.sequences, second.sequences].concat(), record.sequences);
            }
        }
    }

    #[test]
    fn jitter_stays_between_nothing_and_its_bound(attempt in 0u32..100, random in 0.0f64..1.0) {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2)).unwrap();
        let bound = Duration::from_millis(100 * 2u64.pow(attempt.min(10))).min(Duration::from_secs(2));
        prop_assert!(backoff.delay(attempt, random) <= bound);
    }
}

#[test]
fn records_of_many_rr_intervals_stay_below_the_largest_record() {
    let heavy = |sequence| Item {
        body: Body::Measurement(
            HeartRateMeasurement { rr_intervals: vec![RrInterval(1023); 250], ..measurement(70) }.into(),
        ),
        ..item("a", sequence)
    };
    let records = packed((1..=500).map(heavy).collect(), 500);
    assert!(records.len() > 1);
    assert!(records.iter().all(|record| record.bytes() < RECORD_BYTES_MAX + 8_000));
}

#[test]
fn an_entry_is_accepted_only_with_a_sequence_number_and_without_an_error() {
    let accepted = entry_verdict(None, Some("495"), Some("shard-1"));
    assert_eq!(accepted, EntryVerdict::Accepted { shard: Some("shard-1".into()) });
    assert_eq!(entry_verdict(None, None, None), EntryVerdict::Failed);
    assert_eq!(entry_verdict(Some("InternalFailure"), None, None), EntryVerdict::Failed);
    assert_eq!(entry_verdict(Some("InternalFailure"), Some("495"), None), EntryVerdict::Failed);
    let throttled = entry_verdict(Some("ProvisionedThroughputExceededException"), None, None);
    assert_eq!(throttled, EntryVerdict::Throttled);
}

#[test]
fn codes_fall_into_the_class_of_what_happens_next_and_unknown_ones_keep_everything() {
    for (code, status, class) in [
        ("ProvisionedThroughputExceededException", 400, ErrorClass::Throttled),
        ("KMSThrottlingException", 400, ErrorClass::Throttled),
        ("InternalFailure", 500, ErrorClass::Transient),
        ("Whatever", 502, ErrorClass::Transient),
        ("AccessDeniedException", 400, ErrorClass::Blocked),
        ("ResourceNotFoundException", 400, ErrorClass::Blocked),
        ("ExpiredTokenException", 400, ErrorClass::Blocked),
        ("InvalidSignatureException", 403, ErrorClass::Blocked),
        ("KMSDisabledException", 400, ErrorClass::Blocked),
        ("AnErrorOfNextYear", 400, ErrorClass::Blocked),
        ("ValidationException", 400, ErrorClass::Poison),
        ("InvalidArgumentException", 400, ErrorClass::Poison),
        ("RequestEntityTooLarge", 413, ErrorClass::TooLarge),
    ] {
        assert_eq!(classify(code, Some(status)), class, "{code}");
    }
}

#[test]
fn an_answer_that_is_not_of_kinesis_never_condemns_a_reading() {
    for status in 100..=999 {
        assert_ne!(untyped(status).0, ErrorClass::Poison, "{status}");
    }
    for (status, class, code) in [
        (200, ErrorClass::Blocked, "NotKinesis"),
        (302, ErrorClass::Blocked, "NotKinesis"),
        (403, ErrorClass::Blocked, "NotKinesis"),
        (407, ErrorClass::Blocked, "ProxyAuthenticationRequired"),
        (413, ErrorClass::TooLarge, "RequestTooLarge"),
        (429, ErrorClass::Throttled, "TooManyRequests"),
        (503, ErrorClass::Transient, "Unavailable"),
        (511, ErrorClass::Blocked, "NetworkLoginRequired"),
    ] {
        assert_eq!(untyped(status), (class, code));
    }
}

fn dispatcher(order: DrainOrder) -> Dispatcher {
    Dispatcher::new(Limits::from_config(&DrainConfig::default()), order, fastrand::Rng::with_seed(1))
}

/// Fetches `items` and returns the first batch.
fn fetch_and_send(dispatcher: &mut Dispatcher, items: Vec<Item>) -> hr_gateway::drainer::dispatch::Batch {
    assert!(matches!(dispatcher.poll(Duration::ZERO), Step::Fetch(_)));
    dispatcher.handle_fetched(packed(items, 500), true, Duration::ZERO);
    match dispatcher.poll(Duration::ZERO) {
        Step::Send(batch) => batch,
        step => panic!("{step:?}"),
    }
}

#[test]
fn after_a_failure_claims_go_back_to_the_queue_and_one_call_probes() {
    let mut dispatcher = dispatcher(DrainOrder::OldestFirst);
    let batch = fetch_and_send(&mut dispatcher, vec![item("a", 1), item("b", 2)]);
    assert_eq!(dispatcher.claimed().count(), 2);
    let unreachable =
        CallError { class: ErrorClass::Transient, code: "Unreachable".into(), message: "refused".into() };
    let settlement = dispatcher.handle_answer(batch, Err(unreachable), Duration::ZERO);
    assert!(settlement.transition.is_some() && settlement.accepted.is_empty());
    assert!(dispatcher.claimed().is_empty());
    let Step::Wait(Some(until)) = dispatcher.poll(Duration::ZERO) else { panic!("it waits") };
    assert!(until <= Duration::from_millis(100), "the first retry comes soon");
    assert!(matches!(dispatcher.poll(until), Step::Fetch(_)));
    dispatcher.handle_fetched(packed(vec![item("a", 1), item("b", 2)], 500), true, until);
    assert!(matches!(dispatcher.poll(until), Step::Send(_)));
    dispatcher.handle_appended();
    assert!(matches!(dispatcher.poll(until), Step::Wait(None)), "one call probes");
}

#[test]
fn an_outage_is_probed_with_little_and_what_was_split_goes_in_its_order() {
    let mut dispatcher = dispatcher(DrainOrder::OldestFirst);
    let items = || (1..=300).map(|sequence| item("a", sequence)).collect::<Vec<_>>();
    let batch = fetch_and_send(&mut dispatcher, items());
    let unreachable =
        CallError { class: ErrorClass::Transient, code: "Unreachable".into(), message: String::new() };
    dispatcher.handle_answer(batch, Err(unreachable), Duration::ZERO);
    let Step::Wait(Some(mut now)) = dispatcher.poll(Duration::ZERO) else { panic!("it waits") };
    let (mut sent, mut probe_bytes) = (Vec::new(), None);
    while sent.len() < 300 {
        match dispatcher.poll(now) {
            Step::Fetch(_) => {
                let claimed = dispatcher.claimed().clone();
                let left = items()
                    .into_iter()
                    .filter(|item| !claimed.contains(item.sequence) && !sent.contains(&item.sequence));
                dispatcher.handle_fetched(packed(left.collect(), 500), true, now);
            }
            Step::Send(batch) => {
                probe_bytes.get_or_insert(batch.records.iter().map(Record::bytes).sum::<usize>());
                sent.extend(batch.records.iter().flat_map(|record| &record.sequences));
                let accepted = EntryVerdict::Accepted { shard: Some("shard-1".into()) };
                let verdicts = vec![accepted; batch.records.len()];
                let settlement = dispatcher.handle_answer(batch, Ok(verdicts), now);
                dispatcher.forget(&settlement.accepted);
            }
            Step::Wait(until) => now = until.unwrap_or(now) + Duration::from_millis(1),
        }
    }
    assert!(
        probe_bytes.is_some_and(|bytes| bytes <= 8 << 10),
        "{probe_bytes:?} bytes ask whether it is over"
    );
    assert_eq!(sent, (1..=300).collect::<Vec<u64>>());
}

#[test]
fn what_needs_a_person_is_said_when_it_is_something_new_and_what_passes_once() {
    let failure = |class, code: &str| CallError { class, code: code.into(), message: String::new() };
    let mut dispatcher = dispatcher(DrainOrder::OldestFirst);
    let mut now = Duration::ZERO;
    let mut batch = fetch_and_send(&mut dispatcher, vec![item("a", 1)]);
    let mut before = "";
    for (class, code, said) in [
        (ErrorClass::Transient, "Timeout", true),
        (ErrorClass::Transient, "NameUnanswered", false),
        (ErrorClass::Blocked, "UntrustedCertificate", true),
        (ErrorClass::Blocked, "UntrustedCertificate", false),
        (ErrorClass::Blocked, "AccessDeniedException", true),
        (ErrorClass::Transient, "Timeout", false),
        (ErrorClass::Blocked, "UntrustedCertificate", false),
    ] {
        let transition = dispatcher.handle_answer(batch, Err(failure(class, code)), now).transition;
        assert_eq!(matches!(transition, Some(Transition::Failing(_))), said, "{code}");
        let shown = matches!(transition, Some(Transition::FailingAgain(_)));
        assert_eq!(shown, !said && before != code, "{code}: the status line goes with it");
        before = code;
        now += Duration::from_secs(120);
        assert!(matches!(dispatcher.poll(now), Step::Fetch(_)));
        dispatcher.handle_fetched(packed(vec![item("a", 1)], 500), true, now);
        let Step::Send(next) = dispatcher.poll(now) else { panic!("it tries again") };
        batch = next;
    }
}

#[test]
fn an_answer_with_too_few_verdicts_accepts_only_what_it_names() {
    let mut dispatcher = dispatcher(DrainOrder::OldestFirst);
    let batch = fetch_and_send(&mut dispatcher, vec![item("a", 1), item("b", 2)]);
    let settlement =
        dispatcher.handle_answer(batch, Ok(vec![EntryVerdict::Accepted { shard: None }]), Duration::ZERO);
    assert_eq!(settlement.accepted.ranges().collect::<Vec<_>>(), [1..=1]);
    assert_eq!(dispatcher.claimed().count(), 2, "claimed until the queue has let go of it");
    dispatcher.forget(&settlement.accepted);
    assert_eq!(dispatcher.claimed().ranges().collect::<Vec<_>>(), [2..=2]);
}

/// A queue of 40 whose first `refused` the sink refuses for good, until it is empty or an hour is over.
/// Returns how many were accepted, and set aside.
fn drain_refusing_the_first(refused: u64) -> (u64, u64) {
    let mut dispatcher = dispatcher(DrainOrder::OldestFirst);
    let mut queued: Vec<u64> = (1..=40).collect();
    let (mut accepted, mut aside) = (0, 0);
    let mut now = Duration::ZERO;
    while now < Duration::from_secs(3_600) && !queued.is_empty() {
        match dispatcher.poll(now) {
            Step::Fetch(_) => {
                let free = queued.iter().filter(|n| !dispatcher.claimed().contains(**n));
                let items = free.map(|n| item("a", *n)).collect();
                dispatcher.handle_fetched(packed(items, 500), true, now);
            }
            Step::Send(batch) => {
                let poison = batch.records.iter().flat_map(|record| &record.sequences).any(|n| *n <= refused);
                let code = "ValidationException".to_owned();
                let answer = match poison {
                    true => Err(CallError { class: ErrorClass::Poison, code, message: String::new() }),
                    false => Ok(vec![EntryVerdict::Accepted { shard: None }; batch.records.len()]),
                };
                let settlement = dispatcher.handle_answer(batch, answer, now);
                let set_aside = settlement.refused.map(|(sequences, _)| sequences).unwrap_or_default();
                accepted += settlement.accepted.count();
                aside += set_aside.count();
                queued.retain(|n| !settlement.accepted.contains(*n) && !set_aside.contains(*n));
                dispatcher.forget(&settlement.accepted);
                dispatcher.forget(&set_aside);
                now += Duration::from_millis(20);
            }
            Step::Wait(until) => now = until.unwrap_or(now + Duration::from_secs(1)),
        }
    }
    (accepted, aside)
}

#[test]
fn a_row_of_refused_readings_does_not_hold_up_those_behind_it() {
    for refused in [1, 7, 8, 20, 39] {
        assert_eq!(drain_refusing_the_first(refused), (40 - refused, refused), "of {refused} refused");
    }
    assert_eq!(drain_refusing_the_first(40), (0, 0), "a sink that refuses everything costs nothing");
}

#[test]
fn a_shard_at_its_limit_is_fed_at_its_limit() {
    // A shard of 1 MB/s with a bucket of one second, against the pacer, in virtual time.
    let record =
        Record { sensor: sensor("a"), data: vec![b'x'; 100_000], sequences: vec![1], clock_offset_ms: 0 };
    let mut pacer = Pacer::default();
    let (mut tokens, mut accepted, mut rejected) = (1_000_000.0, 0u32, 0u32);
    const SECONDS: u64 = 120;
    for ms in 0..SECONDS * 1000 {
        let now = Duration::from_millis(ms);
        tokens = f64::min(tokens + 1_000.0, 1_000_000.0);
        while pacer.admit(&record, now).is_ok() {
            if tokens >= record.bytes() as f64 {
                tokens -= record.bytes() as f64;
                accepted += 1;
                pacer.accepted(&record.sensor, Some("shard-1"));
            } else {
                rejected += 1;
                pacer.throttled(&record.sensor, now);
            }
        }
    }
    let used = f64::from(accepted) * record.bytes() as f64 / (SECONDS as f64 * 1_000_000.0);
    let share_rejected = f64::from(rejected) / f64::from(accepted + rejected);
    assert!(used > 0.97, "{used} of the shard used");
    assert!(share_rejected < 0.03, "{share_rejected} rejected");
}

#[test]
fn many_sensors_of_a_gateway_keep_up_on_a_crowded_shard() {
    // Twenty sensors with a reading a second each, on a shard that rejects a fifth of all records.
    let mut random = fastrand::Rng::with_seed(1);
    let mut pacer = Pacer::default();
    let record = |n: usize| {
        let (sensor, data) = (sensor(&format!("s{n}")), vec![b'x'; 313]);
        Record { sensor, data, sequences: vec![1], clock_offset_ms: 0 }
    };
    let records: Vec<Record> = (0..20).map(record).collect();
    let (mut waiting, mut most) = (0usize, 0);
    for ms in 0..3_600_000 {
        let now = Duration::from_millis(ms);
        waiting += 20 * usize::from(ms % 1000 == 0);
        while waiting > 0 && pacer.admit(&records[waiting % 20], now).is_ok() {
            if random.f64() < 0.2 {
                pacer.throttled(&records[waiting % 20].sensor, now);
            } else {
                pacer.accepted(&records[waiting % 20].sensor, Some("shard-1"));
                waiting -= 1;
            }
        }
        most = most.max(waiting);
    }
    assert!(most < 500, "{most} readings wait");
}

#[test]
fn a_sink_without_limits_is_not_held_back_for_long() {
    let record =
        Record { sensor: sensor("a"), data: vec![b'x'; 100_000], sequences: vec![1], clock_offset_ms: 0 };
    let mut pacer = Pacer::default();
    let mut sent = 0u64;
    for ms in 0..2_000 {
        while sent < 100_000_000 && pacer.admit(&record, Duration::from_millis(ms)).is_ok() {
            sent += record.bytes() as u64;
            pacer.accepted(&record.sensor, None);
        }
    }
    assert_eq!(sent / 100_000_000, 1, "{sent} bytes in 2 s");
}
