//! `systemctl reload`: what it changes, and what it leaves as it was when it cannot be carried out.

use std::path::Path;
use std::time::Duration;

use hr_gateway::queue::ReadingQueue;

use crate::support::daemon::{Daemon, command, configure};
use crate::support::draining::open;
use crate::support::fake_kinesis::{FakeKinesis, Options};
use crate::support::mock_bus::MockBus;
use crate::support::process::Process;
use crate::support::{measurement, reading, wait_for};

const NO_BUS: &str = "unix:path=/nonexistent";
const WATCH: &str = "C0:FF:EE:00:00:01";
const PATIENCE: Duration = Duration::from_secs(30);

struct Set {
    kinesis: FakeKinesis,
    folder: tempfile::TempDir,
}

impl Set {
    fn new() -> Self {
        let set =
            Self { kinesis: FakeKinesis::start(Options::default()), folder: tempfile::tempdir().unwrap() };
        set.write("", "queue");
        set
    }

    /// Writes a configuration with `more` keys of [queue], and the queue in `folder`/`queue`.
    fn write(&self, more: &str, queue: &str) {
        let (endpoint, path) = (self.kinesis.endpoint(), self.folder.path().join(queue));
        let text = format!(
            "[kinesis]\nstream = \"s\"\nendpoint = {endpoint:?}\n[queue]\ndisk_headroom = \"16 MiB\"\npath = {path:?}\n{more}"
        );
        std::fs::write(self.folder.path().join("config.toml"), text).unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

/// Reloads, and waits until the log says `words` once more.
#[track_caller]
fn reload(daemon: &Daemon, words: &str) {
    let before = daemon.log().matches(words).count();
    daemon.signal("HUP");
    wait_for(&format!("`{words}` once more in\n{}", daemon.log()), PATIENCE, || {
        (daemon.log().matches(words).count() > before).then_some(())
    });
}

fn fill(path: &Path, readings: u64) {
    let queue = open(path);
    (0..readings).for_each(|second| _ = queue.append(&[reading("a", second)]).unwrap());
}

#[test]
fn check_start_and_reload_refuse_the_same_and_tell_every_mistake() {
    let set = Set::new();
    let daemon = Daemon::start(set.folder.path(), NO_BUS);
    daemon.wait_log("gateway running");
    let mistakes = "[log]\nlevel = \"debgu\"\n[drain]\nordr = 1\n[[sensor]]\nid = \"a\"\nname = \"\"\n";
    set.write(mistakes, "queue");
    let words = ["`log.level`: found `debgu`", "`drain.ordr`", "`sensor.name` of block 1 (`a`)"];
    let run = |argument: &str| command(set.folder.path(), NO_BUS).arg(argument).output().unwrap();
    for argument in ["check", "run"] {
        let output = run(argument);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{argument}: {said}");
        assert_eq!(said.lines().count(), words.len(), "{argument}: one line for each: {said}");
        assert!(words.iter().all(|words| said.contains(words)), "{argument}: {said}");
    }
    reload(&daemon, "block 1 (`a`): found ``");
    for words in words {
        let line = daemon.log().lines().find(|line| line.contains(words)).unwrap_or_default().to_owned();
        assert!(line.contains("ERROR") && line.contains("the configuration stays as it was"), "{line}");
    }
    set.write("", "queue");
    reload(&daemon, "configuration read again");
    daemon.stop();
}

#[test]
fn a_queue_that_cannot_be_opened_leaves_the_one_in_use_and_its_readings_flow_on() {
    let set = Set::new();
    fill(&set.path("queue"), 50);
    set.kinesis.set_down(true);
    let daemon = Daemon::start(set.folder.path(), NO_BUS);
    daemon.wait_log("cannot be reached");
    let refused = "the configuration stays as it was";
    // Below a file there is no folder; a later version's is not read; another process has the third.
    set.write("", "config.toml/queue");
    reload(&daemon, refused);
    let held = open(&set.path("held"));
    set.write("", "held");
    reload(&daemon, "is open in another process");
    drop(held);
    set.kinesis.set_down(false);
    wait_for("what the one in use holds", PATIENCE, || {
        set.kinesis.seen(|seen| seen.lines.len() == 50).then_some(())
    });
    reload(&daemon, "the gateway begins anew");
    wait_for("the other queue's socket", PATIENCE, || set.path("held.sock").exists().then_some(()));
    assert_eq!(daemon.status()["totals"]["received"], 0);
    daemon.stop();
}

#[test]
fn another_key_is_taken_when_nothing_is_stored_under_the_former_one() {
    let set = Set::new();
    let key = set.path("key");
    let write_key = |digits: &str| {
        std::fs::write(&key, digits.repeat(32)).unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    };
    let keyed = format!("encryption_key_file = {key:?}\n");
    set.kinesis.set_down(true);
    // What is stored in plain text is read with a key too.
    fill(&set.path("queue"), 10);
    let daemon = Daemon::start(set.folder.path(), NO_BUS);
    daemon.wait_log("cannot be reached");
    write_key("a1");
    set.write(&keyed, "queue");
    reload(&daemon, "the gateway begins anew");
    set.kinesis.set_down(false);
    daemon.wait_delivered(10);
    daemon.stop();

    set.kinesis.set_down(true);
    {
        use hr_gateway::queue::durable::DurableQueue;
        use hr_gateway::queue::segment::SegmentCodec;
        let codec = SegmentCodec::encrypted(&[0xa1; 32]);
        let queue = DurableQueue::open(
            &set.path("queue"),
            crate::support::draining::UNBOUNDED,
            codec,
            &crate::support::draining::gateway(),
        );
        let queue = queue.unwrap().queue;
        (100..120).for_each(|second| _ = queue.append(&[reading("a", second)]).unwrap());
    }
    let daemon = Daemon::start(set.folder.path(), NO_BUS);
    wait_for("the third life in this log", PATIENCE, || {
        (daemon.log().matches("gateway running").count() == 3).then_some(())
    });
    write_key("b2");
    reload(&daemon, "was written with another key");
    set.write("", "queue");
    reload(&daemon, "was written with another key");
    assert_eq!(daemon.status()["totals"]["queued"], 20, "it goes on with the key in use");
    set.kinesis.set_down(false);
    daemon.wait_delivered(30);
    set.write(&keyed, "queue");
    reload(&daemon, "the gateway begins anew");
    assert_eq!(daemon.status()["balances"], true);
    daemon.stop();
}

#[test]
fn another_key_is_refused_while_a_dead_letter_is_stored_under_the_former_one() {
    use hr_gateway::queue::durable::DurableQueue;
    use hr_gateway::queue::segment::SegmentCodec;
    use hr_gateway::queue::sequence_set::SequenceSet;
    let set = Set::new();
    let key = set.path("key");
    let write_key = |digits: &str| {
        std::fs::write(&key, digits.repeat(32)).unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    };
    {
        let codec = SegmentCodec::encrypted(&[0xa1; 32]);
        let (bounds, gateway) = (crate::support::draining::UNBOUNDED, crate::support::draining::gateway());
        let queue = DurableQueue::open(&set.path("queue"), bounds, codec, &gateway).unwrap().queue;
        _ = queue.append(&[reading("a", 1)]).unwrap();
        queue.dead_letter(&SequenceSet::from_iter([1]), "no").unwrap();
        queue.close().unwrap();
    }
    write_key("a1");
    set.write(&format!("encryption_key_file = {key:?}\n"), "queue");
    let daemon = Daemon::start(set.folder.path(), NO_BUS);
    daemon.wait_log("gateway running");
    write_key("b2");
    reload(&daemon, "was written with another key");
    assert_eq!(daemon.status()["totals"]["dead_lettered"], 1);
    daemon.stop();
}

#[test]
fn another_name_is_the_gateways_from_then_on_and_what_is_queued_keeps_the_former_one() {
    let mut bus = MockBus::start();
    bus.tell(&format!("sensor {WATCH} Forerunner"));
    let kinesis = FakeKinesis::start(Options::default());
    kinesis.set_down(true);
    let folder = tempfile::tempdir().unwrap();
    let name = |id: &str| {
        let endpoint = kinesis.endpoint();
        let text = format!(
            "[gateway]\nid = \"{id}\"\n[[sensor]]\nid = \"a\"\naddress = \"{WATCH}\"\n\
             [kinesis]\nstream = \"s\"\nendpoint = {endpoint:?}\n"
        );
        configure(folder.path(), &text);
    };
    name("former");
    let daemon = Daemon::start(folder.path(), &bus.address());
    bus.wait_subscribed(WATCH);
    let mut send = |daemon: &Daemon, queued: u64| {
        assert_eq!(bus.notify(WATCH, &measurement(60).encode()), 1);
        wait_for("what was sent", PATIENCE, || (daemon.status()["totals"]["queued"] == queued).then_some(()));
    };
    send(&daemon, 1);
    name("latter");
    reload(&daemon, "the gateway begins anew");
    send(&daemon, 2);
    kinesis.set_down(false);
    daemon.wait_delivered(2);
    daemon.stop();
    let lines = kinesis.seen(|seen| seen.lines.clone());
    let mut lines: Vec<serde_json::Value> =
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.retain(|line| line.get("heart_rate").is_some());
    lines.sort_by_key(|line| line["sequence"].as_u64());
    let names: Vec<&str> = lines.iter().map(|line| line["gateway_id"].as_str().unwrap()).collect();
    assert_eq!(names, ["former", "latter"]);
}

#[test]
fn many_reloads_cut_no_link_lose_nothing_and_leave_nothing_behind() {
    const RELOADS: u64 = 30;
    let mut bus = MockBus::start();
    bus.tell(&format!("sensor {WATCH} Forerunner"));
    let kinesis = FakeKinesis::start(Options::default());
    let folder = tempfile::tempdir().unwrap();
    let write = |round: u64| {
        let endpoint = kinesis.endpoint();
        let (records, items) = (400 + round % 2, 100_000 + round);
        let text = format!(
            "[[sensor]]\nid = \"a\"\naddress = \"{WATCH}\"\n[session]\ngap_after = \"5m\"\n[kinesis]\nstream = \"s\"\nendpoint = {endpoint:?}\n\
             [drain]\nrecord_readings_max = {records}\n[queue]\nitems_max = {items}\n"
        );
        // `[queue]` stands last, and goes on.
        let path = folder.path().join("queue");
        let text = format!("{text}path = {path:?}\ndisk_headroom = \"16 MiB\"\n");
        std::fs::write(folder.path().join("config.toml"), text).unwrap();
    };
    write(0);
    let daemon = Daemon::start(folder.path(), &bus.address());
    bus.wait_subscribed(WATCH);
    let process = Process::of(daemon.pid());
    let mut settled = (0, 0);
    for round in 1..=RELOADS {
        write(round);
        daemon.signal("HUP");
        wait_for("the gateway anew", PATIENCE, || {
            (daemon.log().matches("gateway running").count() as u64 == 1 + round).then_some(())
        });
        assert_eq!(bus.notify(WATCH, &measurement(60 + round as u16).encode()), 1);
        daemon.wait_delivered(round);
        if round == 5 {
            settled = (process.descriptors(), process.threads());
        }
    }
    let stats = bus.stats(WATCH);
    assert_eq!((&stats["connect"], &stats["start_notify"]), (&1.into(), &1.into()), "no link was touched");
    // A call that has just ended may still hold its connection, and a thread waits a while for the next.
    wait_for("what it was after the first few", PATIENCE, || {
        (process.descriptors() <= settled.0 && process.threads() <= settled.1).then_some(())
    });
    let log = daemon.log();
    assert_eq!(log.matches("session begins").count(), 1, "the session goes on: {log}");
    daemon.stop();
    let lines = kinesis.seen(|seen| seen.lines.clone());
    assert_eq!(lines.iter().filter(|line| line.contains("heart_rate")).count() as u64, RELOADS);
    assert!(!lines.iter().any(|line| line.contains("gap_reason")), "there was no gap: {lines:?}");
}

#[test]
fn what_the_clock_goes_by_changes_with_the_links() {
    let mut bus = MockBus::start();
    bus.tell(&format!("sensor {WATCH} Forerunner"));
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let text = |clock: &str| {
        format!(
            "[clock]\nsynchronization = \"{clock}\"\n[directory]\npath = {out:?}\n\
             [[sensor]]\nid = \"a\"\naddress = \"{WATCH}\"\n"
        )
    };
    configure(folder.path(), &text("system"));
    let daemon = Daemon::start(folder.path(), &bus.address());
    bus.wait_subscribed(WATCH);
    configure(folder.path(), &text("trusted"));
    daemon.signal("HUP");
    daemon.wait_log("the gateway begins anew");
    bus.wait_subscribed(WATCH);
    assert_eq!(bus.notify(WATCH, &measurement(70).encode()), 1);
    daemon.wait_delivered(1);
    assert_eq!(bus.stats(WATCH)["connect"], 2);
    daemon.stop();
}
