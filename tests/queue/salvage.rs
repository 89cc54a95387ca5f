//! Reading a store without sled: exactly what sled shows while it is whole, also after a kill, and
//! nothing made up when it is damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use hr_gateway::config::DrainOrder;
use hr_gateway::queue::ReadingQueue;
use hr_gateway::queue::durable::DurableQueue;
use hr_gateway::queue::salvage::Salvaged;
use hr_gateway::queue::segment::SegmentCodec;
use hr_gateway::queue::sequence_set::SequenceSet;

use crate::support::draining::{UNBOUNDED, gateway};
use crate::support::reading;

pub type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

pub fn codec(seed: u64) -> SegmentCodec {
    if seed.is_multiple_of(3) { SegmentCodec::encrypted(&[7; 32]) } else { SegmentCodec::default() }
}

pub fn open(folder: &Path, codec: SegmentCodec) -> DurableQueue {
    let opened = DurableQueue::open(folder, UNBOUNDED, codec, &gateway()).unwrap();
    assert!(opened.set_aside.is_none());
    opened.queue
}

/// What sled needs of a store, as a kill at this moment would leave it.
pub fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
        }
    }
    to
}

/// What sled shows. Opening changes the folder.
pub fn by_sled(folder: &Path) -> Entries {
    let db = sled::Config::new().path(folder).flush_every_ms(None).open().unwrap();
    db.iter().map(|entry| entry.unwrap()).map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

pub fn salvaged(folder: &Path) -> Entries {
    let store = Salvaged::read(folder).unwrap();
    let keys: Vec<Vec<u8>> = store.keys::<[u8; 0]>(..).map(<[u8]>::to_vec).collect();
    assert!(keys.is_sorted(), "keys ascend");
    keys.into_iter().map(|key| (store.value(&key).unwrap().unwrap(), key)).map(|(v, k)| (k, v)).collect()
}

/// One thing that the daemon does with its queue; returns whether all that was written is synced.
pub fn act(queue: &DurableQueue, random: &mut fastrand::Rng) -> bool {
    let some = |random: &mut fastrand::Rng, most| {
        let order = if random.bool() { DrainOrder::OldestFirst } else { DrainOrder::NewestFirst };
        let items = queue.peek(order, &SequenceSet::default(), random.usize(1..most)).unwrap();
        items.iter().map(|item| item.sequence).collect::<SequenceSet>()
    };
    match random.u8(..100) {
        0..70 => {
            let count = if random.u8(..10) == 0 { 150 } else { 12 };
            let sensor = ["a", "left-wrist", "c"][random.usize(..3)];
            let batch: Vec<_> = (0..random.u64(1..count)).map(|second| reading(sensor, second)).collect();
            queue.append(&batch).unwrap();
            return true;
        }
        70..95 => queue.remove(&some(random, 300)).unwrap(),
        _ => queue.dead_letter(&some(random, 4), "refused for good").unwrap(),
    }
    false
}

fn assert_same(folder: &Path, what: &str) {
    let found = salvaged(folder);
    let shown = by_sled(copy(folder).path());
    let keys = |entries: &Entries| entries.keys().cloned().collect::<BTreeSet<_>>();
    let (missing, extra) = (&keys(&shown) - &keys(&found), &keys(&found) - &keys(&shown));
    assert!(missing.is_empty() && extra.is_empty(), "{what}: missing {missing:?}, extra {extra:?}");
    assert!(found == shown, "{what}: the same keys, other values");
}

#[test]
fn of_a_whole_store_it_shows_exactly_what_sled_shows() {
    for seed in 0..5 {
        let mut random = fastrand::Rng::with_seed(seed);
        let folder = tempfile::tempdir().unwrap();
        for life in 0..4 {
            let queue = open(folder.path(), codec(seed));
            for step in 0..random.u32(20..120) {
                act(&queue, &mut random);
                if step % 20 == 0 {
                    // Killed here.
                    assert_same(
                        copy(folder.path()).path(),
                        &format!("seed {seed}, life {life}, step {step}"),
                    );
                }
            }
            drop(queue);
            assert_same(folder.path(), &format!("seed {seed}, life {life}, closed"));
        }
    }
}

/// A store of sled's own in which every value that a key ever had is known.
pub struct Known {
    pub folder: tempfile::TempDir,
    pub written: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    pub last: Entries,
}

impl Known {
    #[expect(clippy::disallowed_methods, reason = "no power is cut here")]
    pub fn with_batches(seed: u64, batches: u32) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let folder = tempfile::tempdir().unwrap();
        let mut known = Self { folder, written: BTreeMap::new(), last: Entries::new() };
        let db = sled::Config::new().path(known.folder.path()).flush_every_ms(None).open().unwrap();
        let mut next = 0_u64;
        for _ in 0..batches {
            let mut batch = sled::Batch::default();
            for _ in 0..random.u32(1..20) {
                next += 1;
                let number = if random.u8(..4) == 0 { random.u64(..next) } else { next };
                let key = [b"q", &number.to_be_bytes()[..]].concat();
                if random.u8(..5) == 0 {
                    batch.remove(&*key);
                    known.last.remove(&key);
                } else {
                    let value: Vec<u8> = (0..random.usize(4..120)).map(|_| random.u8(..)).collect();
                    batch.insert(&*key, &*value);
                    known.written.entry(key.clone()).or_default().insert(value.clone());
                    known.last.insert(key, value);
                }
            }
            db.apply_batch(batch).unwrap();
            db.flush().unwrap();
        }
        drop(db);
        known
    }

    pub fn db(&self) -> PathBuf {
        self.folder.path().join("db")
    }

    /// Nothing is made up; and how many entries are gone or old.
    fn judge(&self, found: &Entries, what: &str) -> usize {
        for (key, value) in found {
            let ever = self.written.get(key).is_some_and(|values| values.contains(value));
            assert!(ever, "{what}: {key:?} never had this value");
        }
        self.last.iter().filter(|(key, value)| found.get(*key) != Some(value)).count()
    }
}

