//! Finds the records behind damage.
//!
//! A damaged record's bytes may hold any number of markers, each in front of a length that reaches far. What lies
//! behind a marker is therefore not read again for each: the CRC of any stretch follows from those of two beginnings of
//! the segment, which are made once.

use super::frame::{self, FRAME_SIZE};

/// Bytes between two beginnings whose CRC is kept: a 64th of the segment in memory, and at most this much to read for
/// an end in between.
const BLOCK: usize = 256;
/// CRC-32C's polynomial as RFC 3720 has it, without its highest term, the lowest bit first.
const POLYNOMIAL: u32 = 0x82F6_3B78;
/// x to the power of 1, 2, 4, …. One more would be x again: x to the power of [`ORDER`] is 1.
const POWERS: [u32; 31] = powers();
/// How often x has to be taken before the powers of x begin anew.
const ORDER: usize = (1 << 31) - 1;

/// A search in one segment, which may go on at any place behind the one before.
#[derive(Debug, Default)]
pub(super) struct Resync {
    /// The CRC of the segment's first 0, 256, 512, … bytes, as far as it was needed.
    prefix_crcs: Vec<u32>,
    /// Bytes that went through the CRC so far.
    #[cfg(test)]
    work: usize,
}

impl Resync {
    /// Where in the segment `bytes` the next intact record starts at or after `from`.
    pub(super) fn next_record(&mut self, bytes: &[u8], from: usize, salt: u32) -> Option<usize> {
        markers(bytes, from).find(|at| self.is_intact(bytes, *at, salt))
    }

    /// The salt that the record at `at` was written with if it is intact, and where it ends.
    pub(super) fn salt_of(&mut self, bytes: &[u8], at: usize) -> Option<(u32, usize)> {
        let (length, expected) = frame::declared(bytes.get(at..)?)?;
        let end = at + FRAME_SIZE + length;
        let salted = expected ^ self.checksum(bytes, at, length, 0)?;
        // The salt went through as many bytes as there are behind it: those of the length, and the payload.
        Some((crc_shift(salted, ORDER - (4 + length)), end))
    }

    fn is_intact(&mut self, bytes: &[u8], at: usize, salt: u32) -> bool {
        let Some((length, expected)) = frame::declared(&bytes[at..]) else { return false };
        self.checksum(bytes, at, length, salt) == Some(expected)
    }

    /// The checksum of a record at `at`, if it is not longer than the segment.
    fn checksum(&mut self, bytes: &[u8], at: usize, length: usize, salt: u32) -> Option<u32> {
        let start = at + FRAME_SIZE;
        let end = start + length;
        if end > bytes.len() {
            return None;
        }
        let before = crc32c::crc32c_append(salt, &(length as u32).to_le_bytes());
        Some(crc_shift(before ^ self.beginning(bytes, start), length) ^ self.beginning(bytes, end))
    }

    /// The CRC of the first `length` bytes.
    fn beginning(&mut self, bytes: &[u8], length: usize) -> u32 {
        let block = length / BLOCK;
        if self.prefix_crcs.is_empty() {
            self.prefix_crcs.push(0);
        }
        while self.prefix_crcs.len() <= block {
            let known = self.prefix_crcs.len() - 1;
            let next = self.append(self.prefix_crcs[known], &bytes[known * BLOCK..(known + 1) * BLOCK]);
            self.prefix_crcs.push(next);
        }
        self.append(self.prefix_crcs[block], &bytes[block * BLOCK..length])
    }

    fn append(&mut self, crc: u32, bytes: &[u8]) -> u32 {
        #[cfg(test)]
        {
            self.work += bytes.len();
        }
        crc32c::crc32c_append(crc, bytes)
    }
}

/// Where the next marker stands at or after `from`.
pub(super) fn next_marker(bytes: &[u8], from: usize) -> Option<usize> {
    markers(bytes, from).next()
}

fn markers(bytes: &[u8], from: usize) -> impl Iterator<Item = usize> {
    let windows = bytes.get(from..).unwrap_or_default().windows(frame::MARKER.len()).enumerate();
    windows.filter(|(_, window)| *window == frame::MARKER).map(move |(at, _)| from + at)
}

