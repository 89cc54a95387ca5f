//! Sessions and gaps.

use hr_gateway::ble::{SourceEvent, SourceEventKind};
use hr_gateway::config::SessionConfig;
use hr_gateway::heart_rate::BodySensorLocation;
use hr_gateway::ingest::Tracker;
use hr_gateway::queue::ledger::{Ledger, Row};
use hr_gateway::reading::{Body, BootId, Content, GapReason, Mode, Moment, Observation, SensorState};

use crate::support::{moment, sensor};

struct Play {
    tracker: Tracker,
}

impl Play {
    fn new() -> Self {
        Self { tracker: Tracker::new(&SessionConfig::default(), &Ledger::default(), GapReason::GatewayDown) }
    }

    fn at(&mut self, at: Moment, kind: SourceEventKind) -> Vec<Observation> {
        let mut out = Vec::new();
        self.tracker.handle(SourceEvent { sensor: sensor("a"), at, kind }, &mut out);
        out
    }

    fn reading(&mut self, second: u64) -> Vec<Observation> {
        self.at(moment(second), SourceEventKind::Notification(vec![0x00, 72]))
    }
}

fn gaps(observations: &[Observation]) -> Vec<(GapReason, Moment)> {
    let gap = |observation: &Observation| match &observation.content {
        Content::Body(Body::Gap(gap)) => Some((gap.reason, gap.start)),
        _ => None,
    };
    observations.iter().filter_map(gap).collect()
}

#[test]
fn a_session_begins_with_the_first_reading_and_after_five_minutes_of_silence() {
    let mut play = Play::new();
    assert!(play.reading(0)[0].starts_session);
    assert!(!play.reading(1)[0].starts_session);
    assert!(!play.reading(300).last().unwrap().starts_session);
    assert!(play.reading(600).last().unwrap().starts_session);
}

#[test]
fn silence_is_a_gap_with_the_reason_that_was_seen() {
    let mut play = Play::new();
    play.reading(0);
    assert_eq!(gaps(&play.reading(9)), []);
    assert_eq!(gaps(&play.reading(30)), [(GapReason::SensorSilent, moment(9))]);
    play.at(moment(31), SourceEventKind::Down(GapReason::LinkDown));
    let after = play.reading(60);
    assert_eq!(gaps(&after), [(GapReason::LinkDown, moment(30))]);
    assert_eq!(after[0].taken, moment(60), "the gap ends where the reading begins, and stands before it");
    play.at(moment(61), SourceEventKind::Down(GapReason::LinkDown));
    assert_eq!(gaps(&play.reading(62)), [], "a link that is back at once left no gap");
    assert_eq!(
        gaps(&play.reading(80)),
        [(GapReason::SensorSilent, moment(62))],
        "and its reason is forgotten"
    );
}

#[test]
fn another_device_begins_a_session_and_leaves_a_gap_however_short() {
    let mut play = Play::new();
    play.reading(0);
    play.at(moment(1), SourceEventKind::Down(GapReason::SensorReplaced));
    // Off the skin at first: the session begins with its first reading.
    let off = play.at(moment(2), SourceEventKind::Notification(vec![0x00, 0]));
    assert_eq!(gaps(&off), [(GapReason::SensorReplaced, moment(0))]);
    let first = play.reading(3);
    assert!(first.last().unwrap().starts_session);
    assert!(!play.reading(4)[0].starts_session);
    let row = Row { session: 1, last: Some(moment(0).into()), ..Row::default() };
    let ledger = Ledger { rows: [(sensor("a"), row)].into() };
    let mut play = Play { tracker: Tracker::new(&SessionConfig::default(), &ledger, GapReason::GatewayDown) };
    play.at(moment(1), SourceEventKind::Down(GapReason::SensorReplaced));
    let after_restart = play.reading(2);
    assert_eq!(gaps(&after_restart), [(GapReason::SensorReplaced, moment(0))]);
    assert!(after_restart.last().unwrap().starts_session);
}

#[test]
fn a_restart_goes_on_with_the_session_and_tells_of_the_time_between() {
    let row = Row { session: 1, last: Some(moment(0).into()), ..Row::default() };
    let ledger = Ledger { rows: [(sensor("a"), row)].into() };
    let restart =
        || Play { tracker: Tracker::new(&SessionConfig::default(), &ledger, GapReason::GatewayDown) };
    let soon = restart().reading(5);
    assert!(gaps(&soon).is_empty() && !soon[0].starts_session);
    let later = restart().reading(100);
    assert_eq!(gaps(&later), [(GapReason::GatewayDown, moment(0))]);
    assert!(!later[1].starts_session);
    // After a reboot with a wrong clock nobody knows how long it was: a new session.
    let lost = Moment { boot: BootId(2), synchronized: false, ..moment(5) };
    let after_reboot = restart().at(lost, SourceEventKind::Notification(vec![0x00, 72]));
    assert_eq!(gaps(&after_reboot)[0].0, GapReason::GatewayDown);
    assert!(after_reboot.last().unwrap().starts_session);
}

