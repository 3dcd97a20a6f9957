//! When the writer thread flushes the memtable, how much at a time, and how it leaves the processors to others.

use std::time::Duration;

use super::StoreError;
use super::sync::Instant;

/// The memtable may take up about this much memory; who commits more waits. A burst of 100,000 callbacks has room.
const MAX_MEMTABLE_BYTES: usize = 112 << 20;
/// From here on nothing holds the writer back.
const FLUSH_THRESHOLD: usize = 96 << 20;
/// In bulk the memtable takes up this much before any of it is written.
const MIN_BULK_BYTES: usize = 16 << 20;
/// How many writes go into sled at once: nobody can read it meanwhile, for some milliseconds.
const FLUSH_BATCH: usize = 256;
/// So many times as many when somebody waits for it.
const BATCHES_FOR_WAITERS: usize = 4;
/// The same when nobody reads yet: the more is merged, the less is written, since neighbours share a block.
const BATCHES_IN_BULK: usize = 64;
/// For how long what was committed may wait for more to be merged with.
const COALESCE_DELAY: Duration = Duration::from_millis(100);
/// For how long after a commit more are expected.
const BUSY_WINDOW: Duration = Duration::from_millis(20);
/// While commits come thick and little waits, the writer rests so many times as long as it writes.
const MAX_THROTTLE: f64 = 8.0;
/// A call of sled that takes longer hangs.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// What bounds the memtable. Tests have smaller ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) max_memtable_bytes: usize,
    pub(super) flush_threshold: usize,
    pub(super) min_bulk_bytes: usize,
    pub(super) flush_batch: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_memtable_bytes: MAX_MEMTABLE_BYTES,
            flush_threshold: FLUSH_THRESHOLD,
            min_bulk_bytes: MIN_BULK_BYTES,
            flush_batch: FLUSH_BATCH,
        }
    }
}

/// What the writer thread is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Write the oldest commits, as many as have so many writes together.
    Flush {
        writes: usize,
    },
    /// Have the system put on the disk what sled has: so many commits.
    Sync {
        commits: u64,
    },
    /// Wait until told.
    Idle,
    Close,
}

#[derive(Debug)]
pub(super) struct FlushControl {
    limits: Limits,
    pub(super) last_commit: Instant,
    /// True while the writer waits for something to do.
    pub(super) is_idle: bool,
    /// How many wait for a flush, or for room.
    pub(super) flush_waiters: usize,
    /// Much is committed and nobody reads.
    pub(super) bulk: bool,
    pub(super) closing: bool,
    /// Since when the writer is inside a call of sled.
    pub(super) writing_since: Option<Instant>,
    /// Set once, for good: the writer has ended, or a reader came upon damage.
    pub(super) failure: Option<StoreError>,
    /// How many commits somebody waits to be on the disk.
    pub(super) sync_wanted: Option<u64>,
    /// How many commits are known to be on the disk. `None`: not even what was there when the store was opened.
    pub(super) durable: Option<u64>,
}

impl FlushControl {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            last_commit: Instant::now(),
            is_idle: false,
            flush_waiters: 0,
            bulk: false,
            closing: false,
            writing_since: None,
            failure: None,
            sync_wanted: None,
            durable: None,
        }
    }

    /// Whether a commit of `bytes` may join a memtable that has `held`. One that is larger than all may be is let in alone.
    pub(super) fn has_room(&self, held: usize, bytes: usize) -> bool {
        held == 0 || held + bytes <= self.limits.max_memtable_bytes
    }

    /// What comes next, where sled has `flushed` commits and the memtable `held` bytes.
    pub(super) fn next_step(&self, flushed: u64, held: usize) -> Step {
        if self.closing {
            return Step::Close;
        }
        if self.sync_wanted > self.durable && self.sync_wanted <= Some(flushed) {
            return Step::Sync { commits: flushed };
        }
        let least = if self.bulk && self.flush_waiters == 0 { self.limits.min_bulk_bytes } else { 1 };
        if held < least {
            return Step::Idle;
        }
        let batches = match self.flush_waiters {
            _ if self.bulk => BATCHES_IN_BULK,
            0 => 1,
            _ => BATCHES_FOR_WAITERS,
        };
        Step::Flush { writes: self.limits.flush_batch * batches }
    }

    /// For how long the writer, just told of a commit, waits for more.
    pub(super) fn coalesce_delay(&self, held: usize) -> Option<Duration> {
        (held > 0 && !self.is_urgent(held)).then_some(COALESCE_DELAY)
    }

    /// For how long the writer rests after it has worked, the longer the less waits.
    pub(super) fn throttle(&self, worked: Duration, held: usize) -> Option<Duration> {
        let is_busy = held > 0 && !self.is_urgent(held) && self.last_commit.elapsed() < BUSY_WINDOW;
        let share = 1.0 - held as f64 / self.limits.flush_threshold as f64;
        is_busy.then(|| worked.mul_f64((MAX_THROTTLE * share).max(0.0)))
    }

    /// Whether nothing holds the writer back.
    fn is_urgent(&self, held: usize) -> bool {
        self.closing || self.bulk || self.flush_waiters > 0 || held > self.limits.flush_threshold
    }

    /// What the writer failed with, or that it hangs.
    pub(super) fn failure(&self) -> Option<StoreError> {
        let hangs = || !self.bulk && self.writing_since.as_ref().is_some_and(|since| since.elapsed() > STALL_TIMEOUT);
        self.failure.clone().or_else(|| hangs().then_some(StoreError::Stalled))
    }
}
