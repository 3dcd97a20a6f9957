//! Records in a sled tree, packed: some neighbours together in one of its entries.
//!
//! sled has at most 16 entries in a page and some hundred bytes of memory for each page there is (`Node::should_split` and
//! `PageTable` in 0.34.7); a million jobs are nine million records, mostly of some ten bytes. Packed, they take
//! a fraction of the pages, and all of them are read in seconds.
//!
//! A block has records of one table, in the order of their keys, each key without what it has in common with the one
//! before. It stands under a key that none of its records comes before. Records that are large, as jobs are, much resemble
//! their neighbours: more of them are packed together, and compressed.
//!
//! A block is: CRC-32C of what follows (4 bytes, little-endian); how many records it has; how many bytes these take up, or 0
//! when they are not compressed; the records, as LZ4 compresses them or as they are. A record is: how many bytes its key
//! has in common with that before; how many bytes of its own; how many bytes the value has; the key's own bytes; the value.
//! Numbers have seven bits in a byte, the lowest first.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, Range};
use std::sync::{Mutex, PoisonError};

use sled::IVec;

use super::Write;
use crate::state::StateError;

/// The tree.
#[derive(Debug)]
pub(in crate::state) struct Blocks {
    tree: sled::Db,
}

/// The records of a range, from its start on or from its end on.
pub(super) struct Walk {
    tree: sled::Db,
    back: bool,
    /// The key of the block that was read last.
    passed: Option<IVec>,
    /// What is left of the range.
    start: Bound<IVec>,
    end: Bound<IVec>,
    /// Where the block of `start` begins.
    first: Bound<IVec>,
    records: VecDeque<(IVec, IVec)>,
}

/// Bytes of packed records beyond which a block becomes two, unless it has fewer records than [`FEW`]: what is put here
/// and there, as digests are, rewrites a block each.
const FULL: usize = 512;
/// The same where records are [`LARGE`], before they are compressed.
const FULL_OF_LARGE: usize = 4096;
/// Bytes that large records have at least, on an average of their block.
const LARGE: usize = 64;
const FEW: usize = 2;
const CHECKSUM: usize = 4;

impl Blocks {
    pub(in crate::state) fn new(tree: sled::Db) -> Self {
        Self { tree }
    }

    pub(in crate::state) fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    pub(in crate::state) fn get(&self, key: &[u8]) -> Result<Option<IVec>, StateError> {
        let Some((_, block)) = self.block_of(key)? else { return Ok(None) };
        let block = Unpacked::of(&block)?;
        let mut records = block.records();
        while let Some(value) = records.next()? {
            if *records.key >= *key {
                return Ok((*records.key == *key).then(|| value.into()));
            }
        }
        Ok(None)
    }

    /// How many records each table has, by the first byte of their keys. Reads and checks all blocks, from both ends at once.
    ///
    /// # Errors
    /// When one cannot be read.
    pub(in crate::state) fn count(&self) -> Result<BTreeMap<u8, u64>, StateError> {
        // The last block from the one end and from the other.
        let seen: Mutex<[Option<IVec>; 2]> = Mutex::default();
        let count = |back: bool| {
            let mut blocks = self.tree.iter();
            let mut counts: BTreeMap<u8, u64> = BTreeMap::new();
            while let Some(block) = if back { blocks.next_back() } else { blocks.next() } {
                let (first, block) = block?;
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                let met = match &seen[usize::from(!back)] {
                    Some(other) if back => first <= *other,
                    Some(other) => first >= *other,
                    None => false,
                };
                if met {
                    break;
                }
                seen[usize::from(back)] = Some(first.clone());
                drop(seen);
                *counts.entry(first.first().copied().unwrap_or_default()).or_default() += Head::of(&block)?.records;
            }
            Ok(counts)
        };
        let (front, back) = std::thread::scope(|scope| {
            let front = scope.spawn(|| count(false));
            let back = count(true);
            (front.join().unwrap_or(Err(StateError::Panicked)), back)
        });
        let mut counts = front?;
        for (table, more) in back? {
            *counts.entry(table).or_default() += more;
        }
        Ok(counts)
    }

    pub(super) fn walk(&self, start: Bound<IVec>, end: Bound<IVec>, back: bool) -> Result<Walk, StateError> {
        let first = match &start {
            Bound::Included(key) | Bound::Excluded(key) => {
                Bound::Included(self.block_of(key)?.map_or_else(|| key.clone(), |(first, _)| first))
            }
            Bound::Unbounded => Bound::Unbounded,
        };
        Ok(Walk { tree: self.tree.clone(), back, passed: None, first, start, end, records: VecDeque::new() })
    }

