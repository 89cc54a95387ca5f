//! What Firehose gives, and what it gets back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hr_indexer::transform::{Counts, HighestRate, transform};
use serde_json::{Value, json};

const FIRST_DAY: &str = "2025-01-01";

fn line(timestamp: &str, heart_rate: u16) -> String {
    json!({
        "timestamp": timestamp, "heart_rate": heart_rate, "reading_id": "00000000000000aa-1", "gateway_id": "attic",
        "sensor_id": "adi", "session_id": "00000000000000aa-s1", "sequence": 1, "clock": "synchronized",
        "schema_version": 1, "of_a_newer_gateway": [1, 2],
    })
    .to_string()
}

fn answered(lines: &[String]) -> (Vec<Value>, Counts) {
    let records: Vec<_> =
        lines.iter().enumerate().map(|(id, line)| given(&id.to_string(), line.as_bytes())).collect();
    let payload = json!({"invocationId": "one", "deliveryStreamArn": "arn", "records": records}).to_string();
    let (answer, counts) = transform(&payload, HighestRate::new(190).unwrap(), FIRST_DAY).unwrap();
    let answer = serde_json::to_value(answer).unwrap();
    (answer["records"].as_array().unwrap().clone(), counts)
}

fn given(id: &str, data: &[u8]) -> Value {
    json!({"recordId": id, "approximateArrivalTimestamp": 1, "data": STANDARD.encode(data)})
}

fn text(record: &Value) -> String {
    String::from_utf8(STANDARD.decode(record["data"].as_str().unwrap()).unwrap()).unwrap()
}

#[test]
fn a_line_gets_its_minute_zone_and_day_and_keeps_what_it_had() {
    let given = line("2025-07-15T17:10:59.999Z", 133);
    let (records, counts) = answered(&[format!("{given}\n")]);
    assert_eq!(counts, Counts { taken: 1, refused: 0 });
    assert_eq!(records[0]["result"], "Ok");
    assert_eq!(records[0]["metadata"], json!({"partitionKeys": {"date": "2025-07-15"}}));
    let made = text(&records[0]);
    assert!(made.ends_with("}\n"));
    let mut made: Value = serde_json::from_str(&made).unwrap();
    let object = made.as_object_mut().unwrap();
    assert_eq!(object.remove("minute"), Some(json!("2025-07-15T17:10:00.000Z")));
    assert_eq!(object.remove("zone"), Some(json!(3)));
    assert_eq!(made, serde_json::from_str::<Value>(&given).unwrap());
}

#[test]
fn zones_begin_where_the_queries_have_them() {
    for (rate, zone) in [(0, 1), (113, 1), (114, 2), (132, 2), (133, 3), (152, 4), (171, 5), (250, 5)] {
        let (records, _) = answered(&[line("2025-07-15T17:10:00.000Z", rate)]);
        let made: Value = serde_json::from_str(&text(&records[0])).unwrap();
        assert_eq!(made["zone"], zone, "{rate}");
    }
    assert_eq!([99, 100, 250, 251].map(|bpm| HighestRate::new(bpm).is_some()), [false, true, true, false]);
}

#[test]
fn a_gap_record_has_a_minute_and_no_zone() {
    let gap = line("2025-07-15T17:10:00.000Z", 0).replace(
        "\"heart_rate\":0",
        "\"gap_reason\":\"link_down\",\"gap_start\":\"2025-07-15T17:09:00.000Z\",\"gap_end\":\"2025-07-15T17:10:00.000Z\"",
    );
    let (records, _) = answered(&[gap]);
    let made: Value = serde_json::from_str(&text(&records[0])).unwrap();
    assert_eq!((made.get("zone"), &made["minute"]), (None, &json!("2025-07-15T17:10:00.000Z")));
}

#[test]
fn a_clock_that_was_never_set_is_kept_under_the_first_day() {
    let (records, _) = answered(&[line("1970-01-01T00:00:10.000Z", 70)]);
    assert_eq!(records[0]["metadata"]["partitionKeys"]["date"], FIRST_DAY);
}

#[test]
fn what_is_no_line_of_a_gateways_is_refused_as_it_came_and_alone() {
    let foreign =
        ["", "no JSON", "{}", "[1]", "\u{0}", "{\"timestamp\": \"2025-07-15 17:10:00\", \"heart_rate\": 70}"];
    let mut lines: Vec<String> = foreign.iter().map(|text| (*text).to_owned()).collect();
    lines.insert(3, line("2025-07-15T17:10:00.000Z", 70));
    let (records, counts) = answered(&lines);
    assert_eq!(counts, Counts { taken: 1, refused: foreign.len() });
    for (id, (record, line)) in records.iter().zip(&lines).enumerate() {
        assert_eq!(record["recordId"], id.to_string(), "each is answered, in its place");
        if id != 3 {
            assert_eq!(record["result"], "ProcessingFailed");
            assert_eq!((text(record), record.get("metadata")), (line.clone(), None));
        }
    }
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let records = vec![given("a", &[0xff, 0xfe]), json!({"recordId": "b", "data": "not base64"})];
    let payload = json!({"records": records}).to_string();
    let (_, counts) = transform(&payload, HighestRate::new(190).unwrap(), FIRST_DAY).unwrap();
    assert_eq!(counts, Counts { taken: 0, refused: 2 });
}

#[test]
fn an_event_of_another_kind_is_told_without_being_quoted() {
    let error =
        transform("{\"Records\": [{\"secret\": 1}]}", HighestRate::new(190).unwrap(), FIRST_DAY).unwrap_err();
    assert!(error.to_string().contains("not a batch of a Firehose delivery"));
    assert!(!error.to_string().contains("secret"));
}
