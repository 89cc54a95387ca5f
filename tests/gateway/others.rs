//! What is not the gateway's stays whole: other programs' links, and bonds made by hand.

use std::time::Duration;

use super::bluetooth::{Set, WATCH, one_watch};
use crate::support::{measurement, wait_for};

/// What the stats of a sensor say of this.
fn count(set: &mut Set, address: &str, what: &str) -> u64 {
    set.bus.stats(address)[what].as_u64().unwrap()
}

fn power_cycles(set: &mut Set) -> u64 {
    let stats: serde_json::Value = serde_json::from_str(&set.bus.tell("adapter-stats hci0")).unwrap();
    stats["power_cycles"].as_u64().unwrap()
}

#[test]
fn a_bond_made_by_hand_outlives_any_number_of_failures() {
    const STRAP: &str = "C0:FF:EE:00:00:09";
    let mut set = Set::new(&format!("[[sensor]]\nid = \"strap\"\naddress = \"{STRAP}\"\n"));
    set.bus.tell(&format!("sensor {STRAP} Polar_H10 paired=hci0"));
    set.bus.tell(&format!("fail {STRAP} connect 5"));
    let daemon = set.start();
    set.bus.wait_subscribed(STRAP);
    assert_eq!(count(&mut set, STRAP, "connect"), 6);
    assert_eq!(count(&mut set, STRAP, "remove"), 0);
    assert_eq!(set.bus.stats(STRAP)["paired"], true);
    assert_eq!(set.bus.notify(STRAP, &measurement(61).encode()), 1);
    daemon.wait_delivered(1);
    daemon.stop();
}

#[test]
fn a_paired_device_whose_name_begins_alike_is_never_touched() {
    const KEYBOARD: &str = "C0:FF:EE:00:00:06";
    let mut set = Set::new("[[sensor]]\nid = \"strap\"\nname = \"Polar*\"\n");
    set.bus.tell(&format!("sensor {KEYBOARD} Polar_Keyboard hrs=no paired=hci0"));
    set.bus.tell(&format!("fail {KEYBOARD} connect 4"));
    let daemon = set.start();
    wait_for("some tries", Duration::from_secs(60), || {
        (count(&mut set, KEYBOARD, "connect") > 3).then_some(())
    });
    daemon.stop();
    assert_eq!(count(&mut set, KEYBOARD, "remove"), 0);
    assert_eq!(set.bus.stats(KEYBOARD)["paired"], true);
}

#[test]
fn a_silent_sensor_does_not_cost_others_their_links() {
    const SPEAKER: &str = "C0:FF:EE:00:00:06";
    let mut set = Set::new(&format!("[bluetooth]\nsilence_max = \"2s\"\n{}", one_watch()));
    set.bus.tell(&format!("sensor {SPEAKER} Loudspeaker hrs=no"));
    set.bus.tell(&format!("foreign-link {SPEAKER} hci0"));
    let daemon = set.start();
    // Past every rung of the ladder.
    wait_for("eight tries", Duration::from_secs(120), || {
        (count(&mut set, WATCH, "connect") >= 8).then_some(())
    });
    assert_eq!(power_cycles(&mut set), 0);
    assert_eq!(set.bus.stats(SPEAKER)["connected"], true);
    assert_eq!(count(&mut set, SPEAKER, "disconnect"), 0);
    daemon.stop();
}

#[test]
fn notifications_that_another_program_took_are_waited_for() {
    let mut set = Set::new(&one_watch());
    set.bus.tell(&format!("acquired {WATCH} on"));
    set.bus.tell(&format!("foreign-link {WATCH} hci0"));
    let daemon = set.start();
    daemon.wait_log("another program takes the sensor's notifications");
    std::thread::sleep(Duration::from_secs(5));
    for what in ["disconnect", "remove", "pair"] {
        assert_eq!(count(&mut set, WATCH, what), 0, "{what}");
    }
    assert!(!daemon.log().contains("demands bonding"), "{}", daemon.log());
    set.bus.tell(&format!("acquired {WATCH} off"));
    set.bus.wait_subscribed(WATCH);
    assert_eq!(set.bus.notify(WATCH, &measurement(61).encode()), 1);
    daemon.wait_delivered(1);
    daemon.stop();
    assert_eq!(count(&mut set, WATCH, "disconnect"), 0, "the link is the other program's");
}

