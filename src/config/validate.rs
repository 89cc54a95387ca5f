//! What no single key's type can see: bounds, forms, combinations, and what is made of a value later.
//!
//! Any value that would make a later step fail is refused here, and what such a step needs is made here
//! once: the key of the queue, the filter of the log, the gateway's name.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use super::mistakes::Mistakes;
use super::secret_file::{self, Key};
use super::{Config, ConfigError, Follow, KinesisConfig, RECORD_READINGS_MAX, SensorConfig, Size, Span};
use crate::page::Password;
use crate::pseudonym::pseudonym;
use crate::queue::segment::SegmentCodec;
use crate::reading::{GatewayId, Mode, NO_SENSOR};
use crate::telemetry::Filter;

/// Longest name that a Bluetooth device can have (Core Specification, Vol 3, Part C, 12.1).
const DEVICE_NAME_BYTES_MAX: usize = 248;
/// Longest label of a host's name, of which a region is one.
const REGION_BYTES_MAX: usize = 63;

/// A configuration of which every value was looked at, with what is made of it.
#[derive(Clone)]
pub struct Validated {
    config: Config,
    key: Option<Key>,
    page: Option<(SocketAddr, Option<Password>)>,
    filter: Filter,
    warnings: Vec<String>,
}

impl Validated {
    /// Looks at every value of `config`, which was read with `mistakes`.
    pub(super) fn new(config: Config, mut mistakes: Mistakes<'_>) -> Result<Self, ConfigError> {
        config.look_at_bounds(&mut mistakes);
        config.look_at_sensors(&mut mistakes);
        config.kinesis.look_at(&mut mistakes);
        config.look_at_paths(&mut mistakes);
        let filter = config.log.level.parse::<Filter>();
        let filter = filter.unwrap_or_else(|what| {
            mistakes.add("log.level", what);
            Filter::default()
        });
        let mut warnings = Vec::new();
        let mut key = None;
        if let Some(path) = &config.queue.encryption_key_file
            && !mistakes.concern("queue.encryption_key_file")
        {
            match secret_file::read_key(path) {
                Ok((read, warning)) => {
                    key = Some(read);
                    warnings.extend(warning);
                }
                Err(what) => mistakes.add("queue.encryption_key_file", what),
            }
        }
        let mut password = None;
        if let Some(path) = &config.page.password_file
            && !mistakes.concern("page.password_file")
        {
            match secret_file::read_password(path) {
                Ok((read, warning)) => {
                    password = Some(Password::new(&read));
                    warnings.extend(warning);
                }
                Err(what) => {
                    warnings.push(format!("`page.password_file`: {what}; there is no page until then"))
                }
            }
        }
        let is_barred = config.page.password_file.is_some() && password.is_none();
        if let Some(listen) = config.page.listen
            && !listen.ip().is_loopback()
            && config.page.password_file.is_none()
        {
            let what = "others can reach it, and it shows heart rates: name a `page.password_file`, or listen on 127.0.0.1";
            mistakes.add("page.listen", format!("found {listen}; {what}"));
        }
        mistakes.finish()?;
        let page = config.page.listen.filter(|_| !is_barred).map(|listen| (listen, password));
        Ok(Self { config, key, page, filter, warnings })
    }

    /// The values.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What is right and yet not as it should be, a sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What the log takes.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// What writes and reads the queue's segments.
    pub fn codec(&self) -> SegmentCodec {
        self.key.as_ref().map_or_else(SegmentCodec::default, |key| SegmentCodec::encrypted(&key.0))
    }

    /// Where the page is, and the password that it asks for. There is none where its password cannot be read: a page
    /// is not worth the readings.
    pub fn page(&self) -> Option<(SocketAddr, Option<Password>)> {
        self.page
    }

    /// Whether the queue is written with the same key.
    pub fn has_key_of(&self, other: &Self) -> bool {
        self.key == other.key
    }

