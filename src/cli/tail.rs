//! `hr-gatewayd tail`: readings as they come.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::status::not_running;
use super::units::span;
use super::{Failure, layers, out, say};
use crate::control::{self, GatewayRequest, Reply, Request};
use crate::live::{Heard, What};
use crate::reading::SensorId;
use crate::wire::Timestamp;

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
    let request = Request::Gateway(GatewayRequest::Tail(args.sensor));
    let answer = control::ask(queue_path, &request, &mut |reply| {
        match reply {
            Reply::Heard(heard) if args.json => out!("{}", serde_json::to_string(&heard)?),
            Reply::Heard(heard) => out!("{}", line(&heard)),
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

/// One record in a line.
pub(super) fn line(heard: &Heard) -> String {
    let Heard { sensor, at_ms, what } = heard;
    let what = match what {
        What::Reading { heart_rate, rr_ms, contact } => {
            let rr = rr_ms.iter().map(|ms| format!(" {ms:.1}")).collect::<String>();
            let rr = if rr.is_empty() { rr } else { format!("   RR{rr} ms") };
            let contact = if *contact == Some(false) { "   no skin contact" } else { "" };
            format!("{heart_rate:>3} bpm{rr}{contact}")
        }
        What::Gap { reason, lasted_ms } => {
            let lasted = lasted_ms.map(|ms| format!(", {}", span(ms / 1_000))).unwrap_or_default();
            format!("gap: {}{lasted}", reason.as_str())
        }
        What::State { battery_percent, rssi_dbm } => {
            let battery = battery_percent.map(|percent| format!(" battery {percent} %")).unwrap_or_default();
            let signal = rssi_dbm.map(|dbm| format!(" signal {dbm} dBm")).unwrap_or_default();
            format!("sensor:{battery}{signal}")
        }
    };
    format!("{}  {sensor:<16} {what}", Timestamp::from_ms(*at_ms).as_str())
}
