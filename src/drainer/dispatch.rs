//! What to send next, and what an answer changes. Pure: time comes in, steps come out.
//!
//! [`Dispatcher::poll`] says what to do; `handle_*` tell it what happened. It keeps the *claimed*
//! sequences: fetched from the queue and not yet settled. What must hold:
//!
//! * A claimed item is in exactly one place: waiting, in flight, suspect, or accepted and about to be
//!   removed. So nothing is sent twice unless an answer was lost.
//! * When the endpoint fails as a whole, claims are given back: the queue is the only memory of an
//!   outage, and what is sent after it is encoded anew (the clock may have been corrected meanwhile).
//! * A reading is dead-lettered only alone, and only if the sink accepted something else since it was
//!   first refused: a sink that refuses everything costs nothing.

use std::collections::HashMap;
use std::time::Duration;

use super::batch::{BATCH_RECORDS_MAX, CallSize, Limits, Record};
use super::hold::Hold;
use super::outage::Outage;
use super::pace::Pacer;
use super::settle::{CallError, EntryVerdict, ErrorClass, Settlement};
use super::suspects::{Others, Refusal, Suspects};
use super::waiting::{Tries, Waiting, WaitingRecords};
use crate::backoff::Backoff;
use crate::config::DrainOrder;
use crate::queue::durable::SEAL_ITEMS;
use crate::queue::sequence_set::SequenceSet;

/// Most items fetched at once.
pub const FETCH_ITEMS_MAX: usize = 2_500;
/// A fetch is this many, or a multiple: what the queue writes and removes at once.
const FETCH_ITEMS_STEP: usize = SEAL_ITEMS as usize;
/// What an item is taken to need before any was seen, bytes.
const ITEM_BYTES: usize = 300;
/// Most items claimed at once: bounds the drainer's memory, at about 230 bytes encoded each.
pub const CLAIMED_ITEMS_MAX: u64 = 10_000;
/// What a call may carry that asks whether an outage is over: sent in vain again and again, perhaps by many.
const PROBE_BYTES_MAX: usize = 8 << 10;
const RETRY_BASE: Duration = Duration::from_millis(100);
const BLOCKED_BASE: Duration = Duration::from_secs(1);

/// What the driver does next.
#[derive(Debug)]
pub enum Step {
    /// Peek at so many items beyond [`Dispatcher::claimed`] and hand them to
    /// [`Dispatcher::handle_fetched`]; other steps may be carried out meanwhile.
    Fetch(usize),
    /// Send, and hand the answer to [`Dispatcher::handle_answer`].
    Send(Batch),
    /// Nothing until then, or until something happens.
    Wait(Option<Duration>),
}

/// One call's records.
#[derive(Debug, Default)]
pub struct Batch {
    /// The records.
    pub records: Vec<Record>,
    /// What is known of each.
    tries: Vec<Tries>,
    /// For a batch that is being searched for what the sink refuses: when that began.
    suspect_since: Option<u64>,
    /// Some of it is for shards that accepted nothing of late.
    asks_barren: bool,
}

/// The state machine.
#[derive(Debug)]
pub struct Dispatcher {
    limits: Limits,
    order: DrainOrder,
    retry: Backoff,
    claimed: SequenceSet,
    claimed_count: u64,
    waiting: WaitingRecords,
    suspects: Suspects,
    in_flight: usize,
    /// The queue may hold items that are not claimed.
    more: bool,
    /// How often claims were given back, when the fetch under way began.
    fetching: Option<u64>,
    given_back: u64,
    newest_seen: u64,
    fetches: u64,
    /// What an item of the last large fetch needs, bytes.
    item_bytes: usize,
    outage: Outage,
    pacer: Pacer,
    hold: Hold,
    size: CallSize,
    accepted_calls: u64,
    random: fastrand::Rng,
}

impl Dispatcher {
    /// A dispatcher that first looks into the queue.
    pub fn new(limits: Limits, order: DrainOrder, random: fastrand::Rng) -> Self {
        let backoff = |base: Duration, ceiling: Duration| {
            Backoff::new(base.min(ceiling), ceiling).expect("the configuration's ceilings are above zero")
        };
        let retry = backoff(RETRY_BASE, limits.retry_delay_max);
        Self {
            retry,
            limits,
            order,
            claimed: SequenceSet::default(),
            claimed_count: 0,
            waiting: WaitingRecords::default(),
            suspects: Suspects::default(),
            in_flight: 0,
            more: true,
            fetching: None,
            given_back: 0,
            newest_seen: 0,
            fetches: 0,
            item_bytes: ITEM_BYTES,
            outage: Outage::new(retry, backoff(BLOCKED_BASE, limits.blocked_delay_max)),
            pacer: Pacer::default(),
            hold: Hold::new(limits.retry_delay_max),
            size: CallSize::new(limits.batch_bytes_max),
            accepted_calls: 0,
            random,
        }
    }

    /// The sequences that are fetched and not settled.
    pub fn claimed(&self) -> &SequenceSet {
        &self.claimed
    }

    /// Something was appended or put back.
    pub fn handle_appended(&mut self) {
        self.more = true;
    }

