//! `hr-gatewayd tail`: readings as they come.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::status::not_running;
use super::{Failure, layers_of_service, passed_on, say};
use crate::control::{self, ControlError, GatewayRequest, Reply, Request};
use crate::reading::SensorId;

/// A gateway that left is asked again so often, before it counts as ended.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);

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
    let validated = layers_of_service(config_path)?.config()?;
    let queue_path = &validated.config().queue.path;
    let request = Request::Gateway(GatewayRequest::Tail { sensor: args.sensor, json: args.json });
    let mut tries = 0;
    loop {
        let answer = control::ask(queue_path, &request, &mut |reply| {
            match reply {
                Reply::Line(line) => {
                    tries = 0;
                    passed_on(writeln!(io::stdout().lock(), "{line}"))?;
                }
                Reply::Missed(records) => say!("hr-gatewayd: {records} records were not shown: too slow"),
                _ => {}
            }
            Ok(())
        });
        match answer {
            None if tries == 0 => return Err(not_running(queue_path).into()),
            // A gateway that begins anew is back within moments.
            None => {}
            Some(Err(ControlError::Io(error))) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Some(answer) => return Ok(answer.map(|_| ExitCode::SUCCESS)?),
        }
        tries += 1;
        if tries > TRIES {
            return Err("the gateway ended".into());
        }
        std::thread::sleep(PAUSE);
    }
}
