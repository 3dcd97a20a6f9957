use std::sync::atomic::{AtomicU64, Ordering};

/// How far the journal is read. Shared by who reads it and who watches.
#[derive(Debug, Default)]
pub struct ReadProgress {
    segments: AtomicU64,
    segments_read: AtomicU64,
    bytes_read: AtomicU64,
}

impl ReadProgress {
    /// How many segments are behind the reader, and how many there are.
    pub fn segments(&self) -> (u64, u64) {
        let read = self.segments_read.load(Ordering::Relaxed);
        (read, self.segments.load(Ordering::Relaxed).max(read))
    }

    /// The bytes of the segments behind the reader.
    pub fn bytes(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    pub(super) fn expect(&self, segments: usize) {
        self.segments.fetch_add(segments as u64, Ordering::Relaxed);
    }

    pub(super) fn read(&self, bytes: usize) {
        self.segments_read.fetch_add(1, Ordering::Relaxed);
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
