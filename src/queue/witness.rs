//! The witness: what is remembered of a store outside of it, so that one that went back in time is noticed.
//!
//! A store can go back: an SD image or a backup is put in its place, a flipped bit makes sled take the middle
//! of its log for the end, a card forgets what it had acknowledged. It then opens without a word, gives
//! sequences again that were given before, and its ledger balances. Two things stand against that.
//!
//! **Ids.** No memory on the disk can keep ids apart, for all of it may have been put back. So each opening
//! for writing begins a new [`Origin`](crate::reading::Origin): a fresh random epoch, from the next sequence
//! on. Whatever state the disk was put back to, no id is given twice. It costs nothing while running.
//!
//! **Losses.** A [`Mark`] says how far the store had come. It is kept twice: beside the store's folder,
//! where putting the folder back does not reach it, and inside, where it stays with a store that is moved
//! or set aside. What it says is a lower bound that stays true for ever:
//!
//! * every sequence before `durable_before` was durable in the store: `append` had returned for it;
//! * every sequence before `settled_before` had left the queue: delivered, evicted, or a dead letter;
//! * every dead letter is among `dead`.
//!
//! A mark names the opening that it was made in by its epoch, and a store knows the epochs of its openings. So
//! [`judge`] tells apart a store of the same opening (nothing may lack up to `durable_before`), one that had
//! later openings (the witness is the older one), and one that never had this opening: it is from before, or
//! has gone another way since. What that lacks is all that this opening took in, and what came before it that
//! the store does not reach; less what had left the queue.
//!
//! **What it costs.** A mark is written into a file of fixed size after each append and removal, but synced
//! only at opening, at closing, and every [`SYNC_STEP`] sequences: no sync per reading. A process that is
//! killed leaves it exact, since the kernel has it; a power cut leaves it up to [`SYNC_STEP`] sequences or
//! the kernel's write-back (half a minute) behind, which is still a true bound. Written after the store's own
//! sync, it is never ahead of the store. Two slots take turns, each in a sector of its own with a checksum: a
//! torn one leaves the other.
//!
//! **What it cannot see.** Store and witness put back to the same moment look like a crash at that moment.
//! Ids still never repeat; and whoever queries sees one gateway's sequence under two epochs.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::sequence_set::SequenceSet;
use crate::reading::{Epoch, Origins};

/// Sequences between two syncs of the witness: one sync more in a hundred.
pub const SYNC_STEP: u64 = 100;
/// Inside the store's folder.
pub const INSIDE: &str = "hr-gatewayd.witness";
/// A sector: the most that a disk writes whole.
const SLOT_BYTES: u64 = 512;
const MAGIC: &[u8; 8] = b"hrwtns01";
const MARK_BYTES: usize = 8 + 6 * 8 + COVER_RANGES * 16 + 1 + 4;
/// Where the checksum begins.
const CHECKED_BYTES: usize = MARK_BYTES - 4;

/// Ranges of a [`Cover`].
const COVER_RANGES: usize = 24;

/// Few ranges that hold a set of sequences: the set itself while it has no more of them, else the last one
/// reaches over the rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cover([(u64, u64); COVER_RANGES]);

impl Cover {
    /// Of `sequences`, which begin at 1.
    pub fn of(sequences: &SequenceSet) -> Self {
        let mut cover = Self::default();
        for (place, range) in cover.0.iter_mut().zip(sequences.ranges()) {
            *place = range.into_inner();
        }
        let newest = sequences.ranges().next_back().map_or(0, |range| *range.end());
        let last = &mut cover.0[COVER_RANGES - 1];
        last.1 = if last.0 == 0 { 0 } else { newest };
        cover
    }

    /// All that it holds.
    pub fn sequences(&self) -> SequenceSet {
        let mut sequences = SequenceSet::default();
        let used = self.0.iter().filter(|(first, _)| *first > 0);
        used.for_each(|&(first, last)| sequences.insert_range(first..=last));
        sequences
    }
}

/// How far a store had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Which store: drawn when it was made.
    pub store: Epoch,
    /// Which of its openings.
    pub opening: Epoch,
    /// The next sequence when that began.
    pub opened_at: u64,
    /// Every sequence below was durable in it.
    pub durable_before: u64,
    /// Every sequence below had left the queue.
    pub settled_before: u64,
    /// Its dead letters.
    pub dead: Cover,
    /// Nothing was written after it.
    pub is_clean: bool,
}

/// What was found of a witness.
#[expect(clippy::large_enum_variant, reason = "there is one of it, at an opening")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// There is none.
    Nothing,
    /// There is one, and none of its slots can be read.
    Torn,
    /// This.
    Mark(Mark),
}

/// What a store says of itself when it is opened.
#[derive(Debug, Clone, Copy)]
pub struct StoreState<'a> {
    /// Which store.
    pub store: Epoch,
    /// Its openings, but for those that took nothing in or that nothing leans on any more. Not the last.
    pub origins: &'a Origins,
    /// The opening before the last, also if it took nothing in.
    pub before: Option<Before>,
    /// Its next sequence.
    pub next: u64,
}

