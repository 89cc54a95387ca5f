//! The frames of sled 0.34's log: segments, message headers, checksums. Pure: bytes in, frames out.
//!
//! The file `db` is a row of segments. A segment begins with its header (checksum, the log sequence
//! number of its first byte, how much of the log was stable then); messages follow without a gap, each
//! with a checksum, until a `Cap` or until too little room is left. The segment's *number* is its log
//! sequence number divided by [`SEGMENT_BYTES`], and every message repeats it: what an earlier use of
//! the place left there is told apart by it.
//!
//! No byte is trusted before its checksum held, and none makes this panic. After bad bytes the next
//! message is looked for byte by byte.

/// sled's default, which the queue does not change.
pub(super) const SEGMENT_BYTES: u64 = 512 * 1024;
/// Checksum (4), log sequence number (8), stable log sequence number (8).
pub(super) const SEGMENT_HEADER_BYTES: usize = 20;
/// Closer than this to a segment's end sled begins no message.
const MESSAGE_HEADER_BYTES_MAX: usize = 32;
/// Checksum and kind: what stands before the varints of a message's header.
const MESSAGE_HEADER_FIXED_BYTES: usize = 5;
/// Longer messages sled keeps in files of their own.
const BODY_BYTES_MAX: usize = SEGMENT_BYTES as usize / 4;
/// Bytes of one segment whose checksum may be tried in vain: made-up bytes could cost its square. In the first
/// segments, whose numbers are small, many places look like a message's header; an eighth of this was seen to
/// be used up.
const RESYNC_BYTES_MAX: usize = 512 * SEGMENT_BYTES as usize;

/// A header that is intact.
pub(super) struct SegmentHeader {
    /// Which part of the log the segment holds.
    pub number: u64,
    /// Up to where the log was written out when the segment was begun.
    pub stable_lsn: u64,
}

/// Reads a segment's header, if its checksum holds.
pub(super) fn segment_header(segment: &[u8]) -> Option<SegmentHeader> {
    let header: &[u8; SEGMENT_HEADER_BYTES] = segment.first_chunk()?;
    let field =
        |at: usize| i64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes")) ^ i64::MAX;
    let stored = u32::from_le_bytes(*header.first_chunk().expect("four bytes"));
    if !crc32fast::hash(&header[4..]) != stored {
        return None;
    }
    let lsn = u64::try_from(field(4)).ok()?;
    let stable_lsn = u64::try_from(field(12)).unwrap_or(0);
    lsn.is_multiple_of(SEGMENT_BYTES).then_some(SegmentHeader { number: lsn / SEGMENT_BYTES, stable_lsn })
}

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Given up while it was written; to be passed over.
    Canceled,
    /// Fills a segment's end.
    Cap,
    /// Tells where the log must reach for the batch that begins here to count.
    BatchManifest,
    /// Its page is free.
    Free,
    /// sled's generator of ids.
    Counter,
    /// Which page is the root of which tree.
    Meta,
    /// A page, anew and whole.
    Node,
    /// A change to a page.
    Link,
    /// Stored in a file of its own, as sled does above 128 KB. The queue's values stay far below.
    Blob,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Canceled,
            2 => Self::Cap,
            3 => Self::BatchManifest,
            4 => Self::Free,
            5 => Self::Counter,
            6 => Self::Meta,
            8 => Self::Node,
            10 => Self::Link,
            7 | 9 | 11 => Self::Blob,
            _ => return None,
        })
    }
}

/// A message's header, whose checksum need not hold.
pub(super) struct MessageHeader {
    /// The checksum that is written there.
    pub stored_crc: u32,
    kind: Kind,
    pid: u64,
    number: u64,
    /// Bytes of the header.
    pub header_bytes: usize,
    /// Bytes of what follows it.
    pub body_bytes: usize,
}

impl MessageHeader {
    /// Reads a header at the beginning of `bytes`, if they can be one of a message that ends in them.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let kind = Kind::of(*bytes.get(4)?)?;
        let stored_crc = u32::from_le_bytes(*bytes.first_chunk()?);
        let mut rest = Reader(&bytes[MESSAGE_HEADER_FIXED_BYTES..]);
        let (body_bytes, number, pid) = (rest.varint()?, rest.varint()?, rest.varint()?);
        let body_bytes = usize::try_from(body_bytes).ok().filter(|&body| body <= rest.0.len())?;
        let header_bytes = bytes.len() - rest.0.len();
        Some(Self { stored_crc, kind, pid, number, header_bytes, body_bytes })
    }

    /// The number of the segment that the message belongs to.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The checksum that its bytes, from the message's first on, have.
    pub(super) fn actual_crc(&self, bytes: &[u8]) -> u32 {
        let (header, body) = bytes.split_at(self.header_bytes);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&body[..self.body_bytes]);
        hasher.update(&header[4..]);
        !hasher.finalize()
    }
}

