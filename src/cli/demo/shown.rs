//! What the demo shows of each reading that the sink has accepted: on a terminal a line for each watch that moves,
//! else a line for each reading.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

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
        let moves = !plain && io::stdout().is_terminal() && io::stderr().is_terminal();
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
    all: MultiProgress,
    watches: HashMap<String, Watch>,
}

struct Watch {
    line: ProgressBar,
    rates: VecDeque<u16>,
}

impl Screen {
    fn show(&mut self, record: &WireRecord<'_>) {
        if !self.watches.contains_key(&*record.sensor_id) {
            if self.watches.len() == WATCHES_MAX {
                return;
            }
            let style = ProgressStyle::with_template("{msg}").expect("it is one");
            let line = self.all.add(ProgressBar::no_length().with_style(style));
            self.watches.insert(record.sensor_id.to_string(), Watch { line, rates: VecDeque::new() });
        }
        let Some(watch) = self.watches.get_mut(&*record.sensor_id) else { return };
        if let Some(heart_rate) = record.heart_rate {
            if watch.rates.len() == CHART_READINGS {
                watch.rates.pop_front();
            }
            watch.rates.push_back(heart_rate);
        }
        let chart = chart(watch.rates.iter().copied());
        watch.line.set_message(format!(
            "{:<16} {chart:<CHART_READINGS$} {}",
            record.sensor_id,
            words(record)
        ));
    }
}

impl Drop for Screen {
    /// The last of each stays.
    fn drop(&mut self) {
        self.watches.values().for_each(|watch| watch.line.abandon());
    }
}

/// Eight heights between the lowest and the highest, which are at least 20 apart.
fn chart(rates: impl Iterator<Item = u16> + Clone) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (low, high) = (rates.clone().min().unwrap_or(0), rates.clone().max().unwrap_or(0));
    let span = usize::from(high - low).max(20);
    rates.map(|rate| HEIGHTS[usize::from(rate - low) * (HEIGHTS.len() - 1) / span]).collect()
}
