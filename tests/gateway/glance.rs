//! What a person sees of a running gateway: `status`, `tail`, the page, the metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::bluetooth::{Set, WATCH, one_watch};
use crate::support::daemon::{Daemon, command};
use crate::support::{measurement, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway with one watch that has sent three values, and a page.
fn watched(more: &str) -> (Set, Daemon) {
    let mut set = Set::new(&format!("{}\n[clock]\nsynchronization = \"trusted\"\n{more}", one_watch()));
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    (60..63).for_each(|bpm| send(&mut set, bpm));
    wait_for("three readings", PATIENCE, || (set.readings().len() == 3).then_some(()));
    (set, daemon)
}

fn send(set: &mut Set, bpm: u16) {
    set.bus.notify(WATCH, &measurement(bpm).encode());
}

fn status(set: &Set) -> (Value, Option<i32>) {
    let output = command(set.folder.path(), &set.bus.address()).args(["status", "--json"]).output().unwrap();
    (serde_json::from_slice(&output.stdout).unwrap_or_default(), output.status.code())
}

/// The address that the log names.
fn page_of(daemon: &Daemon) -> String {
    daemon.wait_log("the page is at http://");
    let log = daemon.log();
    log.split("the page is at http://").nth(1).unwrap().split('/').next().unwrap().to_owned()
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

fn ask(page: &str, path: &str, more_head: &str) -> Answer {
    let mut stream = TcpStream::connect(page).unwrap();
    let host = if more_head.contains("Host:") { "" } else { "Host: localhost\r\n" };
    write!(stream, "GET {path} HTTP/1.1\r\n{host}{more_head}Connection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

#[test]
fn status_tells_of_each_sensor_sink_and_queue_and_its_exit_code_whether_all_is_well() {
    let (mut set, daemon) = watched("");
    // Asked of the sensor beside its readings.
    let (seen, code) = wait_for("the battery", PATIENCE, || {
        let (seen, code) = status(&set);
        (seen["sensors"][0]["battery_percent"] == 87).then_some((seen, code))
    });
    assert_eq!((code, &seen["attention"]), (Some(0), &Value::Array(Vec::new())), "{seen:#}");
    let sensor = &seen["sensors"][0];
    assert_eq!(sensor["streams"], true);
    assert_eq!((&sensor["battery_percent"], &sensor["adapter"]), (&87.into(), &"hci0".into()));
    assert!(sensor["last_reading_s"].as_u64().unwrap() < 20, "{sensor}");
    assert_eq!((&seen["sink"]["kind"], &seen["sink"]["state"]), (&"kinesis".into(), &"accepts".into()));
    assert_eq!(seen["queue"]["totals"]["received"], 3);
    let text = set.run(&["status"]).0;
    assert!(text.contains("readings flow") && text.ends_with("all is well\n"), "{text}");
    assert!(!text.contains("bpm") && !seen.to_string().contains("heart_rate"), "no heart rate: {text}");

    set.bus.tell(&format!("range {WATCH} out"));
    let gone = wait_for("the loss", PATIENCE, || {
        let (seen, code) = status(&set);
        (code == Some(1)).then_some(seen)
    });
    assert!(gone["attention"][0].as_str().unwrap().contains("looked for"), "{gone:#}");

    daemon.stop();
    let (text, well) = set.run(&["status"]);
    assert!(!well && text.contains("no gateway runs") && text.contains("queue status"), "{text}");
}

struct Tail(Child, BufReader<std::process::ChildStdout>);

impl Tail {
    fn start(set: &Set, args: &[&str]) -> Self {
        let mut command: Command = command(set.folder.path(), &set.bus.address());
        let mut child = command.arg("tail").args(args).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self(child, out)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line
    }
}

#[test]
fn tail_shows_readings_as_they_come_until_its_reader_leaves() {
    let (mut set, daemon) = watched("");
    let mut tail = Tail::start(&set, &["adi-forerunner", "--json"]);
    let mut others = Tail::start(&set, &["somebody-else"]);
    // Begun when it has shown a first one.
    let mut bpm = 100;
    let first: Value = std::thread::scope(|scope| {
        // A sensor state record may come before it.
        let mut heard = std::iter::repeat_with(|| serde_json::from_str::<Value>(&tail.line()).unwrap());
        let reader = scope.spawn(move || heard.find(|heard| heard["kind"] == "reading").unwrap());
        wait_for("a line", PATIENCE, || {
            send(&mut set, bpm);
            bpm += 1;
            std::thread::sleep(Duration::from_millis(100));
            reader.is_finished().then_some(())
        });
        reader.join().unwrap()
    });
    assert_eq!((&first["sensor"], &first["kind"]), (&"adi-forerunner".into(), &"reading".into()));
    assert!(first["heart_rate"].as_u64().unwrap() >= 100);
    drop(tail.1);
    send(&mut set, 90);
    send(&mut set, 91);
    let ended = wait_for("its end", PATIENCE, || {
        send(&mut set, 92);
        tail.0.try_wait().unwrap()
    });
    assert!(ended.success(), "{ended}");
    daemon.stop();
    assert_eq!(others.line(), "", "another sensor's are not shown");
    assert_eq!(others.0.wait().unwrap().code(), Some(1), "the gateway ended");
}

#[test]
fn a_closed_pipe_ends_every_command_quietly() {
    let (set, daemon) = watched("");
    for args in [
        &["status"][..],
        &["check"],
        &["queue", "status"],
        &["queue", "export"],
        &["queue", "export", "--format", "csv"],
        &["sensor", "list"],
        &["scan", "--duration", "1s", "--json"],
        &["demo", "--for", "1s"],
        &["--help"],
    ] {
        let mut command = command(set.folder.path(), &set.bus.address());
        let mut child = command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() != Some(101) && !said.contains("panicked"), "{args:?}: {said}");
        assert!(!said.to_lowercase().contains("broken pipe"), "{args:?}: {said}");
    }
    daemon.stop();
}

#[test]
fn the_page_tells_what_is_heard_and_the_metrics_have_no_heart_rate() {
    let (mut set, daemon) = watched("[page]\nlisten = \"127.0.0.1:0\"\n");
    let page = page_of(&daemon);
    let html = ask(&page, "/", "");
    assert_eq!(html.status, 200);
    assert!(html.head.contains("content-security-policy: default-src 'self'"), "{}", html.head);
    for asset in ["/page.js", "/page.css"] {
        assert_eq!(ask(&page, asset, "").status, 200);
    }
    assert_eq!(ask(&page, "/elsewhere", "").status, 404);
    assert_eq!(ask(&page, "/", "Host: evil.example\r\n").status, 403, "DNS rebinding");
    assert_eq!((ask(&page, "/healthz", "").status, ask(&page, "/readyz", "").status), (200, 200));

    let mut events = TcpStream::connect(&page).unwrap();
    write!(events, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut lines = BufReader::new(events).lines().map(Result::unwrap);
    let mut next = |event: &str| -> Value {
        let _ = lines.by_ref().find(|line| *line == format!("event: {event}")).unwrap();
        let data = lines.next().unwrap();
        serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap()
    };
    assert_eq!(next("recent")["adi-forerunner"].as_array().unwrap().len(), 3);
    assert_eq!(next("overview")["sensors"][0]["streams"], true);
    send(&mut set, 77);
    // A sensor state record may come before it.
    let heard = std::iter::repeat_with(|| next("heard")).find(|heard| heard["kind"] == "reading").unwrap();
    assert_eq!(heard["heart_rate"], 77);

    let metrics = ask(&page, "/metrics", "Accept: application/openmetrics-text\r\n");
    assert!(metrics.head.contains("application/openmetrics-text"));
    assert!(
        metrics.body.contains("hr_gatewayd_readings_received_total{sensor=\"adi-forerunner\"}"),
        "{}",
        metrics.body
    );
    assert!(metrics.body.contains("hr_gatewayd_sensor_streaming{sensor=\"adi-forerunner\"} 1"));
    assert!(metrics.body.contains("# EOF") && !metrics.body.contains("bpm"), "{}", metrics.body);
    let older = ask(&page, "/metrics", "").body;
    assert!(older.contains("# TYPE hr_gatewayd_readings_received_total counter"), "{older}");

    set.reconfigure("listen = \"127.0.0.1:0\"", "listen = \"127.0.0.1:0\"\nmetrics_heart_rates = true");
    daemon.signal("HUP");
    daemon.wait_log("begins anew with it");
    let page = wait_for("the new page", PATIENCE, || {
        let log = daemon.log();
        let pages: Vec<&str> = log.split("the page is at http://").skip(1).collect();
        (pages.len() == 2).then(|| pages[1].split('/').next().unwrap().to_owned())
    });
    send(&mut set, 78);
    wait_for("a heart rate", PATIENCE, || {
        ask(&page, "/metrics", "")
            .body
            .contains("hr_gatewayd_heart_rate_bpm{sensor=\"adi-forerunner\"} 78")
            .then_some(())
    });
    daemon.stop();
}

#[test]
fn a_page_that_others_can_reach_asks_for_a_password() {
    let set = Set::new(&format!("{}\n[page]\nlisten = \"0.0.0.0:0\"\n", one_watch()));
    let (said, well) = set.run(&["check"]);
    assert!(!well && said.contains("page.listen") && said.contains("page.password_file"), "{said}");
    let file = set.folder.path().join("password");
    std::fs::write(&file, "short\n").unwrap();
    set.reconfigure("\"0.0.0.0:0\"", &format!("\"0.0.0.0:0\"\npassword_file = {file:?}"));
    // A page is not worth the readings.
    let (said, well) = set.run(&["check"]);
    assert!(well && said.contains("at least 12") && said.contains("there is no page"), "{said}");
    std::fs::write(&file, "correct horse battery\n").unwrap();
    let daemon = set.start();
    let page = page_of(&daemon).replace("0.0.0.0", "127.0.0.1");
    let with = |password: &str| {
        use base64::Engine;
        let given = base64::prelude::BASE64_STANDARD.encode(format!("hr:{password}"));
        ask(&page, "/metrics", &format!("Host: pi.local\r\nAuthorization: Basic {given}\r\n"))
    };
    let without = ask(&page, "/", "Host: pi.local\r\n");
    assert_eq!(without.status, 401);
    assert!(without.head.contains("www-authenticate: basic"));
    assert_eq!(ask(&page, "/healthz", "").status, 200, "which tells nothing of anybody");
    assert_eq!((with("wrong").status, with("correct horse battery").status), (401, 200));
    daemon.stop();
}

#[test]
fn a_directory_beside_kinesis_is_a_copy_and_one_that_cannot_be_written_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let (mut set, daemon) = watched(&format!("[directory]\npath = {copy:?}\n"));
    let rates: Vec<Vec<u8>> = (70..170).map(|bpm| measurement(bpm).encode()).collect();
    set.bus.notify_all(WATCH, &rates);
    daemon.wait_delivered(103);
    let lines = || -> Vec<Value> {
        let days = std::fs::read_dir(&copy).into_iter().flatten().flatten();
        let text: String = days
            .map(|day| std::fs::read_to_string(day.path().join("readings-0001.ndjson")).unwrap())
            .collect();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    // In the order in which they were accepted, which is another where calls go beside each other.
    let sequences = |lines: Vec<Value>| -> BTreeSet<u64> {
        lines.iter().map(|line| line["sequence"].as_u64().unwrap()).collect()
    };
    wait_for("the copy", PATIENCE, || (sequences(lines()) == sequences(set.lines())).then_some(()));
    assert_eq!(lines().len(), sequences(lines()).len(), "each once");

    // A file in the place of the folder.
    std::fs::remove_dir_all(&copy).unwrap();
    std::fs::write(&copy, "").unwrap();
    set.reconfigure("[directory]", "[directory]\nfile_size_max = \"1 MiB\"");
    daemon.signal("HUP");
    daemon.wait_log("begins anew with it");
    set.bus.wait_subscribed(WATCH);
    set.bus.notify_all(WATCH, &rates);
    daemon.wait_delivered(203);
    daemon.wait_log("the copy cannot be written");
    daemon.stop();
}

#[test]
fn in_a_directory_that_is_the_sink_each_sensors_lines_stand_in_their_order() {
    let set = Set::new(&one_watch());
    let (recording, output) = (set.folder.path().join("long.csv"), set.folder.path().join("readings"));
    let rows: String = (0..5_000).map(|second| format!("{second},{}\n", 60 + second % 90)).collect();
    std::fs::write(&recording, format!("offset_s,heart_rate_bpm\n{rows}")).unwrap();
    let [recording, directory] = [&recording, &output].map(|path| path.to_str().unwrap());
    let all = [
        "demo",
        "--quiet",
        "--replay",
        recording,
        "--speed",
        "1000000",
        "--sensors",
        "3",
        "--output",
        directory,
    ];
    let (said, well) = set.run(&all);
    assert!(well, "{said}");
    let mut days: Vec<_> = std::fs::read_dir(&output).unwrap().map(|day| day.unwrap().path()).collect();
    days.sort();
    let mut last = BTreeMap::new();
    let mut count = 0;
    for day in days {
        let text = std::fs::read_to_string(day.join("readings-0001.ndjson")).unwrap();
        for line in text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
            let (sensor, sequence) = (line["sensor_id"].to_string(), line["sequence"].as_u64().unwrap());
            let before = last.insert(sensor.clone(), sequence).unwrap_or(0);
            assert!(before < sequence, "{sensor}: {sequence} after {before}");
            count += 1;
        }
    }
    assert_eq!(count, 15_000);
}
