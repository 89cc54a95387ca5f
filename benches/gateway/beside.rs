//! The same readings through another shipper, in the same run: what `benches/beside.sh` starts.
//!
//! It reads our lines from a file, one reading a line, as such programs do. A template in
//! `benches/shippers/` says how it is run: its first line names the arguments, `{config}` being the
//! filled-in template itself.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::support::daemon::Daemon;
use super::support::fake_kinesis::{FakeKinesis, Options};
use super::support::middlebox::Middlebox;
use super::support::process::Process;
use super::support::{in_tree, wait_for};
use super::{
    BACKLOG, Drained, LIVE, LONG, Living, Load, NO_BUS, ONE, SETTLED, TEN, assert_once, configured, drain,
    fill, has_accepted, live_with, wait_accepted, watch,
};

/// Each backlog is sent so often by either.
const ROUNDS: usize = 3;

/// So often a shipper sends what it has read, where that is to be said: a backlog as fast as it can, live readings
/// as often as they come.
const BACKLOG_FLUSH_S: &str = "0.2";
const LIVE_FLUSH_S: &str = "1";

/// Another program, and where it is.
struct Shipper {
    name: String,
    binary: String,
}

pub fn beside() {
    let from_env = |name: &str| std::env::var(name).expect("started by benches/beside.sh");
    let shipper = Shipper { name: from_env("BESIDE_SHIPPER"), binary: from_env("BESIDE_BINARY") };
    let mut table = Table { shipper: shipper.name.clone(), rows: Vec::new() };
    for load in [ONE, TEN] {
        let lines = lines(load, BACKLOG);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(drain("ours", BACKLOG, load, Options::default(), 0.0));
            theirs.push(shipper.drain(&lines, load));
        }
        let name = |what: &str| format!("backlog of {BACKLOG}, {}: {what}", load.name);
        let mut row = |what: &str, value: fn(&Drained) -> f64| {
            table.row(name(what), median(&ours, value), median(&theirs, value));
        };
        row("readings/s", |drained| drained.readings_per_s);
        row("CPU s per million", |drained| drained.cpu_s_per_million);
        row("peak, MiB", |drained| drained.peak_mib);
    }
    for load in [ONE, TEN] {
        let ours = live_with(load.sensors, true, 0);
        let theirs = shipper.live(load);
        let mut row = |what: &str, value: fn(&Living) -> f64| {
            table.row(format!("{} at 1 Hz, TLS: {what}", load.sensors), value(&ours), value(&theirs));
        };
        row("CPU s a day", |living| living.cpu_s_per_day);
        row("resident, MiB", |living| living.rss_mib);
        row("PSS, MiB", |living| living.pss_mib);
        row("written per reading, KiB", |living| living.written_kib_per_reading);
    }
    table.print();
}

/// The lines that the gateway sends for such readings.
fn lines(load: Load, readings: u64) -> Vec<String> {
    let fake = FakeKinesis::start(Options::default());
    let folder = configured(&fake);
    fill(folder.path(), readings, load);
    let daemon = Daemon::start(folder.path(), NO_BUS);
    wait_accepted(&fake, readings);
    daemon.stop();
    fake.seen(|seen| seen.lines.clone())
}

