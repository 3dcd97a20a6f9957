//! A segment's header: two copies, in different blocks of the disk, and what is left of it when both are damaged.
//!
//! A header says where the segment before it ends, and the salt that enters every record's checksum. Both follow from a
//! header with one wrong bit. The salt follows from the records, too: a CRC is linear, so each intact record gives the
//! salt it was written with, and two in a row that give the same are no accident.

use super::frame;
use super::resync::{self, Resync};

/// Bytes from a segment's first to its first record.
pub(super) const HEADER_SIZE: usize = SECOND_COPY + COPY_SIZE;
/// The same in segments of the first form, which have one copy.
const FIRST_FORM_SIZE: usize = 64;
/// Bytes of a copy.
const COPY_SIZE: usize = 32;
/// Where the second copy begins: blocks are damaged as a whole.
const SECOND_COPY: usize = 4096;
const FIRST_FORM: [u8; 8] = *b"RVJOURN1";
const SECOND_FORM: [u8; 8] = *b"RVJOURN2";

/// What a new segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The position of the header's first byte.
    pub(super) base: u64,
    /// Where the segment before this one ends: what stands there beyond this position was not known to its writer.
    pub(super) previous_end: u64,
    /// Enters every record's checksum.
    pub(super) salt: u32,
}

/// What is known of a segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FoundHeader {
    /// Enters every record's checksum.
    pub(super) salt: u32,
    /// Where the segment before this one ends; `None` when that is lost.
    pub(super) previous_end: Option<u64>,
    /// Bytes from the segment's first to its first record.
    pub(super) size: usize,
    /// Whether every copy is as it was written.
    pub(super) is_intact: bool,
}

type CopyBytes = [u8; COPY_SIZE];

impl Header {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut copy = [0; COPY_SIZE];
        copy[..8].copy_from_slice(&SECOND_FORM);
        copy[8..16].copy_from_slice(&self.base.to_le_bytes());
        copy[16..24].copy_from_slice(&self.previous_end.to_le_bytes());
        copy[24..28].copy_from_slice(&self.salt.to_le_bytes());
        let checksum = crc32c::crc32c(&copy[..28]);
        copy[28..].copy_from_slice(&checksum.to_le_bytes());
        let mut bytes = vec![0; HEADER_SIZE];
        bytes[..COPY_SIZE].copy_from_slice(&copy);
        bytes[SECOND_COPY..].copy_from_slice(&copy);
        bytes
    }
}

impl FoundHeader {
    /// The header of the segment with this base, from the first [`HEADER_SIZE`] of its bytes or as many as there are.
    pub(super) fn read(bytes: &[u8], base: u64) -> Option<Self> {
        let first = copy_at(bytes, 0)?;
        let second = copy_at(bytes, SECOND_COPY);
        let found = |copy: &CopyBytes, is_intact| Self {
            salt: salt_in(copy),
            previous_end: Some(number_at(copy, 16)),
            size: if copy[..8] == FIRST_FORM { FIRST_FORM_SIZE } else { HEADER_SIZE },
            is_intact,
        };
        if is_valid(&first, base) {
            let is_intact = first[..8] == FIRST_FORM || second == Some(first);
            return Some(found(&first, is_intact));
        }
        // In a segment of the first form, records stand where the second copy would: it is asked last.
        let mended = [FIRST_FORM, SECOND_FORM].into_iter().find_map(|form| mended(&first, form, base));
        let second = || {
            let second = second.filter(|copy| copy[..8] == SECOND_FORM || first[..8] == SECOND_FORM)?;
            if is_valid(&second, base) { Some(second) } else { self::mended(&second, SECOND_FORM, base) }
        };
        mended.or_else(second).map(|copy| found(&copy, false))
    }

