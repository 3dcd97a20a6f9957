//! Takes what is due one recorded step further, until every file of a job is in the bucket or cannot be had.
//!
//! In the order in which a job passes through it:
//!
//! 1. `dispatch` takes up jobs that are due. `running` says for which there is room, `recovery` settles first what a crash
//!    left open.
//! 2. `job` takes one job as far as it can be taken now: it gives it a folder, and makes an attempt at each file that is due.
//! 3. `attempt` tries a file's URLs, best first, and records why it failed (`attempt_error`) and when to try again (`retry`).
//! 4. `transfer` brings in one file from one URL. It goes on with what an earlier attempt has sent (`uploads`), or opens the
//!    file anew (`source`).
//! 5. `receive` checks the bytes as they come and sends them part by part (`multipart`). `uploads` records how far they are.
//! 6. `commit_object` makes the bytes an object, once: claim, object, record.
//! 7. `manifest` writes the manifest when no file is left to be tried, and ends the job.
//!
//! Everything is written in this order: claim, object, record, manifest, end. Each step is in the journal before the next is
//! taken, every step may run twice, and a crash between any two loses nothing and doubles nothing. Whoever holds a job's lease
//! works on it. Leases are in memory, so after a crash every job that is due is free.
//!
//! Each job is worked on with a log that carries its lease's fence, so what stands for a job, an attempt or a transfer is made
//! for it, and borrows what all share from `Resources`.
//!
//! The worker ends when [`Worker::stop`] is called: it takes up nothing new, lets what runs finish within the grace, and
//! leaves the rest to be taken up again.

mod attempt;
mod attempt_error;
mod backing_off;
mod callback_bodies;
mod commit_object;
mod confirm;
mod digest_locks;
mod dispatch;
mod file_type;
mod job;
mod manifest;
mod memory;
mod multipart;
mod part_buffer;
mod receive;
mod recovery;
mod retry;
mod running;
mod shards;
mod source;
mod storage_health;
mod task;
mod transfer;
mod uploads;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

pub use confirm::Confirmer;
pub use source::ProviderMedia;

use self::callback_bodies::CallbackBodies;
use self::digest_locks::DigestLocks;
use self::dispatch::Dispatcher;
use self::memory::Memory;
use self::source::MediaSource;
use self::storage_health::StorageHealth;
use crate::bucket::{Bucket, KeyTemplate};
use crate::domain::JobId;
use crate::fetch::Fetcher;
use crate::state::EventLog;

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
    resources: Arc<Resources>,
    log: EventLog,
}

/// What all jobs share. None of it records anything.
struct Resources {
    config: Config,
    bucket: Bucket,
    storage: StorageHealth,
    source: MediaSource,
    bodies: CallbackBodies,
    memory: Memory,
    digests: DigestLocks,
    refresh: Option<Refresh>,
    stop: watch::Sender<bool>,
}

impl Worker {
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
        let bodies = CallbackBodies::new(log.clone());
        let resources = Resources {
            config,
            storage: StorageHealth::new(bucket.clone(), log.state().clone()),
            source: MediaSource::new(fetcher, provider, bodies.clone()),
            bodies,
            memory: Memory::for_parts_of(bucket.part_size()),
            digests: DigestLocks::default(),
            refresh,
            stop: watch::Sender::new(false),
            bucket,
        };
        Self { resources: Arc::new(resources), log }
    }

    /// Works until [`Worker::stop`] is called, and then for at most `grace` on what runs.
    pub async fn run(&self, grace: Duration) {
        Dispatcher::new(self.resources.clone(), self.log.clone()).run(grace).await;
    }

    /// Takes up nothing new from now on; [`Worker::run`] returns when what runs has finished or the grace is over.
    pub fn stop(&self) {
        self.resources.stop.send_replace(true);
    }

    /// What storage as a whole fails with, if it fails.
    pub fn storage_failure(&self) -> Option<String> {
        self.resources.storage.failure()
    }
}

impl std::fmt::Debug for Resources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resources").field("config", &self.config).finish_non_exhaustive()
    }
}
