//! What the messages of a log add up to: the place of each key's latest value.
//!
//! A page, written anew, settles its whole range of keys: those it lists are there, all others are gone.
//! A link changes one key, which it names without the prefix of the page that it belongs to. In the
//! log's order the last word on each key wins, as in sled.
//!
//! Where messages are missing ([`Replay::missing`]), a page that was written anew with another range may
//! be among them; a link that comes after may then lack another prefix than the page suggests. Such
//! links wait for the end, when the pages above tell the range.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::log::{Frame, Kind};
use super::page::{Data, KeyRange, Link, Node};

/// Where in the file a value stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// Its first byte.
    pub at: u64,
    /// How many.
    pub bytes: u32,
    lsn: u64,
}

struct Page {
    lsn: u64,
    range: KeyRange,
    /// What its keys lack; `None` for what is no leaf.
    leaf_prefix: Option<Box<[u8]>>,
    /// The pages below, by their keys.
    below: Vec<(KeyRange, u64)>,
    next: Option<u64>,
    merging_child: Option<u64>,
}

impl Page {
    fn end_merge(&mut self) {
        let Some(merged) = self.merging_child.take() else { return };
        let Some(at) = self.below.iter().position(|&(_, pid)| pid == merged).filter(|&at| at > 0) else {
            return;
        };
        let (range, _) = self.below.remove(at);
        self.below[at - 1].0.hi = range.hi;
    }
}

struct Waiting {
    lsn: u64,
    key: Box<[u8]>,
    value: Option<Place>,
}

/// The replay of a log.
#[derive(Default)]
pub(super) struct Replay {
    pages: HashMap<u64, Page>,
    entries: BTreeMap<Box<[u8]>, Place>,
    waiting: HashMap<u64, Vec<Waiting>>,
    missing_at: Option<u64>,
    passed_over: BTreeSet<u64>,
}

impl Replay {
    /// A replay that takes no notice of these pages.
    pub(super) fn without(passed_over: BTreeSet<u64>) -> Self {
        Self { passed_over, ..Self::default() }
    }

    /// Messages before `lsn` could not be read.
    pub(super) fn missing(&mut self, lsn: u64) {
        self.missing_at = Some(lsn);
    }

    /// Takes the next message in, which stands at `lsn` of the log; its segment begins at byte
    /// `segment_at` of the file. `false` if it makes no sense, for all its checksum.
    pub(super) fn take_in(&mut self, frame: &Frame, lsn: u64, segment_at: u64) -> bool {
        if self.passed_over.contains(&frame.pid) {
            return true;
        }
        let place = |value: &[u8]| Place {
            at: segment_at + frame.body_at as u64 + offset_within(frame.body, value) as u64,
            bytes: value.len() as u32,
            lsn,
        };
        match frame.kind {
            Kind::Node => match Node::read(frame.body) {
                Some(node) => self.replace(frame.pid, node, lsn, place),
                None => return false,
            },
            Kind::Link => match Link::read(frame.body) {
                Some(Link::Entry(key, value)) => self.link(frame.pid, key, lsn, value.map(place)),
                Some(Link::MergeBegins(child)) => {
                    self.pages.entry(frame.pid).and_modify(|page| page.merging_child = Some(child));
                }
                Some(Link::MergeEnds) => _ = self.pages.get_mut(&frame.pid).map(Page::end_merge),
                Some(Link::Capped) => {}
                None => return false,
            },
            Kind::Free => {
                self.pages.remove(&frame.pid);
                self.waiting.remove(&frame.pid);
            }
            Kind::Blob => {
                self.pages.remove(&frame.pid);
                return false;
            }
            Kind::Canceled | Kind::Cap | Kind::BatchManifest | Kind::Counter | Kind::Meta => {}
        }
        true
    }

    fn replace(&mut self, pid: u64, node: Node, lsn: u64, place: impl Fn(&[u8]) -> Place) {
        self.waiting.remove(&pid);
        let range = node.range.clone();
        let mut page = Page {
            lsn,
            range,
            leaf_prefix: None,
            below: Vec::new(),
            next: node.next,
            merging_child: node.merging_child,
        };
        match node.data {
            Data::Leaf(entries) => {
                self.clear(&node.range);
                for (suffix, value) in entries {
                    self.entries.insert(joined(node.prefix, suffix), place(value));
                }
                page.leaf_prefix = Some(node.prefix.into());
            }
            Data::Index(below) => {
                let lows: Vec<_> = below.iter().map(|(suffix, _)| joined(node.prefix, suffix)).collect();
                let highs = lows.iter().skip(1).cloned().chain([node.range.hi]);
                let ranges = lows.iter().cloned().zip(highs).map(|(lo, hi)| KeyRange { lo, hi });
                page.below = ranges.zip(below.iter().map(|&(_, pid)| pid)).collect();
            }
        }
        self.pages.insert(pid, page);
    }

