//! A store that goes back in time: no id is given twice, and what is missing is told.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use hr_gateway::config::DrainOrder;
use hr_gateway::queue::durable::{DurableQueue, Opened};
use hr_gateway::queue::segment::SegmentCodec;
use hr_gateway::queue::sequence_set::SequenceSet;
use hr_gateway::queue::witness::{Before, Cover, Finding, Found, Mark, StoreState, WentBack, Witness, judge};
use hr_gateway::queue::{ReadingQueue, status};
use hr_gateway::reading::{Epoch, Origin, Origins};
use proptest::prelude::*;

use crate::support::draining::{UNBOUNDED, gateway};
use crate::support::reading;

fn open(folder: &Path) -> Opened {
    DurableQueue::open(folder, UNBOUNDED, SegmentCodec::default(), &gateway()).unwrap()
}

fn fill(queue: &DurableQueue, count: u64) {
    (0..count).for_each(|second| _ = queue.append(&[reading("a", second)]).unwrap());
}

/// The ids of what is queued.
fn ids(queue: &DurableQueue) -> BTreeSet<(u64, u64)> {
    let envelope = queue.envelope();
    let items = queue.peek(DrainOrder::OldestFirst, &SequenceSet::default(), usize::MAX).unwrap();
    items.iter().map(|item| (envelope.origins.of(item.sequence).epoch.0, item.sequence)).collect()
}

fn copy(from: &Path, to: &Path) {
    _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => _ = std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap(),
        }
    }
}

#[test]
fn an_older_copy_of_the_folder_is_noticed_and_no_id_is_given_twice() {
    let place = tempfile::tempdir().unwrap();
    let (folder, backup) = (place.path().join("queue"), place.path().join("backup"));
    let queue = open(&folder).queue;
    fill(&queue, 100);
    queue.close().unwrap();
    drop(queue);
    copy(&folder, &backup);

    let queue = open(&folder).queue;
    fill(&queue, 200);
    let given = ids(&queue);
    queue.remove(&SequenceSet::from_iter(1..=250)).unwrap();
    queue.close().unwrap();
    drop(queue);
    copy(&backup, &folder);

    let opened = open(&folder);
    let back = WentBack { first: 101, last: 300, first_missing: 251 };
    assert_eq!(opened.finding, Finding::WentBack(back));
    fill(&opened.queue, 200);
    let now = ids(&opened.queue);
    assert_eq!(now.intersection(&given).count(), 100, "only what was put back, which has its own ids");
    let status = status(&opened.queue).unwrap();
    assert!(status.balances);
    assert_eq!((status.missing, status.missing_sequences), (50, vec![(251, 300)]));
    drop(opened);
    let again = open(&folder);
    assert_eq!(again.finding, Finding::Sound, "it is said once");
    assert_eq!(again.queue.missing().count(), 50, "and kept");
}

#[test]
fn all_of_the_disk_put_back_still_gives_no_id_twice() {
    let place = tempfile::tempdir().unwrap();
    let (disk, image) = (place.path().join("disk"), place.path().join("image"));
    let folder = disk.join("queue");
    let mut given = HashSet::new();
    fill(&open(&folder).queue, 50);
    copy(&disk, &image);
    for _restored in 0..3 {
        copy(&image, &disk);
        let queue = open(&folder).queue;
        fill(&queue, 20);
        let fresh = ids(&queue).into_iter().filter(|(_, sequence)| *sequence > 50);
        fresh.for_each(|id| assert!(given.insert(id), "{id:?} was given before"));
    }
}

#[test]
fn a_store_that_is_gone_is_told_of_with_what_was_waiting_in_it() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("queue");
    let queue = open(&folder).queue;
    fill(&queue, 30);
    queue.remove(&SequenceSet::from_iter(1..=10)).unwrap();
    drop(queue);
    std::fs::remove_dir_all(&folder).unwrap();
    let opened = open(&folder);
    assert_eq!(opened.finding, Finding::WentBack(WentBack { first: 1, last: 30, first_missing: 11 }));
    fill(&opened.queue, 1);
    assert_eq!(ids(&opened.queue).first().unwrap().1, 31, "above all that was given");
}

