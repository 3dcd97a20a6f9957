//! Memory for bodies as they come, in slots of two sizes that many keys share: every body takes a small one with its first
//! bytes, and one that outgrows it a large one, so that small bodies never wait for large ones.

use std::hash::Hash;
use std::time::Duration;

use bytes::Bytes;

use super::IntakeError;
use super::slots::{Slot, Slots, TooMany};
use super::within::within;

/// The largest body that needs no large slot, in bytes, with what is parsed of it.
pub(super) const SMALL_BYTES: usize = 16 << 10;
/// Memory for small bodies.
const SMALL_POOL_BYTES: usize = 16 << 20;
/// What a large slot is for at most, in bytes.
pub(super) const LARGE_BYTES: usize = 1 << 20;
/// What it is for at least: a small body that names as many files as are read.
const LEAST_LARGE_BYTES: usize = 144 << 10;
/// Memory for large ones.
const LARGE_POOL_BYTES: usize = 48 << 20;
/// Bodies of either size that may wait for a slot. Those that wait for a large one hold small ones, though not all.
pub(super) const MAX_WAITING: usize = 1024;
/// How long a body may wait for a slot.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(10);

/// The slots of both sizes.
#[derive(Debug)]
pub(crate) struct Memory<K: Eq + Hash + Clone> {
    small: Slots<K>,
    large: Slots<K>,
}

/// The memory that a body has taken.
#[derive(Debug)]
pub(crate) enum Held<K: Eq + Hash + Clone> {
    Nothing,
    Small(Slot<K>),
    Large(Slot<K>),
}

impl<K: Eq + Hash + Clone> Memory<K> {
    /// For bodies of at most `max_bytes`; of larger ones, [`LARGE_BYTES`] are held.
    pub(crate) fn new(max_bytes: usize) -> Self {
        let large = LARGE_POOL_BYTES / max_bytes.clamp(LEAST_LARGE_BYTES, LARGE_BYTES);
        Self { small: Slots::new(SMALL_POOL_BYTES / SMALL_BYTES, MAX_WAITING), large: Slots::new(large, MAX_WAITING) }
    }

    /// Has `held` suffice for a body of `key`'s with so many bytes; one that `expands` takes a large slot whatever its length.
    /// True when it took that just now.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(crate) async fn hold(
        &self,
        held: &mut Held<K>,
        key: &K,
        bytes: usize,
        expands: bool,
    ) -> Result<bool, IntakeError> {
        let is_small = bytes <= SMALL_BYTES && !expands;
        match held {
            Held::Large(_) => return Ok(false),
            Held::Small(_) if is_small => {}
            Held::Nothing if is_small => *held = Held::Small(slot(&self.small, key).await?),
            Held::Nothing | Held::Small(_) => *held = Held::Large(slot(&self.large, key).await?),
        }
        Ok(!is_small)
    }

    /// Whether others wait for what is `held` for a body of `key`'s.
    pub(crate) fn is_wanted(&self, held: &Held<K>, key: &K) -> bool {
        match held {
            Held::Nothing => false,
            Held::Small(_) => self.small.are_wanted(key),
            Held::Large(_) => self.large.are_wanted(key),
        }
    }
}

async fn slot<K: Eq + Hash + Clone>(slots: &Slots<K>, key: &K) -> Result<Slot<K>, IntakeError> {
    match within(MAX_WAIT, slots.acquire(key.clone())).await {
        Ok(Ok(slot)) => Ok(slot),
        Ok(Err(TooMany)) | Err(_) => Err(IntakeError::Unavailable("too many bodies come in at once")),
    }
}

/// A body's bytes; the last who lets go of them gives back what was `held` for them.
pub(crate) fn bytes_holding<H: Send + 'static>(body: Vec<u8>, held: H) -> Bytes {
    Bytes::from_owner(Body { body, _held: held })
}

struct Body<H> {
    body: Vec<u8>,
    _held: H,
}

impl<H> AsRef<[u8]> for Body<H> {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}
