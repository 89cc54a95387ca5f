//! Watches over the mock bus, into the fake Kinesis.

use crate::support::daemon::{Daemon, command, configure};
use crate::support::fake_kinesis::{FakeKinesis, Options};
use crate::support::mock_bus::MockBus;
use crate::support::{measurement, recorded_heart_rates, wait_for};
use serde_json::Value;
use std::time::Duration;

pub const WATCH: &str = "C0:FF:EE:00:00:01";

pub struct Set {
    pub bus: MockBus,
    kinesis: FakeKinesis,
    pub folder: tempfile::TempDir,
}

impl Set {
    pub fn new(more_config: &str) -> Self {
        let mut bus = MockBus::start();
        bus.tell(&format!(
            "sensor {WATCH} Forerunner_255 battery=87 location=2 manufacturer=Garmin model=FR255"
        ));
        let kinesis = FakeKinesis::start(Options::default());
        let folder = tempfile::tempdir().unwrap();
        let endpoint = kinesis.endpoint();
        let gateway = "[gateway]\nid = \"living-room\"\n[kinesis]\nstream = \"hr-kinesis-stream\"";
        configure(folder.path(), &format!("{more_config}\n{gateway}\nendpoint = {endpoint:?}\n"));
        Self { bus, kinesis, folder }
    }

    pub fn start(&self) -> Daemon {
        Daemon::start(self.folder.path(), &self.bus.address())
    }

    /// A command of the gateway: what it prints, and whether it succeeded.
    pub fn run(&self, args: &[&str]) -> (String, bool) {
        let output = command(self.folder.path(), &self.bus.address()).args(args).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8(said).unwrap(), output.status.success())
    }

    /// Puts `from` in the configuration in the place of `to`.
    pub fn reconfigure(&self, from: &str, to: &str) {
        let config = self.folder.path().join("config.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&config, text.replace(from, to)).unwrap();
    }

    /// The accepted lines as JSON, by sequence.
    pub fn lines(&self) -> Vec<Value> {
        let mut lines: Vec<Value> = self
            .kinesis
            .seen(|seen| seen.lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect());
        lines.sort_by_key(|line| line["sequence"].as_u64());
        lines
    }

    pub fn readings(&self) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line.get("heart_rate").is_some()).collect()
    }
}

pub fn one_watch() -> String {
    format!("[[sensor]]\nid = \"adi-forerunner\"\naddress = \"{WATCH}\"\n")
}

#[track_caller]
fn assert_gap_free_and_once(lines: &[Value]) {
    let sequences: Vec<u64> = lines.iter().map(|line| line["sequence"].as_u64().unwrap()).collect();
    let first = sequences[0];
    assert_eq!(sequences, (first..first + lines.len() as u64).collect::<Vec<_>>(), "no hole, nothing twice");
}

#[test]
fn a_recorded_run_arrives_once_and_in_order_with_every_heart_rate() {
    let mut set = Set::new(&one_watch());
    let rates = recorded_heart_rates("garmin-fenix2-run-47min.csv", usize::MAX);
    let payloads: Vec<_> = rates.iter().map(|rate| measurement(*rate).encode()).collect();
    let first: String = payloads[0].iter().map(|byte| format!("{byte:02x}")).collect();
    set.bus.tell(&format!("greet {WATCH} {first}"));
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    set.bus.notify_all(WATCH, &payloads[1..]);
    let status = daemon.wait_delivered(rates.len() as u64);
    assert_eq!(status["balances"], true);
    daemon.wait_log("sensor described");
    let log = daemon.log();
    assert!(log.contains("battery_percent=87") && log.contains("wrist") && log.contains("FR255"), "{log}");
    assert!(!log.contains(WATCH), "an address does not leave BlueZ");
    daemon.stop();
    let readings = set.readings();
    assert_gap_free_and_once(&set.lines());
    let arrived: Vec<u16> = readings.iter().map(|line| line["heart_rate"].as_u64().unwrap() as u16).collect();
    assert_eq!(arrived, rates);
    let first = &readings[0];
    let names = [&first["gateway_id"], &first["sensor_id"]];
    assert_eq!(names, ["living-room", "adi-forerunner"]);
    assert_eq!(first["schema_version"], 1);
    assert_eq!(first["timestamp"].as_str().unwrap().len(), 24);
}

