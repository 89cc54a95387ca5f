//! `hr-gatewayd status`: how the gateway is, in one look.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{Failure, layers_of_service, out};
use crate::control::{self, GatewayRequest, Reply, Request};

/// `status`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 0 if all is well; 1 if somebody should look at something, or the gateway does not run. No \
                  heart rate is shown: `hr-gatewayd tail` shows them.\n\nExamples:\n  hr-gatewayd status\n  \
                  hr-gatewayd status --json | jq '.sensors[].last_reading_s'"
)]
pub struct StatusArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn status(config_path: Option<PathBuf>, args: &StatusArgs) -> Result<ExitCode, Failure> {
    let validated = layers_of_service(config_path)?.config()?;
    let queue_path = &validated.config().queue.path;
    let request = Request::Gateway(GatewayRequest::Status { json: args.json });
    let answer = control::ask(queue_path, &request, &mut |reply| {
        if let Reply::Line(line) = reply {
            out!("{line}");
        }
        Ok(())
    });
    let attention = answer.ok_or_else(|| not_running(queue_path))??;
    Ok(if attention == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What there is to be said of a gateway that does not answer.
pub(super) fn not_running(queue_path: &Path) -> String {
    format!(
        "no gateway runs with the queue {}: `systemctl start hr-gatewayd` starts it, `journalctl -u hr-gatewayd` says why \
         it ended, `hr-gatewayd queue status` shows what it left",
        queue_path.display()
    )
}
