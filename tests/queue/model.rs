//! Random histories: the store and the model do the same, through crashes.

use hr_gateway::config::{DrainOrder, WhenFull};
use hr_gateway::queue::capacity::Capacity;
use hr_gateway::queue::durable::DurableQueue;
use hr_gateway::queue::model::ModelQueue;
use hr_gateway::queue::segment::SegmentCodec;
use hr_gateway::queue::sequence_set::SequenceSet;
use hr_gateway::queue::{ReadingQueue, audit, status};
use hr_gateway::reading::{Epoch, Item, Observation};
use proptest::prelude::*;

use crate::support::draining::gateway;
use crate::support::reading;

#[derive(Debug, Clone)]
enum Step {
    Append(u8, u16),
    /// Removes a share of what is queued: every nth, beginning at one.
    Remove(u8, u8),
    /// Some readings come and go, as when nothing waits.
    Live(u8, u16),
    /// What was removed last is removed once more.
    RemoveAgain,
    Audit,
    DeadLetter(u8),
    Requeue(u8),
    Drop(u8),
    Crash,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..4, 1u16..300).prop_map(|(sensor, count)| Step::Append(sensor, count)),
        4 => (1u8..5, any::<u8>()).prop_map(|(every, from)| Step::Remove(every, from)),
        6 => (0u8..4, 1u16..9).prop_map(|(sensor, count)| Step::Live(sensor, count)),
        1 => Just(Step::RemoveAgain),
        1 => Just(Step::Audit),
        1 => any::<u8>().prop_map(Step::DeadLetter),
        1 => any::<u8>().prop_map(Step::Requeue),
        1 => any::<u8>().prop_map(Step::Drop),
        2 => Just(Step::Crash),
    ]
}

fn some_of(queue: &dyn ReadingQueue, every: u8, from: u8) -> SequenceSet {
    let items = queue.peek(DrainOrder::OldestFirst, &SequenceSet::default(), usize::MAX).unwrap();
    let from = usize::from(from) % items.len().max(1);
    items.iter().skip(from).step_by(usize::from(every)).take(400).map(|item| item.sequence).collect()
}

fn ranges(items: &[Item]) -> Vec<std::ops::RangeInclusive<u64>> {
    items.iter().map(|item| item.sequence).collect::<SequenceSet>().ranges().collect()
}

fn some_dead(queue: &dyn ReadingQueue, from: u8) -> SequenceSet {
    let letters = queue.dead_letters(0, usize::MAX).unwrap();
    let from = usize::from(from) % letters.len().max(1);
    letters.iter().skip(from).step_by(2).map(|letter| letter.item.sequence).collect()
}

fn play(steps: Vec<Step>, capacity: Capacity) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let open =
        || DurableQueue::open(folder.path(), capacity, SegmentCodec::default(), &gateway()).unwrap().queue;
    let mut store = open();
    let model = ModelQueue::new(capacity, gateway(), Epoch(0));
    let mut second = 0;
    let mut removed = SequenceSet::default();
    for step in steps {
        match step {
            Step::Live(name, count) => {
                let batch: Vec<Observation> =
                    (0..u64::from(count)).map(|n| reading(&format!("s{name}"), second + n)).collect();
                second += u64::from(count);
                prop_assert_eq!(store.append(&batch).unwrap(), model.append(&batch).unwrap());
                let newest =
                    store.peek(DrainOrder::NewestFirst, &SequenceSet::default(), batch.len()).unwrap();
                removed = newest.iter().map(|item| item.sequence).collect();
                store.remove(&removed).unwrap();
                model.remove(&removed).unwrap();
            }
            Step::RemoveAgain => {
                store.remove(&removed).unwrap();
                model.remove(&removed).unwrap();
            }
            Step::Audit => prop_assert_eq!(audit(&store).unwrap(), audit(&model).unwrap()),
            Step::Append(name, count) => {
                let name = format!("s{name}");
                let batch: Vec<Observation> =
                    (0..u64::from(count)).map(|n| reading(&name, second + n)).collect();
                second += u64::from(count);
                prop_assert_eq!(store.append(&batch).unwrap(), model.append(&batch).unwrap());
            }
            Step::Remove(every, from) => {
                let chosen = some_of(&model, every, from);
                store.remove(&chosen).unwrap();
                model.remove(&chosen).unwrap();
                removed = chosen;
            }
            Step::DeadLetter(from) => {
                let chosen = some_of(&model, 50, from);
                store.dead_letter(&chosen, "no").unwrap();
                model.dead_letter(&chosen, "no").unwrap();
            }
            Step::Requeue(from) => {
                let chosen = some_dead(&model, from);
                prop_assert_eq!(store.requeue(&chosen).unwrap(), model.requeue(&chosen).unwrap());
            }
            Step::Drop(from) => {
                let chosen = some_dead(&model, from);
                prop_assert_eq!(
                    store.drop_dead_letters(&chosen).unwrap(),
                    model.drop_dead_letters(&chosen).unwrap()
                );
            }
            Step::Crash => {
                // Removals need not survive one; made durable, they must.
                store.sync().unwrap();
                drop(store);
                store = open();
            }
        }
        prop_assert_eq!(store.ledger(), model.ledger());
        for order in [DrainOrder::OldestFirst, DrainOrder::NewestFirst] {
            let claimed = some_of(&model, 3, 1);
            let (there, expected) =
                (store.peek(order, &claimed, 700).unwrap(), model.peek(order, &claimed, 700).unwrap());
            prop_assert!(
                there == expected,
                "{order:?}: {:?} instead of {:?}",
                ranges(&there),
                ranges(&expected)
            );
        }
        prop_assert!(store.dead_letters(0, 1_000).unwrap() == model.dead_letters(0, 1_000).unwrap());
    }
    prop_assert_eq!(audit(&store).unwrap(), audit(&model).unwrap());
    prop_assert!(status(&store).unwrap().balances);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_roomy_store_does_what_the_model_does(steps in proptest::collection::vec(any_step(), 1..40)) {
        play(steps, Capacity { items_max: 1_000_000, disk_headroom: 0, when_full: WhenFull::DropOldest })?;
    }

    #[test]
    fn a_small_store_does_what_the_model_does(
        steps in proptest::collection::vec(any_step(), 1..40),
        newest in any::<bool>(),
    ) {
        let when_full = if newest { WhenFull::DropNewest } else { WhenFull::DropOldest };
        play(steps, Capacity { items_max: 900, disk_headroom: 0, when_full })?;
    }
}
