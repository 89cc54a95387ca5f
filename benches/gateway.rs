//! The daemon as a process of its own, against our fake Kinesis in this one. Prints a table; asserts
//! only what must hold at any speed: nothing lost, nothing twice.
//!
//! `cargo bench --bench gateway` runs all; `cargo bench --bench gateway -- backlog live` some of
//! `backlog shard failures outage month live`.

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use hr_gateway::heart_rate::RrInterval;
use hr_gateway::queue::ReadingQueue;
use hr_gateway::reading::{Body, Content, Observation};
use support::daemon::{Daemon, configure};
use support::draining::open;
use support::fake_kinesis::{FakeKinesis, Fault, Options};
use support::process::Process;
use support::{reading, wait_for};

const LONG: Duration = Duration::from_secs(1_800);
const NO_BUS: &str = "unix:path=/nonexistent";

/// What is in a queue.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    sensors: u64,
    /// With skin contact and an RR-Interval each, as straps send them.
    with_rr: bool,
}

const ONE: Load = Load { name: "1 sensor without RR-Intervals", sensors: 1, with_rr: false };
/// What people have.
const TEN: Load = Load { name: "10 sensors with an RR-Interval each", sensors: 10, with_rr: true };

impl Load {
    fn reading(self, n: u64) -> Observation {
        let reading = reading(&format!("watch-{}", n % self.sensors), n / self.sensors);
        let Content::Body(Body::Measurement(mut measurement)) = reading.content else { unreachable!() };
        if self.with_rr {
            measurement.values.sensor_contact = Some(true);
            measurement.values.rr_intervals = vec![RrInterval(700 + (n % 300) as u16)];
        }
        Observation { content: Content::Body(Body::Measurement(measurement)), ..reading }
    }
}

fn fill(folder: &Path, readings: u64, load: Load) {
    let queue = open(&folder.join("queue"));
    let mut batch = Vec::with_capacity(1_000);
    for n in 0..readings {
        batch.push(load.reading(n));
        if batch.len() == 1_000 || n + 1 == readings {
            queue.append(&batch).unwrap();
            batch.clear();
        }
    }
}

fn configured(fake: &FakeKinesis) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = fake.endpoint();
    configure(
        folder.path(),
        &format!("[kinesis]\nstream = \"hr-kinesis-stream\"\nendpoint = {endpoint:?}\n"),
    );
    folder
}

#[track_caller]
fn assert_once(fake: &FakeKinesis, readings: u64) {
    fake.seen(|seen| {
        let (lost, twice) = seen.counts[1..].iter().fold((0, 0), |(lost, twice), count| {
            (lost + u64::from(*count == 0), twice + u64::from(*count > 1))
        });
        assert_eq!((lost, twice, seen.counts.len() as u64 - 1), (0, 0, readings), "lost, twice, of");
    });
}

fn wait_accepted(fake: &FakeKinesis, readings: u64) {
    wait_for("all accepted", LONG, || {
        fake.seen(|seen| seen.counts.len() as u64 > readings && !seen.counts[1..].contains(&0)).then_some(())
    });
}

fn drain(name: &str, readings: u64, load: Load, options: Options, failure_rate: f64) {
    let fake = FakeKinesis::start(Options { keep_lines: false, ..options });
    fake.fail_entries(failure_rate, 1);
    let folder = configured(&fake);
    fill(folder.path(), readings, load);
    let started = Instant::now();
    let daemon = Daemon::start(folder.path(), NO_BUS);
    let process = Process::of(daemon.pid());
    let first = wait_for("the first record", LONG, || fake.seen(|seen| seen.first_accepted));
    wait_accepted(&fake, readings);
    let (cpu, peak) = (process.cpu_seconds(), process.peak_rss_mib());
    daemon.wait_delivered(readings);
    daemon.stop();
    assert_once(&fake, readings);
    fake.seen(|seen| {
        let last = seen.last_accepted.unwrap();
        let seconds = (last - first).as_secs_f64();
        let entries = seen.accepted_entries + seen.rejected_entries;
        println!(
            "{name}, {}: {readings} readings in {seconds:.2} s ({:.0}/s, {:.3} MB/s), first after {:.0} ms, \
             {:.2} CPU s per million, peak {peak:.1} MiB, {} of {entries} entries rejected ({:.2} %)",
            load.name,
            readings as f64 / seconds,
            seen.accepted_bytes as f64 / 1e6 / seconds,
            (first - started).as_secs_f64() * 1e3,
            cpu * 1e6 / readings as f64,
            seen.rejected_entries,
            seen.rejected_entries as f64 * 100.0 / entries as f64,
        );
    });
}

fn backlog() {
    for load in [ONE, TEN] {
        for _ in 0..3 {
            drain("without shard limits", 500_000, load, Options::default(), 0.0);
        }
    }
}

fn shard() {
    let limited = Options { limited: true, ..Options::default() };
    drain("40,000 into one shard", 40_000, ONE, limited.clone(), 0.0);
    drain("300,000 into one shard", 300_000, ONE, limited, 0.0);
}

