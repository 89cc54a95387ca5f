//! Clocks that are set at any time, machines that start again: what goes over the wire stays true.

use hr_gateway::ble::{SourceEvent, SourceEventKind};
use hr_gateway::clock::{Anchor, Discipline, Look};
use hr_gateway::config::SessionConfig;
use hr_gateway::ingest::Tracker;
use hr_gateway::queue::ledger::{Ledger, Row};
use hr_gateway::reading::{Body, BootId, Content, Epoch, GapReason, Item, Moment, Observation};
use hr_gateway::wire::{Envelope, WireRecord, write_line};
use proptest::prelude::*;

use crate::support::{envelope, sensor};

const GAP_AFTER_MS: i64 = 10_000;
/// As far as a synchronized clock may be from the true time here.
const SYNCHRONIZED_MS: i64 = 400;
const TOLERANCE_MS: i64 = 2 * SYNCHRONIZED_MS;
const STARTED_MS: i64 = 1_752_599_400_000;

/// What happens next.
#[derive(Debug, Clone)]
enum Event {
    /// Time passes.
    Pass(i64),
    Reading {
        contact: bool,
    },
    Down,
    /// Somebody sets the clock: this far from the true time.
    Set(i64),
    /// A time server is heard: the clock is this far from the true time, and the system says so.
    Synchronize(i64),
    Beat,
    Ask,
    Answer,
    /// The daemon is started again, so much later, the clock having been set meanwhile or not.
    Restart(i64, Option<i64>),
    /// The machine is, and comes back with a clock this wrong.
    Reboot(i64, i64),
}

fn event() -> impl Strategy<Value = Event> {
    // From before 1970 to beyond 2106.
    let wrong = prop_oneof![-3_600_000..3_600_000_i64, -1_800_000_000_000..2_600_000_000_000_i64];
    let right = -SYNCHRONIZED_MS..SYNCHRONIZED_MS;
    prop_oneof![
        6 => (0..20_000_i64).prop_map(Event::Pass),
        1 => (20_000..40_000_000_i64).prop_map(Event::Pass),
        8 => any::<bool>().prop_map(|contact| Event::Reading { contact }),
        1 => Just(Event::Down),
        2 => prop_oneof![wrong.clone(), Just(0)].prop_map(Event::Set),
        2 => right.prop_map(Event::Synchronize),
        1 => Just(Event::Beat),
        2 => Just(Event::Ask),
        2 => Just(Event::Answer),
        1 => (0..60_000_i64, proptest::option::of(wrong.clone())).prop_map(|(down, set)| Event::Restart(down, set)),
        1 => (GAP_AFTER_MS..100_000_000_i64, wrong).prop_map(|(off, wrong)| Event::Reboot(off, wrong)),
    ]
}

/// The machine, the daemon on it, and what is true.
struct World {
    true_ms: i64,
    boot: u128,
    booted_ms: i64,
    /// Wall clock minus true time.
    wrong_by_ms: i64,
    /// What the kernel tells timedated.
    system_says_right: bool,
    tracker: Tracker,
    discipline: Discipline,
    /// The system's answer on its way, and the anchor it brings.
    answer: Option<(u64, bool)>,
    anchors: Vec<Anchor>,
    ledger: Ledger,
    /// Each item, when its end was truly, and when its start was.
    items: Vec<(Item, i64, i64)>,
    /// True times of the moments that were handed out.
    truth: Vec<(Moment, i64)>,
}

impl World {
    fn new() -> Self {
        let look = Look { boottime_ms: 0, wall_ms: STARTED_MS };
        Self {
            true_ms: STARTED_MS,
            boot: 1,
            booted_ms: STARTED_MS,
            wrong_by_ms: 0,
            system_says_right: false,
            tracker: Tracker::new(&SessionConfig::default(), &Ledger::default(), GapReason::GatewayDown),
            discipline: Discipline::new(false, look),
            answer: None,
            anchors: Vec::new(),
            ledger: Ledger::default(),
            items: Vec::new(),
            truth: Vec::new(),
        }
    }

    fn look(&self) -> Look {
        let boottime_ms = (self.true_ms - self.booted_ms) as u64;
        Look { boottime_ms, wall_ms: self.true_ms + self.wrong_by_ms }
    }

    /// Setting the clock makes the kernel forget that it was synchronized. By less than anybody would call
    /// setting it is left alone.
    fn set(&mut self, wrong_by_ms: i64) {
        if (wrong_by_ms - self.wrong_by_ms).abs() > 2_000 {
            self.wrong_by_ms = wrong_by_ms;
            self.system_says_right = false;
        }
    }

    fn start_daemon(&mut self) {
        self.tracker = Tracker::new(&SessionConfig::default(), &self.ledger, GapReason::GatewayDown);
        self.discipline = Discipline::new(false, self.look());
        self.answer = None;
        let last = self.ledger.rows.values().filter_map(|row| row.last.map(Moment::from));
        if let Some(last) = last.filter(|last| last.boot == BootId(self.boot)).max_by_key(|m| m.boottime_ms) {
            self.discipline.resume(&last, self.look());
        }
    }