#[test]
fn readings_without_skin_contact_are_kept_and_their_span_is_marked() {
    let mut play = Play::new();
    play.reading(0);
    let lost = play.at(moment(1), SourceEventKind::Notification(vec![0x04, 70]));
    assert!(gaps(&lost).is_empty() && lost.len() == 1);
    play.at(moment(2), SourceEventKind::Notification(vec![0x04, 70]));
    let back = play.at(moment(3), SourceEventKind::Notification(vec![0x06, 70]));
    assert_eq!(gaps(&back), [(GapReason::NoContact, moment(1))]);
    play.at(moment(4), SourceEventKind::Notification(vec![0x04, 70]));
    let mut end = Vec::new();
    play.tracker.finish(&mut end);
    assert_eq!(gaps(&end), [(GapReason::NoContact, moment(4))], "also when the gateway stops meanwhile");
}

/// As optical sensors send it off the skin, whatever their contact bits say.
#[test]
fn a_heart_rate_of_zero_is_no_reading_but_a_span_without_contact() {
    for flags in [0x00, 0x04, 0x06, 0x10] {
        let mut play = Play::new();
        let zero =
            |play: &mut Play, second| play.at(moment(second), SourceEventKind::Notification(vec![flags, 0]));
        play.reading(0);
        for second in 1..=200 {
            assert_eq!(zero(&mut play, second), [], "flags {flags:#x}");
        }
        let back = play.reading(201);
        assert_eq!(gaps(&back), [(GapReason::NoContact, moment(1))]);
        assert!(!back.last().unwrap().starts_session);
        // Nobody wore it for long: who puts it on then begins anew.
        (202..=700).for_each(|second| _ = zero(&mut play, second));
        let back = play.reading(701);
        assert_eq!(gaps(&back), [(GapReason::NoContact, moment(202))]);
        assert!(back.last().unwrap().starts_session);
        // The gateway stops meanwhile.
        zero(&mut play, 702);
        zero(&mut play, 703);
        let mut out = Vec::new();
        play.tracker.finish(&mut out);
        assert_eq!((gaps(&out), out[0].taken), (vec![(GapReason::NoContact, moment(702))], moment(703)));
    }
}

#[test]
fn a_sensor_that_begins_without_contact_begins_its_session_with_the_first_reading() {
    let mut play = Play::new();
    assert_eq!(play.at(moment(0), SourceEventKind::Notification(vec![0x00, 0])), []);
    let first = play.reading(1);
    assert_eq!(gaps(&first), [(GapReason::NoContact, moment(0))]);
    assert!(first.last().unwrap().starts_session);
}

fn state(battery_percent: u8, location: Option<BodySensorLocation>) -> SourceEventKind {
    let battery_percent = Some(battery_percent);
    SourceEventKind::State(SensorState { battery_percent, rssi_dbm: Some(-60), location })
}

fn states(observations: &[Observation]) -> usize {
    let is_state = |observation: &&Observation| matches!(observation.content, Content::Body(Body::State(_)));
    observations.iter().filter(is_state).count()
}

#[test]
fn a_state_is_recorded_after_a_first_reading_on_change_and_each_quarter_of_an_hour() {
    let chest = Some(BodySensorLocation::Chest);
    let mut play = Play::new();
    assert_eq!(play.at(moment(0), state(90, chest)), [], "a session begins with a reading");
    let first = play.reading(1);
    assert_eq!((first.len(), states(&first)), (2, 1));
    assert!(first[0].starts_session && !first[1].starts_session);
    assert_eq!(states(&play.at(moment(2), state(90, chest))), 0, "nothing changed");
    assert_eq!(states(&play.at(moment(3), state(89, chest))), 1);
    assert_eq!(states(&play.at(moment(4), state(89, None))), 1);
    assert_eq!(states(&play.at(moment(903), state(89, None))), 0);
    assert_eq!(states(&play.at(moment(904), state(89, None))), 1);
    assert_eq!(states(&play.reading(905)), 0, "told once");
}

