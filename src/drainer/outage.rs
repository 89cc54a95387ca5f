//! A sink that fails: when it is asked again, and what was told of it. Pure.
//!
//! What stands between the gateway and the sink can fail in turn: of two proxies one is down and one at its
//! limit. What must hold until the sink accepts something: no change of the failure makes calls more
//! frequent, and none is told twice.

use std::time::Duration;

use super::settle::{CallError, ErrorClass, Transition};
use crate::backoff::Backoff;

/// So long may calls go through without a record accepted before it is said.
const BARREN_MAX: Duration = Duration::from_secs(10);
/// Most failures told of one outage: the codes are others' to choose.
const TOLD_MAX: usize = 16;

/// What is known since the sink last accepted something.
#[derive(Debug)]
pub struct Outage {
    /// For what passes by itself, and for what does not.
    backoffs: [Backoff; 2],
    /// Failed tries of each.
    failures: [u32; 2],
    probe: Option<Probe>,
    /// What it fails with, and since when it fails.
    failing: Option<(ErrorClass, String, Duration)>,
    told: Vec<(ErrorClass, String)>,
    /// Since when no call had a single record accepted.
    barren_since: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    at: Duration,
    slow: bool,
}

impl Outage {
    /// None yet. What passes by itself is tried again after `retry`, what does not after `blocked`.
    pub fn new(retry: Backoff, blocked: Backoff) -> Self {
        Self {
            backoffs: [retry, blocked],
            failures: [0; 2],
            probe: None,
            failing: None,
            told: Vec::new(),
            barren_since: None,
        }
    }

    /// When the next call may be made, and that alone. `None` while calls go through.
    pub fn probe_at(&self) -> Option<Duration> {
        self.probe.map(|probe| probe.at)
    }

    /// A call failed as a whole. `random` is the backoff's.
    pub fn failed(&mut self, failure: CallError, now: Duration, random: f64) -> Option<Transition> {
        let slow = failure.is_slow();
        let waiting = self.probe.filter(|probe| now < probe.at);
        // Another call of the same volley is no try of its own.
        if waiting.is_none_or(|probe| slow && !probe.slow) {
            let kind = usize::from(slow);
            let at = now + self.backoffs[kind].delay(self.failures[kind], random);
            self.failures[kind] = self.failures[kind].saturating_add(1);
            self.probe = Some(Probe { at: waiting.map_or(at, |probe| probe.at.max(at)), slow });
        }
        self.tell(failure, now)
    }

    /// A call went through, and no record of it was accepted: said once that goes on for a while.
    pub fn barren(&mut self, now: Duration) -> Option<Transition> {
        let since = *self.barren_since.get_or_insert(now);
        if now.saturating_sub(since) < BARREN_MAX {
            return None;
        }
        let code = "EveryRecordRejected".to_owned();
        let message = "the calls go through, and no record of them is accepted".to_owned();
        self.tell(CallError { class: ErrorClass::Throttled, code, message }, now)
    }

    /// Something was accepted: whatever was failing is over.
    pub fn end(&mut self, now: Duration) -> Option<Transition> {
        self.failures = [0; 2];
        self.probe = None;
        self.barren_since = None;
        self.told.clear();
        let (from, _, since) = self.failing.take()?;
        Some(Transition::Recovered { from, after: now.saturating_sub(since) })
    }

    fn tell(&mut self, failure: CallError, now: Duration) -> Option<Transition> {
        let since = match &self.failing {
            Some((class, code, _)) if *class == failure.class && *code == failure.code => return None,
            Some((_, _, since)) => *since,
            None => now,
        };
        self.failing = Some((failure.class, failure.code.clone(), since));
        // Of what passes by itself, one of its kind is enough.
        let code = if failure.needs_a_person() { failure.code.clone() } else { String::new() };
        let told = (failure.class, code);
        if self.told.contains(&told) || self.told.len() >= TOLD_MAX {
            return Some(Transition::FailingAgain(failure));
        }
        self.told.push(told);
        Some(Transition::Failing(failure))
    }
}
