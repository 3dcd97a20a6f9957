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
/// x to the power of 1, 2, 4, ….
const POWERS: [u32; 32] = powers();

/// A search in one segment, which may go on at any place behind the one before.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// The CRC of the segment's first 0, 256, 512, … bytes, as far as it was needed.
    beginnings: Vec<u32>,
    /// Bytes that went through the CRC so far.
    #[cfg(test)]
    work: usize,
}

impl Search {
    /// Where in the segment `bytes` the next intact record starts at or after `from`.
    pub(super) fn next_record(&mut self, bytes: &[u8], from: usize, salt: u32) -> Option<usize> {
        let windows = bytes.get(from..)?.windows(frame::MARKER.len()).enumerate();
        windows
            .filter(|(_, window)| *window == frame::MARKER)
            .map(|(at, _)| from + at)
            .find(|at| self.is_intact(bytes, *at, salt))
    }

    fn is_intact(&mut self, bytes: &[u8], at: usize, salt: u32) -> bool {
        let Some((length, expected)) = frame::declared(&bytes[at..]) else { return false };
        let start = at + FRAME_SIZE;
        let end = start + length;
        if end > bytes.len() {
            return false;
        }
        let before = crc32c::crc32c_append(salt, &(length as u32).to_le_bytes());
        moved(before ^ self.beginning(bytes, start), length) ^ self.beginning(bytes, end) == expected
    }

    /// The CRC of the first `length` bytes.
    fn beginning(&mut self, bytes: &[u8], length: usize) -> u32 {
        let block = length / BLOCK;
        if self.beginnings.is_empty() {
            self.beginnings.push(0);
        }
        while self.beginnings.len() <= block {
            let known = self.beginnings.len() - 1;
            let next = self.append(self.beginnings[known], &bytes[known * BLOCK..(known + 1) * BLOCK]);
            self.beginnings.push(next);
        }
        self.append(self.beginnings[block], &bytes[block * BLOCK..length])
    }

    fn append(&mut self, crc: u32, bytes: &[u8]) -> u32 {
        #[cfg(test)]
        {
            self.work += bytes.len();
        }
        crc32c::crc32c_append(crc, bytes)
    }
}

/// What a CRC adds to that of a text `bytes` longer: it times x to the power of eight for each byte, modulo the
/// polynomial. As zlib does it; `crc32c_combine` would make the powers anew each time.
fn moved(crc: u32, bytes: usize) -> u32 {
    // A segment's bits are fewer than 2 to the power of 32.
    let powers = POWERS.iter().skip(3).enumerate();
    powers.filter(|(bit, _)| bytes >> bit & 1 == 1).fold(crc, |product, (_, power)| times(*power, product))
}

const fn times(a: u32, mut b: u32) -> u32 {
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

const fn powers() -> [u32; 32] {
    // Where the lowest bit comes last, x is the last but one.
    let mut powers = [1 << 30; 32];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = times(powers[at - 1], powers[at - 1]);
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
            let (mut search, mut found, mut from) = (Search::default(), Vec::new(), 1);
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
            assert_eq!(moved(0x1234_5678, bytes) ^ 77, crc32c::crc32c_combine(0x1234_5678, 77, bytes), "{bytes}");
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
        let mut search = Search::default();
        assert_eq!(search.next_record(&bytes, 0, SALT), Some(end));
        let each = bytes.len() / 8;
        assert!(search.work <= bytes.len() + each * 2 * BLOCK, "{}", search.work);
        // Many stretches of damage in one segment are no more work than one.
        let mut search = Search::default();
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