/// An intact message.
pub(super) struct Frame<'a> {
    /// Where in its segment it begins.
    pub at: usize,
    /// Where in its segment its body begins.
    pub body_at: usize,
    /// What it is.
    pub kind: Kind,
    /// The page it tells of.
    pub pid: u64,
    /// What it tells.
    pub body: &'a [u8],
    number: u64,
}

impl<'a> Frame<'a> {
    /// Where in its segment the next message begins.
    pub(super) fn end(&self) -> usize {
        self.body_at + self.body.len()
    }

    fn read(segment: &'a [u8], at: usize, number: Option<u64>, tried: &mut usize) -> Option<Self> {
        let bytes = segment.get(at..)?;
        let header = MessageHeader::read(bytes)?;
        if number.is_some_and(|number| number != header.number) || header.body_bytes > BODY_BYTES_MAX {
            return None;
        }
        *tried += header.body_bytes;
        if header.actual_crc(bytes) != header.stored_crc {
            return None;
        }
        let body_at = at + header.header_bytes;
        let body = &segment[body_at..][..header.body_bytes];
        Some(Self { at, body_at, kind: header.kind, pid: header.pid, body, number: header.number })
    }
}

/// A stretch of a segment.
pub(super) enum Piece<'a> {
    /// An intact message.
    Frame(Frame<'a>),
    /// Bytes that are none, before an intact message at `to`.
    Bad {
        /// Where they begin.
        from: usize,
        /// Where the next intact message begins.
        to: usize,
    },
    /// No intact message any more: where a log ends, or bad bytes up to the segment's end.
    Rest {
        /// Where it begins.
        from: usize,
    },
}

/// Takes a segment's messages apart, passing over bad bytes.
pub(super) struct Pieces<'a> {
    segment: &'a [u8],
    number: u64,
    at: usize,
    tried: usize,
    found: Option<Frame<'a>>,
    done: bool,
}

impl<'a> Pieces<'a> {
    /// The messages of segment `number` in `segment`, which a cut file may have shortened.
    pub(super) fn of(segment: &'a [u8], number: u64) -> Self {
        Self { segment, number, at: SEGMENT_HEADER_BYTES, tried: 0, found: None, done: false }
    }

    fn step_over(&mut self, frame: Frame<'a>) -> Piece<'a> {
        self.at = frame.end();
        self.done = frame.kind == Kind::Cap;
        Piece::Frame(frame)
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if let Some(frame) = self.found.take() {
            return Some(self.step_over(frame));
        }
        if self.done || self.at + MESSAGE_HEADER_BYTES_MAX > SEGMENT_BYTES as usize {
            return None;
        }
        let from = self.at;
        if let Some(frame) = Frame::read(self.segment, from, Some(self.number), &mut self.tried) {
            return Some(self.step_over(frame));
        }
        self.found = find(self.segment, from + 1, Some(self.number), &mut self.tried);
        self.done = self.found.is_none();
        Some(match &self.found {
            Some(frame) => Piece::Bad { from, to: frame.at },
            None => Piece::Rest { from },
        })
    }
}

/// The number of a segment whose header is lost, from its first intact message.
pub(super) fn number_by_messages(segment: &[u8]) -> Option<u64> {
    find(segment, SEGMENT_HEADER_BYTES, None, &mut 0).map(|frame| frame.number)
}

fn find<'a>(segment: &'a [u8], from: usize, number: Option<u64>, tried: &mut usize) -> Option<Frame<'a>> {
    (from..segment.len())
        .map_while(|at| (*tried <= RESYNC_BYTES_MAX).then(|| Frame::read(segment, at, number, tried)))
        .find_map(|frame| frame)
}

/// sled's encodings, read off the front of some bytes. `None` when they end too early.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// One byte.
    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// A number of variable length.
    pub(super) fn varint(&mut self) -> Option<u64> {
        match self.byte()? {
            small @ 0..=240 => Some(u64::from(small)),
            high @ 241..=248 => Some(240 + 256 * (u64::from(high) - 241) + u64::from(self.byte()?)),
            249 => Some(2288 + 256 * u64::from(self.byte()?) + u64::from(self.byte()?)),
            longer => {
                let bytes = self.take(usize::from(longer) - 247)?;
                let mut number = [0; 8];
                number[..bytes.len()].copy_from_slice(bytes);
                Some(u64::from_le_bytes(number))
            }
        }
    }

    /// Bytes preceded by their number.
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = usize::try_from(self.varint()?).ok()?;
        self.take(count)
    }
}
