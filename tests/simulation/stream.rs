//! The judge of what reaches the stream: each line is what was measured, under the one id that it has for
//! ever, and comes again only where an answer or a removal was lost.

use chrono::{DateTime, SecondsFormat};
use hr_gateway::drainer::batch::Record;
use hr_gateway::reading::{GapReason, Moment};
use serde_json::Value;

use crate::history::SENSORS;
use crate::oracle::{Given, Id, Oracle, What};
use crate::sensors::POISON;

/// When the histories begin, milliseconds since 1970.
pub const BEGIN_MS: i64 = 1_752_599_433_123;

/// A PutRecords call.
pub struct Call {
    /// Nobody knows how it ended.
    pub is_ambiguous: bool,
    /// It was not answered yet.
    pub is_open: bool,
}

/// That the stream has something.
pub struct Acceptance {
    call: u64,
    pub may_come_again: bool,
}

impl Oracle {
    /// A call is made by a process that has made so many operations durable. Returns its number.
    pub fn sending(&mut self, records: &[Record], durable: u64) -> u64 {
        let bytes: usize = records.iter().map(Record::bytes).sum();
        if records.is_empty() || records.len() > 500 || bytes > 5 << 20 {
            self.violated(|| format!("a call of {} records and {bytes} bytes", records.len()));
        }
        for sequence in records.iter().flat_map(|record| &record.sequences) {
            let given = self.queued.get(sequence).map(|id| self.given[id].operation);
            if given.is_some_and(|operation| operation > durable) {
                self.violated(|| format!("sequence {sequence} leaves before it is durable"));
            }
        }
        self.calls.push(Call { is_ambiguous: false, is_open: true });
        self.calls.len() as u64 - 1
    }

    pub fn answered(&mut self, call: u64) {
        self.calls[call as usize].is_open = false;
    }

    pub fn answer_was_lost(&mut self, call: u64) {
        self.saw("an answer lost");
        self.calls[call as usize] = Call { is_ambiguous: true, is_open: false };
    }

    /// Whether the stream refuses it for good.
    pub fn is_poison(&self, record: &Record) -> bool {
        let mark = format!("\"heart_rate\":{POISON},");
        record.data.windows(mark.len()).any(|window| window == mark.as_bytes())
    }