    /// The configured name, or one that this machine keeps.
    pub fn gateway_id(&self) -> GatewayId {
        if let Some(id) = &self.config.gateway.id {
            return id.clone();
        }
        // machine-id(5) asks that the id itself is not given away.
        let hex = pseudonym(b"hr-gatewayd", machine_id().as_bytes());
        format!("gateway-{hex}").parse().expect("letters, digits and a dash")
    }
}

/// The machine's id, which nobody else learns; empty where there is none.
pub fn machine_id() -> String {
    std::fs::read_to_string(Path::new("/etc/machine-id")).unwrap_or_default().trim().to_owned()
}

impl Config {
    fn look_at_bounds(&self, mistakes: &mut Mistakes<'_>) {
        let secs = Span::from_secs;
        let drain = &self.drain;
        let mut within = Within(mistakes);
        within.check("kinesis.credential_timeout", self.kinesis.credential_timeout, secs(1), secs(600));
        within.check("drain.record_readings_max", drain.record_readings_max, 1, RECORD_READINGS_MAX);
        within.check("drain.calls_in_flight_max", drain.calls_in_flight_max, 1, 16);
        within.check("drain.batch_bytes_max", drain.batch_bytes_max, Size(256 << 10), Size(4608 << 10));
        within.check("drain.linger", drain.linger, Span::default(), secs(20));
        within.check("drain.request_timeout", drain.request_timeout, secs(1), secs(60));
        within.check("drain.retry_delay_max", drain.retry_delay_max, Span::from_millis(100), secs(300));
        within.check("drain.blocked_delay_max", drain.blocked_delay_max, secs(1), secs(3600));
        within.check("queue.disk_headroom", self.queue.disk_headroom, Size(16 << 20), Size(1 << 50));
        within.check("queue.items_max", self.queue.items_max, 100, u64::MAX);
        within.check("queue.commit_interval", self.queue.commit_interval, Span::default(), secs(600));
        within.check("directory.file_size_max", self.directory.file_size_max, Size(4 << 10), Size(1 << 40));
        within.check("session.idle_after", self.session.idle_after, secs(10), secs(86_400));
        if !within.0.concern("session.idle_after") {
            within.check("session.gap_after", self.session.gap_after, secs(2), self.session.idle_after);
        }
        let bluetooth = &self.bluetooth;
        within.check("bluetooth.silence_max", bluetooth.silence_max, secs(2), secs(3600));
        within.check("bluetooth.discover_max", bluetooth.discover_max, 1, 64);
        // What HCI can report (Core Specification, Vol 4, Part E, 7.7.65.2).
        within.check("bluetooth.discover_rssi_min", bluetooth.discover_rssi_min, -127, 20);
        if !self.gateway.state_every.0.is_zero() {
            within.check("gateway.state_every", self.gateway.state_every, secs(1), secs(86_400));
        }
        within.check("log.ledger_interval", self.log.ledger_interval, secs(1), secs(86_400));
    }

    fn look_at_sensors(&self, mistakes: &mut Mistakes<'_>) {
        let mut ids = HashMap::new();
        let (mut devices, mut names) = (HashMap::new(), HashMap::new());
        for (block, sensor) in mistakes.blocks.clone().into_iter().zip(&self.sensor) {
            let unread = ["address", "name"].map(|key| mistakes.concern(&format!("sensor.{block}.{key}")));
            let mut refuse =
                |key: &str, what: String| mistakes.add_in_block(key, block, Some(sensor.id.as_str()), what);
            if unread == [false; 2] && sensor.address.is_some() == sensor.name.is_some() {
                refuse("", "give it either `address` or `name` (`hr-gatewayd scan` shows both)".into());
            }
            sensor.look_at(&mut refuse);
            if sensor.id.as_str() == NO_SENSOR {
                refuse("id", format!("`{NO_SENSOR}` stands for no sensor; give it another name"));
            }
            if ids.insert(&sensor.id, block).is_some() {
                refuse("id", format!("`{}` stands twice; every sensor needs its own", sensor.id));
            }
            if let Some(address) = sensor.address
                && let Some(first) = devices.insert(address, &sensor.id)
            {
                refuse("address", format!("is that of `{first}` too; one device is one sensor"));
            }
            if let Some(name) = &sensor.name
                && let Some(first) = names.insert(name.to_string(), &sensor.id)
            {
                let what =
                    "two devices of one name cannot be told apart by it: give each its `address` instead";
                refuse("name", format!("is that of `{first}` too; {what} (`hr-gatewayd scan` shows it)"));
            }
        }
    }
}

