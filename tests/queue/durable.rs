//! What only a store on disk can show: reopening, damage, keys, versions.

use std::path::Path;

use hr_gateway::clock::Anchor;
use hr_gateway::config::DrainOrder;
use hr_gateway::queue::capacity::Capacity;
use hr_gateway::queue::durable::{DurableQueue, Opened};
use hr_gateway::queue::folder::{Folder, set_aside};
use hr_gateway::queue::segment::SegmentCodec;
use hr_gateway::queue::sequence_set::SequenceSet;
use hr_gateway::queue::{QueueError, ReadingQueue, status};
use hr_gateway::reading::{BootId, Epoch};

use crate::support::draining::{UNBOUNDED, gateway, on_thread};
use crate::support::reading;

fn open_with(path: &Path, codec: SegmentCodec) -> Result<Opened, QueueError> {
    DurableQueue::open(path, UNBOUNDED, codec, &gateway())
}

fn open(path: &Path) -> DurableQueue {
    open_with(path, SegmentCodec::default()).unwrap().queue
}

fn epoch(queue: &DurableQueue) -> Epoch {
    queue.envelope().origins.newest().epoch
}

fn fill(queue: &DurableQueue, count: u64) {
    (0..count).for_each(|second| _ = queue.append(&[reading("a", second)]).unwrap());
}

#[test]
fn a_reopened_store_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let anchor = Anchor { boot: BootId(9), offset_ms: 77, boottime_ms: 5 };
    let (epoch, ledger) = {
        let queue = open(folder.path());
        fill(&queue, 1_234);
        queue.remove(&SequenceSet::from_iter(1..=1_000)).unwrap();
        queue.add_anchor(anchor).unwrap();
        (queue.envelope().origins.of(1_001).epoch, queue.ledger())
    };
    let queue = open(folder.path());
    let envelope = queue.envelope();
    assert_eq!((queue.ledger(), envelope.anchors), (ledger, vec![anchor]));
    assert_eq!(envelope.origins.of(1_234).epoch, epoch, "what is queued keeps its ids");
    assert_ne!(envelope.origins.of(1_235).epoch, epoch, "what comes gets others");
    queue.append(&[reading("a", 5_000)]).unwrap();
    let items = queue.peek(DrainOrder::OldestFirst, &SequenceSet::default(), usize::MAX).unwrap();
    assert_eq!(items.first().unwrap().sequence, 1_001);
    assert_eq!(items.last().unwrap().sequence, 1_235);
    assert!(status(&queue).unwrap().balances);
}

#[test]
fn a_wiped_store_has_another_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let first = epoch(&open(folder.path()));
    std::fs::remove_dir_all(folder.path()).unwrap();
    assert_ne!(epoch(&open(folder.path())), first);
}

#[test]
fn a_store_in_use_says_so_and_stays_whole() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let refused = open_with(folder.path(), SegmentCodec::default()).err().unwrap();
    assert!(matches!(refused, QueueError::InUse(_)), "{refused}");
    fill(&queue, 3);
    drop(queue);
    // Also while another process only looks whether it is damaged.
    let folder = Folder::take(folder.path()).unwrap();
    let refused = open_with(folder.path(), SegmentCodec::default()).err().unwrap();
    assert!(matches!(refused, QueueError::InUse(_)), "{refused}");
}

#[test]
fn a_damaged_store_behind_a_link_is_set_aside_on_its_own_disk() {
    let parent = tempfile::tempdir().unwrap();
    let [disk, link] = ["disk", "queue"].map(|name| parent.path().join(name));
    std::fs::create_dir(&disk).unwrap();
    std::os::unix::fs::symlink(disk.join("queue"), &link).unwrap();
    std::fs::create_dir(disk.join("queue")).unwrap();
    fill(&open(&link), 50);
    std::fs::write(link.join("hr-gatewayd.damaged"), "").unwrap();
    let aside = open_with(&link, SegmentCodec::default()).unwrap().set_aside.unwrap();
    assert_eq!(aside.path.parent(), Some(&*disk.canonicalize().unwrap()));
    assert!(link.is_symlink());
    assert_eq!(set_aside(&link).unwrap(), [aside.path]);
}

