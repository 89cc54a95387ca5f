//! By which adapter a sensor is reached.

use std::time::Duration;

use hr_gateway::ble::adapters::{Offer, Pool};
use hr_gateway::config::Address;

const STRAP: Address = Address([0xC0, 0, 0, 0, 0, 1]);
const OTHER: Address = Address([0xC0, 0, 0, 0, 0, 2]);
const NOW: Duration = Duration::from_secs(100_000);

fn offer(adapter: &str, rssi: i16) -> Offer<'_> {
    Offer { adapter, rssi: Some(rssi), connecting: 0, links: 0 }
}

#[test]
fn the_one_that_hears_it_loudest_is_chosen_and_of_equals_the_one_with_fewer_links() {
    let pool = Pool::default();
    assert_eq!(pool.choose(STRAP, &[offer("hci0", -80), offer("hci1", -60)], NOW), Some("hci1"));
    assert_eq!(
        pool.choose(STRAP, &[Offer { rssi: None, ..offer("hci0", 0) }, offer("hci1", -90)], NOW),
        Some("hci1")
    );
    for links in [(2, 1), (1, 2)] {
        let offers =
            [Offer { links: links.0, ..offer("hci0", -60) }, Offer { links: links.1, ..offer("hci1", -60) }];
        let chosen = if links.0 < links.1 { "hci0" } else { "hci1" };
        assert_eq!(pool.choose(STRAP, &offers, NOW), Some(chosen));
    }
    assert_eq!(pool.choose(STRAP, &[], NOW), None);
}

#[test]
fn one_that_is_connecting_yields_to_the_next() {
    let pool = Pool::default();
    let busy = Offer { connecting: 1, ..offer("hci0", -60) };
    assert_eq!(pool.choose(STRAP, &[busy, offer("hci1", -75)], NOW), Some("hci1"));
    assert_eq!(pool.choose(STRAP, &[busy], NOW), Some("hci0"), "there is no other");
}

#[test]
fn after_two_failures_with_a_sensor_the_other_is_tried_and_a_success_ends_that() {
    let mut pool = Pool::default();
    let offers = [offer("hci0", -60), offer("hci1", -80)];
    pool.failed("hci0", STRAP);
    assert_eq!(pool.choose(STRAP, &offers, NOW), Some("hci0"), "once may be chance");
    pool.failed("hci0", STRAP);
    assert_eq!(pool.choose(STRAP, &offers, NOW), Some("hci1"));
    assert_eq!(pool.choose(OTHER, &offers, NOW), Some("hci0"), "another sensor is not concerned");
    pool.succeeded("hci0", STRAP);
    assert_eq!(pool.choose(STRAP, &offers, NOW), Some("hci0"));
}

#[test]
fn with_both_failing_they_take_turns() {
    let mut pool = Pool::default();
    let offers = [offer("hci0", -60), offer("hci1", -64)];
    let mut tried = Vec::new();
    for _ in 0..12 {
        let adapter = pool.choose(STRAP, &offers, NOW).unwrap();
        tried.push(adapter);
        pool.failed(adapter, STRAP);
    }
    let first = tried.iter().filter(|adapter| **adapter == "hci0").count();
    assert!((4..=8).contains(&first), "{tried:?}");
}

#[test]
fn one_that_refused_twice_with_all_its_links_taken_is_full_until_one_is_free() {
    let mut pool = Pool::default();
    let with = |links| Offer { links, ..offer("hci0", -50) };
    pool.refused("hci0", STRAP, 5, NOW);
    assert_eq!(pool.choose(STRAP, &[with(5)], NOW), Some("hci0"), "once may be chance");
    pool.refused("hci0", STRAP, 5, NOW);
    assert_eq!(pool.choose(STRAP, &[with(5)], NOW), None);
    assert_eq!(pool.choose(OTHER, &[with(5)], NOW), Some("hci0"), "the strap may be at fault");
    assert_eq!(pool.choose(STRAP, &[with(5), offer("hci1", -99)], NOW), Some("hci1"));
    assert_eq!(pool.choose(STRAP, &[with(4)], NOW), Some("hci0"));
    assert_eq!(
        pool.choose(STRAP, &[with(4), offer("hci1", -53)], NOW),
        Some("hci1"),
        "its last is kept back"
    );
    assert_eq!(pool.choose(STRAP, &[with(5)], NOW + Duration::from_secs(60)), Some("hci0"), "tried again");
    let mut pool = Pool::default();
    (0..9).for_each(|_| pool.refused("hci0", STRAP, 2, NOW));
    assert_eq!(
        pool.choose(STRAP, &[with(2)], NOW),
        Some("hci0"),
        "every adapter has three: it is something else"
    );
}

#[test]
fn a_power_cycle_needs_an_adapter_without_links_and_comes_three_times_a_day() {
    let mut pool = Pool::default();
    let hour = Duration::from_secs(3600);
    assert!(!pool.take_power_cycle("hci0", 1, NOW), "somebody has a link over it");
    assert!((0..3).all(|n| pool.take_power_cycle("hci0", 0, NOW + n * hour)));
    assert!(!pool.take_power_cycle("hci0", 0, NOW + 3 * hour));
    assert!(pool.take_power_cycle("hci1", 0, NOW + 3 * hour), "another adapter");
    assert!(!pool.take_power_cycle("hci0", 0, NOW + 23 * hour + 59 * hour / 60));
    assert!(pool.take_power_cycle("hci0", 0, NOW + 24 * hour));
    assert!(!pool.take_power_cycle("hci0", 0, NOW + 24 * hour));
}
