//! What every `ReadingQueue` promises, asked of both.

use hr_gateway::config::{DrainOrder, WhenFull};
use hr_gateway::queue::capacity::{Admission, Capacity, FLOWING_ITEMS};
use hr_gateway::queue::durable::DurableQueue;
use hr_gateway::queue::model::ModelQueue;
use hr_gateway::queue::segment::SegmentCodec;
use hr_gateway::queue::sequence_set::SequenceSet;
use hr_gateway::queue::{ReadingQueue, status};
use hr_gateway::reading::{Body, Content, Epoch, GapReason, Item, Observation};

use crate::support::draining::gateway;
use crate::support::{moment, reading, sensor};

const ROOMY: Capacity = Capacity { items_max: 1_000_000, disk_headroom: 0, when_full: WhenFull::DropOldest };
const SMALL: Capacity = Capacity { items_max: 640, ..ROOMY };

/// Runs `check` against the model, the store, and the encrypting store.
fn for_each(capacity: Capacity, check: impl Fn(&dyn ReadingQueue)) {
    let model = ModelQueue::new(capacity, gateway(), Epoch(1));
    model.set_free_bytes(1 << 40);
    check(&model);
    for codec in [SegmentCodec::default(), SegmentCodec::encrypted(&[3; 32])] {
        let folder = tempfile::tempdir().unwrap();
        check(&DurableQueue::open(folder.path(), capacity, codec, &gateway()).unwrap().queue);
    }
}

fn peek_all(queue: &dyn ReadingQueue) -> Vec<Item> {
    queue.peek(DrainOrder::OldestFirst, &SequenceSet::default(), usize::MAX).unwrap()
}

fn sequences(items: &[Item]) -> Vec<u64> {
    items.iter().map(|item| item.sequence).collect()
}

fn fill(queue: &dyn ReadingQueue, seconds: std::ops::Range<u64>) {
    seconds.for_each(|second| _ = queue.append(&[reading(["a", "b"][second as usize % 2], second)]).unwrap());
}

#[track_caller]
fn assert_sound(queue: &dyn ReadingQueue) {
    assert!(status(queue).unwrap().balances, "{:?}", queue.ledger());
}

#[test]
fn sequences_begin_at_one_and_have_no_holes_also_after_the_queue_was_empty() {
    for_each(ROOMY, |queue| {
        fill(queue, 0..10);
        assert_eq!(sequences(&peek_all(queue)), (1..=10).collect::<Vec<_>>());
        queue.remove(&SequenceSet::from_iter(1..=10)).unwrap();
        assert!(peek_all(queue).is_empty());
        fill(queue, 10..12);
        assert_eq!(sequences(&peek_all(queue)), [11, 12]);
        assert_sound(queue);
    });
}

#[test]
fn what_is_peeked_is_what_was_appended() {
    for_each(ROOMY, |queue| {
        let sent: Vec<Observation> = (0..1_700).map(|second| reading("a", second)).collect();
        sent.chunks(7).for_each(|chunk| _ = queue.append(chunk).unwrap());
        let items = peek_all(queue);
        assert_eq!(items.len(), sent.len());
        for (item, sent) in items.iter().zip(&sent) {
            assert_eq!(Content::Body(item.body.clone()), sent.content);
            assert_eq!((&item.sensor, item.taken, item.session), (&sent.sensor, sent.taken, 1));
        }
    });
}

#[test]
fn peek_passes_over_claims_in_both_orders_and_takes_nothing_out() {
    for_each(ROOMY, |queue| {
        fill(queue, 0..1_300);
        let mut claimed = SequenceSet::from_iter(1..=100);
        claimed.insert_range(400..=900);
        claimed.insert(1_300);
        let oldest = queue.peek(DrainOrder::OldestFirst, &claimed, 350).unwrap();
        assert_eq!(sequences(&oldest), (101..400).chain(901..952).collect::<Vec<_>>());
        let newest = queue.peek(DrainOrder::NewestFirst, &claimed, 450).unwrap();
        assert_eq!(sequences(&newest), (901..1_300).rev().chain((349..400).rev()).collect::<Vec<_>>());
        assert_eq!(peek_all(queue).len(), 1_300);
    });
}

