//! ZIP archives whose bytes are known by number before any is read: files as they are, uncompressed, each with its checksum
//! behind it. As PKWARE's APPNOTE 6.3.10 has it, with Zip64 where a number needs it.

use bytes::{BufMut, Bytes, BytesMut};
use crc_fast::CrcAlgorithm;

use crate::domain::Timestamp;

/// From here on a number stands in a Zip64 field.
const MAX_32: u64 = u32::MAX as u64;
/// Sizes and checksum stand behind the file.
const FLAGS: u16 = 1 << 3;
/// Made on Unix, which says what the attributes mean, by version 4.5 of the specification.
const MADE_BY: u16 = 3 << 8 | 45;
/// A file that its owner may write and all may read.
const ATTRIBUTES: u32 = 0o100_644 << 16;
/// Midnight of the first day that the format knows, 1 January 1980.
const FIRST_DATE: (u16, u16) = (0, 1 << 5 | 1);

/// A file of an archive.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Its path: plain ASCII, without `..`.
    pub(super) name: String,
    /// Its size.
    pub(super) bytes: u64,
    /// When it was stored.
    pub(super) modified: Timestamp,
}

impl Entry {
    fn is_large(&self) -> bool {
        self.bytes >= MAX_32
    }

    fn version(&self) -> u16 {
        if self.is_large() { 45 } else { 20 }
    }

    fn name_length(&self) -> u16 {
        u16::try_from(self.name.len()).unwrap_or(u16::MAX)
    }

    /// What stands before it.
    pub(super) fn head(&self) -> Bytes {
        let mut head = BytesMut::new();
        let (time, date) = dos_time(self.modified);
        head.put_u32_le(0x0403_4b50);
        for field in [self.version(), FLAGS, 0, time, date] {
            head.put_u16_le(field);
        }
        head.put_u32_le(0);
        // That there is such a field says that the sizes behind the file have eight bytes each.
        let size = if self.is_large() { u32::MAX } else { 0 };
        head.put_u32_le(size);
        head.put_u32_le(size);
        head.put_u16_le(self.name_length());
        head.put_u16_le(if self.is_large() { 20 } else { 0 });
        head.put_slice(self.name.as_bytes());
        if self.is_large() {
            head.put_u16_le(1);
            head.put_u16_le(16);
            head.put_u128_le(0);
        }
        head.freeze()
    }

    /// What stands behind it.
    pub(super) fn tail(&self, crc: u32) -> Bytes {
        let mut tail = BytesMut::new();
        tail.put_u32_le(0x0807_4b50);
        tail.put_u32_le(crc);
        for _ in 0..2 {
            if self.is_large() { tail.put_u64_le(self.bytes) } else { tail.put_u32_le(self.bytes as u32) }
        }
        tail.freeze()
    }

    /// Puts its line into the directory at the archive's end.
    fn list(&self, crc: u32, offset: u64, directory: &mut BytesMut) {
        let (time, date) = dos_time(self.modified);
        let large: Vec<u64> = [self.bytes, self.bytes, offset].into_iter().filter(|number| *number >= MAX_32).collect();
        directory.put_u32_le(0x0201_4b50);
        let version = if large.is_empty() { 20 } else { 45 };
        for field in [MADE_BY, version, FLAGS, 0, time, date] {
            directory.put_u16_le(field);
        }
        directory.put_u32_le(crc);
        directory.put_u32_le(self.bytes.min(MAX_32) as u32);
        directory.put_u32_le(self.bytes.min(MAX_32) as u32);
        directory.put_u16_le(self.name_length());
        directory.put_u16_le(if large.is_empty() { 0 } else { 4 + 8 * large.len() as u16 });
        // No comment, the first disk, no hint on what is in it.
        for _ in 0..3 {
            directory.put_u16_le(0);
        }
        directory.put_u32_le(ATTRIBUTES);
        directory.put_u32_le(offset.min(MAX_32) as u32);
        directory.put_slice(self.name.as_bytes());
        if !large.is_empty() {
            directory.put_u16_le(1);
            directory.put_u16_le(8 * large.len() as u16);
            large.into_iter().for_each(|number| directory.put_u64_le(number));
        }
    }
}

