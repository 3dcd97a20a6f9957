//! How an encrypted segment looks: compressed in stretches of 256 KiB, each encrypted by itself, so that damage to one
//! costs no other and a record can be read without the rest.
//!
//! ```text
//! "RVSEALD1" | key id, 8 | salt, 32 | length of what follows, u32 | sealed index | sealed stretch | … | sealed index | prefix
//! ```
//!
//! What stands before the first index is the prefix. Both are there again at the end, where the index comes first, so that
//! damage to one costs nothing; what an earlier version wrote has them once. Numbers are little-endian. The index: the segment's base, u64; its length, u64; its first 64 bytes; for each stretch the
//! number of its sealed bytes, u32. A stretch is a zstd frame. All of it is the STREAM construction (Hoang, Reyhanitabar,
//! Rogaway, Vizár: Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance, 2015) over AES-256-GCM: the nonce is
//! seven zeros, a big-endian u32 that counts (the index is 0), and 1 for the last stretch, else 0. What stands before the
//! index is its associated data. The key is HKDF-SHA-256 of the journal's key with the salt and the info
//! `replyvault:journal:segment:v1`, so no key sees a nonce twice.

use bytes::Bytes;
use ring::aead::{Aad, LessSafeKey, Nonce};

use super::MAX_SEGMENT;
use super::keys::{ArchiveKeys, KeyId, SALT};
use super::pieces::Pieces;
use crate::bucket::BucketError;
use crate::journal::SEGMENT_HEAD;

pub(super) const MAGIC: [u8; 8] = *b"RVSEALD1";
/// Bytes of a segment that are compressed and encrypted together.
const STRETCH: usize = 256 << 10;
/// What an object starts with, up to the sealed index.
const PREFIX: usize = 8 + 8 + SALT + 4;
const TAG: usize = 16;
/// The index of the longest segment has fewer bytes.
const MAX_INDEX: usize = 16 + SEGMENT_HEAD + 4 * (MAX_SEGMENT as usize / STRETCH + 1) + TAG;
/// How many bytes of an object have its index in them.
pub(super) const INDEX_WITHIN: u64 = (PREFIX + MAX_INDEX) as u64;
/// What stands for bytes that cannot be read: no record has it in front.
const HOLE: u8 = 0xFF;

/// Encrypts a segment of at most [`MAX_SEGMENT`] bytes. `None` when that cannot be done with these keys.
pub(super) fn seal(keys: &ArchiveKeys, base: u64, segment: &[u8]) -> Option<Vec<u8>> {
    let salt: [u8; SALT] = rand::random();
    let (id, key) = keys.sealing(&salt)?;
    let last = segment.len().div_ceil(STRETCH);
    let mut sealed = Vec::with_capacity(last);
    for (number, stretch) in (1..).zip(segment.chunks(STRETCH)) {
        let mut bytes = zstd::bulk::compress(stretch, zstd::DEFAULT_COMPRESSION_LEVEL).ok()?;
        key.seal_in_place_append_tag(nonce(number, number == last), Aad::empty(), &mut bytes).ok()?;
        sealed.push(bytes);
    }
    let mut index = Vec::new();
    index.extend_from_slice(&base.to_le_bytes());
    index.extend_from_slice(&(segment.len() as u64).to_le_bytes());
    let mut head = [0; SEGMENT_HEAD];
    let known = segment.len().min(SEGMENT_HEAD);
    head[..known].copy_from_slice(&segment[..known]);
    index.extend_from_slice(&head);
    sealed.iter().for_each(|stretch| index.extend_from_slice(&(stretch.len() as u32).to_le_bytes()));
    let mut object = Vec::with_capacity(PREFIX + index.len() + TAG + sealed.iter().map(Vec::len).sum::<usize>());
    object.extend_from_slice(&MAGIC);
    object.extend_from_slice(&id.0);
    object.extend_from_slice(&salt);
    object.extend_from_slice(&((index.len() + TAG) as u32).to_le_bytes());
    key.seal_in_place_append_tag(nonce(0, false), Aad::from(&object), &mut index).ok()?;
    let prefix = object.clone();
    object.extend_from_slice(&index);
    sealed.iter().for_each(|stretch| object.extend_from_slice(stretch));
    object.extend_from_slice(&index);
    object.extend_from_slice(&prefix);
    Some(object)
}

/// What an object's index says.
pub(super) struct Index {
    pub(super) base: u64,
    /// Bytes of the segment, at most [`MAX_SEGMENT`].
    pub(super) length: usize,
    pub(super) head: Bytes,
    pub(super) key_id: KeyId,
    /// Where in the object the first stretch begins.
    begins: u64,
    /// Sealed bytes of each stretch.
    sizes: Vec<usize>,
    key: LessSafeKey,
}

/// Reads the index of the object that `pieces` starts with, or says why it cannot be read.
pub(super) async fn index(pieces: &mut Pieces, keys: &ArchiveKeys) -> Result<Result<Index, String>, BucketError> {
    let prefix = pieces.take(PREFIX).await?;
    let opening = match Opening::of(&prefix, keys) {
        Ok(opening) => opening,
        Err(problem) => return Ok(Err(problem)),
    };
    let sealed = pieces.take(opening.length).await?;
    Ok(opening.index(&prefix, &sealed))
}

