//! The tumbling window's state: which minutes of which sensors were touched. Pure.
//!
//! Not their sums: a record that Lambda brings twice would count twice. When the window ends the minutes
//! are summed from the index, where each reading is once.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::index::{Minute, minutes_index};

/// Most minutes that wait for the window's end; with more, all are summed at once. A window sees few
/// unless a gateway drains a backlog. At 90 bytes a minute, with the longest of names, these are 180 kB;
/// Lambda ends a window whose state grows beyond 1 MB.
pub const STATE_MINUTES_MAX: usize = 2_000;

/// Minutes whose sums are to be made again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TouchedMinutes {
    #[serde(default)]
    minutes: BTreeMap<String, BTreeSet<Minute>>,
}

/// The state is not one that this function answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the window's state cannot be read")]
pub struct UnreadableState;

/// Minutes of one sensor without a hole between them, all of one month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Whose they are.
    pub sensor: String,
    /// The first.
    pub first: Minute,
    /// The last.
    pub last: Minute,
}

impl TouchedMinutes {
    /// What the window's last invocation answered; nothing at the window's first.
    pub fn from_state(state: Option<&RawValue>) -> Result<Self, UnreadableState> {
        let state = state.map_or("{}", |state| state.get());
        serde_json::from_str::<Option<Self>>(state)
            .map(Option::unwrap_or_default)
            .map_err(|_| UnreadableState)
    }

    /// Adds one.
    pub fn touch(&mut self, sensor: &str, minute: Minute) {
        match self.minutes.get_mut(sensor) {
            Some(minutes) => minutes.insert(minute),
            None => self.minutes.entry(sensor.to_owned()).or_default().insert(minute),
        };
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.minutes.values().map(BTreeSet::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.minutes.is_empty()
    }

    /// All of them, as spans of at most `minutes_max`.
    pub fn spans(&self, minutes_max: usize) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for (sensor, minutes) in &self.minutes {
            let mut length = 0;
            for &minute in minutes {
                let joins = |span: &&mut Span| {
                    span.sensor == *sensor
                        && span.last.next() == minute
                        && length < minutes_max
                        && minutes_index(span.last) == minutes_index(minute)
                };
                match spans.last_mut().filter(joins) {
                    Some(span) => (span.last, length) = (minute, length + 1),
                    None => {
                        spans.push(Span { sensor: sensor.clone(), first: minute, last: minute });
                        length = 1;
                    }
                }
            }
        }
        spans
    }
}

impl Span {
    /// Each minute.
    pub fn minutes(&self) -> impl Iterator<Item = Minute> {
        (self.first.0..=self.last.0).map(Minute)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        usize::try_from(self.last.0 - self.first.0 + 1).unwrap_or(0)
    }

    /// Never: a span has a first minute.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