    fn clear(&mut self, range: &KeyRange) {
        let from = self.entries.range(range.lo.clone()..).map(|(key, _)| key);
        let gone: Vec<_> = from.take_while(|key| range.contains(key)).cloned().collect();
        gone.iter().for_each(|key| _ = self.entries.remove(key));
    }

    fn link(&mut self, pid: u64, suffix: &[u8], lsn: u64, value: Option<Place>) {
        let page = self.pages.get(&pid);
        let sure = page.filter(|page| self.missing_at.is_none_or(|missing| missing <= page.lsn));
        match sure.map(|page| &page.leaf_prefix) {
            Some(Some(prefix)) => {
                let key = joined(prefix, suffix);
                set(&mut self.entries, key, value, lsn);
            }
            // Without a page, and with nothing missing, it is left over from before the page moved.
            None if self.missing_at.is_none() => {}
            _ => self.waiting.entry(pid).or_default().push(Waiting { lsn, key: suffix.into(), value }),
        }
    }

    /// Leaves that nothing leads to: a split that a crash cut short made them, and what they hold is old.
    pub(super) fn orphans(&self) -> BTreeSet<u64> {
        let led_to: BTreeSet<u64> = self
            .pages
            .values()
            .flat_map(|page| page.below.iter().map(|&(_, pid)| pid).chain(page.next))
            .collect();
        let inner = |page: &Page| !page.range.lo.is_empty();
        self.pages
            .iter()
            .filter(|&(pid, page)| inner(page) && !led_to.contains(pid))
            .map(|(&pid, _)| pid)
            .collect()
    }

    /// Whether each page that another leads to is there and begins where that one says: in a whole store
    /// they do, at any moment.
    pub(super) fn is_complete(&self) -> bool {
        let orphans = self.orphans();
        let begins = |pid: u64, lo: &[u8]| self.pages.get(&pid).is_some_and(|page| *page.range.lo == *lo);
        self.pages.iter().filter(|(pid, _)| !orphans.contains(pid)).all(|(_, page)| {
            page.next.is_none_or(|pid| begins(pid, &page.range.hi))
                && page.below.iter().all(|(range, pid)| begins(*pid, &range.lo))
        })
    }

    /// The keys, each with the place of its value, and how many links fit into no page. `is_key` tells
    /// whether a key has the form of one; asked of those that had to be guessed.
    pub(super) fn finish(mut self, is_key: impl Fn(&[u8]) -> bool) -> (BTreeMap<Box<[u8]>, Place>, u64) {
        let mut told: Vec<(u64, u64, &KeyRange)> = self
            .pages
            .values()
            .flat_map(|page| page.below.iter().map(|(range, pid)| (page.lsn, *pid, range)))
            .filter(|(_, pid, _)| self.waiting.contains_key(pid))
            .collect();
        told.sort_by_key(|&(lsn, ..)| lsn);
        let above: HashMap<u64, &KeyRange> = told.into_iter().map(|(_, pid, range)| (pid, range)).collect();
        let mut homeless = 0;
        for (pid, links) in &self.waiting {
            let own = self.pages.get(pid).filter(|page| page.leaf_prefix.is_some()).map(|page| &page.range);
            let ranges: Vec<&KeyRange> = above.get(pid).copied().into_iter().chain(own).collect();
            for link in links {
                let key = |range: &&KeyRange| {
                    Some(joined(range.prefix(), &link.key)).filter(|key| range.contains(key) && is_key(key))
                };
                let keys: BTreeSet<_> = ranges.iter().filter_map(key).collect();
                match keys.len() {
                    1 => keys.into_iter().for_each(|key| set(&mut self.entries, key, link.value, link.lsn)),
                    // No page leads to it: left over from before its page moved.
                    0 if ranges.is_empty() => {}
                    _ => homeless += 1,
                }
            }
        }
        (self.entries, homeless)
    }
}

/// The later word wins, whichever comes first.
fn set(entries: &mut BTreeMap<Box<[u8]>, Place>, key: Box<[u8]>, value: Option<Place>, lsn: u64) {
    if entries.get(&key).is_some_and(|known| known.lsn > lsn) {
        return;
    }
    match value {
        Some(place) => _ = entries.insert(key, place),
        None => _ = entries.remove(&key),
    }
}

fn joined(prefix: &[u8], suffix: &[u8]) -> Box<[u8]> {
    [prefix, suffix].concat().into()
}

/// Where in `whole` its part `part` begins.
fn offset_within(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().saturating_sub(whole.as_ptr().addr()).min(whole.len())
}
