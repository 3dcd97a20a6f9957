//! Parts of files in memory.

use bytes::{Bytes, BytesMut};

use super::memory::Claim;
use crate::fetch::ends_in_a_whole_picture;

/// A part being filled.
#[derive(Debug)]
pub(super) struct PartBuffer {
    chunks: Vec<Bytes>,
    length: u64,
    capacity: u64,
    memory: Claim,
}

/// Small chunks are put together up to this size: each of them would keep a network buffer of its own.
const CHUNK: usize = 64 << 10;

impl PartBuffer {
    /// An empty part of at most `capacity` bytes, for which `memory` is.
    pub(super) fn new(capacity: u64, memory: Claim) -> Self {
        Self { chunks: Vec::new(), length: 0, capacity, memory }
    }

    /// How many bytes still fit.
    pub(super) fn room(&self) -> u64 {
        self.capacity - self.length
    }

    /// Takes in a chunk, which must fit, as soon as there is memory for it.
    pub(super) async fn add(&mut self, taken: Bytes) {
        self.memory.grow(taken.len() as u64).await;
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

    /// Whether they are a JPEG that lacks nothing but its end. Reads all of them: not to be asked without need.
    pub(super) async fn ends_in_a_whole_picture(&self) -> bool {
        let chunks = self.chunks.clone();
        let read = move || ends_in_a_whole_picture(chunks.iter().flat_map(|chunk| chunk.iter().copied()));
        tokio::task::spawn_blocking(read).await.unwrap_or(false)
    }

    /// The bytes, and the claim on memory that must be held as long as they are.
    pub(super) fn into_chunks(mut self) -> (Vec<Bytes>, Claim) {
        self.memory.filled();
        (self.chunks, self.memory)
    }
}
