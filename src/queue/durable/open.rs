//! Opening: the store is compared with its witness, and a new origin begins.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::deferred::Deferred;
use super::layout::{
    FORMAT, META_KEY, Meta, Missing, PAST_KEY, Past, dead_letter_key, encoded, load_origins, origin_entry,
    random_epoch, sequence_of,
};
use super::peeked::Peeked;
use super::rows::{TouchedRows, load_ledger};
use super::settings::Settings;
use super::{DurableQueue, State};
use crate::queue::capacity::Capacity;
use crate::queue::folder::{Folder, STORE, set_aside};
use crate::queue::ledger::{Account, Row};
use crate::queue::rescued::{Rescued, Rescuer};
use crate::queue::reserve;
use crate::queue::segment::SegmentCodec;
use crate::queue::sequence_set::SequenceSet;
use crate::queue::sled::{self, Store, Writes, storage};
use crate::queue::witness::{
    Before, Cover, Finding, Found, Judgement, Mark, StoreState, WentBack, Witness, judge,
};
use crate::queue::{QueueError, ReadingQueue};
use crate::reading::{GatewayId, Origin, Origins};

/// A queue, and what happened when it was opened.
pub struct Opened {
    /// The queue.
    pub queue: DurableQueue,
    /// The damaged store that was moved away; the queue is then a new one.
    pub set_aside: Option<SetAside>,
    /// What the store's witness shows.
    pub finding: Finding,
    /// What was found missing just now: most of what it may be, where that cannot be known exactly.
    pub missing: SequenceSet,
    /// The witness has no place beside the folder: an older copy of it that is put back will not be noticed.
    pub witness_inside_only: bool,
    /// The disk was full: the reserve was given up, so that what is queued can be drained.
    pub reserve_given_up: bool,
}

/// A damaged store that was moved away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Where to.
    pub path: PathBuf,
    /// How many readings and gap records in it can be read, and taken back.
    pub readable: u64,
}

impl DurableQueue {
    /// Opens the store in folder `path`, creating it, and begins a new origin for what `gateway` takes from
    /// now on.
    pub fn open(
        path: &Path,
        capacity: Capacity,
        codec: SegmentCodec,
        gateway: &GatewayId,
    ) -> Result<Opened, QueueError> {
        let folder = Folder::take(path)?;
        let path = &folder.path().to_owned();
        let witness = Witness::read(path);
        let is_full = reserve::is_needed(path).map_err(storage("look at its disk"))?;
        let reserve_given_up = is_full && reserve::give_up(path).map_err(storage("give up its reserve"))?;
        let rescuer = Rescuer { codec: codec.clone(), gateway: gateway.clone() };
        let (store, moved) = Store::open(folder, META_KEY, |path| rescuer.finds_whole(path, &witness))?;
        let is_new = store.get(META_KEY)?.is_none();
        let before = if is_new { predecessor(path, moved, &witness)? } else { None };
        let rescued = match before.as_ref().map(|before| rescuer.read(before)).transpose() {
            // It leaves nothing to be taken over.
            Err(QueueError::Unreadable { .. }) => None,
            rescued => rescued?,
        };
        let mut queue = Self::of_store(store, capacity, codec, gateway)?;
        if let Some(rescued) = &rescued {
            queue.take_over(rescued);
        }
        let (finding, mut missing) = queue.begin_origin(path, is_new, witness, gateway)?;
        queue.find_tail()?;
        let readable = rescued.map_or(0, |rescued| {
            missing.insert_all(rescued.readable());
            missing.insert_all(rescued.dead());
            rescued.readable().count() + rescued.dead().count()
        });
        if let Some(before) = &before {
            reserve::give_up(before).map_err(storage("move its reserve"))?;
        }
        // Without one it works as well, until the disk is full.
        _ = reserve::make(path, capacity.disk_headroom);
        let set_aside = before.map(|path| SetAside { path, readable });
        let witness_inside_only = queue.lock().witness.as_ref().is_some_and(|witness| !witness.is_beside());
        Ok(Opened { queue, set_aside, finding, missing, witness_inside_only, reserve_given_up })
    }

