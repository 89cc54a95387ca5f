//! A damaged store: set aside whole, read as far as it can be, and taken back once under the old ids.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hr_gateway::config::DrainOrder;
use hr_gateway::queue::capacity::Capacity;
use hr_gateway::queue::durable::{DurableQueue, Opened};
use hr_gateway::queue::folder::set_aside;
use hr_gateway::queue::rescued::Rescuer;
use hr_gateway::queue::segment::SegmentCodec;
use hr_gateway::queue::sequence_set::SequenceSet;
use hr_gateway::queue::{Absorbable, QueueError, ReadingQueue, status};

use crate::support::draining::{UNBOUNDED, gateway};
use crate::support::reading;

const READINGS: u64 = 20_000;

pub fn open(folder: &Path) -> Opened {
    DurableQueue::open(folder, UNBOUNDED, SegmentCodec::default(), &gateway()).unwrap()
}

pub fn rescuer() -> Rescuer {
    Rescuer { codec: SegmentCodec::default(), gateway: "somebody-else".parse().unwrap() }
}

/// A queue of two sensors, partly delivered, one dead letter in it.
fn filled(folder: &Path) {
    let queue = open(folder).queue;
    for first in (0..READINGS).step_by(40) {
        let batch: Vec<_> = (first..first + 40).map(|n| reading(["a", "b"][n as usize % 2], n)).collect();
        queue.append(&batch).unwrap();
    }
    queue.remove(&SequenceSet::from_iter(1..=1_000)).unwrap();
    queue.dead_letter(&SequenceSet::from_iter([5_000]), "ValidationException: no").unwrap();
    queue.close().unwrap();
}

/// Each once, and in order.
pub fn all_ids(queue: &dyn ReadingQueue) -> BTreeSet<(u64, u64)> {
    let origins = queue.envelope().origins;
    let items = queue.peek(DrainOrder::OldestFirst, &SequenceSet::default(), usize::MAX).unwrap();
    assert!(items.is_sorted_by(|one, next| one.sequence < next.sequence));
    items.iter().map(|item| (origins.of(item.sequence).epoch.0, item.sequence)).collect()
}

/// As `hr-gatewayd queue recover` does, which reads in steps.
pub fn take_back(queue: &DurableQueue, aside: &Path) -> u64 {
    let rescued = rescuer().read(aside).unwrap();
    let items = rescued.peek(DrainOrder::OldestFirst, &SequenceSet::default(), usize::MAX).unwrap();
    let letters = rescued.dead_letters(0, usize::MAX).unwrap();
    queue.absorb(&Absorbable { origins: rescued.envelope().origins, items, letters }).unwrap()
}

fn flip(file: &Path, at: u64, bit: u8) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at as usize] ^= 1 << bit;
    std::fs::write(file, bytes).unwrap();
}

pub fn copy(from: &Path, to: &Path) {
    _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn snapshots(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("snap.")).collect()
}

#[test]
fn a_store_set_aside_comes_back_whole_under_its_old_ids_and_once() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("queue");
    filled(&folder);
    let before = all_ids(&open(&folder).queue);
    std::fs::write(folder.join("hr-gatewayd.damaged"), "").unwrap();

    let opened = open(&folder);
    let aside = opened.set_aside.clone().unwrap();
    assert_eq!(aside.readable, READINGS - 1_000);
    assert_eq!(set_aside(&folder).unwrap(), std::slice::from_ref(&aside.path));
    assert_eq!(opened.queue.missing().count(), READINGS - 1_000);
    opened.queue.append(&[reading("a", READINGS)]).unwrap();
    let fresh = all_ids(&opened.queue);
    assert!(fresh.iter().all(|(_, sequence)| *sequence > READINGS), "{fresh:?}");

    assert_eq!(take_back(&opened.queue, &aside.path), READINGS - 1_000);
    let queue = opened.queue;
    let together: BTreeSet<_> = before.union(&fresh).copied().collect();
    assert!(all_ids(&queue) == together);
    assert_eq!(queue.dead_letters(0, 10).unwrap().len(), 1);
    assert_eq!(queue.missing().count(), 0);
    assert!(status(&queue).unwrap().balances);
    // Also after some of it was delivered, and after another start.
    queue.remove(&SequenceSet::from_iter(1_001..=3_000)).unwrap();
    assert_eq!(take_back(&queue, &aside.path), 0, "once");
    queue.sync().unwrap();
    drop(queue);
    let queue = open(&folder).queue;
    assert_eq!(take_back(&queue, &aside.path), 0, "once");
    let status = status(&queue).unwrap();
    assert!(status.balances);
    assert_eq!(status.totals.readings.received, READINGS + 1);
}