    /// Writes all of `writes`, or nothing of it.
    pub(super) fn write(&self, writes: BTreeMap<IVec, Option<IVec>>) -> Result<(), StateError> {
        let mut batch = sled::Batch::default();
        let mut writes = writes.into_iter().peekable();
        let mut group: Vec<Write> = Vec::new();
        while let Some((key, _)) = writes.peek() {
            let (first, block) = self.block_of(key)?.map_or((key.clone(), None), |(first, block)| (first, Some(block)));
            let behind = (Bound::Excluded(key.clone()), Bound::Unbounded);
            let next = self.tree.range::<IVec, _>(behind).next().transpose()?.map(|(next, _)| next);
            let belongs =
                |(key, _): &Write| key.first() == first.first() && next.as_ref().is_none_or(|next| key < next);
            group.clear();
            while let Some(write) = writes.next_if(belongs) {
                group.push(write);
            }
            rewrite(&mut batch, first, block.as_deref(), &group)?;
        }
        self.tree.apply_batch(batch)?;
        Ok(())
    }

    pub(super) fn flush(&self) -> Result<(), StateError> {
        self.tree.flush()?;
        Ok(())
    }

    /// The block that has the record under `key`, if there is one.
    fn block_of(&self, key: &[u8]) -> Result<Option<(IVec, IVec)>, StateError> {
        let found = self.tree.range::<&[u8], _>(..=key).next_back().transpose()?;
        Ok(found.filter(|(first, _)| first.first() == key.first()))
    }
}

impl Iterator for Walk {
    type Item = Result<(IVec, IVec), StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.records.is_empty() {
            match self.next_block() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
        let next = if self.back { self.records.pop_back() } else { self.records.pop_front() };
        next.map(Ok)
    }
}

impl Walk {
    /// Reads the next block, looked for anew each time: one that is split meanwhile would be missed in part, or seen twice.
    fn next_block(&mut self) -> Result<bool, StateError> {
        let passed = self.passed.take().map(Bound::Excluded);
        let next = if self.back {
            let end = passed.unwrap_or_else(|| self.end.clone());
            self.tree.range::<IVec, _>((self.first.clone(), end)).next_back()
        } else {
            let start = passed.unwrap_or_else(|| self.first.clone());
            self.tree.range::<IVec, _>((start, self.end.clone())).next()
        };
        let Some((key, block)) = next.transpose()? else { return Ok(false) };
        self.unpack(&block)?;
        if self.back {
            self.end = Bound::Excluded(self.records.front().map_or_else(|| key.clone(), |(first, _)| first.clone()));
        } else if let Some((last, _)) = self.records.back() {
            self.start = Bound::Excluded(last.clone());
        }
        self.passed = Some(key);
        Ok(true)
    }

    fn unpack(&mut self, block: &[u8]) -> Result<(), StateError> {
        let block = Unpacked::of(block)?;
        let mut records = block.records();
        while let Some(value) = records.next()? {
            let key = records.key.as_slice();
            let is_behind_start = match &self.start {
                Bound::Included(start) => key >= start.as_ref(),
                Bound::Excluded(start) => key > start.as_ref(),
                Bound::Unbounded => true,
            };
            let is_before_end = match &self.end {
                Bound::Included(end) => key <= end.as_ref(),
                Bound::Excluded(end) => key < end.as_ref(),
                Bound::Unbounded => true,
            };
            if !is_before_end {
                break;
            }
            if is_behind_start {
                self.records.push_back((key.into(), value.into()));
            }
        }
        Ok(())
    }
}

/// Puts into `batch` what becomes of a block.
fn rewrite(batch: &mut sled::Batch, first: IVec, block: Option<&[u8]>, writes: &[Write]) -> Result<(), StateError> {
    let block = block.map(Unpacked::of).transpose()?;
    let mut merged = Merged::default();
    let mut writes = writes.iter().peekable();
    let mut is_changed = false;
    let mut appends = true;
    if let Some(block) = &block {
        let mut records = block.records();
        while let Some(value) = records.next()? {
            let key = records.key.as_slice();
            while let Some((new, value)) = writes.next_if(|(new, _)| new.as_ref() < key) {
                if let Some(value) = value {
                    merged.push(new, value);
                    (is_changed, appends) = (true, false);
                }
            }
            match writes.next_if(|(new, _)| new.as_ref() == key) {
                None => merged.push(key, value),
                Some((new, Some(newer))) => {
                    is_changed |= newer.as_ref() != value;
                    merged.push(new, newer);
                }
                Some((_, None)) => is_changed = true,
            }
        }
    }
    for (new, value) in writes {
        if let Some(value) = value {
            merged.push(new, value);
            is_changed = true;
        }
    }
    if !is_changed {
        return Ok(());
    }
    if merged.records.is_empty() {
        batch.remove(first);
        return Ok(());
    }
    merged.pack(batch, first, appends);
    Ok(())
}

/// Records in the order of their keys, of which blocks are made.
#[derive(Default)]
struct Merged<'a> {
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

impl<'a> Merged<'a> {
    fn push(&mut self, key: &[u8], value: &'a [u8]) {
        let last = self.records.last().map_or(0..0, |last| last.key.clone());
        let shared = self.keys[last].iter().zip(key).take_while(|(last, key)| last == key).count();
        let start = self.keys.len();
        self.keys.extend_from_slice(key);
        let record = Record { key: start..self.keys.len(), shared, value };
        self.bytes += record.size();
        self.records.push(record);
    }

