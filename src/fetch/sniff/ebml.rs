//! Matroska and WebM: the DocType in the EBML header (RFC 8794).

use super::{MediaType, named};

/// What a header says, behind its own ID.
pub(super) fn doc_type(header: &[u8]) -> Option<MediaType> {
    let (length, mut rest) = number(header)?;
    rest = &rest[..rest.len().min(length)];
    loop {
        let id_length = rest.first()?.leading_zeros() as usize + 1;
        let (id, after) = rest.split_at_checked(id_length)?;
        let (length, value) = number(after)?;
        let (value, after) = value.split_at_checked(length)?;
        if id == [0x42, 0x82] {
            // EBML strings may be padded with zeros.
            return match value.split(|byte| *byte == 0).next()? {
                b"webm" => named("webm"),
                b"matroska" => named("mkv"),
                _ => None,
            };
        }
        rest = after;
    }
}

/// A length of 1 to 8 bytes whose leading zeros say how many.
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let length = bytes.first()?.leading_zeros() as usize + 1;
    let (number, rest) = bytes.split_at_checked(length)?;
    if length > 8 {
        return None;
    }
    let value = number.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    // The bit that ends the leading zeros is no part of the number.
    Some((usize::try_from(value & !(1 << (7 * length))).ok()?, rest))
}
