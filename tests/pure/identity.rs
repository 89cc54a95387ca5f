//! Which device a sensor is.

use std::collections::BTreeMap;

use hr_gateway::ble::identity::{Choice, Identities, Known, Seen};
use hr_gateway::config::{Address, Follow, SensorConfig};
use hr_gateway::reading::{Mode, SensorId};

const A: &str = "C0:FF:EE:00:00:0A";
const B: &str = "C0:FF:EE:00:00:0B";
/// Two that one device gives itself in turn.
const PRIVATE: [&str; 2] = ["4A:00:00:00:00:01", "7B:00:00:00:00:02"];

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn seen(at: &str, name: &str) -> Seen {
    Seen {
        adapter: "hci0".into(),
        object: address(at),
        address: address(at),
        is_random: true,
        name: Some(name.into()),
        rssi: Some(-60),
        is_connected: false,
        is_paired: false,
        services: vec![],
    }
}

fn named(id: &str, name: &str) -> SensorConfig {
    SensorConfig {
        id: id.parse().unwrap(),
        address: None,
        name: Some(name.to_owned().into()),
        mode: Mode::Notification,
        follow: Follow::Same,
        adapter: None,
        bond: false,
        passkey: None,
    }
}

fn addressed(id: &str, at: &str) -> SensorConfig {
    SensorConfig { address: Some(address(at)), name: None, ..named(id, "") }
}

/// Sensors, and the devices that are kept of them.
struct Gateway {
    sensors: Vec<SensorConfig>,
    known: BTreeMap<SensorId, Known>,
    tried: BTreeMap<SensorId, Known>,
}

impl Gateway {
    fn of(sensors: &[SensorConfig]) -> Self {
        Self { sensors: sensors.to_vec(), known: BTreeMap::new(), tried: BTreeMap::new() }
    }

    fn keep(&mut self, id: &str, seen: &Seen) {
        self.known.insert(id.parse().unwrap(), Known::new(seen));
    }

    fn known(&mut self, id: &str) -> &mut Known {
        self.known.get_mut(&id.parse::<SensorId>().unwrap()).unwrap()
    }

    fn choose<'a>(&self, id: &str, devices: &'a [Seen]) -> Choice<'a> {
        let sensor = self.sensors.iter().find(|sensor| sensor.id.as_str() == id).unwrap();
        Identities { sensors: &self.sensors, known: &self.known, tried: &self.tried }.choose(sensor, devices)
    }
}

