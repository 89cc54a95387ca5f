//! `hr-gatewayd scan`: what is nearby.

use std::process::ExitCode;

use clap::Args;

use super::Failure;
use crate::ble::bluez::scan::{Nearby, nearby};
use crate::config::Span;

/// `scan`
#[derive(Debug, Args)]
#[command(
    after_help = "Sensors that advertise the Heart Rate Service come first. A Garmin watch does so only while \
                        its \"Broadcast Heart Rate\" is on.\n\nExamples:\n  hr-gatewayd scan\n  \
                        hr-gatewayd scan --for 20s --json"
)]
pub struct ScanArgs {
    /// Scan for so long.
    #[arg(long = "for", value_name = "DURATION", default_value = "10s")]
    duration: Span,
    /// Scan on this adapter only; may be repeated.
    #[arg(long, value_name = "NAME")]
    adapter: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub async fn scan(args: ScanArgs) -> Result<ExitCode, Failure> {
    let mut found = nearby(&args.adapter, args.duration.0).await?;
    found.sort_by_key(|device| !device.heart_rate);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&found)?);
        return Ok(ExitCode::SUCCESS);
    }
    if found.is_empty() {
        println!("nothing heard in {}", args.duration);
    }
    for Nearby { address, name, rssi, heart_rate, services, adapter } in found {
        let rssi = rssi.map_or_else(String::new, |rssi| format!("{rssi} dBm"));
        let name = name.unwrap_or_else(|| "(no name)".into());
        let mark = if heart_rate { "heart rate" } else { "" };
        println!("{address}  {rssi:>8}  {adapter:<5} {name:<24} {mark:<11} {}", services.join(" "));
    }
    Ok(ExitCode::SUCCESS)
}