    /// What to do now.
    pub fn poll(&mut self, now: Duration) -> Step {
        let calls_max = match self.outage.probe_at() {
            Some(at) if now < at => return Step::Wait(Some(at)),
            Some(_) => 1,
            None => self.limits.calls_in_flight_max,
        };
        if self.in_flight >= calls_max {
            return Step::Wait(None);
        }
        let newest_first = self.order == DrainOrder::NewestFirst;
        let mut bytes_max = self.size.bytes_max(now);
        if self.outage.probe_at().is_some() {
            bytes_max = bytes_max.min(PROBE_BYTES_MAX);
        }
        let fetch_items = self.fetch_items(bytes_max);
        if self.more
            && self.fetching.is_none()
            && self.claimed_count < CLAIMED_ITEMS_MAX
            && (newest_first || self.waiting.items() < fetch_items)
        {
            self.more = false;
            self.fetching = Some(self.given_back);
            return Step::Fetch(fetch_items);
        }
        if newest_first && self.fetching.is_some() {
            // What comes is newer than what waits.
            return Step::Wait(None);
        }
        let mut wake = None;
        let mut wait_until = |at: Duration| wake = Some(wake.map_or(at, |earlier: Duration| earlier.min(at)));
        if let Some((records, since)) = self.suspects.next(self.accepted_calls) {
            self.in_flight += 1;
            let tries = vec![Tries::default(); records.len()];
            return Step::Send(Batch { records, tries, suspect_since: Some(since), asks_barren: false });
        }
        let mut batch = Batch::default();
        let mut bytes = 0;
        let mut fits = None;
        let mut index = 0;
        while batch.records.len() < BATCH_RECORDS_MAX
            && let Some(next) = self.waiting.get(index)
        {
            if next.not_before > now {
                wait_until(next.not_before);
                index += 1;
                continue;
            }
            if bytes > 0 && bytes + next.record.bytes() > bytes_max {
                break;
            }
            // What was fetched together is sent together where it can be: it then leaves the queue as it lies there.
            if fits != Some(next.tries.fetch) {
                if bytes > 0 && bytes + self.waiting.bytes_of_fetch_at(index) > bytes_max {
                    break;
                }
                fits = Some(next.tries.fetch);
            }
            let shard = self.pacer.shard(&next.record.sensor);
            if let Err(until) = self.hold.admit(shard, now) {
                until.into_iter().for_each(&mut wait_until);
                index += 1;
                continue;
            }
            let barren = self.hold.is_barren(shard);
            let record_bytes_max = bytes_max.min(self.pacer.record_bytes_max(&next.record.sensor));
            if next.record.bytes() > record_bytes_max && next.record.sequences.len() > 1 {
                self.waiting.split(index, record_bytes_max);
                continue;
            }
            if let Err(wait) = self.pacer.admit(&next.record, now) {
                wait_until(now + wait);
                index += 1;
                continue;
            }
            let Some(next) = self.waiting.take(index) else { break };
            bytes += next.record.bytes();
            batch.records.push(next.record);
            batch.tries.push(next.tries);
            batch.asks_barren |= barren;
        }
        if batch.records.is_empty() {
            return Step::Wait(wake);
        }
        if batch.asks_barren {
            self.hold.asked();
        }
        self.in_flight += 1;
        Step::Send(batch)
    }

    /// As many as one call takes.
    fn fetch_items(&self, bytes_max: usize) -> usize {
        let steps = bytes_max / self.item_bytes / FETCH_ITEMS_STEP;
        (steps * FETCH_ITEMS_STEP).clamp(FETCH_ITEMS_STEP, FETCH_ITEMS_MAX)
    }

    /// The records packed from what [`Step::Fetch`] brought. `exhausted` says that the queue had fewer
    /// items than were asked for.
    pub fn handle_fetched(&mut self, records: Vec<Record>, exhausted: bool, now: Duration) {
        if self.fetching.take() != Some(self.given_back) {
            // Encoded before the sink failed: what is sent after that is encoded anew.
            self.more = true;
            return;
        }
        self.more |= !exhausted;
        let newest_before = self.newest_seen;
        let mut live = Vec::new();
        self.fetches += 1;
        let tries = Tries { attempts: 0, fetch: self.fetches };
        let items: usize = records.iter().map(|record| record.sequences.len()).sum();
        if items >= FETCH_ITEMS_STEP {
            self.item_bytes = records.iter().map(Record::bytes).sum::<usize>().div_ceil(items);
        }
        for record in records {
            self.claimed.extend(record.sequences.iter().copied());
            let newest = record.sequences.last().copied().unwrap_or_default();
            self.newest_seen = self.newest_seen.max(newest);
            self.claimed_count += record.sequences.len() as u64;
            let is_live = newest > newest_before;
            let waiting = Waiting { record, tries, not_before: now };
            match self.order {
                DrainOrder::NewestFirst if is_live => live.push(waiting),
                _ => self.waiting.push_back(waiting),
            }
        }
        self.waiting.put_first(live);
    }

