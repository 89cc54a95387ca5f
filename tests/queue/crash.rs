//! kill -9 during appends and removals, in a process of its own: this binary, executed again.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hr_gateway::config::DrainOrder;
use hr_gateway::queue::durable::DurableQueue;
use hr_gateway::queue::segment::SegmentCodec;
use hr_gateway::queue::sequence_set::SequenceSet;
use hr_gateway::queue::{ReadingQueue, status};

use crate::support::draining::{UNBOUNDED, gateway};
use crate::support::reading;

const FOLDER: &str = "HR_CRASH_FOLDER";
const ROUNDS: u64 = 12;

fn open(folder: &Path) -> DurableQueue {
    let opened = DurableQueue::open(folder, UNBOUNDED, SegmentCodec::default(), &gateway()).unwrap();
    assert!(opened.set_aside.is_none(), "the store is not damaged");
    opened.queue
}

/// What the child does: appends in groups of all sizes and removes some, until it is killed. It says
/// each last sequence that `append` returned for.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let queue = open(Path::new(&folder));
    let mut random = fastrand::Rng::new();
    let mut out = std::io::stdout();
    loop {
        let batch: Vec<_> = (0..random.u64(1..40)).map(|_| reading("a", random.u64(..1 << 30))).collect();
        queue.append(&batch).unwrap();
        let received = queue.ledger().totals().readings.received;
        writeln!(out, "appended {received}").unwrap();
        out.flush().unwrap();
        if random.u8(..) < 60 {
            let oldest = queue.peek(DrainOrder::OldestFirst, &SequenceSet::default(), 100).unwrap();
            queue.remove(&oldest.iter().map(|item| item.sequence).collect()).unwrap();
        }
    }
}

#[test]
fn what_append_returned_for_survives_kill_9_and_the_ledger_balances() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(20_261_121);
    let mut given = HashMap::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // libtest writes `test crash::child ... ` before the child's first line.
        let mut acknowledged =
            lines.filter_map(|line| line.ok()?.split("appended ").nth(1)?.parse::<u64>().ok());
        let first = acknowledged.next().expect("the child appends");
        let reader = std::thread::spawn(move || acknowledged.last());
        std::thread::sleep(Duration::from_millis(random.u64(0..200)));
        child.kill().unwrap();
        child.wait().unwrap();
        let acknowledged = reader.join().unwrap().unwrap_or(first);

        let queue = open(folder.path());
        let readings = queue.ledger().totals().readings;
        assert!(
            readings.received >= acknowledged,
            "round {round}: {acknowledged} acknowledged, {readings:?} there"
        );
        assert!(status(&queue).unwrap().balances, "round {round}");
        let items = queue.peek(DrainOrder::OldestFirst, &SequenceSet::default(), usize::MAX).unwrap();
        let sequences: Vec<u64> = items.iter().map(|item| item.sequence).collect();
        assert!(sequences.is_sorted_by(|a, b| b - a == 1), "round {round}: no hole inside the queue");
        queue.append(&[reading("a", round)]).unwrap();
        let last_sequence = readings.received + 1;
        let items = queue.peek(DrainOrder::OldestFirst, &SequenceSet::default(), usize::MAX).unwrap();
        assert_eq!(items.last().unwrap().sequence, last_sequence, "round {round}: the sequence goes on");
        let origins = queue.envelope().origins;
        for item in items {
            let id = (origins.of(item.sequence).epoch.0, item.sequence);
            let content = given.entry(id).or_insert_with(|| item.clone());
            assert_eq!(*content, item, "round {round}: no id is given twice");
        }
    }
}
