//! One file at a time becomes the object of given bytes.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::domain::Digest;

/// A lock for each digest that somebody works on.
#[derive(Default)]
pub(super) struct DigestLocks(Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>);

impl DigestLocks {
    /// Held while the object of some bytes is looked for, claimed and made visible.
    pub(super) async fn lock(&self, digest: Digest) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock();
            // Nobody waits for a lock that only the table still holds.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            locks.entry(digest).or_default().clone()
        };
        lock.lock_owned().await
    }
}