/// The demo as the load: `sensors` simulated watches at `speed` Hz.
fn demo(fake: &FakeKinesis, sensors: u64, speed: &str, length: &str) -> std::process::Child {
    support::daemon::command(Path::new("/nonexistent"), NO_BUS)
        .args(["demo", "--quiet", "--sensors", &sensors.to_string(), "--speed", speed, "--for", length])
        .args(["--kinesis-endpoint", &fake.endpoint()])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

fn outage() {
    let fake = FakeKinesis::start(Options { keep_lines: false, ..Options::default() });
    let mut child = demo(&fake, 1, "10", "75s");
    std::thread::sleep(Duration::from_secs(5));
    fake.set_down(true);
    std::thread::sleep(Duration::from_secs(60));
    fake.set_down(false);
    let up = Instant::now();
    // What was measured while it was down is at most 660 readings; later ones come as they are made.
    wait_for("the outage's readings", LONG, || {
        fake.seen(|seen| seen.counts.len() > 651 && !seen.counts[1..=650].contains(&0)).then_some(())
    });
    println!("60 s outage at 10 readings/s: all in {:.2} s after its end", up.elapsed().as_secs_f64());
    assert!(child.wait().unwrap().success());
    let readings = fake.seen(|seen| seen.counts.len() as u64 - 1);
    assert_once(&fake, readings);
}

fn live() {
    for sensors in [1, 10] {
        let fake = FakeKinesis::start(Options { keep_lines: true, ..Options::default() });
        let mut child = demo(&fake, sensors, "1", "120s");
        std::thread::sleep(Duration::from_secs(10));
        let process = Process::of(child.id());
        let (written, before) = (process.written_kib(), process.by_thread());
        std::thread::sleep(Duration::from_secs(100));
        println!(
            "{sensors} at 1 Hz: {:.1} MiB resident (PSS {:.1}), {:.1} KiB written a reading",
            process.rss_mib(),
            process.pss_mib(),
            (process.written_kib() - written) / 100.0 / sensors as f64
        );
        let mut total_s = 0.0;
        for (name, (ran, switches)) in process.by_thread() {
            let (ran_before, switches_before) = before.get(&name).copied().unwrap_or_default();
            // Those of a thread that ended are gone.
            let day_s = ran.saturating_sub(ran_before) as f64 / 1e9 / 100.0 * 86_400.0;
            let switches = switches.saturating_sub(switches_before);
            println!("  {name}: {day_s:.0} CPU s a day, {} switches/s", switches / 100);
            total_s += day_s;
        }
        println!("  in all {total_s:.0} CPU s a day");
        assert!(child.wait().unwrap().success());
        let mut delays: Vec<i64> = fake.seen(|seen| seen.delays_ms.clone());
        delays.sort_unstable();
        let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize];
        println!("  notification to accepted, of {}: p50 {} ms, p99 {} ms", delays.len(), at(0.5), at(0.99));
    }
}

fn month() {
    const MONTH: u64 = 30 * 86_400;
    let fake = FakeKinesis::start(Options { keep_lines: false, ..Options::default() });
    fake.always(Some(Fault::Error(500, "InternalFailure")));
    let folder = configured(&fake);
    let started = Instant::now();
    {
        // As `commit_interval = "20s"` would; one by one it takes a quarter of an hour.
        let queue = open(&folder.path().join("queue"));
        for first in (0..MONTH).step_by(20) {
            let batch: Vec<_> = (first..first + 20).map(|second| reading("watch-0", second)).collect();
            queue.append(&batch).unwrap();
        }
    }
    let disk = || support::process::folder_mib(&folder.path().join("queue"));
    println!(
        "30 days at 1 Hz: {:.0} MiB on disk (filled in {:.0} s)",
        disk(),
        started.elapsed().as_secs_f64()
    );
    let started = Instant::now();
    let daemon = Daemon::start(folder.path(), NO_BUS);
    daemon.wait_log("gateway running");
    let ready = started.elapsed();
    daemon.wait_log("cannot be reached");
    std::thread::sleep(Duration::from_secs(20));
    let process = Process::of(daemon.pid());
    println!(
        "  start to running {:.0} ms, {:.1} MiB resident, {:.1} peak",
        ready.as_secs_f64() * 1e3,
        process.rss_mib(),
        process.peak_rss_mib()
    );
    fake.always(None);
    let started = Instant::now();
    wait_accepted(&fake, MONTH);
    println!(
        "  drained in {:.1} s, peak {:.1} MiB, {:.0} MiB on disk",
        started.elapsed().as_secs_f64(),
        process.peak_rss_mib(),
        disk()
    );
    daemon.wait_delivered(MONTH);
    daemon.stop();
    assert_once(&fake, MONTH);
    fill(folder.path(), 100_000, ONE);
    println!("  100,000 later: {:.0} MiB on disk", disk());
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let all: [(&str, fn()); 6] = [
        ("backlog", backlog),
        ("shard", shard),
        ("failures", || drain("20 % of entries failing", 200_000, ONE, Options::default(), 0.2)),
        ("outage", outage),
        ("live", live),
        ("month", month),
    ];
    for (name, run) in all {
        if wanted.is_empty() || wanted.iter().any(|want| want == name) {
            run();
        }
    }
}
