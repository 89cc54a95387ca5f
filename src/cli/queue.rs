//! `hr-gatewayd queue`: look into the queue and mend it.

mod csv;
mod output;
mod words;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use tokio::sync::mpsc;

use csv::{CSV_COLUMNS, write_csv};
use output::Output;
use words::{missing_words, rescued_words};

use super::moving::Progress;
use super::{Failure, layers_of_service, out, passed_on, run, say};
use crate::config::Validated;
use crate::control::{self, ControlError, QueueRequest, Reply, Request, Selection};
use crate::private::ActingAs;
use crate::queue::capacity::Capacity;
use crate::queue::durable::DurableQueue;
use crate::queue::folder::set_aside;
use crate::queue::handle::Handle;
use crate::queue::rescued::Rescuer;
use crate::queue::{self, QueueError, ReadingQueue, Status};

/// `queue`
#[derive(Debug, Args)]
#[command(
    after_help = "Works on a running gateway (which answers itself) and on a stopped one.\n\nExamples:\n  \
                        hr-gatewayd queue status\n  hr-gatewayd queue export --format csv --output backlog.csv\n  \
                        hr-gatewayd queue dead-letters\n  hr-gatewayd queue requeue --all\n  \
                        hr-gatewayd queue drop 4711 4712\n  hr-gatewayd queue recover"
)]
pub struct QueueArgs {
    /// The queue's folder, instead of the configured one.
    #[arg(long, global = true, value_name = "DIR")]
    path: Option<PathBuf>,
    #[command(subcommand)]
    command: QueueCommand,
}

