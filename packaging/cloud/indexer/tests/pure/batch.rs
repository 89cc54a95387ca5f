//! Payload → records → lines → documents.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hr_indexer::event::{Batch, NotKinesis};
use hr_indexer::index::{Minute, Retention};
use hr_indexer::intake::{Intake, RECORD_LINES_MAX};
use hr_indexer::line::{Poison, Reading, time_ms};
use proptest::prelude::*;

use crate::line;

const TAKEN_MS: i64 = 1_752_599_433_123; // 2025-07-15T17:10:33.123Z

fn payload(records: &[&[u8]]) -> String {
    let records: Vec<String> = records
        .iter()
        .enumerate()
        .map(|(number, data)| {
            format!(
                r#"{{"kinesis":{{"sequenceNumber":"{number}","data":"{}"}},"eventSource":"aws:kinesis","eventID":"shardId-7:{number}"}}"#,
                STANDARD.encode(data)
            )
        })
        .collect();
    format!(r#"{{"Records":[{}]}}"#, records.join(","))
}

fn intake(records: &[&[u8]]) -> Intake {
    Intake::of(&Batch::parse(&payload(records)).unwrap())
}

fn poison(from: &str, to: &str) -> Poison {
    let line = line("forerunner", 1, TAKEN_MS, &[]);
    assert!(line.contains(from), "{line}");
    Reading::parse(&line.replace(from, to)).unwrap_err()
}

#[test]
fn a_document_is_the_wire_record_and_when_it_came() {
    let reading = Reading::parse(&line("forerunner", 1, TAKEN_MS, &[833.0078125])).unwrap();
    assert_eq!(
        String::from_utf8(reading.document(TAKEN_MS + 1_500)).unwrap(),
        "{\"timestamp\":\"2025-07-15T17:10:33.123Z\",\"heart_rate\":61,\"reading_id\":\"00000000000000aa-1\",\
         \"gateway_id\":\"living-room\",\"sensor_id\":\"forerunner\",\"session_id\":\"00000000000000aa-s0\",\
         \"sequence\":1,\"rr_intervals_ms\":[833.0078125],\"clock\":\"synchronized\",\"schema_version\":1,\
         \"indexed_at\":\"2025-07-15T17:10:34.623Z\",\"lag_ms\":1500}"
    );
}

#[test]
fn a_field_of_a_newer_gateway_is_kept() {
    let line =
        line("forerunner", 1, TAKEN_MS, &[]).replace("\"clock\"", "\"skin_temperature_c\":33.5,\"clock\"");
    let document =
        String::from_utf8(Reading::parse(&format!(" {line}\r")).unwrap().document(TAKEN_MS)).unwrap();
    assert!(document.contains("\"skin_temperature_c\":33.5,\"clock\""), "{document}");
    assert!(
        document.ends_with("\"lag_ms\":0}") && serde_json::from_str::<serde_json::Value>(&document).is_ok()
    );
}

#[test]
fn objects_side_by_side_are_as_many_lines_and_what_is_no_json_is_one() {
    let [one, two, three] = [1, 2, 3].map(|n| line("forerunner", n, TAKEN_MS, &[]).trim_end().to_owned());
    let record = format!("{one}{two}\n{three}{{oops{one}\r\n\n");
    let intake = Intake::of(&Batch::parse(&payload(&[record.as_bytes()])).unwrap());
    let ids: Vec<_> =
        intake.readings.iter().map(|placed| (placed.line, placed.reading.record.sequence)).collect();
    assert_eq!(ids, [(1, 1), (1, 2), (2, 3)]);
    assert_eq!(
        intake.set_aside.iter().map(|aside| (aside.line, aside.lines)).collect::<Vec<_>>(),
        [(Some(2), 1)]
    );
    assert_eq!(intake.lines, 4);
}

#[test]
fn each_fault_of_a_line_has_its_name() {
    let list = r#"["2025-07-15T17:10:33.123Z",61,"a-1","g","s","a-s0",1,null,null,[],null,null,null,null,null,null,null,null,null,null,null,null,null,null,null,"synchronized",1]"#;
    assert_eq!(Reading::parse(list), Err(Poison::NotWireRecord));
    assert_eq!(poison("00000000000000aa-s0", &"a".repeat(513)), Poison::TooLong);
    assert_eq!(Reading::parse("{"), Err(Poison::NotJson));
    assert_eq!(Reading::parse("{}"), Err(Poison::NotWireRecord));
    assert_eq!(poison("\"heart_rate\":61", "\"heart_rate\":-1"), Poison::NotWireRecord);
    assert_eq!(poison("\"schema_version\":1", "\"schema_version\":2"), Poison::SchemaVersion);
    assert_eq!(poison("00000000000000aa-1", ""), Poison::ReadingId);
    assert_eq!(poison("00000000000000aa-1", &"a".repeat(513)), Poison::ReadingId);
    assert_eq!(poison("forerunner", "für Elise"), Poison::Name);
    assert_eq!(poison("17:10:33.123Z", "17:10:33Z"), Poison::Time("timestamp"));
    assert_eq!(poison("17:10:33.123Z", "17:10:60.123Z"), Poison::Time("timestamp"));
    assert_eq!(poison("\"heart_rate\":61,", ""), Poison::Kind);
    let gap =
        r#""gap_reason":"link_down","gap_start":"2025-07-15T17:10:30.000Z","gap_end":"soon","sequence""#;
    assert_eq!(poison("\"sequence\"", gap), Poison::Kind);
    let line =
        line("forerunner", 1, TAKEN_MS, &[]).replace("\"heart_rate\":61,", "").replace("\"sequence\"", gap);
    assert_eq!(Reading::parse(&line), Err(Poison::Time("gap_end")));
    let gap = line.replace("soon", "2025-07-15T17:10:33.123Z");
    assert!(Reading::parse(&gap).is_ok());
    let state = "\"record\":\"sensor_state\",\"battery_percent\":87,\"sequence\"";
    assert_eq!(poison("\"sequence\"", state), Poison::Kind);
    assert_eq!(Reading::parse(&gap.replace("\"sequence\"", state)), Err(Poison::Kind));
}

#[test]
fn a_sensor_state_record_is_a_document_too() {
    let state = "\"record\":\"sensor_state\",\"battery_percent\":87,\"sequence\"";
    let line =
        line("forerunner", 1, TAKEN_MS, &[]).replace("\"heart_rate\":61,", "").replace("\"sequence\"", state);
    let document = Reading::parse(&line).unwrap().document(TAKEN_MS);
    let document = String::from_utf8(document).unwrap();
    assert!(document.contains("\"record\":\"sensor_state\",\"battery_percent\":87"), "{document}");
}

#[test]
fn what_is_wrong_with_a_line_is_told_without_the_line() {
    for told in [poison("forerunner", "für Elise"), poison(":61", ":\"61 bpm\"")] {
        assert!(!told.to_string().contains("Elise") && !told.to_string().contains("61"), "{told}");
    }
}

#[test]
fn a_payload_from_elsewhere_is_refused() {
    for payload in ["", "{}", "[]", "\"a\"", "{\"Records\":[{}]}"] {
        assert!(matches!(Batch::parse(payload), Err(NotKinesis::Shape { .. })), "{payload}");
    }
    let foreign = payload(&[b"a", b"b"]).replacen(
        "aws:kinesis\",\"eventID\":\"shardId-7:1",
        "aws:sqs\",\"eventID\":\"1",
        1,
    );
    assert_eq!(Batch::parse(&foreign).unwrap_err(), NotKinesis::Source(1));
}

#[test]
fn a_window_says_whether_it_closes_and_a_batch_without_one_knows_its_shard() {
    let plain = payload(&[b"a"]);
    let batch = Batch::parse(&plain).unwrap();
    assert!(batch.window.is_none() && batch.shard == "shardId-7");
    for (fields, closes) in [
        ("\"isFinalInvokeForWindow\":false", false),
        ("\"isFinalInvokeForWindow\":true", true),
        ("\"isWindowTerminatedEarly\":true", true),
    ] {
        let windowed = plain.replacen('{', &format!("{{\"window\":{{}},\"state\":{{\"a\":1}},{fields},"), 1);
        let window = Batch::parse(&windowed).unwrap().window.unwrap();
        assert_eq!((window.closes, window.state.map(|state| state.get())), (closes, Some("{\"a\":1}")));
    }
}

#[test]
fn lines_keep_their_numbers_over_empty_and_poisoned_ones() {
    let text = format!("\n{}\r\n\n{{\n{}", line("a", 1, TAKEN_MS, &[]), line("a", 2, TAKEN_MS, &[]));
    let intake = intake(&[b"\xff", text.as_bytes()]);
    let places: Vec<_> = intake.readings.iter().map(|placed| (placed.record, placed.line)).collect();
    let aside: Vec<_> = intake.set_aside.iter().map(|aside| (aside.record, aside.line)).collect();
    assert_eq!((places, aside), (vec![(1, 2), (1, 5)], vec![(0, None), (1, Some(4))]));
    assert_eq!(intake.lines, 4);
}

#[test]
fn a_record_gives_its_first_500_lines_and_empty_ones_do_not_count() {
    let mut text = String::from("\n\n");
    (0..RECORD_LINES_MAX as u64 + 3)
        .for_each(|sequence| text += &(line("a", sequence, TAKEN_MS, &[]) + "\n\n"));
    let intake = intake(&[text.as_bytes()]);
    assert_eq!((intake.readings.len(), intake.set_aside.len(), intake.set_aside[0].lines), (500, 1, 3));
    assert_eq!((intake.set_aside[0].line, intake.lines), (Some(1003), 503));
}

#[test]
fn the_last_copy_stays_in_its_place() {
    let line = |sequence| line("a", sequence, TAKEN_MS, &[]) + "\n";
    let intake = intake(&[(line(1) + &line(2)).as_bytes(), (line(3) + &line(1)).as_bytes()]);
    let places: Vec<_> = intake.readings.iter().map(|placed| (placed.record, placed.line)).collect();
    assert_eq!((places, intake.repeated, intake.lines), (vec![(0, 2), (1, 1), (1, 2)], 1, 4));
}

proptest! {
    #[test]
    fn whatever_a_record_holds_each_line_is_counted_once(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        let intake = intake(&[&data]);
        let aside: usize = intake.set_aside.iter().map(|aside| aside.lines).sum();
        prop_assert_eq!(intake.lines, aside + intake.readings.len() + intake.repeated);
    }

    #[test]
    fn a_time_is_read_back_and_lies_in_its_minute(ms in -62_167_219_200_000i64..253_402_300_800_000) {
        prop_assert_eq!(time_ms(hr_gateway::wire::Timestamp::from_ms(ms).as_str()), Some(ms));
        let minute = Minute::of(ms);
        prop_assert!(minute.start_ms() <= ms && ms < minute.next().start_ms());
        let index = |ms| Retention { days: 400 }.readings_index(ms, 0);
        prop_assert_eq!(index(ms), index(minute.start_ms()));
    }
}
