//! One history, lived through: the real ingest and drainer in virtual time, on a model disk, to a model stream.
//!
//! One thread, one clock that stands still while anything can move, and no source of chance but the seed: the
//! same seed is the same history on every machine.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use hr_gateway::ble::{EVENTS_MAX, SourceEvent, SourceEventKind};
use hr_gateway::clock::{Anchor, Synchronization, SystemClock};
use hr_gateway::config::{Config, SessionConfig, WhenFull};
use hr_gateway::drainer::batch::Limits;
use hr_gateway::drainer::{Drainer, DrainerView};
use hr_gateway::ingest::{Ingest, Inlet};
use hr_gateway::live::Live;
use hr_gateway::queue::QueueError;
use hr_gateway::queue::capacity::Capacity;
use hr_gateway::queue::handle::Handle;
use hr_gateway::queue::model::ModelQueue;
use hr_gateway::queue::sequence_set::SequenceSet;
use hr_gateway::reading::{BootId, GapReason, Moment};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::history::{DiskIs, End, Event, How, Profile, SENSORS};
use crate::kinesis::{Kinesis, Sink, Weather};
use crate::life::Life;
use crate::oracle::{Boot, Oracle};
use crate::plant::Plant;
use crate::queue::{Shared, SimulatedQueue};
use crate::sensors::{self, Sent};
use crate::store::Disk;
use crate::stream::BEGIN_MS;

/// Once the weather is fine all is delivered within this: the longest delay between tries, and some calls.
const DRAIN_MAX: Duration = Duration::from_secs(900);

/// Only asked whether it was set, which a trusted one never was.
static CLOCK: LazyLock<SystemClock> =
    LazyLock::new(|| SystemClock::new(Synchronization::Trusted).expect("a boot has a name"));

/// What a history came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Of all that the stream took, in order.
    pub fingerprint: u64,
    pub readings: usize,
    /// What happened in it, how often.
    pub seen: BTreeMap<&'static str, u64>,
}

struct Process {
    events: mpsc::Sender<SourceEvent>,
    ingest: JoinHandle<Result<(), QueueError>>,
    drainer: JoinHandle<Result<(), QueueError>>,
    stop: CancellationToken,
    queue: Handle,
    life: Arc<Life>,
}

struct World {
    seed: u64,
    profile: Profile,
    plant: Option<Plant>,
    oracle: Arc<Mutex<Oracle>>,
    disk: Arc<Mutex<Disk>>,
    kinesis: Arc<Kinesis>,
    began: Instant,
    clock_error_ms: i64,
    synchronized: bool,
    process: Option<Process>,
    /// How the process will have ended.
    doomed: Option<End>,
    processes: u64,
}

/// Lives through `events`. What the judge finds wrong first is the error.
pub fn live(seed: u64, profile: Profile, events: &[Event], plant: Option<Plant>) -> Result<Outcome, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("one thread and a clock").block_on(async {
        let mut world = World::new(seed, profile, plant);
        for event in events {
            world.step(*event).await;
            world.look().await?;
        }
        world.end().await
    })
}

fn all_sequences() -> SequenceSet {
    let mut all = SequenceSet::default();
    all.insert_range(0..=u64::MAX);
    all
}

impl World {
    fn new(seed: u64, profile: Profile, plant: Option<Plant>) -> Self {
        let when_full = if profile.drop_newest { WhenFull::DropNewest } else { WhenFull::DropOldest };
        let capacity = Capacity { items_max: profile.items_max, disk_headroom: 0, when_full };
        let gateway = "gateway".parse().expect("it is a name");
        let oracle = Arc::new(Mutex::new(Oracle::default()));
        oracle.lock().unwrap().begun(1);
        oracle.lock().unwrap().boots.push(Boot { id: 1, started_ms: 0, anchored: false });
        let mut world = Self {
            seed,
            profile,
            plant,
            disk: Arc::new(Mutex::new(Disk::new(ModelQueue::unopened(capacity), gateway))),
            kinesis: Arc::new(Kinesis::new(oracle.clone(), seed)),
            oracle,
            began: Instant::now(),
            clock_error_ms: 0,
            synchronized: true,
            process: None,
            doomed: None,
            processes: 0,
        };
        world.start();
        world
    }

    fn true_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn moment(&self) -> Moment {
        let oracle = self.oracle.lock().unwrap();
        let boot = oracle.boots.last().expect("the machine was booted");
        Moment {
            boot: BootId(boot.id),
            boottime_ms: self.true_ms() - boot.started_ms,
            wall_ms: BEGIN_MS + self.true_ms() as i64 + self.clock_error_ms,
            synchronized: self.synchronized,
        }
    }

