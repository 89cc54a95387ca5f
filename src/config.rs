//! Configuration: built-in defaults → file → environment, through figment.
//!
//! Nothing is guessed: an unknown key, a wrong unit or an impossible combination is a [`Mistake`] that
//! names the source, the key, what was found and what is allowed; all of them are told at once
//! ([`ConfigError`], exit 78). Only [`Layers::config`] makes a [`Validated`], and only from that the daemon
//! runs, is reloaded and checked, so the three cannot disagree.
//! Durations and sizes are written for people: `"5s"`, `"64 MiB"`. Each module owns the meaning of its
//! section; here the sections are declared in one place so that the whole file can be read at once.

mod layers;
mod mistakes;
mod paths;
mod secret_file;
mod validate;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::clock::Synchronization;
use crate::reading::{GatewayId, Mode, SensorId};
pub use layers::Layers;
pub use mistakes::{ConfigError, Mistake};
pub use validate::{Validated, machine_id};
pub use values::{AdapterChoice, Address, Fit, NamePattern, Size, Span};

/// Where the daemon looks for its file.
pub const DEFAULT_PATH: &str = "/etc/hr-gatewayd/config.toml";
/// What environment variables that override one key begin with; `__` goes one level down.
pub const ENV_PREFIX: &str = "HR_GATEWAYD_";
/// Most readings a Kinesis record may carry: Firehose takes no more objects out of one record.
pub const RECORD_READINGS_MAX: usize = 500;

/// The effective configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// This gateway.
    pub gateway: GatewayConfig,
    /// The watches and straps, one block each.
    pub sensor: Vec<SensorConfig>,
    /// How to look for and hold on to them.
    pub bluetooth: BluetoothConfig,
    /// When a session ends.
    pub session: SessionConfig,
    /// Who says that the clock is right.
    pub clock: ClockConfig,
    /// The queue on disk.
    pub queue: QueueConfig,
    /// How the queue is drained.
    pub drain: DrainConfig,
    /// Draining into Amazon Kinesis.
    pub kinesis: KinesisConfig,
    /// Draining into a directory instead.
    pub directory: DirectoryConfig,
    /// The live page and the metrics.
    pub page: PageConfig,
    /// What the daemon says of itself.
    pub log: LogConfig,
}

/// `[gateway]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// Its name; by default derived from the machine id.
    #[serde(deserialize_with = "values::text_or_number")]
    pub id: Option<GatewayId>,
    /// How often it tells of itself on the wire; 0 for never.
    pub state_every: Span,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self { id: None, state_every: Span::from_secs(300) }
    }
}

/// One `[[sensor]]`: needs `id`, and `address` or `name`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SensorConfig {
    /// The name its readings carry.
    pub id: SensorId,
    /// Its Bluetooth address.
    pub address: Option<Address>,
    /// Its advertised name, or with a `*` behind it how that begins.
    pub name: Option<NamePattern>,
    /// How its readings come.
    #[serde(default)]
    pub mode: Mode,
    /// Which of the devices of that name.
    #[serde(default)]
    pub follow: Follow,
    /// The adapter to reach it by, by name or address; by default the best of all.
    pub adapter: Option<AdapterChoice>,
    /// Bond with it: needed where it demands encryption or changes its address.
    #[serde(default)]
    pub bond: bool,
    /// The passkey it shows, if it asks for one when bonding.
    pub passkey: Option<u32>,
}

/// What follows when another device has a sensor's name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Follow {
    /// The device once found stays the sensor, until a person says otherwise (`hr-gatewayd sensor forget`).
    #[default]
    Same,
    /// Whichever device of that name is there.
    Any,
}

/// `[bluetooth]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BluetoothConfig {
    /// Take every advertiser of the Heart Rate Service, not only the configured sensors.
    pub discover: bool,
    /// Take only what is heard at least this loudly, dBm.
    pub discover_rssi_min: i16,
    /// Take at most so many.
    pub discover_max: usize,
    /// Adapters to use, by name or address; empty is all.
    pub adapters: Vec<AdapterChoice>,
    /// A link that brings nothing for so long counts as dead.
    pub silence_max: Span,
}

/// `[session]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionConfig {
    /// So much silence ends a session.
    pub idle_after: Span,
    /// Silence shorter than this is no gap.
    pub gap_after: Span,
}

/// `[clock]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClockConfig {
    /// `system` asks systemd; `trusted` takes the wall clock as right.
    pub synchronization: Synchronization,
}

