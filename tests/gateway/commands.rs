//! The commands as their user runs them.

use std::process::Output;

use hr_gateway::queue::ReadingQueue;
use hr_gateway::queue::durable::DurableQueue;
use hr_gateway::queue::sequence_set::SequenceSet;
use serde_json::Value;

use crate::support::daemon::{Daemon, command, configure};
use crate::support::draining::open;
use crate::support::fake_kinesis::{FakeKinesis, Options};
use crate::support::{reading, wait_for};

const NO_BUS: &str = "unix:path=/nonexistent";

struct Shell {
    folder: tempfile::TempDir,
}

impl Shell {
    fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        configure(folder.path(), config);
        Self { folder }
    }

    fn run(&self, args: &[&str]) -> Output {
        command(self.folder.path(), NO_BUS).args(args).output().unwrap()
    }

    fn stdout(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn queue(&self) -> DurableQueue {
        open(&self.folder.path().join("queue"))
    }
}

#[test]
fn the_demo_writes_every_reading_of_a_recording_to_its_day_and_balances() {
    let shell = Shell::new("");
    let recording = shell.folder.path().join("run.csv");
    std::fs::write(&recording, "offset_s,heart_rate_bpm,rr_ms\n0,60,1000 500\n1,61,\n1,62,250\n40,63,\n")
        .unwrap();
    let output = shell.folder.path().join("out");
    let said = shell.stdout(&[
        "demo",
        "--replay",
        recording.to_str().unwrap(),
        "--speed",
        "1000",
        "--output",
        output.to_str().unwrap(),
    ]);
    let ledger: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    for (column, count) in [
        ("received", 4),
        ("delivered", 4),
        ("queued", 0),
        ("dead_lettered", 0),
        ("evicted", 0),
        ("malformed", 0),
    ] {
        assert_eq!(ledger[column], count, "{column}");
    }
    assert_eq!(said.lines().count(), 6, "four readings, a gap, the ledger");
    let mut lines = Vec::new();
    for day in std::fs::read_dir(output).unwrap() {
        let day = day.unwrap().path();
        let date = day.file_name().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(day.join("readings-0001.ndjson")).unwrap();
        for line in text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
            assert!(line["timestamp"].as_str().unwrap().starts_with(&date));
            lines.push(line);
        }
    }
    lines.sort_by_key(|line| line["sequence"].as_u64());
    let rates: Vec<_> = lines.iter().filter_map(|line| line["heart_rate"].as_u64()).collect();
    assert_eq!(rates, [60, 61, 62, 63]);
    assert_eq!(lines[0]["rr_intervals_ms"], serde_json::json!([1000.0, 500.0]));
}

#[test]
fn a_demo_that_cannot_deliver_says_so_with_its_exit_code_and_keeps_the_queue() {
    let shell = Shell::new("");
    let fake = FakeKinesis::start(Options::default());
    fake.refuse_lines_with("\"sequence\":2,");
    let output = shell.run(&["demo", "--speed", "10", "--for", "1s", "--kinesis-endpoint", &fake.endpoint()]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let ledger: Value =
        serde_json::from_str(String::from_utf8(output.stdout).unwrap().lines().last().unwrap()).unwrap();
    assert_eq!(ledger["dead_lettered"], 1);
    let said = String::from_utf8(output.stderr).unwrap();
    let kept = said.split("kept in ").nth(1).unwrap().trim();
    assert!(std::path::Path::new(kept).join("queue/db").exists());
    std::fs::remove_dir_all(kept).unwrap();
}

#[test]
fn a_configuration_mistake_exits_78_and_names_it() {
    let mistakes = [
        ("[kinesis]\nstraem = \"x\"", "straem"),
        ("[log]\nlevel = \"=,=\"", "log.level"),
        ("[log]\nlevel = \"inof\"", "found `inof`"),
    ];
    for (config, words) in mistakes {
        let output = Shell::new(config).run(&["run"]);
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains(words));
    }
    let missing = Shell::new("").run(&["check", "--config", "/nonexistent.toml"]);
    assert_eq!(missing.status.code(), Some(78));
}

#[test]
fn without_any_configuration_it_runs_and_says_what_to_write_where() {
    let shell = Shell::new("");
    let config = shell.folder.path().join("config.toml");
    std::fs::remove_file(&config).unwrap();
    let check =
        command(shell.folder.path(), NO_BUS).env_remove("HR_GATEWAYD_CONFIG").arg("check").output().unwrap();
    assert!(check.status.success(), "{check:?}");
    configure(shell.folder.path(), "");
    let daemon = Daemon::start(shell.folder.path(), NO_BUS);
    daemon.wait_log("nothing to drain to: write [kinesis] stream and region");
    let fake = FakeKinesis::start(Options::default());
    configure(shell.folder.path(), &format!("[kinesis]\nstream = \"s\"\nendpoint = {:?}", fake.endpoint()));
    daemon.signal("HUP");
    daemon.wait_log("the gateway begins anew");
    let again = || daemon.log().matches("gateway running").count() == 2;
    wait_for("the second life", std::time::Duration::from_secs(20), || again().then_some(()));
    daemon.stop();
}

