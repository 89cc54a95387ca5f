//! What must hold for whatever bytes come from outside: over the air, from a disk, a file, a socket.
//!
//! Each target takes bytes as they come. libFuzzer looks for new ones (`tests/fuzz/src/main.rs`), and every
//! one it kept is a plain test (`tests/pure/corpus.rs`). Beyond not panicking, a target asserts that what
//! was understood can be written, and is then read as the same.

use hr_gateway::ble::recording;
use hr_gateway::clock::{Anchor, ClockQuality};
use hr_gateway::config::{Config, Layers, WhenFull};
use hr_gateway::control::{self, QueueRequest, Reply};
use hr_gateway::heart_rate::{HeartRateMeasurement, RrInterval};
use hr_gateway::queue::ReadingQueue;
use hr_gateway::queue::capacity::Capacity;
use hr_gateway::queue::handle::Handle;
use hr_gateway::queue::model::ModelQueue;
use hr_gateway::queue::rescued::Rescuer;
use hr_gateway::queue::segment::SegmentCodec;
use hr_gateway::reading::{Body, BootId, Content, Epoch, Moment, Observation, Origin, Origins};
use hr_gateway::wire::{self, Envelope, WireRecord};
use std::path::Path;

/// One of them.
pub type Target = fn(&[u8]);

/// By name, which is also the name of its folder of `tests/fuzz/corpus`.
pub const TARGETS: [(&str, Target); 6] = [
    ("notification", notification),
    ("segment", segment),
    ("configuration", configuration),
    ("recording", replayed_recording),
    ("wire", wire_record),
    ("control", control_protocol),
];

const UNBOUNDED: Capacity =
    Capacity { items_max: u64::MAX, disk_headroom: 0, when_full: WhenFull::DropOldest };
/// As in `tests/vectors/`.
const SEGMENT_KEY: &[u8] = b"q\0\0\0\0\0\0\0\x01";
const SEGMENT_SECRET: [u8; 32] = [0x2a; 32];

fn notification(payload: &[u8]) {
    let Ok(measurement) = HeartRateMeasurement::parse(payload) else { return };
    let again = HeartRateMeasurement::parse(&measurement.encode());
    assert_eq!(again.as_ref(), Ok(&measurement), "what was sent again is the same");
}

fn segment(value: &[u8]) {
    for codec in [SegmentCodec::default(), SegmentCodec::encrypted(&SEGMENT_SECRET)] {
        let Ok(items) = codec.decode(SEGMENT_KEY, value) else { continue };
        let again = codec.decode(SEGMENT_KEY, &codec.encode(SEGMENT_KEY, &items));
        assert_eq!(again.as_ref(), Ok(&items), "what was stored again is the same");
        let anchors = vec![Anchor { boot: BootId(0), offset_ms: i64::MAX, boottime_ms: u64::MAX }];
        let envelope = Envelope { anchors, ..envelope() };
        let mut lines = Vec::new();
        items.iter().for_each(|item| wire::write_line(item, &envelope, &mut lines));
        assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), items.len(), "each has one line");
        lines.split_inclusive(|byte| *byte == b'\n').for_each(same_line);
    }
}

fn configuration(text: &[u8]) {
    let file = on_disk(text);
    let Ok(layers) = Layers::read(file.path(), true) else { return };
    let Ok(validated) = layers.config() else { return };
    let config = validated.config();
    let shown = serde_json::to_value(config).expect("a configuration can be shown");
    for section in shown.as_object().expect("it has sections").keys() {
        assert!(!layers.origin(section).is_empty(), "each section comes from somewhere");
    }
    let again: Config = serde_json::from_value(shown).expect("what is shown can be written");
    assert_eq!(again, *config, "what is shown is what holds");
}

fn replayed_recording(text: &[u8]) {
    let Ok(points) = recording::read(on_disk(text).path()) else { return };
    for point in points {
        let sent = HeartRateMeasurement::parse(&point.measurement.encode());
        assert_eq!(sent.as_ref(), Ok(&point.measurement), "what is replayed arrives");
    }
}