    /// The answer to a batch that [`Step::Send`] gave out.
    pub fn handle_answer(
        &mut self,
        batch: Batch,
        answer: Result<Vec<EntryVerdict>, CallError>,
        now: Duration,
    ) -> Settlement {
        self.in_flight -= 1;
        if batch.asks_barren {
            self.hold.asked_and_ended();
        }
        match answer {
            Ok(verdicts) => self.settle_entries(batch, verdicts, now),
            Err(error) if error.class == ErrorClass::Poison => self.narrow_down(batch, error, now),
            Err(error) if error.class == ErrorClass::TooLarge => self.send_smaller(batch, error, now),
            Err(error) => self.give_back(batch.records, error, now),
        }
    }

    /// Settled items have left the queue; they are no longer claimed.
    pub fn forget(&mut self, settled: &SequenceSet) {
        self.claimed.remove_all(settled);
        self.claimed_count = self.claimed_count.saturating_sub(settled.count());
    }

    fn settle_entries(&mut self, batch: Batch, verdicts: Vec<EntryVerdict>, now: Duration) -> Settlement {
        let mut settlement = Settlement::default();
        let mut verdicts = verdicts.into_iter();
        // From the back, so that what goes back to the front keeps its order.
        let entries: Vec<_> = batch.records.into_iter().zip(batch.tries).collect();
        let mut again = Vec::new();
        let mut shards: HashMap<String, bool> = HashMap::new();
        for (record, Tries { attempts, fetch }) in entries {
            let known = self.pacer.shard(&record.sensor);
            if !shards.contains_key(known) {
                shards.insert(known.to_owned(), false);
            }
            // An answer shorter than the batch says nothing of the rest: not accepted.
            match verdicts.next().unwrap_or(EntryVerdict::Failed) {
                EntryVerdict::Accepted { shard } => {
                    shards.get_mut(known).into_iter().for_each(|accepted| *accepted = true);
                    shard.iter().for_each(|shard| _ = shards.insert(shard.clone(), true));
                    self.pacer.accepted(&record.sensor, shard.as_deref());
                    settlement.accepted.extend(record.sequences);
                    continue;
                }
                EntryVerdict::Throttled => self.pacer.throttled(&record.sensor, now),
                EntryVerdict::Failed => {}
            }
            let delay = self.retry.delay(attempts, self.random.f64());
            let tries = Tries { attempts: attempts + 1, fetch };
            again.push(Waiting { record, tries, not_before: now + delay });
        }
        self.waiting.put_first(again);
        self.hold.answered(shards, now, self.random.f64());
        if settlement.accepted.is_empty() {
            settlement.transition = self.outage.barren(now);
        } else {
            self.accepted_calls += 1;
            self.suspects.note_accepted();
            if self.outage.probe_at().is_some() {
                self.pacer.outage_ended(now);
            }
            settlement.transition = self.outage.end(now);
        }
        settlement
    }

    /// The sink refuses something in this batch: halve it, down to the one reading.
    fn narrow_down(&mut self, batch: Batch, error: CallError, now: Duration) -> Settlement {
        let since = batch.suspect_since.unwrap_or(self.accepted_calls);
        let others = Others { waiting_items: self.waiting.items(), in_flight: self.in_flight > 0 };
        let accepted_calls = self.accepted_calls;
        match self.suspects.refused(batch.records, since, accepted_calls, others, &mut self.random) {
            Refusal::Narrowed => Settlement::default(),
            Refusal::ForGood(record) => {
                let sequences = record.sequences.into_iter().collect();
                Settlement { refused: Some((sequences, error.to_string())), ..Settlement::default() }
            }
            Refusal::OfEverything(records) => self.give_back(records, error, now),
        }
    }

    /// Something on the way takes no call of this size: the same in smaller calls from now on. It says
    /// nothing of the readings, so a single one that is still too large waits for a person.
    fn send_smaller(&mut self, batch: Batch, error: CallError, now: Duration) -> Settlement {
        let bytes = batch.records.iter().map(Record::bytes).sum();
        if let [record] = &batch.records[..]
            && record.sequences.len() == 1
        {
            self.size = CallSize::new(self.limits.batch_bytes_max);
            let error = CallError { class: ErrorClass::Blocked, ..error };
            return self.give_back(batch.records, error, now);
        }
        let bytes_max = self.size.refused(bytes, now);
        let smaller = batch.records.into_iter().flat_map(|record| record.split_to(bytes_max));
        let smaller = smaller.map(|record| Waiting { record, tries: Tries::default(), not_before: now });
        self.waiting.put_first(smaller.collect());
        Settlement::default()
    }

    /// The sink fails as a whole: everything that is not in flight goes back to the queue.
    fn give_back(&mut self, failed: Vec<Record>, error: CallError, now: Duration) -> Settlement {
        let released = failed.into_iter().chain(self.waiting.take_all()).chain(self.suspects.release());
        let released: SequenceSet = released.flat_map(|record| record.sequences).collect();
        self.newest_seen = 0;
        self.more = true;
        self.given_back += 1;
        self.forget(&released);

        let transition = self.outage.failed(error, now, self.random.f64());
        Settlement { transition, ..Settlement::default() }
    }
}
