//! Logs: to journald with fields where it listens, to stderr for people elsewhere.
//!
//! Fields are upper-cased by journald: `journalctl -u hr-gatewayd SENSOR=adi-forerunner`. Heart rates
//! appear at TRACE only, which a release build has none of; addresses never. What libraries log through
//! `log` (sled does) comes along.

use std::str::FromStr;
use std::sync::OnceLock;

use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Registry, reload};

use crate::drainer::kinesis::TALKATIVE;

static FILTER: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Begins logging.
pub fn init(filter: &Filter) -> Result<(), NotBegun> {
    let (filter, handle) = reload::Layer::new(filter.0.clone());
    let registry = tracing_subscriber::registry().with(filter);
    // systemd sets it where stderr is the journal's; only then is the journal the place to write to.
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    let result = match journal {
        Some(layer) => {
            // Its own default would call INFO a notice, and DEBUG informational.
            let priorities = PriorityMappings {
                info: Priority::Informational,
                debug: Priority::Debug,
                ..PriorityMappings::new()
            };
            let layer = layer
                .with_field_prefix(None)
                .with_syslog_identifier("hr-gatewayd".into())
                .with_priority_mappings(priorities);
            registry.with(layer).try_init()
        }
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

/// Changes the filter of logging that has begun.
pub fn set_filter(filter: &Filter) {
    // It fails only where nothing logs any more.
    _ = FILTER.get().map(|handle| handle.reload(filter.0.clone()));
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
