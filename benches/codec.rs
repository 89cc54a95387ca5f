//! Per reading: parse, wire line, segment. And durable appends by group size.
//!
//! `cargo bench --bench codec`

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use hr_gateway::heart_rate::{HeartRateMeasurement, RrInterval};
use hr_gateway::queue::ReadingQueue;
use hr_gateway::queue::segment::SegmentCodec;
use hr_gateway::reading::{Body, Epoch, Item};
use hr_gateway::wire::LineWriter;
use support::draining::open;
use support::{measurement, moment, reading, sensor};

fn item(sequence: u64) -> Item {
    let rr_intervals = vec![RrInterval(850), RrInterval(861)];
    let body = Body::Measurement(HeartRateMeasurement { rr_intervals, ..measurement(72) }.into());
    Item { sequence, sensor: sensor("adi-forerunner"), session: 1, taken: moment(sequence), body }
}

fn per_reading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("per reading");
    let payload = HeartRateMeasurement { rr_intervals: vec![RrInterval(850); 2], ..measurement(72) }.encode();
    group.bench_function("parse", |b| b.iter(|| HeartRateMeasurement::parse(black_box(&payload))));
    let envelope = support::envelope("living-room", Epoch(1));
    let one = item(48_151);
    // As the drainer does: one after the other.
    let (mut lines, mut line) = (LineWriter::new(&envelope), Vec::with_capacity(512));
    group.bench_function("wire line", |b| {
        b.iter(|| {
            line.clear();
            lines.write(black_box(&one), &mut line);
        });
    });
    let items: Vec<Item> = (1..=500).map(item).collect();
    let codec = SegmentCodec::default();
    let sealed = SegmentCodec::encrypted(&[1; 32]);
    group.throughput(Throughput::Elements(500));
    for (name, codec) in [("", &codec), (" encrypted", &sealed)] {
        let value = codec.encode(b"key", &items);
        let encode = format!("500 into a segment{name}");
        group.bench_function(encode, |b| b.iter(|| codec.encode(b"key", black_box(&items))));
        let decode = format!("500 out of a segment{name}");
        group.bench_function(decode, |b| b.iter(|| codec.decode(b"key", black_box(&value)).unwrap()));
    }
    group.finish();
}

fn bytes_written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").expect("Linux tells what a process wrote");
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).unwrap_or(0)
}

fn durable_appends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("durable append");
    group.sample_size(20).measurement_time(Duration::from_secs(4));
    for size in [1, 10, 30, 100, 1_000] {
        let folder = tempfile::tempdir().unwrap();
        let queue = open(folder.path());
        let batch: Vec<_> = (0..size).map(|second| reading("adi-forerunner", second)).collect();
        let (before, mut appended) = (bytes_written(), 0);
        group.throughput(Throughput::Elements(size));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                queue.append(&batch).unwrap();
                appended += size;
            });
        });
        let each = (bytes_written() - before) as f64 / appended as f64;
        println!("durable append/{size}: {each:.0} bytes written per reading, of {appended}");
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    per_reading(&mut criterion);
    durable_appends(&mut criterion);
    criterion.final_summary();
}
