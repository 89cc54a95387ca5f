//! The metrics, in the text formats of OpenMetrics 1.0 and Prometheus 0.0.4. Pure.
//!
//! Names follow the conventions of Prometheus: base units, `_total` for what only grows, `_timestamp_seconds` for
//! when something was. No heart rate is among them unless it is asked for. Names of sensors need no escaping
//! ([`crate::reading`]).

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::live::Latest;
use crate::overview::{Overview, SensorOverview, SinkState};
use crate::reading::SensorId;

/// A heart rate that is older is none of now.
const HEART_RATE_S: u64 = 60;

/// How they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The older text format, which node_exporter's textfile collector reads.
    Prometheus,
}

impl Format {
    /// Of an answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// All of them. `heart_rates` where they are asked for.
pub fn text(overview: &Overview, heart_rates: Option<&BTreeMap<SensorId, Latest>>, format: Format) -> String {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_s = since_epoch.as_secs();
    let before = |age_s: Option<u64>| age_s.map(|age_s| now_s.saturating_sub(age_s));
    let mut out = Families { text: String::new(), format };
    let labels = format!("{{version=\"{}\",gateway=\"{}\"}}", overview.version, overview.gateway);
    out.gauge("build_info", "The program and the gateway.", [(labels, 1)]);
    let one = |value: u64| [(String::new(), value)];
    out.gauge("start_timestamp_seconds", "When the gateway started.", one(overview.started_at_s));

    let of_each = |value: fn(&SensorOverview) -> u64| {
        overview.sensors.iter().map(move |sensor| (of(&sensor.sensor), value(sensor)))
    };
    out.counter("readings_received", "Readings taken in.", of_each(|sensor| sensor.readings.received));
    out.counter(
        "readings_delivered",
        "Readings that the sink accepted.",
        of_each(|sensor| sensor.readings.delivered),
    );
    out.counter(
        "readings_evicted",
        "Readings that were lost to a full queue or dropped by hand.",
        of_each(|sensor| sensor.readings.evicted),
    );
    out.gauge("readings_queued", "Readings that wait.", of_each(|sensor| sensor.readings.queued));
    out.gauge(
        "readings_dead_lettered",
        "Readings that the sink refused for good.",
        of_each(|sensor| sensor.readings.dead_lettered),
    );
    out.counter(
        "notifications_malformed",
        "Notifications that could not be understood.",
        of_each(|sensor| sensor.malformed),
    );

    let wanted = || overview.sensors.iter().filter(|sensor| sensor.wanted);
    out.gauge(
        "sensor_streaming",
        "Whether readings flow.",
        wanted().map(|sensor| (of(&sensor.sensor), u64::from(sensor.streams))),
    );
    out.gauge(
        "sensor_last_reading_timestamp_seconds",
        "When the last reading was taken.",
        overview
            .sensors
            .iter()
            .filter_map(|sensor| Some((of(&sensor.sensor), before(sensor.last_reading_s)?))),
    );
    out.gauge(
        "sensor_battery_ratio",
        "The sensor's battery, 0 to 1.",
        wanted().filter_map(|sensor| Some((of(&sensor.sensor), f64::from(sensor.battery_percent?) / 100.0))),
    );
    out.gauge(
        "sensor_signal_dbm",
        "How loudly the sensor was heard last.",
        wanted().filter_map(|sensor| Some((of(&sensor.sensor), sensor.rssi_dbm?))),
    );
    if let Some(latest) = heart_rates {
        let fresh = wanted().filter(|sensor| sensor.last_reading_s.is_some_and(|age_s| age_s < HEART_RATE_S));
        let heart_rate = |it: &SensorOverview| Some((of(&it.sensor), latest.get(&it.sensor)?.reading?.1));
        out.gauge("heart_rate_bpm", "The heart rate of now.", fresh.filter_map(heart_rate));
    }

    let sink = &overview.sink;
    out.gauge(
        "sink_up",
        "Whether the sink accepts, as far as is known.",
        one((sink.state == SinkState::Accepts).into()),
    );
    let accepted = before(sink.last_accepted_s).map(|at| (String::new(), at));
    out.gauge("sink_last_accepted_timestamp_seconds", "When the sink accepted something last.", accepted);
    let ends = sink.certificate_ends_in_s.map(|left_s| (String::new(), now_s as i64 + left_s));
    out.gauge(
        "certificate_end_timestamp_seconds",
        "When the certificate ends that the gateway identifies itself by.",
        ends,
    );
    out.gauge("queue_items", "Items in the queue, gap records included.", one(overview.queue.depth));
    let oldest = before(overview.queue.oldest_s).map(|at| (String::new(), at));
    out.gauge("queue_oldest_timestamp_seconds", "When the oldest item in the queue was taken.", oldest);
    out.gauge(
        "queue_full",
        "Whether readings are being lost because the queue is full.",
        one(overview.queue.is_full.into()),
    );
    out.gauge(
        "ledger_balances",
        "Whether received = delivered + queued + dead-lettered + evicted.",
        one(overview.queue.balances.into()),
    );
    out.gauge(
        "clock_synchronized",
        "Whether the clock is known to be right.",
        one(overview.clock_synchronized.into()),
    );
    let free = overview.disk_free_bytes.map(|bytes| (String::new(), bytes));
    out.gauge("disk_free_bytes", "Free where the queue is.", free);
    out.gauge(
        "needs_attention",
        "How many things somebody should look at: `hr-gatewayd status` names them.",
        one(overview.attention.len() as u64),
    );
    out.finish()
}

fn of(sensor: &SensorId) -> String {
    format!("{{sensor=\"{sensor}\"}}")
}

struct Families {
    text: String,
    format: Format,
}

impl Families {
    fn gauge<V: Display>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (String, V)>) {
        self.family(name, "gauge", name, help, samples);
    }

    fn counter<V: Display>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (String, V)>,
    ) {
        let total = format!("{name}_total");
        // OpenMetrics names the family without what its samples end in.
        let family = if self.format == Format::OpenMetrics { name } else { &total };
        self.family(family, "counter", &total, help, samples);
    }

    /// Nothing where there are no samples.
    fn family<V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        sample: &str,
        help: &str,
        samples: impl IntoIterator<Item = (String, V)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        _ = writeln!(self.text, "# HELP hr_gatewayd_{name} {help}\n# TYPE hr_gatewayd_{name} {kind}");
        for (labels, value) in samples {
            _ = writeln!(self.text, "hr_gatewayd_{sample}{labels} {value}");
        }
    }

    fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}
