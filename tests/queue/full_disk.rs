//! A disk with no space left, or no inodes, when the gateway starts: what is queued still leaves.
//!
//! In a mount namespace of its own, on a small file system in memory: this binary, executed again.

use std::path::{Path, PathBuf};
use std::process::Command;

use hr_gateway::config::{DrainOrder, WhenFull};
use hr_gateway::queue::capacity::Capacity;
use hr_gateway::queue::durable::{DurableQueue, Opened};
use hr_gateway::queue::segment::SegmentCodec;
use hr_gateway::queue::sequence_set::SequenceSet;
use hr_gateway::queue::{ReadingQueue, status};

use crate::support::draining::gateway;
use crate::support::reading;

const FOLDER: &str = "HR_FULL_DISK_FOLDER";
const HEADROOM: Capacity =
    Capacity { items_max: 1_000_000, disk_headroom: 40 << 20, when_full: WhenFull::DropOldest };
const READINGS: u64 = 4_940;

fn open(folder: &Path) -> Opened {
    DurableQueue::open(folder, HEADROOM, SegmentCodec::default(), &gateway()).unwrap()
}

/// What the child does on its small disk.
#[test]
fn child() {
    let Some(disk) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let folder = disk.join("queue");
    let queue = open(&folder).queue;
    for first in (0..READINGS).step_by(20) {
        let batch: Vec<_> = (first..first + 20).map(|n| reading("a", n)).collect();
        queue.append(&batch).unwrap();
    }
    queue.close().unwrap();
    drop(queue);
    let ballast = disk.join("ballast");
    std::fs::create_dir(&ballast).unwrap();
    // To the last byte, or to the last inode, whichever this disk has less of.
    for n in 0.. {
        if std::fs::write(ballast.join(format!("{n}")), vec![7; 64 << 10]).is_err() {
            break;
        }
    }
    let opened = open(&folder);
    assert!(opened.reserve_given_up);
    let queue = opened.queue;
    let appended = queue.append(&[reading("a", READINGS)]).unwrap();
    // Without inodes alone there is room for it.
    assert_eq!(appended.queued + appended.evicted, 1, "it is taken, or counted");
    assert_eq!(appended.evicted == 1, appended.disk_low);
    while queue.depth() > 0 {
        let items = queue.peek(DrainOrder::OldestFirst, &SequenceSet::default(), 500).unwrap();
        queue.remove(&items.iter().map(|item| item.sequence).collect()).unwrap();
    }
    queue.sync().unwrap();

    std::fs::remove_dir_all(ballast).unwrap();
    queue.append(&[reading("a", READINGS + 1)]).unwrap();
    let status = status(&queue).unwrap();
    assert!(status.balances);
    let readings = status.totals.readings;
    assert_eq!((readings.received, readings.evicted), (READINGS + 2, appended.evicted));
    assert_eq!(readings.delivered, READINGS + appended.queued);
    drop(queue);
    assert!(!open(&folder).reserve_given_up, "there is room again, and a new reserve");
}

#[test]
fn a_full_disk_at_the_start_does_not_keep_what_is_queued_from_leaving() {
    for options in ["size=120m", "size=400m,nr_inodes=40"] {
        let disk = tempfile::tempdir().unwrap();
        let mount = format!("mount -t tmpfs -o {options} none \"$0\" && exec \"$@\"");
        let child = Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", &mount])
            .arg(disk.path())
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "full_disk::child", "--nocapture"])
            .env(FOLDER, disk.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stderr);
        let passed = String::from_utf8_lossy(&child.stdout).contains("1 passed");
        assert!(child.status.success() && passed, "{options}: {said}");
    }
}
