//! `hr-gatewayd check`: the effective configuration, and whether the world is ready for it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::{Failure, layers_of_service, out, say};
use crate::ble::bluez::objects::{AdapterSeen, Power};
use crate::ble::bluez::scan;
use crate::ble::lifecycle::NoAdapter;
use crate::blocking;
use crate::clock::SystemClock;
use crate::config::{Config, ConfigError, Layers};
use crate::drainer::kinesis::network::Network;
use crate::drainer::kinesis::{Keys, KinesisSink};
use crate::drainer::settle::{CallError, ErrorClass, advice};

/// `check`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 78 if the configuration is not valid, 1 if --online found something to mend.\n\n\
                        Examples:\n  hr-gatewayd check\n  hr-gatewayd check --online --config ./config.toml"
)]
pub struct CheckArgs {
    /// Also try the adapter, the clock, the disk, the credentials and the stream.
    #[arg(long)]
    online: bool,
}

/// Runs it.
pub async fn check(config_path: Option<PathBuf>, args: CheckArgs) -> Result<ExitCode, Failure> {
    let layers = layers_of_service(config_path)?;
    let validated = layers.config()?;
    let config = validated.config();
    print(&layers, "", &serde_json::to_value(config)?);
    validated.warnings().iter().for_each(|warning| say!("hr-gatewayd: warning: {warning}"));
    if config.kinesis.stream.is_some() {
        let network = Network::from_env().map_err(|error| ConfigError::of("environment", error))?;
        for (variable, value) in network.told() {
            out!("{:<60} # environment", format!("{variable} = {value}"));
        }
    }
    if !args.online {
        return Ok(ExitCode::SUCCESS);
    }
    out!();
    let mut all_good = true;
    let findings = [
        ("adapter", adapters(config).await),
        ("clock", clock(config).await),
        ("disk", disk(config)),
        ("sink", sink(config).await),
    ];
    for (what, finding) in findings {
        match finding {
            Ok(good) => out!("ok    {what}: {good}"),
            Err(bad) => {
                all_good = false;
                out!("FAIL  {what}: {bad}");
            }
        }
    }
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One line per key: `queue.items_max = 20000000    # default`.
fn print(layers: &Layers, key: &str, value: &Value) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                print(layers, &key, value);
            }
        }
        Value::Array(blocks) if blocks.iter().any(Value::is_object) => {
            for (index, block) in blocks.iter().enumerate() {
                print(layers, &format!("{key}.{index}"), block);
            }
        }
        Value::Null => {}
        value => {
            let shown = if key.ends_with(".passkey") { "\"******\"".to_owned() } else { value.to_string() };
            out!("{:<60} # {}", format!("{key} = {shown}"), layers.origin(key));
        }
    }
}

/// Whether each sensor can be reached by an adapter, and by which.
async fn adapters(config: &Config) -> Result<String, String> {
    let objects = scan::objects().await.map_err(|error| error.to_string())?;
    let of_sensors =
        config.sensor.iter().map(|sensor| (Some(&sensor.id), config.bluetooth.adapters_of(sensor)));
    let of_discovery = (config.bluetooth.discover || config.sensor.is_empty())
        .then(|| (None, config.bluetooth.adapters.clone()));
    for (sensor, choices) in of_sensors.chain(of_discovery) {
        let of = sensor.map_or_else(String::new, |sensor| format!("{sensor}: "));
        // One that is off is switched on by the daemon.
        if let Some(why) = objects.hindrance(&choices).filter(|why| *why != NoAdapter::Off) {
            return Err(format!("{of}{}", scan::hindrance(why)));
        }
    }
    let state = |adapter: &AdapterSeen| match adapter.power {
        Power::On => format!("{} is on", adapter.name),
        Power::Off => format!("{} is off (the daemon switches it on where it needs it)", adapter.name),
        Power::Blocked => format!("{} is blocked by rfkill (`rfkill unblock bluetooth`)", adapter.name),
    };
    Ok(objects.adapters.iter().map(state).collect::<Vec<_>>().join(", "))
}

async fn clock(config: &Config) -> Result<String, String> {
    let clock = SystemClock::new(config.clock.synchronization).map_err(|error| error.to_string())?;
    let asked = clock.clone();
    _ = blocking::run(move || asked.ask().is_some_and(|vouched| asked.accept(&vouched))).await;
    match clock.is_synchronized() {
        true => Ok("synchronized".into()),
        false => {
            Err("not synchronized: see `timedatectl`, or set clock.synchronization = \"trusted\" if it is \
                      right by other means; readings are kept and marked meanwhile"
                .into())
        }
    }
}

fn disk(config: &Config) -> Result<String, String> {
    let path = &config.queue.path;
    // No mistake of the configuration: the service is started again until the way is free.
    if path.metadata().is_ok_and(|found| !found.is_dir()) {
        return Err(format!("{} is there and is no folder: move it away", path.display()));
    }
    let existing = path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let stat = rustix::fs::statvfs(existing).map_err(|error| format!("{}: {error}", existing.display()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let headroom = config.queue.disk_headroom;
    let (free_mib, path) = (free >> 20, path.display());
    match free >= headroom.0 {
        true => Ok(format!("{free_mib} MiB free for {path}")),
        false => Err(format!(
            "{free_mib} MiB free for {path}, less than queue.disk_headroom = {headroom}: make room"
        )),
    }
}

async fn sink(config: &Config) -> Result<String, String> {
    let Some(stream) = &config.kinesis.stream else {
        return match &config.directory.path {
            Some(path) => folder(path),
            None => Err("none: set [kinesis] stream and region, or [directory] path".into()),
        };
    };
    let timeout = config.drain.request_timeout.0;
    let kinesis = KinesisSink::new(stream, &config.kinesis, timeout, Keys::DefaultChain).await;
    match kinesis.probe().await {
        Ok(()) => Ok(format!("stream {stream} takes this gateway's calls")),
        Err(error) => Err(explain(stream, &error)),
    }
}

/// Made by the daemon, whose it then is.
fn folder(path: &Path) -> Result<String, String> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(format!("folder {}", path.display())),
        Ok(_) => Err(format!("{} is no folder", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(format!("folder {}, made when there is something to write", path.display()))
        }
        Err(error) => Err(format!("folder {}: {error}", path.display())),
    }
}

fn explain(stream: &str, error: &CallError) -> String {
    let advice = match error.is_slow() || error.class == ErrorClass::TooLarge {
        true => advice(&error.code),
        false => "check the network and [kinesis] region and endpoint",
    };
    format!("stream {stream}: {error}: {advice}")
}