    /// The stream takes a record in.
    pub fn accepted(&mut self, call: u64, record: &Record) {
        let text = String::from_utf8_lossy(&record.data).into_owned();
        let lines = text.lines().count();
        if lines != record.sequences.len() || lines > 500 || !text.ends_with('\n') {
            self.violated(|| format!("a record of {lines} lines for {:?}", record.sequences));
        }
        for line in text.lines() {
            self.fingerprint = line.bytes().fold(self.fingerprint, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
            match self.judge_line(record.sensor.as_str(), line) {
                Ok(id) => {
                    self.note_kind(id, line);
                    self.accept(call, id);
                }
                Err(what) => self.violated(|| format!("{what}: {line}")),
            }
        }
    }

    fn note_kind(&mut self, id: Id, line: &str) {
        if line.contains("\"clock\":\"corrected\"") {
            self.saw("a corrected time");
        }
        if line.contains("\"clock\":\"unsynchronized\"") {
            self.saw("a time that nobody knows");
        }
        if matches!(self.given[&id].what, What::State(_)) {
            self.saw("a sensor state");
        }
        if let What::Gap(gap) = &self.given[&id].what {
            let kind = match gap.reason {
                GapReason::LinkDown => "gap: link down",
                GapReason::AdapterGone => "gap: adapter gone",
                GapReason::SensorSilent => "gap: sensor silent",
                GapReason::NoContact => "gap: no contact",
                GapReason::GatewayDown => "gap: gateway down",
                GapReason::ClockUnsynchronized => "gap: clock unsynchronized",
                GapReason::Evicted => "gap: evicted",
                GapReason::QueueLost => "gap: queue lost",
                GapReason::SensorReplaced => "gap: sensor replaced",
                GapReason::AdapterFull => "gap: adapter full",
            };
            self.saw(kind);
        }
    }

    fn accept(&mut self, call: u64, id: Id) {
        let now_ambiguous = self.calls[call as usize].is_ambiguous;
        let acceptance = Acceptance { call, may_come_again: false };
        if let Some(before) = self.accepted.insert(id, acceptance) {
            self.saw("sent again");
            let was_ambiguous = self.calls[before.call as usize].is_ambiguous || before.may_come_again;
            if !was_ambiguous && !now_ambiguous {
                self.violated(|| format!("{id:?} is sent again, though its answer came"));
            }
            if let Some(acceptance) = self.accepted.get_mut(&id) {
                // The older one may still be removed late.
                acceptance.may_come_again = now_ambiguous;
            }
        }
    }

    fn judge_line(&self, key: &str, line: &str) -> Result<Id, String> {
        let line: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let text = |field: &str| line[field].as_str().unwrap_or_default();
        let id = text("reading_id").split_once('-').and_then(|(epoch, sequence)| {
            Some((u64::from_str_radix(epoch, 16).ok()?, sequence.parse().ok()?))
        });
        let id: Id = id.ok_or("it has no id")?;
        let given = self.given.get(&id).ok_or("its id was never given")?;
        if line["sequence"] != id.1
            || text("sensor_id") != SENSORS[given.sensor]
            || key != SENSORS[given.sensor]
        {
            return Err("its sequence or sensor is not its own".to_owned());
        }
        self.judge_time(&line, given)?;
        match &given.what {
            What::Reading(number) => {
                let measured = &self.sent[*number].measurement;
                let rr: Vec<f64> =
                    measured.rr_intervals.iter().map(|rr| f64::from(rr.0) * 1000.0 / 1024.0).collect();
                let same = line["heart_rate"] == measured.heart_rate
                    && line["sensor_contact"].as_bool() == measured.sensor_contact
                    && line["energy_expended_kj"].as_u64() == measured.energy_expended_kj.map(u64::from)
                    && line["rr_intervals_ms"] == Value::from(rr);
                same.then_some(id).ok_or_else(|| format!("it is not what was measured, {measured:?}"))
            }
            What::State(state) => {
                let same = line["heart_rate"].is_null()
                    && line["record"] == "sensor_state"
                    && line["battery_percent"].as_u64() == state.battery_percent.map(u64::from)
                    && line["rssi_dbm"].as_i64() == state.rssi_dbm.map(i64::from);
                same.then_some(id).ok_or_else(|| format!("it is not the state that was, {state:?}"))
            }
            What::Gap(gap) => {
                let same = line["heart_rate"].is_null()
                    && line["gap_reason"] == serde_json::to_value(gap.reason).unwrap_or_default()
                    && line["gap_readings_lost"].as_u64().unwrap_or(0) == gap.readings_lost
                    && line["gap_end"] == line["timestamp"];
                // Of two boots only two right clocks tell which came first.
                let one_line = gap.start.boot == given.taken.boot || given.taken.synchronized;
                let knows = text("clock") != "unsynchronized" && gap.start.synchronized && one_line;
                if knows && text("gap_start") != self.true_time(&gap.start) {
                    return Err("its gap does not begin when it did".to_owned());
                }
                same.then_some(id).ok_or_else(|| format!("it is not the gap that was, {gap:?}"))
            }
        }
    }

    fn judge_time(&self, line: &Value, given: &Given) -> Result<(), String> {
        // What the machine knew is what the sensors' script says, not what the reading claims.
        let taken = match given.what {
            What::Reading(number) => self.sent[number].at,
            What::Gap(_) | What::State(_) => given.taken,
        };
        let is_anchored = || self.boots.iter().any(|boot| boot.id == taken.boot.0 && boot.anchored);
        let is_right = match line["clock"].as_str() {
            Some("synchronized") => taken.synchronized && line["timestamp"] == self.true_time(&taken),
            Some("corrected") => is_anchored() && line["timestamp"] == self.true_time(&taken),
            Some("unsynchronized") => !taken.synchronized && line["timestamp"] == time(taken.wall_ms),
            _ => false,
        };
        is_right
            .then_some(())
            .ok_or_else(|| format!("its time is wrong for {taken:?}, it was {}", self.true_time(&taken)))
    }

    fn true_time(&self, moment: &Moment) -> String {
        time(BEGIN_MS + self.true_ms(moment) as i64)
    }
}

fn time(ms: i64) -> String {
    let time = DateTime::from_timestamp_millis(ms).expect("histories are in this era");
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
