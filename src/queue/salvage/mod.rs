//! Reads a damaged store without sled, and tells whether a store is damaged before sled sees it.
//!
//! sled 0.34 takes the first bad checksum in the newest part of its log as the log's end, without a word,
//! and writes over what follows; a bad page elsewhere is an error of each look-up that meets it. What is
//! intact can be read all the same: the log says of each message where it belongs. Here it is read
//! strictly as it lies, never written, and a segment at a time.
//!
//! What must hold:
//!
//! - For a store that is whole, also one whose process was killed at any moment, [`Salvaged`] shows
//!   exactly what sled shows after opening it (`tests/queue/salvage.rs`).
//! - For a damaged one nothing is made up: each value is one that was once written at its key. Only
//!   what the damage hit is missing; an older value, or a removed entry, may stand in for it.
//! - No bytes make it panic, or take more memory than one segment and the places of the keys.
//!
//! The queue keeps one tree, with values far below 128 KB. Other trees' keys would be mixed in, and what
//! sled stores in files of their own (`blobs/`) is counted as bad.

mod flip;
mod log;
mod page;
mod state;
mod survey;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::os::unix::fs::FileExt;
use std::path::Path;

use log::{Piece, Pieces};
use state::{Place, Replay};
use survey::Survey;
pub use survey::is_unreadable;

use super::folder::STORE;
use crate::reading::SensorId;

/// What a damaged store's file still holds: the latest state of each key that intact messages tell of.
pub struct Salvaged {
    file: File,
    places: BTreeMap<Box<[u8]>, Place>,
    bad: u64,
}

impl Salvaged {
    /// Reads the store in `folder`, whatever it holds, to where sled would end the log. An error only if there is
    /// none, or the system refuses.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let db = File::open(folder.join(STORE))?;
        let survey = Survey::of(&db, newest_snapshot(folder)?)?;
        Self::of(db, survey)
    }

    /// The same, but takes no hole for the log's end: for a store that is known to have had more.
    pub fn read_beyond(folder: &Path) -> io::Result<Self> {
        let db = File::open(folder.join(STORE))?;
        let survey = Survey { damaged: true, ..Survey::of(&db, newest_snapshot(folder)?)? };
        Self::of(db, survey)
    }

    fn of(db: File, mut survey: Survey) -> io::Result<Self> {
        let (mut replay, mut bad) = replay(&db, &survey, BTreeSet::new())?;
        let orphans = replay.orphans();
        if !survey.damaged && !replay.is_complete() {
            survey.damaged = true;
            (replay, bad) = self::replay(&db, &survey, BTreeSet::new())?;
        } else if !survey.damaged && !orphans.is_empty() {
            (replay, bad) = self::replay(&db, &survey, orphans)?;
        }
        let (places, homeless) = replay.finish(has_a_keys_form);
        Ok(Self { file: db, places, bad: survey.bad + bad + homeless })
    }

    /// The keys in `range`, ascending.
    pub fn keys<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> impl Iterator<Item = &[u8]> {
        let bound = |bound: Bound<&K>| bound.map(|key| Box::<[u8]>::from(key.as_ref()));
        let (from, to) = (bound(range.start_bound()), bound(range.end_bound()));
        let within = move |key: &[u8]| match &to {
            Bound::Included(last) => *key <= **last,
            Bound::Excluded(end) => *key < **end,
            Bound::Unbounded => true,
        };
        self.places.range((from, Bound::Unbounded)).map(|(key, _)| &**key).take_while(move |key| within(key))
    }

    /// The value at `key`, if it can be read.
    pub fn value(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let Some(place) = self.places.get(key) else { return Ok(None) };
        let mut value = vec![0; place.bytes as usize];
        match self.file.read_exact_at(&mut value, place.at) {
            Err(error) if is_unreadable(&error) => Ok(None),
            read => read.map(|()| Some(value)),
        }
    }

    /// Stretches of bytes, and messages, that had to be passed over. A crash, too, leaves some.
    pub fn bad_messages(&self) -> u64 {
        self.bad
    }
}

fn replay(db: &File, survey: &Survey, passed_over: BTreeSet<u64>) -> io::Result<(Replay, u64)> {
    let mut replay = Replay::without(passed_over);
    let mut senseless = 0;
    let mut expected = 0;
    for segment in &survey.segments {
        if survey.damaged && expected != segment.number {
            replay.missing(segment.lsn(0));
        }
        expected = segment.number + 1;
        for piece in Pieces::of(&segment.read(db)?, segment.number) {
            match piece {
                // Beyond the end sled sees nothing; but in a damaged log the end is a mere guess.
                Piece::Frame(frame) if survey.damaged || segment.lsn(frame.at) < survey.end => {
                    let sensible = replay.take_in(&frame, segment.lsn(frame.at), segment.at);
                    senseless += u64::from(!sensible);
                }
                Piece::Frame(_) => {}
                Piece::Bad { to: end, .. } | Piece::Rest { from: end } if survey.damaged => {
                    replay.missing(segment.lsn(end));
                }
                Piece::Bad { .. } | Piece::Rest { .. } => {}
            }
        }
    }
    Ok((replay, senseless))
}

/// Whether the queue writes keys like `key` (the table in [`durable`](super::durable)).
fn has_a_keys_form(key: &[u8]) -> bool {
    match key {
        [b'q' | b'd' | b'e' | b'x', sequence @ ..] => sequence.len() == size_of::<u64>(),
        [b'l', sensor @ ..] => str::from_utf8(sensor).is_ok_and(|sensor| sensor.parse::<SensorId>().is_ok()),
        _ => key == b"m" || key == b"o",
    }
}

/// What the part of the log looks like that sled would read at its next opening: from the newest snapshot on,
/// or all of it without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It is whole.
    Whole,
    /// It has a hole near its end: as a power cut may leave it, or damage of late.
    Torn,
    /// There is damage in its middle.
    Damaged,
}

/// Looks at the store in `folder`.
pub fn condition(folder: &Path) -> io::Result<Condition> {
    let db = match File::open(folder.join(STORE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Condition::Whole),
        db => db?,
    };
    let survey = Survey::of_what_sled_reads(&db, newest_snapshot(folder)?)?;
    Ok(match survey {
        Survey { damaged: true, .. } => Condition::Damaged,
        Survey { torn: true, .. } => Condition::Torn,
        _ => Condition::Whole,
    })
}

/// The log sequence number in the name of the newest snapshot, 0 if there is none.
fn newest_snapshot(folder: &Path) -> io::Result<u64> {
    let mut newest = 0;
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let lsn = name.to_str().and_then(|name| u64::from_str_radix(name.strip_prefix("snap.")?, 16).ok());
        newest = newest.max(lsn.unwrap_or(0));
    }
    Ok(newest)
}
