//! Work beside requests and archiving, for as long as the service runs.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{endless, listening};
use crate::backoff::{doubling, jittered};
use crate::bucket::{Bucket, ObjectFolder};
use crate::intake::Intake;
use crate::reconcile::Reconciler;
use crate::repair::{self, ArchiveKeys, PendingRestore, Retention, Snapshots, compare_with_archive, restore};
use crate::state::EventLog;

/// Tasks that end when this is dropped. That one of them ends before is reported to the supervisor.
#[derive(Debug)]
pub(super) struct Background {
    log: EventLog,
    tasks: JoinSet<()>,
}

impl Background {
    /// None yet.
    pub(super) fn new(log: EventLog) -> Self {
        Self { log, tasks: JoinSet::new() }
    }

    /// Starts one.
    pub(super) fn spawn(&mut self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(self.log.supervisor().watch(name, endless(work)));
    }

    /// Starts one that one replica at a time may do.
    fn spawn_alone<W: Future<Output = ()> + Send + 'static>(
        &mut self,
        name: &'static str,
        work: impl Fn(EventLog) -> W + Send + 'static,
    ) {
        self.spawn(name, alone(self.log.clone(), work));
    }

    /// Moves old segments of the journal into the bucket.
    pub(super) fn keep_journal(&mut self, bucket: &Bucket, keep: Duration) {
        let bucket = bucket.clone();
        self.spawn_alone("journal retention", move |log| run_retention(log, bucket.clone(), keep));
    }

    /// What there is to do where replicas share the log; nothing where they don't.
    pub(super) fn share_log(&mut self, bucket: &Bucket, keys: &ArchiveKeys, data_dir: &Path) {
        let Some(cluster) = self.log.cluster().cloned() else { return };
        let (member, log) = (cluster.clone(), self.log.clone());
        self.spawn("membership of the cluster", async move { member.run().await });
        self.spawn("journal copy", trim_copy(log));
        let (snapshots, data_dir) = (Snapshots::new(bucket.clone(), keys.clone(), cluster), data_dir.to_owned());
        self.spawn_alone("snapshot maker", move |log| {
            let (snapshots, data_dir) = (snapshots.clone(), data_dir.clone());
            async move { snapshots.run(log, &data_dir, Intake::parse_callback).await }
        });
    }

    /// Keeps quarantine within its bounds.
    pub(super) fn bound_quarantine(&mut self, intake: &Intake) {
        let intake = intake.clone();
        self.spawn_alone("quarantine keeper", move |_| {
            let intake = intake.clone();
            async move { intake.bound_quarantine().await }
        });
    }

    /// Counts repeated callbacks that came too fast to be counted one by one.
    pub(super) fn count_repeats(&mut self, intake: &Intake) {
        let intake = intake.clone();
        self.spawn("repeat counter", async move { intake.count_repeats().await });
    }

    /// Asks the provider about jobs it has not told the end of.
    pub(super) fn reconcile(&mut self, reconciler: Reconciler) {
        self.spawn_alone("reconciler", move |_| {
            let reconciler = reconciler.clone();
            async move { reconciler.run().await }
        });
    }

    /// Sees to it that connections are accepted at all addresses.
    pub(super) fn watch_listeners(&mut self, addresses: Vec<SocketAddr>) {
        self.tasks.spawn(self.log.supervisor().watch("HTTP acceptor", listening::watch(addresses)));
    }
}

/// Between two tries to read all manifests: each lists the whole bucket, also when one object is refused for good.
const LONGEST_RESTORE_PAUSE: Duration = Duration::from_secs(3600);

/// Does what one replica at a time may do: while this one has the first shard.
async fn alone<W: Future<Output = ()> + Send>(log: EventLog, work: impl Fn(EventLog) -> W + Send) {
    let Some(cluster) = log.cluster().cloned() else { return work(log).await };
    let mut changes = cluster.shares().changes();
    loop {
        changes.mark_unchanged();
        if let Some(share) = cluster.shares().enter(0) {
            let log = log.fenced(Some(share.fence()));
            let is_over = async {
                while cluster.shares().held().0 == share.fence() && cluster.shares().held().1 & 1 != 0 {
                    if changes.changed().await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                // It ends by itself when the service stops.
                () = work(log) => return,
                () = is_over => {}
            }
        } else if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Removes from the copy here what left the shared log, once the state does not need it.
async fn trim_copy(log: EventLog) {
    const EVERY: Duration = Duration::from_secs(10);
    log.recovered().await;
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(error) = repair::trim_copy(&log).await {
            tracing::debug!(%error, "what left the shared log cannot be removed here yet");
        }
    }
}

/// Takes from the bucket what is missing in the journal, then moves the journal's old segments there.
#[expect(
    clippy::manual_async_fn,
    reason = "that it may move between threads is said here, and not worked out by its caller"
)]
fn run_retention(log: EventLog, bucket: Bucket, keep: Duration) -> impl Future<Output = ()> + Send {
    async move {
        log.recovered().await;
        // Another bucket tells of nothing, and nothing may move there. The worker says why, if that is so.
        let holds_objects = || log.state().counters().map_or(true, |counters| counters.objects > 0);
        while bucket.identify(holds_objects()).await.is_err() {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        // What a crash left of a segment on its way. Nobody but what follows writes there.
        if let Err(error) = bucket.remove_staging(&ObjectFolder::journal(), &[]).await {
            tracing::warn!(%error, "what a crash left among the archived segments cannot be removed");
        }
        if log.cluster().is_some() {
            // What the shared log lacks, the state was made of with what the bucket has.
            return Retention::new(log, Intake::parse_callback, keep).run().await;
        }
        if compare_with_archive(&log).await.is_none() {
            return;
        }
        let is_restored = restore_if_pending(log.clone(), bucket.clone()).await;
        // One manifest that cannot be read must not keep the journal from moving.
        let retention = Retention::new(log.clone(), Intake::parse_callback, keep).run();
        tokio::join!(keep_restored(log, bucket, is_restored), retention);
    }
}

/// Reads the bucket's manifests again until all of them were, and whenever the state was brought up to date since: it may then
/// be made anew of less than there was. Never ends.
async fn keep_restored(log: EventLog, bucket: Bucket, mut is_restored: bool) {
    let mut failures = 0;
    loop {
        if is_restored {
            log.state().reopened().await;
            failures = 0;
        } else {
            tokio::time::sleep(jittered(doubling(failures, LONGEST_RESTORE_PAUSE))).await;
            failures += 1;
        }
        is_restored = restore_if_pending(log.clone(), bucket.clone()).await;
    }
}

/// Reads the bucket's manifests, if that is to be done. Returns whether it no longer is.
fn restore_if_pending(log: EventLog, bucket: Bucket) -> impl Future<Output = bool> + Send {
    let pending = PendingRestore::of(&log);
    async move {
        if !pending.is_there() {
            return true;
        }
        let restored = restore(&log, &bucket, Intake::parse_callback, &AtomicU64::default()).await;
        match restored {
            Ok(jobs) => tracing::info!(jobs, "what the journal lacks was looked for in the bucket's manifests"),
            Err(error) => {
                tracing::error!(%error, "the bucket's manifests were not all read: it is tried again");
                return false;
            }
        }
        match tokio::task::spawn_blocking(move || pending.clear(&log)).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "that the bucket's manifests were read cannot be kept: it is tried again");
                false
            }
            Err(_) => false,
        }
    }
}
