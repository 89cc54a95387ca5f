//! Whose data it is.

use std::time::Duration;

use serde_json::Value;

use super::bluetooth::{Set, WATCH};
use crate::support::daemon::Daemon;
use crate::support::{measurement, wait_for};

const OTHER: &str = "C0:FF:EE:00:00:02";

/// Sends a reading and waits until it is delivered as the `count`th.
#[track_caller]
fn send(set: &mut Set, daemon: &Daemon, address: &str, count: u64) {
    set.bus.wait_subscribed(address);
    assert_eq!(set.bus.notify(address, &measurement(60 + count as u16).encode()), 1);
    daemon.wait_delivered(count);
}

fn connects(set: &mut Set, address: &str) -> u64 {
    set.bus.stats(address)["connect"].as_u64().unwrap()
}

fn named(name: &str, more: &str) -> String {
    format!("[[sensor]]\nid = \"adi\"\nname = \"{name}\"\n{more}")
}

#[test]
fn a_stranger_of_the_name_is_not_taken_until_a_person_says_so_and_then_in_a_new_session() {
    let mut set = Set::new(&named("Forerunner*", ""));
    let daemon = set.start();
    send(&mut set, &daemon, WATCH, 1);
    set.bus.tell(&format!("range {WATCH} out"));
    set.bus.tell(&format!("sensor {OTHER} Forerunner_965_stranger"));
    daemon.wait_log("is another than it was");
    assert_eq!(connects(&mut set, OTHER), 0);
    let (said, _) = set.run(&["sensor", "list"]);
    assert!(said.contains(WATCH) && said.contains("Forerunner 255") && said.contains("looked for"), "{said}");
    assert!(!said.contains("965"), "{said}");
    // Also a restart knows who it was.
    daemon.stop();
    let daemon = set.start();
    wait_for("the stranger to be named again", Duration::from_secs(30), || {
        (daemon.log().matches("is another than it was").count() == 2).then_some(())
    });
    let (said, done) = set.run(&["sensor", "forget", "bob"]);
    assert!(!done && said.contains("no device is kept"), "{said}");
    let (said, done) = set.run(&["sensor", "forget", "adi"]);
    assert!(done, "{said}");
    send(&mut set, &daemon, OTHER, 2);
    daemon.wait_log("another device is the sensor now");
    assert!(!daemon.log().contains(OTHER) && !daemon.log().contains(WATCH), "addresses stay where they are");
    daemon.stop();
    let sessions: Vec<Value> = set.readings().iter().map(|line| line["session_id"].clone()).collect();
    assert_ne!(sessions[0], sessions[1]);
    let gaps: Vec<_> = set.lines().iter().map(|line| line["gap_reason"].clone()).collect();
    assert!(gaps.contains(&"sensor_replaced".into()), "{gaps:?}");
    let (said, _) = set.run(&["sensor", "list", "--json"]);
    let list: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(list[0]["device"]["address"], OTHER, "of a stopped gateway too");
}

#[test]
fn a_stopped_gateway_lets_go_of_a_device_too() {
    let mut set = Set::new(&named("Forerunner*", ""));
    let daemon = set.start();
    send(&mut set, &daemon, WATCH, 1);
    daemon.stop();
    assert!(set.run(&["sensor", "forget", "adi"]).1);
    assert!(set.run(&["sensor", "list"]).0.contains("let go of"));
    set.bus.tell(&format!("range {WATCH} out"));
    set.bus.tell(&format!("sensor {OTHER} Forerunner_965"));
    let daemon = set.start();
    send(&mut set, &daemon, OTHER, 2);
    daemon.stop();
}

#[test]
fn what_was_let_go_of_stays_so_though_its_link_goes_on() {
    let mut set = Set::new(&named("Forerunner*", ""));
    let daemon = set.start();
    send(&mut set, &daemon, WATCH, 1);
    assert!(set.run(&["sensor", "forget", "adi"]).1);
    send(&mut set, &daemon, WATCH, 2);
    let (said, _) = set.run(&["sensor", "list"]);
    assert!(said.contains("readings flow; let go of"), "{said}");
    set.bus.tell(&format!("range {WATCH} out"));
    set.bus.tell(&format!("sensor {OTHER} Forerunner_965"));
    send(&mut set, &daemon, OTHER, 3);
    daemon.stop();
}

