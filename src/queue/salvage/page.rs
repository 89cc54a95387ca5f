//! What a message's body says: a page of the tree anew, or one change to it. Pure, and never a panic.

use super::log::Reader;

/// Keys from `lo` on and before `hi`; an empty `hi` is no end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct KeyRange {
    /// The first key that belongs here.
    pub lo: Box<[u8]>,
    /// The first that does not.
    pub hi: Box<[u8]>,
}

impl KeyRange {
    /// Whether `key` belongs here.
    pub(super) fn contains(&self, key: &[u8]) -> bool {
        *self.lo <= *key && (self.hi.is_empty() || *key < *self.hi)
    }

    /// What sled leaves out of the keys of a page with this range: what its two ends have in common.
    pub(super) fn prefix(&self) -> &[u8] {
        let same = self.lo.iter().zip(&*self.hi).take_while(|(a, b)| a == b).count();
        &self.lo[..same.min(usize::from(u8::MAX))]
    }
}

/// A page, whole.
pub(super) struct Node<'a> {
    /// The keys it answers for.
    pub range: KeyRange,
    /// The page to its right.
    pub next: Option<u64>,
    /// The page below that is being merged into its left neighbour.
    pub merging_child: Option<u64>,
    /// What its keys lack.
    pub prefix: &'a [u8],
    /// What it holds.
    pub data: Data<'a>,
}

/// What a page holds, its keys without the prefix.
pub(super) enum Data<'a> {
    /// Entries.
    Leaf(Vec<(&'a [u8], &'a [u8])>),
    /// The pages below: the first key of each, and its id.
    Index(Vec<(&'a [u8], u64)>),
}

impl<'a> Node<'a> {
    /// Reads the body of a [`Node`](super::log::Kind::Node) message.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let next = Some(reader.varint()?).filter(|&pid| pid != 0);
        let merging_child = Some(reader.varint()?).filter(|&pid| pid != 0);
        let _merging = reader.byte()?;
        let prefix_bytes = usize::from(reader.byte()?);
        let (lo, hi) = (reader.bytes()?, reader.bytes()?);
        let prefix = lo.get(..prefix_bytes)?;
        let kind = reader.byte()?;
        let count = usize::try_from(reader.varint()?).ok()?;
        // Each takes a byte at least: no count may reserve more than the body can hold.
        let count = Some(count).filter(|&count| count <= reader.0.len())?;
        let keys = (0..count).map(|_| reader.bytes()).collect::<Option<Vec<_>>>()?;
        let data = match kind {
            0 => Data::Leaf(keys.into_iter().map(|key| Some((key, reader.bytes()?))).collect::<Option<_>>()?),
            1 => {
                Data::Index(keys.into_iter().map(|key| Some((key, reader.varint()?))).collect::<Option<_>>()?)
            }
            _ => return None,
        };
        Some(Self { range: KeyRange { lo: lo.into(), hi: hi.into() }, next, merging_child, prefix, data })
    }
}

/// A change to a page.
pub(super) enum Link<'a> {
    /// To an entry of a leaf, its key without the leaf's prefix; without a value it is removed.
    Entry(&'a [u8], Option<&'a [u8]>),
    /// This page below is about to be merged into the one to its left.
    MergeBegins(u64),
    /// It was, and no longer is below.
    MergeEnds,
    /// This page is being merged away.
    Capped,
}

impl<'a> Link<'a> {
    /// Reads the body of a [`Link`](super::log::Kind::Link) message.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        Some(match reader.byte()? {
            0 => Self::Entry(reader.bytes()?, Some(reader.bytes()?)),
            1 => Self::Entry(reader.bytes()?, None),
            2 => Self::MergeBegins(reader.varint()?),
            3 => Self::MergeEnds,
            4 => Self::Capped,
            _ => return None,
        })
    }
}