#[test]
fn without_a_witness_a_store_is_not_called_sound() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("queue");
    fill(&open(&folder).queue, 30);
    for damage in [None, Some(vec![7; 1024])] {
        for path in Witness::places(&folder) {
            match &damage {
                None => std::fs::remove_file(path).unwrap(),
                Some(bytes) => std::fs::write(path, bytes).unwrap(),
            }
        }
        assert_eq!(open(&folder).finding, Finding::NoWitness);
        assert_eq!(open(&folder).finding, Finding::Sound, "a new one was begun");
    }
    // The one inside serves where the one beside cannot be had.
    std::fs::remove_file(&Witness::places(&folder)[0]).unwrap();
    assert_eq!(open(&folder).finding, Finding::Sound);
}

#[test]
fn a_torn_slot_leaves_the_mark_before() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("queue");
    std::fs::create_dir(&folder).unwrap();
    let mark = Mark {
        store: Epoch(7),
        opening: Epoch(8),
        opened_at: 1,
        durable_before: 1,
        settled_before: 1,
        dead: Cover::default(),
        is_clean: false,
    };
    let mut witness = Witness::begin(&folder, mark).unwrap();
    witness.note(50, 20, Cover::default()).unwrap();
    witness.note(51, 20, Cover::default()).unwrap();
    let whole = std::fs::read(&Witness::places(&folder)[0]).unwrap();
    for at in 0..whole.len() {
        let mut torn = whole.clone();
        torn[at] ^= 0x10;
        std::fs::write(&Witness::places(&folder)[0], torn).unwrap();
        let Found::Mark(found) = Witness::read(&folder) else { panic!("byte {at} cost both slots") };
        assert!((50..=51).contains(&found.durable_before), "byte {at}: {found:?}");
    }
}