#[test]
fn check_tells_where_each_value_came_from_and_hides_secrets() {
    let shell = Shell::new(
        "[[sensor]]\nid = \"a\"\nname = \"x\"\npasskey = 123456\n[kinesis]\nstream = \"from-file\"",
    );
    let run = |variable: &str, value: &str| {
        let output = command(shell.folder.path(), NO_BUS).env(variable, value).arg("check").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let said = run("HR_GATEWAYD_DRAIN__ORDER", "newest-first");
    let line = |key: &str| said.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    assert!(line("kinesis.stream").contains("from-file") && line("kinesis.stream").contains("config.toml"));
    assert!(line("drain.order").contains("environment variable HR_GATEWAYD_DRAIN__ORDER"));
    assert!(line("queue.items_max").contains("# default"));
    assert!(!said.contains("123456"));
    let said = run("HR_GATEWAYD_GATEWAY__ID", "12345");
    assert!(said.contains("gateway.id = \"12345\""), "a name of digits is a name: {said}");
}

#[test]
fn the_queue_of_a_stopped_and_of_a_running_gateway_answers_alike() {
    let fake = FakeKinesis::start(Options::default());
    fake.set_down(true);
    let endpoint = fake.endpoint();
    let shell = Shell::new(&format!("[kinesis]\nstream = \"s\"\nendpoint = {endpoint:?}"));
    {
        let queue = shell.queue();
        (0..1_200).for_each(|second| _ = queue.append(&[reading("a", second)]).unwrap());
        queue.dead_letter(&SequenceSet::from_iter([5, 6, 7]), "ValidationException: no").unwrap();
        queue.sync().unwrap();
    }
    let ask = || {
        let mut status: Value = serde_json::from_str(&shell.stdout(&["queue", "status", "--json"])).unwrap();
        // Each opening has its own.
        status.as_object_mut().unwrap().remove("epoch").unwrap();
        let export = shell.stdout(&["queue", "export"]);
        let csv = shell.stdout(&["queue", "export", "--format", "csv"]);
        let letters = shell.stdout(&["queue", "dead-letters"]);
        (status, export, csv, letters)
    };
    let stopped = ask();
    assert_eq!(stopped.0["totals"]["queued"], 1_197);
    assert_eq!(stopped.1.lines().count(), 1_197);
    assert_eq!(stopped.2.lines().count(), 1_198);
    assert!(stopped.2.starts_with("timestamp,heart_rate,"));
    assert_eq!(stopped.3.matches("ValidationException: no").count(), 3);
    assert!(shell.stdout(&["queue", "status"]).contains("the ledger balances"));

    let daemon = Daemon::start(shell.folder.path(), NO_BUS);
    daemon.wait_log("cannot be reached");
    assert_eq!(ask(), stopped);
    assert!(shell.stdout(&["queue", "requeue", "6"]).contains("1 dead letters put back"));
    assert!(shell.stdout(&["queue", "drop", "--all"]).contains("2 dead letters discarded"));
    fake.set_down(false);
    let status = daemon.wait_delivered(1_198);
    assert_eq!(status["totals"]["evicted"], 2);
    assert_eq!(status["balances"], true);
    daemon.stop();
    assert!(fake.seen(|seen| seen.counts[6] == 1 && seen.counts[5] == 0));
}

/// A queue whose store is to be set aside: 6,000 readings and two dead letters.
fn damaged(shell: &Shell) {
    let queue = shell.queue();
    for first in (0..6_002).step_by(50) {
        let batch: Vec<_> = (first..(first + 50).min(6_002)).map(|second| reading("a", second)).collect();
        queue.append(&batch).unwrap();
    }
    queue.dead_letter(&SequenceSet::from_iter([5, 4_711]), "ValidationException: no").unwrap();
    queue.close().unwrap();
    std::fs::write(shell.folder.path().join("queue/hr-gatewayd.damaged"), "").unwrap();
}

#[test]
fn recover_takes_back_what_was_set_aside_once_on_a_stopped_and_on_a_running_gateway() {
    for is_running in [false, true] {
        let fake = FakeKinesis::start(Options::default());
        fake.set_down(true);
        let endpoint = fake.endpoint();
        let shell = Shell::new(&format!("[kinesis]\nstream = \"s\"\nendpoint = {endpoint:?}"));
        damaged(&shell);
        let running = is_running.then(|| {
            let daemon = Daemon::start(shell.folder.path(), NO_BUS);
            daemon.wait_log("6002 can be read there");
            daemon
        });
        // One that nothing can be read of stops none of the others.
        let empty = shell.folder.path().join("queue.damaged-1");
        std::fs::create_dir(&empty).unwrap();
        std::fs::write(empty.join("db"), [0; 4_096]).unwrap();
        let first = shell.run(&["queue", "recover"]);
        let said = String::from_utf8(first.stdout).unwrap();
        assert_eq!(first.status.code(), Some(1), "{said}");
        assert!(
            said.contains(": 6002 taken back; 6002 readings and gap records in it can be read"),
            "{said}"
        );
        std::fs::remove_dir_all(empty).unwrap();
        assert!(shell.stdout(&["queue", "recover"]).contains(": 0 taken back"), "once");
        let status: Value = serde_json::from_str(&shell.stdout(&["queue", "status", "--json"])).unwrap();
        let totals = &status["totals"];
        assert_eq!((&totals["queued"], &totals["dead_lettered"]), (&6_000.into(), &2.into()));
        assert_eq!((&status["missing"], &status["balances"]), (&0.into(), &true.into()));
        let daemon = running.unwrap_or_else(|| Daemon::start(shell.folder.path(), NO_BUS));
        fake.set_down(false);
        daemon.wait_delivered(6_000);
        daemon.stop();
        assert!(fake.seen(|seen| seen.counts[6] == 1 && seen.counts[5] == 0));
    }
}

#[test]
fn what_root_does_to_the_queue_of_a_stopped_gateway_leaves_it_the_gateways() {
    use std::os::unix::fs::{MetadataExt, chown};

    const GATEWAY: u32 = 12_345;
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT TRIED: only root can act as somebody else");
        return;
    }
    let shell = Shell::new("");
    damaged(&shell);
    let all = || {
        let mut found = vec![shell.folder.path().to_owned()];
        let mut next = 0;
        while let Some(path) = found.get(next).cloned() {
            next += 1;
            let entries = std::fs::read_dir(path).into_iter().flatten();
            found.extend(entries.map(|entry| entry.unwrap().path()));
        }
        found
    };
    all().iter().for_each(|path| chown(path, Some(GATEWAY), Some(GATEWAY)).unwrap());
    let output = shell.folder.path().join("export");
    for args in [
        &["queue", "status"][..],
        &["queue", "recover"],
        &["queue", "requeue", "5"],
        &["queue", "drop", "--all"],
        &["queue", "export", "--output", output.to_str().unwrap()],
    ] {
        shell.run(args);
        for path in all().iter().filter(|path| **path != output) {
            assert_eq!(path.metadata().unwrap().uid(), GATEWAY, "{args:?} took {}", path.display());
        }
    }
    assert_eq!(output.metadata().unwrap().uid(), 0, "what root asked for is root's");
    assert_eq!(std::fs::read_to_string(&output).unwrap().lines().count(), 6_001);
    // Nobody hears the end of it.
    let mut export = command(shell.folder.path(), NO_BUS)
        .args(["queue", "export"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(export.stdout.take());
    export.wait().unwrap();
    all().iter().filter(|path| **path != output).for_each(|path| {
        assert_eq!(path.metadata().unwrap().uid(), GATEWAY, "{}", path.display());
    });
}

#[test]
fn a_sector_that_cannot_be_read_costs_what_was_in_it() {
    let shell = Shell::new("");
    damaged(&shell);
    let output = command(shell.folder.path(), NO_BUS)
        .env("INJECT_FAULT", "bad-sector")
        .args(["queue", "export"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap().lines().count();
    assert!((5_000..=6_000).contains(&lines), "{lines}");
    let said = String::from_utf8(output.stderr).unwrap();
    let missing = format!("{} readings and gap records are known to be missing", 6_000 - lines);
    assert!(said.contains("places cannot") && said.contains(&missing), "{lines} lines: {said}");
}

#[test]
fn help_is_there() {
    let shell = Shell::new("");
    for command in ["run", "demo", "scan", "check", "queue"] {
        assert!(shell.stdout(&[command, "--help"]).contains("Usage: hr-gatewayd"));
    }
    assert_eq!(shell.run(&["fly"]).status.code(), Some(2));
}

#[test]
fn a_directory_takes_what_kinesis_would_and_says_when_it_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    std::fs::write(&out, "a file in the way").unwrap();
    configure(folder.path(), &format!("[directory]\npath = {out:?}\nfile_size_max = \"20 KiB\""));
    {
        let queue = open(&folder.path().join("queue"));
        (0..300).for_each(|second| _ = queue.append(&[reading("a", second)]).unwrap());
    }
    let daemon = Daemon::start(folder.path(), NO_BUS);
    daemon.wait_log("make [directory] path writable");
    std::fs::remove_file(&out).unwrap();
    daemon.wait_log("accepts again");
    let queue_path = folder.path().join("queue");
    daemon.wait_delivered(300);
    daemon.stop();
    let queue = open(&queue_path);
    (300..600).for_each(|second| _ = queue.append(&[reading("a", second)]).unwrap());
    drop(queue);
    // A torn line, as a power cut leaves it, is cut off; the file is full, so the next is begun.
    let day = out.join("2025-07-15");
    let paths = || std::fs::read_dir(&day).unwrap().map(|file| file.unwrap().path());
    let before = paths().count();
    let last = paths().max().unwrap();
    let whole = std::fs::read(&last).unwrap();
    std::fs::write(&last, &whole[..whole.len() - 50]).unwrap();
    let daemon = Daemon::start(folder.path(), NO_BUS);
    daemon.wait_delivered(600);
    daemon.stop();
    let text: String = paths().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    assert_eq!((paths().count(), text.lines().count()), (before + 1, 599));
}
