//! Hours of outages, throttling, lost answers and crashes, in virtual time, from a seed.
//!
//! The real drainer runs on the model queue against a scripted sink. The invariant is the ledger:
//! whatever happened, what was received is delivered, queued or dead-lettered, and what the sink
//! accepted is what the ledger calls delivered. A failing seed is printed; kept ones are below.

mod support;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hr_gateway::config::DrainOrder;
use hr_gateway::drainer::RecordSink;
use hr_gateway::drainer::batch::Record;
use hr_gateway::drainer::settle::{CallError, EntryVerdict, classify};
use hr_gateway::queue::handle::Handle;
use hr_gateway::queue::model::ModelQueue;
use hr_gateway::reading::Epoch;
use support::draining::{Draining, UNBOUNDED, gateway};
use support::reading;

/// Seeds that once failed, and the first ones.
const SEEDS: std::ops::Range<u64> = 0..12;
const HOURS: u64 = 3;

/// Weather that changes by the minute.
#[derive(Debug, Clone, Copy)]
enum Weather {
    Fine,
    Unreachable,
    Blocked,
    Throttling,
    EntriesFail,
    AnswersLost,
    Slow,
}

struct Sink {
    random: Mutex<fastrand::Rng>,
    weather: Mutex<Weather>,
    accepted: Mutex<HashMap<u64, u32>>,
}

impl Sink {
    fn roll(&self) -> f64 {
        self.random.lock().unwrap().f64()
    }

    fn accept(&self, record: &Record) -> EntryVerdict {
        let mut accepted = self.accepted.lock().unwrap();
        record.sequences.iter().for_each(|sequence| *accepted.entry(*sequence).or_default() += 1);
        EntryVerdict::Accepted { shard: Some(format!("shard-{}", record.sensor.as_str().len() % 2)) }
    }

    fn fail(code: &str, status: Option<u16>) -> CallError {
        CallError { class: classify(code, status), code: code.into(), message: "as scripted".into() }
    }

    async fn answer(&self, records: &[Record]) -> Result<Vec<EntryVerdict>, CallError> {
        let delay = Duration::from_millis((self.roll() * 80.0) as u64);
        tokio::time::sleep(delay).await;
        let weather = *self.weather.lock().unwrap();
        // One reading in ten thousand is one that the sink refuses, alone or with others.
        let is_poison = |record: &Record| record.sequences.iter().any(|sequence| sequence % 10_000 == 77);
        match weather {
            Weather::Unreachable => return Err(Self::fail("Unreachable", None)),
            Weather::Blocked => return Err(Self::fail("AccessDeniedException", Some(400))),
            _ if records.iter().any(is_poison) => return Err(Self::fail("ValidationException", Some(400))),
            Weather::AnswersLost if self.roll() < 0.5 => {
                records.iter().for_each(|record| _ = self.accept(record));
                return Err(Self::fail("Timeout", None));
            }
            Weather::Slow => tokio::time::sleep(Duration::from_secs(5)).await,
            _ => {}
        }
        Ok(records
            .iter()
            .map(|record| match weather {
                Weather::Throttling if self.roll() < 0.7 => EntryVerdict::Throttled,
                Weather::EntriesFail if self.roll() < 0.3 => EntryVerdict::Failed,
                _ => self.accept(record),
            })
            .collect())
    }
}

impl RecordSink for Sink {
    fn put<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Result<Vec<EntryVerdict>, CallError>> {
        Box::pin(self.answer(records))
    }
}

async fn simulate(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let queue = Handle::in_place(Box::new(ModelQueue::new(UNBOUNDED, gateway(), Epoch(seed))));
    let sink = Arc::new(Sink {
        random: Mutex::new(random.fork()),
        weather: Mutex::new(Weather::Fine),
        accepted: Mutex::default(),
    });
    let order = if seed.is_multiple_of(3) { DrainOrder::NewestFirst } else { DrainOrder::OldestFirst };
    let mut draining = Draining::start(&queue, sink.clone(), order, seed);
    let (mut second, mut answers_lost, mut crashes) = (0, false, 0);
    for _minute in 0..HOURS * 60 {
        let weather = match random.u8(..100) {
            0..50 => Weather::Fine,
            50..65 => Weather::Unreachable,
            65..70 => Weather::Blocked,
            70..80 => Weather::Throttling,
            80..90 => Weather::EntriesFail,
            90..95 => Weather::AnswersLost,
            _ => Weather::Slow,
        };
        answers_lost |= matches!(weather, Weather::AnswersLost | Weather::Slow);
        *sink.weather.lock().unwrap() = weather;
        if random.u8(..) < 10 {
            // A crash: what was in flight may or may not have been accepted, and nobody knows.
            draining.crash();
            crashes += 1;
            draining = Draining::start(&queue, sink.clone(), order, seed + crashes);
        }
        for _second in 0..60 {
            let names = ["watch", "strap-1", "strap-22"];
            for name in names {
                queue.append(vec![reading(name, second)]).await.unwrap();
            }
            second += 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(queue.ledger().await.balances(), "seed {seed}");
        }
    }
    *sink.weather.lock().unwrap() = Weather::Fine;
    // A blocked sink is tried again within a minute.
    let limit = tokio::time::Instant::now() + Duration::from_secs(600);
    while queue.depth() > 0 {
        assert!(tokio::time::Instant::now() < limit, "seed {seed}: {} left", queue.depth());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    draining.stop().await;

    let readings = queue.ledger().await.totals().readings;
    assert!(queue.status().await.unwrap().balances, "seed {seed}");
    assert_eq!(readings.received, HOURS * 3_600 * 3, "seed {seed}");
    let accepted = sink.accepted.lock().unwrap();
    assert_eq!(readings.delivered, accepted.len() as u64, "seed {seed}: delivered is what the sink has");
    assert_eq!(
        readings.dead_lettered,
        (1..=readings.received).filter(|n| n % 10_000 == 77).count() as u64,
        "seed {seed}"
    );
    let doubled = accepted.values().filter(|count| **count > 1).count();
    assert!(
        doubled == 0 || answers_lost || crashes > 0,
        "seed {seed}: {doubled} twice without a lost answer"
    );
}

#[test]
fn the_ledger_balances_through_hours_of_any_weather() {
    let run = |seed| {
        println!("seed {seed}");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(simulate(seed));
    };
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || SEEDS.filter(|seed| seed % 2 == half).for_each(run));
        }
    });
}