#[test]
fn after_each_loss_of_the_link_values_come_once_again() {
    let mut set = Set::new(&one_watch());
    let daemon = set.start();
    let mut sent = 0;
    for loss in ["drop WATCH", "restart", "adapter hci0 power off", "range WATCH out", "adapter hci0 remove"]
    {
        set.bus.wait_subscribed(WATCH);
        for _ in 0..3 {
            sent += 1;
            assert_eq!(set.bus.notify(WATCH, &measurement(80 + sent as u16).encode()), 1, "before {loss}");
        }
        // In the log, not only on the bus, before the link goes.
        wait_for("delivery before the loss", Duration::from_secs(20), || {
            (set.readings().len() == sent).then_some(())
        });
        set.bus.tell(&loss.replace("WATCH", WATCH));
        match loss {
            "range WATCH out" => _ = set.bus.tell(&format!("range {WATCH} in")),
            "adapter hci0 remove" => _ = set.bus.tell("adapter hci0 add"),
            _ => {}
        }
    }
    set.bus.wait_subscribed(WATCH);
    sent += 1;
    assert_eq!(set.bus.notify(WATCH, &measurement(99).encode()), 1);
    daemon.wait_delivered(sent as u64);
    daemon.stop();
    assert_gap_free_and_once(&set.lines());
    assert_eq!(set.readings().len(), sent);
}

#[test]
fn what_was_received_counts_though_the_link_was_lost_right_after() {
    let mut set = Set::new(&one_watch());
    let daemon = set.start();
    for burst in 1..=5_u64 {
        set.bus.wait_subscribed(WATCH);
        let payloads: Vec<_> = (1..=200).map(|rate| measurement(rate).encode()).collect();
        set.bus.notify_all(WATCH, &payloads);
        set.bus.tell(&format!("drop {WATCH}"));
        daemon.wait_delivered(200 * burst);
    }
    daemon.stop();
    assert_gap_free_and_once(&set.lines());
}

#[test]
fn an_adapter_that_is_missing_or_goes_is_named_in_the_log_and_the_gap_and_picked_up_again() {
    let mut set = Set::new(&format!("[session]\ngap_after = \"2s\"\n{}", one_watch()));
    set.bus.tell("adapter hci0 remove");
    let daemon = set.start();
    daemon.wait_log("no Bluetooth adapter");
    set.bus.tell("adapter hci0 add");
    for (readings, loss) in (1..).zip(["adapter hci0 power off", "adapter hci0 remove"]) {
        set.bus.wait_subscribed(WATCH);
        assert_eq!(set.bus.notify(WATCH, &measurement(80).encode()), 1);
        daemon.wait_delivered(2 * readings - 1);
        set.bus.tell(loss);
        // One that is only off is switched on, which needs no person.
        if loss.ends_with("remove") {
            wait_for("the missing adapter to be named again", Duration::from_secs(20), || {
                (daemon.log().matches("no Bluetooth adapter").count() == 2).then_some(())
            });
            set.bus.tell("adapter hci0 add");
        }
        set.bus.wait_subscribed(WATCH);
        // Long enough for a gap.
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(set.bus.notify(WATCH, &measurement(81).encode()), 1);
        daemon.wait_delivered(2 * readings);
    }
    assert!(!daemon.log().contains("not in range"), "it was not the sensor: {}", daemon.log());
    daemon.stop();
    assert_eq!(set.bus.stats(WATCH)["connected"], false, "it disconnects when it stops");
    let gone = set.lines().iter().filter(|line| line["gap_reason"] == "adapter_gone").count();
    assert_eq!(gone, 2, "on a busy machine beside others");
}

