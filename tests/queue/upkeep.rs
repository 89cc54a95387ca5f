//! What calls leave behind in the store, where their answers do not show it.

use std::path::Path;

use hr_gateway::clock::{ANCHORS_MAX, Anchor};
use hr_gateway::queue::capacity::Capacity;
use hr_gateway::queue::ledger::{Account, Ledger, Row};
use hr_gateway::queue::segment::{SegmentCodec, SegmentError};
use hr_gateway::queue::sequence_set::SequenceSet;
use hr_gateway::queue::witness::{Cover, Finding, Witness};
use hr_gateway::queue::{Absorbable, ReadingQueue, status};
use hr_gateway::reading::{BootId, Content, Moment, Observation};

use super::recover::{all_ids, copy, open, rescuer};
use crate::support::draining::{UNBOUNDED, gateway};
use crate::support::{moment, reading};

fn fill(queue: &dyn ReadingQueue, numbers: std::ops::Range<u64>) {
    let observations: Vec<Observation> = numbers.map(|n| reading("a", n)).collect();
    observations.chunks(50).for_each(|chunk| _ = queue.append(chunk).unwrap());
}

/// The store's entries whose keys begin with `prefix`.
fn entries(folder: &Path, prefix: u8) -> Vec<Vec<u8>> {
    let db = sled::open(folder).unwrap();
    db.scan_prefix([prefix]).map(|entry| entry.unwrap().1.to_vec()).collect()
}

#[test]
fn an_audit_counts_right_whatever_comes_and_goes_between_its_steps() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("queue");
    fill(&open(&folder).queue, 0..25_000);
    std::fs::write(folder.join("hr-gatewayd.damaged"), "").unwrap();
    let opened = open(&folder);
    let rescued = rescuer().read(&opened.set_aside.unwrap().path).unwrap();
    let queue = opened.queue;
    let items = rescued.peek(Default::default(), &SequenceSet::default(), usize::MAX).unwrap();
    let (some, rest): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| item.sequence % 3 > 0);
    let take_back = |items| {
        let other = Absorbable { origins: rescued.envelope().origins, items, letters: Vec::new() };
        queue.absorb(&other).unwrap()
    };
    take_back(some);
    queue.dead_letter(&SequenceSet::from_iter([4, 5, 24_001]), "no").unwrap();

    queue.begin_audit();
    assert!(queue.step_audit().unwrap().is_none(), "it takes several steps");
    queue.remove(&SequenceSet::from_iter((1..=60).chain(24_500..=24_600))).unwrap();
    queue.requeue(&SequenceSet::from_iter([5, 24_001])).unwrap();
    queue.dead_letter(&SequenceSet::from_iter([100, 101, 24_002]), "no").unwrap();
    assert_eq!(take_back(rest), 8_333);
    fill(&queue, 25_000..25_200);
    let (ledger, counts) = loop {
        if let Some(counted) = queue.step_audit().unwrap() {
            break counted;
        }
    };
    assert!(counts.agree_with(&ledger), "{counts:?} and {ledger:?}");
    assert!(ledger.balances());
    assert_eq!(all_ids(&queue).len() as u64, queue.depth());
}

#[test]
fn a_session_keeps_its_id_over_starts_that_find_nothing_queued() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("queue");
    let queue = open(&folder).queue;
    fill(&queue, 0..3);
    let epoch = queue.envelope().origins.of(1).epoch;
    queue.remove(&SequenceSet::from_iter(1..=3)).unwrap();
    drop(queue);
    for _ in 0..3 {
        let queue = open(&folder).queue;
        fill(&queue, 3..4);
        queue.remove(&SequenceSet::from_iter(1..=100)).unwrap();
        assert_eq!(queue.envelope().origins.of(1).epoch, epoch);
    }
}

#[test]
fn starts_that_nothing_leans_on_any_more_are_forgotten() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("queue");
    for start in 0..30 {
        let queue = open(&folder).queue;
        queue.append(&[Observation { starts_session: true, ..reading("a", start) }]).unwrap();
        queue.remove(&SequenceSet::from_iter(1..=start + 1)).unwrap();
        let origins = queue.envelope().origins.iter().count();
        assert!(origins <= 3, "{origins} after {start} starts");
    }
    assert!(entries(&folder, b'e').len() <= 3);
}

#[test]
fn small_segments_from_before_a_start_are_merged_after_it() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("queue");
    for start in 0..10 {
        let queue = open(&folder).queue;
        (0..30).for_each(|n| _ = queue.append(&[reading("a", 30 * start + n)]).unwrap());
        queue.close().unwrap();
    }
    let segments = entries(&folder, b'q').len();
    assert!(segments <= 100, "{segments} for 300 readings");
}