#[test]
fn whoever_has_the_name_is_followed_where_the_block_says_so() {
    let mut set = Set::new(&named("Forerunner*", "follow = \"any\"\n"));
    let daemon = set.start();
    send(&mut set, &daemon, WATCH, 1);
    set.bus.tell(&format!("range {WATCH} out"));
    set.bus.tell(&format!("sensor {OTHER} Forerunner_965"));
    send(&mut set, &daemon, OTHER, 2);
    daemon.wait_log("another device is the sensor now");
    daemon.stop();
    assert_eq!(replacements(&set), 1);
    assert_ne!(set.readings()[0]["session_id"], set.readings()[1]["session_id"]);
}

/// Gap records that say so.
fn replacements(set: &Set) -> usize {
    set.lines().iter().filter(|line| line["gap_reason"] == "sensor_replaced").count()
}

#[test]
fn another_device_begins_a_session_also_where_it_had_no_pulse_to_tell_before_a_restart() {
    let mut set = Set::new(&named("Forerunner*", "follow = \"any\"\n"));
    let daemon = set.start();
    send(&mut set, &daemon, WATCH, 1);
    set.bus.tell(&format!("range {WATCH} out"));
    set.bus.tell(&format!("sensor {OTHER} Forerunner_965"));
    set.bus.wait_subscribed(OTHER);
    assert_eq!(set.bus.notify(OTHER, &measurement(0).encode()), 1);
    daemon.wait_log("another device is the sensor now");
    daemon.stop();
    let daemon = set.start();
    send(&mut set, &daemon, OTHER, 2);
    daemon.stop();
    assert_ne!(set.readings()[0]["session_id"], set.readings()[1]["session_id"]);
    let before = replacements(&set);
    assert!(before > 0);
    // From then on it is the sensor.
    let daemon = set.start();
    send(&mut set, &daemon, OTHER, 3);
    daemon.stop();
    assert_eq!(set.readings()[1]["session_id"], set.readings()[2]["session_id"]);
    assert_eq!(replacements(&set), before);
}

#[test]
fn a_device_that_shows_another_name_before_it_sends_anything_is_found_again() {
    let mut set = Set::new(&named("H10", ""));
    set.bus.tell(&format!("sensor {OTHER} H10 gap=Polar_H10_A1B2"));
    let daemon = set.start();
    set.bus.wait_subscribed(OTHER);
    daemon.stop();
    let daemon = set.start();
    set.bus.wait_subscribed(OTHER);
    set.bus.tell(&format!("drop {OTHER}"));
    send(&mut set, &daemon, OTHER, 1);
    daemon.stop();
}

#[test]
fn a_discovered_device_that_gets_a_block_is_that_sensor_alone() {
    let mut set = Set::new("[bluetooth]\ndiscover = true\n");
    let daemon = set.start();
    send(&mut set, &daemon, WATCH, 1);
    // It gets its block while it is away, and nobody knows of it.
    set.bus.tell(&format!("range {WATCH} out"));
    let block = named("Forerunner*", "");
    set.reconfigure("[bluetooth]", &format!("{block}[bluetooth]"));
    daemon.signal("HUP");
    daemon.wait_log("configuration read again");
    set.bus.tell(&format!("range {WATCH} in"));
    send(&mut set, &daemon, WATCH, 2);
    for count in 3..6 {
        std::thread::sleep(Duration::from_secs(1));
        send(&mut set, &daemon, WATCH, count);
    }
    daemon.stop();
    let whose: Vec<_> = set.readings().iter().map(|line| line["sensor_id"].clone()).collect();
    assert_eq!(whose[1..], ["adi"; 4]);
}

#[test]
fn a_discovered_device_that_turns_out_to_be_a_configured_one_is_let_go_of() {
    let mut set = Set::new(&format!("[bluetooth]\ndiscover = true\n{}", named("Polar H10 A1B2", "")));
    set.bus.tell(&format!("range {WATCH} out"));
    set.bus.tell(&format!("sensor {OTHER} H10 gap=Polar_H10_A1B2"));
    let daemon = set.start();
    set.bus.wait_subscribed(OTHER);
    // Whoever it is sent to now: from the reading after it on, it is hers.
    wait_for("hers", Duration::from_secs(60), || {
        set.bus.notify(OTHER, &measurement(61).encode());
        std::thread::sleep(Duration::from_millis(300));
        set.readings().iter().any(|line| line["sensor_id"] == "adi").then_some(())
    });
    let before = set.readings().len();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_secs(1));
        set.bus.notify(OTHER, &measurement(62).encode());
    }
    daemon.stop();
    let whose: Vec<_> = set.readings().iter().map(|line| line["sensor_id"].clone()).collect();
    assert!(whose.len() > before, "{whose:?}");
    let first = whose.iter().position(|id| id == "adi").unwrap();
    assert!(whose[first..].iter().all(|id| id == "adi"), "{whose:?}");
}