/// What a CRC adds to that of a text `bytes` longer: it times x to the power of eight for each byte, modulo the
/// polynomial. As zlib does it; `crc32c_combine` would make the powers anew each time. With [`ORDER`] less `bytes` it is
/// undone.
fn crc_shift(crc: u32, bytes: usize) -> u32 {
    let powers = POWERS.iter().cycle().skip(3).take(usize::BITS as usize - 3).enumerate();
    powers.filter(|(bit, _)| bytes >> bit & 1 == 1).fold(crc, |product, (_, power)| gf2_mul(*power, product))
}

const fn gf2_mul(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 1 << 31;
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = if b & 1 == 1 { b >> 1 ^ POLYNOMIAL } else { b >> 1 };
        bit >>= 1;
    }
    product
}

const fn powers() -> [u32; 31] {
    // Where the lowest bit comes last, x is the last but one.
    let mut powers = [1 << 30; 31];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = gf2_mul(powers[at - 1], powers[at - 1]);
        at += 1;
    }
    powers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SALT: u32 = 0x5a17;

    fn record(payload: &[u8], salt: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, salt, |buffer| buffer.extend_from_slice(payload));
        bytes
    }

    /// A marker and a length, for whoever looks at no more than that.
    fn bait(length: usize) -> Vec<u8> {
        [&frame::MARKER[..], &(length as u32).to_le_bytes()].concat()
    }

    proptest! {
        #[test]
        fn a_record_is_intact_for_the_search_as_for_its_reader(
            pieces in proptest::collection::vec((0..4_u8, proptest::collection::vec(any::<u8>(), 0..700)), 0..12),
            flips in proptest::collection::vec((any::<proptest::sample::Index>(), 1..=u8::MAX), 0..4),
        ) {
            let mut bytes = vec![0; 64];
            for (kind, piece) in pieces {
                bytes.extend(match kind {
                    0 => piece,
                    1 => record(&piece, !SALT),
                    2 => [bait(piece.len() * 3), piece].concat(),
                    _ => record(&piece, SALT),
                });
            }
            for (at, flip) in flips {
                let at = at.index(bytes.len());
                bytes[at] ^= flip;
            }
            let expected = (1..bytes.len()).filter(|at| frame::decode(&bytes[*at..], SALT).is_some());
            let (mut search, mut found, mut from) = (Resync::default(), Vec::new(), 1);
            while let Some(at) = search.next_record(&bytes, from, SALT) {
                found.push(at);
                from = at + 1;
            }
            prop_assert_eq!(found, expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn moving_is_what_the_crate_calls_combining() {
        for bytes in [1, 2, 255, 256, 257, 65_537, (1 << 28) - 1, 1 << 28] {
            assert_eq!(crc_shift(0x1234_5678, bytes) ^ 77, crc32c::crc32c_combine(0x1234_5678, 77, bytes), "{bytes}");
        }
    }

    #[test]
    fn each_intact_record_gives_the_salt_it_was_written_with() {
        for (salt, length) in [(SALT, 0), (0, 1), (u32::MAX, 255), (1 << 31, 70_000), (SALT, 3_000_000)] {
            let bytes = [vec![7; 100], record(&vec![5; length], salt)].concat();
            assert_eq!(Resync::default().salt_of(&bytes, 100), Some((salt, bytes.len())), "{length}");
        }
    }

    #[test]
    fn a_body_full_of_markers_costs_no_more_than_its_length_allows() {
        let last = record(b"the one behind", SALT);
        let mut bytes = Vec::new();
        while bytes.len() < 1 << 20 {
            // As far as the segment goes, which is what costs most.
            bytes.extend(bait((1 << 20) - bytes.len() - 8));
        }
        let end = bytes.len();
        bytes.extend(&last);
        let mut search = Resync::default();
        assert_eq!(search.next_record(&bytes, 0, SALT), Some(end));
        let each = bytes.len() / 8;
        assert!(search.work <= bytes.len() + each * 2 * BLOCK, "{}", search.work);
        // Many stretches of damage in one segment are no more work than one.
        let mut search = Resync::default();
        let mut bytes = Vec::new();
        for _ in 0..4000 {
            bytes.extend(bait(600_000));
            bytes.extend(&last);
            bytes.extend([1; 100]);
        }
        let (mut from, mut found) = (0, 0);
        while let Some(at) = search.next_record(&bytes, from, SALT) {
            (from, found) = (at + last.len(), found + 1);
        }
        assert_eq!(found, 4000);
        assert!(search.work <= bytes.len() + 8000 * 2 * BLOCK, "{}", search.work);
    }
}
