//! What tasks hold of a queue: its calls, asynchronously.
//!
//! A queue blocks as long as its disk does, and must not wait for anything but its disk. So it lives on a
//! thread of its own, which shares nothing with name lookups or other blocking work, and is reached only
//! through a [`Handle`]: that a task never blocks on it, and that whatever is put into it rings the bell
//! that the drainer waits for, is so by construction. Calls are carried out one after the other, in the
//! order in which they came, each within milliseconds; what takes longer is done in steps, or beside them.
//!
//! A caller that gives up changes nothing: its call is carried out all the same.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Notify, mpsc, oneshot};

use super::capacity::Capacity;
use super::ledger::Ledger;
use super::segment::SegmentCodec;
use super::sequence_set::SequenceSet;
use super::{Absorbable, Appended, DeadLetter, QueueError, ReadingQueue, Status};
use crate::blocking;
use crate::clock::Anchor;
use crate::config::DrainOrder;
use crate::reading::{GatewayId, Item, Observation};
use crate::wire::Envelope;

/// Calls that wait for the thread; who comes then waits to be let in.
const CALLS_MAX: usize = 64;

/// A queue on a thread of its own. Clones reach the same; the thread ends, and the queue is dropped, with
/// the last of them.
#[derive(Clone)]
pub struct Handle {
    place: Place,
    shared: Arc<Shared>,
}

#[derive(Clone)]
enum Place {
    Thread(mpsc::Sender<Call>, Weak<dyn ReadingQueue>),
    Here(Arc<Mutex<Box<dyn ReadingQueue>>>),
}

#[derive(Default)]
struct Shared {
    bell: Notify,
    depth: AtomicU64,
    /// An audit goes over several calls, and there is one at a time.
    audit: tokio::sync::Mutex<()>,
}

type Call = Box<dyn FnOnce(&dyn ReadingQueue) + Send>;

/// Why a queue is there as long as its handles.
const ENDS_LAST: &str = "the queue's thread ends before its handles only if it panicked, and said so";

