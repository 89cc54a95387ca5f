//! SequenceSet against a set of integers.

use std::collections::BTreeSet;

use hr_gateway::queue::sequence_set::SequenceSet;
use proptest::prelude::*;

proptest! {
    #[test]
    fn it_is_a_set_of_integers(
        operations in proptest::collection::vec((any::<bool>(), 0u64..60, 0u64..12), 0..60),
        probe in 0u64..80,
    ) {
        let mut set = SequenceSet::default();
        let mut plain = BTreeSet::new();
        for (insert, start, length) in operations {
            if insert {
                if start.is_multiple_of(2) {
                    set.insert_range(start..=start + length);
                } else {
                    set.extend(start..=start + length);
                }
                plain.extend(start..=start + length);
            } else {
                set.remove_range(start..=start + length);
                plain.retain(|n| !(start..=start + length).contains(n));
            }
        }
        prop_assert_eq!(set.ranges().flatten().collect::<Vec<_>>(), plain.iter().copied().collect::<Vec<_>>());
        prop_assert_eq!(set.count(), plain.len() as u64);
        prop_assert_eq!(set.is_empty(), plain.is_empty());
        prop_assert_eq!(set.contains(probe), plain.contains(&probe));
        prop_assert_eq!(set.first_at_or_after(probe), plain.range(probe..).next().copied());
        prop_assert_eq!(set.first_absent_from(probe), (probe..).find(|n| !plain.contains(n)));
        prop_assert_eq!(set.last_absent_until(probe), (0..=probe).rev().find(|n| !plain.contains(n)));
        let fewest = set.ranges().collect::<Vec<_>>();
        prop_assert!(fewest.windows(2).all(|pair| pair[0].end() + 1 < *pair[1].start()), "{:?}", fewest);
    }
}

#[test]
fn the_last_sequence_of_all_does_not_overflow() {
    let mut set = SequenceSet::from_iter([u64::MAX]);
    assert_eq!(set.first_absent_from(u64::MAX), None);
    assert_eq!(set.last_absent_until(u64::MAX), Some(u64::MAX - 1));
    set.remove_range(0..=u64::MAX);
    assert!(set.is_empty());
}

#[test]
fn runs_and_single_sequences_may_be_mixed() {
    let set = SequenceSet::from_iter([5, 6, 7, 1, 2, 9, 8, u64::MAX]);
    assert_eq!(set.ranges().collect::<Vec<_>>(), [1..=2, 5..=9, u64::MAX..=u64::MAX]);
}
