//! Large bodies on their way in: on disk, in files without a name, of which nothing is left when the process ends.
//!
//! A few at a time, one target's share among them: so neither memory nor the disk is anybody's to fill.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};

use tokio::time::timeout;

use super::IntakeError;
use super::memory::MAX_WAIT;
use super::slots::{Slot, Slots, TooMany};
use crate::disk::free_bytes;
use crate::domain::Target;
use crate::journal::make_private_dir;

/// Bodies that may be on disk at a time.
const FILES: usize = 8;
/// Bodies that may wait for one of them to be done with; half of them for one target.
const MAX_WAITING: usize = 8;
/// What stays free of the disk, in bytes, for the journal.
const RESERVE: u64 = 64 << 20;

/// Where large bodies are until they are whole.
#[derive(Debug)]
pub(super) struct Spool {
    dir: PathBuf,
    emptied: Once,
    slots: Slots<Target>,
    max_bytes: u64,
    /// What all files together may still grow by, in bytes.
    reserved: Arc<AtomicU64>,
}

/// A body's file, until it is dropped.
#[derive(Debug)]
pub(super) struct SpoolFile {
    file: Arc<File>,
    bytes: u64,
    reservation: Reservation,
    _slot: Slot<Target>,
}

/// What one file may still grow by, in bytes.
#[derive(Debug)]
struct Reservation {
    bytes: u64,
    all: Arc<AtomicU64>,
}

impl Reservation {
    /// Reserves `bytes` of those that are `free`, beside what `all` have reserved.
    ///
    /// # Errors
    /// When less than [`RESERVE`] would be left.
    fn new(all: &Arc<AtomicU64>, bytes: u64, free: impl FnOnce() -> io::Result<u64>) -> io::Result<Self> {
        // Before it is known whether they are free: of two at the same time, neither overlooks the other.
        let reserved = all.fetch_add(bytes, Ordering::SeqCst) + bytes;
        let reservation = Self { bytes, all: all.clone() };
        if free().is_ok_and(|free| free < RESERVE + reserved) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(reservation)
    }

    /// So many are on the disk by now, and free no more.
    fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.all.fetch_sub(bytes, Ordering::SeqCst);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

impl Spool {
    /// For bodies of at most `max_bytes` in `dir`, which is made when it is needed. Nobody else may use it.
    pub(super) fn new(dir: &Path, max_bytes: usize) -> Self {
        let slots = Slots::new(FILES, MAX_WAITING);
        let (emptied, reserved) = (Once::new(), Arc::default());
        Self { dir: dir.to_owned(), emptied, slots, max_bytes: max_bytes as u64, reserved }
    }

    /// Whether somebody waits until a body that is sent to `target` is done with.
    pub(super) fn is_wanted(&self, target: &Target) -> bool {
        self.slots.are_wanted(target)
    }

    /// An empty file for a body that is sent to `target`.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(super) async fn begin(self: &Arc<Self>, target: &Target) -> Result<SpoolFile, IntakeError> {
        let slot = match timeout(MAX_WAIT, self.slots.acquire(target.clone())).await {
            Ok(Ok(slot)) => slot,
            Ok(Err(TooMany)) | Err(_) => return Err(IntakeError::Unavailable("too many large bodies come in at once")),
        };
        let spool = self.clone();
        let (file, reservation) = blocking(move || spool.open()).await?;
        Ok(SpoolFile { file: Arc::new(file), bytes: 0, reservation, _slot: slot })
    }

    fn open(&self) -> io::Result<(File, Reservation)> {
        make_private_dir(&self.dir)?;
        self.emptied.call_once(|| self.empty());
        let file = tempfile::tempfile_in(&self.dir)?;
        let reservation = Reservation::new(&self.reserved, self.max_bytes, || free_bytes(&self.dir))?;
        Ok((file, reservation))
    }

