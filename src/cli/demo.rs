//! `hr-gatewayd demo`: the main job with a simulated watch.

mod shown;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::sync::watch;

use shown::Shown;

use super::run::Interrupts;
use super::{EXIT_UNBALANCED, Failure, out, say};
use crate::ble::simulator::{Script, Simulator};
use crate::ble::{SensorView, recording};
use crate::clock::{SystemClock, boottime};
use crate::config::{Config, DEFAULT_PATH, KinesisConfig, Span};
use crate::drainer::RecordSink;
use crate::drainer::directory::DirectorySink;
use crate::drainer::kinesis::{Keys, KinesisSink};
use crate::gateway::{DRAIN_IDLE_MAX, Gateway, Source, Stops};
use crate::live::Live;
use crate::private;
use crate::queue::capacity::Capacity;
use crate::queue::durable::DurableQueue;
use crate::queue::handle::Handle;
use crate::queue::segment::SegmentCodec;
use crate::reading::SensorId;
use crate::telemetry::Filter;

/// The region of a demo's endpoint where none is given: test servers take any.
const DEMO_REGION: &str = "us-east-1";

/// `demo`
#[derive(Debug, Args)]
#[command(
    after_help = "A made-up watch is played for 30 s unless --for or --replay says otherwise. The last line \
                        on stdout is the ledger as JSON; the exit code is 0 only if it balances and nothing was \
                        left behind.\n\nExamples:\n  hr-gatewayd demo --for 10s\n  \
                        hr-gatewayd demo --replay run.csv --speed 100 --output /tmp/readings\n  \
                        hr-gatewayd demo --kinesis-endpoint http://127.0.0.1:5000 --stream hr-kinesis-stream"
)]
pub struct DemoArgs {
    /// Play a recording (CSV: `offset_s,heart_rate_bpm`, or `rr_ms`) and end with it.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Play this many times faster than real time.
    #[arg(long, default_value = "1", value_parser = parse_speed)]
    speed: f64,
    /// Stop after this much real time.
    #[arg(long = "for", value_name = "DURATION")]
    stop_after: Option<Span>,
    /// Write NDJSON into this folder [default: a new one in the temporary directory].
    #[arg(long, value_name = "DIR", conflicts_with = "kinesis_endpoint")]
    output: Option<PathBuf>,
    /// Drain into this Kinesis endpoint instead.
    #[arg(long, value_name = "URL")]
    kinesis_endpoint: Option<String>,
    /// The stream there.
    #[arg(long, default_value = "hr-kinesis-stream")]
    stream: String,
    /// How many watches to simulate.
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u16).range(1..=100))]
    sensors: u16,
    /// Show the live page meanwhile, on this machine.
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "8180")]
    page: Option<u16>,
    /// Show each reading in a line of its own, on a terminal too.
    #[arg(long)]
    plain: bool,
    /// Do not show the readings.
    #[arg(long)]
    quiet: bool,
}

fn parse_speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if (0.01..=1e6).contains(&speed) { Ok(speed) } else { Err("allowed is 0.01 to 1000000".into()) }
}

