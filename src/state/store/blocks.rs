//! Records in a sled tree, packed: some neighbours together in one of its entries.
//!
//! sled has at most 16 entries in a page and some hundred bytes of memory for each page there is (`Node::should_split` and
//! `PageTable` in 0.34.7); a million jobs are nine million records, mostly of some ten bytes. Packed, they take
//! a fraction of the pages, and all of them are read in seconds.
//!
//! A block has records of one table (the first byte of their keys), in the order of their keys, each key without what it has
//! in common with the one before. It stands under a key that none of its records comes before. Where records are large, more of
//! them are packed together, and compressed: they resemble their neighbours.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fail::fail_point;
use fastbloom::AtomicBloomFilter;
use parking_lot::{Mutex, MutexGuard, RwLock};
use sled::IVec;

pub(super) use super::block_iter::BlockIter;
use super::codec::{BlockHeader, BlockWriter, DecodedBlock};
use super::error::is_locked;
use super::{StoreError, Write};

/// The tree. sled answers some damage with a panic; here it becomes an error like others.
#[derive(Debug)]
pub(super) struct Blocks {
    dir: PathBuf,
    tree: sled::Db,
    /// Set before anything is written.
    is_written: AtomicBool,
    /// Keys that were written. While it is there, nothing is in the tree that is not in it.
    written: RwLock<Option<AtomicBloomFilter>>,
}

/// Held by whoever changes a tree, or waits until the disk has what was changed, in whichever tree of the process.
///
/// sled 0.34.7 has one lock for all trees: readers share it, a batch takes it alone, and a flush shares it until the disk has
/// everything. A batch that waits for it lets no more readers in. So no batch may wait for the flush of another tree: a
/// disk that hangs would keep all readers out. What a batch itself has sled wait for still does: to shorten or extend its file,
/// or to write a page of more than 128 KiB.
static CHANGES: Mutex<()> = Mutex::new(());
/// The tree whose flush is waited for.
static FLUSHED: Mutex<Option<sled::Db>> = Mutex::new(None);

/// Returns once no change is under way in any tree of the process. Who asks often sees whether sled goes on: whatever keeps
/// readers out does so during a change.
pub(super) fn wait_for_changes() {
    /// A change takes less, unless the disk is slow.
    const PATIENCE: Duration = Duration::from_secs(5);
    if CHANGES.try_lock_for(PATIENCE).is_none() {
        // sled does not always wake whoever waits for a flush when a write fails. Another one wakes them.
        let flushed = FLUSHED.lock().clone();
        let _ = flushed.map(|tree| guard(|| Ok(tree.flush().map(drop)?)));
        drop(CHANGES.lock());
    }
}

/// A handle that was closed keeps its lock until the last reader and sled's own threads have let go of it: five seconds.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Takes sled's files from everyone but their owner: it makes them as open as the system lets it. Their folder is closed
/// already, so what cannot be looked at right now is no reason to fail.
fn close_files(dir: &Path) {
    for item in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(found) = item.metadata() else { continue };
        let mode = found.permissions().mode();
        if mode & 0o077 != 0
            && let Err(error) = fs::set_permissions(item.path(), Permissions::from_mode(mode & 0o7700))
        {
            tracing::debug!(path = %item.path().display(), %error, "a file of the state stays open to others, in a folder that is not");
        }
    }
}

