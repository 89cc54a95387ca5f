//! Bonding, over the mock bus.

use crate::bluetooth::{Set, WATCH, one_watch};
use crate::support::{measurement, wait_for};
use std::time::Duration;

#[test]
fn a_sensor_that_demands_a_bond_gets_one_when_asked_and_a_plain_word_when_not() {
    let mut set = Set::new("[[sensor]]\nid = \"strap\"\nname = \"Polar H10\"\n");
    const STRAP: &str = "C0:FF:EE:00:00:09";
    set.bus.tell(&format!("sensor {STRAP} Polar_H10 bond=required"));
    let daemon = set.start();
    daemon.wait_log("set `bond = true` in its [[sensor]] block");
    let config = set.folder.path().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("name = \"Polar H10\"", "name = \"Polar H10\"\nbond = true"))
        .unwrap();
    daemon.signal("HUP");
    set.bus.wait_subscribed(STRAP);
    assert_eq!(set.bus.stats(STRAP)["paired"], true);
    assert_eq!(set.bus.notify(STRAP, &measurement(61).encode()), 1);
    daemon.wait_delivered(1);
    daemon.stop();
}

#[test]
fn a_bond_whose_answer_was_lost_with_the_link_is_ours() {
    let mut set = Set::new(&one_watch().replace("[[sensor]]", "[[sensor]]\nbond = true"));
    set.bus.tell(&format!("fail {WATCH} answer 1"));
    let daemon = set.start();
    daemon.wait_log("bonded with the sensor");
    set.bus.wait_subscribed(WATCH);
    let stats = set.bus.stats(WATCH);
    assert_eq!((&stats["pair"], &stats["paired"]), (&1.into(), &true.into()));
    daemon.stop();
}

#[test]
fn a_sensor_that_is_to_bond_from_now_on_does_so_over_a_link_of_its_own() {
    [false, true].into_iter().for_each(bonds_over_a_link_of_its_own);
}

fn bonds_over_a_link_of_its_own(taken_out: bool) {
    let mut set = Set::new(&one_watch());
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    let config = set.folder.path().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let with_bond = text.replace("[[sensor]]", "[[sensor]]\nbond = true");
    set.bus.tell(&format!("hang {WATCH} disconnect"));
    // At once, or taken out before: the old link is being closed in either case.
    let first = if taken_out { text.replace(&one_watch(), "") } else { with_bond.clone() };
    std::fs::write(&config, first).unwrap();
    daemon.signal("HUP");
    wait_for("the old link's end", Duration::from_secs(20), || {
        (set.bus.stats(WATCH)["disconnect"] == 1).then_some(())
    });
    std::fs::write(&config, with_bond).unwrap();
    daemon.signal("HUP");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(set.bus.stats(WATCH)["pair"], 0, "it bonds over a link that is being closed");
    set.bus.tell(&format!("hang {WATCH} none"));
    daemon.wait_log("bonded with the sensor");
    set.bus.wait_subscribed(WATCH);
    assert_eq!(set.bus.stats(WATCH)["connect"], 2);
    daemon.stop();
}
