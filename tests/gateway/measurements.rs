//! What a sensor sends, byte by byte, to what arrives.

use std::time::Duration;

use hr_gateway::heart_rate::HeartRateMeasurement;
use serde_json::Value;

use super::bluetooth::{Set, WATCH, one_watch};
use crate::support::{recorded_rr_intervals, wait_for};

#[test]
fn every_rr_interval_contact_energy_and_16_bit_value_is_exact() {
    let mut set = Set::new(&one_watch());
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    let rr = recorded_rr_intervals();
    let sent: Vec<HeartRateMeasurement> = rr
        .chunks(3)
        .enumerate()
        .map(|(n, rr)| HeartRateMeasurement {
            heart_rate: if n % 5 == 0 { 300 } else { 70 },
            sensor_contact: [None, Some(true)][n % 2],
            energy_expended_kj: (n % 3 == 0).then_some(n as u16 * 100),
            rr_intervals: rr.to_vec(),
        })
        .collect();
    let payloads: Vec<_> = sent.iter().map(HeartRateMeasurement::encode).collect();
    set.bus.notify_all(WATCH, &payloads);
    set.bus.notify_all(WATCH, &[vec![0x00], vec![0x01, 0x50], vec![0x08, 0x50, 0x01]]);
    let status = daemon.wait_delivered(sent.len() as u64);
    daemon.wait_log("are no Heart Rate Measurement");
    let log = daemon.log();
    let warning = log.lines().find(|line| line.contains("are no Heart Rate Measurement")).unwrap();
    assert!(warning.contains("sensor=adi-forerunner"), "{warning}");
    daemon.stop();
    assert_eq!(status["totals"]["malformed"], 3);
    for (line, sent) in set.readings().iter().zip(&sent) {
        assert_eq!(line["heart_rate"], sent.heart_rate);
        assert_eq!(line.get("sensor_contact").and_then(Value::as_bool), sent.sensor_contact);
        assert_eq!(
            line.get("energy_expended_kj").and_then(Value::as_u64),
            sent.energy_expended_kj.map(u64::from)
        );
        let arrived: Vec<f64> =
            line["rr_intervals_ms"].as_array().unwrap().iter().map(|ms| ms.as_f64().unwrap()).collect();
        let exact: Vec<f64> = sent.rr_intervals.iter().map(|rr| f64::from(rr.0) * 1000.0 / 1024.0).collect();
        assert_eq!(arrived, exact);
    }
}

#[test]
fn what_a_sensor_pads_is_read_and_what_is_no_measurement_is_not_called_readings() {
    let mut set = Set::new(&one_watch());
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    set.bus.notify_all(WATCH, &[vec![0x00], vec![0x01, 0x50], vec![0x08, 0x50]]);
    daemon.wait_log("are no Heart Rate Measurement");
    assert!(!daemon.log().contains("readings flow"), "{}", daemon.log());
    let padded =
        [[0x10, 0x3e, 0xb1, 0x03, 0xde], [0x10, 0x39, 0x23, 0x04, 0x35], [0x10, 0x3d, 0xcf, 0x03, 0xef]];
    set.bus.notify_all(WATCH, &padded.map(|payload| payload.to_vec()));
    daemon.wait_log("readings flow");
    daemon.wait_log("half an RR-Interval");
    let status = daemon.wait_delivered(3);
    daemon.stop();
    assert_eq!(status["totals"]["malformed"], 3);
    let read: Vec<_> = set
        .readings()
        .iter()
        .map(|line| (line["heart_rate"].clone(), line["rr_intervals_ms"].clone()))
        .collect();
    let ms = |ticks: u16| serde_json::json!([f64::from(ticks) * 1000.0 / 1024.0]);
    assert_eq!(read, [(62.into(), ms(945)), (57.into(), ms(1059)), (61.into(), ms(975))]);
}

#[test]
fn a_gateway_tells_of_itself_though_no_sensor_is_in_reach() {
    let set = Set::new(&one_watch().replace(WATCH, "C0:FF:EE:00:00:99"));
    let config = set.folder.path().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[gateway]", "[gateway]\nstate_every = \"1s\"")).unwrap();
    let daemon = set.start();
    let records = || {
        let mut lines = set.lines();
        lines.retain(|line| line["record"] == "gateway_state");
        (lines.len() >= 2).then_some(lines)
    };
    let records = wait_for("two gateway state records", Duration::from_secs(30), records);
    for record in &records {
        assert_eq!((&record["sensor_id"], &record["gateway_id"]), (&"-".into(), &"living-room".into()));
        assert_eq!((&record["sensors"], &record["sensors_streaming"]), (&1.into(), &0.into()));
        assert_eq!(record["gateway_version"], env!("CARGO_PKG_VERSION"));
        assert!(record["disk_free_bytes"].as_u64() > Some(0), "{record}");
    }
    assert_eq!(records[0]["session_id"], records[1]["session_id"]);
    let epoch = |word: &Value| word.as_str().unwrap()[..16].to_owned();
    daemon.stop();
    // In a queue of the smallest size, too.
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[queue]", "[queue]\nitems_max = 100")).unwrap();
    let daemon = set.start();
    let again = wait_for("records of the next run", Duration::from_secs(30), || {
        let mut lines = set.lines();
        lines.retain(|line| line["record"] == "gateway_state");
        (lines.len() > records.len()).then_some(lines)
    });
    for record in again {
        assert_eq!(
            epoch(&record["session_id"]),
            epoch(&record["reading_id"]),
            "a session is of its own run: {record}"
        );
    }
    let (status, _) = set.run(&["status", "--json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    let sensors = status["sensors"].as_array().unwrap();
    assert_eq!(sensors.len(), 1, "the gateway is no sensor of its own: {status}");
    assert!(!daemon.log().contains("session begins"));
    daemon.stop();
}