/// `[queue]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// Its folder.
    pub path: PathBuf,
    /// Wait so long for more before a commit: spares an SD card, delays delivery as much.
    pub commit_interval: Span,
    /// Most items it holds.
    pub items_max: u64,
    /// Disk space to leave to others.
    pub disk_headroom: Size,
    /// What gives way when it is full.
    pub when_full: WhenFull,
    /// File with the key (32 bytes, raw or 64 hex digits) that encrypts what is stored.
    pub encryption_key_file: Option<PathBuf>,
}

/// What gives way when the queue is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// The oldest items make room.
    #[default]
    DropOldest,
    /// New readings are not taken.
    DropNewest,
}

/// `[drain]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrainConfig {
    /// Which readings go first after an outage.
    pub order: DrainOrder,
    /// Most readings one record carries, 1 to 500.
    pub record_readings_max: usize,
    /// Most bytes one call carries, up to 4.5 MiB.
    pub batch_bytes_max: Size,
    /// Calls in flight at once, 1 to 16.
    pub calls_in_flight_max: usize,
    /// So long a reading waits for others that go with it, up to 20 s: fewer and larger records.
    pub linger: Span,
    /// A call that takes longer counts as failed (and may have been accepted).
    pub request_timeout: Span,
    /// Ceiling of the delay between two tries while the endpoint cannot be reached.
    pub retry_delay_max: Span,
    /// Ceiling of that delay while somebody must act first (credentials, permissions, clock).
    pub blocked_delay_max: Span,
}

/// Which readings go first when there is a backlog.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrainOrder {
    /// As they were measured.
    #[default]
    OldestFirst,
    /// The latest, so that a live display is right at once; the backlog follows.
    NewestFirst,
}

/// `[kinesis]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KinesisConfig {
    /// The stream's name.
    #[serde(deserialize_with = "values::text_or_number")]
    pub stream: Option<String>,
    /// The region; by default what the AWS environment or profile says.
    pub region: Option<String>,
    /// Another endpoint (a VPC endpoint, a test server).
    pub endpoint: Option<String>,
    /// The profile of `~/.aws/config` to use.
    #[serde(deserialize_with = "values::text_or_number")]
    pub profile: Option<String>,
    /// A `credential_process` that takes longer is killed.
    pub credential_timeout: Span,
}

/// `[directory]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DirectoryConfig {
    /// The folder; setting it turns this sink on.
    pub path: Option<PathBuf>,
    /// A file that has grown to this is closed and the next begun.
    pub file_size_max: Size,
}

/// `[page]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PageConfig {
    /// Where to listen: `127.0.0.1:8180`; setting it turns the page on.
    pub listen: Option<SocketAddr>,
    /// File with the password that the page asks for; needed where others can reach it.
    pub password_file: Option<PathBuf>,
    /// Whether the metrics have heart rates.
    pub metrics_heart_rates: bool,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Filter in the syntax of `tracing`: `info`, `hr_gateway::drainer=debug,info`.
    pub level: String,
    /// How often the ledger is logged.
    pub ledger_interval: Span,
}

impl BluetoothConfig {
    /// The adapters that a sensor may be reached by; none named are all.
    pub fn adapters_of(&self, sensor: &SensorConfig) -> Vec<AdapterChoice> {
        match &sensor.adapter {
            Some(adapter) => vec![adapter.clone()],
            None => self.adapters.clone(),
        }
    }
}

impl Default for BluetoothConfig {
    fn default() -> Self {
        Self {
            discover: false,
            discover_rssi_min: -90,
            discover_max: 8,
            adapters: Vec::new(),
            silence_max: Span::from_secs(30),
        }
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self { idle_after: Span::from_secs(300), gap_after: Span::from_secs(10) }
    }
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            path: "/var/lib/hr-gatewayd/queue".into(),
            commit_interval: Span::from_secs(0),
            items_max: 20_000_000,
            disk_headroom: Size(256 << 20),
            when_full: WhenFull::default(),
            encryption_key_file: None,
        }
    }
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self {
            order: DrainOrder::default(),
            record_readings_max: RECORD_READINGS_MAX,
            batch_bytes_max: Size(512 << 10),
            calls_in_flight_max: 4,
            linger: Span::default(),
            request_timeout: Span::from_secs(10),
            retry_delay_max: Span::from_secs(2),
            blocked_delay_max: Span::from_secs(60),
        }
    }
}

impl Default for KinesisConfig {
    fn default() -> Self {
        let credential_timeout = Span::from_secs(30);
        Self { stream: None, region: None, endpoint: None, profile: None, credential_timeout }
    }
}

impl Default for DirectoryConfig {
    fn default() -> Self {
        Self { path: None, file_size_max: Size(64 << 20) }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into(), ledger_interval: Span::from_secs(600) }
    }
}
