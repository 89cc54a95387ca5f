//! Logs: to journald with fields where it listens, to stderr for people elsewhere.
//!
//! Fields are upper-cased by journald: `journalctl -u hr-gatewayd SENSOR=adi-forerunner`. Heart rates
//! appear at TRACE only, which a release build has none of; addresses never. What libraries log through
//! `log` (sled does) comes along.
//!
//! Who writes to a journald that stands still waits for it. So the journal's lines go through a thread of
//! their own, which alone does: up to `LINES_MAX` wait for it, and what comes then is counted, and told once
//! it moves again.

use std::fmt::Debug;
use std::os::unix::net::UnixDatagram;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use tracing::field::{Field, Value, Visit};
use tracing::{Event, Metadata, Subscriber, warn};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Registry, reload};

use crate::drainer::kinesis::TALKATIVE;

/// Lines that wait for the journal: more than come in an hour, and a few hundred KB at most.
const LINES_MAX: usize = 1_000;
/// So long the last lines may take when the process ends.
const LAST_LINES_MAX: Duration = Duration::from_secs(1);
/// Where journald listens.
const JOURNAL: &str = "/run/systemd/journal/socket";

static FILTER: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();
/// Lines that wait for the journal.
static WAITING: AtomicUsize = AtomicUsize::new(0);
/// Lines that did not wait, for there were [`LINES_MAX`].
static UNWRITTEN: AtomicU64 = AtomicU64::new(0);

/// Begins logging.
pub fn init(filter: &Filter) -> Result<(), NotBegun> {
    let (filter, handle) = reload::Layer::new(filter.0.clone());
    let registry = tracing_subscriber::registry().with(filter);
    // systemd sets it where stderr is the journal's; only then is the journal the place to write to.
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| Journal::begin().ok());
    let result = match journal {
        Some(journal) => registry.with(journal).try_init(),
        None => {
            let layer = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(false)
                .with_target(false);
            registry.with(layer).try_init()
        }
    };
    _ = FILTER.set(handle);
    result.map_err(NotBegun)
}

/// Ends logging: what waits is written, if that is soon done.
pub fn finish() {
    tell_unwritten();
    let began = Instant::now();
    while WAITING.load(Ordering::Acquire) > 0 && began.elapsed() < LAST_LINES_MAX {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Changes the filter of logging that has begun.
pub fn set_filter(filter: &Filter) {
    // It fails only where nothing logs any more.
    _ = FILTER.get().map(|handle| handle.reload(filter.0.clone()));
}

/// Where the journal's lines go first.
struct Journal(Sender<Line>);

/// What the journal is to say, in the words that tracing-journald would have found for it.
struct Line {
    metadata: &'static Metadata<'static>,
    fields: Vec<(Field, String)>,
}

impl Journal {
    /// An error where no journald listens.
    fn begin() -> std::io::Result<Self> {
        // Unlike a line, this waits for nobody.
        UnixDatagram::unbound()?.connect(JOURNAL)?;
        let (sender, lines) = channel();
        std::thread::Builder::new().name("journal".into()).spawn(move || write(&lines))?;
        Ok(Self(sender))
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if WAITING.fetch_add(1, Ordering::AcqRel) >= LINES_MAX {
            WAITING.fetch_sub(1, Ordering::AcqRel);
            UNWRITTEN.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut line = Line { metadata: event.metadata(), fields: Vec::new() };
        event.record(&mut line);
        // The thread ends with the process.
        _ = self.0.send(line);
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.push((field.clone(), value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.push((field.clone(), format!("{value:?}")));
    }
}

/// Writes `lines` until the process ends.
fn write(lines: &Receiver<Line>) {
    /// As many as tracing allows.
    const FIELDS_MAX: usize = 32;
    // Its own default would call INFO a notice, and DEBUG informational.
    let priorities =
        PriorityMappings { info: Priority::Informational, debug: Priority::Debug, ..PriorityMappings::new() };
    let layer = loop {
        match tracing_journald::layer() {
            Ok(layer) => break layer,
            // It listened before.
            Err(_) => std::thread::sleep(Duration::from_secs(1)),
        }
    };
    let layer = layer
        .with_field_prefix(None)
        .with_syslog_identifier("hr-gatewayd".into())
        .with_priority_mappings(priorities);
    let journal = tracing_subscriber::registry().with(layer);
    while let Ok(Line { metadata, fields }) = lines.recv() {
        if let Some((first, _)) = fields.first() {
            let mut values = [(first, None::<&dyn Value>); FIELDS_MAX];
            for (value, (field, text)) in values.iter_mut().zip(&fields) {
                *value = (field, Some(text));
            }
            journal.event(&Event::new(metadata, &metadata.fields().value_set(&values)));
        }
        if WAITING.fetch_sub(1, Ordering::AcqRel) == 1 {
            tell_unwritten();
        }
    }
}

fn tell_unwritten() {
    let unwritten = UNWRITTEN.swap(0, Ordering::Relaxed);
    if unwritten > 0 {
        warn!(unwritten, "lines of this log were not written: journald stood still");
    }
}

/// Why there is no log: something in this process logs already.
#[derive(Debug, thiserror::Error)]
#[error("logging could not begin")]
pub struct NotBegun(#[source] TryInitError);

/// What the log takes: a level for everything, or for a part of the program as `target=level`.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter(Targets);

impl Default for Filter {
    fn default() -> Self {
        Self::of(Targets::new().with_default(LevelFilter::INFO))
    }
}

impl Filter {
    fn of(asked: Targets) -> Self {
        let everything = asked.default_level().unwrap_or(LevelFilter::OFF);
        // What is asked for by name is heard.
        let quieter = everything.min(LevelFilter::ERROR);
        Self(Targets::new().with_default(everything).with_target(TALKATIVE, quieter).with_targets(asked))
    }
}

/// As `info`, or `hr_gateway::drainer=debug,info`. The library's own reading would take a misspelt level for
/// a part's name, and be silent.
impl FromStr for Filter {
    type Err = String;
    fn from_str(filter: &str) -> Result<Self, String> {
        let mistake = |part: &str| {
            format!(
                "found `{part}` in `{filter}`; allowed are `error`, `warn`, `info`, `debug`, or by part of the \
                 program: `hr_gateway::drainer=debug,info`"
            )
        };
        let mut asked = Targets::new();
        for part in filter.split(',').map(str::trim) {
            let (target, level) = part.split_once('=').unwrap_or(("", part));
            let named = part.contains('=');
            if level.is_empty() || named && !is_target(target) {
                return Err(mistake(part));
            }
            let level: LevelFilter = level.parse().map_err(|_| mistake(part))?;
            asked = if named { asked.with_target(target, level) } else { asked.with_default(level) };
        }
        Ok(Self::of(asked))
    }
}

/// Whether a part of a program can be called so.
fn is_target(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:-".contains(&b))
}
