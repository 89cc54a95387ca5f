//! Tells a message that lost a single bit from one that was never written whole.
//!
//! Both have a bad checksum, and at a log's end both are followed by nothing, or by messages that a
//! power cut let through. But a checksum is linear: each bit, flipped, changes it in a way of its own,
//! whatever the other bits are. So the difference between the stored and the actual one names the bit.
//! A torn message looks so by chance once in 2³² for each of its bits: 1 in 100,000 at 4 KB.

use super::log::{MessageHeader, SEGMENT_HEADER_BYTES, segment_header};

/// Bytes in which a header's numbers can stand.
const HEADER_BYTES: std::ops::Range<usize> = 4..32;
/// What a disk writes whole.
const SECTOR_BYTES: usize = 512;
/// The polynomial of CRC-32, reflected.
const POLYNOMIAL: u32 = 0xEDB8_8320;

/// Whether one flipped bit would make a message of segment `number`, in whose bytes `segment` it begins at `at`.
/// Not if that bit stands in a sector of which nothing was written: the end of a torn message, of which a
/// single bit is missing.
pub(super) fn message_lacks_one_bit(segment: &[u8], at: usize, number: u64) -> bool {
    let bytes = segment.get(at..).unwrap_or_default();
    let lacking = body_bit(bytes, number).or_else(|| header_bit(bytes, number));
    lacking.is_some_and(|place| {
        let sector = (at + place) / SECTOR_BYTES * SECTOR_BYTES;
        let within = &segment[sector.max(at)..(sector + SECTOR_BYTES).min(segment.len())];
        within.iter().any(|byte| *byte != 0)
    })
}

/// Whether one flipped bit would make a segment's header of the beginning of `segment`.
pub(super) fn segment_header_lacks_one_bit(segment: &[u8]) -> bool {
    let Some(header) = segment.first_chunk::<SEGMENT_HEADER_BYTES>() else { return false };
    (0..8 * SEGMENT_HEADER_BYTES).any(|bit| {
        let mut mended = *header;
        mended[bit / 8] ^= 1 << (bit % 8);
        segment_header(&mended).is_some()
    })
}

/// The byte whose bit is wrong, if the header's own numbers are right: the checksum's difference tells.
fn body_bit(bytes: &[u8], number: u64) -> Option<usize> {
    let header = MessageHeader::read(bytes).filter(|header| header.number() == number)?;
    let difference = header.actual_crc(bytes) ^ header.stored_crc;
    if difference.count_ones() == 1 {
        return Some(difference.trailing_zeros() as usize / 8);
    }
    // The checksum goes over the body and then the header.
    let in_header = HEADER_BYTES.start..header.header_bytes;
    let in_body = header.header_bytes..header.header_bytes + header.body_bytes;
    // How each bit of the last byte changes the checksum; then of the one before it, and so on.
    let mut effects: [u32; 8] = std::array::from_fn(|bit| after_zero_byte(1 << bit));
    in_body.chain(in_header).rev().find(|_| {
        let found = effects.contains(&difference);
        effects = effects.map(after_zero_byte);
        found
    })
}

/// A flipped bit of the length or of the page's id may also move where the body begins and ends.
fn header_bit(bytes: &[u8], number: u64) -> Option<usize> {
    let end = HEADER_BYTES.end.min(bytes.len());
    let mut mended = bytes.to_vec();
    let bits = (HEADER_BYTES.start..end).flat_map(|at| (0..8).map(move |bit| (at, 1 << bit)));
    for (at, bit) in bits {
        mended[at] ^= bit;
        let whole = MessageHeader::read(&mended).is_some_and(|header| {
            header.number() == number && header.actual_crc(&mended) == header.stored_crc
        });
        mended[at] ^= bit;
        if whole {
            return Some(at);
        }
    }
    None
}

fn after_zero_byte(crc: u32) -> u32 {
    (0..8).fold(crc, |crc, _| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 })
}
