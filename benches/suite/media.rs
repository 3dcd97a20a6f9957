//! Files that pass for videos.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use crate::failure::Failure;

const MIB: u64 = 1 << 20;

/// An MP4 of `size` bytes by its structure, of noise, unlike any other with another `seed`.
pub(crate) fn noise(path: &Path, seed: u64, size: u64) -> Result<(), Failure> {
    let head = head(size);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&head)?;
    let (mut state, mut left) = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, size - head.len() as u64);
    while left > 0 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let bytes = state.to_le_bytes();
        let some = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        file.write_all(&bytes[..some])?;
        left -= some as u64;
    }
    Ok(file.flush()?)
}

/// The same of nothing but zeros, and a mark in each mebibyte, which no other file has: next to nothing on disk.
pub(crate) fn sparse(path: &Path, seed: u64, size: u64) -> Result<(), Failure> {
    let mut file = File::create(path)?;
    file.write_all(&head(size))?;
    for mebibyte in 0..size / MIB {
        file.seek(SeekFrom::Start(mebibyte * MIB + MIB / 2))?;
        file.write_all(&(seed << 32 | mebibyte).to_le_bytes())?;
    }
    Ok(file.set_len(size)?)
}

fn head(size: u64) -> Vec<u8> {
    let boxed = |kind: &[u8; 4], body: &[u8]| {
        let mut bytes = (body.len() as u32 + 8).to_be_bytes().to_vec();
        bytes.extend_from_slice(kind);
        bytes.extend_from_slice(body);
        bytes
    };
    let mut head = [boxed(b"ftyp", b"isom\0\0\x02\0isomiso2mp41"), boxed(b"moov", &[0; 32])].concat();
    // Its length stands in eight bytes behind the name: it may be beyond four gigabytes.
    let rest = size - head.len() as u64;
    head.extend_from_slice(&1u32.to_be_bytes());
    head.extend_from_slice(b"mdat");
    head.extend_from_slice(&rest.to_be_bytes());
    head
}
