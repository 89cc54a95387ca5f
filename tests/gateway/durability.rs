//! What was received is in the queue, whoever hangs and however the gateway ends.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use hr_gateway::queue::ReadingQueue;
use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::draining::open;
use crate::support::fake_kinesis::{FakeKinesis, Options};
use crate::support::mock_bus::MockBus;
use crate::support::systemd::Systemd;
use crate::support::{measurement, reading, wait_for};

const WATCH: &str = "C0:FF:EE:00:00:01";
const PATIENCE: Duration = Duration::from_secs(30);

/// A watch, and a daemon's folder.
struct Set {
    bus: MockBus,
    folder: tempfile::TempDir,
}

impl Set {
    fn new() -> Self {
        let mut bus = MockBus::start();
        bus.tell(&format!("sensor {WATCH} Forerunner"));
        Self { bus, folder: tempfile::tempdir().unwrap() }
    }

    /// Drains to `endpoint`; `more` are further sections.
    fn configure(&self, endpoint: &str, commit_interval: &str, more: &str) {
        let path = self.queue();
        let text = format!(
            "[[sensor]]\nid = \"a\"\naddress = \"{WATCH}\"\n[kinesis]\nstream = \"s\"\nendpoint = {endpoint:?}\n\
             [queue]\npath = {path:?}\ndisk_headroom = \"16 MiB\"\ncommit_interval = \"{commit_interval}\"\n{more}"
        );
        std::fs::write(self.folder.path().join("config.toml"), text).unwrap();
    }

    fn queue(&self) -> std::path::PathBuf {
        self.folder.path().join("queue")
    }

    fn start(&self) -> Daemon {
        Daemon::start(self.folder.path(), &self.bus.address())
    }

    /// The watch sends `count` readings.
    fn send(&mut self, count: u16) {
        (0..count).for_each(|n| assert_eq!(self.bus.notify(WATCH, &measurement(70 + n).encode()), 1));
    }
}

/// Readings that the queue in folder `path` took in.
fn received(path: &Path) -> u64 {
    open(path).ledger().totals().readings.received
}

/// Connects, and answers nothing.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    (listener, endpoint)
}

const PATIENT: &str = "[drain]\nrequest_timeout = \"60s\"\n";

#[test]
fn a_sink_that_does_not_answer_costs_neither_a_reload_nor_a_stop_what_was_received() {
    let mut set = Set::new();
    let (_silent, endpoint) = silent();
    _ = open(&set.queue()).append(&[reading("a", 0)]).unwrap();
    set.configure(&endpoint, "10m", PATIENT);
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    set.send(3);
    set.configure(&endpoint, "9m", PATIENT);
    daemon.signal("HUP");
    daemon.wait_log("the gateway begins anew");
    set.send(2);
    wait_for("the next life", PATIENCE, || {
        (daemon.log().matches("gateway running").count() == 2).then_some(())
    });
    let asked_at = Instant::now();
    daemon.stop();
    assert!(asked_at.elapsed() < Duration::from_secs(20), "{:?}", asked_at.elapsed());
    assert_eq!(received(&set.queue()), 6);
}

#[test]
fn a_stop_is_heard_while_a_reload_waits_for_the_sink() {
    let mut set = Set::new();
    let (_silent, endpoint) = silent();
    _ = open(&set.queue()).append(&[reading("a", 0)]).unwrap();
    set.configure(&endpoint, "10m", PATIENT);
    let systemd = Systemd::listen(set.folder.path());
    let mut daemon = Daemon::start_with(set.folder.path(), &set.bus.address(), |command| {
        systemd.watch(command, Duration::from_secs(60));
    });
    set.bus.wait_subscribed(WATCH);
    set.send(3);
    set.configure(&endpoint, "9m", PATIENT);
    daemon.signal("HUP");
    std::thread::sleep(Duration::from_secs(1));
    let asked_at = Instant::now();
    daemon.signal("TERM");
    wait_for("systemd to be told", Duration::from_secs(5), || systemd.told("STOPPING=1").pop());
    let status = daemon.wait();
    assert!(status.success(), "{}", daemon.log());
    assert!(asked_at.elapsed() < Duration::from_secs(20), "{:?}", asked_at.elapsed());
    assert_eq!(daemon.log().matches("gateway running").count(), 1, "no life is begun to end it");
    assert_eq!(received(&set.queue()), 4);
}

