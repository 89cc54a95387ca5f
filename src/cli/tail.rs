//! `hr-gatewayd tail`: readings as they come.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::status::not_running;
use super::{Failure, layers, out, say};
use crate::control::{self, GatewayRequest, Reply, Request};
use crate::reading::SensorId;

/// `tail`
#[derive(Debug, Args)]
#[command(
    after_help = "Shows heart rates, on this terminal and nowhere else. Ends with Ctrl-C, or with the gateway.\n\n\
                  Examples:\n  hr-gatewayd tail\n  hr-gatewayd tail adi --json"
)]
pub struct TailArgs {
    /// Only this sensor's.
    sensor: Option<SensorId>,
    /// Print JSON, one line each.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn tail(config_path: Option<PathBuf>, args: TailArgs) -> Result<ExitCode, Failure> {
    let validated = layers(config_path)?.config()?;
    let queue_path = &validated.config().queue.path;
    let request = Request::Gateway(GatewayRequest::Tail { sensor: args.sensor, json: args.json });
    let answer = control::ask(queue_path, &request, &mut |reply| {
        match reply {
            Reply::Line(line) => out!("{line}"),
            Reply::Missed(records) => say!("hr-gatewayd: {records} records were not shown: too slow"),
            _ => {}
        }
        Ok(())
    });
    match answer.ok_or_else(|| not_running(queue_path))? {
        Err(control::ControlError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err("the gateway ended".into())
        }
        answer => Ok(answer.map(|_| ExitCode::SUCCESS)?),
    }
}