/// Of two that begin discovery at once bluetoothd answers one.
#[test]
fn many_sensors_are_found_at_once_and_a_scan_beside_the_daemon_hangs_neither() {
    let addresses: Vec<String> = (1..=6).map(|n| format!("C0:FF:EE:00:01:{n:02X}")).collect();
    let blocks = addresses.iter().enumerate();
    let blocks = blocks.map(|(n, at)| format!("[[sensor]]\nid = \"strap-{n}\"\naddress = \"{at}\"\n"));
    let mut set = Set::new(&blocks.collect::<String>());
    let daemon = set.start();
    let scan = || {
        let mut command = command(set.folder.path(), &set.bus.address());
        command.args(["scan", "--for", "1s", "--json"]).stdout(std::process::Stdio::piped()).spawn().unwrap()
    };
    let scans = [scan(), scan(), scan()];
    addresses.iter().for_each(|address| _ = set.bus.tell(&format!("sensor {address} Strap")));
    assert!(scans.map(|scan| scan.wait_with_output().unwrap().status.success()).iter().all(|ok| *ok));
    for address in &addresses {
        set.bus.wait_subscribed(address);
        assert_eq!(set.bus.notify(address, &measurement(70).encode()), 1);
    }
    daemon.wait_delivered(addresses.len() as u64);
    assert!(!daemon.log().contains("does not scan"), "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_sensor_gone_quiet_is_subscribed_again_then_reconnected_and_the_gap_says_so() {
    let mut set = Set::new(&format!(
        "[bluetooth]\nsilence_max = \"2s\"\n[session]\ngap_after = \"2s\"\n{}",
        one_watch()
    ));
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    set.bus.notify(WATCH, &measurement(80).encode());
    let subscribed_again = wait_for("the ladder's first rung", Duration::from_secs(20), || {
        (set.bus.stats(WATCH)["start_notify"].as_u64() > Some(1)).then(|| set.bus.stats(WATCH))
    });
    assert_eq!(subscribed_again["connect"], 1, "on the same link");
    wait_for("the second rung", Duration::from_secs(20), || {
        (set.bus.stats(WATCH)["connect"].as_u64() > Some(1)).then_some(())
    });
    set.bus.wait_subscribed(WATCH);
    assert_eq!(set.bus.notify(WATCH, &measurement(81).encode()), 1);
    daemon.wait_delivered(2);
    daemon.stop();
    let gaps: Vec<Value> = set.lines().into_iter().filter(|line| line.get("gap_reason").is_some()).collect();
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0]["gap_reason"], "sensor_silent");
    assert_eq!(gaps[0]["gap_end"], gaps[0]["timestamp"]);
    assert!(gaps[0]["gap_start"].as_str() < gaps[0]["gap_end"].as_str());
    assert_gap_free_and_once(&set.lines());
}

#[test]
fn a_hung_sensor_holds_up_no_other() {
    const HUNG: &str = "C0:FF:EE:00:00:02";
    const ABSENT: &str = "C0:FF:EE:00:00:03";
    let mut set = Set::new(&format!(
        "[[sensor]]\nid = \"hung\"\naddress = \"{HUNG}\"\n[[sensor]]\nid = \"absent\"\naddress = \"{ABSENT}\"\n{}",
        one_watch()
    ));
    set.bus.tell(&format!("sensor {HUNG} Hung_Strap"));
    set.bus.tell(&format!("hang {HUNG} notify"));
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    for n in 0..20 {
        assert_eq!(set.bus.notify(WATCH, &measurement(80 + n).encode()), 1);
    }
    daemon.wait_delivered(20);
    set.bus.tell(&format!("hang {HUNG} none"));
    set.bus.wait_subscribed(HUNG);
    assert_eq!(set.bus.notify(HUNG, &measurement(60).encode()), 1);
    daemon.wait_delivered(21);
    daemon.stop();
}

