//! What a message's body says: a page of the tree anew, or one change to it. Pure, and never a panic.

use super::log::Reader;

/// Keys from `lo` on and before `hi`; an empty `hi` is no end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRange {
    /// The first key that belongs here.
    pub lo: Box<[u8]>,
    /// The first that does not.
    pub hi: Box<[u8]>,
}

impl KeyRange {
    /// Whether `key` belongs here.
    pub fn contains(&self, key: &[u8]) -> bool {
        *self.lo <= *key && (self.hi.is_empty() || *key < *self.hi)
    }

    /// What sled leaves out of the keys of a page with this range: what its two ends have in common.
    pub fn prefix(&self) -> &[u8] {
        let same = self.lo.iter().zip(&*self.hi).take_while(|(a, b)| a == b).count();
        &self.lo[..same.min(usize::from(u8::MAX))]
    }
}

/// A page, whole.
pub struct Node<'a> {
    /// The keys it answers for.
    pub range: KeyRange,
    /// The page to its right.
    pub next: Option<u64>,
    /// What its keys lack.
    pub prefix: &'a [u8],
    /// What it holds.
    pub data: Data<'a>,
}

/// What a page holds, its keys without the prefix.
pub enum Data<'a> {
    /// Entries.
    Leaf(Vec<(&'a [u8], &'a [u8])>),
    /// The pages below: the first key of each, and its id.
    Index(Vec<(&'a [u8], u64)>),
}

impl<'a> Node<'a> {
    /// Reads the body of a [`Node`](super::log::Kind::Node) message.
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let next = Some(reader.varint()?).filter(|&pid| pid != 0);
        let _merging_child = reader.varint()?;
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
        Some(Self { range: KeyRange { lo: lo.into(), hi: hi.into() }, next, prefix, data })
    }
}

/// A change to a leaf, its key without the leaf's prefix.
pub struct Link<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its value; `None` removes it.
    pub value: Option<&'a [u8]>,
}

impl<'a> Link<'a> {
    /// Reads the body of a [`Link`](super::log::Kind::Link) message. `Some(None)` is a step of a merge,
    /// which changes no entry.
    pub fn read(body: &'a [u8]) -> Option<Option<Self>> {
        let mut reader = Reader(body);
        match reader.byte()? {
            0 => Some(Some(Self { key: reader.bytes()?, value: Some(reader.bytes()?) })),
            1 => Some(Some(Self { key: reader.bytes()?, value: None })),
            2..=4 => Some(None),
            _ => None,
        }
    }
}
