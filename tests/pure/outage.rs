//! When a failing sink is asked again, at the very edges.

use std::time::Duration;

use hr_gateway::backoff::Backoff;
use hr_gateway::drainer::outage::Outage;
use hr_gateway::drainer::settle::{CallError, ErrorClass, Transition};

const RANDOM: f64 = 0.5;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn outage() -> Outage {
    let backoff = |base, ceiling| Backoff::new(ms(base), ms(ceiling)).unwrap();
    Outage::new(backoff(100, 2_000), backoff(1_000, 60_000))
}

fn failure(class: ErrorClass, code: &str) -> CallError {
    CallError { class, code: code.into(), message: String::new() }
}

#[test]
fn calls_of_one_volley_are_one_try_and_the_next_call_is_another() {
    let mut outage = outage();
    let fail = |outage: &mut Outage, now| {
        outage.failed(failure(ErrorClass::Transient, "Timeout"), now, RANDOM);
        outage.probe_at().unwrap()
    };
    assert_eq!(outage.probe_at(), None);
    assert_eq!(fail(&mut outage, ms(0)), ms(50));
    assert_eq!(fail(&mut outage, ms(49)), ms(50));
    assert_eq!(fail(&mut outage, ms(50)), ms(50 + 100));
    assert_eq!(fail(&mut outage, ms(150)), ms(150 + 200));
    assert!(
        matches!(outage.end(ms(400)), Some(Transition::Recovered { from: ErrorClass::Transient, after }) if after == ms(400))
    );
    assert_eq!(outage.probe_at(), None);
    assert!(outage.end(ms(500)).is_none());
    assert_eq!(fail(&mut outage, ms(500)), ms(550), "from the beginning again");
}

#[test]
fn what_needs_a_person_puts_the_next_call_off_also_within_a_volley_and_once() {
    let mut outage = outage();
    outage.failed(failure(ErrorClass::Transient, "Timeout"), ms(0), RANDOM);
    outage.failed(failure(ErrorClass::Blocked, "AccessDenied"), ms(1), RANDOM);
    assert_eq!(outage.probe_at(), Some(ms(501)));
    outage.failed(failure(ErrorClass::Blocked, "AccessDenied"), ms(2), RANDOM);
    outage.failed(failure(ErrorClass::Transient, "Timeout"), ms(3), RANDOM);
    assert_eq!(outage.probe_at(), Some(ms(501)));
}

#[test]
fn calls_that_go_through_for_nothing_are_told_of_after_ten_seconds_and_once() {
    let mut outage = outage();
    assert!(outage.barren(ms(1_000)).is_none());
    assert!(outage.barren(ms(6_000)).is_none());
    assert!(outage.barren(ms(10_999)).is_none());
    assert!(matches!(outage.barren(ms(11_000)), Some(Transition::Failing(_))));
    assert!(outage.barren(ms(12_000)).is_none());
    assert!(matches!(outage.end(ms(13_000)), Some(Transition::Recovered { .. })));
    assert!(outage.barren(ms(14_000)).is_none(), "counted from the beginning again");
}

#[test]
fn of_failures_in_turn_each_is_told_once_until_it_is_over() {
    let mut outage = outage();
    let mut fail = |class, code: &str| outage.failed(failure(class, code), ms(0), RANDOM);
    assert!(matches!(fail(ErrorClass::Transient, "Timeout"), Some(Transition::Failing(_))));
    assert!(fail(ErrorClass::Transient, "Timeout").is_none());
    assert!(matches!(fail(ErrorClass::Throttled, "429"), Some(Transition::Failing(_))));
    assert!(matches!(fail(ErrorClass::Transient, "502"), Some(Transition::FailingAgain(_))));
    assert!(matches!(fail(ErrorClass::Blocked, "AccessDenied"), Some(Transition::Failing(_))));
    assert!(matches!(fail(ErrorClass::Blocked, "ExpiredToken"), Some(Transition::Failing(_))));
    assert!(matches!(fail(ErrorClass::Blocked, "AccessDenied"), Some(Transition::FailingAgain(_))));
}