#[test]
fn a_damaged_store_is_set_aside_whole_and_a_new_one_begins() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("queue");
    let before = {
        let queue = open(&path);
        fill(&queue, 50);
        epoch(&queue)
    };
    std::fs::write(path.join("db"), vec![0; 600_000]).unwrap();
    let opened = open_with(&path, SegmentCodec::default()).unwrap();
    let aside = opened.set_aside.expect("the damage is seen").path;
    assert!(aside.join("db").exists(), "{}", aside.display());
    assert_ne!(epoch(&opened.queue), before);
    assert_eq!(opened.queue.missing().count(), 50, "the witness knows what was in it");
    fill(&opened.queue, 3);
}

#[test]
fn damaged_parameters_of_an_intact_store_are_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    fill(&open(folder.path()), 50);
    // As a power cut once left them.
    std::fs::write(folder.path().join("conf"), [0; 62]).unwrap();
    let opened = open_with(folder.path(), SegmentCodec::default()).unwrap();
    assert_eq!(opened.set_aside, None);
    assert_eq!(opened.queue.depth(), 50);
}

#[test]
fn an_encrypted_store_opens_with_its_key_only_and_shows_no_reading() {
    let folder = tempfile::tempdir().unwrap();
    let key = SegmentCodec::encrypted(&[5; 32]);
    {
        let queue = open_with(folder.path(), key.clone()).unwrap().queue;
        fill(&queue, 700);
    }
    for wrong in [SegmentCodec::default(), SegmentCodec::encrypted(&[6; 32])] {
        let error = open_with(folder.path(), wrong).err().unwrap();
        assert!(error.needs_configuration(), "{error}");
    }
    let queue = open_with(folder.path(), key).unwrap().queue;
    let items = queue.peek(DrainOrder::OldestFirst, &SequenceSet::default(), usize::MAX).unwrap();
    assert_eq!(items.len(), 700);
}

#[test]
fn nobody_else_on_the_machine_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue");
    drop(open(&path));
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o077, 0);
}

#[test]
fn another_key_is_looked_for_beside_the_appends() {
    const READINGS: u64 = 200_000;
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let observations: Vec<_> = (0..READINGS).map(|second| reading("a", second)).collect();
    observations.chunks(5_000).for_each(|chunk| _ = queue.append(chunk).unwrap());
    let handle = on_thread(queue);
    let (former, key) = (SegmentCodec::encrypted(&[4; 32]), SegmentCodec::encrypted(&[5; 32]));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let looking = tokio::spawn({
            let (handle, key) = (handle.clone(), key.clone());
            async move { handle.opens_with(key).await }
        });
        tokio::task::yield_now().await;
        let appended = handle.append(vec![reading("a", READINGS)]).await.unwrap();
        assert_eq!(appended.queued, 1);
        assert!(!looking.is_finished(), "the append came in between");
        looking.await.unwrap().unwrap();
    });
    runtime.block_on(handle.reconfigure(UNBOUNDED, key, gateway())).unwrap();

    runtime.block_on(handle.append(vec![reading("a", READINGS + 1)])).unwrap();
    let refused = runtime.block_on(handle.reconfigure(UNBOUNDED, former, gateway())).err().unwrap();
    assert!(matches!(refused, QueueError::Segment { sequence, .. } if sequence > READINGS), "{refused}");
}

#[test]
fn what_came_after_a_look_under_the_key_in_use_keeps_another_key_away() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open_with(folder.path(), SegmentCodec::encrypted(&[4; 32])).unwrap().queue;
    let key = SegmentCodec::encrypted(&[5; 32]);
    queue.opens_with(&key).unwrap();
    fill(&queue, 1);
    let name = "another".parse().unwrap();
    let bounds = Capacity { items_max: 1, ..UNBOUNDED };
    assert!(matches!(queue.reconfigure(bounds, key, &name), Err(QueueError::Segment { .. })));
    assert_eq!(queue.envelope().origins.newest().gateway, gateway(), "nothing of it was done");
    fill(&queue, 1);
    assert_eq!(queue.depth(), 2);
}
