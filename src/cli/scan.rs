//! `hr-gatewayd scan`: what is nearby.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Args;

use super::{Failure, out, say};
use crate::ble::bluez::objects::Power;
use crate::ble::bluez::scan::{Nearby, nearby, objects};
use crate::config::{AdapterChoice, Span};
use crate::printable::{self, Printable};

/// Longest id that is proposed.
const ID_CHARS_MAX: usize = 40;

/// `scan`
#[derive(Debug, Args)]
#[command(
    after_help = "Sensors that advertise the Heart Rate Service come first. A Garmin watch does so only while \
                        its \"Broadcast Heart Rate\" is on. Of each of them a block for the configuration is printed, \
                        which names it by its address (names are not unique), or by its name where the address changes.\n\nExamples:\n  hr-gatewayd scan\n  \
                        hr-gatewayd scan --for 20s --json"
)]
pub struct ScanArgs {
    /// Scan for so long.
    #[arg(long = "for", value_name = "DURATION", default_value = "10s")]
    duration: Span,
    /// Scan on this adapter only, by its name or address; may be repeated.
    #[arg(long, value_name = "ADAPTER")]
    adapter: Vec<AdapterChoice>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub async fn scan(args: ScanArgs) -> Result<ExitCode, Failure> {
    let objects = objects().await?;
    for adapter in objects.chosen(&args.adapter).filter(|adapter| adapter.power == Power::Off) {
        say!("{} is off; if nothing else can scan it is switched on, and stays so", adapter.name);
    }
    let mut found = nearby(args.adapter, args.duration.0).await?;
    found.sort_by_key(|device| !device.heart_rate);
    if args.json {
        out!("{}", printable::json(&serde_json::to_string_pretty(&found)?));
        return Ok(ExitCode::SUCCESS);
    }
    if found.is_empty() {
        out!("nothing heard in {}", args.duration);
    }
    for Nearby { address, name, rssi, heart_rate, services, adapter, .. } in &found {
        let rssi = rssi.map_or_else(String::new, |rssi| format!("{rssi} dBm"));
        let name = name.as_deref().map_or("(no name)".into(), |name| Printable(name).to_string());
        let mark = if *heart_rate { "heart rate" } else { "" };
        let line = format!("{address}  {rssi:>8}  {adapter:<5} {name:<24} {mark:<11} {}", services.join(" "));
        out!("{}", line.trim_end());
    }
    print_blocks(&found);
    Ok(ExitCode::SUCCESS)
}

/// A block for each heart-rate sensor.
fn print_blocks(found: &[Nearby]) {
    let mut ids = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for device in found.iter().filter(|device| device.heart_rate) {
        // Others may have heard it too.
        if !addresses.insert(device.address) {
            continue;
        }
        if ids.is_empty() {
            out!("\nFor the configuration, with an `id` that tells whose it is:");
        }
        let name = device.name.as_deref().unwrap_or_default();
        let plain = id_of(name);
        let numbered = (2..).map(|number| format!("{plain}-{number}"));
        let id = std::iter::once(plain.clone()).chain(numbered).find(|id| !ids.contains(id));
        let id = id.unwrap_or_default();
        ids.insert(id.clone());
        let shown = Printable(name);
        out!("\n[[sensor]]\nid = \"{id}\"");
        match (device.changes_address, name) {
            (false, _) => out!("address = \"{}\"  # {shown}", device.address),
            // One that ends so would be a beginning.
            (true, name) if name.is_empty() || name.ends_with('*') || !names.insert(name) => {
                out!("# It changes its address, and has no name that tells it: give it one of its own.");
            }
            (true, name) => {
                out!("name = {}  # it changes its address every few minutes", printable::toml(name));
            }
        }
    }
}

/// A name that a sensor can have, from the one that a device has.
fn id_of(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let id = words.collect::<Vec<_>>().join("-").to_ascii_lowercase();
    match id.is_empty() {
        true => "sensor".into(),
        false => id.chars().take(ID_CHARS_MAX).collect(),
    }
}
