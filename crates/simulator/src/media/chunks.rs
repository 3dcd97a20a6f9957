//! Where each container has room for text that players skip.

use bytes::{BufMut, Bytes, BytesMut};

/// A `free` box's header and text, and how much padding follows to make a file of `size` with `before` in front.
pub(super) fn free_box(stamp: &str, before: u64, size: Option<u64>) -> (Bytes, u64) {
    let text = stamp.as_bytes();
    let short = 8 + text.len() as u64;
    let room = size.unwrap_or(0).saturating_sub(before);
    let mut bytes = BytesMut::new();
    let total = if let Ok(total) = u32::try_from(room.max(short)) {
        bytes.put_u32(total);
        bytes.put_slice(b"free");
        u64::from(total)
    } else {
        bytes.put_u32(1);
        bytes.put_slice(b"free");
        bytes.put_u64(room);
        room
    };
    bytes.put_slice(text);
    let padding = total - bytes.len() as u64;
    (bytes.freeze(), padding)
}

/// An ID3v2.3 tag with one comment.
pub(super) fn id3_comment(stamp: &str) -> Bytes {
    let frame = [b"\0eng\0".as_slice(), stamp.as_bytes()].concat();
    let mut bytes = BytesMut::new();
    bytes.put_slice(b"ID3\x03\0\0");
    let size = 10 + frame.len() as u32;
    for shift in [21, 14, 7, 0] {
        bytes.put_u8((size >> shift) as u8 & 0x7F);
    }
    bytes.put_slice(b"COMM");
    bytes.put_u32(frame.len() as u32);
    bytes.put_u16(0);
    bytes.put_slice(&frame);
    bytes.freeze()
}

/// A JPEG `COM` segment.
pub(super) fn jpeg_comment(stamp: &str) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_slice(&[0xFF, 0xFE]);
    bytes.put_u16(2 + stamp.len() as u16);
    bytes.put_slice(stamp.as_bytes());
    bytes.freeze()
}
