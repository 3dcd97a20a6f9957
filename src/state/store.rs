//! An embedded ordered store of records (bytes under bytes): a memtable over packed, compressed blocks in a sled tree.
//!
//! It knows nothing of what it stores. Its whole surface: [`Store::open`], [`Store::get`], [`Store::range`],
//! [`Store::commit`], [`Store::flush`], [`Store::set_bulk`], [`Store::failure`], [`Store::downgrade`], [`Store::count`],
//! [`Store::compact`], [`Store::wait_until_closed`], and [`probe`], which shows whether sled goes on.
//!
//! ```text
//!  commit ──► memtable ──(writer thread, whole commits merged)──► blocks ──► sled ──(fsync)──► disk
//!               ▲                                                   ▲
//!  get, range ──┴── first here, then ───────────────────────────────┘
//! ```
//!
//! **Memtable** (`memtable.rs`): an ordered map of what is committed and not yet in sled. A commit is in it, and seen by every
//! reader, when [`Store::commit`] returns. It is bounded; who commits to a full one waits. Its bytes are counted where its
//! commits are kept, under the one lock that there is, so no count can run ahead of what it counts.
//!
//! **Writer thread** (`engine.rs`, `flush_control.rs`): merges the oldest commits and writes them to sled as one batch, behind
//! the back of those who wait for an answer. What is put and soon removed never reaches sled; a record that is put five times
//! is written once. It is throttled while commits come thick, and hurries when the memtable fills or somebody waits for it.
//!
//! **Blocks** (`blocks.rs`, `block_iter.rs`, `codec.rs`): about half a kilobyte of neighbouring records in one entry of sled,
//! behind a CRC-32C, each key without what it shares with the one before; large records 4 KiB together, compressed with LZ4.
//! An empty store that is filled in bulk keeps a Bloom filter of its keys: most keys that are asked for then are new.
//!
//! **What is durable when.** A commit that returned is visible and nothing more: a crash takes it. Whoever commits must be able to
//! do it again (the state folds it in again from the journal). What sled has is always the result of a whole number of commits,
//! in their order, so each commit can say in a record of its own how far it is. When [`Store::flush`] returns `true`,
//! everything committed before the call is synced to the disk. Without it sled syncs what it has every two seconds.
//!
//! **Room.** Where much was written here and there, sled's files take several times as much as what they hold. [`Store::compact`]
//! copies a closed store's blocks in their order.
//!
//! How it is shown to be right: `model.rs` runs this code under a scheduler that chooses each interleaving (shuttle);
//! `tests.rs` compares it with a plain map through flushes, reopening and crashes.

mod block_iter;
mod blocks;
mod codec;
mod engine;
mod error;
mod flush_control;
mod memtable;
#[cfg(test)]
mod model;
mod range;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fail::fail_point;
pub(super) use sled::IVec;

use self::blocks::Blocks;
pub(super) use self::engine::{Shared, Store};
pub use self::error::StoreError;
use self::flush_control::Limits;
pub(super) use self::range::Backwards;

/// What a commit writes under a key; `None` removes what is there.
pub(super) type Write = (IVec, Option<IVec>);

/// What a store is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    ReadWrite,
    /// Nothing is ever written to sled: a commit stays in memory.
    ReadOnly,
}

impl Store {
    /// Opens the store in `dir`, a folder of its own, or makes one there. sled caches at most `cache_bytes` of it.
    ///
    /// # Errors
    /// Also when another handle has it open and does not let go of it within five seconds.
    pub(in crate::state) fn open(dir: &Path, cache_bytes: u64, access: Access) -> Result<Self, StoreError> {
        const SYNC_INTERVAL: Duration = Duration::from_secs(2);
        let store = Self::new(Blocks::open(dir, cache_bytes, Some(SYNC_INTERVAL))?, Limits::default());
        if access == Access::ReadWrite {
            store.start_writer()?;
        }
        Ok(store)
    }

    /// Copies the store in `from`, which nobody has open, into `to`, an empty folder: the same records in as
    /// little room as they take, on the disk. `go_on` is asked after some hundred kilobytes. Returns whether it was copied whole;
    /// otherwise something may be in `to`.
    ///
    /// # Errors
    /// When one cannot be read or written.
    pub(in crate::state) fn compact(
        from: &Path,
        to: &Path,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<bool, StoreError> {
        /// Read once, and written once.
        const CACHE_BYTES: u64 = 8 << 20;
        let blocks = Blocks::open(from, CACHE_BYTES, None)?;
        let copy = Blocks::open(to, CACHE_BYTES, None)?;
        let is_whole = blocks::guard(|| blocks.copy_to(&copy, go_on))?;
        drop((blocks, copy));
        Blocks::wait_until_closed(from)?;
        Blocks::wait_until_closed(to)?;
        Ok(is_whole)
    }

    /// Waits until nothing writes to the files in `dir` any more, of which all handles are gone.
    ///
    /// # Errors
    /// When something still does after five seconds.
    pub(in crate::state) fn wait_until_closed(dir: &Path) -> Result<(), StoreError> {
        Blocks::wait_until_closed(dir)
    }

    /// How many flushed records there are, by the first byte of their keys. Reads every block and checks it.
    ///
    /// # Errors
    /// When a block is not what was written.
    pub(in crate::state) fn count(&self) -> Result<BTreeMap<u8, u64>, StoreError> {
        // Also when the system has no thread for it.
        blocks::guard(|| self.shared.blocks.count())
    }
}

/// Returns once sled goes on with a read of `store`, and with what is being changed in any store of the process.
pub(in crate::state) fn probe(store: Option<Arc<Shared>>) {
    fail_point!("state.probe", |_| ());
    // What fails has come back.
    let _ = store.map(|store| store.blocks.probe());
    blocks::wait_for_changes();
}
