//! The command line.
//!
//! Exit codes: 0 done; 1 failed; 2 wrong usage; 3 the demo's ledger does not balance or something was
//! left behind; 78 the configuration needs a change (systemd does not restart on it).

mod moving;
mod stdio;
mod unit;

pub mod check;
pub mod demo;
pub mod queue;
mod reload;
pub mod run;
pub mod scan;
pub mod sensor;
pub mod status;
pub mod tail;

use stdio::{out, passed_on, say};

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::config::{ConfigError, DEFAULT_PATH, Layers};
use crate::gateway::GatewayError;
use crate::private;
use crate::queue::QueueError;
use crate::telemetry;

/// The configuration needs a change (`EX_CONFIG` of sysexits.h).
pub const EXIT_CONFIG: u8 = 78;
/// The demo ended and its ledger was not clean.
pub const EXIT_UNBALANCED: u8 = 3;

/// Heart-rate watches → durable queue on disk → Amazon Kinesis Data Streams.
#[derive(Debug, Parser)]
#[command(
    name = "hr-gatewayd",
    version,
    after_help = "Exit codes: 0 done; 1 failed; 2 wrong usage; 3 the demo's ledger is not clean; \
                  78 the configuration needs a change.\n\nExamples:\n  \
                  hr-gatewayd demo --for 30s\n  hr-gatewayd scan\n  hr-gatewayd check --online\n  \
                  hr-gatewayd status\n  hr-gatewayd tail"
)]
pub struct Cli {
    /// Configuration file [default: /etc/hr-gatewayd/config.toml, which may be absent].
    #[arg(long, global = true, value_name = "FILE", env = "HR_GATEWAYD_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway: what the systemd unit does.
    Run,
    /// Run the main job with a simulated watch: no Bluetooth, no account.
    Demo(demo::DemoArgs),
    /// Show how the running gateway is, and what needs a look.
    Status(status::StatusArgs),
    /// Show readings as they come.
    Tail(tail::TailArgs),
    /// Show Bluetooth devices nearby.
    Scan(scan::ScanArgs),
    /// Show the effective configuration, and where each value came from.
    Check(check::CheckArgs),
    /// Look into the queue of a stopped or running gateway, and mend it.
    Queue(queue::QueueArgs),
    /// Show which device each sensor is, and let go of one.
    Sensor(sensor::SensorArgs),
}

/// Parses the arguments and carries out the command.
pub fn main() -> ExitCode {
    private::restrict_process();
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Demo(args) => block_on(demo::demo(args)),
        Command::Scan(args) => block_on(scan::scan(args)),
        Command::Run => block_on(run::run(cli.config)),
        Command::Status(args) => status::status(cli.config, &args),
        Command::Tail(args) => tail::tail(cli.config, args),
        Command::Check(args) => block_on(check::check(cli.config, args)),
        Command::Queue(args) => queue::queue(cli.config, args),
        Command::Sensor(args) => sensor::sensor(cli.config, args),
    };
    telemetry::finish();
    result.unwrap_or_else(|failure| failure.report())
}

/// A command's error and the exit code it leads to.
#[derive(Debug)]
pub struct Failure {
    error: Box<dyn std::error::Error + Send + Sync>,
    exit_code: u8,
}

impl Failure {
    /// Says it, and returns the exit code.
    fn report(self) -> ExitCode {
        // Several mistakes of a configuration are several lines.
        chain(&*self.error).lines().for_each(|line| say!("hr-gatewayd: {line}"));
        ExitCode::from(self.exit_code)
    }
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let needs_configuration = error.is::<ConfigError>()
            || error.downcast_ref::<QueueError>().is_some_and(QueueError::needs_configuration)
            || error.downcast_ref::<GatewayError>().is_some_and(GatewayError::needs_configuration);
        Self { error, exit_code: if needs_configuration { EXIT_CONFIG } else { 1 } }
    }
}

/// Runs a command on one thread, with others aside for what blocks and has no thread of its own, as the queue,
/// name lookups and the journal have: no task computes for long, and a wake-up across threads costs more than
/// most of what they do.
fn block_on<T>(command: impl Future<Output = T>) -> T {
    /// A folder's writes, the clock, a reload and a control request take one each; the rest is for links that
    /// come at once, whose connections to a frozen bus take up to 25 s.
    const BLOCKING_MAX: usize = 16;
    /// What hangs aside does not hold up the end.
    const LEFT_BEHIND_MAX: Duration = Duration::from_secs(2);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(BLOCKING_MAX)
        .enable_all()
        .build()
        .expect("the kernel gives a process threads and timers");
    let result = runtime.block_on(command);
    runtime.shutdown_timeout(LEFT_BEHIND_MAX);
    result
}

/// The file named on the command line must exist; the default one may not.
fn layers(config: Option<PathBuf>) -> Result<Layers, ConfigError> {
    match config {
        Some(path) => Layers::read(&path, true),
        None => Layers::read(DEFAULT_PATH.as_ref(), false),
    }
}

/// The same for a command about the service, which may be configured otherwise than what is seen here.
fn layers_of_service(config: Option<PathBuf>) -> Result<Layers, ConfigError> {
    if config.is_none() {
        unit::say_what_it_sets();
    }
    layers(config)
}

/// The whole chain of an error, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