    fn play(&mut self, event: Event) {
        match event {
            Event::Pass(ms) => self.true_ms += ms,
            Event::Reading { contact } => {
                self.handle(SourceEventKind::Notification(vec![if contact { 6 } else { 4 }, 70]))
            }
            Event::Down => self.handle(SourceEventKind::Down(GapReason::LinkDown)),
            Event::Set(wrong_by_ms) => self.set(wrong_by_ms),
            Event::Synchronize(wrong_by_ms) => {
                self.wrong_by_ms = wrong_by_ms;
                self.system_says_right = true;
            }
            Event::Beat => _ = self.discipline.look(self.look()),
            Event::Ask => {
                if !self.discipline.look(self.look()) && self.answer.is_none() {
                    self.answer = Some((self.discipline.steps(), self.system_says_right));
                }
            }
            Event::Answer => {
                let look = self.look();
                if let Some((steps, true)) = self.answer.take()
                    && self.discipline.vouch(steps, look)
                {
                    let offset_ms = look.wall_ms - look.boottime_ms as i64;
                    let boot = BootId(self.boot);
                    self.anchors.retain(|known| known.boot != boot);
                    self.anchors.push(Anchor { boot, offset_ms, boottime_ms: look.boottime_ms });
                }
            }
            Event::Restart(down_ms, set) => {
                self.true_ms += down_ms;
                set.into_iter().for_each(|wrong_by_ms| self.set(wrong_by_ms));
                self.start_daemon();
            }
            Event::Reboot(off_ms, wrong_by_ms) => {
                self.true_ms += off_ms;
                (self.boot, self.booted_ms) = (self.boot + 1, self.true_ms);
                (self.wrong_by_ms, self.system_says_right) = (wrong_by_ms, false);
                self.start_daemon();
            }
        }
    }

    fn handle(&mut self, kind: SourceEventKind) {
        let look = self.look();
        let synchronized = self.discipline.look(look);
        let Look { boottime_ms, wall_ms } = look;
        let at = Moment { boot: BootId(self.boot), boottime_ms, wall_ms, synchronized };
        self.truth.push((at, self.true_ms));
        let mut out = Vec::new();
        self.tracker.handle(SourceEvent { sensor: sensor("a"), at, kind }, &mut out);
        out.into_iter().for_each(|observation| self.append(observation));
    }

    fn append(&mut self, observation: Observation) {
        let Content::Body(body) = observation.content else { return };
        let truly = |moment: &Moment| self.truth.iter().rfind(|(known, _)| known == moment).unwrap().1;
        let ended_ms = truly(&observation.taken);
        let began_ms = match &body {
            Body::Gap(gap) => truly(&gap.start),
            Body::Measurement(_) | Body::State(_) | Body::Gateway(_) => {
                let row = Row { last: Some(observation.taken.into()), ..Row::default() };
                self.ledger.rows.insert(sensor("a"), row);
                ended_ms
            }
        };
        let sequence = self.items.len() as u64 + 1;
        let item = Item { sequence, sensor: sensor("a"), session: 1, taken: observation.taken, body };
        self.check(&item, ended_ms, began_ms);
        self.items.push((item, ended_ms, began_ms));
    }

    /// What the line of `item` says against what is true.
    fn check(&self, item: &Item, ended_ms: i64, began_ms: i64) {
        let envelope = Envelope { anchors: self.anchors.clone(), ..envelope("g", Epoch(1)) };
        let mut line = Vec::new();
        write_line(item, &envelope, &mut line);
        let line = String::from_utf8(line).unwrap();
        let record: WireRecord<'_> = serde_json::from_str(&line).unwrap();
        let ms = |text: &str| chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis();
        let is_known = !line.contains("\"clock\":\"unsynchronized\"");
        let wrong_by_ms = ms(&record.timestamp) - ended_ms;
        assert!(!is_known || wrong_by_ms.abs() <= TOLERANCE_MS, "wrong by {wrong_by_ms} ms: {line}");
        let Body::Gap(gap) = &item.body else { return };
        let length_ms = ms(record.gap_end.as_deref().unwrap()) - ms(record.gap_start.as_deref().unwrap());
        let true_ms = ended_ms - began_ms;
        assert!(length_ms >= 0, "negative: {line}");
        if gap.start.boot == item.taken.boot {
            // It begins with a reading's own time stamp, where both clocks were not read at quite the same time.
            assert!((length_ms - true_ms).abs() <= 20, "as long as it truly was, {true_ms} ms: {line}");
        } else if is_known {
            assert!(length_ms <= true_ms + TOLERANCE_MS, "{true_ms} ms, not {length_ms}: {line}");
        }
        if !matches!(gap.reason, GapReason::NoContact | GapReason::ClockUnsynchronized) {
            assert!(true_ms >= GAP_AFTER_MS - TOLERANCE_MS, "there was no silence: {line}");
        }
    }