#[derive(Debug, Subcommand)]
enum QueueCommand {
    /// The ledger, by sensor. Exit code 1 if it does not balance.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write every queued item to a file or stdout; takes nothing out.
    Export {
        /// NDJSON as it would be sent, or CSV.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        /// The file; by default stdout.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// List what the sink refused for good, and why.
    DeadLetters {
        /// Print JSON, one line each.
        #[arg(long)]
        json: bool,
    },
    /// Put dead letters back into the queue.
    Requeue(Which),
    /// Discard dead letters for good (counted as evicted).
    Drop(Which),
    /// Take back what can be read of a damaged store that was set aside, under the old ids, each once.
    Recover {
        /// The folder it was set aside as; by default all such folders of this queue.
        #[arg(long, value_name = "DIR")]
        from: Vec<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    #[default]
    Ndjson,
    Csv,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// All of them.
    #[arg(long)]
    all: bool,
    /// Their sequences, as `queue dead-letters` shows them.
    sequences: Vec<u64>,
}

impl From<Which> for Selection {
    fn from(which: Which) -> Self {
        if which.all { Self::All } else { Self::Sequences(which.sequences) }
    }
}

/// Runs it.
pub fn queue(config_path: Option<PathBuf>, args: QueueArgs) -> Result<ExitCode, Failure> {
    let validated = layers_of_service(config_path)?.config()?;
    let path = args.path.unwrap_or_else(|| validated.config().queue.path.clone());
    let target = &Target { path, validated };
    match args.command {
        QueueCommand::Status { json } => status(target, json),
        QueueCommand::Export { format, output } => export(target, format, output.as_deref()),
        QueueCommand::DeadLetters { json } => dead_letters(target, json),
        QueueCommand::Requeue(which) => {
            change(target, QueueRequest::Requeue(which.into()), "put back into the queue")
        }
        QueueCommand::Drop(which) => change(target, QueueRequest::Drop(which.into()), "discarded"),
        QueueCommand::Recover { from } => recover(target, from),
    }
}

/// Whose queue it is about.
struct Target {
    path: PathBuf,
    validated: Validated,
}

impl Target {
    fn rescuer(&self) -> Rescuer {
        Rescuer { codec: self.validated.codec(), gateway: self.validated.gateway_id() }
    }
}

/// Asks the running gateway, or opens the store of a stopped one.
fn perform(
    target: &Target,
    request: &QueueRequest,
    hear: &mut dyn FnMut(Reply) -> io::Result<()>,
) -> Result<u64, Failure> {
    // A gateway that starts or stops has its store open and its socket not yet, or no longer.
    const TRIES: u32 = 50;
    const PAUSE: Duration = Duration::from_millis(100);
    const REPLIES_AHEAD: usize = 64;
    let path = &target.path;
    let mut tries = 0;
    let mut acting;
    let queue = loop {
        if let Some(answer) = control::ask(path, &Request::Queue(request.clone()), hear) {
            return Ok(answer?);
        }
        if let Err(error) = path.join("db").metadata() {
            let hint = match error.kind() {
                io::ErrorKind::PermissionDenied => "run this as root",
                _ => "name the queue's folder with --path",
            };
            return Err(format!("no queue at {}: {error}; {hint}", path.display()).into());
        }
        // Until the end: sled goes on writing while it is closed.
        acting = ActingAs::owner_of(path)?;
        match open(target, request) {
            Err(QueueError::InUse(_)) if tries < TRIES => tries += 1,
            opened => break opened?,
        }
        std::thread::sleep(PAUSE);
    };
    let rescuer = target.rescuer();
    let queue = Handle::in_place(queue);
    let (say, mut said) = mpsc::channel(REPLIES_AHEAD);
    let answer = async {
        let done = control::execute(&queue, &rescuer, request, &say).await;
        drop(say);
        done
    };
    let pass_on = async {
        while let Some(reply) = said.recv().await {
            hear(reply)?;
        }
        Ok(())
    };
    let (count, ()) = super::block_on(async { tokio::try_join!(answer, pass_on) })?;
    super::block_on(queue.close())?;
    drop(queue);
    drop(acting);
    Ok(count)
}

/// The queue of a stopped gateway: as the daemon would open it where something is to be changed; where it is
/// only looked at, also a damaged one, as far as it can be read.
fn open(target: &Target, request: &QueueRequest) -> Result<Box<dyn ReadingQueue>, QueueError> {
    let capacity = Capacity::from_config(&target.validated.config().queue);
    let (path, rescuer) = (&target.path, target.rescuer());
    if let QueueRequest::Requeue(_) | QueueRequest::Drop(_) | QueueRequest::Recover(_) = request {
        return Ok(Box::new(open_to_change(target)?));
    }
    let whole = || {
        let queue = DurableQueue::open_existing(path, capacity, rescuer.codec.clone(), &rescuer.gateway)?;
        queue::audit(&queue).map(|_| queue)
    };
    let error = match DurableQueue::is_damaged(path, &target.rescuer())? {
        true => None,
        false => match whole() {
            Ok(queue) => return Ok(Box::new(queue)),
            Err(error) if error.needs_configuration() || matches!(error, QueueError::InUse(_)) => {
                return Err(error);
            }
            Err(error) => Some(error),
        },
    };
    let rescued = rescuer.read(path).map_err(|unreadable| error.unwrap_or(unreadable))?;
    let missing: Vec<_> = rescued.missing().ranges().map(RangeInclusive::into_inner).collect();
    let (readable, passed_over) =
        (rescued.readable().count() + rescued.dead().count(), rescued.passed_over());
    say!("hr-gatewayd: the store is damaged; {}", rescued_words(readable, passed_over, &missing));
    Ok(Box::new(rescued))
}

fn open_to_change(target: &Target) -> Result<DurableQueue, QueueError> {
    let capacity = Capacity::from_config(&target.validated.config().queue);
    let rescuer = target.rescuer();
    let opened = DurableQueue::open(&target.path, capacity, rescuer.codec, &rescuer.gateway)?;
    run::findings(&opened).into_iter().for_each(|finding| say!("hr-gatewayd: {finding}"));
    Ok(opened.queue)
}

fn status(target: &Target, json: bool) -> Result<ExitCode, Failure> {
    let mut status = None;
    perform(target, &QueueRequest::Status, &mut |reply| {
        if let Reply::Status(answer) = reply {
            status = Some(answer);
        }
        Ok(())
    })?;
    let status: Status = *status.ok_or(ControlError::Remote("no status".into()))?;
    if json {
        out!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        out!(
            "{:<24} {:>10} {:>10} {:>9} {:>6} {:>8} {:>9} {:>6}",
            "sensor",
            "received",
            "delivered",
            "queued",
            "dead",
            "evicted",
            "malformed",
            "other"
        );
        for sensor in &status.sensors {
            let (readings, others) = (sensor.readings, sensor.other_records);
            out!(
                "{:<24} {:>10} {:>10} {:>9} {:>6} {:>8} {:>9} {:>6}",
                sensor.sensor,
                readings.received,
                readings.delivered,
                readings.queued,
                readings.dead_lettered,
                readings.evicted,
                sensor.malformed,
                others.received
            );
        }
        if status.missing > 0 {
            out!("{}", missing_words(&status.missing_sequences));
        }
        out!(
            "the ledger {}",
            match status.balances {
                true => "balances",
                false if status.missing > 0 => "does not balance: readings are missing from it",
                false => "DOES NOT BALANCE; please report it",
            }
        );
    }
    Ok(if status.balances { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn export(target: &Target, format: Format, output: Option<&Path>) -> Result<ExitCode, Failure> {
    let to_terminal = output.is_none() && io::stdout().is_terminal();
    let mut out = BufWriter::new(match output {
        None => Output::Stream(Box::new(io::stdout())),
        Some(path) => Output::open(path).map_err(|error| format!("{}: {error}", path.display()))?,
    });
    let mut progress = Progress::new(!to_terminal);
    if let Format::Csv = format {
        writeln!(out, "{}", CSV_COLUMNS.join(","))?;
    }
    let count = perform(target, &QueueRequest::Export, &mut |reply| match (reply, format) {
        (Reply::Line(line), Format::Ndjson) => passed_on(writeln!(out, "{line}")),
        (Reply::Line(line), Format::Csv) => passed_on(write_csv(&mut out, &line)),
        (Reply::Progress(done, total), _) => {
            progress.show(done, total);
            Ok(())
        }
        _ => Ok(()),
    })?;
    let finished = out.into_inner().map_err(|error| error.into_error()).and_then(Output::finish);
    passed_on(finished)?;
    progress.clear();
    say!("{count} items");
    Ok(ExitCode::SUCCESS)
}

fn dead_letters(target: &Target, json: bool) -> Result<ExitCode, Failure> {
    let count = perform(target, &QueueRequest::DeadLetters, &mut |reply| {
        let Reply::DeadLetter { sequence, reason, line } = &reply else { return Ok(()) };
        let mut out = io::stdout().lock();
        passed_on(match json {
            true => writeln!(out, "{}", serde_json::to_string(&reply)?),
            false => writeln!(out, "{sequence}  {reason}\n    {line}"),
        })
    })?;
    say!("{count} dead letters");
    Ok(ExitCode::SUCCESS)
}

fn change(target: &Target, request: QueueRequest, done: &str) -> Result<ExitCode, Failure> {
    let mut progress = Progress::new(true);
    let count = perform(target, &request, &mut |reply| {
        if let Reply::Progress(position, total) = reply {
            progress.show(position, total);
        }
        Ok(())
    })?;
    progress.clear();
    out!("{count} dead letters {done}");
    Ok(ExitCode::SUCCESS)
}

fn recover(target: &Target, from: Vec<PathBuf>) -> Result<ExitCode, Failure> {
    let folders = match from.is_empty() {
        true => {
            set_aside_now(target)?;
            set_aside(&target.path)?
        }
        false => from,
    };
    if folders.is_empty() {
        out!("no damaged store of this queue was set aside; name one with --from");
    }
    let mut code = ExitCode::SUCCESS;
    for folder in folders {
        // The next one may still give what is in it.
        if let Err(failure) = recover_from(target, &folder) {
            say!("hr-gatewayd: {} was not taken back, or not all of it:", folder.display());
            code = failure.report();
        }
    }
    Ok(code)
}

fn recover_from(target: &Target, folder: &Path) -> Result<(), Failure> {
    // The daemon has another working directory.
    let folder = folder.canonicalize()?;
    let shown = folder.display().to_string();
    let mut progress = Progress::new(true);
    let mut words = String::new();
    let count = perform(target, &QueueRequest::Recover(folder), &mut |reply| {
        match reply {
            Reply::Progress(position, total) => {
                progress.show(position, total);
            }
            Reply::Rescued { readable, passed_over, missing } => {
                words = rescued_words(readable, passed_over, &missing);
            }
            _ => {}
        }
        Ok(())
    })?;
    progress.clear();
    out!("{shown}: {count} taken back; {words}");
    Ok(())
}

/// Sets a damaged store of a stopped gateway aside, as the gateway would at its next start.
fn set_aside_now(target: &Target) -> Result<(), Failure> {
    let path = &target.path;
    if control::ask(path, &Request::Queue(QueueRequest::Status), &mut |_| Ok(())).is_some()
        || !DurableQueue::is_damaged(path, &target.rescuer())?
    {
        return Ok(());
    }
    let _acting = ActingAs::owner_of(path)?;
    Ok(open_to_change(target)?.close()?)
}
