//! The store under the power cuts: the real queue, filled by `work` and opened again by `open`.
//!
//! All that the power cuts ask of the queue's code is here; they judge what it prints. Each line is JSON.
//! `work` writes what it is about to do, and what it was told, to the recorder's marks: a line there
//! stands between the writes of the disk that came before it and those that came after.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use hr_gateway::config::{DrainOrder, WhenFull};
use hr_gateway::control::{self, QueueRequest};
use hr_gateway::heart_rate::{HeartRateMeasurement, RrInterval};
use hr_gateway::queue::ReadingQueue;
use hr_gateway::queue::capacity::Capacity;
use hr_gateway::queue::durable::{DurableQueue, Opened};
use hr_gateway::queue::handle::Handle;
use hr_gateway::queue::rescued::Rescuer;
use hr_gateway::queue::segment::SegmentCodec;
use hr_gateway::queue::sequence_set::SequenceSet;
use hr_gateway::queue::witness::Finding;
use hr_gateway::reading::{Body, BootId, Content, Item, Moment, Observation};
use hr_gateway::wire;
use serde_json::{Value, json};

const UNBOUNDED: Capacity =
    Capacity { items_max: u64::MAX, disk_headroom: 0, when_full: WhenFull::DropOldest };
/// Most readings of one append; an outage's end brings as many at once.
const GROUP_MAX: u64 = 40;
/// Serial numbers of readings that `open` appends: `work` never comes so far.
const AFTERWARDS: std::ops::Range<u64> = 60_000..60_003;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["open", folder] => open_again(Path::new(folder)),
        ["work", folder, marks, first, appends] => {
            let marks = File::options().write(true).open(marks).expect("the recorder's marks are there");
            let (first, appends) = (first.parse().expect("a serial"), appends.parse().expect("a number"));
            work(Path::new(folder), marks, first, appends);
        }
        _ => panic!("store open FOLDER | store work FOLDER MARKS FIRST_SERIAL APPENDS"),
    }
}

fn open(folder: &Path) -> DurableQueue {
    let gateway = "evidence".parse().expect("a name");
    let Opened { queue, set_aside, finding, .. } =
        DurableQueue::open(folder, UNBOUNDED, SegmentCodec::default(), &gateway)
            .unwrap_or_else(|error| panic!("the store does not open: {error:?}"));
    // A cut that loses only what was not flushed is no damage, and the witness may not cry wolf.
    if set_aside.is_some() || finding != Finding::Sound {
        say(&json!({ "set_aside": format!("{set_aside:?} {finding:?}") }));
    }
    queue
}

fn say(line: &Value) {
    println!("{line}");
}

/// What the store holds, and what it holds after three more readings.
fn open_again(folder: &Path) {
    let queue = Handle::in_place(Box::new(open(folder)));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        report(&queue).await;
        let afterwards = AFTERWARDS.map(reading).collect();
        queue.append(afterwards).await.expect("an append after the power is back");
        say(&json!("appended"));
        report(&queue).await;
    });
}

async fn report(queue: &Handle) {
    let rescuer = Rescuer { codec: SegmentCodec::default(), gateway: "evidence".parse().expect("a name") };
    for request in [QueueRequest::Status, QueueRequest::Export, QueueRequest::DeadLetters] {
        let (sender, mut replies) = tokio::sync::mpsc::channel(64);
        let answer = async {
            let answer = control::execute(queue, &rescuer, &request, &sender).await;
            drop(sender);
            answer
        };
        let pass_on = async {
            while let Some(reply) = replies.recv().await {
                say(&serde_json::to_value(reply).expect("a reply is JSON"));
            }
        };
        let (answer, ()) = tokio::join!(answer, pass_on);
        answer.unwrap_or_else(|error| panic!("{request:?}: {error:?}"));
    }
}

/// Reading number `serial`, which it carries as its Energy Expended.
fn reading(serial: u64) -> Observation {
    let boottime_ms = 1_000_000 + serial * 1_000;
    Observation {
        sensor: ["strap", "watch"][serial as usize % 2].parse().expect("a name"),
        taken: Moment {
            boot: BootId(7),
            boottime_ms,
            wall_ms: 1_752_599_433_123 + boottime_ms as i64,
            synchronized: true,
        },
        starts_session: serial.is_multiple_of(500),
        content: Content::Body(Body::Measurement(
            HeartRateMeasurement {
                heart_rate: 40 + (serial % 180) as u16,
                sensor_contact: Some(true),
                energy_expended_kj: Some(serial as u16),
                rr_intervals: vec![RrInterval(600 + (serial % 700) as u16)],
            }
            .into(),
        )),
    }
}

/// Appends, delivers, refuses and takes back, as a gateway on a bad day.
fn work(folder: &Path, mut marks: File, mut serial: u64, appends: u64) {
    let queue = open(folder);
    let mut random = fastrand::Rng::with_seed(serial);
    let mut mark =
        |line: Value| marks.write_all(format!("{line}\n").as_bytes()).expect("the recorder listens");
    for _ in 0..appends {
        let group = if random.u8(..) < 128 { 1 } else { random.u64(1..=GROUP_MAX) };
        let serials = serial..serial + group;
        serial += group;
        let readings: Vec<_> = serials.clone().map(reading).collect();
        mark(json!({ "offered": readings.iter().map(content).collect::<Vec<_>>() }));
        queue.append(&readings).expect("an append");
        mark(json!({ "acknowledged": serials.collect::<Vec<_>>() }));
        match random.u8(..) {
            0..70 => {
                let oldest = oldest(&queue, random.usize(1..150));
                mark(json!({ "delivered": lines(&queue, &oldest) }));
                queue.remove(&sequences(&oldest)).expect("a removal");
            }
            70..80 => {
                let oldest = oldest(&queue, 2);
                mark(json!({ "refused": lines(&queue, &oldest) }));
                queue.dead_letter(&sequences(&oldest), "as the test wants it").expect("a dead letter");
            }
            80..84 => {
                let letters = queue.dead_letters(0, 3).expect("the dead letters");
                let sequences = letters.iter().map(|letter| letter.item.sequence).collect();
                queue.requeue(&sequences).expect("dead letters back");
            }
            _ => {}
        }
    }
}

/// What of a reading must come out as it went in.
fn content(observation: &Observation) -> Value {
    let Content::Body(Body::Measurement(measurement)) = &observation.content else { return Value::Null };
    json!({
        "sensor_id": observation.sensor.as_str(),
        "heart_rate": measurement.values.heart_rate,
        "energy_expended_kj": measurement.values.energy_expended_kj,
        "rr_intervals_ms": measurement.values.rr_intervals.iter().map(|rr| rr.as_ms()).collect::<Vec<_>>(),
    })
}

fn oldest(queue: &DurableQueue, items_max: usize) -> Vec<Item> {
    queue.peek(DrainOrder::OldestFirst, &SequenceSet::default(), items_max).expect("the oldest items")
}

fn sequences(items: &[Item]) -> SequenceSet {
    items.iter().map(|item| item.sequence).collect()
}

/// As a sink would be given them.
fn lines(queue: &DurableQueue, items: &[Item]) -> Vec<String> {
    let envelope = queue.envelope();
    let line = |item: &Item| {
        let mut line = Vec::new();
        wire::write_line(item, &envelope, &mut line);
        String::from_utf8(line).expect("NDJSON is text")
    };
    items.iter().map(line).collect()
}