#[test]
fn one_flipped_bit_costs_hardly_anything_and_nothing_in_silence() {
    let place = tempfile::tempdir().unwrap();
    let (whole, folder) = (place.path().join("whole"), place.path().join("queue"));
    filled(&whole);
    let db = whole.join("db");
    let written = std::fs::read(&db).unwrap().iter().rposition(|byte| *byte != 0).unwrap() as u64;
    let mut random = fastrand::Rng::with_seed(8);
    for _ in 0..25 {
        for aside in set_aside(&folder).unwrap() {
            std::fs::remove_dir_all(aside).unwrap();
        }
        copy(&whole, &folder);
        std::fs::copy(place.path().join("whole.witness"), place.path().join("queue.witness")).unwrap();
        let (at, bit) = (random.u64(..written), random.u8(..8));
        flip(&folder.join("db"), at, bit);
        let opened_and_mended = || {
            let opened = open(&folder);
            if let Some(aside) = &opened.set_aside {
                take_back(&opened.queue, &aside.path);
            }
            // A damaged page that the opening did not meet is met by a look at everything; the next opening,
            // the daemon's restart, then sets it aside.
            status(&opened.queue)
        };
        let seen = opened_and_mended().or_else(|_| opened_and_mended()).unwrap();
        let there = seen.totals.readings.queued + seen.totals.readings.dead_lettered;
        assert!(seen.balances, "bit {bit} of byte {at}");
        assert_eq!(there + seen.missing, READINGS - 1_000, "bit {bit} of byte {at}: lost in silence");
        assert!(seen.missing <= 500, "bit {bit} of byte {at} cost {}", seen.missing);
    }
}

/// A power cut makes holes there too; but none in what was synced, and the witness knows what was.
#[test]
fn a_hole_near_the_logs_end_costs_what_was_in_it_and_not_what_follows() {
    let place = tempfile::tempdir().unwrap();
    let (whole, folder) = (place.path().join("whole"), place.path().join("queue"));
    filled(&whole);
    let bytes = std::fs::read(whole.join("db")).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    for before_end in [16 << 10, 100 << 10, 700 << 10] {
        for aside in set_aside(&folder).unwrap() {
            std::fs::remove_dir_all(aside).unwrap();
        }
        copy(&whole, &folder);
        std::fs::copy(place.path().join("whole.witness"), place.path().join("queue.witness")).unwrap();
        let mut bytes = bytes.clone();
        bytes[written - before_end..][..4_096].fill(0);
        std::fs::write(folder.join("db"), bytes).unwrap();
        let opened = open(&folder);
        match &opened.set_aside {
            Some(aside) => _ = take_back(&opened.queue, &aside.path),
            None => {
                assert_eq!(before_end, 700 << 10, "taken for a power cut; there it hits what nobody needs")
            }
        }
        let status = status(&opened.queue).unwrap();
        assert!(status.balances);
        assert!(status.missing <= 1_000, "{before_end} bytes before the end: {} missing", status.missing);
        let there = status.totals.readings.queued + status.totals.readings.dead_lettered;
        assert_eq!(there + status.missing, READINGS - 1_000, "{before_end}");
    }
}

#[test]
fn damaged_snapshots_and_leftovers_beside_an_intact_log_cost_nothing() {
    for damage in ["damaged", "empty leftover", "both"] {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("queue");
        filled(&folder);
        let before = all_ids(&open(&folder).queue);
        assert!(!snapshots(&folder).is_empty(), "sled wrote one");
        if damage != "empty leftover" {
            snapshots(&folder).iter().for_each(|snapshot| flip(snapshot, 9, 3));
        }
        if damage != "damaged" {
            std::fs::write(folder.join("snap.00000000000FFFFF.generating"), "").unwrap();
        }
        let opened = open(&folder);
        assert_eq!(opened.set_aside, None, "{damage}");
        assert!(all_ids(&opened.queue) == before, "{damage}");
    }
}

