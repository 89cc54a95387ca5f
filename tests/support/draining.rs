//! A real queue and a real drainer in this process, towards any sink.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hr_gateway::clock::{Synchronization, SystemClock};
use hr_gateway::config::{Config, DrainOrder, KinesisConfig, WhenFull};
use hr_gateway::drainer::batch::Limits;
use hr_gateway::drainer::kinesis::{Keys, KinesisSink};
use hr_gateway::drainer::settle::CallError;
use hr_gateway::drainer::{Drainer, DrainerView, RecordSink};
use hr_gateway::queue::QueueError;
use hr_gateway::queue::capacity::Capacity;
use hr_gateway::queue::durable::DurableQueue;
use hr_gateway::queue::handle::Handle;
use hr_gateway::queue::segment::SegmentCodec;
use hr_gateway::reading::GatewayId;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const UNBOUNDED: Capacity =
    Capacity { items_max: u64::MAX, disk_headroom: 0, when_full: WhenFull::DropOldest };

pub fn gateway() -> GatewayId {
    "test".parse().unwrap()
}

pub fn open(folder: &Path) -> DurableQueue {
    DurableQueue::open(folder, UNBOUNDED, SegmentCodec::default(), &gateway()).unwrap().queue
}

pub fn on_thread(queue: DurableQueue) -> Handle {
    Handle::spawn(Box::new(queue)).unwrap()
}

pub async fn kinesis(endpoint: String) -> Arc<dyn RecordSink> {
    let config =
        KinesisConfig { endpoint: Some(endpoint), region: Some("us-east-1".into()), ..Default::default() };
    Arc::new(KinesisSink::new("hr-kinesis-stream", &config, Duration::from_secs(10), Keys::MadeUp).await)
}

pub struct Draining {
    pub failing: watch::Receiver<Option<CallError>>,
    queue: Handle,
    stop: CancellationToken,
    task: JoinHandle<Result<(), QueueError>>,
}

impl Draining {
    pub fn start(queue: &Handle, sink: Arc<dyn RecordSink>, order: DrainOrder, seed: u64) -> Self {
        Self::within(queue, sink, order, seed, Limits::from_config(&Config::default().drain))
    }

    pub fn within(
        queue: &Handle,
        sink: Arc<dyn RecordSink>,
        order: DrainOrder,
        seed: u64,
        limits: Limits,
    ) -> Self {
        let (failing, failing_seen) = watch::channel(None);
        let stop = CancellationToken::new();
        let drainer = Drainer {
            queue: queue.clone(),
            sink,
            clock: SystemClock::new(Synchronization::Trusted).unwrap(),
            limits,
            order,
            view: Arc::new(DrainerView::default()),
            failing,
            random: fastrand::Rng::with_seed(seed),
        };
        let task = tokio::spawn(drainer.run(stop.clone()));
        Self { failing: failing_seen, queue: queue.clone(), stop, task }
    }

    /// Waits until the queue is empty.
    pub async fn emptied(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.queue.depth() > 0 {
            let totals = self.queue.ledger().await.totals();
            assert!(Instant::now() < deadline, "not drained in {limit:?}: {totals:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}
