//! Many gateways behind one shard, in virtual time: each is the drainer's own dispatcher over a queue that is
//! only counted; the shard has its limits, and each gateway its uplink.
//!
//! Shards do not know of each other, and a gateway with one sensor writes to one of them: a stream of many
//! shards is this, once for each. Not modelled: lost answers (the histories have them), and sensors of one
//! gateway on several shards.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use hr_gateway::config::{Config, DrainOrder};
use hr_gateway::drainer::batch::{Limits, RECORD_BYTES_MAX, Record};
use hr_gateway::drainer::dispatch::{Batch, Dispatcher, Step};
use hr_gateway::drainer::settle::{CallError, EntryVerdict, ErrorClass};
use hr_gateway::queue::sequence_set::SequenceSet;
use hr_gateway::reading::SensorId;

/// A line with one RR-Interval (packaging/cloud/README.md, "What it reads"), bytes.
pub const LINE_BYTES: usize = 313;
/// What a shard takes in a second (Kinesis quotas), and what it saves up.
pub const SHARD_BYTES_PER_S: f64 = 1_000_000.0;
const SHARD_RECORDS_PER_S: f64 = 1_000.0;
/// A call without a network fails so fast.
const UNREACHABLE_AFTER: Duration = Duration::from_millis(100);
/// There and back, without what is sent.
const ROUND_TRIP: Duration = Duration::from_millis(60);
/// The gateways notice the outage before the simulation begins; in this time their delays have grown up.
const LEAD: Duration = Duration::from_secs(60);

/// What is played.
#[derive(Debug, Clone, Copy)]
pub struct Scene {
    /// Gateways that write to the shard, with one sensor at 1 Hz each.
    pub gateways: usize,
    /// How long the stream was away.
    pub outage: Duration,
    /// Of each gateway.
    pub uplink_bytes_per_s: f64,
    /// Whether each gateway draws its delays by itself. Without, all draw the same ones.
    pub jitter: bool,
    /// Played no longer than this after the stream's return.
    pub ends: Duration,
}

/// What a second of it came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Second {
    pub offered_bytes: u64,
    pub accepted_bytes: u64,
    pub entries: u32,
    pub rejected: u32,
}

/// The whole.
#[derive(Debug)]
pub struct Outcome {
    /// From the stream's return on.
    pub seconds: Vec<Second>,
    /// When each gateway had sent what it had kept, after the return; in order.
    pub drained: Vec<Duration>,
    /// Readings measured, and accepted.
    pub measured: u64,
    pub accepted: u64,
    pub queued: u64,
}

impl Outcome {
    /// Of all that the seconds came to: entries rejected, and bytes sent for each byte accepted.
    pub fn rejected_share(&self) -> f64 {
        let sum =
            |part: fn(&Second) -> u32| self.seconds.iter().map(|s| u64::from(part(s))).sum::<u64>() as f64;
        sum(|second| second.rejected) / sum(|second| second.entries)
    }

    pub fn sent_for_each_accepted(&self) -> f64 {
        let sum = |part: fn(&Second) -> u64| self.seconds.iter().map(part).sum::<u64>() as f64;
        sum(|second| second.offered_bytes) / sum(|second| second.accepted_bytes)
    }
}

#[derive(Debug)]
struct Shard {
    bytes: f64,
    records: f64,
    refilled_at: Duration,
}

impl Shard {
    fn takes(&mut self, bytes: usize, now: Duration) -> bool {
        let elapsed = now.saturating_sub(self.refilled_at).as_secs_f64();
        self.refilled_at = now;
        self.bytes = (self.bytes + elapsed * SHARD_BYTES_PER_S).min(SHARD_BYTES_PER_S);
        self.records = (self.records + elapsed * SHARD_RECORDS_PER_S).min(SHARD_RECORDS_PER_S);
        if self.bytes < bytes as f64 || self.records < 1.0 {
            return false;
        }
        self.bytes -= bytes as f64;
        self.records -= 1.0;
        true
    }
}

struct Gateway {
    sensor: SensorId,
    dispatcher: Dispatcher,
    measured: u64,
    removed: SequenceSet,
    line: Vec<u8>,
    uplink_free_at: Duration,
    /// The next look that is already planned.
    looks_at: Option<Duration>,
    drained: bool,
}

