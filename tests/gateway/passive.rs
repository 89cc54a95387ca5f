//! Sensors whose readings come in their advertisements; and what sensors say of themselves.

use std::time::Duration;

use serde_json::Value;

use super::bluetooth::{Set, WATCH, one_watch};
use crate::support::daemon::Daemon;
use crate::support::{measurement, wait_for};

const STRAP: &str = "C0:FF:EE:00:00:21";

/// Polar's four bytes: flags with contact and this count, and the heart rate.
fn advertise(set: &mut Set, address: &str, count: u8, heart_rate: u8) {
    let flags = 0x23 | (count % 8) << 2;
    set.bus.tell(&format!("manufacturer-data {address} 006b {flags:02x}16{heart_rate:02x}{heart_rate:02x}"));
}

#[track_caller]
fn wait_received(daemon: &Daemon, count: u64) {
    wait_for(&format!("{count} readings"), Duration::from_secs(30), || {
        (daemon.status()["totals"]["received"] == count).then_some(())
    });
}

#[test]
fn advertised_heart_rates_are_readings_without_a_link_each_measurement_once() {
    let mut set = Set::new(
        "[bluetooth]\nsilence_max = \"3s\"\n[session]\ngap_after = \"3s\"\n\
         [[sensor]]\nid = \"lane-1\"\nname = \"Polar*\"\nmode = \"advertisement\"\n",
    );
    set.bus.tell(&format!("sensor {STRAP} Polar_H10_A1B2"));
    let daemon = set.start();
    daemon.wait_log("gateway running");
    for count in 0..5_u8 {
        advertise(&mut set, STRAP, count, 60 + count);
        wait_received(&daemon, u64::from(count) + 1);
        std::thread::sleep(Duration::from_secs(1));
    }
    daemon.wait_log("readings flow");
    let (said, _) = set.run(&["sensor", "list"]);
    assert!(said.contains(STRAP) && said.contains("readings flow"), "{said}");
    // Off the skin it says 0, and out of range nothing.
    advertise(&mut set, STRAP, 5, 0);
    set.bus.tell(&format!("range {STRAP} out"));
    daemon.wait_log("not in range");
    set.bus.tell(&format!("range {STRAP} in"));
    advertise(&mut set, STRAP, 6, 70);
    wait_received(&daemon, 6);
    daemon.wait_delivered(6);
    daemon.stop();
    let rates: Vec<u64> = set.readings().iter().map(|line| line["heart_rate"].as_u64().unwrap()).collect();
    assert_eq!(rates, [60, 61, 62, 63, 64, 70]);
    for line in set.readings() {
        assert_eq!((&line["mode"], &line["sensor_contact"]), (&"advertisement".into(), &true.into()));
        assert!(line.get("rr_intervals_ms").is_none());
    }
    let gaps: Vec<Value> = set.lines().iter().filter_map(|line| line.get("gap_reason").cloned()).collect();
    assert!(gaps.contains(&"no_contact".into()) && gaps.contains(&"link_down".into()), "{gaps:?}");
    let stats = set.bus.stats(STRAP);
    assert_eq!((&stats["connect"], &stats["start_notify"]), (&0.into(), &0.into()), "no link was asked for");
}

#[test]
fn forty_advertising_sensors_are_heard_beside_one_that_is_linked() {
    let addresses: Vec<String> = (0..40).map(|n| format!("C0:FF:EE:00:02:{n:02X}")).collect();
    let blocks = addresses.iter().enumerate().map(|(n, address)| {
        format!("[[sensor]]\nid = \"lane-{n}\"\naddress = \"{address}\"\nmode = \"advertisement\"\n")
    });
    let mut set = Set::new(&(blocks.collect::<String>() + &one_watch()));
    addresses.iter().for_each(|address| _ = set.bus.tell(&format!("sensor {address} Polar")));
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    // So that each is known to be there.
    wait_for("all to be found", Duration::from_secs(30), || {
        addresses.iter().for_each(|address| advertise(&mut set, address, 0, 60));
        (daemon.status()["totals"]["received"].as_u64() >= Some(40)).then_some(())
    });
    assert_eq!(set.bus.notify(WATCH, &measurement(61).encode()), 1);
    wait_for("each of them", Duration::from_secs(30), || {
        let status = daemon.status();
        let heard = status["sensors"].as_array().unwrap().iter();
        (heard.filter(|row| row["readings"]["received"].as_u64() > Some(0)).count() == 41).then_some(())
    });
    daemon.stop();
    assert!(addresses.iter().all(|address| set.bus.stats(address)["connect"] == 0));
}

#[test]
fn a_sensors_state_and_where_it_is_worn_are_sent() {
    let mut set = Set::new(&one_watch());
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    set.bus.notify(WATCH, &measurement(60).encode());
    daemon.wait_log("sensor described");
    wait_for("the state record", Duration::from_secs(20), || {
        (daemon.status()["totals"]["other_records"]["delivered"] == 1).then_some(())
    });
    set.bus.notify(WATCH, &measurement(61).encode());
    daemon.wait_delivered(2);
    daemon.stop();
    let state = set.lines().into_iter().find(|line| line["record"] == "sensor_state").unwrap();
    assert_eq!(state["battery_percent"], 87);
    assert_eq!(state["sensor_location"], "wrist");
    assert_eq!(state["rssi_dbm"], -50);
    assert!(state.get("heart_rate").is_none() && state.get("gap_reason").is_none(), "{state}");
    assert_eq!(set.readings()[1]["sensor_location"], "wrist");
    // After a restart it is known from the first reading on.
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    set.bus.notify(WATCH, &measurement(62).encode());
    daemon.wait_delivered(3);
    daemon.stop();
    assert_eq!(set.readings()[2]["sensor_location"], "wrist");
    let (said, done) = set.run(&["queue", "status"]);
    assert!(done && said.contains("other"), "{said}");
}

#[test]
fn a_sensor_whose_advertisements_say_nothing_of_the_heart_is_told_of() {
    let mut set =
        Set::new(&format!("[bluetooth]\nsilence_max = \"2s\"\n{}mode = \"advertisement\"\n", one_watch()));
    let daemon = set.start();
    daemon.wait_log("its advertisements say nothing of the heart");
    daemon.stop();
    assert_eq!(set.bus.stats(WATCH)["connect"], 0);
}