impl SensorConfig {
    fn look_at(&self, refuse: &mut impl FnMut(&str, String)) {
        if let Some(name) = &self.name {
            let text = name.text();
            // A blank one would fit every device.
            let blank = text.trim().is_empty();
            if blank || text.len() > DEVICE_NAME_BYTES_MAX || text.chars().any(char::is_control) {
                refuse("name", format!("found `{name}`; {A_DEVICE_NAME}"));
            }
        }
        if self.address.is_some() && self.follow == Follow::Any {
            refuse("follow", "is for a sensor that has a `name`: an `address` is one device".into());
        }
        if self.mode == Mode::Advertisement && (self.bond || self.passkey.is_some()) {
            refuse("mode", "an advertisement needs no link: leave out `bond` and `passkey`".into());
        }
        if self.passkey.is_some_and(|passkey| passkey > 999_999) {
            refuse("passkey", "a passkey has at most 6 digits".into());
        }
    }
}

impl KinesisConfig {
    fn look_at(&self, mistakes: &mut Mistakes<'_>) {
        if let Some(stream) = &self.stream {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
            if stream.is_empty() || stream.len() > 128 || !stream.bytes().all(allowed) {
                let what = "a stream's name has 1 to 128 letters, digits, `_`, `.` or `-`";
                mistakes.add("kinesis.stream", format!("found `{stream}`; {what}"));
            }
        }
        if let Some(region) = &self.region {
            let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            let ends = region.starts_with('-') || region.ends_with('-');
            if region.is_empty() || region.len() > REGION_BYTES_MAX || ends || !region.bytes().all(allowed) {
                mistakes
                    .add("kinesis.region", format!("found `{region}`; write a region like \"ap-south-1\""));
            }
        }
        if let Some(endpoint) = &self.endpoint
            && let Some(what) = refusal_of_endpoint(endpoint)
        {
            mistakes.add("kinesis.endpoint", what);
        }
        if let Some(profile) = &self.profile
            && (profile.trim().is_empty() || profile.contains(|c: char| c.is_control() || "[]".contains(c)))
        {
            mistakes.add(
                "kinesis.profile",
                format!("found `{profile}`; name a section of the AWS configuration"),
            );
        }
    }
}

/// What is wrong with an endpoint. Keys in it would be shown with it, and are not how AWS takes them.
fn refusal_of_endpoint(endpoint: &str) -> Option<String> {
    let form = "write http://HOST or https://HOST, with :PORT behind it if it has one";
    if endpoint.contains('@') {
        return Some(format!("has a user or password in it, which no call would use; {form}"));
    }
    let parsed = endpoint.parse::<http::Uri>().ok().filter(|_| !endpoint.contains('#'));
    let is_right = parsed.is_some_and(|uri| {
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let host = uri.host().unwrap_or_default();
        let port = authority.strip_prefix(host).and_then(|rest| rest.strip_prefix(':'));
        let port_is_right = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
        scheme && !host.is_empty() && port_is_right && uri.query().is_none()
    });
    (!is_right).then(|| format!("found `{endpoint}`; {form}"))
}

const A_DEVICE_NAME: &str = "write the name that it advertises, or how that begins with a `*` behind it";

struct Within<'a, 'b>(&'a mut Mistakes<'b>);

impl Within<'_, '_> {
    fn check<T: PartialOrd + fmt::Display>(&mut self, key: &str, found: T, low: T, high: T) {
        if !(&low..=&high).contains(&&found) {
            self.0.add(key, format!("found {found}; allowed is {low} to {high}"));
        }
    }
}