/// Reads the index of the object that ends with `end`, [`INDEX_WITHIN`] bytes or all of it. `None` when none is there, as in
/// what an earlier version wrote, or it cannot be read.
pub(super) fn index_at_end(end: &[u8], keys: &ArchiveKeys) -> Option<Index> {
    let (rest, prefix) = end.split_at_checked(end.len().checked_sub(PREFIX)?)?;
    let opening = Opening::of(prefix, keys).ok()?;
    let sealed = rest.get(rest.len().checked_sub(opening.length)?..)?;
    opening.index(prefix, sealed).ok()
}

/// What a prefix says: the key to the index, and the number of its sealed bytes.
struct Opening {
    key_id: KeyId,
    key: LessSafeKey,
    length: usize,
}

impl Opening {
    fn of(prefix: &[u8], keys: &ArchiveKeys) -> Result<Self, String> {
        let parsed = (|| {
            let (magic, rest) = prefix.split_first_chunk::<8>()?;
            let (id, rest) = rest.split_first_chunk::<8>()?;
            let (salt, rest) = rest.split_first_chunk::<SALT>()?;
            let (length, _) = rest.split_first_chunk::<4>()?;
            (*magic == MAGIC).then_some((KeyId(*id), salt, u32::from_le_bytes(*length) as usize))
        })();
        let (key_id, salt, length) = parsed.ok_or("it does not begin as a segment does")?;
        let key = keys.opening(key_id, salt).ok_or_else(|| {
            let ids = keys.ids();
            format!(
                "it is encrypted with the key {key_id}, and secrets.toml has {ids}: put back the secrets.toml that it was \
                 written with, or add its journal_keys, and run `replyvault rebuild`"
            )
        })?;
        if length > MAX_INDEX {
            return Err("its index is longer than any can be".to_owned());
        }
        Ok(Self { key_id, key, length })
    }

    fn index(self, prefix: &[u8], sealed: &[u8]) -> Result<Index, String> {
        let mut sealed = sealed.to_vec();
        let opened = self.key.open_in_place(nonce(0, false), Aad::from(prefix), &mut sealed).ok();
        let parsed = opened.and_then(|index| {
            let (base, rest) = index.split_first_chunk::<8>()?;
            let (bytes, rest) = rest.split_first_chunk::<8>()?;
            let (head, rest) = rest.split_first_chunk::<SEGMENT_HEAD>()?;
            let bytes = u64::from_le_bytes(*bytes);
            let (sizes, _) = rest.as_chunks::<4>();
            let sizes: Vec<_> = sizes.iter().map(|size| u32::from_le_bytes(*size) as usize).collect();
            let fits = bytes <= MAX_SEGMENT && sizes.len() == (bytes as usize).div_ceil(STRETCH);
            fits.then(|| (u64::from_le_bytes(*base), bytes as usize, Bytes::copy_from_slice(head), sizes))
        });
        let (base, bytes, head, sizes) = parsed.ok_or("its index is damaged")?;
        let begins = (PREFIX + self.length) as u64;
        Ok(Index { base, length: bytes, head, key_id: self.key_id, begins, sizes, key: self.key })
    }
}

impl Index {
    /// Which stretches have the `length` bytes from `from` on, and where in the object they stand.
    pub(super) fn stretches(&self, from: usize, length: usize) -> (std::ops::Range<usize>, std::ops::Range<u64>) {
        let to = from.saturating_add(length).min(self.length);
        let numbers = (from / STRETCH).min(self.sizes.len())..to.div_ceil(STRETCH).min(self.sizes.len());
        let bytes = |sizes: Option<&[usize]>| sizes.unwrap_or_default().iter().sum::<usize>() as u64;
        let start = self.begins + bytes(self.sizes.get(..numbers.start));
        let end = start + bytes(self.sizes.get(numbers.clone()));
        (numbers, start..end)
    }

    /// The offset in the segment at which these stretches begin.
    pub(super) fn first_byte(&self, numbers: &std::ops::Range<usize>) -> usize {
        numbers.start * STRETCH
    }

    /// The bytes of these stretches, which `pieces` starts with, and how many of them could not be read.
    pub(super) async fn open(
        &self,
        pieces: &mut Pieces,
        numbers: std::ops::Range<usize>,
    ) -> Result<(Vec<u8>, usize), BucketError> {
        let length = self.length.min(numbers.end * STRETCH).saturating_sub(numbers.start * STRETCH);
        let (mut bytes, mut damaged) = (Vec::with_capacity(length), 0);
        for number in numbers {
            let expected = STRETCH.min(self.length - number * STRETCH);
            let size = self.sizes.get(number).copied().unwrap_or_default();
            let sealed = pieces.take(size.min(2 * STRETCH)).await?;
            match self.open_one(number, sealed, expected) {
                Some(stretch) => bytes.extend_from_slice(&stretch),
                None => {
                    damaged += 1;
                    bytes.resize(bytes.len() + expected, HOLE);
                }
            }
        }
        Ok((bytes, damaged))
    }

    fn open_one(&self, number: usize, sealed: Bytes, expected: usize) -> Option<Vec<u8>> {
        let mut sealed = sealed.to_vec();
        let is_last = number + 1 == self.sizes.len();
        let compressed = self.key.open_in_place(nonce(number + 1, is_last), Aad::empty(), &mut sealed).ok()?;
        let stretch = zstd::bulk::decompress(compressed, expected).ok()?;
        (stretch.len() == expected).then_some(stretch)
    }
}

fn nonce(number: usize, is_last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[7..11].copy_from_slice(&(number as u32).to_be_bytes());
    nonce[11] = u8::from(is_last);
    Nonce::assume_unique_for_key(nonce)
}