#[test]
fn what_stands_beyond_a_wide_hole_is_found_in_both_orders_and_within_a_segment() {
    for_each(ROOMY, |queue| {
        fill(queue, 0..5_000);
        queue.remove(&SequenceSet::from_iter(151..=4_990)).unwrap();
        let left: Vec<u64> = (1..=150).chain(4_991..=5_000).collect();
        assert_eq!(sequences(&peek_all(queue)), left);
        let newest = queue.peek(DrainOrder::NewestFirst, &SequenceSet::default(), 20).unwrap();
        assert_eq!(sequences(&newest), left.iter().rev().take(20).copied().collect::<Vec<_>>());
        // Also from the middle of what is left, where no segment begins.
        let claimed = SequenceSet::from_iter((1..=143).chain(4_991..=4_994));
        assert_eq!(
            sequences(&queue.peek(DrainOrder::OldestFirst, &claimed, 9).unwrap()),
            [144, 145, 146, 147, 148, 149, 150, 4_995, 4_996]
        );
        queue.remove(&SequenceSet::from_iter(1..=5_000)).unwrap();
        assert!(peek_all(queue).is_empty());
        assert_sound(queue);
    });
}

#[test]
fn removal_counts_what_was_there_and_only_once() {
    for_each(ROOMY, |queue| {
        fill(queue, 0..1_200);
        let every_third: SequenceSet = (1..=1_200).filter(|n| n % 3 == 0).collect();
        queue.remove(&every_third).unwrap();
        queue.remove(&every_third).unwrap();
        queue.remove(&SequenceSet::from_iter([5_000])).unwrap();
        assert_eq!(queue.ledger().totals().readings.delivered, 400);
        assert_eq!(sequences(&peek_all(queue)), (1..=1_200).filter(|n| n % 3 != 0).collect::<Vec<_>>());
        fill(queue, 1_200..1_900);
        queue.remove(&SequenceSet::from_iter(1..=1_900)).unwrap();
        assert!(peek_all(queue).is_empty());
        assert_sound(queue);
    });
}

#[test]
fn the_oldest_give_way_and_one_gap_record_tells_of_all_of_them() {
    for_each(SMALL, |queue| {
        fill(queue, 0..1_000);
        let items = peek_all(queue);
        assert!(items.len() <= 640 && items.len() > 600, "{}", items.len());
        assert_eq!(items.last().unwrap().sequence, 1_000);
        let lost = 1_000 - items.len() as u64;
        assert_eq!(queue.ledger().totals().readings.evicted, lost);
        assert_sound(queue);
        let drained: SequenceSet = items[..300].iter().map(|item| item.sequence).collect();
        queue.remove(&drained).unwrap();
        let gaps: Vec<Item> =
            peek_all(queue).into_iter().filter(|item| matches!(item.body, Body::Gap(_))).collect();
        assert_eq!(gaps.len(), 2, "one for each sensor");
        let mut told = 0;
        for item in &gaps {
            let Body::Gap(gap) = &item.body else { unreachable!() };
            assert_eq!(gap.reason, GapReason::Evicted);
            assert!(gap.start.boottime_ms < item.taken.boottime_ms);
            told += gap.readings_lost;
        }
        assert_eq!(told, lost);
        assert_sound(queue);
    });
}

#[test]
fn the_newest_are_not_let_in_and_their_sequences_are_used_up() {
    for_each(Capacity { when_full: WhenFull::DropNewest, ..SMALL }, |queue| {
        fill(queue, 0..700);
        assert_eq!(sequences(&peek_all(queue)), (1..=640).collect::<Vec<_>>());
        assert_eq!(queue.ledger().totals().readings.evicted, 60);
        assert_sound(queue);
        queue.remove(&SequenceSet::from_iter(1..=640)).unwrap();
        let left = peek_all(queue);
        assert!(left.iter().all(|item| matches!(item.body, Body::Gap(_)) && item.sequence > 700));
        assert_sound(queue);
    });
}