/// Removes snapshots that sled has begun to write and not finished: it would take the newest for a whole one, and the tree for
/// damaged.
fn remove_half_snapshots(dir: &Path) -> io::Result<()> {
    for item in fs::read_dir(dir)? {
        let path = item?.path();
        if path.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Calls sled.
pub(super) fn guard<T>(call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| Err(StoreError::from_panic(&*panic)))
}

impl Blocks {
    /// Opens the tree in `dir`, which exists and which nobody else opens. `sync_every` is how often sled has the system put on
    /// the disk what it has.
    ///
    /// # Errors
    /// Also when an older handle still has it open after five seconds.
    pub(super) fn open(dir: &Path, cache_bytes: u64, sync_every: Option<Duration>) -> Result<Self, StoreError> {
        fail_point!("state.open", |_| Err(io::Error::from_raw_os_error(5).into()));
        remove_half_snapshots(dir)?;
        let sync_every_ms = sync_every.map(|every| u64::try_from(every.as_millis()).unwrap_or(u64::MAX));
        let config = sled::Config::new().path(dir).cache_capacity(cache_bytes).flush_every_ms(sync_every_ms);
        let open = || guard(|| Ok(config.open()));
        let mut tree = open()?;
        for _ in 0..LOCK_TRIES {
            match &tree {
                Err(sled::Error::Io(error)) if is_locked(error) => std::thread::sleep(LOCK_PAUSE),
                _ => break,
            }
            tree = open()?;
        }
        let tree = tree?;
        close_files(dir);
        Ok(Self { dir: dir.to_owned(), tree, is_written: AtomicBool::new(false), written: RwLock::default() })
    }

    /// Waits until sled's threads have let go of the tree in `dir`, whose handles are closed: then its folder can be moved.
    ///
    /// # Errors
    /// When they still have it after five seconds.
    pub(super) fn wait_until_closed(dir: &Path) -> Result<(), StoreError> {
        let file = File::open(dir.join("db"))?;
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(error)) => return Err(error.into()),
                Ok(()) => return Ok(()),
            }
        }
        Err(StoreError::Refused(format!("{} stays locked", dir.display())))
    }

    /// Begins or ends to remember which keys are written, so that those that were not are not looked for. Only an empty tree
    /// begins: to fill one asks mostly for what is not there.
    pub(super) fn filter_misses(&self, filter: bool) {
        /// 16 MiB of memory. Of ten million records one miss in 200 is looked for, of a hundred million all are.
        const BITS: usize = 1 << 27;
        const HASHES: u32 = 4;
        let mut written = self.written.write();
        let is_empty = !self.is_written.load(Ordering::SeqCst) && self.tree.is_empty();
        *written = (filter && is_empty).then(|| AtomicBloomFilter::with_num_bits(BITS).hashes(HASHES));
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        if self.written.read().as_ref().is_some_and(|written| !written.contains(key)) {
            return Ok(None);
        }
        let Some((_, block)) = guard(|| self.block_of(key))? else { return Ok(None) };
        let block = DecodedBlock::of(&block)?;
        let mut records = block.records();
        while let Some(value) = records.next()? {
            if *records.key >= *key {
                return Ok((*records.key == *key).then(|| value.into()));
            }
        }
        Ok(None)
    }

    /// How many records each table has, by the first byte of their keys. Reads and checks all blocks, from both ends at once.
    ///
    /// # Errors
    /// When one cannot be read.
    pub(super) fn count(&self) -> Result<BTreeMap<u8, u64>, StoreError> {
        // The last block from the one end and from the other.
        let seen: Mutex<[Option<IVec>; 2]> = Mutex::default();
        let count = |back: bool| {
            let mut blocks = self.tree.iter();
            let mut counts: BTreeMap<u8, u64> = BTreeMap::new();
            while let Some(block) = if back { blocks.next_back() } else { blocks.next() } {
                let (first, block) = block?;
                let mut seen = seen.lock();
                let met = match &seen[usize::from(!back)] {
                    Some(other) if back => first <= *other,
                    Some(other) => first >= *other,
                    None => false,
                };
                if met {
                    break;
                }
                seen[usize::from(back)] = Some(first.clone());
                drop(seen);
                *counts.entry(first.first().copied().unwrap_or_default()).or_default() +=
                    BlockHeader::of(&block)?.records;
            }
            Ok(counts)
        };
        let (front, back) = std::thread::scope(|scope| {
            let front = scope.spawn(|| count(false));
            let back = guard(|| count(true));
            (front.join().unwrap_or_else(|panic| Err(StoreError::from_panic(&*panic))), back)
        });
        let mut counts = front?;
        for (table, more) in back? {
            *counts.entry(table).or_default() += more;
        }
        Ok(counts)
    }

    /// The records of a range, from its start on or from its end on.
    pub(super) fn iter(&self, start: Bound<IVec>, end: Bound<IVec>, back: bool) -> Result<BlockIter, StoreError> {
        let first = match &start {
            Bound::Included(key) | Bound::Excluded(key) => {
                let block = guard(|| self.block_of(key))?;
                Bound::Included(block.map_or_else(|| key.clone(), |(first, _)| first))
            }
            Bound::Unbounded => Bound::Unbounded,
        };
        Ok(BlockIter::new(self.tree.clone(), first, (start, end), back))
    }

    /// Writes all of `writes`, or nothing of it.
    pub(super) fn write(&self, writes: BTreeMap<IVec, Option<IVec>>) -> Result<(), StoreError> {
        // Before the lock: whoever begins to remember keys sees it, or has begun by the time that they are put down here.
        self.is_written.store(true, Ordering::SeqCst);
        if let Some(written) = &*self.written.read() {
            for (key, _) in writes.iter().filter(|(_, value)| value.is_some()) {
                written.insert(key.as_ref());
            }
        }
        // A page that is read for this may have to be written first.
        let changes = CHANGES.lock();
        let mut batch = sled::Batch::default();
        let mut writes = writes.into_iter().peekable();
        let mut group: Vec<Write> = Vec::new();
        while let Some((key, _)) = writes.peek() {
            let (first, block) =
                guard(|| self.block_of(key))?.map_or((key.clone(), None), |(first, block)| (first, Some(block)));
            let behind = (Bound::Excluded(key.clone()), Bound::Unbounded);
            let next = guard(|| Ok(self.tree.range::<IVec, _>(behind).next().transpose()?))?.map(|(next, _)| next);
            let belongs =
                |(key, _): &Write| key.first() == first.first() && next.as_ref().is_none_or(|next| key < next);
            group.clear();
            while let Some(write) = writes.next_if(belongs) {
                group.push(write);
            }
            rewrite(&mut batch, first, block.as_deref(), &group)?;
        }
        self.apply(batch, &changes)
    }

    /// Makes all of a batch visible when what was written before is on its way to the disk.
    ///
    /// sled writes behind, and nothing bounds how much. Once all seven of its threads have a buffer of half a megabyte to
    /// write, each may wait for whoever extends the file, who waits until one of them has shortened it. One
    /// batch in bulk may be so large, and sled moves records by itself: the watchdog is for these.
    fn apply(&self, batch: sled::Batch, changes: &MutexGuard<'static, ()>) -> Result<(), StoreError> {
        self.flush(changes)?;
        guard(|| Ok(self.tree.apply_batch(batch)?))
    }

    fn flush(&self, _: &MutexGuard<'static, ()>) -> Result<(), StoreError> {
        *FLUSHED.lock() = Some(self.tree.clone());
        let flushed = guard(|| Ok(self.tree.flush().map(drop)?));
        FLUSHED.lock().take();
        flushed
    }

    /// Copies all blocks to `other`, which is empty, as long as `go_on` says yes. Returns whether all are there.
    ///
    /// # Errors
    /// Also when one of them is damaged.
    pub(super) fn copy_to(&self, other: &Self, go_on: &mut dyn FnMut() -> bool) -> Result<bool, StoreError> {
        /// Blocks that are written at a time. sled takes a third more room for ten times as many, and twice as much for one.
        const AT_ONCE: usize = 1000;
        let mut blocks = self.tree.iter();
        while go_on() {
            let (mut batch, mut copied) = (sled::Batch::default(), 0);
            for block in blocks.by_ref().take(AT_ONCE) {
                let (first, block) = block?;
                BlockHeader::of(&block)?;
                batch.insert(first, block);
                copied += 1;
            }
            other.apply(batch, &CHANGES.lock())?;
            if copied < AT_ONCE {
                other.sync()?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads as others do.
    pub(super) fn probe(&self) -> Result<(), StoreError> {
        guard(|| self.block_of(&[u8::MAX]).map(drop))
    }

    /// Has the system put on the disk what was written.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.flush(&CHANGES.lock())?;
        // It may have made new ones.
        close_files(&self.dir);
        Ok(())
    }

    /// The block that has the record under `key`, if there is one.
    fn block_of(&self, key: &[u8]) -> Result<Option<(IVec, IVec)>, StoreError> {
        let found = self.tree.range::<&[u8], _>(..=key).next_back().transpose()?;
        Ok(found.filter(|(first, _)| first.first() == key.first()))
    }
}

impl Drop for Blocks {
    /// sled flushes when its last handle goes, and finds next to nothing left to wait for.
    fn drop(&mut self) {
        let _ = self.flush(&CHANGES.lock());
    }
}

/// Puts into `batch` what becomes of a block.
fn rewrite(batch: &mut sled::Batch, first: IVec, block: Option<&[u8]>, writes: &[Write]) -> Result<(), StoreError> {
    let block = block.map(DecodedBlock::of).transpose()?;
    let mut merged = BlockWriter::default();
    let mut writes = writes.iter().peekable();
    let mut is_changed = false;
    let mut appends = true;
    if let Some(block) = &block {
        let mut records = block.records();
        while let Some(value) = records.next()? {
            let key = records.key.as_slice();
            while let Some((new, value)) = writes.next_if(|(new, _)| new.as_ref() < key) {
                if let Some(value) = value {
                    merged.push(new, value);
                    (is_changed, appends) = (true, false);
                }
            }
            match writes.next_if(|(new, _)| new.as_ref() == key) {
                None => merged.push(key, value),
                Some((new, Some(newer))) => {
                    is_changed |= newer.as_ref() != value;
                    merged.push(new, newer);
                }
                Some((_, None)) => is_changed = true,
            }
        }
    }
    for (new, value) in writes {
        if let Some(value) = value {
            merged.push(new, value);
            is_changed = true;
        }
    }
    if !is_changed {
        return Ok(());
    }
    if merged.is_empty() {
        batch.remove(first);
        return Ok(());
    }
    merged.pack(batch, first, appends);
    Ok(())
}