#[test]
fn each_reading_says_where_it_was_worn_as_far_as_was_known_then() {
    let location = |observations: &[Observation]| match &observations[0].content {
        Content::Body(Body::Measurement(measurement)) => measurement.location,
        other => panic!("{other:?}"),
    };
    let mut play = Play::new();
    assert_eq!(location(&play.reading(0)), None);
    play.at(moment(1), SourceEventKind::Located(Some(BodySensorLocation::Wrist)));
    assert_eq!(location(&play.reading(2)), Some(BodySensorLocation::Wrist));
    play.at(moment(3), state(90, Some(BodySensorLocation::Finger)));
    assert_eq!(location(&play.reading(4)), Some(BodySensorLocation::Finger));
    play.at(moment(5), SourceEventKind::Located(None));
    assert_eq!(location(&play.reading(6)), None, "another device became the sensor");
}

#[test]
fn what_an_advertisement_says_is_a_reading_that_says_so() {
    let mut play = Play::new();
    let read = play.at(moment(0), SourceEventKind::Advertisement(crate::support::measurement(64)));
    let Content::Body(Body::Measurement(measurement)) = &read[0].content else { panic!("{read:?}") };
    assert_eq!((measurement.values.heart_rate, measurement.mode), (64, Mode::Advertisement));
    let none = play.at(moment(1), SourceEventKind::Advertisement(crate::support::measurement(0)));
    assert_eq!(none, [], "0 is no heart rate");
    assert_eq!(gaps(&play.reading(2)), [(GapReason::NoContact, moment(1))]);
}

#[test]
fn notifications_with_a_byte_too_many_are_read_and_counted() {
    let mut play = Play::new();
    let read = play.at(moment(0), SourceEventKind::Notification(vec![0x10, 0x3e, 0xb1, 0x03, 0xde]));
    let Content::Body(Body::Measurement(measurement)) = &read[0].content else { panic!("{read:?}") };
    assert_eq!(measurement.values.heart_rate, 62);
    play.reading(1);
    assert_eq!(play.tracker.take_padded().collect::<Vec<_>>(), [(&sensor("a"), 1)]);
    assert_eq!(play.tracker.take_padded().count(), 0);
}

#[test]
fn the_span_of_a_wrong_clock_is_marked_when_it_ends() {
    let mut play = Play::new();
    let wrong = Moment { synchronized: false, ..moment(0) };
    play.at(wrong, SourceEventKind::Notification(vec![0x00, 72]));
    assert_eq!(gaps(&play.reading(1)), [(GapReason::ClockUnsynchronized, wrong)]);
    assert_eq!(gaps(&play.reading(2)), []);
}

#[test]
fn where_the_clock_was_set_between_two_readings_a_record_says_so_and_no_silence_is_made_up() {
    const HOUR_MS: i64 = 3_600_000;
    let mut play = Play::new();
    play.reading(0);
    let set = |second: u64, synchronized| {
        let at = moment(second);
        Moment { wall_ms: at.wall_ms - HOUR_MS, synchronized, ..at }
    };
    let mut heard = |at| gaps(&play.at(at, SourceEventKind::Notification(vec![0x00, 72])));
    assert_eq!(heard(set(3, true)), [(GapReason::ClockUnsynchronized, moment(0))], "vouched for at once");
    assert_eq!(heard(set(4, true)), []);
    assert_eq!(heard(Moment { synchronized: false, ..moment(5) }), [], "set again, and nobody vouches");
    assert_eq!(heard(moment(6)), [(GapReason::ClockUnsynchronized, set(4, true))]);
}

#[test]
fn two_right_clocks_that_cannot_both_be_right_leave_the_time_between_boots_unknown() {
    let row = Row { session: 1, last: Some(moment(3_600).into()), ..Row::default() };
    let ledger = Ledger { rows: [(sensor("a"), row)].into() };
    let mut play = Play { tracker: Tracker::new(&SessionConfig::default(), &ledger, GapReason::GatewayDown) };
    let next_boot = Moment { boot: BootId(2), boottime_ms: 40_000, ..moment(60) };
    let out = play.at(next_boot, SourceEventKind::Notification(vec![0x00, 72]));
    assert_eq!(gaps(&out), [(GapReason::GatewayDown, moment(3_600))]);
    assert!(out.last().unwrap().starts_session);
}

#[test]
fn a_malformed_notification_is_counted_and_moves_nothing() {
    let mut play = Play::new();
    play.reading(0);
    let malformed = play.at(moment(5), SourceEventKind::Notification(vec![0x01]));
    assert_eq!(malformed[0].content, Content::Malformed);
    assert_eq!(gaps(&play.reading(20)), [(GapReason::SensorSilent, moment(0))]);
}
