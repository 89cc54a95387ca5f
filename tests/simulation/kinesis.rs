//! A model of the stream and of the way to it: shards with limits, throttling, answers that are lost or come
//! too late, entries that fail in a call that succeeds, refusals, hours of nothing.
//!
//! What is on its way arrives, or not, whether or not the process that sent it still lives.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hr_gateway::drainer::RecordSink;
use hr_gateway::drainer::batch::Record;
use hr_gateway::drainer::settle::{CallError, EntryVerdict, classify};
use tokio::sync::oneshot;

use crate::life::Life;
use crate::oracle::Oracle;
use crate::plant::Plant;
use crate::queue::SimulatedQueue;

/// What lies between the gateway and the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    Fine,
    Unreachable,
    /// Nothing answers, not even an error.
    Silent,
    Blocked,
    CallsThrottled,
    ShardsThrottled,
    EntriesFail,
    AnswersLost,
    /// The answer ends before its records do.
    AnswersShort,
    Slow,
}

impl Weather {
    pub const ALL: [Self; 14] = [
        Self::Fine,
        Self::Fine,
        Self::Fine,
        Self::Unreachable,
        Self::Unreachable,
        Self::Silent,
        Self::Blocked,
        Self::CallsThrottled,
        Self::ShardsThrottled,
        Self::EntriesFail,
        Self::EntriesFail,
        Self::AnswersLost,
        Self::AnswersShort,
        Self::Slow,
    ];
}

/// After so long a caller gives up; `[drain] request_timeout`.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The stream.
pub struct Kinesis {
    oracle: Arc<Mutex<Oracle>>,
    weather: Mutex<Weather>,
    random: Mutex<fastrand::Rng>,
}

type Answer = Result<Vec<EntryVerdict>, CallError>;

impl Kinesis {
    pub fn new(oracle: Arc<Mutex<Oracle>>, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed ^ 0x5eed_0f7e_1e55_0002);
        Self { oracle, weather: Mutex::new(Weather::Fine), random: Mutex::new(random) }
    }

    pub fn set(&self, weather: Weather) {
        *self.weather.lock().unwrap() = weather;
    }

    fn roll(&self, percent: u32) -> bool {
        self.random.lock().unwrap().u32(..100) < percent
    }

    /// A call on its way there and back.
    async fn carry(self: Arc<Self>, call: u64, records: Vec<Record>, answer: oneshot::Sender<Answer>) {
        let weather = *self.weather.lock().unwrap();
        let ms = self.random.lock().unwrap().u64(2..80);
        let way = match weather {
            Weather::Slow => Duration::from_millis(ms * 200),
            _ => Duration::from_millis(ms),
        };
        tokio::time::sleep(way).await;
        if weather == Weather::Silent {
            // Held open until the caller gives up. One in three got through.
            if self.roll(33) {
                _ = self.take(call, &records, weather);
            }
            return tokio::time::sleep(CALL_TIMEOUT * 2).await;
        }
        let taken = self.take(call, &records, weather);
        if weather == Weather::AnswersLost && self.roll(60) {
            let lost =
                CallError { class: classify("Reset", None), code: "Reset".into(), message: String::new() };
            self.oracle.lock().unwrap().answer_was_lost(call);
            _ = answer.send(Err(lost));
            return;
        }
        tokio::time::sleep(way).await;
        _ = answer.send(taken);
    }

    /// The stream's decision.
    fn take(&self, call: u64, records: &[Record], weather: Weather) -> Answer {
        let fail = |code: &str, status| {
            Err(CallError { class: classify(code, status), code: code.into(), message: "as it is".into() })
        };
        match weather {
            Weather::Unreachable => return fail("Unreachable", None),
            Weather::Blocked => return fail("AccessDeniedException", Some(400)),
            Weather::CallsThrottled if self.roll(70) => return fail("ThrottlingException", Some(400)),
            _ => {}
        }
        let mut oracle = self.oracle.lock().unwrap();
        if records.iter().any(|record| oracle.is_poison(record)) {
            return fail("ValidationException", Some(400));
        }
        let mut verdicts = Vec::new();
        for record in records {
            let shard = record.sensor.as_str().len() % 2;
            verdicts.push(match weather {
                Weather::ShardsThrottled if shard == 0 || self.roll(50) => EntryVerdict::Throttled,
                Weather::EntriesFail if self.roll(40) => EntryVerdict::Failed,
                _ => {
                    oracle.accepted(call, record);
                    EntryVerdict::Accepted { shard: Some(format!("shard-{shard}")) }
                }
            });
        }
        if weather == Weather::AnswersShort && self.roll(60) {
            verdicts.truncate(records.len() / 2);
            oracle.answer_was_lost(call);
        }
        Ok(verdicts)
    }
}

/// One process's way to the stream.
pub struct Sink {
    pub kinesis: Arc<Kinesis>,
    pub oracle: Arc<Mutex<Oracle>>,
    pub life: Arc<Life>,
    pub plant: Option<Plant>,
    pub queue: Arc<SimulatedQueue>,
}

impl Sink {
    async fn call(&self, records: &[Record]) -> Answer {
        if !self.life.goes_on() {
            return std::future::pending().await;
        }
        let durable = self.queue.disk.lock().unwrap().durable_operation;
        let call = self.oracle.lock().unwrap().sending(records, durable);
        let (sender, answer) = oneshot::channel();
        tokio::spawn(self.kinesis.clone().carry(call, records.to_vec(), sender));
        let answered = tokio::time::timeout(CALL_TIMEOUT, answer).await;
        if !self.life.goes_on() {
            return std::future::pending().await;
        }
        match answered {
            Ok(Ok(answer)) => {
                self.oracle.lock().unwrap().answered(call);
                answer
            }
            _ => {
                self.oracle.lock().unwrap().answer_was_lost(call);
                let code = "Timeout".to_owned();
                Err(CallError { class: classify(&code, None), code, message: "no answer".into() })
            }
        }
    }
}

impl RecordSink for Sink {
    fn put<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            if let Some(plant) = self.plant {
                plant.before_put(records, &self.queue);
            }
            let answer = self.call(records).await;
            match self.plant {
                Some(plant) => plant.after_put(records, answer, &self.queue),
                None => answer,
            }
        })
    }

    fn identity_ends_at_s(&self) -> Option<i64> {
        None
    }

    fn kind(&self) -> &'static str {
        "simulated"
    }
}
