//! How many calls are made, in virtual time, towards sinks that take little or nothing.

use std::collections::HashMap;
use std::time::Duration;

use hr_gateway::config::{DrainConfig, DrainOrder};
use hr_gateway::drainer::batch::{Limits, Record};
use hr_gateway::drainer::dispatch::{Batch, Dispatcher, Step};
use hr_gateway::drainer::settle::{
    CallError, EntryVerdict, ErrorClass, HELPER_FAILED, Transition, failing_helper,
};

use crate::support::sensor;

/// A dispatcher and its sink: every call is answered after [`Line::ANSWER_MS`].
struct Line {
    dispatcher: Dispatcher,
    under_way: Vec<(u64, Batch)>,
    /// What the queue holds beyond what is claimed.
    queued: Vec<Record>,
    calls: u64,
    /// When each sequence was accepted.
    accepted_ms: HashMap<u64, u64>,
    /// Failures told, by class.
    told: Vec<ErrorClass>,
}

type Verdicts<'a> = &'a mut dyn FnMut(u64, &[Record]) -> Result<Vec<EntryVerdict>, CallError>;

impl Line {
    const ANSWER_MS: u64 = 5;

    fn new() -> Self {
        Self::of(DrainOrder::OldestFirst, 7)
    }

    fn of(order: DrainOrder, seed: u64) -> Self {
        let limits = Limits::from_config(&DrainConfig::default());
        Self {
            dispatcher: Dispatcher::new(limits, order, fastrand::Rng::with_seed(seed)),
            under_way: Vec::new(),
            queued: Vec::new(),
            calls: 0,
            accepted_ms: HashMap::new(),
            told: Vec::new(),
        }
    }

    /// One reading of `name`, put into the queue.
    fn append(&mut self, name: &str, sequence: u64) {
        let data = format!("{:0>199}\n", sequence).into_bytes();
        let record = Record { sensor: sensor(name), data, sequences: vec![sequence], clock_offset_ms: 0 };
        self.queued.push(record);
        self.dispatcher.handle_appended();
    }

    fn step(&mut self, ms: u64, verdicts: Verdicts<'_>) {
        let now = Duration::from_millis(ms);
        let (due, later) = std::mem::take(&mut self.under_way).into_iter().partition(|(at, _)| *at <= ms);
        self.under_way = later;
        for (_, batch) in Vec::from_iter(due) {
            self.answer(batch, ms, &mut *verdicts);
        }
        loop {
            match self.dispatcher.poll(now) {
                Step::Fetch(_) => {
                    let claimed = self.dispatcher.claimed().clone();
                    let unclaimed = |record: &&Record| !claimed.contains(record.sequences[0]);
                    let found = self.queued.iter().filter(unclaimed).cloned().collect();
                    self.dispatcher.handle_fetched(found, true, now);
                }
                Step::Send(batch) => {
                    self.calls += 1;
                    self.under_way.push((ms + Self::ANSWER_MS, batch));
                }
                Step::Wait(_) => return,
            }
        }
    }

    fn answer(&mut self, batch: Batch, ms: u64, verdicts: Verdicts<'_>) {
        let answer = verdicts(ms, &batch.records);
        let settlement = self.dispatcher.handle_answer(batch, answer, Duration::from_millis(ms));
        assert!(settlement.refused.is_none(), "nothing here is refused for good");
        if let Some(Transition::Failing(failure)) = settlement.transition {
            self.told.push(failure.class);
        }
        let accepted = &settlement.accepted;
        self.queued.retain(|record| !accepted.contains(record.sequences[0]));
        for range in accepted.ranges() {
            range.for_each(|sequence| _ = self.accepted_ms.insert(sequence, ms));
        }
        self.dispatcher.forget(accepted);
    }
}

fn accepted() -> EntryVerdict {
    EntryVerdict::Accepted { shard: Some("shard-1".into()) }
}

#[test]
fn a_sink_that_accepts_nothing_is_asked_a_few_times_a_second_and_recovers_at_once() {
    for verdict in [EntryVerdict::Throttled, EntryVerdict::Failed] {
        let mut line = Line::new();
        let mut refuse = |_: u64, records: &[Record]| Ok(vec![verdict.clone(); records.len()]);
        let mut sequence = 0;
        for ms in 0..60_000 {
            // 240 wait, and four sensors go on measuring.
            let new = if ms == 0 { 240 } else { 4 * u64::from(ms % 1000 == 0) };
            for _ in 0..new {
                sequence += 1;
                line.append(&format!("s{}", sequence % 4), sequence);
            }
            line.step(ms, &mut refuse);
            if ms == 10_000 {
                line.calls = 0;
            }
        }
        assert!(line.calls <= 50 * 3, "{} calls in 50 s", line.calls);
        assert!(line.calls >= 50 / 3, "{} calls in 50 s: it would not notice the end", line.calls);
        assert_eq!(line.told, [ErrorClass::Throttled], "said, and once");
        let mut take = |_: u64, records: &[Record]| Ok(vec![accepted(); records.len()]);
        (60_000..65_000).for_each(|ms| line.step(ms, &mut take));
        assert_eq!(line.accepted_ms.len() as u64, sequence, "all of it within 5 s");
    }
}

