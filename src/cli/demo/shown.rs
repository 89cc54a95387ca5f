//! What the demo shows of each reading that the sink has accepted: on a terminal a line for each watch that moves,
//! else a line for each reading.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::super::moving::Lines;
use crate::drainer::RecordSink;
use crate::drainer::batch::Record;
use crate::drainer::settle::{CallError, EntryVerdict};

/// Watches that a terminal has room for.
const WATCHES_MAX: usize = 20;
/// Readings in a chart.
const CHART_READINGS: usize = 40;

/// A sink that shows what it accepted.
pub(super) struct Shown {
    sink: Arc<dyn RecordSink>,
    screen: Option<Mutex<Screen>>,
}

impl Shown {
    /// `plain` where lines shall not move.
    pub(super) fn new(sink: Arc<dyn RecordSink>, plain: bool) -> Self {
        let moves = !plain && io::stdout().is_terminal();
        Self { sink, screen: moves.then(Mutex::default) }
    }
}

impl RecordSink for Shown {
    fn put<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Result<Vec<EntryVerdict>, CallError>> {
        Box::pin(async move {
            let verdicts = self.sink.put(records).await?;
            let accepted = records.iter().zip(&verdicts);
            let accepted = accepted.filter(|(_, verdict)| matches!(verdict, EntryVerdict::Accepted { .. }));
            let lines = accepted.flat_map(|(record, _)| record.data.split(|byte| *byte == b'\n'));
            let shown = lines.filter_map(|line| serde_json::from_slice(line).ok().map(Line));
            match &self.screen {
                Some(screen) => {
                    let mut screen = screen.lock().unwrap_or_else(PoisonError::into_inner);
                    shown.for_each(|record| screen.show(&record));
                }
                None => {
                    let mut out = io::stdout().lock();
                    // A reader that went away (`| head`) does not stop the demo.
                    shown.for_each(|record| _ = print(&mut out, &record));
                }
            }
            Ok(verdicts)
        })
    }

    fn identity_ends_at_s(&self) -> Option<i64> {
        self.sink.identity_ends_at_s()
    }

    fn kind(&self) -> &'static str {
        self.sink.kind()
    }

    fn calls_in_flight_max(&self) -> usize {
        self.sink.calls_in_flight_max()
    }
}

/// A line of the wire.
struct Line(Map<String, Value>);

impl Line {
    fn text(&self, field: &str) -> &str {
        self.0.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    fn number(&self, field: &str) -> Option<u64> {
        self.0.get(field)?.as_u64()
    }

    fn words(&self) -> String {
        match (self.number("heart_rate"), self.text("gap_reason")) {
            (Some(heart_rate), _) => {
                let rr = self.0.get("rr_intervals_ms").and_then(Value::as_array).into_iter().flatten();
                let rr: String = rr.filter_map(Value::as_f64).map(|ms| format!(" {ms:.1}")).collect();
                let rr = if rr.is_empty() { rr } else { format!("   RR{rr} ms") };
                format!("{heart_rate:>3} bpm{rr}")
            }
            (None, "") => "sensor state".to_owned(),
            (None, reason) => format!("gap: {reason}"),
        }
    }
}

fn print(out: &mut impl Write, line: &Line) -> io::Result<()> {
    let sequence = line.number("sequence").unwrap_or_default();
    writeln!(out, "{}  {}  #{sequence:<6} {}", line.text("timestamp"), line.text("sensor_id"), line.words())
}

/// A line for each watch.
#[derive(Default)]
struct Screen {
    lines: Lines,
    watches: Vec<(String, VecDeque<u16>)>,
}

impl Screen {
    fn show(&mut self, record: &Line) {
        let known = self.watches.iter().position(|(sensor, _)| sensor == record.text("sensor_id"));
        let index = known.unwrap_or(self.watches.len());
        if index == WATCHES_MAX {
            return;
        }
        if known.is_none() {
            self.watches.push((record.text("sensor_id").to_owned(), VecDeque::new()));
        }
        let (sensor, rates) = &mut self.watches[index];
        if let Some(heart_rate) = record.number("heart_rate") {
            if rates.len() == CHART_READINGS {
                rates.pop_front();
            }
            rates.push_back(u16::try_from(heart_rate).unwrap_or(u16::MAX));
        }
        let chart = chart(rates.iter().copied());
        self.lines.set(index, format!("{sensor:<16} {chart:<CHART_READINGS$} {}", record.words()));
    }
}

/// Eight heights between the lowest and the highest, which are at least 20 apart.
fn chart(rates: impl Iterator<Item = u16> + Clone) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (low, high) = (rates.clone().min().unwrap_or(0), rates.clone().max().unwrap_or(0));
    let span = usize::from(high - low).max(20);
    rates.map(|rate| HEIGHTS[usize::from(rate - low) * (HEIGHTS.len() - 1) / span]).collect()
}
