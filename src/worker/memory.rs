//! Memory for parts of files: bounded for all transfers together, taken as bytes come, and never all of it for one host.
//!
//! A part cannot be sent before it is full, so memory that many half-full parts hold together could leave none of them
//! enough to become so. What is asked for is therefore given only while the parts being filled can still be filled one
//! after the other (the banker's algorithm). Parts on their way to the store give theirs back by themselves.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// Of each file so much is free, which one slot of the worker takes up at most once: small files wait for nobody.
const FREE: u64 = 256 << 10;

/// Memory is taken in pieces of this size.
const PIECE: u64 = 64 << 10;

/// The pool. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Memory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    total: u64,
    of_one_host: u64,
    pool: Mutex<Pool>,
    /// Told when some is given back, or a part is full.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Pool {
    taken: u64,
    by_host: HashMap<Arc<str>, u64>,
    filling: HashMap<u64, Filling>,
    parts: u64,
}

/// A part being filled.
#[derive(Debug)]
struct Filling {
    host: Arc<str>,
    held: u64,
    /// What it may still ask for.
    left: u64,
}

/// What a part holds of the pool, for as long as it is there.
#[derive(Debug)]
pub(super) struct Claim {
    shared: Arc<Shared>,
    host: Arc<str>,
    part: u64,
    held: u64,
    /// What can be used up without asking.
    unused: u64,
}

impl Memory {
    /// Bytes of all parts of files in memory together, unless two single parts are more; the first 256 KiB of each file
    /// come on top.
    const TOTAL_BYTES: u64 = 64 << 20;

    /// The pool of a worker that sends parts of `part_size` bytes.
    pub(super) fn for_parts_of(part_size: u64) -> Self {
        Self::new(Self::TOTAL_BYTES.max(2 * part_size), part_size)
    }

    /// A pool of `total` bytes, which is at least two parts of `part_size`. A quarter of it is out of reach of any one host.
    fn new(total: u64, part_size: u64) -> Self {
        let of_one_host = (total - total / 4).max(part_size);
        Self(Arc::new(Shared { total, of_one_host, pool: Mutex::default(), freed: Notify::new() }))
    }

    /// For a part of at most `capacity` bytes that come from `host`; `is_first` of its file.
    pub(super) fn begin(&self, host: &Arc<str>, capacity: u64, is_first: bool) -> Claim {
        let free = if is_first { FREE.min(capacity) } else { 0 };
        let mut pool = self.0.pool();
        pool.parts += 1;
        let part = pool.parts;
        // Pieces are whole: the last may be larger than what is left of the part.
        let left = (capacity - free).next_multiple_of(PIECE).min(self.0.of_one_host);
        pool.filling.insert(part, Filling { host: host.clone(), held: 0, left });
        Claim { shared: self.0.clone(), host: host.clone(), part, held: 0, unused: free }
    }
}

impl Claim {
    /// Waits until there is memory for `bytes` more.
    pub(super) async fn grow(&mut self, bytes: u64) {
        while self.unused < bytes {
            let freed = self.shared.freed.notified();
            let mut freed = std::pin::pin!(freed);
            freed.as_mut().enable();
            match self.shared.pool().take(&self.shared, self.part) {
                0 => {}
                taken => {
                    self.held += taken;
                    self.unused += taken;
                    continue;
                }
            }
            freed.await;
        }
        self.unused -= bytes;
    }

    /// Nothing more comes: what it holds is on its way, and comes back by itself.
    pub(super) fn filled(&mut self) {
        if self.shared.pool().filling.remove(&self.part).is_some() {
            self.shared.freed.notify_waiters();
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        {
            let mut pool = self.shared.pool();
            pool.filling.remove(&self.part);
            pool.taken -= self.held;
            if let Some(taken) = pool.by_host.get_mut(&self.host) {
                *taken -= self.held;
                if *taken == 0 {
                    pool.by_host.remove(&self.host);
                }
            }
        }
        self.shared.freed.notify_waiters();
    }
}

impl Shared {
    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock()
    }
}

impl Pool {
    /// Takes one piece for a part; 0 while that may not be.
    fn take(&mut self, shared: &Shared, part: u64) -> u64 {
        let Some(filling) = self.filling.get_mut(&part) else { return 0 };
        let of_host = self.by_host.get(&filling.host).copied().unwrap_or_default();
        if self.taken + PIECE > shared.total || of_host + PIECE > shared.of_one_host {
            return 0;
        }
        filling.held += PIECE;
        filling.left = filling.left.saturating_sub(PIECE);
        if !self.can_all_be_filled(shared) {
            if let Some(filling) = self.filling.get_mut(&part) {
                filling.held -= PIECE;
                filling.left += PIECE;
            }
            return 0;
        }
        if let Some(filling) = self.filling.get(&part) {
            self.taken += PIECE;
            *self.by_host.entry(filling.host.clone()).or_default() += PIECE;
        }
        PIECE
    }