    /// The gap records between two readings.
    fn check_pairs(&self) {
        let is_reading = |at: &usize| matches!(self.items[*at].0.body, Body::Measurement(_));
        let readings: Vec<usize> = (0..self.items.len()).filter(is_reading).collect();
        for pair in readings.windows(2) {
            let ((before, before_ms, _), (after, after_ms, _)) = (&self.items[pair[0]], &self.items[pair[1]]);
            let has = |wanted: fn(GapReason) -> bool| {
                self.items[pair[0]..pair[1]]
                    .iter()
                    .any(|(item, ..)| matches!(&item.body, Body::Gap(gap) if wanted(gap.reason)))
            };
            let silent = |reason| !matches!(reason, GapReason::NoContact | GapReason::ClockUnsynchronized);
            if after_ms - before_ms >= GAP_AFTER_MS + TOLERANCE_MS {
                assert!(has(silent), "a silence that no gap record tells of");
            }
            if after.taken.synchronized && after.taken.was_set_since(&before.taken) {
                let marked = has(|reason| reason == GapReason::ClockUnsynchronized);
                assert!(marked, "the clock was set between two readings, and no gap record tells of it");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]
    #[test]
    fn whatever_becomes_of_the_clock_gaps_are_as_long_as_they_were_and_times_that_are_vouched_for_are_true(
        events in proptest::collection::vec(event(), 1..80),
    ) {
        let mut world = World::new();
        events.into_iter().for_each(|event| world.play(event));
        // Once as each was sent at once, and once as what waited goes out now.
        for (item, ended_ms, began_ms) in &world.items {
            world.check(item, *ended_ms, *began_ms);
        }
        world.check_pairs();
    }
}

fn look(boottime_ms: u64, wall_ms: i64) -> Look {
    Look { boottime_ms, wall_ms }
}

const HOUR_MS: i64 = 3_600_000;

#[test]
fn a_clock_that_was_set_is_right_again_only_when_the_system_says_so_after_that() {
    let mut clock = Discipline::new(false, look(0, STARTED_MS));
    assert!(clock.vouch(0, look(10, STARTED_MS + 10)));
    assert!(clock.look(look(1_000, STARTED_MS + 1_000)));
    assert!(clock.look(look(2_000, STARTED_MS + 3_000)), "a leap second is right");
    assert!(!clock.look(look(3_000, STARTED_MS + 4_000 - HOUR_MS)));
    assert_eq!((clock.take_step(), clock.take_step()), (Some(-HOUR_MS), None), "told once");
    assert!(!clock.vouch(0, look(4_000, STARTED_MS + 5_000 - HOUR_MS)), "the answer was of the clock before");
    assert!(clock.vouch(1, look(5_000, STARTED_MS + 6_000 - HOUR_MS)));
}

#[test]
fn calls_are_signed_by_the_clock_that_was_set_until_somebody_says_that_the_new_one_is_right() {
    let mut clock = Discipline::new(false, look(0, 0));
    assert_eq!(clock.signing_offset_ms(look(1_000, 1_000)), 0);
    assert_eq!(
        clock.signing_offset_ms(look(2_000, STARTED_MS + 2_000)),
        0,
        "it may be right: soon to be known"
    );
    assert_eq!(clock.signing_offset_ms(look(30_000, STARTED_MS + 30_000)), STARTED_MS, "nobody said so");
    let mut clock = Discipline::new(false, look(0, 0));
    clock.look(look(2_000, STARTED_MS + 2_000));
    assert!(clock.vouch(1, look(3_000, STARTED_MS + 3_000)));
    assert_eq!(clock.signing_offset_ms(look(4_000, STARTED_MS + 4_000)), STARTED_MS);
}

#[test]
fn a_restart_goes_on_with_the_clock_that_was_right_unless_it_was_set_meanwhile() {
    let last = crate::support::moment(0);
    let after = |set_by_ms: i64| {
        let now = look(last.boottime_ms + 5_000, last.wall_ms + 5_000 + set_by_ms);
        let mut clock = Discipline::new(false, now);
        clock.resume(&last, now);
        (clock.is_synchronized(), clock.is_doubted(), clock.take_step())
    };
    assert_eq!(after(0), (true, false, None));
    assert_eq!(after(HOUR_MS), (false, true, Some(HOUR_MS)));
}

#[test]
fn a_trusted_clock_that_is_set_is_still_trusted_and_told_of() {
    let mut clock = Discipline::new(true, look(0, STARTED_MS));
    assert!(clock.look(look(1_000, STARTED_MS + 1_000 + HOUR_MS)));
    assert_eq!(clock.take_step(), Some(HOUR_MS));
}
