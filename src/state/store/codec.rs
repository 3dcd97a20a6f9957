//! The format of a block.
//!
//! A block is: CRC-32C of what follows (4 bytes, little-endian); how many records it has; how many bytes these take up, or 0
//! when they are not compressed; the records, as LZ4 compresses them or as they are. A record is: how many bytes its key
//! has in common with that before; how many bytes of its own; how many bytes the value has; the key's own bytes; the value.
//! Numbers have seven bits in a byte, the lowest first.

use std::borrow::Cow;
use std::ops::Range;

use sled::IVec;

use super::StoreError;

/// Bytes of packed records beyond which a block becomes two, unless it has fewer records than [`MIN_RECORDS`]: what is put here
/// and there, as digests are, rewrites a block each.
const TARGET_BLOCK_SIZE: usize = 512;
/// The same where records are [`LARGE_RECORD`], before they are compressed.
const TARGET_LARGE_BLOCK_SIZE: usize = 4096;
/// Bytes that large records have at least, on an average of their block.
const LARGE_RECORD: usize = 64;
const MIN_RECORDS: usize = 2;
/// How many times smaller than its bytes what LZ4 compresses is at most: a byte of a length counts for 255
/// (<https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md>).
const MAX_COMPRESSION_RATIO: usize = 256;
const CHECKSUM_BYTES: usize = 4;

/// Records in the order of their keys, of which blocks are made.
#[derive(Default)]
pub(super) struct BlockWriter<'a> {
    /// One key after the other.
    keys: Vec<u8>,
    records: Vec<Record<'a>>,
    /// Bytes of all records, packed.
    bytes: usize,
}

struct Record<'a> {
    key: Range<usize>,
    /// How many bytes of the key the one before has, too.
    shared: usize,
    value: &'a [u8],
}

impl Record<'_> {
    /// Bytes of it in a block, those of the three numbers about.
    fn size(&self) -> usize {
        3 + self.key.len() - self.shared + self.value.len()
    }
}

impl<'a> BlockWriter<'a> {
    pub(super) fn push(&mut self, key: &[u8], value: &'a [u8]) {
        let last = self.records.last().map_or(0..0, |last| last.key.clone());
        let shared = self.keys[last].iter().zip(key).take_while(|(last, key)| last == key).count();
        let start = self.keys.len();
        self.keys.extend_from_slice(key);
        let record = Record { key: start..self.keys.len(), shared, value };
        self.bytes += record.size();
        self.records.push(record);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Puts blocks of all records into `batch`, the first under `first`, the others under the key of their first record.
    pub(super) fn pack(self, batch: &mut sled::Batch, first: IVec, appends: bool) {
        let each = self.bytes / self.records.len();
        let full =
            if each < LARGE_RECORD { TARGET_BLOCK_SIZE } else { TARGET_LARGE_BLOCK_SIZE }.max(each * MIN_RECORDS);
        // What grows at its end stays full; otherwise there will be more in the middle.
        let enough = if appends { full } else { self.bytes / self.bytes.div_ceil(full).max(1) };
        let mut key_of_block = Some(first);
        let mut packed = BlockBuilder::default();
        for record in self.records {
            let size = record.size();
            if packed.records > 0 && packed.bytes.len() + size > full.min(enough + size) {
                packed.put(batch, &mut key_of_block);
            }
            packed.push(&self.keys[record.key], record.shared, record.value);
        }
        packed.put(batch, &mut key_of_block);
    }
}

/// A block in the making.
#[derive(Default)]
struct BlockBuilder {
    first: IVec,
    records: u64,
    bytes: Vec<u8>,
}

impl BlockBuilder {
    fn push(&mut self, key: &[u8], shared: usize, value: &[u8]) {
        let shared = if self.records == 0 { 0 } else { shared };
        if self.records == 0 {
            self.first = key.into();
        }
        write_varint(&mut self.bytes, shared);
        write_varint(&mut self.bytes, key.len() - shared);
        write_varint(&mut self.bytes, value.len());
        self.bytes.extend_from_slice(&key[shared..]);
        self.bytes.extend_from_slice(value);
        self.records += 1;
    }

