//! Recordings → points to replay.
//!
//! | file | is |
//! | --- | --- |
//! | CSV with `offset_s,heart_rate_bpm` and perhaps `rr_ms` (a list, separated by spaces) | readings |
//! | CSV with `rr_ms` | heartbeats, put together to one reading a second, as a strap does |
//! | text without a header, an RR-Interval a line (as Kubios has it) | the same |
//! | what `hr-gatewayd queue export --format csv` writes | readings, by sensor |
//!
//! A further column `recording` names the recording that a row is of: each becomes a session of its own. A file that
//! cannot be meant so is refused with its line, and with what is allowed. Pure but for reading the file.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use chrono::DateTime;
use csv::StringRecord;

use crate::heart_rate::{HeartRateMeasurement, RrInterval};
use crate::reading::SensorId;

/// Between two recordings of one file: long enough that a session ends, and not waited for.
const PAUSE: Duration = Duration::from_secs(3_600);
/// Longest recording. More is no offset but a time of day.
const OFFSET_S_MAX: f64 = 31.0 * 86_400.0;
/// Watches step back by a second where a lap or a sport ends.
const STEP_BACK_MAX: Duration = Duration::from_secs(10);
const HEART_RATE_MAX: u16 = 300;
/// RR-Intervals that a heart, or a missed beat, can make.
const RR_MS: std::ops::RangeInclusive<f64> = 100.0..=10_000.0;

/// A measurement at its time in the recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Whose it is, where the file says so.
    pub sensor: Option<SensorId>,
    /// Time since the first recording began, pauses included.
    pub offset: Duration,
    /// When to play it: without the pauses.
    pub play_at: Duration,
    /// What the sensor sends then.
    pub measurement: HeartRateMeasurement,
}

/// Why a recording cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file cannot be read, or is no CSV.
    #[error("{file}: cannot be read as CSV")]
    Csv {
        /// The file.
        file: String,
        /// Why not.
        #[source]
        source: csv::Error,
    },
    /// There is something wrong with the whole.
    #[error("{file}: {what}")]
    Whole {
        /// The file.
        file: String,
        /// What, and what is allowed.
        what: String,
    },
    /// There is something wrong in a line.
    #[error("{file}, line {line}: {what}")]
    Line {
        /// The file.
        file: String,
        /// Its line, from 1.
        line: u64,
        /// What, and what is allowed.
        what: String,
    },
}

/// Which column holds what.
enum Columns {
    Readings { offset: usize, heart_rate: usize, rr: Option<usize>, recording: Option<usize> },
    Beats { rr: usize, recording: Option<usize> },
    Export { timestamp: usize, heart_rate: usize, rr: usize, sensor: usize },
}

const KNOWN: &str = "the columns `offset_s,heart_rate_bpm` (and perhaps `rr_ms` and `recording`), or `rr_ms`, or those of \
                     `queue export --format csv`, or an RR-Interval in milliseconds a line without a header";

impl Columns {
    /// Those that the first row names; `None` where it is no header.
    fn of(first: &StringRecord) -> Result<Option<Self>, String> {
        let column = |name: &str| first.iter().position(|cell| cell == name);
        let recording = column("recording");
        let columns = match (column("offset_s"), column("heart_rate_bpm"), column("rr_ms")) {
            (Some(offset), Some(heart_rate), rr) => Self::Readings { offset, heart_rate, rr, recording },
            (_, _, Some(rr)) => Self::Beats { rr, recording },
            _ => match (
                column("timestamp"),
                column("heart_rate"),
                column("rr_intervals_ms"),
                column("sensor_id"),
            ) {
                (Some(timestamp), Some(heart_rate), Some(rr), Some(sensor)) => {
                    Self::Export { timestamp, heart_rate, rr, sensor }
                }
                _ if first.len() == 1 && first.iter().all(|cell| cell.parse::<f64>().is_ok()) => {
                    return Ok(None);
                }
                _ => {
                    let found = first.iter().collect::<Vec<_>>().join(",");
                    return Err(format!("begins with `{found}`; a recording has {KNOWN}"));
                }
            },
        };
        Ok(Some(columns))
    }
}

/// Reads the recording at `path`: at least one point, in the order in which they are played.
pub fn read(path: &Path) -> Result<Vec<Point>, RecordingError> {
    let file = || path.display().to_string();
    let csv = |source| RecordingError::Csv { file: file(), source };
    let whole = |what: String| RecordingError::Whole { file: file(), what };
    let mut reader = csv::ReaderBuilder::new();
    reader.trim(csv::Trim::All).flexible(true).has_headers(false).comment(Some(b'#'));
    let mut reader = reader.from_path(path).map_err(csv)?;
    let mut columns = None;
    let mut points = Points::default();
    for row in reader.records() {
        let mut row = row.map_err(csv)?;
        let line = row.position().map_or(0, csv::Position::line);
        let at = |what: String| RecordingError::Line { file: file(), line, what };
        let columns = match &columns {
            Some(columns) => columns,
            None => {
                // Some programs begin a text with a byte order mark.
                if let Some(first) = row.get(0).and_then(|cell| cell.strip_prefix('\u{feff}')) {
                    row = std::iter::once(first).chain(row.iter().skip(1)).collect();
                }
                match Columns::of(&row).map_err(whole)? {
                    Some(known) => {
                        columns = Some(known);
                        continue;
                    }
                    None => columns.insert(Columns::Beats { rr: 0, recording: None }),
                }
            }
        };
        points.add(columns, &row).map_err(at)?;
    }
    points.finish();
    if points.points.is_empty() {
        return Err(whole(format!("holds no reading; a recording has {KNOWN}")));
    }
    Ok(points.points)
}

