//! When the queue is full, at the very edges.

use hr_gateway::config::WhenFull;
use hr_gateway::queue::capacity::{Admission, Capacity, EVICT_CHUNK_MAX, FLOWING_ITEMS};

const BOUNDED: Capacity =
    Capacity { items_max: 1_000, disk_headroom: 4_000, when_full: WhenFull::DropOldest };
/// A sixty-fourth of the limit gives way at once.
const CHUNK: u64 = 15;

#[test]
fn the_last_item_that_fits_is_accepted() {
    assert_eq!(BOUNDED.admit(999, 1, 4_000), Admission::Accept);
    assert_eq!(BOUNDED.admit(1_000, 1, 4_000), Admission::Evict(CHUNK));
    assert_eq!(BOUNDED.admit(990, 26, 4_000), Admission::Evict(2 * CHUNK));
    // No more than there is, unless what comes is itself too much.
    let small = Capacity { items_max: 100, ..BOUNDED };
    assert_eq!(small.admit(0, 250, 4_000), Admission::Evict(150));
    let large = Capacity { items_max: 1 << 20, ..BOUNDED };
    assert_eq!(large.admit(1 << 20, 1, 4_000), Admission::Evict(EVICT_CHUNK_MAX));
}

#[test]
fn what_shall_take_no_readings_place_wants_room_to_spare() {
    assert!(BOUNDED.has_room_to_spare(875, 4_000) && !BOUNDED.has_room_to_spare(876, 4_000));
    let small = Capacity { items_max: 100, ..BOUNDED };
    assert!(small.has_room_to_spare(88, 4_000) && !small.has_room_to_spare(89, 4_000));
    let large = Capacity { items_max: 1 << 20, ..BOUNDED };
    assert!(
        large.has_room_to_spare((1 << 20) - 1_000, 4_000) && !large.has_room_to_spare((1 << 20) - 999, 4_000)
    );
    assert!(!large.has_room_to_spare(FLOWING_ITEMS, 3_999), "nor on a disk that is nearly full");
    let newest = Capacity { when_full: WhenFull::DropNewest, ..BOUNDED };
    assert!(!newest.has_room_to_spare(1_000, 4_000));
}

#[test]
fn what_comes_last_gives_way_where_that_is_wanted() {
    let newest = Capacity { when_full: WhenFull::DropNewest, ..BOUNDED };
    assert_eq!(newest.admit(998, 5, 4_000), Admission::AcceptFirst(2));
    assert_eq!(newest.admit(1_000, 5, 4_000), Admission::AcceptFirst(0));
    assert_eq!(newest.admit(1_500, 5, 4_000), Admission::AcceptFirst(0));
}

#[test]
fn below_the_headroom_it_grows_no_more_but_for_what_is_on_its_way() {
    assert_eq!(BOUNDED.admit(FLOWING_ITEMS - 1, 1, 3_999), Admission::Accept);
    assert_eq!(BOUNDED.admit(FLOWING_ITEMS, 1, 3_999), Admission::Evict(CHUNK));
    assert_eq!(BOUNDED.admit(FLOWING_ITEMS, 1, 4_000), Admission::Accept);
    assert_eq!(BOUNDED.admit(700, 1, 3_999), Admission::Evict(CHUNK));
    let tiny = Capacity { items_max: 100, ..BOUNDED };
    assert_eq!(tiny.admit(100, 1, 3_999), Admission::Evict(1));
}

#[test]
fn below_a_quarter_of_the_headroom_nothing_is_written() {
    assert_eq!(BOUNDED.admit(0, 1, 1_000), Admission::Accept);
    assert_eq!(BOUNDED.admit(0, 1, 999), Admission::Refuse);
}

#[test]
fn an_episode_is_over_with_an_eighth_free_and_the_headroom() {
    assert!(BOUNDED.has_recovered(875, 4_000));
    assert!(!BOUNDED.has_recovered(876, 4_000));
    assert!(!BOUNDED.has_recovered(875, 3_999));
}