fn median<T>(runs: &[T], value: impl Fn(&T) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The shipper as it runs; ends when dropped.
struct Running {
    child: Child,
    fake: FakeKinesis,
    folder: PathBuf,
    _tls: Middlebox,
}

impl Running {
    /// Waits until all lines are in; panics with the shipper's own words where it ends before.
    fn wait_accepted(&mut self, readings: u64) {
        wait_for("all accepted", LONG, || {
            if let Some(status) = self.child.try_wait().unwrap() {
                let said = std::fs::read_to_string(self.folder.join("log")).unwrap();
                panic!("the shipper ended ({status}):\n{said}");
            }
            has_accepted(&self.fake, readings).then_some(())
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Shipper {
    fn start(&self, folder: &Path, flush_s: &str) -> Running {
        let fake = FakeKinesis::start(Options { keep_lines: false, foreign: true, ..Options::default() });
        let tls = Middlebox::tls("valid", fake.address);
        let path = in_tree("benches/shippers").join(&self.name);
        let template = std::fs::read_to_string(path).expect("benches/beside.sh looked for the template");
        let config = folder.join(&self.name);
        let authority = in_tree("tests/tls/ca.pem");
        let fill_in = |text: &str| {
            text.replace("{lines}", folder.join("lines").to_str().unwrap())
                .replace("{folder}", folder.to_str().unwrap())
                .replace("{config}", config.to_str().unwrap())
                .replace("{authority}", authority.to_str().unwrap())
                .replace("{flush_s}", flush_s)
                .replace("{port}", &tls.address.port().to_string())
        };
        std::fs::write(&config, fill_in(&template)).unwrap();
        let arguments = template.lines().next().and_then(|line| line.strip_prefix("# arguments: "));
        let arguments = fill_in(arguments.expect("a template's first line names the arguments"));
        let child = Command::new(&self.binary)
            .args(arguments.split_whitespace())
            .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")])
            .env("AWS_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(File::create(folder.join("out")).unwrap())
            .stderr(File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.binary));
        Running { child, fake, folder: folder.to_owned(), _tls: tls }
    }

    fn drain(&self, lines: &[String], load: Load) -> Drained {
        let folder = tempfile::tempdir().unwrap();
        let mut file = BufWriter::new(File::create(folder.path().join("lines")).unwrap());
        lines.iter().for_each(|line| writeln!(file, "{line}").unwrap());
        file.into_inner().unwrap();
        let mut running = self.start(folder.path(), BACKLOG_FLUSH_S);
        let process = Process::of(running.child.id());
        running.wait_accepted(BACKLOG);
        let (cpu, peak_mib) = (process.cpu_seconds(), process.peak_rss_mib());
        assert_once(&running.fake, BACKLOG);
        let seconds = running.fake.seen(|seen| {
            let took = seen.last_accepted.unwrap() - seen.first_accepted.unwrap();
            took.as_secs_f64()
        });
        let drained = Drained {
            readings_per_s: BACKLOG as f64 / seconds,
            cpu_s_per_million: cpu * 1e6 / BACKLOG as f64,
            peak_mib,
        };
        println!(
            "{}, {}: {BACKLOG} readings in {seconds:.2} s ({:.0}/s), {:.2} CPU s per million, peak {peak_mib:.1} MiB",
            self.name, load.name, drained.readings_per_s, drained.cpu_s_per_million
        );
        drained
    }

    fn live(&self, load: Load) -> Living {
        let seconds = (SETTLED + LIVE).as_secs() + 10;
        let lines = lines(load, seconds * load.sensors);
        let folder = tempfile::tempdir().unwrap();
        let mut file = File::create(folder.path().join("lines")).unwrap();
        let mut running = self.start(folder.path(), LIVE_FLUSH_S);
        println!("{} at 1 Hz through {}:", load.sensors, self.name);
        let living = std::thread::scope(|scope| {
            scope.spawn(|| {
                for second in lines.chunks(load.sensors as usize) {
                    second.iter().for_each(|line| writeln!(file, "{line}").unwrap());
                    std::thread::sleep(Duration::from_secs(1));
                }
            });
            watch(running.child.id(), load.sensors)
        });
        running.wait_accepted(lines.len() as u64);
        assert_once(&running.fake, lines.len() as u64);
        living
    }
}

/// What is compared, ours and theirs.
struct Table {
    shipper: String,
    rows: Vec<(String, f64, f64)>,
}

impl Table {
    fn row(&mut self, name: String, ours: f64, theirs: f64) {
        self.rows.push((name, ours, theirs));
    }

    fn print(&self) {
        println!("\n| | hr-gatewayd | {} | ratio |\n| --- | --- | --- | --- |", self.shipper);
        for (name, ours, theirs) in &self.rows {
            let digits = if *ours < 100.0 { 1 } else { 0 };
            println!("| {name} | {ours:.digits$} | {theirs:.digits$} | {:.2} |", ours / theirs);
        }
    }
}