    /// Puts blocks of all records into `batch`, the first under `first`, the others under the key of their first record.
    fn pack(self, batch: &mut sled::Batch, first: IVec, appends: bool) {
        let each = self.bytes / self.records.len();
        let full = if each < LARGE { FULL } else { FULL_OF_LARGE }.max(each * FEW);
        // What grows at its end stays full; otherwise there will be more in the middle.
        let enough = if appends { full } else { self.bytes / self.bytes.div_ceil(full).max(1) };
        let mut key_of_block = Some(first);
        let mut packed = Packed::default();
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
struct Packed {
    first: IVec,
    records: u64,
    bytes: Vec<u8>,
}

impl Packed {
    fn push(&mut self, key: &[u8], shared: usize, value: &[u8]) {
        let shared = if self.records == 0 { 0 } else { shared };
        if self.records == 0 {
            self.first = key.into();
        }
        put_number(&mut self.bytes, shared);
        put_number(&mut self.bytes, key.len() - shared);
        put_number(&mut self.bytes, value.len());
        self.bytes.extend_from_slice(&key[shared..]);
        self.bytes.extend_from_slice(value);
        self.records += 1;
    }

    /// Puts it under `key`, or under that of its first record.
    fn put(&mut self, batch: &mut sled::Batch, key: &mut Option<IVec>) {
        let Self { first, records, bytes } = std::mem::take(self);
        let compressed = if bytes.len() > FULL { lz4_flex::block::compress(&bytes) } else { Vec::new() };
        let is_worth_it = !compressed.is_empty() && compressed.len() < bytes.len();
        let (raw, body) = if is_worth_it { (bytes.len(), &compressed) } else { (0, &bytes) };
        let mut block = Vec::with_capacity(CHECKSUM + 2 * NUMBER + body.len());
        block.extend_from_slice(&[0; CHECKSUM]);
        put_number(&mut block, records as usize);
        put_number(&mut block, raw);
        block.extend_from_slice(body);
        let checksum = crc32c::crc32c(&block[CHECKSUM..]);
        block[..CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
        batch.insert(key.take().unwrap_or(first), block);
    }
}

/// A block that is what was written.
struct Head<'a> {
    records: u64,
    /// Bytes of the records; 0 when they are not compressed.
    raw: usize,
    body: &'a [u8],
}

impl<'a> Head<'a> {
    fn of(block: &'a [u8]) -> Result<Self, StateError> {
        let (checksum, rest) = block.split_first_chunk::<CHECKSUM>().ok_or(StateError::DamagedBlock)?;
        if u32::from_le_bytes(*checksum) != crc32c::crc32c(rest) {
            return Err(StateError::DamagedBlock);
        }
        let (records, rest) = take_number(rest).ok_or(StateError::DamagedBlock)?;
        let (raw, body) = take_number(rest).ok_or(StateError::DamagedBlock)?;
        Ok(Self { records: records as u64, raw, body })
    }
}

/// A block's records as they were before they were compressed.
struct Unpacked<'a>(Cow<'a, [u8]>);

impl<'a> Unpacked<'a> {
    fn of(block: &'a [u8]) -> Result<Self, StateError> {
        let Head { raw, body, .. } = Head::of(block)?;
        if raw == 0 {
            return Ok(Self(Cow::Borrowed(body)));
        }
        let bytes = lz4_flex::block::decompress(body, raw).map_err(|_| StateError::DamagedBlock)?;
        Ok(Self(Cow::Owned(bytes)))
    }

    fn records(&self) -> Records<'_> {
        Records { rest: &self.0, key: Vec::new() }
    }
}

/// Reads records one after the other.
struct Records<'a> {
    rest: &'a [u8],
    /// Of the record read last.
    key: Vec<u8>,
}

impl<'a> Records<'a> {
    /// The next record's value.
    fn next(&mut self) -> Result<Option<&'a [u8]>, StateError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let read = || {
            let (shared, rest) = take_number(self.rest)?;
            let (own, rest) = take_number(rest)?;
            let (length, rest) = take_number(rest)?;
            let (own, rest) = rest.split_at_checked(own)?;
            let (value, rest) = rest.split_at_checked(length)?;
            (shared <= self.key.len()).then_some((shared, own, value, rest))
        };
        let (shared, own, value, rest) = read().ok_or(StateError::DamagedBlock)?;
        self.key.truncate(shared);
        self.key.extend_from_slice(own);
        self.rest = rest;
        Ok(Some(value))
    }
}

/// The most bytes of a number.
const NUMBER: usize = 5;

fn put_number(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut number = 0;
    for (at, byte) in bytes.iter().enumerate().take(NUMBER) {
        number |= usize::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return Some((number, &bytes[at + 1..]));
        }
    }
    None
}