#[test]
fn what_is_cut_zeroed_or_halved_is_read_as_far_as_it_goes_and_keeps_its_names() {
    let place = tempfile::tempdir().unwrap();
    let (whole, damaged) = (place.path().join("whole"), place.path().join("damaged"));
    filled(&whole);
    let before = all_ids(&open(&whole).queue);
    let bytes = std::fs::read(whole.join("db")).unwrap();
    let mut random = fastrand::Rng::with_seed(9);
    for round in 0..24 {
        copy(&whole, &damaged);
        let mut bytes = bytes.clone();
        match round % 3 {
            0 => bytes.truncate(bytes.len() / 2),
            1 => {
                let at = random.usize(..bytes.len() - 4_096) & !4_095;
                bytes[at..at + 4_096].fill(0);
            }
            _ => bytes.truncate(random.usize(1..bytes.len())),
        }
        std::fs::write(damaged.join("db"), bytes).unwrap();
        let Ok(rescued) = rescuer().read(&damaged) else {
            assert_eq!(round % 3, 2, "only a file cut near its beginning says nothing of itself");
            continue;
        };
        let found = all_ids(&rescued);
        // The dead letter may be seen where it was before.
        let found: BTreeSet<_> = found.into_iter().filter(|id| id.1 != 5_000).collect();
        assert!(found.is_subset(&before), "nothing is made up");
        let missing = rescued.missing();
        let told = found.len() as u64 + missing.count();
        assert!(
            (READINGS - 1_001..=READINGS - 1_000).contains(&told),
            "round {round}: what is not there is told of"
        );
        if round % 3 == 1 {
            // A page that is lost takes along what was linked to it later.
            assert!(missing.count() < READINGS / 2, "round {round}: {} missing", missing.count());
        }
        if !found.is_empty() {
            assert_eq!(rescued.envelope().origins.of(READINGS).gateway, gateway(), "it says whose it is");
        }
    }
}

/// Renaming it is refused, as for a mount point: with more behind it the name is too long.
fn unmovable(place: &Path) -> PathBuf {
    let folder = place.join("q".repeat(243));
    std::fs::create_dir(&folder).unwrap();
    folder
}

#[test]
fn a_folder_that_cannot_be_renamed_is_emptied_into_one_inside() {
    let place = tempfile::tempdir().unwrap();
    let folder = unmovable(place.path());
    filled(&folder);
    std::fs::write(folder.join("hr-gatewayd.damaged"), "").unwrap();
    for round in 1..=2 {
        let opened = open(&folder);
        let aside = opened.set_aside.unwrap();
        assert!(aside.path.starts_with(&folder), "{}", aside.path.display());
        assert_eq!(aside.readable, READINGS - 1_000, "round {round}");
        assert!(!opened.witness_inside_only);
        assert!(aside.path.join("hr-gatewayd.witness").exists());
        assert_eq!(take_back(&opened.queue, &aside.path), READINGS - 1_000);
        opened.queue.close().unwrap();
        drop(opened.queue);
        assert_eq!(open(&folder).set_aside, None, "it is done once");
        std::fs::write(folder.join("hr-gatewayd.damaged"), "").unwrap();
    }
}

/// The process was killed, or the power cut, before the new store told of itself.
#[test]
fn setting_aside_may_be_cut_short_anywhere() {
    for moved in ["the folder", "the store, to one inside", "nearly all, to one inside"] {
        let place = tempfile::tempdir().unwrap();
        let inside = moved.contains("inside");
        let folder = if inside { unmovable(place.path()) } else { place.path().join("queue") };
        filled(&folder);
        let before = all_ids(&open(&folder).queue);
        let aside = match inside {
            true => folder.join("damaged-1764201234"),
            false => place.path().join("queue.damaged-1764201234"),
        };
        if moved == "the folder" {
            std::fs::rename(&folder, &aside).unwrap();
            std::fs::create_dir(&folder).unwrap();
        } else {
            std::fs::create_dir(&aside).unwrap();
            std::fs::copy(folder.join("hr-gatewayd.witness"), aside.join("hr-gatewayd.witness")).unwrap();
            std::fs::rename(folder.join("db"), aside.join("db")).unwrap();
        }
        if moved.starts_with("nearly") {
            std::fs::remove_file(folder.join("hr-gatewayd.described")).unwrap();
        }
        let opened = open(&folder);
        let found = opened.set_aside.unwrap_or_else(|| panic!("{moved}: it says nothing"));
        assert_eq!(
            (&found.path.canonicalize().unwrap(), found.readable),
            (&aside.canonicalize().unwrap(), READINGS - 1_000)
        );
        assert_eq!(opened.queue.ledger().totals().readings.delivered, 1_000, "{moved}");
        assert_eq!(take_back(&opened.queue, &aside), READINGS - 1_000, "{moved}");
        assert!(all_ids(&opened.queue) == before, "{moved}");
        assert!(status(&opened.queue).unwrap().balances, "{moved}");
    }
}

