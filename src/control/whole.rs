//! What is asked of the whole gateway while it runs: how it is, and what is heard. Answered as the lines that the
//! command prints.

use std::io;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::execute::tell;
use super::server::failed;
use super::{GatewayRequest, Reply};
use crate::live::{Heard, What};
use crate::overview::{Looker, Overview, SensorOverview, SinkOverview, SinkState};
use crate::printable::{self, Printable};
use crate::units::{ago, bytes, span};
use crate::wire::Timestamp;

/// Answers `request`; the last reply ends it.
pub(super) async fn answer(
    looker: &Looker,
    request: &GatewayRequest,
    say: &mpsc::Sender<Reply>,
) -> io::Result<()> {
    match request {
        GatewayRequest::Status { json } => {
            let overview = match looker.look().await {
                Ok(overview) => overview,
                Err(error) => return tell(say, failed(&error)).await,
            };
            let lines = match json {
                true => vec![printable::json(&serde_json::to_string_pretty(&overview)?)],
                false => text(&overview),
            };
            for line in lines {
                tell(say, Reply::Line(line)).await?;
            }
            tell(say, Reply::Done(overview.attention.len() as u64)).await
        }
        GatewayRequest::Tail { sensor, json } => {
            let mut hears = looker.live.listen();
            loop {
                match hears.recv().await {
                    Ok(heard) if sensor.as_ref().is_none_or(|wanted| *wanted == heard.sensor) => {
                        let line = if *json { serde_json::to_string(&heard)? } else { line(&heard) };
                        tell(say, Reply::Line(line)).await?;
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(missed)) => tell(say, Reply::Missed(missed)).await?,
                    Err(RecvError::Closed) => return tell(say, Reply::Done(0)).await,
                }
            }
        }
    }
}

fn text(overview: &Overview) -> Vec<String> {
    let running = span(overview.running_s);
    let mut lines = vec![
        format!("hr-gatewayd {}, {}, running for {running}", overview.version, overview.gateway),
        String::new(),
        columns(["sensor", "last value", "battery", "signal", "adapter", "received", "malformed", "state"]),
    ];
    lines.extend(overview.sensors.iter().map(sensor));
    let queue = &overview.queue;
    let oldest = queue.oldest_s.map(|s| format!(", the oldest {} old", span(s))).unwrap_or_default();
    let readings = queue.totals.readings;
    lines.extend([
        String::new(),
        format!("sink    {}", sink(&overview.sink)),
        format!("queue   {} items{oldest}", queue.depth),
        format!(
            "ledger  {} received = {} delivered + {} queued + {} dead-lettered + {} evicted",
            readings.received, readings.delivered, readings.queued, readings.dead_lettered, readings.evicted
        ),
        format!("clock   {}", if overview.clock_synchronized { "synchronized" } else { "not synchronized" }),
    ]);
    lines.extend(overview.disk_free_bytes.map(|free| format!("disk    {} free", bytes(free))));
    lines.push(String::new());
    match overview.attention.as_slice() {
        [] => lines.push("all is well".into()),
        sentences => lines.extend(sentences.iter().map(|it| format!("look at  {}", Printable(it)))),
    }
    lines
}

fn columns([sensor, last, battery, signal, adapter, received, malformed, state]: [&str; 8]) -> String {
    format!(
        "{sensor:<24} {last:<12} {battery:>7} {signal:>8} {adapter:<8} {received:>9} {malformed:>9}  {state}"
    )
}

fn sensor(sensor: &SensorOverview) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let state = match (sensor.wanted, sensor.streams) {
        (false, _) => "not configured any more",
        (true, true) => "readings flow",
        (true, false) => &sensor.why,
    };
    columns([
        sensor.sensor.as_str(),
        &or_dash(sensor.last_reading_s.map(ago)),
        &or_dash(sensor.battery_percent.map(|percent| format!("{percent} %"))),
        &or_dash(sensor.rssi_dbm.map(|dbm| format!("{dbm} dBm"))),
        &or_dash(sensor.adapter.clone()),
        &sensor.readings.received.to_string(),
        &sensor.malformed.to_string(),
        state,
    ])
}

fn sink(sink: &SinkOverview) -> String {
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

/// One record in a line.
fn line(heard: &Heard) -> String {
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