    /// Puts it under `key`, or under that of its first record.
    fn put(&mut self, batch: &mut sled::Batch, key: &mut Option<IVec>) {
        let Self { first, records, bytes } = std::mem::take(self);
        let compressed = if bytes.len() > TARGET_BLOCK_SIZE { lz4_flex::block::compress(&bytes) } else { Vec::new() };
        let is_worth_it = !compressed.is_empty() && compressed.len() < bytes.len();
        let (raw, body) = if is_worth_it { (bytes.len(), &compressed) } else { (0, &bytes) };
        let mut block = Vec::with_capacity(CHECKSUM_BYTES + 2 * MAX_VARINT_BYTES + body.len());
        block.extend_from_slice(&[0; CHECKSUM_BYTES]);
        write_varint(&mut block, records as usize);
        write_varint(&mut block, raw);
        block.extend_from_slice(body);
        let checksum = crc32c::crc32c(&block[CHECKSUM_BYTES..]);
        block[..CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
        batch.insert(key.take().unwrap_or(first), block);
    }
}

/// A block that is what was written.
pub(super) struct BlockHeader<'a> {
    pub(super) records: u64,
    /// Bytes of the records; 0 when they are not compressed.
    raw: usize,
    body: &'a [u8],
}

impl<'a> BlockHeader<'a> {
    pub(super) fn of(block: &'a [u8]) -> Result<Self, StoreError> {
        let (checksum, rest) = block.split_first_chunk::<CHECKSUM_BYTES>().ok_or_else(StoreError::damaged_block)?;
        if u32::from_le_bytes(*checksum) != crc32c::crc32c(rest) {
            return Err(StoreError::damaged_block());
        }
        let (records, rest) = read_varint(rest).ok_or_else(StoreError::damaged_block)?;
        let (raw, body) = read_varint(rest).ok_or_else(StoreError::damaged_block)?;
        Ok(Self { records: records as u64, raw, body })
    }
}

/// A block's records as they were before they were compressed.
pub(super) struct DecodedBlock<'a>(Cow<'a, [u8]>);

impl<'a> DecodedBlock<'a> {
    pub(super) fn of(block: &'a [u8]) -> Result<Self, StoreError> {
        let BlockHeader { raw, body, .. } = BlockHeader::of(block)?;
        if raw == 0 {
            return Ok(Self(Cow::Borrowed(body)));
        }
        if raw > body.len().saturating_mul(MAX_COMPRESSION_RATIO) {
            return Err(StoreError::damaged_block());
        }
        let bytes = lz4_flex::block::decompress(body, raw).map_err(|_| StoreError::damaged_block())?;
        Ok(Self(Cow::Owned(bytes)))
    }

    pub(super) fn records(&self) -> Records<'_> {
        Records { rest: &self.0, key: Vec::new() }
    }
}

/// Reads records one after the other.
pub(super) struct Records<'a> {
    rest: &'a [u8],
    /// Of the record read last.
    pub(super) key: Vec<u8>,
}

impl<'a> Records<'a> {
    /// The next record's value.
    pub(super) fn next(&mut self) -> Result<Option<&'a [u8]>, StoreError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let read = || {
            let (shared, rest) = read_varint(self.rest)?;
            let (own, rest) = read_varint(rest)?;
            let (length, rest) = read_varint(rest)?;
            let (own, rest) = rest.split_at_checked(own)?;
            let (value, rest) = rest.split_at_checked(length)?;
            (shared <= self.key.len()).then_some((shared, own, value, rest))
        };
        let (shared, own, value, rest) = read().ok_or_else(StoreError::damaged_block)?;
        self.key.truncate(shared);
        self.key.extend_from_slice(own);
        self.rest = rest;
        Ok(Some(value))
    }
}

/// The most bytes of a number.
const MAX_VARINT_BYTES: usize = 5;

fn write_varint(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn read_varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut number = 0;
    for (at, byte) in bytes.iter().enumerate().take(MAX_VARINT_BYTES) {
        number |= usize::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return Some((number, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(block: &[u8]) -> Result<usize, StoreError> {
        let block = DecodedBlock::of(block)?;
        let (mut records, mut count) = (block.records(), 0);
        while records.next()?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    proptest! {
        #[test]
        fn whatever_a_block_says_it_is_read_or_refused(
            rest in proptest::collection::vec(any::<u8>(), 0..300),
            sum_is_right: bool,
        ) {
            let sum = crc32c::crc32c(&rest) ^ u32::from(!sum_is_right);
            let block = [&sum.to_le_bytes(), rest.as_slice()].concat();
            let read = all(&block);
            prop_assert!(sum_is_right || read.is_err());
        }
    }

    #[test]
    fn what_is_compressed_is_read_however_small_it_gets() {
        let dir = tempfile::tempdir().unwrap();
        let tree = sled::open(dir.path()).unwrap();
        for (records, bytes) in [(4, 1000), (1, 1_000_000)] {
            let value = vec![7; bytes];
            let keys: Vec<_> = (0..records).map(|number| [b'j', number]).collect();
            let (mut merged, mut batch) = (BlockWriter::default(), sled::Batch::default());
            keys.iter().for_each(|key| merged.push(key, &value));
            merged.pack(&mut batch, keys[0].as_slice().into(), false);
            tree.apply_batch(batch).unwrap();
            let block = tree.get(keys[0]).unwrap().unwrap();
            assert!(block.len() < usize::from(records) * bytes / 50, "{}", block.len());
            assert_eq!(all(&block).unwrap(), usize::from(records));
            let decoded = DecodedBlock::of(&block).unwrap();
            assert_eq!(decoded.records().next().unwrap(), Some(value.as_slice()));
        }
    }
}