#[test]
fn two_stores_set_aside_before_anybody_looked_both_come_back() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("queue");
    filled(&folder);
    let mut given = all_ids(&open(&folder).queue);
    for round in 0..2 {
        std::fs::write(folder.join("hr-gatewayd.damaged"), "").unwrap();
        let queue = open(&folder).queue;
        (0..150).for_each(|n| _ = queue.append(&[reading("a", READINGS + 150 * round + n)]).unwrap());
        given.extend(all_ids(&queue));
        queue.close().unwrap();
        drop(queue);
        // Nor do starts in between forget anything.
        drop(open(&folder));
    }
    let queue = open(&folder).queue;
    let folders = set_aside(&folder).unwrap();
    assert_eq!(folders.len(), 2);
    let taken: u64 = folders.iter().map(|aside| take_back(&queue, aside)).sum();
    assert_eq!(taken, READINGS - 1_000 + 150);
    assert!(all_ids(&queue) == given);
    assert_eq!(queue.missing().count(), 0);
    assert!(status(&queue).unwrap().balances);
}

#[test]
fn what_comes_back_among_newer_readings_keeps_its_place() {
    let place = tempfile::tempdir().unwrap();
    let [folder, backup, original] = ["queue", "backup", "original"].map(|name| place.path().join(name));
    let queue = open(&folder).queue;
    (1..=495).for_each(|n| _ = queue.append(&[reading("a", n)]).unwrap());
    copy(&folder, &backup);
    (496..=999).for_each(|n| _ = queue.append(&[reading("a", n)]).unwrap());
    let mut given = all_ids(&queue);
    queue.close().unwrap();
    drop(queue);
    std::fs::rename(&folder, &original).unwrap();
    copy(&backup, &folder);
    let queue = open(&folder).queue;
    assert_eq!(queue.missing().count(), 504);
    (1_000..1_003).for_each(|n| _ = queue.append(&[reading("a", n)]).unwrap());
    queue.begin_audit();
    assert_eq!(take_back(&queue, &original), 504);
    // Enough to be merged with what waits in small segments.
    (1_003..1_200).for_each(|n| _ = queue.append(&[reading("a", n)]).unwrap());
    given.extend(all_ids(&queue).into_iter().filter(|id| id.1 >= 1_000));
    assert!(all_ids(&queue) == given);
    assert!(status(&queue).unwrap().balances);
    // Some of it is there already, and some was delivered.
    queue.remove(&SequenceSet::from_iter((490..1_010).step_by(7))).unwrap();
    assert_eq!(take_back(&queue, &original), 0);
    assert!(status(&queue).unwrap().balances);
}

#[test]
fn what_has_no_room_stays_where_it_is() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("queue");
    filled(&folder);
    std::fs::write(folder.join("hr-gatewayd.damaged"), "").unwrap();
    let opened = open(&folder);
    let aside = opened.set_aside.unwrap().path;
    let queue = opened.queue;
    let bounded = Capacity { items_max: 3_000, ..UNBOUNDED };
    queue.reconfigure(bounded, SegmentCodec::default(), &gateway()).unwrap();
    let rescued = rescuer().read(&aside).unwrap();
    let items = rescued.peek(DrainOrder::OldestFirst, &SequenceSet::default(), usize::MAX).unwrap();
    let all = Absorbable { origins: rescued.envelope().origins, items, letters: Vec::new() };
    assert!(matches!(queue.absorb(&all), Err(QueueError::NoRoom)));
    let status_then = status(&queue).unwrap();
    assert!(status_then.balances);
    assert_eq!((status_then.totals.readings.evicted, queue.depth()), (0, 3_000));
    queue.reconfigure(UNBOUNDED, SegmentCodec::default(), &gateway()).unwrap();
    assert_eq!(take_back(&queue, &aside), READINGS - 1_000 - 3_000);
    assert_eq!(queue.missing().count(), 0);
    assert!(status(&queue).unwrap().balances);
}

#[test]
fn a_store_with_another_queues_ids_gives_nothing() {
    let place = tempfile::tempdir().unwrap();
    let [folder, other] = ["queue", "other"].map(|name| place.path().join(name));
    for folder in [&folder, &other] {
        filled(folder);
    }
    std::fs::write(folder.join("hr-gatewayd.damaged"), "").unwrap();
    let queue = open(&folder).queue;
    assert_eq!(take_back(&queue, &other), 0);
    assert_eq!(queue.missing().count(), READINGS - 1_000);
}
