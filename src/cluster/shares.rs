//! Which part of the work is this replica's.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

/// Into how many parts the work is divided: enough for ten replicas to have about the same.
pub const SHARDS: u32 = 64;

/// The shard that a job or ref belongs to, by a number of it.
pub fn shard_of(key: u64) -> u32 {
    // Fibonacci hashing: numbers that follow one another are spread.
    let mixed = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 58) as u32
}

/// A number for a text, for [`shard_of`]: FNV-1a, the same on every machine and in every version.
pub fn text_key(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

/// The shards of this replica. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shares {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    held: Mutex<Held>,
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Held {
    epoch: u64,
    /// A bit for each shard.
    shards: u64,
    /// Whether nothing new is begun, although they are held as far as is known.
    suspended: bool,
    /// How much is under way in each.
    under_way: [u32; SHARDS as usize],
}

/// The right to do something in a shard, for as long as it is held, and while the epoch lasts.
#[derive(Debug)]
pub struct Share {
    inner: Arc<Inner>,
    shard: u32,
    fence: u64,
}

impl Default for Shares {
    fn default() -> Self {
        let held = Held { epoch: 0, shards: 0, suspended: false, under_way: [0; SHARDS as usize] };
        Self { inner: Arc::new(Inner { held: Mutex::new(held), changes: watch::Sender::new(0) }) }
    }
}

impl Shares {
    /// The right to begin something in a shard, if that is this replica's.
    pub fn enter(&self, shard: u32) -> Option<Share> {
        let mut held = self.inner.lock();
        if held.suspended || held.shards & bit(shard) == 0 {
            return None;
        }
        held.under_way[index(shard)] += 1;
        Some(Share { inner: self.inner.clone(), shard, fence: held.epoch })
    }

    /// The epoch and the shards held in it, a bit for each.
    pub fn held(&self) -> (u64, u64) {
        let held = self.inner.lock();
        (held.epoch, if held.suspended { 0 } else { held.shards })
    }

    /// Told whenever other shards are held.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    pub(super) fn count(&self) -> u32 {
        self.inner.lock().shards.count_ones()
    }

    /// The shards held, also while nothing new is begun in them.
    pub(super) fn list(&self) -> Vec<u32> {
        let shards = self.inner.lock().shards;
        (0..SHARDS).filter(|shard| shards & bit(*shard) != 0).collect()
    }

    /// More are held, in an epoch that is this or a new one.
    pub(super) fn grant(&self, epoch: u64, shards: impl IntoIterator<Item = u32>) {
        let mut held = self.inner.lock();
        if held.epoch != epoch {
            (held.epoch, held.shards) = (epoch, 0);
        }
        held.shards |= shards.into_iter().map(bit).fold(0, |all, bit| all | bit);
        drop(held);
        self.inner.tell();
    }

    /// None is held any more.
    pub fn lose(&self) {
        self.inner.lock().shards = 0;
        self.inner.tell();
    }

    /// Whether what is held may still be: nothing is begun meanwhile.
    pub(super) fn suspend(&self, suspended: bool) {
        let mut held = self.inner.lock();
        let is_new = held.suspended != suspended;
        held.suspended = suspended;
        drop(held);
        if is_new {
            self.inner.tell();
        }
    }

    /// Gives up to `most` shards back in which nothing is under way, the first last.
    pub(super) fn release_idle(&self, most: u32) {
        if most == 0 {
            return;
        }
        let mut held = self.inner.lock();
        let idle = |held: &Held, shard: u32| held.shards & bit(shard) != 0 && held.under_way[index(shard)] == 0;
        let released: Vec<u32> = (0..SHARDS).rev().filter(|shard| idle(&held, *shard)).take(most as usize).collect();
        for shard in &released {
            held.shards &= !bit(*shard);
        }
        drop(held);
        if !released.is_empty() {
            self.inner.tell();
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock()
    }

    fn tell(&self) {
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }
}

impl Share {
    /// What entries that are appended in this right carry: the epoch.
    pub fn fence(&self) -> u64 {
        self.fence
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.inner.lock();
        let under_way = &mut held.under_way[index(self.shard)];
        *under_way = under_way.saturating_sub(1);
    }
}

fn bit(shard: u32) -> u64 {
    1 << (shard % SHARDS)
}

fn index(shard: u32) -> usize {
    (shard % SHARDS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_held_and_idle_is_given_back_and_an_epoch_ends_all() {
        let shares = Shares::default();
        assert!(shares.enter(3).is_none());
        shares.grant(7, [0, 3, 5]);
        let working = shares.enter(3).unwrap();
        assert_eq!((working.fence(), shares.held(), shares.count()), (7, (7, 0b10_1001), 3));
        shares.release_idle(1);
        assert_eq!(shares.list(), [0, 3]);
        shares.release_idle(9);
        assert_eq!(shares.list(), [3]);
        let told = shares.changes();
        shares.release_idle(9);
        assert!(!told.has_changed().unwrap(), "nothing was given back");
        shares.suspend(true);
        assert!(shares.enter(3).is_none());
        shares.suspend(false);
        drop(working);
        shares.grant(8, [1]);
        assert_eq!(shares.held(), (8, 0b10));
        shares.lose();
        assert!(shares.enter(1).is_none());
    }

    #[test]
    fn shards_get_about_the_same() {
        let mut counts = [0; SHARDS as usize];
        for key in 0..64_000_u64 {
            counts[shard_of((1 << 57) | (key * 513)) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (700..1300).contains(count)), "{counts:?}");
    }
}