#[test]
fn nothing_that_is_encrypted_stands_there_in_clear() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("queue");
    let key = SegmentCodec::encrypted(&[5; 32]);
    let open = || hr_gateway::queue::durable::DurableQueue::open(&folder, UNBOUNDED, key.clone(), &gateway());
    let queue = open().unwrap().queue;
    fill(&queue, 0..300);
    queue.dead_letter(&SequenceSet::from_iter([5, 150]), "no").unwrap();
    queue.requeue(&SequenceSet::from_iter([150])).unwrap();
    queue.remove(&SequenceSet::from_iter([151])).unwrap();
    queue.close().unwrap();
    drop(queue);
    let dead = entries(&folder, b'd').into_iter();
    let dead: Vec<Vec<u8>> =
        dead.map(|value| postcard::from_bytes::<(String, Vec<u8>)>(&value).unwrap().1).collect();
    assert_eq!(dead.len(), 1);
    for segment in dead.into_iter().chain(entries(&folder, b'q')) {
        let read = SegmentCodec::default().decode(&[0; 9], &segment);
        assert_eq!(read.err(), Some(SegmentError::KeyMissing));
    }
}

#[test]
fn of_each_boot_the_last_anchor_is_kept_and_of_boots_the_last_few() {
    let place = tempfile::tempdir().unwrap();
    let queue = open(&place.path().join("queue")).queue;
    let anchor = |boot, offset_ms| Anchor { boot: BootId(boot), offset_ms, boottime_ms: 1 };
    queue.add_anchor(anchor(7, 1)).unwrap();
    queue.add_anchor(anchor(7, 2)).unwrap();
    assert_eq!(queue.envelope().anchors, [anchor(7, 2)]);
    let boots = 100..100 + ANCHORS_MAX as u128;
    boots.clone().for_each(|boot| queue.add_anchor(anchor(boot, 3)).unwrap());
    let kept: Vec<Anchor> = boots.map(|boot| anchor(boot, 3)).collect();
    assert_eq!(queue.envelope().anchors, kept);
}

#[test]
fn what_a_full_disk_keeps_from_being_written_is_written_later() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("queue");
    let queue = open(&folder).queue;
    let full = Capacity { disk_headroom: u64::MAX, ..UNBOUNDED };
    queue.reconfigure(full, SegmentCodec::default(), &gateway()).unwrap();
    let malformed = Observation { content: Content::Malformed, ..reading("b", 1) };
    queue.append(&[malformed, reading("b", 2)]).unwrap();
    queue.reconfigure(UNBOUNDED, SegmentCodec::default(), &gateway()).unwrap();
    fill(&queue, 3..4);
    let before = queue.ledger();
    // Without an orderly end.
    drop(queue);
    let queue = open(&folder).queue;
    assert_eq!(queue.ledger(), before);
    let totals = queue.ledger().totals();
    assert_eq!((totals.malformed, totals.readings.evicted), (1, 1));
    assert!(status(&queue).unwrap().balances);
}

#[test]
fn a_witness_older_than_the_store_is_told_of_as_that() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("queue");
    fill(&open(&folder).queue, 0..10);
    let old = Witness::places(&folder).map(|place| (std::fs::read(&place).unwrap(), place));
    fill(&open(&folder).queue, 10..20);
    fill(&open(&folder).queue, 20..30);
    old.iter().for_each(|(bytes, place)| std::fs::write(place, bytes).unwrap());
    let opened = open(&folder);
    assert_eq!(opened.finding, Finding::OldWitness);
    assert!(opened.missing.is_empty());
}

#[test]
fn an_episode_of_evictions_reaches_from_the_earliest_to_the_latest() {
    let mut row = Row::default();
    for second in [50, 20, 80, 30] {
        row.note_eviction(moment(second));
    }
    let episode = row.evicting.unwrap();
    assert_eq!((episode.first, episode.last, episode.count), (moment(20).into(), moment(80).into(), 4));
    // Of another boot the wall clock tells.
    let other = |second| Moment { boot: BootId(98), boottime_ms: 1, ..moment(second) };
    for (second, first, last) in [(20, 20, 80), (79, 20, 80), (10, 10, 80), (90, 10, 90)] {
        row.note_eviction(other(second));
        let episode = row.evicting.unwrap();
        let wall_ms = |stored| Moment::from(stored).wall_ms;
        let wanted = [first, last].map(|second| moment(second).wall_ms);
        assert_eq!([wall_ms(episode.first), wall_ms(episode.last)], wanted, "{second}");
    }
    // Where one of the clocks was wrong, nobody can say.
    let unknown = Moment { boot: BootId(99), wall_ms: 0, synchronized: false, ..moment(1) };
    row.note_eviction(unknown);
    let episode = row.evicting.unwrap();
    assert_eq!((episode.first, episode.last), (other(10).into(), unknown.into()));
}

