//! Bugs put in on purpose, each a small adapter around a real part: that the judge finds them is what the
//! silence of the other histories is worth.

use hr_gateway::ble::SourceEvent;
use hr_gateway::drainer::batch::Record;
use hr_gateway::drainer::settle::{CallError, EntryVerdict};
use hr_gateway::heart_rate::RrInterval;
use hr_gateway::queue::ledger::Ledger;
use hr_gateway::queue::sequence_set::SequenceSet;
use hr_gateway::reading::{Body, Content, Observation};

use crate::queue::SimulatedQueue;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    RemovedBeforeAccepted,
    AnswerOf200Trusted,
    TimeoutTakenForAccepted,
    VerdictsShifted,
    SyncForgotten,
    DeliveredBeforeDurable,
    NoNewEpoch,
    WitnessIgnored,
    InFlightLostAtStop,
    ChannelLostAtStop,
    DeadLetteredWhenThrottled,
    EvictedCountedAsDelivered,
    GapRecordForgotten,
    AppendedAgainOnRetry,
    WallClockTrusted,
    RrIntervalsRounded,
}

impl Plant {
    pub const ALL: [Self; 16] = [
        Self::RemovedBeforeAccepted,
        Self::AnswerOf200Trusted,
        Self::TimeoutTakenForAccepted,
        Self::VerdictsShifted,
        Self::SyncForgotten,
        Self::DeliveredBeforeDurable,
        Self::NoNewEpoch,
        Self::WitnessIgnored,
        Self::InFlightLostAtStop,
        Self::ChannelLostAtStop,
        Self::DeadLetteredWhenThrottled,
        Self::EvictedCountedAsDelivered,
        Self::GapRecordForgotten,
        Self::AppendedAgainOnRetry,
        Self::WallClockTrusted,
        Self::RrIntervalsRounded,
    ];

    /// Around the sink.
    pub fn before_put(self, records: &[Record], queue: &SimulatedQueue) {
        if self == Self::RemovedBeforeAccepted {
            _ = queue.take_out(&sequences(records));
        }
    }

    /// Around the sink.
    pub fn after_put(
        self,
        records: &[Record],
        answer: Result<Vec<EntryVerdict>, CallError>,
        queue: &SimulatedQueue,
    ) -> Result<Vec<EntryVerdict>, CallError> {
        let all = || Ok(vec![EntryVerdict::Accepted { shard: None }; records.len()]);
        match (self, answer) {
            (Self::AnswerOf200Trusted, Ok(_)) => all(),
            (Self::TimeoutTakenForAccepted, Err(error)) if error.code == "Timeout" => all(),
            (Self::VerdictsShifted, Ok(mut verdicts)) => {
                let shift = usize::from(!verdicts.is_empty());
                verdicts.rotate_right(shift);
                Ok(verdicts)
            }
            (Self::DeadLetteredWhenThrottled, Ok(verdicts)) => {
                for (record, verdict) in records.iter().zip(&verdicts) {
                    if *verdict == EntryVerdict::Throttled {
                        _ = queue.set_aside(&sequences(std::slice::from_ref(record)), "throttled");
                    }
                }
                Ok(verdicts)
            }
            (_, answer) => answer,
        }
    }

    /// Around the queue: the appends that are made of one.
    pub fn on_append(self, observations: &[Observation]) -> Vec<Vec<Observation>> {
        let mut taken = observations.to_vec();
        match self {
            Self::GapRecordForgotten => {
                taken.retain(|observation| !matches!(&observation.content, Content::Body(Body::Gap(_))));
            }
            // Those of three and more "failed" at first.
            Self::AppendedAgainOnRetry if taken.len() > 2 => return vec![taken.clone(), taken],
            Self::RrIntervalsRounded => taken.iter_mut().for_each(round_rr),
            _ => {}
        }
        vec![taken]
    }

    /// Around the queue.
    pub fn on_ledger(self, mut ledger: Ledger) -> Ledger {
        if self == Self::EvictedCountedAsDelivered {
            for row in ledger.rows.values_mut() {
                row.readings.delivered += std::mem::take(&mut row.readings.evicted);
            }
        }
        ledger
    }

    /// Around the source.
    pub fn on_event(self, event: &mut SourceEvent) {
        if self == Self::WallClockTrusted {
            event.at.synchronized = true;
        }
    }
}

/// To what a 1 kHz counter would have.
fn round_rr(observation: &mut Observation) {
    if let Content::Body(Body::Measurement(measurement)) = &mut observation.content {
        for interval in measurement.values.rr_intervals.iter_mut().skip(1) {
            *interval = RrInterval::from_ms(interval.as_ms().floor()).unwrap_or(RrInterval(0));
            interval.0 &= !1;
        }
    }
}

fn sequences(records: &[Record]) -> SequenceSet {
    records.iter().flat_map(|record| record.sequences.iter().copied()).collect()
}