    fn start(&mut self) {
        self.processes += 1;
        let life = Arc::new(Life::default());
        let (disk, oracle) = (self.disk.clone(), self.oracle.clone());
        let queue = Arc::new(SimulatedQueue { disk, oracle, life: life.clone(), plant: self.plant });
        let handle = Handle::in_place(Box::new(Shared(queue.clone())));
        let mut limits = Limits::from_config(&Config::default().drain);
        limits.retry_delay_max = Duration::from_secs(self.profile.retry_max_s);
        limits.record_readings_max = self.profile.record_readings_max;
        let drainer = Drainer {
            queue: handle.clone(),
            sink: Arc::new(Sink {
                kinesis: self.kinesis.clone(),
                oracle: self.oracle.clone(),
                life: life.clone(),
                plant: self.plant,
                queue,
            }),
            clock: CLOCK.clone(),
            limits,
            order: self.profile.order,
            view: Arc::new(DrainerView::default()),
            failing: watch::channel(None).0,
            random: fastrand::Rng::with_seed(self.seed.wrapping_add(self.processes)),
        };
        let ingest = Ingest {
            queue: handle.clone(),
            session: SessionConfig::default(),
            before_us: GapReason::GatewayDown,
            live: Live::new(),
            commit_interval: Duration::ZERO,
            rounds: Arc::default(),
            registry: None,
        };
        let (events, received) = mpsc::channel(EVENTS_MAX);
        let (inlet, stop) = (Arc::new(Inlet::new(received).into()), CancellationToken::new());
        self.process = Some(Process {
            events,
            ingest: tokio::spawn(ingest.run(inlet, CancellationToken::new())),
            drainer: tokio::spawn(drainer.run(stop.clone())),
            stop,
            queue: handle,
            life,
        });
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("a process runs between events")
    }

    async fn step(&mut self, event: Event) {
        match event {
            Event::Notify { sensors, seconds, draw } => {
                let mut random = fastrand::Rng::with_seed(draw);
                for _ in 0..seconds {
                    for sensor in (0..SENSORS.len()).filter(|sensor| sensors & 1 << sensor != 0) {
                        self.beat(sensor, &mut random);
                        self.pass(1).await;
                    }
                    self.pass(996).await;
                }
            }
            Event::Wait { ms } => self.pass(ms).await,
            Event::LinkDown { sensor, reason } => {
                self.oracle.lock().unwrap().heard[sensor].down = Some(reason);
                self.send(sensor, SourceEventKind::Down(reason));
                self.pass(1).await;
            }
            Event::Weather(weather) => self.kinesis.set(weather),
            Event::ClockJumps { error_ms } if !self.synchronized => self.clock_error_ms = error_ms,
            Event::ClockJumps { .. } => {}
            Event::ClockSynchronized => self.synchronize().await,
            Event::State { sensor, state } => self.send(sensor, SourceEventKind::State(state)),
            Event::RequeueDeadLetters => {
                _ = self.process().queue.requeue(all_sequences()).await;
            }
            Event::DropDeadLetters => {
                _ = self.process().queue.drop_dead_letters(all_sequences()).await;
            }
            Event::Ends(end) => {
                self.meet_doom().await;
                match end.how {
                    How::Stop => self.stop(end).await,
                    How::Kill | How::PowerCut => {
                        self.process().life.dies_after(end.after_steps);
                        self.doomed = Some(end);
                        self.pass(0).await;
                    }
                }
            }
        }
    }

    fn send(&self, sensor: usize, kind: SourceEventKind) {
        let sensor = SENSORS[sensor].parse().expect("it is a name");
        let mut event = SourceEvent { sensor, at: self.moment(), kind };
        if let Some(plant) = self.plant {
            plant.on_event(&mut event);
        }
        // A process that just died hears nothing.
        _ = self.process().events.try_send(event);
    }

    fn beat(&self, sensor: usize, random: &mut fastrand::Rng) {
        let number = self.oracle.lock().unwrap().next_number();
        match sensors::beat(random, number, self.profile.poison) {
            Sent::Nothing => {}
            Sent::Malformed(bytes) => self.send(sensor, SourceEventKind::Notification(bytes)),
            Sent::Measurement(measurement, copies) => self.measure(sensor, measurement, copies),
        }
    }

    fn measure(&self, sensor: usize, measurement: hr_gateway::heart_rate::HeartRateMeasurement, copies: u32) {
        let bytes = measurement.encode();
        let at = self.moment();
        self.oracle.lock().unwrap().sent(sensor, at, measurement, copies);
        (0..copies).for_each(|_| self.send(sensor, SourceEventKind::Notification(bytes.clone())));
    }

    async fn synchronize(&mut self) {
        if self.synchronized {
            return;
        }
        let Moment { boot, boottime_ms, .. } = self.moment();
        let offset_ms = BEGIN_MS + self.true_ms() as i64 - boottime_ms as i64;
        let anchor = Anchor { boot, offset_ms, boottime_ms };
        // A process that dies meanwhile may leave the anchor behind.
        self.oracle.lock().unwrap().boots.last_mut().expect("the machine was booted").anchored = true;
        if self.process().queue.add_anchor(anchor).await.is_ok() {
            (self.synchronized, self.clock_error_ms) = (true, 0);
        }
        self.pass(0).await;
    }