#[track_caller]
fn assert_is(choice: &Choice<'_>, at: &str) {
    match choice {
        Choice::Device(seen) => assert!(seen.iter().all(|seen| seen.address == address(at)), "{choice:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_device_once_found_is_kept_and_another_of_its_name_is_a_stranger() {
    let mut gateway = Gateway::of(&[named("adi", "Forerunner*")]);
    let (mine, other) = (seen(A, "Forerunner 255"), seen(B, "Forerunner 965"));
    assert_is(&gateway.choose("adi", std::slice::from_ref(&mine)), A);
    gateway.keep("adi", &mine);
    assert_eq!(gateway.choose("adi", std::slice::from_ref(&other)), Choice::Stranger);
    assert_is(&gateway.choose("adi", &[other.clone(), mine]), A);
    gateway.known("adi").released = true;
    assert_is(&gateway.choose("adi", &[other]), B);
}

#[test]
fn whichever_is_there_is_followed_where_that_is_asked_for() {
    let mut gateway = Gateway::of(&[SensorConfig { follow: Follow::Any, ..named("adi", "Forerunner*") }]);
    let (mine, other) = (seen(A, "Forerunner 255"), seen(B, "Forerunner 965"));
    gateway.keep("adi", &mine);
    assert_is(&gateway.choose("adi", std::slice::from_ref(&other)), B);
    assert_is(&gateway.choose("adi", &[other.clone(), mine]), A);
    let third = seen("C0:FF:EE:00:00:0C", "Forerunner 45");
    assert_eq!(gateway.choose("adi", &[other, third]), Choice::Ambiguous(2));
}

#[test]
fn of_several_that_nobody_can_tell_apart_none_is_taken() {
    let mut gateway = Gateway::of(&[named("alice", "TICKR")]);
    let devices = [seen(A, "TICKR"), seen(B, "TICKR")];
    assert_eq!(gateway.choose("alice", &devices), Choice::Ambiguous(2));
    gateway.keep("alice", &devices[1]);
    assert_is(&gateway.choose("alice", &devices), B);
}

#[test]
fn an_exact_name_comes_before_a_beginning_and_a_longer_one_before_a_shorter() {
    let sensors = [named("alice", "TICKR"), named("bob", "TICKR*"), named("carol", "TICKR X*")];
    let gateway = Gateway::of(&sensors);
    let devices = [seen(A, "TICKR"), seen(B, "TICKR X 12"), seen("C0:FF:EE:00:00:0C", "TICKR 77")];
    assert_is(&gateway.choose("alice", &devices), A);
    assert_is(&gateway.choose("carol", &devices), B);
    assert_is(&gateway.choose("bob", &devices), "C0:FF:EE:00:00:0C");
    let bob_first = Gateway::of(&[sensors[1].clone(), sensors[0].clone()]);
    assert_is(&bob_first.choose("alice", &devices), A);
    assert_eq!(bob_first.choose("bob", &devices[..1]), Choice::Nothing);
}

#[test]
fn a_name_is_no_beginning_unless_it_says_so() {
    let gateway = Gateway::of(&[named("adi", "Forerunner"), addressed("bob", B)]);
    assert_eq!(gateway.choose("adi", &[seen(A, "Forerunner 255")]), Choice::Longer);
    assert_eq!(gateway.choose("adi", &[seen(B, "Forerunner 255")]), Choice::Nothing, "that is bob's");
    assert_eq!(gateway.choose("adi", &[seen(A, "Fenix")]), Choice::Nothing);
}

#[test]
fn an_address_or_a_kept_device_comes_before_any_name() {
    let mut gateway = Gateway::of(&[named("alice", "TICKR"), addressed("bob", B), named("carol", "TICKR*")]);
    let devices = [seen(A, "TICKR"), seen(B, "TICKR")];
    assert_is(&gateway.choose("alice", &devices), A);
    assert_is(&gateway.choose("bob", &devices), B);
    gateway.keep("carol", &seen(A, "TICKR 9"));
    assert_eq!(gateway.choose("alice", &devices), Choice::Nothing);
    assert_is(&gateway.choose("carol", &devices), A);
}

#[test]
fn a_device_is_found_again_by_either_of_its_names_and_by_its_address() {
    let mut gateway = Gateway::of(&[named("adi", "Polar H10")]);
    gateway.keep("adi", &seen(A, "Polar H10"));
    let renamed = seen(A, "H10 of the lab");
    assert_is(&gateway.choose("adi", std::slice::from_ref(&renamed)), A);
    gateway.known("adi").update(&renamed);
    gateway.known("adi").released = true;
    assert_is(&gateway.choose("adi", &[renamed]), A);
}

#[test]
fn a_block_that_names_something_else_lets_go_of_what_was_kept() {
    let mut gateway = Gateway::of(&[named("adi", "TICKR")]);
    gateway.keep("adi", &seen(A, "Forerunner 255"));
    assert_is(&gateway.choose("adi", &[seen(A, "Forerunner 255"), seen(B, "TICKR")]), B);
}

#[test]
fn a_device_that_changes_its_address_is_known_by_its_full_name() {
    let mut gateway = Gateway::of(&[named("adi", "Forerunner*")]);
    gateway.keep("adi", &seen(PRIVATE[0], "Forerunner 255"));
    assert_is(&gateway.choose("adi", &[seen(PRIVATE[1], "Forerunner 255")]), PRIVATE[1]);
    assert_eq!(gateway.choose("adi", &[seen(PRIVATE[1], "Forerunner 965")]), Choice::Stranger);
    assert_eq!(
        gateway.choose("adi", &[seen(A, "Forerunner 255")]),
        Choice::Stranger,
        "an address that stays"
    );
    let twins = [seen(PRIVATE[0], "Forerunner 255"), seen(PRIVATE[1], "Forerunner 255")];
    assert_eq!(gateway.choose("adi", &twins), Choice::Ambiguous(2));
    let bonded = Seen { is_paired: true, ..seen(PRIVATE[0], "Forerunner 255") };
    assert!(!bonded.changes_address() && seen(PRIVATE[0], "").changes_address());
    assert!(!Seen { is_random: false, ..seen(PRIVATE[0], "") }.changes_address());
}

#[test]
fn a_model_s_own_name_tells_no_device_that_changes_its_address() {
    let mut gateway = Gateway::of(&[named("anna", "Anna's watch")]);
    gateway.keep("anna", &seen(PRIVATE[0], "Anna's watch"));
    // As BlueZ shows it after a link.
    let renamed = seen(PRIVATE[0], "Venu 3");
    gateway.known("anna").update(&renamed);
    assert_is(&gateway.choose("anna", &[renamed]), PRIVATE[0]);
    assert_eq!(gateway.choose("anna", &[seen(PRIVATE[1], "Venu 3")]), Choice::Nothing, "a visitor's");
    assert_is(&gateway.choose("anna", &[seen(PRIVATE[1], "Anna's watch")]), PRIVATE[1]);
}

#[test]
fn a_name_that_is_shown_comes_before_one_that_was_shown_once() {
    let mut gateway = Gateway::of(&[named("adi", "H10"), named("ben", "Polar H10 A1B2")]);
    // Adi's block met Ben's strap before its whole name showed, and nothing came of it.
    gateway.tried.insert("adi".parse().unwrap(), Known::new(&seen(B, "H10")));
    let strap = seen(B, "Polar H10 A1B2");
    assert_is(&gateway.choose("ben", std::slice::from_ref(&strap)), B);
    assert_eq!(gateway.choose("adi", &[strap]), Choice::Nothing);
}

#[test]
fn an_address_is_one_device_though_others_of_its_name_change_theirs() {
    let mut gateway = Gateway::of(&[addressed("alice", PRIVATE[0]), addressed("bob", PRIVATE[1])]);
    let twins = [seen(PRIVATE[0], "Forerunner 255"), seen(PRIVATE[1], "Forerunner 255")];
    gateway.keep("alice", &twins[0]);
    assert_eq!(gateway.choose("alice", &twins[1..]), Choice::Nothing, "a stranger of the same make");
    gateway.keep("bob", &twins[1]);
    assert_is(&gateway.choose("alice", &twins), PRIVATE[0]);
    assert_is(&gateway.choose("bob", &twins), PRIVATE[1]);
}

#[test]
fn what_is_neither_heard_nor_linked_is_not_there() {
    let gateway = Gateway::of(&[named("adi", "TICKR")]);
    let silent = Seen { rssi: None, ..seen(A, "TICKR") };
    assert_eq!(gateway.choose("adi", std::slice::from_ref(&silent)), Choice::Nothing);
    assert_is(&gateway.choose("adi", &[Seen { is_connected: true, ..silent }]), A);
}

#[test]
fn each_adapter_that_hears_the_device_offers_it() {
    let gateway = Gateway::of(&[addressed("adi", A)]);
    let devices = [seen(A, "x"), Seen { adapter: "hci1".into(), ..seen(A, "x") }, seen(B, "x")];
    let Choice::Device(offers) = gateway.choose("adi", &devices) else { panic!() };
    assert_eq!(offers.len(), 2);
}

#[test]
fn an_address_that_a_device_had_before_it_bonded_still_names_it() {
    let mut gateway = Gateway::of(&[addressed("adi", PRIVATE[0])]);
    gateway.keep("adi", &seen(PRIVATE[0], "x"));
    let bonded = Seen { is_paired: true, ..seen(A, "x") };
    assert_eq!(gateway.choose("adi", std::slice::from_ref(&bonded)), Choice::Nothing);
    gateway.known("adi").update(&Seen { object: address(PRIVATE[0]), ..bonded.clone() });
    assert_is(&gateway.choose("adi", std::slice::from_ref(&bonded)), A);
    // Another address in the block is another device.
    gateway.sensors = vec![addressed("adi", B)];
    assert_eq!(gateway.choose("adi", &[bonded]), Choice::Nothing);
}

#[test]
fn only_the_newest_names_are_kept() {
    let mut known = Known::new(&seen(A, "0"));
    (0..9).for_each(|n| known.update(&seen(A, &n.to_string())));
    assert_eq!(known.names, ["5", "6", "7", "8"]);
    known.update(&seen(A, "6"));
    assert_eq!(known.names, ["5", "7", "8", "6"]);
}
