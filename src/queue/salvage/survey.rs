//! Which segments a log has, where it ends, and whether there is damage before its end.
//!
//! sled takes the first bad message of its newest segments as the log's end, and leaves out the rest of
//! an older segment after one. A crash makes bad messages too, which are no damage:
//!
//! - At the end. What was written last comes in any order, so that intact messages can follow a hole;
//!   of what was not synced a power cut takes any part. What lies less than [`UNSYNCED_BYTES_MAX`]
//!   before the newest message is therefore no damage, unless it lacks one single bit
//!   ([`flip`](super::flip)), which no crash does.
//! - In a free segment that was being written over when the crash came: old header, some new bytes. No
//!   page needs a message of it any more, and that tells it from a damaged one.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::flip::{message_lacks_one_bit, segment_header_lacks_one_bit};
use super::log::{
    Frame, Kind, Piece, Pieces, SEGMENT_BYTES, SEGMENT_HEADER_BYTES, number_by_messages, segment_header,
};
use crate::fault;

/// More than the queue writes between two syncs, of which there is one at least every eight removals: larger
/// hides damage near the log's end, smaller takes a power cut for damage.
pub(super) const UNSYNCED_BYTES_MAX: u64 = 1 << 20;
/// What the kernel reads at once from a file, and fails to.
const PAGE_BYTES: u64 = 4096;
/// Bad places that are looked at for a single flipped bit: each costs up to some hundred checksums.
const FLIPS_SOUGHT_MAX: usize = 64;

/// A segment of the file, and which part of the log it holds.
#[derive(Clone, Copy)]
pub(super) struct Segment {
    /// Its log sequence number divided by its size.
    pub number: u64,
    /// Where in the file it begins.
    pub at: u64,
    stable_lsn: u64,
    /// Its header is bad; the number comes from a message.
    headless: bool,
}

impl Segment {
    /// The log sequence number of a place in it.
    pub(super) fn lsn(&self, place: usize) -> u64 {
        self.number * SEGMENT_BYTES + place as u64
    }

    /// Reads it; shorter where the file ends.
    pub(super) fn read(&self, file: &File) -> io::Result<Vec<u8>> {
        read_segment(file, self.at)
    }
}

/// What a look at the whole log, or at its newer part, tells.
pub(super) struct Survey {
    /// In the log's order.
    pub segments: Vec<Segment>,
    /// Messages from this log sequence number on were written by nobody who could tell of it: the log's
    /// torn end, as sled judges it.
    pub end: u64,
    /// There is a hole with intact messages after it.
    pub torn: bool,
    /// Damage before the end.
    pub damaged: bool,
    /// Stretches of bad bytes that are no end.
    pub bad: u64,
}

impl Survey {
    /// Looks at all segments of `file`; `snapshot` is the log sequence number from which on sled will.
    pub(super) fn of(file: &File, snapshot: u64) -> io::Result<Self> {
        Self::from_number(0, file, snapshot)
    }

    /// Looks at what sled will.
    pub(super) fn of_what_sled_reads(file: &File, snapshot: u64) -> io::Result<Self> {
        Self::from_number(snapshot / SEGMENT_BYTES, file, snapshot)
    }

    fn from_number(first: u64, file: &File, snapshot: u64) -> io::Result<Self> {
        let (segments, flipped_header) = find_segments(file, first)?;
        let stable = segments.iter().map(|segment| segment.stable_lsn).max().unwrap_or(0);
        let tail_from = stable.max(snapshot) / SEGMENT_BYTES;
        let mut look = Look::new(tail_from.max(first), snapshot, segments.first());
        for (index, segment) in segments.iter().enumerate() {
            look.at(index, segment, &segment.read(file)?);
        }
        let end = look.end();
        let mut damaged = flipped_header || look.flipped || look.hole_in_tail();
        for &index in &look.doubtful(&segments) {
            damaged |= look.is_needed(&segments[index], &segments[index].read(file)?);
        }
        let newest = segments.len().saturating_sub(1);
        let bad = look.bad.iter().filter(|bad| bad.index != newest || bad.followed).count() as u64;
        let torn = look.newest_end > end || look.bad.iter().any(|bad| bad.lsn >= snapshot && bad.followed);
        Ok(Self { segments, end, torn, damaged, bad })
    }
}

