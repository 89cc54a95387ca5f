//! A batch → the readings to write, and the lines to set aside, each with its position. Pure.

use std::collections::HashMap;

use serde_json::value::RawValue;

use crate::event::Batch;
use crate::line::Reading;

/// Most lines of one record. Firehose takes no more out of one, and the gateway packs no more: with more,
/// the index would hold what the lake does not. (Amazon Data Firehose, "Dynamic partitioning: record
/// deaggregation".)
pub const RECORD_LINES_MAX: usize = 500;

/// A batch, read.
#[derive(Debug, Default)]
pub struct Intake {
    /// How many lines there were; a record that cannot be read counts as one. It is `readings` and what
    /// `set_aside` and `repeated` count.
    pub lines: usize,
    /// In the stream's order, one for each `reading_id`.
    pub readings: Vec<Placed>,
    /// In the stream's order.
    pub set_aside: Vec<SetAside>,
    /// Copies of a reading that comes again later in the batch: the later one is written. Both would end in
    /// the later one too, unless only the earlier one has to be tried again.
    pub repeated: usize,
}

/// A reading and where it stood.
#[derive(Debug)]
pub struct Placed {
    /// Index of the record in the batch.
    pub record: usize,
    /// Line in the record, from 1.
    pub line: usize,
    /// The reading or gap record.
    pub reading: Reading<'static>,
}

/// What will never be in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Index of the record in the batch.
    pub record: usize,
    /// Line in the record, from 1; `None` if the record cannot be read at all.
    pub line: Option<usize>,
    /// How many lines, beginning with that one.
    pub lines: usize,
    /// Why, without quoting it.
    pub reason: String,
}

impl Intake {
    /// Reads each line of each record.
    pub fn of(batch: &Batch<'_>) -> Self {
        let mut intake = Self::default();
        for (record, stream_record) in batch.records.iter().enumerate() {
            match stream_record.text() {
                Ok(text) => intake.take(record, &text),
                Err(unreadable) => intake.put_aside(record, None, 1, unreadable.to_string()),
            }
        }
        intake.lines += intake.readings.len();
        intake.drop_earlier_copies();
        intake
    }

    fn take(&mut self, record: usize, text: &str) {
        let lines = text.split('\n').enumerate();
        let mut lines = lines.flat_map(|(index, line)| objects(line).map(move |object| (index + 1, object)));
        for (line, text) in lines.by_ref().take(RECORD_LINES_MAX) {
            match Reading::parse(text) {
                Ok(reading) => self.readings.push(Placed { record, line, reading }),
                Err(poison) => self.put_aside(record, Some(line), 1, poison.to_string()),
            }
        }
        if let Some((line, _)) = lines.next() {
            let reason = format!("the record has more than {RECORD_LINES_MAX} lines");
            self.put_aside(record, Some(line), 1 + lines.count(), reason);
        }
    }

    fn put_aside(&mut self, record: usize, line: Option<usize>, lines: usize, reason: String) {
        self.lines += lines;
        self.set_aside.push(SetAside { record, line, lines, reason });
    }

    fn drop_earlier_copies(&mut self) {
        let ids = self.readings.iter().map(|placed| &*placed.reading.record.reading_id);
        let last: HashMap<&str, usize> = ids.zip(0..).collect();
        let mut keep = vec![false; self.readings.len()];
        last.into_values().for_each(|position| keep[position] = true);
        let mut keep = keep.into_iter();
        let before = self.readings.len();
        self.readings.retain(|_| keep.next().unwrap_or(true));
        self.repeated = before - self.readings.len();
    }
}

/// The JSON objects of one line: Firehose takes several that stand side by side apart, too. What is no JSON is one, to
/// the line's end.
fn objects(line: &str) -> impl Iterator<Item = &str> {
    let mut values = serde_json::Deserializer::from_str(line).into_iter::<&RawValue>();
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let begin = values.byte_offset();
        match values.next()? {
            Ok(value) => Some(value.get()),
            Err(_) => {
                ended = true;
                Some(&line[begin..])
            }
        }
    })
}