/// Calls in flight at most while `line` drains from `from_ms` on for two seconds.
fn most_in_flight(line: &mut Line, from_ms: u64, verdicts: Verdicts<'_>) -> usize {
    let in_flight = (from_ms..from_ms + 2_000).map(|ms| {
        line.step(ms, &mut *verdicts);
        line.under_way.len()
    });
    in_flight.max().unwrap_or_default()
}

fn take(_: u64, records: &[Record]) -> Result<Vec<EntryVerdict>, CallError> {
    Ok(vec![accepted(); records.len()])
}

fn time_out(_: u64, _: &[Record]) -> Result<Vec<EntryVerdict>, CallError> {
    Err(CallError { class: ErrorClass::Transient, code: "Timeout".into(), message: String::new() })
}

#[test]
fn one_call_probes_a_sink_that_fails_and_as_many_as_before_drain_it_afterwards() {
    let mut line = Line::new();
    (1..=3_000).for_each(|sequence| line.append("a", sequence));
    let before = most_in_flight(&mut line, 0, &mut take);
    assert_eq!(before, DrainConfig::default().calls_in_flight_max);
    (3_001..=6_000).for_each(|sequence| line.append("a", sequence));
    (2_000..2_010).for_each(|ms| line.step(ms, &mut time_out));
    assert_eq!(most_in_flight(&mut line, 2_010, &mut time_out), 1);
    assert_eq!(most_in_flight(&mut line, 4_010, &mut take), before);
    assert_eq!(line.accepted_ms.len(), 6_000);
}

#[test]
fn calls_that_fail_together_are_one_try() {
    for seed in 0..50 {
        let mut line = Line::of(DrainOrder::OldestFirst, seed);
        (1..=3_000).for_each(|sequence| line.append("a", sequence));
        let full = (0..2_000).find(|ms| {
            line.step(*ms, &mut take);
            line.under_way.len() == DrainConfig::default().calls_in_flight_max
        });
        let now = full.expect("calls are in flight") + Line::ANSWER_MS;
        for (_, batch) in std::mem::take(&mut line.under_way) {
            line.answer(batch, now, &mut time_out);
        }
        match line.dispatcher.poll(Duration::from_millis(now)) {
            Step::Wait(Some(at)) => {
                let wait = at - Duration::from_millis(now);
                assert!(wait <= Duration::from_millis(100), "seed {seed}: {wait:?}, as after several tries");
            }
            step => panic!("seed {seed}: {step:?}"),
        }
    }
}

#[test]
fn newest_first_sends_what_is_measured_now_past_a_backlog() {
    let mut line = Line::of(DrainOrder::NewestFirst, 7);
    (1..=5_000).for_each(|sequence| line.append("a", sequence));
    (0..100).for_each(|ms| line.step(ms, &mut take));
    line.append("a", 5_001);
    (100..10_000).for_each(|ms| line.step(ms, &mut take));
    let live_ms = line.accepted_ms[&5_001];
    assert!(live_ms <= 100 + 4 * Line::ANSWER_MS, "{live_ms} ms");
    assert_eq!(line.accepted_ms.len(), 5_001);
    assert!(line.accepted_ms.values().any(|ms| *ms > live_ms + 100), "the backlog was not drained yet");
}

#[test]
fn what_failed_alone_goes_again_before_what_came_after_it() {
    let mut line = Line::new();
    (1..=6_000).for_each(|sequence| line.append("a", sequence));
    let mut failed = Vec::new();
    let mut fail_the_first = |_: u64, records: &[Record]| match failed.is_empty() {
        true => {
            failed.extend(records.iter().map(|record| record.sequences[0]));
            Ok(vec![EntryVerdict::Failed; records.len()])
        }
        false => Ok(vec![accepted(); records.len()]),
    };
    (0..10_000).for_each(|ms| line.step(ms, &mut fail_the_first));
    let again_ms = failed.iter().map(|sequence| line.accepted_ms[sequence]).max().unwrap();
    assert!(again_ms <= 100 + 10 * Line::ANSWER_MS, "{again_ms} ms");
    assert!(line.accepted_ms[&6_000] > again_ms + 100, "the backlog was not drained yet");
}

#[test]
fn a_shard_that_accepts_nothing_does_not_slow_the_others() {
    let mut line = Line::new();
    let mut by_shard = |ms: u64, records: &[Record]| {
        let verdict = |record: &Record| match record.sensor.as_str() {
            // It was taken once, so that its shard is known.
            "stuck" if ms > 3_000 => EntryVerdict::Throttled,
            name => EntryVerdict::Accepted { shard: Some(format!("shard-of-{name}")) },
        };
        Ok(records.iter().map(verdict).collect())
    };
    let mut appended_ms = HashMap::new();
    let mut sequence = 0;
    for ms in 0..60_000 {
        for (name, at) in [("stuck", 0), ("well", 300), ("better", 600)] {
            if ms % 1000 == at {
                sequence += 1;
                line.append(name, sequence);
                if name != "stuck" {
                    appended_ms.insert(sequence, ms);
                }
            }
        }
        line.step(ms, &mut by_shard);
    }
    for (sequence, at) in appended_ms {
        let took = line.accepted_ms[&sequence] - at;
        assert!(took <= 4 * Line::ANSWER_MS, "reading {sequence} of a healthy shard took {took} ms");
    }
}