#[test]
fn a_stop_is_heard_while_a_reload_prepares() {
    let set = Set::new();
    let (_silent, endpoint) = silent();
    set.configure(&endpoint, "0s", "");
    let mut daemon = set.start();
    daemon.wait_log("gateway running");
    // A store in use is asked for again for some seconds.
    let held = set.folder.path().join("held");
    let _held = open(&held);
    let config = set.folder.path().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace(set.queue().to_str().unwrap(), held.to_str().unwrap())).unwrap();
    daemon.signal("HUP");
    std::thread::sleep(Duration::from_secs(1));
    daemon.signal("TERM");
    let status = daemon.wait();
    assert!(status.success(), "{}", daemon.log());
    assert!(!daemon.log().contains("the configuration stays as it was"), "{}", daemon.log());
}

#[test]
fn a_stop_at_any_moment_of_a_reload_loses_nothing() {
    let mut set = Set::new();
    let nobody = "http://127.0.0.1:1";
    for (round, delay_ms) in (1..).zip([0, 1, 2, 3, 5, 8, 13, 21]) {
        set.configure(nobody, "10m", "");
        let mut daemon = set.start();
        set.bus.wait_subscribed(WATCH);
        set.send(2);
        set.configure(nobody, "9m", "");
        daemon.signal("HUP");
        std::thread::sleep(Duration::from_millis(delay_ms));
        daemon.signal("TERM");
        let status = daemon.wait();
        assert!(status.success(), "after {delay_ms} ms: {}", daemon.log());
        let queue = open(&set.queue());
        assert_eq!(queue.ledger().totals().readings.received, 2 * round, "after {delay_ms} ms");
    }
}

#[test]
fn readings_wait_for_each_other_as_commit_interval_says_and_a_kill_loses_no_more() {
    const INTERVAL: Duration = Duration::from_secs(4);
    let mut set = Set::new();
    let (_silent, endpoint) = silent();
    set.configure(&endpoint, "4s", PATIENT);
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    let came = |daemon: &Daemon| daemon.status()["totals"]["received"].as_u64().unwrap();
    let first_at = Instant::now();
    (0..3).for_each(|_| set.send(1));
    let mut seen = Vec::new();
    while seen.last() != Some(&3) {
        seen.push(came(&daemon));
        assert!(first_at.elapsed() < PATIENCE, "{seen:?}");
    }
    assert!(first_at.elapsed() >= INTERVAL - Duration::from_secs(1), "{:?}", first_at.elapsed());
    assert!(seen.iter().all(|count| [0, 3].contains(count)), "one commit for all: {seen:?}");
    set.send(2);
    daemon.kill();
    assert_eq!(received(&set.queue()), 3, "what was committed is there, and what waited is not");

    let daemon = set.start();
    wait_for("a fresh subscription", Duration::from_secs(60), || {
        (set.bus.stats(WATCH)["start_notify"] == 2).then_some(())
    });
    set.bus.wait_subscribed(WATCH);
    set.send(4);
    daemon.stop();
    assert_eq!(received(&set.queue()), 7, "a stop waits for nothing and loses nothing");
}

#[test]
fn what_the_sensors_sent_before_a_stop_is_stored_though_the_gateway_had_no_time_to_look() {
    let mut set = Set::new();
    set.configure("http://127.0.0.1:1", "0s", "");
    let mut daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    set.send(1);
    daemon.wait_log("readings flow");
    daemon.signal("STOP");
    set.send(5);
    daemon.signal("TERM");
    daemon.signal("CONT");
    assert!(daemon.wait().success(), "{}", daemon.log());
    assert_eq!(received(&set.queue()), 6);
}

#[test]
fn after_a_queue_that_went_back_the_gap_says_that_readings_were_lost_there() {
    let mut set = Set::new();
    let kinesis = FakeKinesis::start(Options::default());
    set.configure(&kinesis.endpoint(), "0s", "");
    let (folder, backup) = (set.queue(), set.folder.path().join("backup"));
    let fill = || {
        let queue = open(&folder);
        _ = queue.append(&[reading("a", 0)]).unwrap();
        queue.close().unwrap();
    };
    fill();
    copy(&folder, &backup);
    fill();
    std::fs::remove_dir_all(&folder).unwrap();
    copy(&backup, &folder);
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    set.send(1);
    daemon.wait_delivered(2);
    daemon.stop();
    let lines = kinesis.seen(|seen| seen.lines.clone());
    let reasons: Vec<Value> = (lines.iter())
        .filter_map(|line| serde_json::from_str::<Value>(line).unwrap().get("gap_reason").cloned())
        .collect();
    assert_eq!(reasons, ["queue_lost"]);
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-r").args([from, to]).status().unwrap();
    assert!(copied.success());
}