    /// Lets time pass; a process that dies meanwhile is followed by another.
    async fn pass(&mut self, ms: u64) {
        let until = Instant::now() + Duration::from_millis(ms);
        loop {
            let life = self.process().life.clone();
            tokio::select! {
                biased;
                () = life.died.notified() => self.meet_doom().await,
                () = sleep_until(until) => return,
            }
        }
    }

    /// What was to die later dies now.
    async fn meet_doom(&mut self) {
        let Some(end) = self.doomed.take() else { return };
        let process = self.process.take().expect("a process runs between events");
        process.life.dies_after(0);
        for task in [process.ingest, process.drainer] {
            task.abort();
            if task.await.is_err_and(|error| error.is_panic()) {
                self.oracle.lock().unwrap().violated(|| "a task panicked".to_owned());
            }
        }
        self.reopen(end).await;
    }

    /// As the gateway stops: the source, the ingest, the drainer, the queue.
    async fn stop(&mut self, end: End) {
        let mut random = fastrand::Rng::with_seed(end.draw);
        (0..SENSORS.len()).for_each(|sensor| self.beat(sensor, &mut random));
        self.stop_process().await;
        self.reopen(end).await;
    }

    async fn stop_process(&mut self) {
        let process = self.process.take().expect("a process runs between events");
        drop(process.events);
        if self.plant == Some(Plant::ChannelLostAtStop) {
            process.ingest.abort();
        }
        self.ended("ingest", process.ingest).await;
        process.stop.cancel();
        if self.plant == Some(Plant::InFlightLostAtStop) {
            process.drainer.abort();
        }
        self.ended("drainer", process.drainer).await;
        _ = process.queue.close().await;
        self.oracle.lock().unwrap().stopped();
    }

    async fn ended(&self, name: &str, task: JoinHandle<Result<(), QueueError>>) {
        let ended = task.await;
        let is_planted = self.plant.is_some() && ended.as_ref().is_err_and(|error| error.is_cancelled());
        if !is_planted && !matches!(ended, Ok(Ok(()))) {
            self.oracle.lock().unwrap().violated(|| format!("the {name} ended with {ended:?}"));
        }
    }

    async fn reopen(&mut self, end: End) {
        sleep(Duration::from_millis(end.down_ms)).await;
        if let Some(error_ms) = end.clock_error_ms {
            let started_ms = self.true_ms();
            let mut oracle = self.oracle.lock().unwrap();
            let id = oracle.boots.len() as u128 + 1;
            oracle.boots.push(Boot { id, started_ms, anchored: false });
            (self.clock_error_ms, self.synchronized) = (error_ms, error_ms == 0);
        }
        {
            let mut disk = self.disk.lock().unwrap();
            let mut oracle = self.oracle.lock().unwrap();
            let opened = disk.reopen(end.how, end.disk, end.draw, self.plant);
            oracle.reopened(&disk.live, &opened, disk.operation, end.how, end.disk);
            if end.dies_opening {
                let opened = disk.reopen(How::Kill, DiskIs::Kept, end.draw, self.plant);
                oracle.reopened(&disk.live, &opened, disk.operation, How::Kill, DiskIs::Kept);
            }
            disk.begin_witness();
        }
        self.start();
    }

    /// What can be judged at any moment.
    async fn look(&self) -> Result<(), String> {
        let process = self.process();
        if self.doomed.is_none() {
            for (name, task) in [("ingest", &process.ingest), ("drainer", &process.drainer)] {
                if task.is_finished() {
                    self.oracle.lock().unwrap().violated(|| format!("the {name} ended by itself"));
                }
            }
        }
        let ledger = process.queue.ledger().await;
        let oracle = self.oracle.lock().unwrap();
        oracle.verdict()?;
        oracle.books.compare(&ledger)
    }

    /// The weather turns fine, and the sensors go on: everything must leave.
    async fn end(mut self) -> Result<Outcome, String> {
        self.meet_doom().await;
        self.kinesis.set(Weather::Fine);
        let limit = Instant::now() + DRAIN_MAX;
        loop {
            for sensor in 0..SENSORS.len() {
                let number = self.oracle.lock().unwrap().next_number();
                self.measure(sensor, sensors::healthy(number), 1);
            }
            self.pass(2_000).await;
            self.look().await?;
            if self.process().queue.depth() == 0 {
                break;
            }
            if Instant::now() > limit {
                return Err(format!("{} items are left after {DRAIN_MAX:?}", self.process().queue.depth()));
            }
        }
        self.stop_process().await;
        let mut oracle = self.oracle.lock().unwrap();
        oracle.judge_all()?;
        Ok(Outcome {
            fingerprint: oracle.fingerprint,
            readings: oracle.sent.len(),
            seen: std::mem::take(&mut oracle.seen),
        })
    }
}
