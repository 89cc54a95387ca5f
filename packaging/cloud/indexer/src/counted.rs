//! Which readings a minute's document counts: what the index of readings no longer holds stays counted. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Fields of the document, of which no index is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// By queue: the lowest sequence, and for each further one how much higher it is. A sensor's readings
    /// of a minute are a few bytes each, nearly all the same.
    #[serde(default)]
    sequences: BTreeMap<String, Vec<u64>>,
    /// Ids of another form than a gateway's, which is the queue, a dash, and the sequence.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    reading_ids: BTreeSet<String>,
}

impl Counted {
    /// Of readings with these ids.
    pub fn of<'a>(ids: impl IntoIterator<Item = &'a str>) -> Self {
        let mut queues: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        let mut reading_ids = BTreeSet::new();
        for id in ids {
            match parts(id) {
                Some((queue, sequence)) => {
                    queues.entry(queue.to_owned()).or_default().insert(sequence);
                }
                None => {
                    reading_ids.insert(id.to_owned());
                }
            }
        }
        let sequences = queues.into_iter().map(|(queue, sequences)| (queue, distances(sequences))).collect();
        Self { sequences, reading_ids }
    }

    /// Their ids.
    pub fn ids(&self) -> BTreeSet<String> {
        let of_queues = self.sequences.iter().flat_map(|(queue, distances)| {
            let sequences = distances.iter().scan(0u64, |sequence, distance| {
                *sequence = sequence.saturating_add(*distance);
                Some(*sequence)
            });
            sequences.map(move |sequence| format!("{queue}-{sequence}"))
        });
        of_queues.chain(self.reading_ids.iter().cloned()).collect()
    }

    /// Whether it says nothing: so do documents that an earlier version wrote.
    pub fn is_empty(&self) -> bool {
        self.sequences.is_empty() && self.reading_ids.is_empty()
    }
}

/// The queue and the sequence, if writing them again makes the same id.
fn parts(id: &str) -> Option<(&str, u64)> {
    let (queue, digits) = id.rsplit_once('-')?;
    let sequence: u64 = digits.parse().ok()?;
    (sequence.to_string() == digits).then_some((queue, sequence))
}

/// The first, and then each one's distance from the one before.
fn distances(sequences: BTreeSet<u64>) -> Vec<u64> {
    let distance = |before: &mut u64, sequence: u64| Some(sequence - std::mem::replace(before, sequence));
    sequences.into_iter().scan(0, distance).collect()
}