enum Event {
    Measure,
    Look,
    Arrive(Batch),
    Answer(Batch, Result<Vec<EntryVerdict>, CallError>),
}

/// An event's time, its place among those of the same time, and the gateway; the event lies apart.
type Due = Reverse<(Duration, usize)>;

struct World {
    scene: Scene,
    due: BinaryHeap<Due>,
    events: Vec<Option<(usize, Event)>>,
    free: Vec<usize>,
    gateways: Vec<Gateway>,
    shard: Shard,
    outcome: Outcome,
}

/// Plays `scene` from the same beginning for the same `seed`.
pub fn play(scene: Scene, seed: u64) -> Outcome {
    World::new(scene, seed).run()
}

impl World {
    fn new(scene: Scene, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let limits = Limits::from_config(&Config::default().drain);
        let kept = (scene.outage - LEAD).as_secs();
        let gateways = (0..scene.gateways).map(|number| Gateway {
            sensor: format!("sensor-{number}").parse().expect("it is a name"),
            dispatcher: Dispatcher::new(
                limits,
                DrainOrder::OldestFirst,
                fastrand::Rng::with_seed(if scene.jitter { random.u64(..) } else { seed }),
            ),
            measured: kept,
            removed: SequenceSet::default(),
            line: [vec![b' '; LINE_BYTES - 1], vec![b'\n']].concat(),
            uplink_free_at: Duration::ZERO,
            looks_at: None,
            drained: false,
        });
        let outcome =
            Outcome { seconds: Vec::new(), drained: Vec::new(), measured: 0, accepted: 0, queued: 0 };
        let shard =
            Shard { bytes: SHARD_BYTES_PER_S, records: SHARD_RECORDS_PER_S, refilled_at: Duration::ZERO };
        let gateways: Vec<Gateway> = gateways.collect();
        let mut world = Self {
            scene,
            due: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            gateways,
            shard,
            outcome,
        };
        for gateway in 0..scene.gateways {
            world.plan(Duration::from_millis(random.u64(..1000)), gateway, Event::Measure);
            world.look(gateway, Duration::ZERO);
        }
        world
    }

