//! Recordings ⇄ points to replay: CSV with the columns `offset_s,heart_rate_bpm` (and, if wanted,
//! `rr_ms` with a list), or with a column `rr_ms` alone. Pure but for reading the file.

use std::path::Path;
use std::time::Duration;

use crate::heart_rate::{HeartRateMeasurement, RrInterval};

/// A measurement at its time in the recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Time since the recording began.
    pub offset: Duration,
    /// What the sensor sends then.
    pub measurement: HeartRateMeasurement,
}

/// Why a recording cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file cannot be read, or is no CSV.
    #[error("the recording cannot be read as CSV")]
    Csv(#[from] csv::Error),
    /// Its columns are not those of a recording.
    #[error("the recording needs the columns `offset_s,heart_rate_bpm`, or `rr_ms`; it has `{0}`")]
    Columns(String),
    /// A cell is not the number it should be.
    #[error("line {line} of the recording: `{cell}` is no {expected}")]
    Cell {
        /// Line of the file, from 1.
        line: u64,
        /// What stands there.
        cell: String,
        /// What should.
        expected: &'static str,
    },
}

/// Reads the recording at `path`.
pub fn read(path: &Path) -> Result<Vec<Point>, RecordingError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_path(path)?;
    let headers = reader.headers()?.clone();
    let column = |name: &str| headers.iter().position(|header| header == name);
    let columns = (column("offset_s"), column("heart_rate_bpm"), column("rr_ms"));
    let mut points = Vec::new();
    let mut beats = Beats::default();
    for row in reader.records() {
        let row = row?;
        let line = row.position().map_or(0, csv::Position::line);
        let bad = |cell: &str, expected| RecordingError::Cell { line, cell: cell.to_owned(), expected };
        let rr_of = |index: usize| -> Result<Vec<RrInterval>, RecordingError> {
            let cells =
                row.get(index).unwrap_or_default().split([' ', ';', '|']).filter(|cell| !cell.is_empty());
            cells
                .map(|cell| {
                    let ms = cell.parse().ok().and_then(RrInterval::from_ms);
                    ms.ok_or_else(|| bad(cell, "RR-Interval in milliseconds"))
                })
                .collect()
        };
        match columns {
            (Some(offset), Some(heart_rate), rr) => {
                let cell = row.get(offset).unwrap_or_default();
                let seconds: Option<f64> = cell.parse().ok();
                let offset = seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
                let offset = offset.ok_or_else(|| bad(cell, "number of seconds"))?;
                let cell = row.get(heart_rate).unwrap_or_default();
                let heart_rate = cell.parse().map_err(|_| bad(cell, "heart rate"))?;
                let rr_intervals = rr.map_or(Ok(Vec::new()), rr_of)?;
                points.push(Point { offset, measurement: measurement(heart_rate, rr_intervals) });
            }
            (_, _, Some(rr)) => rr_of(rr)?.into_iter().for_each(|rr| beats.push(rr, &mut points)),
            _ => return Err(RecordingError::Columns(headers.iter().collect::<Vec<_>>().join(","))),
        }
    }
    beats.finish(&mut points);
    Ok(points)
}

/// Collects heartbeats into one notification a second, as a strap does.
#[derive(Default)]
struct Beats {
    elapsed_ms: f64,
    pending: Vec<RrInterval>,
}

impl Beats {
    fn push(&mut self, rr: RrInterval, points: &mut Vec<Point>) {
        self.pending.push(rr);
        if self.pending.iter().map(|rr| rr.as_ms()).sum::<f64>() >= 1000.0 {
            self.finish(points);
        }
    }

    fn finish(&mut self, points: &mut Vec<Point>) {
        if self.pending.is_empty() {
            return;
        }
        let span_ms: f64 = self.pending.iter().map(|rr| rr.as_ms()).sum();
        self.elapsed_ms += span_ms;
        let heart_rate = (60_000.0 * self.pending.len() as f64 / span_ms.max(1.0)).round() as u16;
        let offset = Duration::from_secs_f64(self.elapsed_ms / 1000.0);
        points
            .push(Point { offset, measurement: measurement(heart_rate, std::mem::take(&mut self.pending)) });
    }
}

fn measurement(heart_rate: u16, rr_intervals: Vec<RrInterval>) -> HeartRateMeasurement {
    HeartRateMeasurement { heart_rate, sensor_contact: None, energy_expended_kj: None, rr_intervals }
}