/// Runs it.
pub async fn demo(args: DemoArgs) -> Result<ExitCode, Failure> {
    crate::telemetry::init(&Filter::default())?;
    const MADE_UP_LENGTH: Duration = Duration::from_secs(30);
    let (script, stop_after) = match &args.replay {
        Some(path) => (Script::Replay(recording::read(path)?), args.stop_after.map(|span| span.0)),
        None => (Script::MadeUp, Some(args.stop_after.map_or(MADE_UP_LENGTH, |span| span.0))),
    };
    let mut config = Config::default();
    let folder = Scratch::new()?;
    let (sink, place) = sink(&args, &config, &folder).await;
    let sink = if args.quiet { sink } else { Arc::new(Shown::new(sink, args.plain)) };
    let capacity = Capacity { disk_headroom: 0, ..Capacity::from_config(&config.queue) };
    let gateway = "demo-gateway".parse()?;
    let opened = DurableQueue::open(&folder.path.join("queue"), capacity, SegmentCodec::default(), &gateway)?;
    config.queue.path = folder.path.join("queue");
    // It shows watches.
    config.gateway.state_every = Span::default();
    let queue = Handle::spawn(Box::new(opened.queue))?;
    let clock = SystemClock::new(config.clock.synchronization)?;
    let watches: Vec<SensorId> =
        (1..=args.sensors).map(|n| format!("demo-watch-{n}").parse()).collect::<Result<_, _>>()?;
    let streaming = SensorView { streams: true, ..SensorView::default() };
    let states = watches.iter().map(|sensor| (sensor.clone(), streaming.clone())).collect();
    say!("simulated watch → queue in {} → {place}", folder.path.join("queue").display());

    let stops = Stops::default();
    let simulator =
        Simulator { sensors: watches, script, speed: args.speed, stop_after, clock: clock.clone() };
    let mut source = Source::start(Box::new(simulator), watch::channel(states).1, None);
    let gateway = Gateway {
        queue: queue.clone(),
        sink: Some(sink),
        copier: None,
        clock,
        queue_went_back: false,
        live: Live::new(),
        started: boottime(),
        control: None,
        page: args.page.map(|port| (SocketAddr::from((Ipv4Addr::LOCALHOST, port)), None)),
        config_path: DEFAULT_PATH.into(),
        config,
    };
    let mut interrupts = Interrupts::new()?;
    let mut waits = false;
    let running = gateway.run(&mut source, stops.clone());
    tokio::pin!(running);
    let result = loop {
        tokio::select! {
            result = &mut running => break result,
            () = interrupts.next() => {
                if stops.whole.is_cancelled() {
                    say!("hr-gatewayd: stopped; the queue is kept in {}", folder.keep().display());
                    return Ok(ExitCode::from(EXIT_UNBALANCED));
                }
                stops.whole.cancel();
                say!("hr-gatewayd: stopping, once the sink has answered; Ctrl-C again does not wait for it");
            }
            () = outlasted(stop_after, &queue), if !waits && !stops.whole.is_cancelled() => {
                let wait = DRAIN_IDLE_MAX.as_secs();
                let queued = queue.depth();
                say!("hr-gatewayd: {queued} items wait for the sink, {wait} s at most without progress; Ctrl-C does not wait");
                waits = true;
            }
        }
    };
    let status = queue.status().await?;
    let left_behind = status.totals.readings.queued
        + status.totals.other_records.queued
        + status.totals.readings.dead_lettered
        + status.totals.readings.evicted;
    let readings = status.totals.readings;
    let arrived = if left_behind == 0 { "all of them".to_owned() } else { readings.delivered.to_string() };
    say!("{} readings received; {arrived} arrived in {place}", readings.received);
    out!("{}", serde_json::to_string(&status.totals)?);
    result?;
    if status.balances && left_behind == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    say!("hr-gatewayd: not all readings arrived; the queue is kept in {}", folder.keep().display());
    Ok(ExitCode::from(EXIT_UNBALANCED))
}

/// Returns when there has been nothing more to simulate for a second, and something still waits.
async fn outlasted(stop_after: Option<Duration>, queue: &Handle) {
    match stop_after {
        Some(stop_after) => tokio::time::sleep(stop_after + Duration::from_secs(1)).await,
        None => return std::future::pending().await,
    }
    while queue.depth() == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn sink(args: &DemoArgs, config: &Config, folder: &Scratch) -> (Arc<dyn RecordSink>, String) {
    let Some(endpoint) = &args.kinesis_endpoint else {
        let output = args.output.clone().unwrap_or_else(|| folder.path.with_extension("readings"));
        let place = output.display().to_string();
        return (Arc::new(DirectorySink::new(output, config.directory.file_size_max.0)), place);
    };
    let has_credentials =
        ["AWS_ACCESS_KEY_ID", "AWS_PROFILE"].iter().any(|name| std::env::var_os(name).is_some());
    let has_region = ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().any(|name| std::env::var_os(name).is_some());
    let kinesis = KinesisConfig {
        endpoint: Some(endpoint.clone()),
        region: (!has_region).then(|| DEMO_REGION.to_owned()),
        ..KinesisConfig::default()
    };
    let keys = if has_credentials { Keys::DefaultChain } else { Keys::MadeUp };
    let sink = KinesisSink::new(&args.stream, &kinesis, config.drain.request_timeout.0, keys).await;
    (Arc::new(sink), format!("stream {} at {endpoint}", args.stream))
}

/// A folder of this demo's own; gone with it unless kept.
struct Scratch {
    path: PathBuf,
    keep: std::cell::Cell<bool>,
}

impl Scratch {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("hr-gatewayd-demo-{:08x}", fastrand::u32(..)));
        private::create_folder(&path)?;
        Ok(Self { path, keep: std::cell::Cell::new(false) })
    }

    fn keep(&self) -> &std::path::Path {
        self.keep.set(true);
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep.get() {
            _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