/// The directory at the archive's end, as far as files were written.
#[derive(Debug, Default)]
pub(super) struct Directory {
    lines: BytesMut,
    files: u64,
    offset: u64,
}

impl Directory {
    /// A file was written, with its head and its tail.
    pub(super) fn add(&mut self, entry: &Entry, crc: u32) {
        entry.list(crc, self.offset, &mut self.lines);
        self.files += 1;
        self.offset += entry.head().len() as u64 + entry.bytes + entry.tail(crc).len() as u64;
    }

    /// The archive's end.
    pub(super) fn end(self) -> Bytes {
        let Self { mut lines, files, offset } = self;
        let size = lines.len() as u64;
        let whole = offset + size;
        if offset >= MAX_32 || size >= MAX_32 || files >= u64::from(u16::MAX) {
            lines.put_u32_le(0x0606_4b50);
            lines.put_u64_le(44);
            lines.put_u16_le(MADE_BY);
            lines.put_u16_le(45);
            lines.put_u64_le(0);
            for number in [files, files, size, offset] {
                lines.put_u64_le(number);
            }
            lines.put_u32_le(0x0706_4b50);
            lines.put_u32_le(0);
            lines.put_u64_le(whole);
            lines.put_u32_le(1);
        }
        lines.put_u32_le(0x0605_4b50);
        lines.put_u32_le(0);
        for _ in 0..2 {
            lines.put_u16_le(files.min(u64::from(u16::MAX)) as u16);
        }
        lines.put_u32_le(size.min(MAX_32) as u32);
        lines.put_u32_le(offset.min(MAX_32) as u32);
        lines.put_u16_le(0);
        lines.freeze()
    }
}

/// How many bytes an archive of these has.
pub(super) fn length<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> u64 {
    let mut directory = Directory::default();
    entries.into_iter().for_each(|entry| directory.add(entry, 0));
    directory.offset + directory.end().len() as u64
}

/// The checksum of a file.
pub(super) fn checksum() -> crc_fast::Digest {
    crc_fast::Digest::new(CrcAlgorithm::Crc32IsoHdlc)
}

/// Time and date as the format has them: in UTC, to two seconds, from 1980 to 2107.
fn dos_time(at: Timestamp) -> (u16, u16) {
    let (year, month, day) = at.date();
    let Some(since) = year.checked_sub(1980).filter(|since| *since < 128) else { return FIRST_DATE };
    let seconds = (at.millis() / 1000 % 86_400) as u32;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let time = ((hour << 11) | (minute << 5) | (second / 2)) as u16;
    (time, (since << 9) | (u16::from(month) << 5) | u16::from(day))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(bytes: u64) -> Entry {
        let modified = Timestamp::parse_rfc3339("2026-11-20T09:04:10Z").unwrap();
        Entry { name: "video-3/video.mp4".to_owned(), bytes, modified }
    }

    #[test]
    fn a_small_archive_has_no_zip64() {
        let file = entry(5);
        assert_eq!(dos_time(file.modified), (9 << 11 | 4 << 5 | 5, 46 << 9 | 11 << 5 | 20));
        assert_eq!(dos_time(Timestamp::default()), FIRST_DATE);
        assert_eq!((file.head().len(), file.tail(1).len()), (30 + 17, 16));
        assert_eq!(length([&file]), (30 + 17) + 5 + 16 + (46 + 17) + 22);
        assert_eq!(length([]), 22);
    }

    #[test]
    fn large_files_and_those_behind_them_have_zip64() {
        let (large, small) = (entry(5 << 30), entry(5));
        assert_eq!((large.head().len(), large.tail(1).len()), (30 + 17 + 20, 24));
        let mut directory = Directory::default();
        directory.add(&large, 7);
        directory.add(&small, 8);
        let offset = (30 + 17 + 20) + (5 << 30) + 24 + (30 + 17) + 5 + 16;
        let lines = (46 + 17 + 20) + (46 + 17 + 12);
        assert_eq!((directory.offset, directory.lines.len()), (offset, lines));
        assert_eq!(length([&large, &small]), offset + lines as u64 + 56 + 20 + 22);
    }
}
