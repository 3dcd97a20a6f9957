//! The first thread where the log is shared: appends what waits to the log in PostgreSQL, reads what others append, copies
//! all of it in its order, and hands it on to be folded in.
//!
//! While the log is away, callbacks are kept here ([`Outage`]) and answered; whatever else is recorded fails. A batch whose
//! connection is lost is looked for under its number before anything is appended again.
//!
//! [`link`] connects and says whether the log takes entries, `append` puts own entries into it or keeps them here, `follow`
//! reads what others append.

mod append;
mod follow;
mod link;

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use self::link::{Away, Link};
use super::apply::FoldState;
use super::fair_queue::FairQueue;
use super::outage::Outage;
use super::{
    AppendRequest, BATCH_BYTES, FoldCommand, Health, LogCommand, MAX_SORTED_REQUESTS, ParseCallback, RecordError,
    sender, size,
};
use crate::cluster::{Cluster, ClusterError};
use crate::domain::Target;
use crate::journal::{JournalError, Mirror};
use crate::state::StateError;

/// How long the log may be away before callbacks are kept here: a connection that is made anew takes less.
const HOLD: Duration = Duration::from_secs(1);
/// Whoever is behind by more bytes of log copies them first.
const FAR: u64 = 32 << 20;
/// Between two looks for what others append, while they do and while they do not.
const POLL: std::ops::RangeInclusive<Duration> = Duration::from_millis(5)..=Duration::from_millis(200);

/// Why the thread ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum SharedLogError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("another process is a member of the cluster under the name of this replica: is the data directory a copy?")]
    Displaced,
    #[error(
        "the log has an entry at {0} of a type that this version does not know: expected a later version of replyvault"
    )]
    Unknown(u64),
    #[error(
        "the log in PostgreSQL lacks what this replica has read from it ({0}): was an older copy put back, or a standby \
         promoted that lacked commits? Remove `journal` and `state` from the data directory to follow what is there"
    )]
    LogLost(String),
    #[error("the service stops")]
    Stopping,
}

/// What the thread has.
pub(super) struct SharedLog {
    pub(super) cluster: Cluster,
    pub(super) mirror: Mirror,
    pub(super) outage: Outage,
    pub(super) parse_callback: ParseCallback,
    pub(super) folding: FoldState,
    pub(super) batches: SyncSender<FoldCommand>,
    pub(super) health: Arc<Health>,
}

struct Run {
    log: SharedLog,
    link: Link,
    /// While the log takes nothing.
    away: Option<Away>,
    /// Whether this process has been a member.
    has_joined: bool,
    /// The number of the last batch.
    serial: u64,
    /// A batch of which it is not known whether the log has it.
    doubtful: Option<(u64, Vec<AppendRequest>)>,
    /// What is to be appended before anything else.
    retry_first: Vec<AppendRequest>,
    /// The last record of the copy.
    last: Option<(u64, Bytes)>,
    /// Up to where the log is copied without being folded in: all of it is then folded in at once, which takes a fraction of the
    /// time.
    copy_to: u64,
    poll: Duration,
    poll_at: Instant,
}

/// Runs until nothing more can come in.
pub(super) fn run(log: SharedLog, waiting: mpsc::Receiver<LogCommand>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "the shared log cannot be followed"),
    };
    let last = match follow::last_record(&log.mirror) {
        Ok(last) => last,
        Err(error) => return tracing::error!(%error, "the shared log cannot be followed"),
    };
    let now = Instant::now();
    let run = Run {
        log,
        link: Link::Down { retry_at: now, connecting: None },
        away: Some(Away::new()),
        has_joined: false,
        serial: 0,
        doubtful: None,
        retry_first: Vec::new(),
        last,
        copy_to: 0,
        poll: *POLL.start(),
        poll_at: now,
    };
    match runtime.block_on(run.run(waiting)) {
        Ok(()) | Err(SharedLogError::Stopping) => {}
        Err(error) => tracing::error!(%error, "the shared log cannot be followed"),
    }
}

