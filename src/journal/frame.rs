//! How a record looks on disk. Numbers are little-endian.

/// Bytes in front of a record's payload: marker, length, checksum.
pub(super) const FRAME_SIZE: usize = 12;
/// The longest payload: far above the largest callback that can be configured.
pub(super) const MAX_PAYLOAD: usize = 256 << 20;

/// What a record starts with: no UTF-8 text, and so no callback, has such bytes.
pub(super) const MARKER: [u8; 4] = *b"\xF5rv\xF6";

/// Appends a record with the payload that `fill` writes. Returns the payload's length.
pub(super) fn encode(buffer: &mut Vec<u8>, salt: u32, fill: impl FnOnce(&mut Vec<u8>)) -> usize {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; FRAME_SIZE]);
    fill(buffer);
    let length = buffer.len() - start - FRAME_SIZE;
    let length_bytes = (length as u32).to_le_bytes();
    let checksum = checksum(salt, length_bytes, &buffer[start + FRAME_SIZE..]);
    buffer[start..start + 4].copy_from_slice(&MARKER);
    buffer[start + 4..start + 8].copy_from_slice(&length_bytes);
    buffer[start + 8..start + 12].copy_from_slice(&checksum.to_le_bytes());
    length
}

/// The payload of the record that `bytes` starts with, if it is whole and intact.
pub(super) fn decode(bytes: &[u8], salt: u32) -> Option<&[u8]> {
    let (length, expected) = declared(bytes)?;
    let payload = bytes.get(FRAME_SIZE..FRAME_SIZE + length)?;
    (checksum(salt, (length as u32).to_le_bytes(), payload) == expected).then_some(payload)
}

/// The payload's length and checksum that a frame declares, if it looks like one.
pub(super) fn declared(frame: &[u8]) -> Option<(usize, u32)> {
    Some((payload_length(frame)?, number(frame, 8)?))
}

/// The length a frame declares, if it looks like one.
pub(super) fn payload_length(frame: &[u8]) -> Option<usize> {
    let length = number(frame, 4)? as usize;
    (frame.get(..4)? == MARKER && length <= MAX_PAYLOAD).then_some(length)
}

fn checksum(salt: u32, length: [u8; 4], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(salt, &length), payload)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