    /// Whether all parts can be filled one after the other, each giving back what it holds when it is.
    fn can_all_be_filled(&self, shared: &Shared) -> bool {
        let mut hosts: HashMap<&Arc<str>, u64> = HashMap::new();
        for filling in self.filling.values() {
            *hosts.entry(&filling.host).or_default() += filling.held;
        }
        let mut held: u64 = hosts.values().sum();
        let mut waiting: Vec<_> = self.filling.values().collect();
        waiting.sort_unstable_by_key(|filling| filling.left);
        while !waiting.is_empty() {
            let before = waiting.len();
            waiting.retain(|filling| {
                let of_host = hosts.get(&filling.host).copied().unwrap_or_default();
                let fits = held + filling.left <= shared.total && of_host + filling.left <= shared.of_one_host;
                if fits {
                    held -= filling.held;
                    hosts.entry(&filling.host).and_modify(|of_host| *of_host -= filling.held);
                }
                !fits
            });
            if waiting.len() == before {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::time::timeout;

    use super::*;

    const PART: u64 = 8 << 20;
    const TOTAL: u64 = 64 << 20;

    fn host(name: &str) -> Arc<str> {
        name.into()
    }

    async fn grows(claim: &mut Claim, bytes: u64) -> bool {
        timeout(Duration::from_secs(1), claim.grow(bytes)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn slow_parts_of_one_host_leave_another_host_a_part_and_small_files_all_they_need() {
        let memory = Memory::new(TOTAL, PART);
        let mut slow: Vec<_> = (0..8).map(|_| memory.begin(&host("slow"), PART, true)).collect();
        // All of them as far as they get.
        let mut bytes = 0;
        for round in 0..PART / PIECE {
            for claim in &mut slow {
                bytes += u64::from(grows(claim, PIECE).await) * PIECE;
            }
            assert!(round > 0 || bytes == 8 * PIECE);
        }
        assert!(bytes <= TOTAL - TOTAL / 4 + 8 * FREE, "{bytes}");
        let mut small = memory.begin(&host("slow"), 4096, true);
        assert!(grows(&mut small, 4096).await);
        let mut other = memory.begin(&host("other"), PART, true);
        assert!(grows(&mut other, PART).await, "another host has room for a whole part");
    }

    #[tokio::test(start_paused = true)]
    async fn memory_freed_by_a_part_goes_to_waiting_parts() {
        let memory = Memory::new(2 * PART, PART);
        let mut first = memory.begin(&host("a"), PART, false);
        assert!(grows(&mut first, PART).await);
        let mut second = memory.begin(&host("a"), PART, false);
        assert!(!grows(&mut second, PART).await, "three quarters of the pool are one host's at most");
        first.filled();
        let waiting = tokio::spawn(async move { second.grow(PART).await });
        tokio::task::yield_now().await;
        drop(first);
        timeout(Duration::from_secs(1), waiting).await.unwrap().unwrap();
        let pool = memory.0.pool();
        assert_eq!((pool.taken, pool.by_host.len(), pool.filling.len()), (0, 0, 0));
    }

    proptest! {
        /// Whatever the order in which parts take and are sent, one of them can always go on, and the bounds hold.
        #[test]
        fn parts_never_wait_for_each_other_without_end(
            parts in proptest::collection::vec((0..3u8, 1..=24u64), 1..12),
            order in proptest::collection::vec(any::<proptest::sample::Index>(), 1..400),
        ) {
            let memory = Memory::new(32 * PIECE, 24 * PIECE);
            let shared = memory.0.clone();
            let begin = |(host, pieces): (u8, u64)| memory.begin(&self::host(&host.to_string()), pieces * PIECE, false);
            let mut open: Vec<_> = parts.iter().map(|part| (begin(*part), part.1)).collect();
            let step = |open: &mut Vec<(Claim, u64)>, index: usize| {
                let (claim, left) = &mut open[index];
                let taken = shared.pool().take(&shared, claim.part);
                claim.held += taken;
                *left -= taken / PIECE;
                if *left == 0 {
                    open.swap_remove(index);
                }
                taken > 0
            };
            for index in order {
                if open.is_empty() { break }
                let index = index.index(open.len());
                step(&mut open, index);
                let pool = shared.pool();
                prop_assert!(pool.taken <= 32 * PIECE && pool.by_host.values().all(|taken| *taken <= 24 * PIECE));
            }
            while !open.is_empty() {
                let moved = (0..open.len()).any(|index| step(&mut open, index));
                prop_assert!(moved, "they wait for each other");
            }
            prop_assert_eq!(shared.pool().taken, 0);
        }
    }
}