impl Handle {
    /// Moves `queue` to a thread of its own.
    pub fn spawn(queue: Box<dyn ReadingQueue>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { depth: queue.depth().into(), ..Shared::default() });
        let (sender, mut calls) = mpsc::channel::<Call>(CALLS_MAX);
        let queue = Arc::<dyn ReadingQueue>::from(queue);
        let place = Place::Thread(sender, Arc::downgrade(&queue));
        std::thread::Builder::new().name("queue".into()).spawn(move || {
            while let Some(call) = calls.blocking_recv() {
                call(&*queue);
            }
        })?;
        Ok(Self { place, shared })
    }

    /// Carries out the calls where they are made, and blocks there: for a command that does nothing beside
    /// them, and for virtual time.
    pub fn in_place(queue: Box<dyn ReadingQueue>) -> Self {
        let shared = Arc::new(Shared { depth: queue.depth().into(), ..Shared::default() });
        Self { place: Place::Here(Arc::new(Mutex::new(queue))), shared }
    }

    /// Waits until something was put into the queue since the last time.
    pub async fn rung(&self) {
        self.shared.bell.notified().await;
    }

    /// Rings for something other than an append that changes what is to be sent.
    pub fn ring(&self) {
        self.shared.bell.notify_one();
    }

    /// Whether both reach the same queue.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Items in the queue after the last call that was carried out.
    pub fn depth(&self) -> u64 {
        self.shared.depth.load(Ordering::Relaxed)
    }

    /// [`ReadingQueue::append`]. Durable on return.
    pub async fn append(&self, observations: Vec<Observation>) -> Result<Appended, QueueError> {
        let appended = self.call(move |queue| queue.append(&observations)).await;
        self.ring();
        appended
    }

    /// [`ReadingQueue::peek`], with what `prepare` makes of the items on the queue's thread. What was
    /// peeked at is [protected](ReadingQueue::protect) together with what was claimed.
    pub async fn fetch<T: Send + 'static>(
        &self,
        order: DrainOrder,
        claimed: SequenceSet,
        items_max: usize,
        prepare: impl FnOnce(Vec<Item>, &Envelope) -> T + Send + 'static,
    ) -> Result<T, QueueError> {
        self.call(move |queue| {
            let items = queue.peek(order, &claimed, items_max)?;
            let mut in_hand = claimed;
            in_hand.extend(items.iter().map(|item| item.sequence));
            queue.protect(in_hand);
            Ok(prepare(items, &queue.envelope()))
        })
        .await
    }

    /// [`ReadingQueue::peek`].
    pub async fn peek(
        &self,
        order: DrainOrder,
        claimed: SequenceSet,
        items_max: usize,
    ) -> Result<Vec<Item>, QueueError> {
        self.call(move |queue| queue.peek(order, &claimed, items_max)).await
    }

    /// [`ReadingQueue::remove`].
    pub async fn remove(&self, accepted: SequenceSet) -> Result<(), QueueError> {
        self.call(move |queue| queue.remove(&accepted)).await
    }

    /// [`ReadingQueue::write_deferred`].
    pub async fn write_deferred(&self) -> Result<(), QueueError> {
        self.call(|queue| queue.write_deferred()).await
    }

    /// [`ReadingQueue::dead_letter`].
    pub async fn dead_letter(&self, refused: SequenceSet, reason: String) -> Result<(), QueueError> {
        self.call(move |queue| queue.dead_letter(&refused, &reason)).await
    }

    /// [`ReadingQueue::dead_letters`].
    pub async fn dead_letters(&self, from: u64, items_max: usize) -> Result<Vec<DeadLetter>, QueueError> {
        self.call(move |queue| queue.dead_letters(from, items_max)).await
    }

    /// [`ReadingQueue::requeue`]. Durable on return.
    pub async fn requeue(&self, sequences: SequenceSet) -> Result<u64, QueueError> {
        let moved = self.call(move |queue| queue.requeue(&sequences)).await;
        self.ring();
        moved
    }

    /// [`ReadingQueue::drop_dead_letters`]. Durable on return.
    pub async fn drop_dead_letters(&self, sequences: SequenceSet) -> Result<u64, QueueError> {
        let dropped = self.call(move |queue| queue.drop_dead_letters(&sequences)).await;
        // What was dropped is told of by a gap record.
        self.ring();
        dropped
    }

    /// [`ReadingQueue::opens_with`]. Other calls are carried out meanwhile.
    pub async fn opens_with(&self, codec: SegmentCodec) -> Result<(), QueueError> {
        let Place::Thread(_, queue) = &self.place else {
            return self.call(move |queue| queue.opens_with(&codec)).await;
        };
        let queue = queue.upgrade().expect(ENDS_LAST);
        blocking::run(move || queue.opens_with(&codec)).await
    }

    /// [`ReadingQueue::reconfigure`]. Durable on return.
    pub async fn reconfigure(
        &self,
        capacity: Capacity,
        codec: SegmentCodec,
        gateway: GatewayId,
    ) -> Result<(), QueueError> {
        self.call(move |queue| queue.reconfigure(capacity, codec, &gateway)).await
    }

    /// [`ReadingQueue::absorb`]. Durable on return.
    pub async fn absorb(&self, other: Absorbable) -> Result<u64, QueueError> {
        let absorbed = self.call(move |queue| queue.absorb(&other)).await;
        self.ring();
        absorbed
    }

    /// [`ReadingQueue::missing`].
    pub async fn missing(&self) -> SequenceSet {
        self.call(|queue| queue.missing()).await
    }

    /// [`ReadingQueue::ledger`].
    pub async fn ledger(&self) -> Ledger {
        self.call(|queue| queue.ledger()).await
    }

    /// [`ReadingQueue::envelope`].
    pub async fn envelope(&self) -> Envelope {
        self.call(|queue| queue.envelope()).await
    }

    /// The ledger, compared with a walk through the whole queue. Other calls are carried out in between.
    pub async fn status(&self) -> Result<Status, QueueError> {
        let _alone = self.shared.audit.lock().await;
        self.call(|queue| queue.begin_audit()).await;
        loop {
            let step = |queue: &dyn ReadingQueue| {
                let counted = queue.step_audit()?;
                Ok(counted.map(|(ledger, counts)| {
                    Status::new(ledger, &counts, &queue.envelope(), &queue.missing())
                }))
            };
            if let Some(status) = self.call(step).await? {
                return Ok(status);
            }
        }
    }

    /// [`ReadingQueue::add_anchor`]. Durable on return.
    pub async fn add_anchor(&self, anchor: Anchor) -> Result<(), QueueError> {
        let added = self.call(move |queue| queue.add_anchor(anchor)).await;
        self.ring();
        added
    }

    /// [`ReadingQueue::close`]. Durable on return.
    pub async fn close(&self) -> Result<(), QueueError> {
        self.call(|queue| queue.close()).await
    }

    async fn call<T: Send + 'static>(&self, call: impl FnOnce(&dyn ReadingQueue) -> T + Send + 'static) -> T {
        let shared = self.shared.clone();
        let counted = move |queue: &dyn ReadingQueue| {
            let answer = call(queue);
            shared.depth.store(queue.depth(), Ordering::Relaxed);
            answer
        };
        let answer = match &self.place {
            Place::Here(queue) => return counted(&**queue.lock().unwrap_or_else(PoisonError::into_inner)),
            Place::Thread(calls, _) => {
                let (answer, answered) = oneshot::channel();
                // Who gave up does not hear the answer.
                let call: Call = Box::new(move |queue| _ = answer.send(counted(queue)));
                match calls.send(call).await {
                    Ok(()) => answered.await.ok(),
                    Err(_ended) => None,
                }
            }
        };
        answer.expect(ENDS_LAST)
    }
}