#[test]
fn a_flipped_bit_costs_what_it_hit_and_makes_nothing_up() {
    let known = Known::with_batches(1, 1_200);
    let whole = std::fs::read(known.db()).unwrap();
    assert_eq!(known.judge(&salvaged(known.folder.path()), "whole"), 0);
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(2);
    let mut lost: Vec<usize> = (0..200)
        .map(|flip| {
            let mut bytes = whole.clone();
            let at = random.usize(..bytes.len());
            bytes[at] ^= 1 << random.u8(..8);
            std::fs::write(folder.path().join("db"), bytes).unwrap();
            known.judge(&salvaged(folder.path()), &format!("flip {flip} at byte {at}"))
        })
        .collect();
    lost.sort_unstable();
    let (median, worst) = (lost[lost.len() / 2], lost[lost.len() - 1]);
    println!("of {}: lost {} to {worst}, median {median}; {lost:?}", known.last.len(), lost[0]);
    // sled's leaves hold 16 entries at most, and a few links more before they are written anew.
    assert!(median <= 1 && worst <= 32, "median {median}, worst {worst}");
}

#[test]
fn of_a_damaged_file_nothing_is_made_up_and_nothing_panics() {
    let known = Known::with_batches(3, 1_200);
    let whole = std::fs::read(known.db()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(4);
    let mut worst_zeroed = 0;
    for round in 0..200 {
        let mut bytes = whole.clone();
        let at = random.usize(..bytes.len());
        let what = match round % 5 {
            0 => {
                let end = (at + 4096).min(bytes.len());
                bytes[at..end].fill(0);
                "4 KiB of zeros"
            }
            1 => {
                bytes.truncate(at);
                "cut"
            }
            2 => {
                bytes.truncate(whole.len() / 2);
                bytes.rotate_left(random.usize(..3) * 512 * 1024);
                "halved, its segments in another order"
            }
            3 => {
                let noise: Vec<u8> = (0..2_000).map(|_| random.u8(..)).collect();
                let end = (at + noise.len()).min(bytes.len());
                bytes[at..end].copy_from_slice(&noise[..end - at]);
                "noise"
            }
            _ => {
                for _ in 0..100 {
                    let at = random.usize(..bytes.len());
                    bytes[at] ^= 1 << random.u8(..8);
                }
                "a hundred flips"
            }
        };
        std::fs::write(folder.path().join("db"), bytes).unwrap();
        let lost = known.judge(&salvaged(folder.path()), &format!("{what} at {at}, round {round}"));
        if round % 5 == 0 {
            worst_zeroed = worst_zeroed.max(lost);
        }
    }
    println!("of {}: 4 KiB of zeros cost {worst_zeroed} at most", known.last.len());
    // A page that is lost takes along what was linked to it later.
    assert!(worst_zeroed < known.last.len() / 2, "{worst_zeroed} of {}", known.last.len());
}

#[test]
fn any_bytes_are_read_as_a_store_without_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(5);
    let known = Known::with_batches(6, 150);
    let whole = std::fs::read(known.db()).unwrap();
    for round in 0..60 {
        let mut bytes: Vec<u8> = match round % 3 {
            0 => (0..random.usize(..30_000)).map(|_| random.u8(..)).collect(),
            1 => vec![0; random.usize(..1_200_000)],
            _ => whole.clone(),
        };
        if round % 3 == 2 {
            // Small numbers where lengths stand.
            for byte in &mut bytes {
                *byte = if random.u8(..50) == 0 { random.u8(..16) } else { *byte };
            }
        }
        std::fs::write(folder.path().join("db"), bytes).unwrap();
        known.judge(&salvaged(folder.path()), &format!("round {round}"));
    }
}

#[test]
fn keys_keep_to_their_range() {
    let known = Known::with_batches(7, 40);
    let store = Salvaged::read(known.db().parent().unwrap()).unwrap();
    let keys: Vec<_> = known.last.keys().collect();
    let (low, high) = (keys[keys.len() / 4], keys[keys.len() / 2]);
    let expected: Vec<_> = known.last.range(low.clone()..high.clone()).map(|(key, _)| &**key).collect();
    assert_eq!(store.keys(low.clone()..high.clone()).collect::<Vec<_>>(), expected);
    assert_eq!(store.keys(low.clone()..=low.clone()).collect::<Vec<_>>(), [&**low]);
    assert_eq!(store.value(b"q never there").unwrap(), None);
    assert_eq!(store.bad_messages(), 0);
}
