//! File parts in memory: bounded for all transfers together.

use bytes::{Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;

use super::Worker;
use super::attempt::AttemptError;
use crate::state::RecordError;

/// A part being filled. The memory it may grow to is set aside before its first byte.
#[derive(Debug)]
pub(super) struct Part {
    chunks: Vec<Bytes>,
    length: u64,
    capacity: u64,
    permit: OwnedSemaphorePermit,
}

/// Small chunks are put together up to this size: each of them would keep a network buffer of its own.
const CHUNK: usize = 64 << 10;

impl Worker {
    /// Waits until there is memory for a part of at most `capacity` bytes.
    pub(super) async fn begin_part(&self, capacity: u64) -> Result<Part, AttemptError> {
        let kib = u32::try_from(capacity.div_ceil(1024)).unwrap_or(u32::MAX);
        let permit = self.inner.parts.clone().acquire_many_owned(kib).await.map_err(|_| RecordError::Stopping)?;
        Ok(Part { chunks: Vec::new(), length: 0, capacity, permit })
    }
}

impl Part {
    /// How many bytes still fit.
    pub(super) fn room(&self) -> u64 {
        self.capacity - self.length
    }

    /// Takes in a chunk, which must fit.
    pub(super) fn add(&mut self, taken: Bytes) {
        self.length += taken.len() as u64;
        match self.chunks.pop() {
            Some(last) if last.len() + taken.len() <= CHUNK => {
                let mut joined = last.try_into_mut().unwrap_or_else(|shared| {
                    let mut joined = BytesMut::with_capacity(CHUNK);
                    joined.extend_from_slice(&shared);
                    joined
                });
                joined.extend_from_slice(&taken);
                self.chunks.push(joined.freeze());
            }
            last => {
                self.chunks.extend(last);
                self.chunks.push(taken);
            }
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.length == self.capacity
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The first bytes, as many as are in one piece.
    pub(super) fn head(&self, length: usize) -> Vec<u8> {
        let mut head = Vec::with_capacity(length);
        for chunk in &self.chunks {
            head.extend_from_slice(&chunk[..chunk.len().min(length - head.len())]);
        }
        head
    }

    /// The bytes, and the claim on memory that must be held as long as they are.
    pub(super) fn into_chunks(self) -> (Vec<Bytes>, OwnedSemaphorePermit) {
        (self.chunks, self.permit)
    }
}