#[test]
fn the_gateways_own_link_is_left_while_another_program_takes_the_notifications_and_closed_when_not() {
    for is_taken_still in [true, false] {
        let mut set = Set::new(&one_watch());
        set.bus.tell(&format!("acquired {WATCH} on"));
        let daemon = set.start();
        daemon.wait_log("another program takes the sensor's notifications");
        if !is_taken_still {
            set.bus.tell(&format!("acquired {WATCH} off"));
            set.bus.wait_subscribed(WATCH);
        }
        daemon.stop();
        assert_eq!(set.bus.stats(WATCH)["connected"], is_taken_still);
    }
}

#[test]
fn a_link_of_another_program_is_used_and_left_and_one_of_a_killed_gateway_is_closed() {
    let mut set = Set::new(&one_watch());
    set.bus.tell(&format!("foreign-link {WATCH} hci0"));
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    assert_eq!(set.bus.notify(WATCH, &measurement(61).encode()), 1);
    daemon.wait_delivered(1);
    daemon.stop();
    let stats = set.bus.stats(WATCH);
    assert_eq!((&stats["connected"], &stats["disconnect"]), (&true.into(), &0.into()));
    set.bus.tell(&format!("drop {WATCH}"));
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    daemon.kill();
    assert_eq!(set.bus.stats(WATCH)["connected"], true);
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    assert_eq!(set.bus.notify(WATCH, &measurement(62).encode()), 1);
    daemon.wait_delivered(2);
    daemon.stop();
    assert_eq!(set.bus.stats(WATCH)["connected"], false, "it was the gateway's own");
}

#[test]
fn a_link_that_another_program_made_after_bluetoothd_was_started_anew_is_left() {
    let mut set = Set::new(&one_watch());
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    daemon.kill();
    set.bus.tell("restart");
    set.bus.tell(&format!("foreign-link {WATCH} hci0"));
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    daemon.stop();
    let stats = set.bus.stats(WATCH);
    assert_eq!((&stats["connected"], &stats["disconnect"]), (&true.into(), &0.into()));
}

#[test]
fn services_that_changed_under_a_bond_are_bonded_anew_if_it_is_ours_and_named_if_not() {
    const STRAP: &str = "C0:FF:EE:00:00:09";
    let block = format!("[[sensor]]\nid = \"strap\"\naddress = \"{STRAP}\"\nbond = true\n");
    let mut set = Set::new(&block);
    set.bus.tell(&format!("sensor {STRAP} Polar_H10 bond=required"));
    let daemon = set.start();
    set.bus.wait_subscribed(STRAP);
    daemon.stop();
    // The strap's firmware was changed; also a gateway that was started anew knows whose bond it is.
    set.bus.tell(&format!("stale {STRAP} hci0"));
    let daemon = set.start();
    daemon.wait_log("removing this gateway's bond");
    set.bus.wait_subscribed(STRAP);
    assert_eq!(set.bus.notify(STRAP, &measurement(61).encode()), 1);
    daemon.wait_delivered(1);
    daemon.stop();
    assert_eq!((count(&mut set, STRAP, "remove"), power_cycles(&mut set)), (1, 0));

    let mut set = Set::new(&block);
    set.bus.tell(&format!("sensor {STRAP} Polar_H10 paired=hci0"));
    set.bus.tell(&format!("stale {STRAP} hci0"));
    let daemon = set.start();
    daemon.wait_log("one that others made stays");
    wait_for("several tries", Duration::from_secs(60), || {
        (count(&mut set, STRAP, "start_notify") > 4).then_some(())
    });
    daemon.stop();
    assert_eq!(count(&mut set, STRAP, "remove"), 0);
    assert_eq!(set.bus.stats(STRAP)["paired"], true);
}