/// An opening that another one followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// Its epoch.
    pub epoch: Epoch,
    /// The next sequence at its end; the one after it may have begun above.
    pub ended_at: u64,
}

/// What was made of store and witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// The first sequence to be given from now on: above all that is known of.
    pub first_sequence: u64,
    /// What was found.
    pub finding: Finding,
}

/// What there is to be said of store and witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// They agree, or there was nothing before.
    Sound,
    /// The store lacks sequences that it had, or is another one.
    WentBack(WentBack),
    /// There is no readable witness of a store that had one, or none that fits: whether something was lost
    /// cannot be told.
    NoWitness,
    /// The witness is older than the store: whether something was lost since then cannot be told.
    OldWitness,
}

/// A store that is not what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WentBack {
    /// The first sequence that it had once and has no more.
    pub first: u64,
    /// The last one that it is known to have had; below `first` if there is none.
    pub last: u64,
    /// The first of those that had not left the queue: from it to `last` all are missing.
    pub first_missing: u64,
}

/// Compares a store, `None` if it is new, with its witness. Pure.
pub fn judge(store: Option<&StoreState<'_>>, witness: &Found) -> Judgement {
    let next = store.map_or(1, |store| store.next);
    let mark = match (store, witness) {
        (_, Found::Mark(mark)) => mark,
        (None, Found::Nothing) => return Judgement { first_sequence: next, finding: Finding::Sound },
        _ => return Judgement { first_sequence: next, finding: Finding::NoWitness },
    };
    let finding = compare(store.filter(|store| store.store == mark.store), mark);
    Judgement { first_sequence: next.max(mark.durable_before), finding }
}

/// `store` is the mark's own, `None` if there is none or it is another one.
fn compare(store: Option<&StoreState<'_>>, mark: &Mark) -> Finding {
    let went_back = |from: u64| {
        let first_missing = from.max(mark.settled_before);
        Finding::WentBack(WentBack { first: from, last: mark.durable_before - 1, first_missing })
    };
    let Some(store) = store else {
        return if mark.durable_before > 1 { went_back(1) } else { Finding::Sound };
    };
    let newest = store.origins.newest();
    if mark.opening == newest.epoch {
        return match store.next {
            next if next < mark.durable_before => went_back(next),
            next if next > mark.durable_before && mark.is_clean => Finding::OldWitness,
            _ => Finding::Sound,
        };
    }
    let mut from_it = store.origins.iter().skip_while(|origin| origin.epoch != mark.opening);
    let (opening, after) = (from_it.next(), from_it.next());
    match (store.before, opening.and(after)) {
        // It went another way after that.
        (Some(before), _) if before.epoch == mark.opening && before.ended_at < mark.durable_before => {
            went_back(before.ended_at)
        }
        (_, Some(after)) if after.first_sequence < mark.durable_before => went_back(after.first_sequence),
        // The last opening ended before it came to the witness, and so to any append.
        (Some(before), _) if before.epoch == mark.opening && newest.first_sequence == store.next => {
            Finding::Sound
        }
        (Some(before), _) if before.epoch == mark.opening => Finding::OldWitness,
        (_, Some(_)) => Finding::OldWitness,
        // All that the opening took in is missing, and what came before it that the store does not reach.
        (_, None) => went_back(store.next.min(mark.opened_at)),
    }
}

/// The witness's files, open for writing.
#[derive(Debug)]
pub struct Witness {
    files: Vec<File>,
    turn: u64,
    mark: Mark,
    synced_before: u64,
}

impl Witness {
    /// The places of the witness of the store in `folder`: beside it, and inside.
    pub fn places(folder: &Path) -> [PathBuf; 2] {
        let mut name = folder.file_name().unwrap_or_default().to_owned();
        name.push(".witness");
        [folder.with_file_name(name), folder.join(INSIDE)]
    }