#[test]
fn a_fifth_of_all_entries_failing_slows_nothing_down() {
    let mut line = Line::new();
    let mut random = fastrand::Rng::with_seed(3);
    let mut some = |_: u64, records: &[Record]| {
        let verdict = |_: &Record| if random.f64() < 0.2 { EntryVerdict::Failed } else { accepted() };
        Ok(records.iter().map(verdict).collect())
    };
    for sequence in 1..=2_000 {
        line.append("a", sequence);
    }
    (0..3_000).for_each(|ms| line.step(ms, &mut some));
    assert_eq!(line.accepted_ms.len(), 2_000, "in 3 s");
}

#[test]
fn a_proxy_with_a_size_limit_gets_calls_that_fit_and_one_that_takes_none_costs_no_reading() {
    let too_large = || {
        let (code, message) = ("RequestTooLarge".into(), "status 413".into());
        Err(CallError { class: ErrorClass::TooLarge, code, message })
    };
    let bytes = |records: &[Record]| records.iter().map(Record::bytes).sum::<usize>();
    let mut line = Line::new();
    (1..=2_000).for_each(|sequence| line.append("a", sequence));
    let mut small_only = |_: u64, records: &[Record]| match bytes(records) > 30_000 {
        true => too_large(),
        false => Ok(vec![accepted(); records.len()]),
    };
    (0..5_000).for_each(|ms| line.step(ms, &mut small_only));
    assert_eq!(line.accepted_ms.len(), 2_000, "in 5 s");

    (2_001..=2_100).for_each(|sequence| line.append("a", sequence));
    (5_000..65_000).for_each(|ms| line.step(ms, &mut |_, _| too_large()));
    assert_eq!(line.accepted_ms.len(), 2_000, "the rest is kept");
    assert_eq!(line.told, [ErrorClass::Blocked], "said once");
    line.calls = 0;
    (65_000..185_000).for_each(|ms| line.step(ms, &mut |_, _| too_large()));
    assert!(line.calls < 120, "{} calls in 2 min", line.calls);
    let mut take = |_: u64, records: &[Record]| Ok(vec![accepted(); records.len()]);
    (185_000..250_000).for_each(|ms| line.step(ms, &mut take));
    assert_eq!(line.accepted_ms.len(), 2_100, "once the limit is gone");
}

#[test]
fn failures_in_turn_make_calls_rarer_as_one_does_and_each_is_told_once_until_it_is_over() {
    let failures = [
        (ErrorClass::Transient, "Unavailable"),
        (ErrorClass::Throttled, "TooManyRequests"),
        (ErrorClass::Transient, "Timeout"),
        (ErrorClass::Throttled, "TooManyRequests"),
        (ErrorClass::Blocked, "NotKinesis"),
    ];
    let mut line = Line::new();
    let mut drain = |kinds: usize, ms: std::ops::Range<u64>| {
        (line.calls, line.told) = (0, Vec::new());
        let mut turn = 0;
        let mut in_turn = |_: u64, _: &[Record]| {
            turn += 1;
            let (class, code) = failures[turn % kinds];
            Err(CallError { class, code: code.into(), message: String::new() })
        };
        line.append("a", ms.start + 1);
        ms.clone().for_each(|ms| line.step(ms, &mut in_turn));
        let seen = (line.calls, std::mem::take(&mut line.told));
        let mut take = |_: u64, records: &[Record]| Ok(vec![accepted(); records.len()]);
        (ms.end..ms.end + 100_000).for_each(|ms| line.step(ms, &mut take));
        seen
    };
    let (calls, mut told) = drain(4, 0..60_000);
    assert!((30..100).contains(&calls), "{calls} calls in a minute");
    told.sort_by_key(|class| class.as_str());
    assert_eq!(told, [ErrorClass::Throttled, ErrorClass::Transient], "once each");
    let (calls, told) = drain(5, 200_000..500_000);
    assert!((10..100).contains(&calls), "{calls} calls in five minutes");
    assert_eq!(told.len(), 3, "anew after it was over: {told:?}");
}

#[test]
fn a_failing_helper_is_started_ever_more_rarely_and_needs_a_person_after_some_minutes() {
    let mut line = Line::new();
    line.append("a", 1);
    let mut fail = |ms: u64, _: &[Record]| {
        let class = failing_helper(Duration::from_millis(ms));
        Err(CallError { class, code: HELPER_FAILED.into(), message: String::new() })
    };
    (0..250_000).for_each(|ms| line.step(ms, &mut fail));
    assert_eq!(line.told, [ErrorClass::Transient]);
    assert!((5..25).contains(&line.calls), "{} helpers in four minutes", line.calls);
    (250_000..600_000).for_each(|ms| line.step(ms, &mut fail));
    assert_eq!(line.told, [ErrorClass::Transient, ErrorClass::Blocked]);
}