    fn plan(&mut self, at: Duration, gateway: usize, event: Event) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some((gateway, event));
        self.due.push(Reverse((at, place)));
    }

    fn run(mut self) -> Outcome {
        let ends = LEAD + self.scene.ends;
        while let Some(Reverse((now, place))) = self.due.pop() {
            if now >= ends || self.outcome.drained.len() == self.gateways.len() {
                break;
            }
            let (gateway, event) = self.events[place].take().expect("it is planned once");
            self.free.push(place);
            match event {
                Event::Measure => {
                    self.gateways[gateway].measured += 1;
                    self.gateways[gateway].dispatcher.handle_appended();
                    self.plan(now + Duration::from_secs(1), gateway, Event::Measure);
                    self.poll(gateway, now);
                }
                Event::Look => {
                    if self.gateways[gateway].looks_at == Some(now) {
                        self.gateways[gateway].looks_at = None;
                        self.poll(gateway, now);
                    }
                }
                Event::Arrive(batch) => self.arrive(gateway, batch, now),
                Event::Answer(batch, answer) => {
                    self.settle(gateway, batch, answer, now);
                    self.poll(gateway, now);
                }
            }
        }
        let left = |gateway: &Gateway| gateway.measured - gateway.removed.count();
        self.outcome.measured = self.gateways.iter().map(|gateway| gateway.measured).sum();
        self.outcome.queued = self.gateways.iter().map(left).sum();
        self.outcome
    }

    /// Looks again at `at`, unless it looks earlier anyway.
    fn look(&mut self, gateway: usize, at: Duration) {
        if self.gateways[gateway].looks_at.is_none_or(|planned| at < planned) {
            self.gateways[gateway].looks_at = Some(at);
            self.plan(at, gateway, Event::Look);
        }
    }

    fn poll(&mut self, index: usize, now: Duration) {
        loop {
            let gateway = &mut self.gateways[index];
            match gateway.dispatcher.poll(now) {
                Step::Fetch(items_max) => {
                    let (records, exhausted) = gateway.fetch(items_max);
                    gateway.dispatcher.handle_fetched(records, exhausted, now);
                }
                Step::Send(batch) => self.send(index, batch, now),
                Step::Wait(at) => {
                    if let Some(at) = at {
                        self.look(index, at.max(now + Duration::from_nanos(1)));
                    }
                    return;
                }
            }
        }
    }

    fn send(&mut self, index: usize, batch: Batch, now: Duration) {
        if now < LEAD {
            let code = "Unreachable".to_owned();
            let failure = CallError { class: ErrorClass::Transient, code, message: String::new() };
            return self.plan(now + UNREACHABLE_AFTER, index, Event::Answer(batch, Err(failure)));
        }
        let bytes: usize = batch.records.iter().map(Record::bytes).sum();
        let gateway = &mut self.gateways[index];
        let sent = gateway.uplink_free_at.max(now)
            + Duration::from_secs_f64(bytes as f64 / self.scene.uplink_bytes_per_s);
        gateway.uplink_free_at = sent;
        self.plan(sent + ROUND_TRIP / 2, index, Event::Arrive(batch));
    }

    fn arrive(&mut self, gateway: usize, batch: Batch, now: Duration) {
        let mut second = Second { entries: batch.records.len() as u32, ..Second::default() };
        let mut verdicts = Vec::with_capacity(batch.records.len());
        for record in &batch.records {
            second.offered_bytes += record.bytes() as u64;
            verdicts.push(if self.shard.takes(record.bytes(), now) {
                second.accepted_bytes += record.bytes() as u64;
                EntryVerdict::Accepted { shard: Some("shard".to_owned()) }
            } else {
                second.rejected += 1;
                EntryVerdict::Throttled
            });
        }
        self.note(second, now);
        self.plan(now + ROUND_TRIP / 2, gateway, Event::Answer(batch, Ok(verdicts)));
    }

    fn note(&mut self, more: Second, now: Duration) {
        let index = now.saturating_sub(LEAD).as_secs() as usize;
        if self.outcome.seconds.len() <= index {
            self.outcome.seconds.resize(index + 1, Second::default());
        }
        let second = &mut self.outcome.seconds[index];
        second.offered_bytes += more.offered_bytes;
        second.accepted_bytes += more.accepted_bytes;
        second.entries += more.entries;
        second.rejected += more.rejected;
    }

    fn settle(
        &mut self,
        index: usize,
        batch: Batch,
        answer: Result<Vec<EntryVerdict>, CallError>,
        now: Duration,
    ) {
        let gateway = &mut self.gateways[index];
        let settlement = gateway.dispatcher.handle_answer(batch, answer, now);
        gateway.removed.insert_all(&settlement.accepted);
        gateway.dispatcher.forget(&settlement.accepted);
        self.outcome.accepted += settlement.accepted.count();
        // Two seconds' readings are on their way at any time.
        if !gateway.drained && gateway.measured - gateway.removed.count() <= 2 {
            gateway.drained = true;
            self.outcome.drained.push(now - LEAD);
        }
    }
}

impl Gateway {
    fn fetch(&self, items_max: usize) -> (Vec<Record>, bool) {
        let mut taken = self.removed.clone();
        taken.insert_all(self.dispatcher.claimed());
        let mut records = Vec::new();
        let (mut left, mut next) = (items_max, 1);
        let lines_max = (RECORD_BYTES_MAX / LINE_BYTES).min(500);
        while left > 0
            && let Some(first) = taken.first_absent_from(next).filter(|first| *first <= self.measured)
        {
            let until =
                taken.first_at_or_after(first).map_or(self.measured, |taken| self.measured.min(taken - 1));
            let last = until.min(first + left.min(lines_max) as u64 - 1);
            let sequences: Vec<u64> = (first..=last).collect();
            left -= sequences.len();
            next = last + 1;
            let data = self.line.repeat(sequences.len());
            records.push(Record { sensor: self.sensor.clone(), data, sequences, clock_offset_ms: 0 });
        }
        (records, left > 0)
    }
}
