//! The per-sensor state machine, driven by hand.

use hr_gateway::ble::lifecycle::{Absence, Action, Failure, Lifecycle, NoAdapter, Outcome, Report};
use hr_gateway::reading::GapReason;
use proptest::prelude::*;

fn done(lifecycle: &mut Lifecycle) -> Action {
    lifecycle.handle(Outcome::Done, 0.5)
}

fn fail(lifecycle: &mut Lifecycle, failure: Failure) -> Action {
    lifecycle.handle(Outcome::Failed(failure), 0.5)
}

fn ended(lifecycle: &mut Lifecycle, why: GapReason, notifications: u64) -> Action {
    lifecycle.handle(Outcome::Ended { why, notifications }, 0.5)
}

fn streaming(bond: bool) -> Lifecycle {
    let mut lifecycle = Lifecycle::new(bond);
    while lifecycle.action() != Action::Stream {
        done(&mut lifecycle);
    }
    lifecycle.handle_first_notification();
    assert_eq!(lifecycle.take_report(), Some(Report::Streaming));
    lifecycle
}

#[test]
fn the_way_up_is_attach_find_connect_bond_subscribe_stream() {
    let mut lifecycle = Lifecycle::new(true);
    assert_eq!(lifecycle.action(), Action::Attach);
    let way: Vec<Action> = (0..5).map(|_| done(&mut lifecycle)).collect();
    assert_eq!(way, [Action::Find, Action::Connect, Action::Bond, Action::Subscribe, Action::Stream]);
}

#[test]
fn a_sensor_that_is_not_there_is_looked_for_and_never_climbs_the_ladder() {
    let mut lifecycle = Lifecycle::new(false);
    done(&mut lifecycle);
    for round in 0..100 {
        assert!(matches!(fail(&mut lifecycle, Failure::Absent(Absence::NotSeen)), Action::Wait(_)));
        assert_eq!(
            lifecycle.take_report(),
            (round == 0).then_some(Report::Absent(Absence::NotSeen)),
            "said once"
        );
        assert_eq!(done(&mut lifecycle), Action::Find);
    }
}

#[test]
fn what_cannot_be_had_for_another_reason_is_told_when_the_reason_changes() {
    let mut lifecycle = Lifecycle::new(false);
    done(&mut lifecycle);
    for why in [Absence::Stranger, Absence::Ambiguous, Absence::LongerName, Absence::NoLinkLeft] {
        for round in 0..3 {
            assert!(matches!(fail(&mut lifecycle, Failure::Absent(why)), Action::Wait(_)));
            assert_eq!(lifecycle.take_report(), (round == 0).then_some(Report::Absent(why)));
            assert_eq!(done(&mut lifecycle), Action::Find);
        }
    }
}

#[test]
fn what_comes_and_goes_is_told_once_until_readings_flow_again() {
    let mut lifecycle = Lifecycle::new(false);
    done(&mut lifecycle);
    let mut told = Vec::new();
    for round in 0..10 {
        let why = [Absence::NotSeen, Absence::Stranger][round % 2];
        fail(&mut lifecycle, Failure::Absent(why));
        told.extend(lifecycle.take_report());
        done(&mut lifecycle);
    }
    assert_eq!(told, [Absence::NotSeen, Absence::Stranger].map(Report::Absent));
    while lifecycle.action() != Action::Stream {
        done(&mut lifecycle);
    }
    lifecycle.handle_first_notification();
    ended(&mut lifecycle, GapReason::LinkDown, 1);
    done(&mut lifecycle);
    lifecycle.take_report();
    fail(&mut lifecycle, Failure::Absent(Absence::NotSeen));
    assert_eq!(lifecycle.take_report(), Some(Report::Absent(Absence::NotSeen)));
}

#[test]
fn a_sensor_that_another_program_holds_is_waited_for_and_nothing_is_cut() {
    let mut lifecycle = Lifecycle::new(false);
    for round in 0..20 {
        while lifecycle.action() != Action::Subscribe {
            let action = done(&mut lifecycle);
            assert!(
                !matches!(action, Action::Disconnect | Action::Forget | Action::PowerCycle),
                "{action:?}"
            );
        }
        assert_eq!(fail(&mut lifecycle, Failure::Held), Action::Release);
        assert_eq!(lifecycle.take_report(), (round == 0).then_some(Report::Held));
        assert!(matches!(done(&mut lifecycle), Action::Wait(_)));
    }
}

#[test]
fn services_that_are_not_as_stored_lead_to_another_bond_before_anything_else() {
    let mut lifecycle = Lifecycle::new(true);
    let mut climbed = Vec::new();
    for _ in 0..3 {
        while lifecycle.action() != Action::Subscribe {
            done(&mut lifecycle);
        }
        assert_eq!(fail(&mut lifecycle, Failure::StaleServices), Action::Disconnect);
        climbed.push(done(&mut lifecycle));
    }
    assert_eq!(lifecycle.take_report(), Some(Report::Failing(Failure::StaleServices)));
    assert_eq!(climbed[1..], [Action::BondAnew, Action::Forget]);
}

#[test]
fn a_lost_link_is_closed_explicitly_before_it_is_looked_for_again() {
    let mut lifecycle = streaming(false);
    assert_eq!(ended(&mut lifecycle, GapReason::LinkDown, 100), Action::Disconnect);
    assert_eq!(lifecycle.take_report(), Some(Report::LinkLost));
    assert_eq!(done(&mut lifecycle), Action::Find);
}

