//! The per-sensor state machine, driven by hand.

use hr_gateway::ble::session::{Action, Failure, Outcome, Report, SensorSession};
use hr_gateway::reading::GapReason;
use proptest::prelude::*;

fn done(session: &mut SensorSession) -> Action {
    session.handle(Outcome::Done, 0.5)
}

fn fail(session: &mut SensorSession, failure: Failure) -> Action {
    session.handle(Outcome::Failed(failure), 0.5)
}

fn ended(session: &mut SensorSession, why: GapReason, notifications: u64) -> Action {
    session.handle(Outcome::Ended { why, notifications }, 0.5)
}

fn streaming(bond: bool) -> SensorSession {
    let mut session = SensorSession::new(bond);
    while session.action() != Action::Stream {
        done(&mut session);
    }
    session.handle_first_notification();
    assert_eq!(session.take_report(), Some(Report::Streaming));
    session
}

#[test]
fn the_way_up_is_attach_find_connect_bond_subscribe_stream() {
    let mut session = SensorSession::new(true);
    assert_eq!(session.action(), Action::Attach);
    let way: Vec<Action> = (0..5).map(|_| done(&mut session)).collect();
    assert_eq!(way, [Action::Find, Action::Connect, Action::Bond, Action::Subscribe, Action::Stream]);
}

#[test]
fn a_sensor_that_is_not_there_is_looked_for_and_never_climbs_the_ladder() {
    let mut session = SensorSession::new(false);
    done(&mut session);
    for round in 0..100 {
        assert!(matches!(fail(&mut session, Failure::NotSeen), Action::Wait(_)));
        assert_eq!(session.take_report(), (round == 0).then_some(Report::Searching), "said once");
        assert_eq!(done(&mut session), Action::Find);
    }
}

#[test]
fn a_scan_that_hangs_is_tried_over_another_connection_and_blamed_on_the_adapter() {
    let mut session = SensorSession::new(false);
    let mut reports = Vec::new();
    for _ in 0..7 {
        assert_eq!(session.action(), Action::Attach);
        assert_eq!(done(&mut session), Action::Find);
        let next = fail(&mut session, Failure::Timeout);
        assert!(matches!(next, Action::Wait(_) | Action::PowerCycle), "{next:?}");
        done(&mut session);
        reports.extend(session.take_report());
    }
    assert_eq!(reports, [Report::CannotScan(Failure::Timeout)]);
}

#[test]
fn a_lost_link_is_closed_explicitly_before_it_is_looked_for_again() {
    let mut session = streaming(false);
    assert_eq!(ended(&mut session, GapReason::LinkDown, 100), Action::Disconnect);
    assert_eq!(session.take_report(), Some(Report::LinkLost));
    assert_eq!(done(&mut session), Action::Find);
}

#[test]
fn silence_subscribes_again_on_the_same_link_first_and_reconnects_then() {
    let mut session = streaming(false);
    assert_eq!(ended(&mut session, GapReason::SensorSilent, 5), Action::Subscribe);
    assert_eq!(done(&mut session), Action::Stream);
    assert_eq!(ended(&mut session, GapReason::SensorSilent, 0), Action::Disconnect);
}

#[test]
fn failures_climb_every_rung_and_a_reading_brings_them_down() {
    let mut session = SensorSession::new(false);
    done(&mut session);
    let mut climbed = Vec::new();
    for _ in 0..7 {
        while session.action() != Action::Connect {
            done(&mut session);
        }
        assert_eq!(fail(&mut session, Failure::Timeout), Action::Disconnect);
        climbed.push(done(&mut session));
    }
    let position = |rung| climbed.iter().position(|action| *action == rung);
    assert!(matches!(climbed[0], Action::Wait(_)));
    assert_eq!(position(Action::Forget), Some(2));
    assert_eq!(position(Action::PowerCycle), Some(5));
    assert_eq!(session.take_report(), Some(Report::Failing(Failure::Timeout)));
    while session.action() != Action::Stream {
        done(&mut session);
    }
    session.handle_first_notification();
    ended(&mut session, GapReason::LinkDown, 1);
    assert_eq!(done(&mut session), Action::Find, "from the bottom again");
}

#[test]
fn links_that_drop_before_they_bring_anything_climb_too() {
    let mut session = streaming(false);
    let mut actions = Vec::new();
    for _ in 0..6 {
        actions.push(ended(&mut session, GapReason::LinkDown, 0));
        while session.action() != Action::Stream {
            actions.push(done(&mut session));
        }
    }
    assert!(actions.contains(&Action::Forget) && actions.contains(&Action::PowerCycle));
}

#[test]
fn a_bond_is_not_forgotten_because_connecting_fails() {
    let mut session = SensorSession::new(true);
    done(&mut session);
    for _ in 0..30 {
        while session.action() != Action::Connect {
            done(&mut session);
            assert_ne!(session.action(), Action::Forget);
        }
        fail(&mut session, Failure::Timeout);
    }
}

#[test]
fn without_an_adapter_it_waits_and_attaches_anew() {
    let mut session = streaming(false);
    assert!(matches!(ended(&mut session, GapReason::AdapterGone, 3), Action::Wait(_)));
    assert_eq!(session.take_report(), Some(Report::AdapterGone));
    assert_eq!(done(&mut session), Action::Attach);
    assert!(matches!(fail(&mut session, Failure::AdapterGone), Action::Wait(_)));
    assert_eq!(session.take_report(), None, "said once");
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let failure = prop_oneof![
        Just(Failure::NotSeen),
        Just(Failure::AdapterGone),
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
        let mut session = SensorSession::new(bond);
        let mut linked = false;
        for (outcome, random) in outcomes {
            // Only a stream ends by itself, and it only ends.
            let outcome = match (session.action(), outcome) {
                (Action::Stream, Outcome::Ended { .. }) => outcome,
                (Action::Stream, _) => Outcome::Ended { why: GapReason::LinkDown, notifications: 1 },
                (_, Outcome::Ended { .. }) => Outcome::Done,
                _ => outcome,
            };
            let gone = matches!(outcome, Outcome::Failed(Failure::AdapterGone) | Outcome::Ended { why: GapReason::AdapterGone, .. });
            match session.action() {
                Action::Connect => linked = outcome == Outcome::Done,
                Action::Disconnect => linked = false,
                _ if gone => linked = false,
                _ => {}
            }
            let next = session.handle(outcome, random);
            prop_assert!(!(linked && matches!(next, Action::Find | Action::Forget | Action::PowerCycle | Action::Wait(_))),
                "{next:?} while a link stands");
            if let Action::Wait(pause) = next {
                prop_assert!(pause <= std::time::Duration::from_secs(20));
            }
        }
        let steps = (0..12).find(|_| {
            let outcome = match session.action() {
                Action::Stream => return true,
                _ => Outcome::Done,
            };
            session.handle(outcome, 0.5);
            false
        });
        prop_assert!(steps.is_some(), "stuck at {:?}", session.action());
    }
}
