//! `hr-gatewayd sensor`: which device each sensor is.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use tokio::sync::watch;

use super::{Failure, layers_of_service, out};
use crate::ble::registry::Registry;
use crate::control::{self, ControlError, Reply, Request, SensorDevice, SensorRequest, Sensors};
use crate::printable::{self, Printable};
use crate::private::ActingAs;
use crate::queue::QueueError;
use crate::queue::folder::Folder;
use crate::reading::SensorId;

/// `sensor`
#[derive(Debug, Args)]
#[command(
    after_help = "Works on a running gateway (which answers itself) and on a stopped one. Addresses are shown here \
                        and nowhere else.\n\nExamples:\n  hr-gatewayd sensor list\n  hr-gatewayd sensor forget adi"
)]
pub struct SensorArgs {
    #[command(subcommand)]
    command: SensorCommand,
}

#[derive(Debug, Subcommand)]
enum SensorCommand {
    /// Which device each sensor is, and whether readings flow.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let go of a sensor's device: the next one that its block names takes its place, in a new session.
    Forget {
        /// The sensor's `id`.
        sensor: SensorId,
    },
}

/// Runs it.
pub fn sensor(config_path: Option<PathBuf>, args: SensorArgs) -> Result<ExitCode, Failure> {
    let validated = layers_of_service(config_path)?.config()?;
    let queue_path = &validated.config().queue.path;
    match args.command {
        SensorCommand::List { json } => {
            let mut devices = Vec::new();
            ask(queue_path, SensorRequest::List, &mut |reply| {
                if let Reply::Sensor(device) = reply {
                    devices.push(device);
                }
                Ok(())
            })?;
            if json {
                out!("{}", printable::json(&serde_json::to_string_pretty(&devices)?));
            } else {
                print(&devices);
            }
        }
        SensorCommand::Forget { sensor } => {
            ask(queue_path, SensorRequest::Forget(sensor.clone()), &mut |_| Ok(()))?;
            let block = validated.config().sensor.iter().find(|block| block.id == sensor);
            let next = match block.map(|block| block.address) {
                Some(Some(address)) => format!(
                    "its block names {address}, which stays its device: for another one change the block, then \
                     `systemctl reload hr-gatewayd`"
                ),
                Some(None) => {
                    "the next device that is found by the name in its block becomes the sensor".to_owned()
                }
                None => "no block has this `id`".to_owned(),
            };
            out!("{sensor}: its device is let go of. A link that stands goes on; {next}.");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the running gateway, or reads what a stopped one keeps.
fn ask(
    queue_path: &Path,
    request: SensorRequest,
    hear: &mut dyn FnMut(Reply) -> io::Result<()>,
) -> Result<(), Failure> {
    if let Some(answer) = control::ask(queue_path, &Request::Sensors(request.clone()), hear) {
        answer?;
        return Ok(());
    }
    let _acting = ActingAs::owner_of(queue_path)
        .map_err(|error| format!("no gateway has run yet: {}: {error}", queue_path.display()))?;
    // A gateway that starts meanwhile waits, and reads what was changed.
    let _alone = match Folder::take_existing(queue_path) {
        Err(error @ QueueError::InUse(_)) => return Err(error.into()),
        taken => taken.ok(),
    };
    let registry = Registry::read(queue_path).map_err(|error| {
        format!("which device each sensor is cannot be read: {error}; the log of the next start says what becomes of it")
    })?;
    let sensors = Sensors { registry, states: watch::channel(Default::default()).1 };
    for reply in sensors.answer(&request) {
        match reply {
            Reply::Failed(words) => return Err(words.into()),
            reply => hear(reply).map_err(ControlError::from)?,
        }
    }
    Ok(())
}

fn print(devices: &[SensorDevice]) {
    if devices.is_empty() {
        out!("no sensor yet");
    }
    for SensorDevice { sensor, device, streams } in devices {
        let (address, name) = match device {
            Some(known) => (known.address.to_string(), known.names.last().cloned().unwrap_or_default()),
            None => ("not found yet".to_owned(), String::new()),
        };
        let state = match (device, streams) {
            (Some(known), Some(true)) if known.released => "readings flow; let go of from the next link on",
            (_, Some(true)) => "readings flow",
            (Some(known), _) if known.released => "let go of",
            (_, Some(false)) => "looked for",
            (_, None) => "",
        };
        let line = format!("{sensor:<24} {address:<17} {:<24} {state}", Printable(&name).to_string());
        out!("{}", line.trim_end());
    }
}