/// The points so far.
#[derive(Default)]
struct Points {
    points: Vec<Point>,
    recording: Option<String>,
    /// Where the present recording began: with pauses, and without.
    began: (Duration, Duration),
    /// In it, the latest offset.
    latest: Duration,
    beats: Vec<RrInterval>,
    beats_ms: f64,
    elapsed_ms: f64,
    first_timestamp_ms: Option<i64>,
}

impl Points {
    fn add(&mut self, columns: &Columns, row: &StringRecord) -> Result<(), String> {
        let cell = |index: usize| row.get(index).unwrap_or_default();
        let recording = |index: &Option<usize>| index.map(|index| cell(index).to_owned());
        match columns {
            Columns::Readings { offset, heart_rate, rr, recording: name } => {
                self.change_to(recording(name));
                let offset = offset_of(cell(*offset))?;
                if offset + STEP_BACK_MAX < self.latest {
                    return Err(format!(
                        "`offset_s` goes back, from {} to {}; rows stand in the order of their time, and a column \
                         `recording` names where the next begins",
                        self.latest.as_secs_f64(),
                        offset.as_secs_f64()
                    ));
                }
                let rr = rr.map_or(Ok(Vec::new()), |rr| rr_of(cell(rr)))?;
                self.push(offset, measurement(heart_rate_of(cell(*heart_rate))?, rr));
            }
            Columns::Beats { rr, recording: name } => {
                self.change_to(recording(name));
                for rr in rr_of(cell(*rr))? {
                    self.beats.push(rr);
                    self.beats_ms += rr.as_ms();
                    if self.beats_ms >= 1_000.0 {
                        self.close_reading();
                    }
                }
            }
            Columns::Export { timestamp, heart_rate, rr, sensor } => {
                // Gap and sensor state records have none.
                if cell(*heart_rate).is_empty() {
                    return Ok(());
                }
                let text = cell(*timestamp);
                let taken = DateTime::parse_from_rfc3339(text);
                let taken_ms =
                    taken.map_err(|_| format!("`{text}` is no RFC 3339 time stamp"))?.timestamp_millis();
                let first_ms = *self.first_timestamp_ms.get_or_insert(taken_ms);
                let since = u64::try_from(taken_ms - first_ms);
                let since = since
                    .map_err(|_| format!("`{text}` is before the first row; sort them by `sequence`"))?;
                let sensor: SensorId = cell(*sensor).parse().map_err(|error| format!("{error}"))?;
                self.push(
                    offset_of(&(since as f64 / 1_000.0).to_string())?,
                    measurement(heart_rate_of(cell(*heart_rate))?, rr_of(cell(*rr))?),
                );
                self.points.last_mut().expect("it was just put there").sensor = Some(sensor);
            }
        }
        Ok(())
    }

    /// Begins another recording, if its name is another.
    fn change_to(&mut self, recording: Option<String>) {
        if self.recording == recording {
            return;
        }
        if self.recording.is_some() {
            self.finish();
            if let Some(last) = self.points.last() {
                self.began = (last.offset + PAUSE, last.play_at);
            }
            (self.latest, self.elapsed_ms) = (Duration::ZERO, 0.0);
        }
        self.recording = recording;
    }

    fn push(&mut self, offset: Duration, measurement: HeartRateMeasurement) {
        self.latest = self.latest.max(offset);
        let (began, play_began) = self.began;
        self.points.push(Point {
            sensor: None,
            offset: began + offset,
            play_at: play_began + offset,
            measurement,
        });
    }

    /// Makes one reading of the heartbeats that were collected.
    fn close_reading(&mut self) {
        let rr = std::mem::take(&mut self.beats);
        let span_ms = std::mem::take(&mut self.beats_ms);
        self.elapsed_ms += span_ms;
        let heart_rate = (60_000.0 * rr.len() as f64 / span_ms).round() as u16;
        self.push(Duration::from_secs_f64(self.elapsed_ms / 1_000.0), measurement(heart_rate, rr));
    }

    fn finish(&mut self) {
        if !self.beats.is_empty() {
            self.close_reading();
        }
    }
}

fn refused(cell: &str, allowed: impl Display) -> String {
    format!("`{cell}` is not what stands there: {allowed}")
}

fn offset_of(cell: &str) -> Result<Duration, String> {
    let seconds = cell.parse::<f64>().ok().filter(|seconds| (0.0..=OFFSET_S_MAX).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| {
        refused(cell, format!("`offset_s` is the seconds since the recording began, 0 to {OFFSET_S_MAX}"))
    })
}