#[test]
fn of_two_that_cannot_be_told_apart_none_is_connected_and_the_one_that_is_left_is_kept() {
    let mut set = Set::new(&named("TICKR", ""));
    for address in ["C0:FF:EE:00:00:11", "C0:FF:EE:00:00:12"] {
        set.bus.tell(&format!("sensor {address} TICKR"));
    }
    let daemon = set.start();
    daemon.wait_log("several devices have the sensor's name");
    assert_eq!(connects(&mut set, "C0:FF:EE:00:00:11") + connects(&mut set, "C0:FF:EE:00:00:12"), 0);
    set.bus.tell("advertise C0:FF:EE:00:00:11 off");
    send(&mut set, &daemon, "C0:FF:EE:00:00:12", 1);
    // Now that it is known, the other is no riddle.
    set.bus.tell("drop C0:FF:EE:00:00:12");
    set.bus.tell("advertise C0:FF:EE:00:00:11 on");
    send(&mut set, &daemon, "C0:FF:EE:00:00:12", 2);
    assert_eq!(connects(&mut set, "C0:FF:EE:00:00:11"), 0);
    daemon.stop();
}

#[test]
fn each_gets_the_strap_that_has_its_very_name() {
    let block = |id: &str, name: &str| format!("[[sensor]]\nid = \"{id}\"\nname = \"{name}\"\n");
    let mut set = Set::new(&[block("alice", "TICKR"), block("bob", "TICKR X")].concat());
    for (address, name) in [(WATCH, "TICKR_X"), (OTHER, "TICKR")] {
        if address != WATCH {
            set.bus.tell(&format!("sensor {address} {name}"));
        } else {
            set.bus.tell(&format!("rename {address} {name}"));
        }
    }
    let daemon = set.start();
    send(&mut set, &daemon, WATCH, 1);
    send(&mut set, &daemon, OTHER, 2);
    daemon.stop();
    let whose: Vec<_> = set.readings().iter().map(|line| line["sensor_id"].clone()).collect();
    assert_eq!(whose, ["bob", "alice"]);
}

#[test]
fn two_blocks_of_one_name_are_refused_and_one_whose_name_only_begins_so_is_explained() {
    let block = |id: &str| format!("[[sensor]]\nid = \"{id}\"\nname = \"TICKR\"\n");
    let set = Set::new(&[block("alice"), block("bob")].concat());
    let (said, done) = set.run(&["check"]);
    assert!(!done && said.contains("give each its `address`"), "{said}");
    let set = Set::new(&named("Forerunner", ""));
    let daemon = set.start();
    daemon.wait_log("write `name = \"…*\"`");
    daemon.stop();
}

#[test]
fn a_device_that_shows_another_name_after_its_first_link_is_found_again() {
    let mut set = Set::new(&named("H10", ""));
    set.bus.tell(&format!("sensor {OTHER} H10 gap=Polar_H10_A1B2"));
    let daemon = set.start();
    send(&mut set, &daemon, OTHER, 1);
    set.bus.tell(&format!("drop {OTHER}"));
    send(&mut set, &daemon, OTHER, 2);
    daemon.stop();
    let daemon = set.start();
    send(&mut set, &daemon, OTHER, 3);
    daemon.stop();
    let (said, _) = set.run(&["sensor", "list"]);
    assert!(said.contains("Polar H10 A1B2"), "{said}");
}

#[test]
fn a_device_that_changes_its_address_is_found_by_its_name() {
    const PRIVATE: [&str; 2] = ["4A:FF:EE:00:00:03", "5B:FF:EE:00:00:04"];
    let mut set = Set::new(&named("Venu 3", ""));
    set.bus.tell(&format!("sensor {} Venu_3", PRIVATE[0]));
    let daemon = set.start();
    send(&mut set, &daemon, PRIVATE[0], 1);
    set.bus.tell(&format!("readdress {} {}", PRIVATE[0], PRIVATE[1]));
    send(&mut set, &daemon, PRIVATE[1], 2);
    daemon.stop();
    assert_eq!(replacements(&set), 0, "it is the same device");
}

