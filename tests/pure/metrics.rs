//! The metrics, and what is built on their names.

use std::collections::{BTreeMap, BTreeSet};

use hr_gateway::live::Latest;
use hr_gateway::overview::{Overview, QueueOverview, SensorOverview, SinkOverview, SinkState};
use hr_gateway::page::metrics::{Format, text};
use hr_gateway::queue::ledger::Totals;
use hr_gateway::reading::SensorId;

use crate::support::in_tree;

/// One that has all there can be.
fn fullest() -> (Overview, BTreeMap<SensorId, Latest>) {
    let sensor: SensorId = "adi".parse().unwrap();
    let overview = Overview {
        version: "0.1.0".into(),
        gateway: "pi".parse().unwrap(),
        running_s: 60,
        started_at_s: 1_752_599_433,
        now_ms: 1_752_599_493_000,
        attention: Vec::new(),
        sensors: vec![SensorOverview {
            sensor: sensor.clone(),
            wanted: true,
            streams: true,
            why: String::new(),
            last_reading_s: Some(1),
            battery_percent: Some(87),
            rssi_dbm: Some(-61),
            adapter: Some("hci0".into()),
            readings: Default::default(),
            malformed: 0,
        }],
        sink: SinkOverview {
            kind: "kinesis".into(),
            state: SinkState::Accepts,
            code: String::new(),
            since_s: None,
            last_accepted_s: Some(1),
            certificate_ends_in_s: Some(86_400),
        },
        queue: QueueOverview {
            depth: 1,
            oldest_s: Some(1),
            is_full: false,
            totals: Totals::default(),
            balances: true,
        },
        clock_synchronized: true,
        disk_free_bytes: Some(1 << 30),
    };
    let latest = Latest { reading: Some((Default::default(), 72)), ..Latest::default() };
    (overview, BTreeMap::from([(sensor, latest)]))
}

fn names(text: &str) -> BTreeSet<&str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = text.match_indices("hr_gatewayd_").map(|(at, _)| &text[at..]);
    starts.map(|rest| rest.split(|c| !word(c)).next().unwrap()).collect()
}

#[test]
fn every_family_has_its_help_its_type_and_a_sample_and_no_heart_rate_comes_unasked() {
    let (overview, latest) = fullest();
    for format in [Format::OpenMetrics, Format::Prometheus] {
        let text = text(&overview, Some(&latest), format);
        let families: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .map(|it| it.split(' ').next().unwrap())
            .collect();
        for family in &families {
            assert!(text.contains(&format!("# HELP {family} ")), "{family}");
            assert!(text.lines().any(|line| line.starts_with(family)), "{family} has no sample");
        }
        assert_eq!(families.len(), families.iter().collect::<BTreeSet<_>>().len(), "each once");
        assert_eq!(text.ends_with("# EOF\n"), format == Format::OpenMetrics);
    }
    let (mut overview, latest) = fullest();
    assert!(!text(&overview, None, Format::Prometheus).contains("heart_rate"));
    // One that is old is none of now.
    overview.sensors[0].last_reading_s = Some(61);
    assert!(!text(&overview, Some(&latest), Format::Prometheus).contains("heart_rate"));
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_there_are() {
    let (overview, latest) = fullest();
    let text = text(&overview, Some(&latest), Format::Prometheus);
    let known = names(&text);
    for file in ["alerts.yml", "alerts.test.yml", "grafana-dashboard.json"] {
        let asked = std::fs::read_to_string(in_tree("packaging/monitoring").join(file)).unwrap();
        let unknown: Vec<&str> = names(&asked).difference(&known).copied().collect();
        assert!(unknown.is_empty(), "{file} asks for {unknown:?}");
    }
}