#[test]
fn sensors_whose_connects_hang_keep_no_other_from_being_found() {
    let addresses: Vec<String> = (1..=3).map(|n| format!("C0:FF:EE:00:01:{n:02X}")).collect();
    let blocks = addresses.iter().enumerate();
    let blocks = blocks.map(|(n, at)| format!("[[sensor]]\nid = \"hung-{n}\"\naddress = \"{at}\"\n"));
    let blocks = blocks.collect::<String>() + "[[sensor]]\nid = \"late\"\nname = \"Late\"\n";
    let mut set = Set::new(&blocks);
    for address in &addresses {
        set.bus.tell(&format!("sensor {address} Hung"));
        set.bus.tell(&format!("hang {address} connect"));
    }
    let daemon = set.start();
    wait_for("a second try of each", Duration::from_secs(90), || {
        let mut tries = addresses.iter().map(|address| set.bus.stats(address)["connect"].as_u64());
        tries.all(|tries| tries >= Some(2)).then_some(())
    });
    const LATE: &str = "C0:FF:EE:00:00:44";
    set.bus.tell(&format!("sensor {LATE} Late"));
    set.bus.wait_subscribed(LATE);
    assert_eq!(set.bus.notify(LATE, &measurement(60).encode()), 1);
    daemon.wait_delivered(1);
    daemon.stop();
}

#[test]
fn a_reload_brings_a_sensor_without_dropping_the_others_and_a_bad_file_changes_nothing() {
    const SECOND: &str = "C0:FF:EE:00:00:02";
    let mut set = Set::new(&one_watch());
    set.bus.tell(&format!("sensor {SECOND} Second"));
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    let config = set.folder.path().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\n[[sensor]]\nid = \"x\"\naddres = \"typo\"\n")).unwrap();
    daemon.signal("HUP");
    daemon.wait_log("the configuration stays as it was");
    std::fs::write(&config, format!("{text}\n[[sensor]]\nid = \"second\"\naddress = \"{SECOND}\"\n"))
        .unwrap();
    daemon.signal("HUP");
    set.bus.wait_subscribed(SECOND);
    let stats = set.bus.stats(WATCH);
    assert_eq!((&stats["connect"], &stats["disconnect"]), (&1.into(), &0.into()), "the first was left alone");
    for address in [WATCH, SECOND] {
        assert_eq!(set.bus.notify(address, &measurement(70).encode()), 1);
    }
    daemon.wait_delivered(2);
    daemon.stop();
}

#[test]
fn discover_takes_loud_heart_rate_sensors_under_a_name_that_hides_the_address() {
    let mut set = Set::new("[bluetooth]\ndiscover = true\ndiscover_rssi_min = -60\n");
    set.bus.tell("sensor C0:FF:EE:00:00:05 Far_Away rssi=-80");
    set.bus.tell("sensor C0:FF:EE:00:00:06 Loudspeaker hrs=no");
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    assert_eq!(set.bus.notify(WATCH, &measurement(77).encode()), 1);
    daemon.wait_delivered(1);
    daemon.stop();
    let name = set.readings()[0]["sensor_id"].as_str().unwrap().to_owned();
    assert!(name.starts_with("hr-") && !name.to_uppercase().contains("EE"), "{name}");
    for other in ["C0:FF:EE:00:00:05", "C0:FF:EE:00:00:06"] {
        assert_eq!(set.bus.stats(other)["connect"], 0);
    }
}

#[test]
fn killed_while_connected_it_goes_on_without_a_stale_link_or_a_lost_reading() {
    let mut set = Set::new(&one_watch());
    set.kinesis.set_down(true);
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    for n in 0..10 {
        set.bus.notify(WATCH, &measurement(80 + n).encode());
    }
    wait_for("ten queued", Duration::from_secs(20), || {
        (daemon.status()["totals"]["queued"] == 10).then_some(())
    });
    daemon.kill();
    set.kinesis.set_down(false);
    let daemon = set.start();
    wait_for("a fresh subscription", Duration::from_secs(60), || {
        let stats = set.bus.stats(WATCH);
        (stats["notify_sessions"] == 1 && stats["start_notify"] == 2).then_some(())
    });
    assert_eq!(set.bus.notify(WATCH, &measurement(99).encode()), 1);
    let status = daemon.wait_delivered(11);
    assert_eq!(status["balances"], true);
    daemon.stop();
    assert_gap_free_and_once(&set.lines());
    let sessions: std::collections::HashSet<_> =
        set.readings().iter().map(|l| l["session_id"].clone()).collect();
    assert_eq!(sessions.len(), 1, "a short stop does not end a session");
}
