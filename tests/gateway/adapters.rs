//! Several adapters, and what befalls them.

use std::time::{Duration, Instant};

use super::bluetooth::{Set, WATCH, one_watch};
use crate::support::{measurement, wait_for};

/// By which adapter the watch is linked.
fn via(set: &mut Set) -> String {
    set.bus.stats(WATCH)["via"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn one_that_rfkill_blocks_is_named_and_another_is_used() {
    let mut set = Set::new(&one_watch());
    set.bus.tell("adapter hci0 block");
    let daemon = set.start();
    daemon.wait_log("blocked by rfkill");
    let (said, done) = set.run(&["check", "--online"]);
    assert!(
        !done && said.contains("FAIL  adapter: adi-forerunner: ") && said.contains("rfkill unblock"),
        "{said}"
    );
    set.bus.tell("adapter hci1 add");
    set.bus.wait_subscribed(WATCH);
    assert_eq!(via(&mut set), "hci1");
    let (said, _) = set.run(&["check", "--online"]);
    assert!(said.contains("ok    adapter: hci0 is blocked by rfkill"), "{said}");
    assert!(said.contains("hci1 is on"), "{said}");
    daemon.stop();
}

#[test]
fn the_one_that_hears_it_loudest_is_used_and_another_takes_over_within_ten_seconds() {
    let mut set = Set::new(&format!("[session]\ngap_after = \"2s\"\n{}", one_watch()));
    set.bus.tell("adapter hci1 add");
    set.bus.tell(&format!("hear {WATCH} hci1 -40"));
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    assert_eq!(via(&mut set), "hci1");
    assert_eq!(set.bus.notify(WATCH, &measurement(61).encode()), 1);
    daemon.wait_delivered(1);
    let pulled_at = Instant::now();
    set.bus.tell("adapter hci1 remove");
    wait_for("the other adapter", Duration::from_secs(30), || (via(&mut set) == "hci0").then_some(()));
    let took = pulled_at.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    set.bus.wait_subscribed(WATCH);
    // Long enough for a gap.
    std::thread::sleep(Duration::from_secs(2).saturating_sub(pulled_at.elapsed()));
    assert_eq!(set.bus.notify(WATCH, &measurement(62).encode()), 1);
    daemon.wait_delivered(2);
    assert!(!daemon.log().contains("no Bluetooth adapter"), "{}", daemon.log());
    daemon.stop();
    assert!(set.lines().iter().any(|line| line["gap_reason"] == "adapter_gone"), "{:?}", set.lines());
}

#[test]
fn one_that_fails_with_a_sensor_yields_to_the_other() {
    let mut set = Set::new(&one_watch());
    set.bus.tell("adapter hci1 add");
    set.bus.tell(&format!("hear {WATCH} hci0 -40"));
    set.bus.tell("adapter hci0 fails 99");
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    assert_eq!(via(&mut set), "hci1");
    assert!(set.bus.stats(WATCH)["connect"].as_u64() <= Some(3), "{}", set.bus.stats(WATCH));
    daemon.stop();
}

#[test]
fn an_adapter_is_found_by_its_address_whatever_its_name() {
    const DONGLE: &str = "00:1A:7D:00:00:99";
    let mut set = Set::new(&one_watch().replace("address", &format!("adapter = \"{DONGLE}\"\naddress")));
    let daemon = set.start();
    daemon.wait_log("the sensor's adapter is not there");
    let (said, done) = set.run(&["check", "--online"]);
    assert!(!done && said.contains("there is no adapter of that name or address"), "{said}");
    set.bus.tell(&format!("adapter hci1 add {DONGLE}"));
    set.bus.wait_subscribed(WATCH);
    assert_eq!(via(&mut set), "hci1");
    set.bus.tell("adapter hci1 remove");
    set.bus.tell(&format!("adapter hci2 add {DONGLE}"));
    set.bus.wait_subscribed(WATCH);
    assert_eq!(via(&mut set), "hci2");
    daemon.stop();
}

#[test]
fn one_that_is_merely_off_is_no_fault_and_who_scans_is_told_that_it_is_switched_on() {
    let mut set = Set::new(&one_watch());
    set.bus.tell("adapter hci0 power off");
    let (said, _) = set.run(&["check", "--online"]);
    assert!(said.contains("ok    adapter: hci0 is off (the daemon switches it on"), "{said}");
    let (said, done) = set.run(&["scan", "--for", "1s"]);
    assert!(done && said.contains("hci0 is off; ") && said.contains(WATCH), "{said}");
}

#[test]
fn adapters_that_are_not_configured_are_left_alone() {
    let mut set = Set::new(&format!("[bluetooth]\nadapters = [\"hci1\"]\n{}", one_watch()));
    set.bus.tell("adapter hci1 add");
    set.bus.tell(&format!("hear {WATCH} hci0 -30"));
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    assert_eq!(via(&mut set), "hci1");
    daemon.stop();
    let stats: serde_json::Value = serde_json::from_str(&set.bus.tell("adapter-stats hci0")).unwrap();
    assert_eq!(stats["start_discovery"], 0);
}

#[test]
fn an_adapter_without_a_link_left_is_told_of_and_one_that_is_free_is_used() {
    let addresses: Vec<String> = (1..=4).map(|n| format!("C0:FF:EE:00:01:{n:02X}")).collect();
    let blocks = addresses.iter().enumerate();
    let blocks = blocks.map(|(n, at)| format!("[[sensor]]\nid = \"strap-{n}\"\naddress = \"{at}\"\n"));
    let mut set = Set::new(&format!("[session]\ngap_after = \"2s\"\n{}", blocks.collect::<String>()));
    set.bus.tell("adapter hci0 slots 4");
    addresses.iter().for_each(|address| _ = set.bus.tell(&format!("sensor {address} Strap")));
    let daemon = set.start();
    for (count, address) in (1..).zip(&addresses) {
        set.bus.wait_subscribed(address);
        assert_eq!(set.bus.notify(address, &measurement(70).encode()), 1);
        daemon.wait_delivered(count);
    }
    // One leaves, and its place is taken before it comes back.
    set.bus.tell(&format!("range {} out", addresses[3]));
    set.bus.tell("sensor C0:FF:EE:00:00:06 Loudspeaker hrs=no");
    set.bus.tell("foreign-link C0:FF:EE:00:00:06 hci0");
    set.bus.tell(&format!("range {} in", addresses[3]));
    daemon.wait_log("no adapter that hears the sensor has a link left");
    set.bus.tell("adapter hci1 add");
    set.bus.wait_subscribed(&addresses[3]);
    assert_eq!(set.bus.stats(&addresses[3])["via"], "hci1");
    assert_eq!(set.bus.notify(&addresses[3], &measurement(70).encode()), 1);
    daemon.wait_delivered(5);
    daemon.stop();
    assert!(set.lines().iter().any(|line| line["gap_reason"] == "adapter_full"), "{:?}", set.lines());
}