    /// The same from the whole segment, whose records may tell what the header does not.
    pub(super) fn recover(bytes: &[u8], base: u64) -> Option<Self> {
        if let Some(found) = Self::read(bytes, base) {
            return Some(found);
        }
        let copies: Vec<CopyBytes> = [0, SECOND_COPY].into_iter().filter_map(|at| copy_at(bytes, at)).collect();
        let mut search = Resync::default();
        let salt = match salt_of_records(bytes, &mut search) {
            Some((salt, true)) => salt,
            unsure => {
                let written = copies.iter().map(salt_in);
                let confirmed = |salt: &u32| search.next_record(bytes, FIRST_FORM_SIZE, *salt).is_some();
                written.into_iter().find(confirmed).or(unsure.map(|(salt, _)| salt))?
            }
        };
        let with_salt = copies.into_iter().find_map(|mut copy| {
            copy[24..28].copy_from_slice(&salt.to_le_bytes());
            [FIRST_FORM, SECOND_FORM].into_iter().find_map(|form| mended(&copy, form, base))
        });
        let is_second_form = bytes[COPY_SIZE..].iter().take(SECOND_COPY - COPY_SIZE).all(|byte| *byte == 0);
        let size = if is_second_form { HEADER_SIZE } else { FIRST_FORM_SIZE };
        Some(Self { salt, previous_end: with_salt.map(|copy| number_at(&copy, 16)), size, is_intact: false })
    }
}

/// The salt that two records in a row were written with, and whether that is sure.
///
/// Each record says where the next begins, so a walk that starts at the first comes by no body, in which anyone may have put
/// what looks like records. Where it finds no next, the last two in a row count: behind a body comes a record.
fn salt_of_records(bytes: &[u8], search: &mut Resync) -> Option<(u32, bool)> {
    let first = [FIRST_FORM_SIZE, HEADER_SIZE].into_iter().find(|at| declares_record(bytes, *at));
    let (mut at, mut is_sure) = (first.unwrap_or(FIRST_FORM_SIZE), first.is_some());
    let (mut last, mut agreed) = (None, None);
    let data_end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    loop {
        match search.salt_of(bytes, at) {
            Some((salt, end)) if end == data_end || declares_record(bytes, end) => {
                if last == Some(salt) {
                    agreed = Some((salt, is_sure));
                    if is_sure {
                        return agreed;
                    }
                }
                (at, last) = (end, Some(salt));
            }
            _ => {
                (last, is_sure) = (None, false);
                match resync::next_marker(bytes, at + 1) {
                    Some(next) => at = next,
                    None => return agreed,
                }
            }
        }
    }
}

fn declares_record(bytes: &[u8], at: usize) -> bool {
    bytes.get(at..).and_then(frame::declared).is_some()
}

/// Whether `bytes` begin as a segment does.
pub(super) fn is_header(bytes: &[u8]) -> bool {
    copy_at(bytes, 0).is_some_and(|copy| is_valid(&copy, number_at(&copy, 8)))
}

fn copy_at(bytes: &[u8], at: usize) -> Option<CopyBytes> {
    bytes.get(at..at + COPY_SIZE)?.try_into().ok()
}

/// The copy, when no more than one bit of it is wrong besides what the segment's name says.
fn mended(copy: &CopyBytes, form: [u8; 8], base: u64) -> Option<CopyBytes> {
    let mut copy = *copy;
    copy[..8].copy_from_slice(&form);
    copy[8..16].copy_from_slice(&base.to_le_bytes());
    if is_valid(&copy, base) {
        return Some(copy);
    }
    (16 * 8..COPY_SIZE * 8).find_map(|bit| {
        let mut copy = copy;
        copy[bit / 8] ^= 1 << (bit % 8);
        is_valid(&copy, base).then_some(copy)
    })
}

fn is_valid(copy: &CopyBytes, base: u64) -> bool {
    let is_known = copy[..8] == FIRST_FORM || copy[..8] == SECOND_FORM;
    is_known && number_at(copy, 8) == base && crc32c::crc32c(&copy[..28]).to_le_bytes() == copy[28..]
}

fn salt_in(copy: &CopyBytes) -> u32 {
    u32::from_le_bytes([copy[24], copy[25], copy[26], copy[27]])
}

fn number_at(copy: &CopyBytes, at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&copy[at..at + 8]);
    u64::from_le_bytes(bytes)
}