impl Run {
    async fn run(mut self, mut waiting: mpsc::Receiver<LogCommand>) -> Result<(), SharedLogError> {
        let mut queue = FairQueue::new();
        let mut epochs = self.log.cluster.epoch().subscribe();
        loop {
            self.begin_connecting();
            let is_up = matches!(self.link, Link::Up(_));
            let has_work =
                is_up && (!queue.is_empty() || !self.retry_first.is_empty() || self.log.outage.waiting() > 0);
            let mut closed = waiting.is_closed() && waiting.is_empty();
            let is_over = closed && queue.is_empty();
            if !has_work && !is_over {
                let look_at = self.look_at(queue.is_empty());
                let cluster = self.log.cluster.clone();
                tokio::select! {
                    biased;
                    connected = link::connected(&mut self.link) => self.connected(connected).await?,
                    order = waiting.recv(), if queue.len() < MAX_SORTED_REQUESTS => match order {
                        Some(order) => self.take(order, &mut queue).await?,
                        None => closed = true,
                    },
                    () = cluster.poked() => self.poll_at = Instant::now(),
                    _ = epochs.changed() => {}
                    () = sleep_until(look_at) => {}
                }
            }
            while queue.len() < MAX_SORTED_REQUESTS
                && let Ok(order) = waiting.try_recv()
            {
                self.take(order, &mut queue).await?;
            }
            match &self.link {
                Link::Up(_) => self.work(&mut queue, &waiting).await?,
                Link::Down { .. } if closed || self.away_for() >= HOLD => self.store_locally(&mut queue),
                Link::Down { .. } => {}
            }
            if closed && queue.is_empty() && self.retry_first.is_empty() {
                return self.leave().await;
            }
        }
    }

    async fn take(
        &mut self,
        order: LogCommand,
        queue: &mut FairQueue<Option<Target>, AppendRequest>,
    ) -> Result<(), SharedLogError> {
        match order {
            LogCommand::Record(request) => queue.push(sender(&request), size(&request), *request),
            LogCommand::StartOver => {
                let end = self.log.mirror.end().unwrap_or_default();
                self.enqueue(FoldCommand::Recover { error: StateError::Incomplete, end })?;
            }
            LogCommand::BeginSegment(at_least, answer) => {
                let base = self.log.mirror.segment().map_or(0, |segment| segment.base);
                let begun = match &self.link {
                    Link::Up(connection) => connection.begin_segment(base, at_least, rand::random()).await,
                    Link::Down { .. } => Err(ClusterError::Lost("it is away".to_owned())),
                };
                let _ = answer.send(
                    match begun {
                        Ok(()) => self.follow(u64::MAX).await.map(|_| ()),
                        Err(_) => Err(SharedLogError::Stopping),
                    }
                    .map_err(|_| RecordError::Away),
                );
            }
            LogCommand::RemoveBefore(base, answer) => {
                let cluster = self.log.cluster.clone();
                tokio::spawn(async move {
                    let removed = cluster.remove_before(base).await;
                    let _ = answer.send(removed.map_err(|_| RecordError::Away));
                });
            }
            LogCommand::Oldest(answer) => {
                let oldest = match &self.link {
                    Link::Up(connection) => connection.segments(0, 1).await.ok(),
                    Link::Down { .. } => None,
                };
                let oldest = oldest.and_then(|segments| segments.first().map(|segment| segment.base));
                let _ = answer.send(oldest.ok_or(RecordError::Away));
            }
        }
        Ok(())
    }

    /// One step while the log can be reached.
    async fn work(
        &mut self,
        queue: &mut FairQueue<Option<Target>, AppendRequest>,
        waiting: &mpsc::Receiver<LogCommand>,
    ) -> Result<(), SharedLogError> {
        if self.log.cluster.epoch().borrow().is_none() {
            self.reconnect();
            return Ok(());
        }
        if self.log.outage.waiting() > 0 {
            match self.log.outage.next_chunk(BATCH_BYTES) {
                Ok(Some(chunk)) => {
                    self.drain(chunk).await?;
                    self.log.health.appending.set(None);
                }
                Ok(None) => {}
                Err(error) => self.mark_unavailable(&ClusterError::Outage(error)),
            }
            self.report_health();
            if !matches!(self.link, Link::Up(_)) {
                return Ok(());
            }
        }
        let mut requests = std::mem::take(&mut self.retry_first);
        if requests.is_empty() {
            requests = queue.take(BATCH_BYTES);
        }
        let has_appended = !requests.is_empty();
        if has_appended {
            let began = Instant::now();
            self.append(requests, waiting.is_empty() && queue.is_empty()).await?;
            self.log.health.appending.set(None);
            tracing::trace!(took = ?began.elapsed(), "a batch was appended");
        }
        // An append reads on, too, but where this replica is far behind.
        let reads_on = !has_appended || self.behind() > 0;
        if reads_on && self.poll_at <= Instant::now() && matches!(self.link, Link::Up(_)) {
            self.read_on().await?;
        }
        Ok(())
    }

    fn enqueue(&self, work: FoldCommand) -> Result<(), SharedLogError> {
        self.log.folding.enqueue(work, &self.log.batches).map_err(|_| SharedLogError::Stopping)
    }

    async fn leave(self) -> Result<(), SharedLogError> {
        if let (Link::Up(connection), Some(epoch)) = (&self.link, *self.log.cluster.epoch().borrow())
            && let Err(error) = connection.leave(epoch, self.log.outage.waiting()).await
        {
            tracing::debug!(%error, "the others will notice by themselves that this replica has stopped");
        }
        Ok(())
    }
}