    /// Goes on after a store that was set aside: with its origins, so that what is in it can come back under
    /// its ids; above its sequences; with what had left it in the ledger; and knowing when each sensor was last heard,
    /// so that the gap is told of.
    fn take_over(&mut self, rescued: &Rescued) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.meta.next_sequence = rescued.next_sequence();
        state.origins = rescued.envelope().origins;
        state.meta.anchors = rescued.envelope().anchors;
        state.missing.0 = rescued.missing();
        state.missing.0.insert_all(rescued.readable());
        state.missing.0.insert_all(rescued.dead());
        for (sensor, row) in rescued.rows() {
            let settled = |account: &Account| {
                let received = account.delivered + account.evicted;
                Account {
                    received,
                    delivered: account.delivered,
                    evicted: account.evicted,
                    ..Account::default()
                }
            };
            let (readings, other_records) = (settled(&row.readings), settled(&row.other_records));
            state.ledger.rows.insert(sensor.clone(), Row { readings, other_records, ..row.clone() });
        }
    }

    /// Opens a store that is there, to look at it: creates nothing, and takes nothing in. `gateway` is whose
    /// it is, if the store itself does not say.
    pub fn open_existing(
        path: &Path,
        capacity: Capacity,
        codec: SegmentCodec,
        gateway: &GatewayId,
    ) -> Result<Self, QueueError> {
        Self::of_store(Store::open_existing(Folder::take_existing(path)?)?, capacity, codec, gateway)
    }

    /// Whether the store in folder `path` is damaged: it may be read as a
    /// [`Rescued`] one only.
    pub fn is_damaged(path: &Path, rescuer: &Rescuer) -> Result<bool, QueueError> {
        sled::is_damaged(path, |path| rescuer.finds_whole(path, &Witness::read(path)))
    }

    fn of_store(
        store: Store,
        capacity: Capacity,
        codec: SegmentCodec,
        gateway: &GatewayId,
    ) -> Result<Self, QueueError> {
        let meta = match store.get(META_KEY)? {
            Some(bytes) => Meta::from_bytes(&bytes)?,
            None => Meta::new(),
        };
        let past: Past = match store.get(PAST_KEY)? {
            Some(bytes) => postcard::from_bytes(&bytes).map_err(storage("read its past"))?,
            None => None,
        };
        let ledger = load_ledger(&store)?;
        let mut dead = SequenceSet::default();
        for entry in store.range(dead_letter_key(0)..=dead_letter_key(u64::MAX)) {
            dead.insert(sequence_of(&entry?.0));
        }
        let state = State {
            durable_before: meta.next_sequence,
            stored_next: meta.next_sequence,
            origins: load_origins(&store, &meta, gateway)?,
            missing: Missing::load(&store)?,
            dead,
            meta,
            past,
            depth: ledger.depth(),
            ledger,
            tail: BTreeMap::new(),
            peeked: Peeked::default(),
            protected: SequenceSet::default(),
            unwritten: BTreeSet::new(),
            removals: 0,
            deferred: Deferred::default(),
            walk: None,
            witness: None,
            failed: false,
        };
        Ok(Self { store, settings: Settings::new(capacity, codec), state: Mutex::new(state) })
    }

    /// Durable on return: in the store first, then in the witness. A crash in between leaves a store that is
    /// one opening ahead and took nothing in; [`judge`] knows it. A store's first witness comes before it: a
    /// store without one is always a store that lost it.
    fn begin_origin(
        &mut self,
        path: &Path,
        is_new: bool,
        found: Found,
        gateway: &GatewayId,
    ) -> Result<(Finding, SequenceSet), QueueError> {
        let first_queued = self.first_queued()?;
        let oldest = self.oldest_needed(first_queued);
        let state = self.lock();
        let has_first_format = state.meta.format < 2;
        let next = state.meta.next_sequence;
        let store = StoreState { store: state.meta.store, origins: &state.origins, before: state.past, next };
        let Judgement { first_sequence, mut finding } = judge((!is_new).then_some(&store), &found);
        let first_sequence = first_sequence.max(next);
        let is_first_witness = found == Found::Nothing && (is_new || has_first_format);
        let is_behind = matches!(found, Found::Mark(mark) if mark.durable_before > next);
        if has_first_format && !is_behind {
            // None was kept then, or the first one just before a crash.
            finding = Finding::Sound;
        }
        drop(state);
        let missing = match (finding, found) {
            (Finding::WentBack(back), Found::Mark(mark)) => self.lacks(&back, &mark)?,
            _ => SequenceSet::default(),
        };
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.meta.format = FORMAT;
        state.meta.next_sequence = first_sequence;
        state.stored_next = first_sequence;
        state.durable_before = first_sequence;

        let begun = Origin { first_sequence, epoch: random_epoch(), gateway: gateway.clone() };
        let opening = begun.epoch;
        state.past = Some(Before { epoch: state.origins.newest().epoch, ended_at: next });
        let is_the_first = is_new && next == 1;
        let (spent, mut origins) = match is_the_first {
            true => (Vec::new(), Vec::new()),
            false => split_spent(&state.origins, oldest),
        };
        origins.push(begun);
        let mut writes = Writes::default();
        spent.iter().for_each(|origin| writes.remove(origin_entry(origin).0));
        // A store of the first format has its only one in its description alone.
        origins.iter().map(origin_entry).for_each(|(key, value)| writes.insert(key, value));
        state.origins = Origins::new(origins).expect("one was just made");
        if is_new {
            TouchedRows::of(state.ledger.rows.keys().cloned().collect()).write(state, &mut writes);
        }
        if is_new || !missing.is_empty() {
            state.missing.extend(&missing, &mut writes);
        }
        writes.insert(PAST_KEY, encoded(&state.past));
        writes.insert(META_KEY, state.meta.encode());

        let mark = Mark {
            store: state.meta.store,
            opening,
            opened_at: first_sequence,
            durable_before: first_sequence,
            settled_before: first_queued.unwrap_or(first_sequence),
            dead: Cover::of(&state.dead),
            is_clean: false,
        };
        let begin_witness = || Witness::begin(path, mark).map_err(storage("begin its witness"));
        let first_witness = is_first_witness.then(begin_witness).transpose()?;
        // A later format is noted outside first: no older program opens what it would misread.
        if has_first_format {
            self.store.describe(FORMAT)?;
        }
        self.store.apply(writes)?;
        self.store.sync()?;
        self.store.describe(FORMAT)?;
        state.witness = Some(first_witness.map_or_else(begin_witness, Ok)?);
        Ok((finding, missing))
    }

    /// What the store had when `mark` was made, and has no more: what was queued since then, and dead letters.
    fn lacks(&self, back: &WentBack, mark: &Mark) -> Result<SequenceSet, QueueError> {
        let mut missing = mark.dead.sequences();
        let state = self.lock();
        if state.meta.store == mark.store {
            // What became a dead letter since then is still there.
            missing.remove_all(&state.dead);
            let mut queued = SequenceSet::default();
            for range in missing.ranges() {
                let mut next = *range.start();
                while next <= *range.end()
                    && let Some((_, items)) = self.segment_from(next)?
                {
                    queued.extend(items.iter().map(|item| item.sequence));
                    next = items.last().map_or(u64::MAX, |last| last.sequence.saturating_add(1));
                }
            }
            missing.remove_all(&queued);
        }
        missing.insert_range(back.first_missing..=back.last);
        Ok(missing)
    }

    /// Begins a new origin if the gateway has another name from now on. Durable on return.
    pub(super) fn rename(&self, gateway: &GatewayId) -> Result<(), QueueError> {
        let mut state = self.lock();
        let newest = state.origins.newest().clone();
        if newest.gateway == *gateway {
            return Ok(());
        }
        let first_sequence = state.meta.next_sequence;
        let begun = Origin { first_sequence, epoch: random_epoch(), gateway: gateway.clone() };
        state.past = Some(Before { epoch: newest.epoch, ended_at: first_sequence });
        let mut writes = Writes::default();
        let (key, value) = origin_entry(&begun);
        writes.insert(key, value);
        writes.insert(PAST_KEY, encoded(&state.past));
        let opening = begun.epoch;
        let origins = state.origins.iter().cloned().chain([begun]).collect();
        state.origins = Origins::new(origins).expect("one was just made");
        self.store.apply(writes)?;
        self.store.sync()?;
        state.durable_before = first_sequence;
        match &mut state.witness {
            Some(witness) => witness.reopen(opening, first_sequence).map_err(storage("write its witness")),
            None => Err(QueueError::ReadOnly),
        }
    }

    /// The first sequence whose origin something still leans on.
    fn oldest_needed(&self, first_queued: Option<u64>) -> Option<u64> {
        let state = self.lock();
        let sessions = state.ledger.rows.values().map(|row| row.session).filter(|session| *session > 0);
        let first = |sequences: &SequenceSet| sequences.first_at_or_after(0);
        [first_queued, first(&state.dead), first(&state.missing.0)]
            .into_iter()
            .flatten()
            .chain(sessions)
            .min()
    }
}

/// The damaged store that a new one in folder `path` replaces: what was just moved away, or what was moved when
/// an opening was cut short.
fn predecessor(path: &Path, moved: Option<PathBuf>, witness: &Found) -> Result<Option<PathBuf>, QueueError> {
    if moved.as_ref().is_some_and(|moved| moved.join(STORE).exists()) {
        return Ok(moved);
    }
    let store = |found: &Found| match found {
        Found::Mark(mark) => Some(mark.store),
        Found::Nothing | Found::Torn => None,
    };
    let Some(lost) = store(witness) else { return Ok(None) };
    let mut folders = set_aside(path).map_err(storage("look for damaged stores"))?;
    folders.retain(|folder| store(&Witness::read_inside(folder)) == Some(lost));
    Ok(folders.pop())
}

/// The origins that nothing leans on any more, and the others: from that of `oldest` on, and always the last,
/// since the witness may name it.
fn split_spent(origins: &Origins, oldest: Option<u64>) -> (Vec<Origin>, Vec<Origin>) {
    let last = origins.newest().first_sequence;
    let needed_from = oldest.map_or(last, |oldest| origins.of(oldest).first_sequence.min(last));
    origins.iter().cloned().partition(|origin| origin.first_sequence < needed_from)
}
