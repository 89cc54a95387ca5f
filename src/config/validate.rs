//! What no single field can see: combinations, and bounds.

use std::collections::BTreeSet;
use std::fmt;

use super::{Config, ConfigError, RECORD_READINGS_MAX, Size, Span};

impl Config {
    /// Refuses it with the key, what was found, and what is allowed.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let fail = |text: String| Err(ConfigError(text));
        let mut ids = BTreeSet::new();
        for sensor in &self.sensor {
            if !ids.insert(&sensor.id) {
                return fail(format!(
                    "`sensor.id`: `{}` stands twice; every sensor needs its own",
                    sensor.id
                ));
            }
            if sensor.address.is_some() == sensor.name.is_some() {
                return fail(format!(
                    "`sensor` {}: give it either `address` or `name` (`hr-gatewayd scan` shows both)",
                    sensor.id
                ));
            }
            if sensor.passkey.is_some_and(|passkey| passkey > 999_999) {
                return fail(format!("`sensor.passkey` of {}: a passkey has at most 6 digits", sensor.id));
            }
        }
        let mut addresses = BTreeSet::new();
        for sensor in &self.sensor {
            if let Some(address) = sensor.address
                && !addresses.insert((address, &sensor.adapter))
            {
                return fail(format!("`sensor.address`: {address} stands twice; one device is one sensor"));
            }
        }
        if let Some(stream) = &self.kinesis.stream {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
            if stream.is_empty() || stream.len() > 128 || !stream.bytes().all(allowed) {
                return fail(format!(
                    "`kinesis.stream`: found `{stream}`; a stream's name has 1 to 128 letters, digits, `_`, `.` or `-`"
                ));
            }
            if self.directory.path.is_some() {
                return fail("`kinesis.stream` and `directory.path` are both set; keep one of them".into());
            }
        }
        if let Some(endpoint) = &self.kinesis.endpoint
            && !(endpoint.starts_with("http://") || endpoint.starts_with("https://"))
        {
            return fail(format!("`kinesis.endpoint`: found `{endpoint}`; write http://… or https://…"));
        }
        let drain = &self.drain;
        within("drain.record_readings_max", drain.record_readings_max, 1, RECORD_READINGS_MAX)?;
        within("drain.calls_in_flight_max", drain.calls_in_flight_max, 1, 16)?;
        within("drain.batch_bytes_max", drain.batch_bytes_max, Size(256 << 10), Size(4608 << 10))?;
        within("drain.request_timeout", drain.request_timeout, Span::from_secs(1), Span::from_secs(60))?;
        within("drain.retry_delay_max", drain.retry_delay_max, Span::from_millis(100), Span::from_secs(300))?;
        within(
            "drain.blocked_delay_max",
            drain.blocked_delay_max,
            Span::from_secs(1),
            Span::from_secs(3600),
        )?;
        within("queue.disk_headroom", self.queue.disk_headroom, Size(16 << 20), Size(1 << 50))?;
        within("queue.items_max", self.queue.items_max, 100, u64::MAX)?;
        within("queue.commit_interval", self.queue.commit_interval, Span::default(), Span::from_secs(600))?;
        within("session.idle_after", self.session.idle_after, Span::from_secs(10), Span::from_secs(86_400))?;
        within("session.gap_after", self.session.gap_after, Span::from_secs(2), self.session.idle_after)?;
        within(
            "bluetooth.silence_max",
            self.bluetooth.silence_max,
            Span::from_secs(2),
            Span::from_secs(3600),
        )?;
        within("bluetooth.discover_max", self.bluetooth.discover_max, 1, 64)?;
        within("log.ledger_interval", self.log.ledger_interval, Span::from_secs(1), Span::from_secs(86_400))
    }
}

fn within<T: PartialOrd + fmt::Display>(key: &str, found: T, low: T, high: T) -> Result<(), ConfigError> {
    if (&low..=&high).contains(&&found) {
        return Ok(());
    }
    Err(ConfigError(format!("`{key}`: found {found}; allowed is {low} to {high}")))
}