#[test]
fn dead_letters_that_went_with_the_store_are_told_of_too() {
    let place = tempfile::tempdir().unwrap();
    let [folder, backup] = ["queue", "backup"].map(|name| place.path().join(name));
    let queue = open(&folder).queue;
    fill(&queue, 0..30);
    queue.sync().unwrap();
    copy(&folder, &backup);
    queue.dead_letter(&SequenceSet::from_iter([5, 9]), "ValidationException: no").unwrap();
    queue.remove(&SequenceSet::from_iter(1..=30)).unwrap();
    drop(queue);
    std::fs::remove_dir_all(&folder).unwrap();
    let witness = std::fs::read(&Witness::places(&folder)[0]).unwrap();
    let opened = open(&folder);
    assert_eq!(opened.missing, SequenceSet::from_iter([5, 9]));
    assert_eq!(opened.queue.missing(), opened.missing);
    drop(opened);

    // In the backup they are still queued: nothing is missing, and all of it will be sent again.
    std::fs::remove_dir_all(&folder).unwrap();
    copy(&backup, &folder);
    std::fs::write(&Witness::places(&folder)[0], witness).unwrap();
    let opened = open(&folder);
    assert!(opened.missing.is_empty(), "{:?}", opened.missing);
    assert_eq!(opened.queue.depth(), 30);
}

#[test]
fn many_dead_letters_are_covered_by_few_ranges() {
    let few = SequenceSet::from_iter([1, 3, 4, 9]);
    assert_eq!(Cover::of(&few).sequences(), few);
    assert!(Cover::of(&SequenceSet::default()).sequences().is_empty());
    let many = SequenceSet::from_iter((1..1_000).step_by(2));
    let cover = Cover::of(&many).sequences();
    assert_eq!(cover.ranges().take(23).collect::<Vec<_>>(), many.ranges().take(23).collect::<Vec<_>>());
    assert_eq!(cover.ranges().next_back(), Some(47..=999));
}

#[test]
fn a_witness_beside_that_can_no_longer_be_written_is_not_believed_for_ever() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("queue");
    drop(open(&folder));
    let [beside, _] = Witness::places(&folder);
    let stale = std::fs::read(&beside).unwrap();
    for _ in 0..3 {
        fill(&open(&folder).queue, 0..10);
        std::fs::write(&beside, &stale).unwrap();
    }
    assert_eq!(open(&folder).finding, Finding::Sound);
}

#[test]
fn what_a_full_disk_refused_is_neither_missing_nor_forgotten_after_a_stop() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("queue");
    let queue = open(&folder).queue;
    fill(&queue, 0..10);
    let full = Capacity { disk_headroom: u64::MAX, ..UNBOUNDED };
    queue.reconfigure(full, SegmentCodec::default(), &gateway()).unwrap();
    fill(&queue, 0..20);
    (1..=8).for_each(|n| queue.dead_letter(&SequenceSet::from_iter([n]), "no").unwrap());
    let before = queue.ledger();
    assert_eq!(before.totals().readings.evicted, 20);
    queue.close().unwrap();
    drop(queue);
    let opened = open(&folder);
    assert_eq!(opened.finding, Finding::Sound);
    assert_eq!(opened.queue.ledger(), before);
    // Once there is room, the gap is told of.
    opened.queue.append(&[reading("a", 100)]).unwrap();
    assert_eq!(opened.queue.ledger().totals().other_records.queued, 1);
}

#[test]
fn an_account_that_does_not_add_up_is_seen_in_each_of_its_columns() {
    let whole = Account { received: 15, delivered: 1, queued: 2, dead_lettered: 4, evicted: 8 };
    assert!(whole.balances());
    let columns: [fn(&mut Account) -> &mut u64; 5] = [
        |account| &mut account.received,
        |account| &mut account.delivered,
        |account| &mut account.queued,
        |account| &mut account.dead_lettered,
        |account| &mut account.evicted,
    ];
    for column in columns {
        let mut wrong = whole;
        *column(&mut wrong) += 1;
        assert!(!wrong.balances(), "{wrong:?}");
        for row in [Row { readings: wrong, ..Row::default() }, Row { other_records: wrong, ..Row::default() }]
        {
            let rows = [("a".parse().unwrap(), Row::default()), ("b".parse().unwrap(), row)].into();
            assert!(!Ledger { rows }.balances());
        }
    }
}
