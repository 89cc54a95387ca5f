//! Logs: to journald with fields where it listens, to stderr for people elsewhere.
//!
//! Fields are upper-cased by journald: `journalctl -u hr-gatewayd SENSOR=adi-forerunner`. Heart rates
//! appear at TRACE only, which a release build has none of; addresses never. What libraries log through
//! `log` (sled does) comes along.

use std::sync::OnceLock;

use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use crate::config::ConfigError;
use crate::drainer::kinesis::TALKATIVE;

static FILTER: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Begins logging with a filter such as `info` or `hr_gateway::drainer=debug,info`.
pub fn init(filter: &str) -> Result<(), ConfigError> {
    let (filter, handle) = reload::Layer::new(parse(filter)?);
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
            use std::io::IsTerminal;
            let layer = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal())
                .with_target(false);
            registry.with(layer).try_init()
        }
    };
    _ = FILTER.set(handle);
    result.map_err(|error| ConfigError(format!("logging could not begin: {error}")))
}

/// Changes the filter of logging that has begun.
pub fn set_filter(filter: &str) -> Result<(), ConfigError> {
    let filter = parse(filter)?;
    if let Some(handle) = FILTER.get() {
        handle.reload(filter).map_err(|error| ConfigError(format!("`log.level`: {error}")))?;
    }
    Ok(())
}

/// A level for everything, or for a part of the program as `target=level`; the library's own reading
/// would take a misspelt level for a part's name, and be silent.
fn parse(filter: &str) -> Result<Targets, ConfigError> {
    let mistake = |part: &str| {
        ConfigError(format!(
            "`log.level`: found `{part}` in `{filter}`; allowed are `error`, `warn`, `info`, `debug`, or by part of \
             the program: `hr_gateway::drainer=debug,info`"
        ))
    };
    let mut asked = Targets::new();
    for part in filter.split(',') {
        let (target, level) = part.split_once('=').unwrap_or(("", part));
        let named = part.contains('=');
        if level.is_empty() || named && target.is_empty() {
            return Err(mistake(part));
        }
        let level: LevelFilter = level.parse().map_err(|_| mistake(part))?;
        asked = if named { asked.with_target(target, level) } else { asked.with_default(level) };
    }
    let everything = asked.default_level().unwrap_or(LevelFilter::OFF);
    // What is asked for by name is heard.
    let quieter = everything.min(LevelFilter::ERROR);
    Ok(Targets::new().with_default(everything).with_target(TALKATIVE, quieter).with_targets(asked))
}
