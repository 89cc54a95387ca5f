//! `hr-gatewayd status`: how the gateway is, in one look.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::units::{ago, bytes, span};
use super::{Failure, layers, out};
use crate::control::{self, GatewayRequest, Reply, Request};
use crate::overview::{Overview, SensorOverview, SinkOverview, SinkState};
use crate::printable::{self, Printable};

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
    let validated = layers(config_path)?.config()?;
    let queue_path = &validated.config().queue.path;
    let overview = ask(queue_path)?;
    if args.json {
        out!("{}", printable::json(&serde_json::to_string_pretty(&overview)?));
    } else {
        print(&overview);
    }
    Ok(if overview.attention.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How the running gateway is.
pub(super) fn ask(queue_path: &Path) -> Result<Overview, Failure> {
    let mut overview = None;
    let request = Request::Gateway(GatewayRequest::Status);
    let answer = control::ask(queue_path, &request, &mut |reply| {
        if let Reply::Overview(answer) = reply {
            overview = Some(*answer);
        }
        Ok(())
    });
    answer.ok_or_else(|| not_running(queue_path))??;
    Ok(overview.ok_or("the running gateway is of another version: `systemctl restart hr-gatewayd`")?)
}

/// What there is to be said of a gateway that does not answer.
pub(super) fn not_running(queue_path: &Path) -> String {
    format!(
        "no gateway runs with the queue {}: `systemctl start hr-gatewayd` starts it, `journalctl -u hr-gatewayd` says why \
         it ended, `hr-gatewayd queue status` shows what it left",
        queue_path.display()
    )
}

fn print(overview: &Overview) {
    out!("hr-gatewayd {}, {}, running for {}", overview.version, overview.gateway, span(overview.running_s));
    out!();
    out!(
        "{:<24} {:<12} {:>7} {:>8} {:<8} {:>9} {:>9}  state",
        "sensor",
        "last value",
        "battery",
        "signal",
        "adapter",
        "received",
        "malformed"
    );
    overview.sensors.iter().for_each(print_sensor);
    out!();
    out!("sink    {}", sink_words(&overview.sink));
    let queue = &overview.queue;
    let oldest = queue.oldest_s.map(|s| format!(", the oldest {} old", span(s))).unwrap_or_default();
    out!("queue   {} items{oldest}", queue.depth);
    let readings = queue.totals.readings;
    out!(
        "ledger  {} received = {} delivered + {} queued + {} dead-lettered + {} evicted",
        readings.received,
        readings.delivered,
        readings.queued,
        readings.dead_lettered,
        readings.evicted
    );
    out!("clock   {}", if overview.clock_synchronized { "synchronized" } else { "not synchronized" });
    if let Some(free) = overview.disk_free_bytes {
        out!("disk    {} free", bytes(free));
    }
    out!();
    match overview.attention.as_slice() {
        [] => out!("all is well"),
        sentences => sentences.iter().for_each(|sentence| out!("look at  {}", Printable(sentence))),
    }
}

fn print_sensor(sensor: &SensorOverview) {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let state = match (sensor.wanted, sensor.streams) {
        (false, _) => "not configured any more",
        (true, true) => "readings flow",
        (true, false) => &sensor.why,
    };
    out!(
        "{:<24} {:<12} {:>7} {:>8} {:<8} {:>9} {:>9}  {state}",
        sensor.sensor,
        or_dash(sensor.last_reading_s.map(ago)),
        or_dash(sensor.battery_percent.map(|percent| format!("{percent} %"))),
        or_dash(sensor.rssi_dbm.map(|dbm| format!("{dbm} dBm"))),
        or_dash(sensor.adapter.clone()),
        sensor.readings.received,
        sensor.malformed
    );
}

fn sink_words(sink: &SinkOverview) -> String {
    let state = match sink.state {
        SinkState::Missing => return "none: write [kinesis] or [directory] into the configuration".into(),
        SinkState::Unknown => "nothing sent yet",
        SinkState::Accepts => "accepts",
        SinkState::Throttles => "takes no more for now",
        SinkState::Unreachable => "cannot be reached",
        SinkState::Refuses => "refuses until somebody acts",
    };
    let code = if sink.code.is_empty() { String::new() } else { format!(" ({})", sink.code) };
    let since = sink.since_s.map(|s| format!(" for {}", span(s))).unwrap_or_default();
    let last = sink.last_accepted_s.map(|s| format!("; last accepted {}", ago(s))).unwrap_or_default();
    format!("{}: {state}{code}{since}{last}", sink.kind)
}
