//! Takes what is due one recorded step further, until every file of a job is in the bucket or cannot be had.
//!
//! The order of writing is the law of this room: claim, object, record, manifest, end. Each step is journalled before
//! the next is taken, every step may run twice, and a crash between any two loses nothing and doubles nothing. A job is
//! worked on by whoever holds its lease; leases are in memory, so after a crash every job that is due is free.
//!
//! The worker ends when [`Worker::stop`] is called: it takes up nothing new, lets what runs finish within the grace, and
//! leaves the rest to be taken up again.

mod attempt;
mod commit_object;
mod confirm;
mod dispatch;
mod file_type;
mod job;
mod manifest;
mod memory;
mod multipart;
mod part_buffer;
mod recovery;
mod resume;
mod retry;
mod source;
mod task;
mod transfer;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

pub use confirm::Confirmer;
pub use source::ProviderMedia;

use self::memory::Memory;
use crate::bucket::{Bucket, KeyTemplate};
use crate::domain::{Digest, JobId};
use crate::fetch::Fetcher;
use crate::state::{EventLog, State};

/// How the worker works.
#[derive(Clone, Debug)]
pub struct Config {
    /// Jobs worked on at once.
    pub concurrency: usize,
    /// Of these, jobs whose next file comes from one host.
    pub per_host: usize,
    /// Attempts at a file before it is stuck.
    pub max_attempts: u16,
    /// Whether only files known to carry no watermark are wanted.
    pub clean_only: bool,
    /// Where files go.
    pub key: KeyTemplate,
}

/// Asks the provider for fresh links of a job whose links are dead. True when it named some that were not known; they are
/// recorded with the job then.
pub type Refresh = Arc<dyn Fn(JobId) -> BoxFuture<'static, bool> + Send + Sync>;

/// Archives what is due. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Worker {
    inner: Arc<Inner>,
    log: EventLog,
}

struct Inner {
    config: Config,
    bucket: Bucket,
    fetcher: Fetcher,
    refresh: Option<Refresh>,
    provider: Option<ProviderMedia>,
    /// One at a time holds a large body of a callback.
    large_body: tokio::sync::Semaphore,
    /// KiB of files that stood in bodies.
    decoded: Arc<tokio::sync::Semaphore>,
    /// For parts of files.
    memory: Memory,
    /// One at a time makes an object of given bytes visible.
    digests: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    /// What storage fails with, while it fails; nothing new is taken up meanwhile.
    storage_down: Mutex<Option<String>>,
    stop: watch::Sender<bool>,
}

impl Worker {
    /// Bytes of all parts of files in memory together, unless two single parts are more; the first 256 KiB of each file
    /// come on top.
    const PARTS: u64 = 64 << 20;

    /// KiB of all files together that stood in callbacks' bodies and are on their way to the bucket.
    const DECODED_KIB: u32 = 64 << 10;

    /// A worker that archives what `log`'s state says is due, from `fetcher` into `bucket`. Without `refresh`
    /// links that are dead stay so until a callback brings others; without `provider`, files wait that are to be had with a
    /// token alone.
    pub fn new(
        config: Config,
        log: EventLog,
        bucket: Bucket,
        fetcher: Fetcher,
        refresh: Option<Refresh>,
        provider: Option<ProviderMedia>,
    ) -> Self {
        let part_size = bucket.part_size();
        let memory = Memory::new(Self::PARTS.max(2 * part_size), part_size);
        Self {
            inner: Arc::new(Inner {
                config,
                bucket,
                fetcher,
                refresh,
                provider,
                large_body: tokio::sync::Semaphore::new(1),
                decoded: Arc::new(tokio::sync::Semaphore::new(Self::DECODED_KIB as usize)),
                memory,
                digests: Mutex::default(),
                storage_down: Mutex::default(),
                stop: watch::Sender::new(false),
            }),
            log,
        }
    }

    /// The same for whoever acts in an epoch of the cluster: see [`EventLog::fenced`].
    fn fenced(&self, fence: Option<u64>) -> Self {
        Self { inner: self.inner.clone(), log: self.log.fenced(fence) }
    }

    /// Takes up nothing new from now on; [`Worker::run`] returns when what runs has finished or the grace is over.
    pub fn stop(&self) {
        self.inner.stop.send_replace(true);
    }

    fn state(&self) -> &State {
        self.log.state()
    }

    /// Held while the object of some bytes is looked for, claimed and made visible.
    async fn digest_lock(&self, digest: Digest) -> DigestGuard {
        let lock = {
            let mut locks = self.inner.digests.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody waits for a lock that only the table still holds.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            locks.entry(digest).or_default().clone()
        };
        DigestGuard { _guard: lock.lock_owned().await }
    }
}

struct DigestGuard {
    _guard: tokio::sync::OwnedMutexGuard<()>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("config", &self.config).finish_non_exhaustive()
    }
}