struct Bad {
    index: usize,
    lsn: u64,
    /// Intact messages follow in the same segment.
    followed: bool,
}

/// What is noted while the segments pass by, in the log's order.
struct Look {
    /// From this segment on sled accepts no hole.
    tail_from: u64,
    /// Of what lies before sled knows from its snapshot.
    snapshot: u64,
    /// The number that the next segment of the tail must have.
    expected: u64,
    torn_at: Option<u64>,
    /// Batches of the tail: where they begin, and where they end.
    batches: Vec<(u64, u64)>,
    /// The newest message that makes all earlier ones about its page unneeded.
    replaced: HashMap<u64, u64>,
    bad: Vec<Bad>,
    newest_end: u64,
    flipped: bool,
    flips_sought: usize,
}

impl Look {
    fn new(tail_from: u64, snapshot: u64, first: Option<&Segment>) -> Self {
        Self {
            tail_from,
            snapshot,
            expected: tail_from,
            torn_at: first.is_none().then_some(tail_from * SEGMENT_BYTES),
            batches: Vec::new(),
            replaced: HashMap::new(),
            bad: Vec::new(),
            newest_end: 0,
            flipped: false,
            flips_sought: 0,
        }
    }

    fn at(&mut self, index: usize, segment: &Segment, bytes: &[u8]) {
        let in_tail = segment.number >= self.tail_from;
        if in_tail && (segment.number != self.expected || segment.headless) {
            self.tear(self.expected * SEGMENT_BYTES);
        }
        if in_tail {
            self.expected = segment.number + 1;
        }
        for piece in Pieces::of(bytes, segment.number) {
            match piece {
                Piece::Frame(frame) => self.frame(segment, &frame),
                Piece::Bad { from, .. } => self.bad(index, segment, bytes, from, true),
                Piece::Rest { from } => self.bad(index, segment, bytes, from, false),
            }
        }
    }

    fn frame(&mut self, segment: &Segment, frame: &Frame) {
        let lsn = segment.lsn(frame.at);
        self.newest_end = self.newest_end.max(segment.lsn(frame.end()));
        match frame.kind {
            Kind::Node | Kind::Blob | Kind::Meta | Kind::Counter | Kind::Free => {
                self.replaced.insert(frame.pid, lsn);
            }
            Kind::BatchManifest => {
                let end = frame.body.try_into().map_or(0, |bytes| i64::from_le_bytes(bytes).max(0)) as u64;
                if end >= self.tail_from * SEGMENT_BYTES {
                    self.batches.push((lsn, end));
                }
            }
            Kind::Link | Kind::Cap | Kind::Canceled => {}
        }
    }

    fn bad(&mut self, index: usize, segment: &Segment, bytes: &[u8], from: usize, followed: bool) {
        let lsn = segment.lsn(from);
        self.bad.push(Bad { index, lsn, followed });
        if segment.number >= self.tail_from {
            self.tear(lsn);
        }
        if !self.flipped && self.flips_sought < FLIPS_SOUGHT_MAX {
            self.flips_sought += 1;
            self.flipped = message_lacks_one_bit(bytes, from, segment.number);
        }
    }

    fn tear(&mut self, lsn: u64) {
        if lsn >= self.snapshot {
            self.torn_at = self.torn_at.or(Some(lsn));
        }
    }

    /// Where sled ends the log: at its first tear, or where a batch begins that reaches over it.
    fn end(&self) -> u64 {
        let tear = self.torn_at.unwrap_or(self.expected * SEGMENT_BYTES);
        self.batches.iter().find(|&&(_, end)| end >= tear).map_or(tear, |&(begin, _)| begin.min(tear))
    }

    fn too_old_for_a_crash(&self, lsn: u64) -> bool {
        self.newest_end.saturating_sub(lsn) > UNSYNCED_BYTES_MAX
    }