#[test]
fn dead_letters_are_kept_aside_listed_requeued_in_place_and_dropped() {
    for_each(ROOMY, |queue| {
        fill(queue, 0..1_100);
        let refused = SequenceSet::from_iter([3, 250, 251, 777, 1_099]);
        queue.dead_letter(&refused, "ValidationException: no").unwrap();
        assert_eq!(queue.ledger().totals().readings.dead_lettered, 5);
        let letters = queue.dead_letters(4, 3).unwrap();
        assert_eq!(letters.iter().map(|letter| letter.item.sequence).collect::<Vec<_>>(), [250, 251, 777]);
        assert_eq!(letters[0].reason, "ValidationException: no");
        assert_eq!(queue.requeue(&SequenceSet::from_iter([250, 777, 9_999])).unwrap(), 2);
        assert_eq!(queue.requeue(&SequenceSet::from_iter([250])).unwrap(), 0, "only once");
        let there = sequences(&peek_all(queue));
        assert_eq!(there, (1..=1_100).filter(|n| ![3, 251, 1_099].contains(n)).collect::<Vec<_>>());
        assert_eq!(queue.drop_dead_letters(&refused).unwrap(), 3);
        let readings = queue.ledger().totals().readings;
        assert_eq!((readings.dead_lettered, readings.evicted, readings.queued), (0, 3, 1_097));
        assert_sound(queue);
        fill(queue, 1_100..1_700);
        // What was dropped by hand is told of, as what was evicted: one gap record more.
        queue.remove(&SequenceSet::from_iter(1..=1_701)).unwrap();
        assert!(peek_all(queue).is_empty());
        assert_eq!(queue.ledger().totals().other_records.delivered, 1);
        assert_sound(queue);
    });
}

#[test]
fn sessions_are_named_by_their_first_sequence_and_malformed_ones_only_counted() {
    for_each(ROOMY, |queue| {
        let mut second = reading("a", 1_000);
        second.starts_session = true;
        let malformed = Observation { content: Content::Malformed, ..reading("a", 2) };
        let appended = queue
            .append(&[reading("a", 0), reading("b", 1), malformed, second, reading("a", 1_001)])
            .unwrap();
        assert_eq!(appended.sessions_begun, [(sensor("a"), 1), (sensor("b"), 2), (sensor("a"), 3)]);
        let sessions: Vec<u64> = peek_all(queue).iter().map(|item| item.session).collect();
        assert_eq!(sessions, [1, 2, 3, 3]);
        let row = queue.ledger().rows[&sensor("a")].clone();
        assert_eq!((row.malformed, row.readings.received), (1, 3));
        assert_eq!(row.last.map(hr_gateway::reading::Moment::from), Some(moment(1_001)));
        assert_sound(queue);
    });
}

#[test]
fn a_disk_all_but_full_takes_nothing_and_the_ledger_still_says_what_was_lost() {
    for_each(Capacity { disk_headroom: 1 << 60, ..ROOMY }, |queue| {
        let malformed = Observation { content: Content::Malformed, ..reading("a", 2) };
        let appended = queue.append(&[reading("a", 0), malformed, reading("a", 1)]).unwrap();
        assert!(appended.is_full && appended.disk_low);
        assert_eq!((appended.queued, appended.evicted), (0, 2));
        let totals = queue.ledger().totals();
        assert_eq!((totals.readings.received, totals.readings.evicted, totals.malformed), (2, 2, 1));
        assert_sound(queue);
    });
}

#[test]
fn a_disk_below_its_headroom_still_lets_pass_what_flows() {
    let capacity = Capacity { disk_headroom: 1_000, ..ROOMY };
    let (low, enough) = (999, 1_000);
    assert_eq!(capacity.admit(0, FLOWING_ITEMS, low), Admission::Accept);
    assert_eq!(capacity.admit(3, 1, low), Admission::Accept, "nothing that is on its way is evicted");
    assert!(matches!(capacity.admit(FLOWING_ITEMS, 1, low), Admission::Evict(_)));
    assert!(matches!(capacity.admit(10_000, 1, low), Admission::Evict(_)), "a backlog does not grow");
    assert_eq!(capacity.admit(10_000, 1, enough), Admission::Accept);
    let small = Capacity { items_max: 100, ..capacity };
    assert!(matches!(small.admit(100, 1, low), Admission::Evict(_)), "the limit holds in any case");
}

#[test]
fn what_is_on_its_way_is_evicted_last() {
    for_each(SMALL, |queue| {
        fill(queue, 0..640);
        queue.protect(SequenceSet::from_iter(1..=100));
        fill(queue, 640..700);
        let there = sequences(&peek_all(queue));
        assert_eq!(there[..100], (1..=100).collect::<Vec<_>>());
        assert!(there[100] > 160 && there.len() <= 640, "{}", there[100]);
        queue.protect(SequenceSet::from_iter(1..=700));
        fill(queue, 700..800);
        assert!(peek_all(queue).len() <= 640, "the limit holds in any case");
        assert_sound(queue);
    });
}