/// What a step of a history does to the pair of store and witness.
#[derive(Debug, Clone)]
enum Step {
    /// So many are taken in; the witness on the disk may lag behind after a power cut.
    Append {
        count: u64,
        witness_written: bool,
    },
    /// So many of the oldest leave.
    Settle(u64),
    Close,
    /// A new opening, of the store as it was so many states ago, and of the witness likewise.
    Open {
        store_back: usize,
        witness_back: usize,
        witness_is: Is,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Is {
    There,
    Gone,
    Torn,
}

fn any_step() -> impl Strategy<Value = Step> {
    let is = prop_oneof![8 => Just(Is::There), 1 => Just(Is::Gone), 1 => Just(Is::Torn)];
    prop_oneof![
        4 => (1u64..20, any::<bool>()).prop_map(|(count, witness_written)| Step::Append { count, witness_written }),
        3 => (1u64..20).prop_map(Step::Settle),
        1 => Just(Step::Close),
        3 => (0usize..6, 0usize..6, is).prop_map(|(store_back, witness_back, witness_is)| {
            Step::Open { store_back, witness_back, witness_is }
        }),
    ]
}

/// An id: epoch and sequence.
type Id = (u64, u64);

/// A store in memory.
#[derive(Debug, Clone)]
struct Store {
    store: Epoch,
    origins: Vec<Origin>,
    before: Option<Before>,
    next: u64,
    queued: BTreeSet<Id>,
    /// All that it ever took in.
    had: BTreeSet<Id>,
}

/// A witness, and all that the store had when it was written.
type Written = (Found, BTreeSet<Id>);

/// All that happened; the disk may come back to any moment of it.
#[derive(Debug)]
struct World {
    stores: Vec<Option<Store>>,
    witnesses: Vec<Written>,
    given: HashSet<Id>,
    /// What left the queue, or was told of as missing.
    left: HashSet<Id>,
    epochs: u64,
    /// The disk was put back to an earlier state.
    put_back: bool,
}

impl World {
    fn draw(&mut self) -> Epoch {
        self.epochs += 1;
        Epoch(self.epochs)
    }

    fn open(&mut self, store_back: usize, witness_back: usize, witness_is: Is) -> Result<(), TestCaseError> {
        let now = self.stores.len() - 1;
        let found = self.stores[now - store_back.min(now)].clone();
        let (mark, had) = self.witnesses[now - witness_back.min(now)].clone();
        let (witness, had) = match witness_is {
            Is::There => (mark, had),
            Is::Gone => (Found::Nothing, BTreeSet::new()),
            Is::Torn => (Found::Torn, BTreeSet::new()),
        };
        let origins = found.as_ref().and_then(|store| Origins::new(store.origins.clone()));
        let state = found.as_ref().zip(origins.as_ref());
        let state = state.map(|(found, origins)| StoreState {
            store: found.store,
            origins,
            before: found.before,
            next: found.next,
        });
        let judgement = judge(state.as_ref(), &witness);

        let is_new = found.is_none();
        let fresh = Store {
            store: self.draw(),
            origins: Vec::new(),
            before: None,
            next: 1,
            queued: BTreeSet::new(),
            had: BTreeSet::new(),
        };
        let mut store = found.unwrap_or(fresh);
        let known_lost: BTreeSet<Id> =
            had.into_iter().filter(|id| !store.had.contains(id) && !self.left.contains(id)).collect();
        match judgement.finding {
            Finding::OldWitness => {}
            Finding::Sound => {
                prop_assert!(
                    known_lost.is_empty(),
                    "lost without a word: {known_lost:?}, {judgement:?} of {state:?} and {witness:?}"
                );
                let unknown = witness_is != Is::There && !is_new;
                prop_assert!(!unknown, "a store without a witness is called sound");
            }
            Finding::WentBack(back) => {
                // All of it, unless the disk had been put back before: then at least something.
                let told = back.first_missing..=back.last;
                let untold = known_lost.iter().find(|(_, sequence)| !told.contains(sequence));
                prop_assert!(
                    untold.is_none() || self.put_back,
                    "{untold:?} is missing, {back:?} does not say so"
                );
                // What was told of once need not be told again.
                self.left.extend(known_lost);
            }
            Finding::NoWitness => {
                prop_assert!(witness_is != Is::Gone || !is_new);
                // That something may be missing was said.
                self.left.extend(self.given.iter().filter(|id| !store.had.contains(id)));
            }
        }
        self.put_back |= store_back > 0 || witness_back > 0 || witness_is != Is::There;
        prop_assert!(judgement.first_sequence >= store.next);
        let ended_at = std::mem::replace(&mut store.next, judgement.first_sequence);
        let epoch = self.draw();
        let gateway = gateway();
        store.before = store.origins.last().map(|origin| Before { epoch: origin.epoch, ended_at });
        store.origins.retain(|origin| origin.first_sequence != store.next);
        store.origins.push(Origin { first_sequence: store.next, epoch, gateway });
        self.push(store, true, false);
        Ok(())
    }

    /// The disk as it is now; without the witness's last page if the power was cut.
    fn push(&mut self, store: Store, witness_written: bool, is_clean: bool) {
        let opening = store.origins.last().expect("it was opened");
        let mark = Mark {
            store: store.store,
            opening: opening.epoch,
            opened_at: opening.first_sequence,
            durable_before: store.next,
            settled_before: store.queued.iter().map(|id| id.1).min().unwrap_or(store.next),
            dead: Cover::default(),
            is_clean,
        };
        let before = self.witnesses.last().cloned().expect("there is one for each state");
        self.witnesses.push(if witness_written { (Found::Mark(mark), store.had.clone()) } else { before });
        self.stores.push(Some(store));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_states_come_back_no_id_is_given_twice_and_no_known_loss_is_silent(
        steps in proptest::collection::vec(any_step(), 1..60),
    ) {
        let nothing = (Found::Nothing, BTreeSet::new());
        let mut world = World {
            stores: vec![None],
            witnesses: vec![nothing],
            given: HashSet::new(),
            left: HashSet::new(),
            epochs: 0,
            put_back: false,
        };
        world.open(0, 0, Is::There)?;
        for step in steps {
            let mut store = world.stores.last().cloned().flatten().expect("it was opened");
            let epoch = store.origins.last().expect("it was opened").epoch.0;
            match step {
                Step::Append { count, witness_written } => {
                    for sequence in store.next..store.next + count {
                        prop_assert!(world.given.insert((epoch, sequence)), "an id was given twice");
                        store.queued.insert((epoch, sequence));
                        store.had.insert((epoch, sequence));
                    }
                    store.next += count;
                    world.push(store, witness_written, false);
                }
                Step::Settle(count) => {
                    // The oldest first, as the drainer does.
                    let mut oldest: Vec<Id> = store.queued.iter().copied().collect();
                    oldest.sort_by_key(|id| id.1);
                    oldest.truncate(count as usize);
                    store.queued.retain(|id| !oldest.contains(id));
                    world.left.extend(oldest);
                    world.push(store, true, false);
                }
                Step::Close => world.push(store, true, true),
                Step::Open { store_back, witness_back, witness_is } => {
                    world.open(store_back, witness_back, witness_is)?;
                }
            }
        }
    }
}
