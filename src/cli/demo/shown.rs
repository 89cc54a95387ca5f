//! What the demo shows of each reading that the sink has accepted: on a terminal a line for each watch that moves,
//! else a line for each reading.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;

use super::super::moving::Lines;
use crate::drainer::RecordSink;
use crate::drainer::batch::Record;
use crate::drainer::settle::{CallError, EntryVerdict};
use crate::wire::WireRecord;

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
            let shown = lines.filter_map(|line| serde_json::from_slice::<WireRecord<'_>>(line).ok());
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

    fn kind(&self) -> &'static str {
        self.sink.kind()
    }

    fn calls_in_flight_max(&self) -> usize {
        self.sink.calls_in_flight_max()
    }
}

fn print(out: &mut impl Write, record: &WireRecord<'_>) -> io::Result<()> {
    let WireRecord { timestamp, sensor_id, sequence, .. } = record;
    writeln!(out, "{timestamp}  {sensor_id}  #{sequence:<6} {}", words(record))
}

fn words(record: &WireRecord<'_>) -> String {
    match (record.heart_rate, record.gap_reason) {
        (Some(heart_rate), _) => {
            let rr = record.rr_intervals_ms.iter().map(|ms| format!(" {ms:.1}")).collect::<String>();
            let rr = if rr.is_empty() { rr } else { format!("   RR{rr} ms") };
            format!("{heart_rate:>3} bpm{rr}")
        }
        (None, Some(reason)) => format!("gap: {reason:?}"),
        (None, None) => "sensor state".to_owned(),
    }
}

/// A line for each watch.
#[derive(Default)]
struct Screen {
    lines: Lines,
    watches: Vec<(String, VecDeque<u16>)>,
}

impl Screen {
    fn show(&mut self, record: &WireRecord<'_>) {
        let known = self.watches.iter().position(|(sensor, _)| *sensor == record.sensor_id);
        let index = known.unwrap_or(self.watches.len());
        if index == WATCHES_MAX {
            return;
        }
        if known.is_none() {
            self.watches.push((record.sensor_id.to_string(), VecDeque::new()));
        }
        let (sensor, rates) = &mut self.watches[index];
        if let Some(heart_rate) = record.heart_rate {
            if rates.len() == CHART_READINGS {
                rates.pop_front();
            }
            rates.push_back(heart_rate);
        }
        let chart = chart(rates.iter().copied());
        self.lines.set(index, format!("{sensor:<16} {chart:<CHART_READINGS$} {}", words(record)));
    }
}

/// Eight heights between the lowest and the highest, which are at least 20 apart.
fn chart(rates: impl Iterator<Item = u16> + Clone) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (low, high) = (rates.clone().min().unwrap_or(0), rates.clone().max().unwrap_or(0));
    let span = usize::from(high - low).max(20);
    rates.map(|rate| HEIGHTS[usize::from(rate - low) * (HEIGHTS.len() - 1) / span]).collect()
}
