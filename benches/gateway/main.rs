//! The daemon as a process of its own, against our fake Kinesis in this one. Prints a table; asserts
//! only what must hold at any speed: nothing lost, nothing twice.
//!
//! `cargo bench --bench gateway` runs all; `cargo bench --bench gateway -- backlog live` some of
//! `backlog shard failures outage month live`. `benches/beside.sh` runs the loads through another shipper too.

mod beside;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use hr_gateway::heart_rate::RrInterval;
use hr_gateway::queue::ReadingQueue;
use hr_gateway::reading::{Body, Content, Observation};
use support::daemon::{Daemon, configure};
use support::draining::open;
use support::fake_kinesis::{FakeKinesis, Fault, Options};
use support::middlebox::Middlebox;
use support::process::Process;
use support::{reading, wait_for};

const LONG: Duration = Duration::from_secs(1_800);
const NO_BUS: &str = "unix:path=/nonexistent";

/// What is in a queue.
#[derive(Clone, Copy)]
pub struct Load {
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

/// In a full backlog.
const BACKLOG: u64 = 500_000;

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

fn has_accepted(fake: &FakeKinesis, readings: u64) -> bool {
    fake.seen(|seen| seen.counts.len() as u64 > readings && !seen.counts[1..].contains(&0))
}

fn wait_accepted(fake: &FakeKinesis, readings: u64) {
    wait_for("all accepted", LONG, || has_accepted(fake, readings).then_some(()));
}

/// What a backlog came to.
struct Drained {
    readings_per_s: f64,
    cpu_s_per_million: f64,
    peak_mib: f64,
}

fn drain(name: &str, readings: u64, load: Load, options: Options, failure_rate: f64) -> Drained {
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
        Drained {
            readings_per_s: readings as f64 / seconds,
            cpu_s_per_million: cpu * 1e6 / readings as f64,
            peak_mib: peak,
        }
    })
}

fn backlog() {
    for load in [ONE, TEN] {
        for _ in 0..3 {
            drain("without shard limits", BACKLOG, load, Options::default(), 0.0);
        }
    }
}

fn shard() {
    let limited = Options { limited: true, ..Options::default() };
    drain("40,000 into one shard", 40_000, ONE, limited.clone(), 0.0);
    drain("300,000 into one shard", 300_000, ONE, limited, 0.0);
}

/// The demo as the load: `sensors` simulated watches at `speed` Hz.
fn demo(endpoint: &str, sensors: u64, speed: &str, length: &str, more: &[&str]) -> std::process::Child {
    support::daemon::command(Path::new("/nonexistent"), NO_BUS)
        .args(["demo", "--quiet", "--sensors", &sensors.to_string(), "--speed", speed, "--for", length])
        .args(["--kinesis-endpoint", endpoint])
        .args(more)
        // That of the TLS in between.
        .env("AWS_CA_BUNDLE", support::in_tree("tests/tls/ca.pem"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

fn outage() {
    let fake = FakeKinesis::start(Options { keep_lines: false, ..Options::default() });
    let mut child = demo(&fake.endpoint(), 1, "10", "75s", &[]);
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

/// What a process costs while readings come at 1 Hz.
struct Living {
    rss_mib: f64,
    pss_mib: f64,
    written_kib_per_reading: f64,
    cpu_s_per_day: f64,
}

const PAGE_PORT: &str = "18180";
/// So long a live load is looked at, after `SETTLED`.
const LIVE: Duration = Duration::from_secs(100);
const SETTLED: Duration = Duration::from_secs(10);

/// Looks at a process that has just been started. Prints what each of its threads costs.
fn watch(pid: u32, sensors: u64) -> Living {
    std::thread::sleep(SETTLED);
    let process = Process::of(pid);
    let (written, before) = (process.written_kib(), process.by_thread());
    std::thread::sleep(LIVE);
    let mut cpu_s_per_day = 0.0;
    for (name, (ran, switches)) in process.by_thread() {
        let (ran_before, switches_before) = before.get(&name).copied().unwrap_or_default();
        // Those of a thread that ended are gone.
        let share = Duration::from_nanos(ran.saturating_sub(ran_before)).as_secs_f64() / LIVE.as_secs_f64();
        let switches = switches.saturating_sub(switches_before) / LIVE.as_secs();
        println!("  {name}: {:.0} CPU s a day, {switches} switches/s", share * 86_400.0);
        cpu_s_per_day += share * 86_400.0;
    }
    let readings = LIVE.as_secs_f64() * sensors as f64;
    let living = Living {
        rss_mib: process.rss_mib(),
        pss_mib: process.pss_mib(),
        written_kib_per_reading: (process.written_kib() - written) / readings,
        cpu_s_per_day,
    };
    println!(
        "  in all {cpu_s_per_day:.0} CPU s a day, {:.1} MiB resident (PSS {:.1}), {:.1} KiB written a reading",
        living.rss_mib, living.pss_mib, living.written_kib_per_reading
    );
    living
}

/// Our daemon, with TLS or without, and with so many open pages.
fn live_with(sensors: u64, tls: bool, pages: usize) -> Living {
    let fake = FakeKinesis::start(Options::default());
    let in_between = tls.then(|| Middlebox::tls("valid", fake.address));
    let endpoint = in_between.as_ref().map_or_else(
        || fake.endpoint(),
        |in_between| format!("https://localhost:{}", in_between.address.port()),
    );
    println!("{sensors} at 1 Hz, {}, {pages} open pages:", if tls { "TLS" } else { "plain HTTP" });
    let page = if pages > 0 { &["--page", PAGE_PORT][..] } else { &[] };
    let mut child = demo(&endpoint, sensors, "1", "120s", page);
    (0..pages).for_each(|_| open_page());
    let living = watch(child.id(), sensors);
    assert!(child.wait().unwrap().success());
    let mut delays: Vec<i64> = fake.seen(|seen| seen.delays_ms.clone());
    delays.sort_unstable();
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize];
    println!("  notification to accepted, of {}: p50 {} ms, p99 {} ms", delays.len(), at(0.5), at(0.99));
    living
}

/// Reads what a page is told, until the gateway ends.
fn open_page() {
    let connect = || std::net::TcpStream::connect(format!("127.0.0.1:{PAGE_PORT}")).ok();
    let mut stream = wait_for("the page", Duration::from_secs(10), connect);
    std::thread::spawn(move || {
        write!(stream, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        std::io::copy(&mut stream, &mut std::io::sink())
    });
}

fn live() {
    for (sensors, tls, pages) in [(1, false, 0), (1, true, 0), (10, false, 0), (10, false, 20)] {
        live_with(sensors, tls, pages);
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
        ("failures", || _ = drain("20 % of entries failing", 200_000, ONE, Options::default(), 0.2)),
        ("outage", outage),
        ("live", live),
        ("month", month),
    ];
    if wanted == ["beside"] {
        return beside::beside();
    }
    for (name, run) in all {
        if wanted.is_empty() || wanted.iter().any(|want| want == name) {
            run();
        }
    }
}