fn wire_record(line: &[u8]) {
    let Ok(mut record) = serde_json::from_slice::<WireRecord<'_>>(line) else { return };
    // JSON's reader may miss the last bit of any double; of those that a sensor can send it must not.
    record.rr_intervals_ms.retain(|ms| RrInterval::from_ms(*ms).is_some_and(|rr| rr.as_ms() == *ms));
    // Written as this program writes it: from then on nothing changes any more.
    same_line(&line_of(&record));
}

fn line_of(record: &WireRecord<'_>) -> Vec<u8> {
    let mut line = serde_json::to_vec(record).expect("plain fields");
    line.push(b'\n');
    line
}

/// A line of ours is read, and written again byte for byte.
fn same_line(line: &[u8]) {
    let record: WireRecord<'_> = serde_json::from_slice(line).expect("a line of ours is read");
    assert!(matches!(
        record.clock,
        ClockQuality::Synchronized | ClockQuality::Corrected | ClockQuality::Unsynchronized
    ));
    let again = line_of(&record);
    assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(line), "a line does not change");
    assert_eq!(
        line.iter().position(|byte| *byte == b'\n'),
        Some(line.len() - 1),
        "its end is its one newline"
    );
}

/// Requests, a line each, to a queue with items and dead letters.
fn control_protocol(lines: &[u8]) {
    let queue = ModelQueue::new(UNBOUNDED, "living-room".parse().expect("a name"), Epoch(7));
    queue.append(&(0..9).map(observation).collect::<Vec<_>>()).expect("the model takes all");
    queue.dead_letter(&[2, 3, 5].into_iter().collect(), "refused").expect("the model does as told");
    let queue = Handle::in_place(Box::new(queue));
    let rescuer = Rescuer { codec: SegmentCodec::default(), gateway: "living-room".parse().expect("a name") };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for line in lines.split(|byte| *byte == b'\n') {
        let Ok(request) = serde_json::from_slice::<QueueRequest>(line) else { continue };
        let sent = serde_json::to_vec(&request).expect("a request is JSON");
        assert_eq!(serde_json::from_slice::<QueueRequest>(&sent).ok(), Some(request.clone()));
        if let QueueRequest::Recover(_) = request {
            // It would read whatever folder the bytes name.
            continue;
        }
        let (say, mut said) = tokio::sync::mpsc::channel(64);
        let hear = async {
            while let Some(reply) = said.recv().await {
                let sent = serde_json::to_vec(&reply).expect("a reply is JSON");
                assert_eq!(serde_json::from_slice::<Reply>(&sent).ok(), Some(reply), "a reply arrives");
            }
        };
        let answer = async {
            let answer = control::execute(&queue, &rescuer, &request, &say).await;
            drop(say);
            answer.expect("the model fails at nothing")
        };
        runtime.block_on(async { tokio::join!(answer, hear) });
        let status = runtime.block_on(queue.status()).expect("the model counts");
        assert!(status.balances, "after {request:?}");
    }
    let totals = runtime.block_on(queue.ledger()).totals().readings;
    assert_eq!(totals.received, 9, "nothing that is asked adds readings");
}

fn observation(second: u64) -> Observation {
    let measurement = HeartRateMeasurement {
        heart_rate: 72,
        sensor_contact: None,
        energy_expended_kj: None,
        rr_intervals: Vec::new(),
    };
    Observation {
        sensor: "strap".parse().expect("a name"),
        taken: Moment { boot: BootId(1), boottime_ms: second * 1000, wall_ms: 0, synchronized: true },
        starts_session: false,
        content: Content::Body(Body::Measurement(measurement.into())),
    }
}

fn envelope() -> Envelope {
    let gateway = "living-room".parse().expect("a name");
    let origin = Origin { first_sequence: 1, epoch: Epoch(7), gateway };
    Envelope { origins: Origins::new(vec![origin]).expect("one is there"), anchors: Vec::new() }
}

/// In memory, where it is there: millions are read.
fn on_disk(bytes: &[u8]) -> tempfile::NamedTempFile {
    let memory = Path::new("/dev/shm");
    let file = match memory.is_dir() {
        true => tempfile::NamedTempFile::new_in(memory),
        false => tempfile::NamedTempFile::new(),
    };
    let file = file.expect("a temporary file");
    std::fs::write(file.path(), bytes).expect("a temporary file takes bytes");
    file
}
