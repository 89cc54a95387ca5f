//! The drainer and the real SDK against a Kinesis that fails in every way it can.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use hr_gateway::config::{DrainConfig, DrainOrder};
use hr_gateway::drainer::RecordSink;
use hr_gateway::drainer::batch::{Limits, Record};
use hr_gateway::drainer::directory::DirectorySink;
use hr_gateway::drainer::settle::{CallError, EntryVerdict, ErrorClass};
use hr_gateway::queue::ReadingQueue;
use hr_gateway::queue::capacity::Capacity;
use hr_gateway::queue::durable::DurableQueue;
use hr_gateway::queue::segment::SegmentCodec;
use hr_gateway::queue::sequence_set::SequenceSet;

use crate::support::draining::{Draining, UNBOUNDED, gateway, kinesis, on_thread, open};
use crate::support::fake_kinesis::{FakeKinesis, Fault, Options};
use crate::support::reading;

const PATIENCE: Duration = Duration::from_secs(60);
const READINGS: u64 = 6_000;

/// Drains `READINGS` of three sensors through `faults`; returns how often each sequence arrived.
async fn drain_through(faults: Vec<Fault>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let names = ["a", "b", "c"];
    let observations: Vec<_> = (0..READINGS).map(|n| reading(names[n as usize % 3], n)).collect();
    observations.chunks(100).for_each(|chunk| _ = queue.append(chunk).unwrap());
    let fake = FakeKinesis::start(Options::default());
    fake.script(faults);
    let queue = on_thread(queue);
    let draining = Draining::start(&queue, kinesis(fake.endpoint()).await, DrainOrder::OldestFirst, 1);
    draining.emptied(PATIENCE).await;
    draining.stop().await;
    assert_eq!(fake.script_left(), 0, "every fault happened");
    let totals = queue.ledger().await.totals();
    assert!(queue.ledger().await.balances());
    assert_eq!(totals.readings.delivered, READINGS);
    fake.seen(|seen| seen.counts[1..].to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_that_accept_nothing_lose_nothing_and_double_nothing() {
    let faults = vec![
        Fault::Error(500, "InternalFailure"),
        Fault::Error(503, "ServiceUnavailable"),
        Fault::Reset,
        Fault::HalfFail("InternalFailure"),
        Fault::HalfFail("ProvisionedThroughputExceededException"),
        Fault::Delay(Duration::from_millis(300)),
        Fault::Error(400, "ProvisionedThroughputExceededException"),
        Fault::Error(400, "ExpiredTokenException"),
        Fault::Error(400, "ResourceNotFoundException"),
        Fault::Error(400, "AccessDeniedException"),
        Fault::Error(400, "KMSDisabledException"),
        Fault::Error(400, "InvalidSignatureException"),
        Fault::Error(400, "AnErrorOfNextYear"),
    ];
    let counts = drain_through(faults).await;
    assert_eq!(counts.len() as u64, READINGS);
    assert!(counts.iter().all(|count| *count == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_doubles_what_it_answered_and_loses_nothing() {
    let counts = drain_through(vec![Fault::AcceptThenReset, Fault::Delay(Duration::from_millis(300))]).await;
    assert_eq!(counts.len() as u64, READINGS);
    assert!(counts.iter().all(|count| (1..=3).contains(count)));
    assert!(counts.iter().any(|count| *count > 1), "the fault was real");
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_that_linger_share_a_record_and_a_backlog_waits_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    (0..2_000).for_each(|second| _ = queue.append(&[reading("a", second)]).unwrap());
    let fake = FakeKinesis::start(Options::default());
    let queue = on_thread(queue);
    let limits = Limits { linger: Duration::from_secs(2), ..Limits::from_config(&DrainConfig::default()) };
    let sink = kinesis(fake.endpoint()).await;
    let draining = Draining::within(&queue, sink, DrainOrder::OldestFirst, 1, limits);
    draining.emptied(PATIENCE).await;
    let backlog = fake.seen(|seen| seen.accepted_entries);
    assert!(backlog < 20, "{backlog} records of 2,000 readings");
    for second in 2_000..2_020 {
        queue.append(vec![reading("a", second)]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    draining.emptied(PATIENCE).await;
    draining.stop().await;
    let live = fake.seen(|seen| seen.accepted_entries) - backlog;
    assert!((1..=2).contains(&live), "{live} records of 20 readings");
    assert!(fake.seen(|seen| seen.counts[1..].iter().all(|count| *count == 1) && seen.counts.len() == 2021));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_of_all_entries_failing_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    for second in 0..500 {
        queue.append(&[reading("a", second), reading("b", second)]).unwrap();
    }
    let fake = FakeKinesis::start(Options::default());
    fake.fail_entries(0.2, 7);
    let queue = on_thread(queue);
    let draining = Draining::start(&queue, kinesis(fake.endpoint()).await, DrainOrder::OldestFirst, 1);
    for second in 500..700 {
        queue.append(vec![reading("a", second)]).await.unwrap();
    }
    draining.emptied(PATIENCE).await;
    draining.stop().await;
    assert!(fake.seen(|seen| seen.counts[1..].iter().all(|count| *count == 1) && seen.counts.len() == 1201));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kinesis_refuses_alone_is_dead_lettered_and_can_be_requeued() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let observations: Vec<_> = (0..1_000).map(|second| reading("a", second)).collect();
    queue.append(&observations).unwrap();
    let fake = FakeKinesis::start(Options::default());
    fake.refuse_lines_with("\"sequence\":777,");
    let queue = on_thread(queue);
    let draining = Draining::start(&queue, kinesis(fake.endpoint()).await, DrainOrder::OldestFirst, 1);
    draining.emptied(PATIENCE).await;
    let readings = queue.ledger().await.totals().readings;
    assert_eq!((readings.delivered, readings.dead_lettered), (999, 1));
    let letters = queue.dead_letters(0, 10).await.unwrap();
    assert_eq!(letters[0].item.sequence, 777);
    assert!(letters[0].reason.contains("ValidationException"), "{}", letters[0].reason);
    fake.refuse_lines_with("nothing contains this");
    assert_eq!(queue.requeue(SequenceSet::from_iter([777])).await.unwrap(), 1);
    draining.emptied(PATIENCE).await;
    draining.stop().await;
    assert_eq!(queue.ledger().await.totals().readings.delivered, 1_000);
    assert!(fake.seen(|seen| seen.counts[1..].iter().all(|count| *count == 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kinesis_that_refuses_everything_dead_letters_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    (0..10).for_each(|second| _ = queue.append(&[reading("a", second)]).unwrap());
    let fake = FakeKinesis::start(Options::default());
    fake.refuse_lines_with("timestamp");
    let queue = on_thread(queue);
    let mut draining = Draining::start(&queue, kinesis(fake.endpoint()).await, DrainOrder::OldestFirst, 1);
    draining.failing.wait_for(|failure| failure.is_some()).await.unwrap();
    // By then every reading has been tried alone, more than once.
    let deadline = Instant::now() + PATIENCE;
    while fake.seen(|seen| seen.calls) < 60 {
        assert!(Instant::now() < deadline, "{} calls", fake.seen(|seen| seen.calls));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(queue.ledger().await.totals().readings.queued, 10);
    fake.refuse_lines_with("nothing contains this");
    draining.emptied(PATIENCE).await;
    draining.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_is_said_and_unsaid_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    queue.append(&[reading("a", 0)]).unwrap();
    let fake = FakeKinesis::start(Options::default());
    fake.always(Some(Fault::Error(400, "ResourceNotFoundException")));
    let queue = on_thread(queue);
    let mut draining = Draining::start(&queue, kinesis(fake.endpoint()).await, DrainOrder::OldestFirst, 1);
    let failure = draining.failing.wait_for(|failure| failure.is_some()).await.unwrap().clone().unwrap();
    assert_eq!(failure.class, ErrorClass::Blocked);
    fake.always(None);
    draining.emptied(PATIENCE).await;
    draining.failing.wait_for(Option::is_none).await.unwrap();
    draining.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gap_records_of_a_queue_that_was_full_follow_by_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let capacity = Capacity { items_max: 640, ..UNBOUNDED };
    let opened = DurableQueue::open(folder.path(), capacity, SegmentCodec::default(), &gateway()).unwrap();
    let queue = opened.queue;
    (0..1_000).for_each(|second| _ = queue.append(&[reading("a", second)]).unwrap());
    let fake = FakeKinesis::start(Options::default());
    let queue = on_thread(queue);
    let draining = Draining::start(&queue, kinesis(fake.endpoint()).await, DrainOrder::OldestFirst, 1);
    draining.emptied(PATIENCE).await;
    draining.stop().await;
    let totals = queue.ledger().await.totals();
    assert_eq!(totals.other_records.delivered, 1);
    let lost = totals.readings.evicted;
    let told = "\"gap_reason\":\"evicted\"";
    fake.seen(|seen| {
        let gap = seen.lines.iter().find(|line| line.contains(told)).unwrap();
        assert!(gap.contains(&format!("\"gap_readings_lost\":{lost},")), "{gap}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_first_sends_the_latest_before_the_backlog_and_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let observations: Vec<_> = (0..30_000).map(|second| reading("a", second)).collect();
    observations.chunks(500).for_each(|chunk| _ = queue.append(chunk).unwrap());
    let fake = FakeKinesis::start(Options::default());
    let queue = on_thread(queue);
    let draining = Draining::start(&queue, kinesis(fake.endpoint()).await, DrainOrder::NewestFirst, 1);
    draining.emptied(PATIENCE).await;
    draining.stop().await;
    fake.seen(|seen| {
        assert!(seen.lines[0].contains("\"sequence\":29501,"), "{}", seen.lines[0]);
        assert!(seen.counts[1..].iter().all(|count| *count == 1) && seen.counts.len() == 30_001);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_shard_is_used_and_not_hammered() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let observations: Vec<_> = (0..15_000).map(|second| reading("a", second)).collect();
    observations.chunks(500).for_each(|chunk| _ = queue.append(chunk).unwrap());
    let fake = FakeKinesis::start(Options { limited: true, ..Options::default() });
    let queue = on_thread(queue);
    let draining = Draining::start(&queue, kinesis(fake.endpoint()).await, DrainOrder::OldestFirst, 1);
    draining.emptied(PATIENCE).await;
    draining.stop().await;
    fake.seen(|seen| {
        assert!(seen.counts[1..].iter().all(|count| *count == 1), "nothing twice");
        let rejected = seen.rejected_entries as f64 / (seen.rejected_entries + seen.accepted_entries) as f64;
        assert!(rejected < 0.3, "{} of {} entries rejected", seen.rejected_entries, seen.accepted_entries);
    });
}

/// Accepts all, slowly, and counts how many calls it has at once.
struct Counting {
    allowed: usize,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl RecordSink for Counting {
    fn put<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Result<Vec<EntryVerdict>, CallError>> {
        Box::pin(async move {
            self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.now.fetch_sub(1, Ordering::SeqCst);
            Ok(vec![EntryVerdict::Accepted { shard: None }; records.len()])
        })
    }

    fn identity_ends_at_s(&self) -> Option<i64> {
        None
    }

    fn kind(&self) -> &'static str {
        "counting"
    }

    fn calls_in_flight_max(&self) -> usize {
        self.allowed
    }
}

#[tokio::test]
async fn a_sink_has_no_more_calls_at_once_than_it_takes_and_a_directory_takes_one() {
    let most = async |allowed| {
        let folder = tempfile::tempdir().unwrap();
        let queue = open(folder.path());
        let readings: Vec<_> = (0..20_000).map(|second| reading("a", second)).collect();
        queue.append(&readings).unwrap();
        let queue = on_thread(queue);
        let sink = Arc::new(Counting { allowed, now: AtomicUsize::new(0), most: AtomicUsize::new(0) });
        let draining = Draining::start(&queue, sink.clone(), DrainOrder::OldestFirst, 1);
        draining.emptied(Duration::from_secs(30)).await;
        draining.stop().await;
        sink.most.load(Ordering::SeqCst)
    };
    assert_eq!(most(1).await, 1);
    assert_eq!(most(usize::MAX).await, 4, "as the configuration says");
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(DirectorySink::new(folder.path().to_owned(), 1 << 20).calls_in_flight_max(), 1);
}