    fn hole_in_tail(&self) -> bool {
        let at_segment = self.torn_at.filter(|lsn| lsn.is_multiple_of(SEGMENT_BYTES));
        at_segment.is_some_and(|lsn| self.too_old_for_a_crash(lsn))
    }

    /// Segments with bad bytes that no crash of the last moments explains.
    fn doubtful(&self, segments: &[Segment]) -> BTreeSet<usize> {
        let bad = self.bad.iter().filter(|bad| self.too_old_for_a_crash(bad.lsn)).map(|bad| bad.index);
        let headless = segments.iter().enumerate().filter(|(_, segment)| segment.headless);
        bad.chain(headless.filter(|(_, s)| self.too_old_for_a_crash(s.lsn(0))).map(|(index, _)| index))
            .collect()
    }

    /// Whether a page still needs one of the segment's messages.
    fn is_needed(&self, segment: &Segment, bytes: &[u8]) -> bool {
        Pieces::of(bytes, segment.number).any(|piece| {
            let Piece::Frame(frame) = piece else { return false };
            let tells_of_a_page = !matches!(frame.kind, Kind::Cap | Kind::Canceled | Kind::BatchManifest);
            tells_of_a_page && self.replaced.get(&frame.pid).is_none_or(|&lsn| segment.lsn(frame.at) >= lsn)
        })
    }
}

/// The segments from number `first` on, in the log's order, and whether a bad header lacks one bit.
fn find_segments(file: &File, first: u64) -> io::Result<(Vec<Segment>, bool)> {
    let mut segments = Vec::new();
    let mut headless = Vec::new();
    let mut flipped = false;
    for at in (0..file.metadata()?.len()).step_by(SEGMENT_BYTES as usize) {
        let mut header = [0; SEGMENT_HEADER_BYTES];
        let read = read_up_to(file, &mut header, at)?;
        if let Some(header) = segment_header(&header[..read]) {
            let (number, stable_lsn) = (header.number, header.stable_lsn);
            segments.push(Segment { number, at, stable_lsn, headless: false });
            continue;
        }
        flipped |= segment_header_lacks_one_bit(&header[..read]);
        if let Some(number) = number_by_messages(&read_segment(file, at)?) {
            headless.push(Segment { number, at, stable_lsn: 0, headless: true });
        }
    }
    // A number that has a segment with a header needs no other: the log went on elsewhere.
    let known: BTreeSet<u64> = segments.iter().map(|segment: &Segment| segment.number).collect();
    segments.extend(headless.into_iter().filter(|segment| !known.contains(&segment.number)));
    segments.retain(|segment| segment.number >= first);
    segments.sort_by_key(|segment| (segment.number, segment.at));
    Ok((segments, flipped))
}

fn read_segment(file: &File, at: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; SEGMENT_BYTES as usize];
    let read = read_up_to(file, &mut bytes, at)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Fills `buffer` with what stands `at` there, as far as the file goes. What the disk does not give back reads
/// as zeros.
fn read_up_to(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        let place = at + filled as u64;
        let rest = &mut buffer[filled..];
        let read = read_at(file, rest, place).or_else(|error| match is_unreadable(&error) {
            // By pages, so that only the one with the bad sector is missing.
            true => read_page(file, rest, place),
            false => Err(error),
        });
        match read {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn read_page(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let rest_of_page = (PAGE_BYTES - at % PAGE_BYTES) as usize;
    let length = buffer.len().min(rest_of_page);
    let page = &mut buffer[..length];
    match read_at(file, page, at) {
        Err(error) if is_unreadable(&error) => {
            page.fill(0);
            Ok(length)
        }
        read => read,
    }
}

fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    /// With the fault put in, the tenth page of each mebibyte cannot be read.
    const BAD: Range<u64> = 10 * PAGE_BYTES..11 * PAGE_BYTES;
    let (from, to) = (at % (1 << 20), at % (1 << 20) + buffer.len() as u64);
    if fault::injected("bad-sector") && from < BAD.end && to > BAD.start {
        return Err(rustix::io::Errno::IO.into());
    }
    file.read_at(buffer, at)
}

/// Whether it is a sector that has gone bad.
pub fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}