fn heart_rate_of(cell: &str) -> Result<u16, String> {
    let rate = cell.parse().ok().filter(|rate| *rate <= HEART_RATE_MAX);
    rate.ok_or_else(|| {
        refused(cell, format!("a heart rate is a whole number of beats per minute, 0 to {HEART_RATE_MAX}"))
    })
}

fn rr_of(cell: &str) -> Result<Vec<RrInterval>, String> {
    // A list in brackets is what an export has.
    let cells = cell.split([' ', ';', '|', ',', '[', ']']).filter(|cell| !cell.is_empty());
    let interval = |cell: &str| {
        let ms: Option<f64> = cell.parse().ok();
        let allowed = format!("an RR-Interval has {} to {} milliseconds", RR_MS.start(), RR_MS.end());
        match ms.filter(|ms| RR_MS.contains(ms)).and_then(RrInterval::from_ms) {
            Some(rr) => Ok(rr),
            None if ms.is_some_and(|ms| (0.1..10.0).contains(&ms)) => {
                Err(refused(cell, format!("{allowed}; this looks like seconds: multiply by 1000")))
            }
            None => Err(refused(cell, allowed)),
        }
    };
    cells.map(interval).collect()
}

fn measurement(heart_rate: u16, rr_intervals: Vec<RrInterval>) -> HeartRateMeasurement {
    HeartRateMeasurement { heart_rate, sensor_contact: None, energy_expended_kj: None, rr_intervals }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Point>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path())
            .map_err(|error| error.to_string().replace(&file.path().display().to_string(), "FILE"))
    }

    fn rates(points: &[Point]) -> Vec<u16> {
        points.iter().map(|point| point.measurement.heart_rate).collect()
    }

    #[test]
    fn each_form_is_read_as_what_it_is() {
        let readings = read_text("offset_s,heart_rate_bpm,rr_ms\n0,60,1000 500\n1.5,61,\n").unwrap();
        assert_eq!((rates(&readings), readings[0].measurement.rr_intervals.len()), (vec![60, 61], 2));
        assert_eq!(readings[1].play_at, Duration::from_millis(1_500));
        let beats = read_text("rr_ms\n1000\n500\n500\n").unwrap();
        assert_eq!(rates(&beats), [60, 120]);
        assert_eq!(rates(&read_text("\u{feff}# Kubios\n1000\n500\n500\n").unwrap()), [60, 120]);
        let export = "timestamp,heart_rate,rr_intervals_ms,sensor_id\n2025-07-15T17:10:33.000Z,60,,adi\n\
                      2025-07-15T17:10:34.000Z,,,adi\n2025-07-15T17:10:35.500Z,61,[983.4],bo\n";
        let export = read_text(export).unwrap();
        assert_eq!((rates(&export), export[1].offset), (vec![60, 61], Duration::from_millis(2_500)));
        assert_eq!(export[1].sensor.as_ref().unwrap().as_str(), "bo");
    }

    #[test]
    fn several_recordings_in_a_file_are_as_many_sessions_and_are_played_without_a_pause() {
        let points = read_text("recording,rr_ms\nrun,1000\nrun,1000\nbike,1000\n").unwrap();
        assert_eq!(points[2].offset - points[1].offset, PAUSE + Duration::from_secs(1));
        assert_eq!(points[2].play_at - points[1].play_at, Duration::from_secs(1));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_line_and_with_what_is_allowed() {
        for (text, words) in [
            ("", "FILE: holds no reading; a recording has the columns"),
            ("offset_s,heart_rate_bpm\n", "FILE: holds no reading"),
            ("time,bpm\n0,60\n", "FILE: begins with `time,bpm`; a recording has the columns `offset_s"),
            ("offset_s,heart_rate_bpm\n50,60\n4,61\n", "FILE, line 3: `offset_s` goes back, from 50 to 4"),
            (
                "offset_s,heart_rate_bpm\n1752599433,60\n",
                "FILE, line 2: `1752599433` is not what stands there",
            ),
            ("offset_s,heart_rate_bpm\n-1,60\n", "FILE, line 2: `-1`"),
            ("offset_s,heart_rate_bpm\n0,600\n", "beats per minute, 0 to 300"),
            ("offset_s,heart_rate_bpm\n0,NaN\n", "FILE, line 2: `NaN`"),
            (
                "rr_ms\n812\n0.812\n",
                "FILE, line 3: `0.812` is not what stands there: an RR-Interval has 100 to 10000 \
                                     milliseconds; this looks like seconds",
            ),
            ("0.812\n0.800\n", "FILE, line 1: `0.812`"),
            ("rr_ms\n90000\n", "100 to 10000 milliseconds"),
            (
                "timestamp,heart_rate,rr_intervals_ms,sensor_id\nyesterday,60,,a\n",
                "`yesterday` is no RFC 3339",
            ),
        ] {
            let said = read_text(text).unwrap_err();
            assert!(said.contains(words), "{text:?} is refused with:\n{said}\nwhich lacks:\n{words}");
        }
    }
}