#[test]
fn silence_subscribes_again_on_the_same_link_first_and_reconnects_then() {
    let mut lifecycle = streaming(false);
    assert_eq!(ended(&mut lifecycle, GapReason::SensorSilent, 5), Action::Subscribe);
    assert_eq!(done(&mut lifecycle), Action::Stream);
    assert_eq!(ended(&mut lifecycle, GapReason::SensorSilent, 0), Action::Disconnect);
}

#[test]
fn failures_climb_every_rung_and_a_reading_brings_them_down() {
    let mut lifecycle = Lifecycle::new(false);
    done(&mut lifecycle);
    let mut climbed = Vec::new();
    for _ in 0..7 {
        while lifecycle.action() != Action::Connect {
            done(&mut lifecycle);
        }
        assert_eq!(fail(&mut lifecycle, Failure::Timeout), Action::Disconnect);
        climbed.push(done(&mut lifecycle));
    }
    let position = |rung| climbed.iter().position(|action| *action == rung);
    assert!(matches!(climbed[0], Action::Wait(_)));
    assert_eq!(position(Action::Forget), Some(2));
    assert_eq!(position(Action::PowerCycle), Some(5));
    assert_eq!(lifecycle.take_report(), Some(Report::Failing(Failure::Timeout)));
    while lifecycle.action() != Action::Stream {
        done(&mut lifecycle);
    }
    lifecycle.handle_first_notification();
    ended(&mut lifecycle, GapReason::LinkDown, 1);
    assert_eq!(done(&mut lifecycle), Action::Find, "from the bottom again");
}

#[test]
fn links_that_drop_before_they_bring_anything_climb_too() {
    let mut lifecycle = streaming(false);
    let mut actions = Vec::new();
    for _ in 0..6 {
        actions.push(ended(&mut lifecycle, GapReason::LinkDown, 0));
        while lifecycle.action() != Action::Stream {
            actions.push(done(&mut lifecycle));
        }
    }
    assert!(actions.contains(&Action::Forget) && actions.contains(&Action::PowerCycle));
}

#[test]
fn a_bond_is_not_removed_because_connecting_fails() {
    let mut lifecycle = Lifecycle::new(true);
    done(&mut lifecycle);
    for _ in 0..30 {
        while lifecycle.action() != Action::Connect {
            done(&mut lifecycle);
            assert_ne!(lifecycle.action(), Action::BondAnew);
        }
        fail(&mut lifecycle, Failure::Timeout);
    }
}

#[test]
fn without_an_adapter_it_waits_and_attaches_anew() {
    let mut lifecycle = streaming(false);
    assert!(matches!(ended(&mut lifecycle, GapReason::AdapterGone, 3), Action::Wait(_)));
    assert_eq!(lifecycle.take_report(), Some(Report::LinkLost), "another adapter may be there");
    assert_eq!(done(&mut lifecycle), Action::Attach);
    for why in [NoAdapter::Missing, NoAdapter::Blocked, NoAdapter::NoBluetoothd] {
        for round in 0..3 {
            assert!(matches!(fail(&mut lifecycle, Failure::NoAdapter(why)), Action::Wait(_)));
            assert_eq!(lifecycle.take_report(), (round == 0).then_some(Report::NoAdapter(why)));
            assert_eq!(done(&mut lifecycle), Action::Attach);
        }
    }
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let failure = prop_oneof![
        Just(Failure::Absent(Absence::NotSeen)),
        Just(Failure::NoAdapter(NoAdapter::Missing)),
        Just(Failure::Held),
        Just(Failure::StaleServices),
        Just(Failure::BondNeeded),
        Just(Failure::NoHeartRate),
        Just(Failure::Timeout),
        Just(Failure::Other),
    ];
    let why =
        prop_oneof![Just(GapReason::LinkDown), Just(GapReason::SensorSilent), Just(GapReason::AdapterGone)];
    prop_oneof![
        3 => Just(Outcome::Done),
        2 => failure.prop_map(Outcome::Failed),
        1 => (why, 0u64..3).prop_map(|(why, notifications)| Outcome::Ended { why, notifications }),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_it_comes_back_to_streaming_when_things_work_again(
        bond in any::<bool>(),
        outcomes in proptest::collection::vec((any_outcome(), 0.0f64..1.0), 0..80),
    ) {
        let mut lifecycle = Lifecycle::new(bond);
        let mut linked = false;
        for (outcome, random) in outcomes {
            // Only a stream ends by itself, and it only ends.
            let outcome = match (lifecycle.action(), outcome) {
                (Action::Stream, Outcome::Ended { .. }) => outcome,
                (Action::Stream, _) => Outcome::Ended { why: GapReason::LinkDown, notifications: 1 },
                (_, Outcome::Ended { .. }) => Outcome::Done,
                _ => outcome,
            };
            let gone = matches!(outcome, Outcome::Failed(Failure::NoAdapter(_)) | Outcome::Ended { why: GapReason::AdapterGone, .. });
            match lifecycle.action() {
                Action::Connect => linked = outcome == Outcome::Done,
                Action::Disconnect | Action::Release => linked = false,
                _ if gone => linked = false,
                _ => {}
            }
            let next = lifecycle.handle(outcome, random);
            prop_assert!(!(linked && matches!(next, Action::Find | Action::Forget | Action::BondAnew | Action::PowerCycle | Action::Wait(_))),
                "{next:?} while a link stands");
            if let Action::Wait(pause) = next {
                prop_assert!(pause <= std::time::Duration::from_secs(20));
            }
        }
        let steps = (0..12).find(|_| {
            let outcome = match lifecycle.action() {
                Action::Stream => return true,
                _ => Outcome::Done,
            };
            lifecycle.handle(outcome, 0.5);
            false
        });
        prop_assert!(steps.is_some(), "stuck at {:?}", lifecycle.action());
    }
}