#[test]
fn which_device_each_sensor_is_is_kept_in_the_queues_folder_where_there_is_no_place_beside_it() {
    let mut set = Set::new(&named("Forerunner*", ""));
    std::fs::create_dir(set.folder.path().join("queue.sensors.partial")).unwrap();
    let daemon = set.start();
    send(&mut set, &daemon, WATCH, 1);
    daemon.stop();
    set.bus.tell(&format!("range {WATCH} out"));
    set.bus.tell(&format!("sensor {OTHER} Forerunner_965"));
    let daemon = set.start();
    daemon.wait_log("is another than it was");
    assert!(!daemon.log().contains("could not be written"), "{}", daemon.log());
    daemon.stop();
    assert!(set.run(&["sensor", "list"]).0.contains(WATCH));
}

#[test]
fn what_was_kept_and_is_damaged_is_set_aside_and_said() {
    let mut set = Set::new(&named("Forerunner*", ""));
    let daemon = set.start();
    send(&mut set, &daemon, WATCH, 1);
    daemon.stop();
    let kept = std::fs::read_dir(set.folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let kept = kept.into_iter().find(|path| path.extension().is_some_and(|e| e == "sensors")).unwrap();
    std::fs::write(&kept, "{\"devices\": ").unwrap();
    let daemon = set.start();
    daemon.wait_log("which device each sensor is cannot be read");
    send(&mut set, &daemon, WATCH, 2);
    daemon.stop();
    assert!(kept.with_extension("sensors.damaged").exists());
    let mode = std::os::unix::fs::PermissionsExt::mode(&kept.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "addresses are for their owner alone");
}

#[test]
fn scan_shows_what_is_nearby_and_a_block_for_each_sensor() {
    let mut set = Set::new("");
    set.bus.tell("sensor C0:FF:EE:00:00:06 Loudspeaker hrs=no");
    set.bus.tell(r"sensor C0:FF:EE:00:00:07 a\x1b[31m\x0d\x0a\u202eb rssi=-70");
    let (said, _) = set.run(&["scan", "--for", "1s", "--json"]);
    let found: Vec<Value> = serde_json::from_str(&said).unwrap();
    assert_eq!(found.len(), 3);
    assert_eq!(found[0]["address"], WATCH);
    assert_eq!(found[0]["name"], "Forerunner 255");
    assert_eq!(found[0]["rssi"], -50);
    assert_eq!(found[0]["heart_rate"], true);
    assert_eq!(found[0]["services"][0], "180d");
    let (said, _) = set.run(&["scan", "--for", "1s"]);
    assert!(said.contains("-50 dBm"), "{said}");
    assert!(said.contains(&format!("[[sensor]]\nid = \"forerunner-255\"\naddress = \"{WATCH}\"")), "{said}");
    assert!(said.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{said:?}");
    // What is printed is a configuration.
    let blocks = said.split_once("whose it is:").unwrap().1;
    let file = set.folder.path().join("printed.toml");
    std::fs::write(&file, blocks).unwrap();
    let (said, done) = set.run(&["check", "--config", file.to_str().unwrap()]);
    assert!(done && said.contains("sensor.1.id = \"a-31m-b\""), "{said}");
    // An address that changes is none to write down.
    set.bus.tell("sensor 4A:FF:EE:00:00:03 Venu_3");
    let (said, _) = set.run(&["scan", "--for", "1s"]);
    assert!(said.contains("id = \"venu-3\"\nname = \"Venu 3\""), "{said}");
}

/// The kept devices outlive a move of the queue.
#[test]
fn a_queue_that_moves_takes_along_which_device_each_sensor_is() {
    let mut set = Set::new(&named("Forerunner*", ""));
    let daemon = set.start();
    send(&mut set, &daemon, WATCH, 1);
    set.reconfigure("/queue\"", "/second\"");
    daemon.signal("HUP");
    daemon.wait_log("begins anew with it");
    wait_for("the file beside the new queue", Duration::from_secs(20), || {
        set.folder.path().join("second.sensors").exists().then_some(())
    });
    daemon.stop();
    assert!(set.run(&["sensor", "list"]).0.contains(WATCH));
}