    /// What the witness of the store in `folder` says: of the two the newer, where both speak of one store;
    /// else the one beside it.
    pub fn read(folder: &Path) -> Found {
        let mut found = Found::Nothing;
        let mut newest: Option<(Mark, u64)> = None;
        for place in Self::places(folder) {
            match std::fs::read(place).map(|bytes| newest_mark(&bytes)) {
                Ok(Some((mark, turn))) => {
                    if newest.is_none_or(|(known, at)| known.store == mark.store && at < turn) {
                        newest = Some((mark, turn));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Ok(None) | Err(_) => found = Found::Torn,
            }
        }
        newest.map_or(found, |(mark, _)| Found::Mark(mark))
    }

    /// What the witness inside `folder` says, of a store that was moved.
    pub fn read_inside(folder: &Path) -> Found {
        let Ok(bytes) = std::fs::read(folder.join(INSIDE)) else { return Found::Nothing };
        newest_mark(&bytes).map_or(Found::Torn, |(mark, _)| Found::Mark(mark))
    }

    /// Begins to keep the witness of the store in `folder`, with `mark`. Durable on return. Where the place
    /// beside the folder cannot be written (a mount point's), the one inside has to do.
    pub fn begin(folder: &Path, mark: Mark) -> io::Result<Self> {
        let [beside, inside] = Self::places(folder);
        let mut files = vec![open(&inside)?];
        files.extend(open(&beside).ok());
        let mut turn = 0;
        for file in &files {
            let mut bytes = vec![0; 2 * SLOT_BYTES as usize];
            let read = file.read_at(&mut bytes, 0)?;
            turn = turn.max(newest_mark(&bytes[..read]).map_or(0, |(_, turn)| turn));
        }
        let mut witness = Self { files, turn, mark, synced_before: mark.durable_before };
        // Both slots: neither speaks of what was before.
        witness.write()?;
        witness.write()?;
        witness.sync()?;
        for folder in [Some(folder), folder.parent()].into_iter().flatten() {
            File::open(folder)?.sync_all()?;
        }
        Ok(witness)
    }

    /// Whether it is kept beside the folder too, and not only inside.
    pub fn is_beside(&self) -> bool {
        self.files.len() > 1
    }

    /// Notes how far the store has come; synced now and then.
    pub fn note(&mut self, durable_before: u64, settled_before: u64, dead: Cover) -> io::Result<()> {
        let mark = Mark { durable_before, settled_before, dead, is_clean: false, ..self.mark };
        if mark == self.mark {
            return Ok(());
        }
        self.mark = mark;
        self.write()?;
        if durable_before.saturating_sub(self.synced_before) >= SYNC_STEP {
            self.sync()?;
        }
        Ok(())
    }

    /// Notes that another opening goes on at `opened_at`. Durable on return.
    pub fn reopen(&mut self, opening: Epoch, opened_at: u64) -> io::Result<()> {
        self.mark = Mark { opening, opened_at, durable_before: opened_at, is_clean: false, ..self.mark };
        self.write()?;
        self.sync()
    }

    /// Notes that nothing comes after what was noted last. Durable on return.
    pub fn close(&mut self) -> io::Result<()> {
        self.mark.is_clean = true;
        self.write()?;
        self.sync()
    }

    fn write(&mut self) -> io::Result<()> {
        self.turn += 1;
        let slot = encode(&self.mark, self.turn);
        self.files.iter().try_for_each(|file| file.write_all_at(&slot, self.turn % 2 * SLOT_BYTES))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.files.iter().try_for_each(File::sync_data)?;
        self.synced_before = self.mark.durable_before;
        Ok(())
    }
}

fn open(place: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(place)?;
    // Of fixed size from the start: writing needs no room later.
    if file.metadata()?.len() < 2 * SLOT_BYTES {
        file.write_all_at(&[0], 2 * SLOT_BYTES - 1)?;
    }
    Ok(file)
}

fn encode(mark: &Mark, turn: u64) -> [u8; MARK_BYTES] {
    let mut bytes = [0; MARK_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    let Mark { store, opening, opened_at, durable_before, settled_before, dead, is_clean } = *mark;
    let numbers = [store.0, opening.0, opened_at, durable_before, settled_before, turn];
    let dead = dead.0.into_iter().flat_map(|(first, last)| [first, last]);
    for (place, number) in bytes[8..].chunks_exact_mut(8).zip(numbers.into_iter().chain(dead)) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    bytes[CHECKED_BYTES - 1] = is_clean.into();
    let checksum = crc32fast::hash(&bytes[..CHECKED_BYTES]);
    bytes[CHECKED_BYTES..].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// The newer of the two slots, with its turn.
fn newest_mark(bytes: &[u8]) -> Option<(Mark, u64)> {
    bytes.chunks(SLOT_BYTES as usize).filter_map(decode).max_by_key(|(_, turn)| *turn)
}

fn decode(slot: &[u8]) -> Option<(Mark, u64)> {
    let bytes = slot.first_chunk::<MARK_BYTES>()?;
    let checksum = crc32fast::hash(&bytes[..CHECKED_BYTES]).to_be_bytes();
    if !bytes.starts_with(MAGIC) || bytes[CHECKED_BYTES..] != checksum {
        return None;
    }
    let number = |n: usize| u64::from_be_bytes(bytes[8 + 8 * n..16 + 8 * n].try_into().expect("eight bytes"));
    let [store, opening, opened_at, durable_before, settled_before, turn] = std::array::from_fn(number);
    let mark = Mark {
        store: Epoch(store),
        opening: Epoch(opening),
        opened_at,
        // A store gives sequences from 1 on.
        durable_before: durable_before.max(1),
        settled_before,
        dead: Cover(std::array::from_fn(|n| (number(6 + 2 * n), number(7 + 2 * n)))),
        is_clean: bytes[CHECKED_BYTES - 1] == 1,
    };
    Some((mark, turn))
}