    /// Where files cannot be without a name, a kill may have left one.
    fn empty(&self) {
        for item in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if let Err(error) = std::fs::remove_file(item.path()) {
                tracing::warn!(%error, path = %item.path().display(), "a part of a callback cannot be removed");
            }
        }
    }
}

impl SpoolFile {
    /// Appends a piece.
    ///
    /// # Errors
    /// When the disk refuses it.
    pub(super) async fn append(&mut self, piece: Vec<u8>) -> Result<(), IntakeError> {
        let (file, at, bytes) = (self.file.clone(), self.bytes, piece.len() as u64);
        blocking(move || file.write_all_at(&piece, at)).await?;
        self.bytes += bytes;
        self.reservation.shrink(bytes);
        Ok(())
    }

    /// All of it, and `rest` behind it. Blocks.
    ///
    /// # Errors
    /// When the disk cannot read it.
    pub(super) fn read(&self, rest: &[u8]) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let mut body = Vec::with_capacity(length + rest.len());
        body.resize(length, 0);
        self.file.read_exact_at(&mut body, 0)?;
        body.extend_from_slice(rest);
        Ok(body)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, IntakeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(failed(&error)),
        Err(_) => Err(IntakeError::Unavailable("the service is stopping")),
    }
}

/// What the disk says is for the log.
pub(super) fn failed(error: &io::Error) -> IntakeError {
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return IntakeError::Unavailable("there is no room on the disk for a body of this size");
    }
    tracing::error!(%error, "a large body cannot be put on the disk");
    IntakeError::Unavailable("the disk does not take a body of this size")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_on_disk_has_no_name_and_what_a_kill_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Arc::new(Spool::new(&dir.path().join("spool"), 1 << 20));
        std::fs::create_dir(dir.path().join("spool")).unwrap();
        std::fs::write(dir.path().join("spool/left"), "x").unwrap();
        let mut file = spool.begin(&Target::Channel).await.unwrap();
        file.append(b"ab".to_vec()).await.unwrap();
        file.append(b"c".to_vec()).await.unwrap();
        assert_eq!(file.read(b"de").unwrap(), b"abcde");
        assert_eq!(std::fs::read_dir(dir.path().join("spool")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn files_leave_the_reserve_free_however_many_grow_at_once() {
        const MAX: u64 = 1 << 20;
        let dir = tempfile::tempdir().unwrap();
        let spool = Arc::new(Spool::new(dir.path(), MAX as usize));
        let mut file = spool.begin(&Target::Channel).await.unwrap();
        let reserve = |free: u64| Reservation::new(&spool.reserved, MAX, || Ok(free));
        let free = RESERVE + 2 * MAX;
        let second = reserve(free).unwrap();
        assert_eq!(reserve(free).unwrap_err().kind(), io::ErrorKind::StorageFull);
        drop(second);
        // What is written counts once: it is not free any more.
        file.append(vec![0; MAX as usize]).await.unwrap();
        let second = reserve(free - MAX).unwrap();
        assert!(reserve(free - MAX).is_err());
        drop((file, second));
        assert_eq!(spool.reserved.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn one_target_leaves_room_for_others_and_few_wait() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Arc::new(Spool::new(dir.path(), 1 << 20));
        let mut held = Vec::new();
        for _ in 0..6 {
            held.push(spool.begin(&Target::Channel).await.unwrap());
        }
        let waiting: Vec<_> = (0..4)
            .map(|_| {
                tokio::spawn({
                    let spool = spool.clone();
                    async move { spool.begin(&Target::Channel).await }
                })
            })
            .collect();
        while spool.slots.waiting() < 4 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(spool.begin(&Target::Channel).await, Err(IntakeError::Unavailable(_))));
        let other = Target::parse(&format!("ref_{:026}", 7)).unwrap();
        held.push(spool.begin(&other).await.unwrap());
        held.clear();
        for waits in waiting {
            waits.await.unwrap().unwrap();
        }
    }
}
