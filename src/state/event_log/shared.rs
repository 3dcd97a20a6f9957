//! The first thread where the log is shared: appends what waits to the log in PostgreSQL, reads what others append, copies
//! all of it in its order, and hands it on to be folded in.
//!
//! While the log is away, callbacks are kept here ([`Outage`]) and answered; whatever else is recorded fails. A batch whose
//! connection is lost is looked for under its number before anything is appended again.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::apply::FoldState;
use super::fair_queue::FairQueue;
use super::outage::{Chunk, Outage};
use super::{
    AppendRequest, ApplyOutcome, BATCH_BYTES, Batch, FoldCommand, Health, LogCommand, MAX_SORTED_REQUESTS,
    ParseCallback, RecordError, sender, size,
};
use crate::cluster::{
    BatchFate, Cluster, ClusterError, Health as ClusterHealth, Joined, LogConnection, first_position,
};
use crate::domain::Target;
use crate::journal::{
    Durability, Entry, Event, JournalError, MAX_PAYLOAD, Mirror, SegmentStart, Writer, record_length,
};
use crate::state::StateError;

/// How long the log may be away before callbacks are kept here: a connection that is made anew takes less.
const HOLD: Duration = Duration::from_secs(1);
/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(500);
/// Between two looks for what others append, while they do and while they do not.
const POLL: std::ops::RangeInclusive<Duration> = Duration::from_millis(5)..=Duration::from_millis(200);
/// How many records one look reads, and after how many bytes it ends.
const READ_RECORDS: u32 = 2000;
const READ_BYTES: usize = 4 << 20;

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

enum Link {
    Up(LogConnection),
    Down { since: Instant, why: Option<String>, retry_at: Instant, connecting: Option<JoinHandle<Connected>> },
}

type Connected = Result<(LogConnection, Joined, bool), ClusterError>;

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
    /// The number of the last batch.
    serial: u64,
    /// A batch of which it is not known whether the log has it.
    doubtful: Option<(u64, Vec<AppendRequest>)>,
    /// What is to be appended before anything else.
    again: Vec<AppendRequest>,
    /// The last record copied in this run.
    last: Option<(u64, Bytes)>,
    poll: Duration,
    poll_at: Instant,
}

/// Runs until nothing more can come in.
pub(super) fn run(log: SharedLog, waiting: mpsc::Receiver<LogCommand>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "the shared log cannot be followed"),
    };
    let now = Instant::now();
    let link = Link::Down { since: now, why: None, retry_at: now, connecting: None };
    let run =
        Run { log, link, serial: 0, doubtful: None, again: Vec::new(), last: None, poll: *POLL.start(), poll_at: now };
    match runtime.block_on(run.run(waiting)) {
        Ok(()) | Err(SharedLogError::Stopping) => {}
        Err(error) => tracing::error!(%error, "the shared log cannot be followed"),
    }
}

async fn connect(cluster: Cluster, epoch: Option<u64>) -> Connected {
    let base = first_position();
    let first = SegmentStart { base, previous_end: 0, salt: rand::random() };
    let connection = LogConnection::open(&cluster, first).await?;
    if let Some(epoch) = epoch
        && let Some(resumed) = connection.resume(epoch).await?
    {
        return Ok((connection, resumed, false));
    }
    let joined = connection.join(&host_name()).await?;
    Ok((connection, joined, true))
}

fn host_name() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    read.trim().chars().filter(|letter| !letter.is_control()).take(64).collect()
}

impl Run {
    async fn run(mut self, mut waiting: mpsc::Receiver<LogCommand>) -> Result<(), SharedLogError> {
        let mut queue = FairQueue::new();
        let mut epochs = self.log.cluster.epoch().subscribe();
        loop {
            self.begin_connecting();
            let is_up = matches!(self.link, Link::Up(_));
            let has_work = is_up && (!queue.is_empty() || !self.again.is_empty() || self.log.outage.waiting() > 0);
            let mut closed = waiting.is_closed() && waiting.is_empty();
            let is_over = closed && queue.is_empty();
            if !has_work && !is_over {
                let look_at = self.look_at(queue.is_empty());
                let cluster = self.log.cluster.clone();
                tokio::select! {
                    biased;
                    connected = connected(&mut self.link) => self.connected(connected).await?,
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
                Link::Down { since, .. } if since.elapsed() >= HOLD || closed => self.keep_here(&mut queue),
                Link::Down { .. } => {}
            }
            if closed && queue.is_empty() && self.again.is_empty() {
                return self.leave().await;
            }
        }
    }

    /// When to look at what is not told.
    fn look_at(&self, queue_is_empty: bool) -> Instant {
        match &self.link {
            Link::Up(_) => self.poll_at,
            Link::Down { since, retry_at, connecting, .. } => {
                let retry = if connecting.is_some() { *retry_at + Duration::from_secs(3600) } else { *retry_at };
                let keep_at = *since + HOLD;
                let holds = !queue_is_empty || self.doubtful.is_some() || !self.again.is_empty();
                if holds && keep_at > Instant::now() { retry.min(keep_at) } else { retry }
            }
        }
    }

    fn begin_connecting(&mut self) {
        let epoch = *self.log.cluster.epoch().borrow();
        if let Link::Down { retry_at, connecting: connecting @ None, .. } = &mut self.link
            && *retry_at <= Instant::now()
        {
            *connecting = Some(tokio::spawn(connect(self.log.cluster.clone(), epoch)));
        }
    }

    /// A connection was made, or could not be.
    async fn connected(&mut self, connected: Connected) -> Result<(), SharedLogError> {
        let (connection, joined, is_new_epoch) = match connected {
            Ok(connected) => connected,
            // Nothing here gets better by itself, but nothing was lost either: who runs it may mend it.
            Err(error) => {
                self.down(&error);
                return Ok(());
            }
        };
        if let Err(error) = self.check(&connection).await {
            return match error {
                SharedLogError::Cluster(error) => {
                    self.down(&error);
                    Ok(())
                }
                error => Err(error),
            };
        }
        self.serial = joined.serial;
        if is_new_epoch {
            self.log.cluster.shares().lose();
            self.log.cluster.epoch().send_replace(Some(joined.epoch));
        }
        let Link::Down { since, why, .. } = std::mem::replace(&mut self.link, Link::Up(connection)) else {
            return Ok(());
        };
        if why.is_some() {
            tracing::info!(epoch = joined.epoch, away_for = ?since.elapsed(), waiting = self.log.outage.waiting(),
                "the shared log can be reached again");
        } else {
            tracing::info!(
                epoch = joined.epoch,
                replica = self.log.cluster.id(),
                "this replica is a member of the cluster"
            );
        }
        if let Some(serial) = self.log.outage.doubtful() {
            self.log.outage.settle(joined.committed == serial)?;
        }
        self.log.outage.set_drained(joined.drained)?;
        self.tell_health();
        if let Some((serial, requests)) = self.doubtful.take() {
            if joined.committed == serial {
                self.appended(joined.start, requests).await?;
            } else {
                self.again = requests;
            }
        }
        self.poll_at = Instant::now();
        Ok(())
    }

    /// Whether the log still has what was copied from it, and the copy follows on.
    async fn check(&mut self, connection: &LogConnection) -> Result<(), SharedLogError> {
        let Some(oldest) = connection.segments(0, 1).await?.first().copied() else {
            return Err(ClusterError::Damaged("it has no segment".to_owned()).into());
        };
        let (Some(known), Some(end)) = (self.log.mirror.segment(), self.log.mirror.end()) else {
            self.log.mirror.begin(oldest)?;
            if oldest.previous_end > 0 {
                // What stands before it is in the archive.
                self.enqueue(FoldCommand::Recover { error: StateError::Behind, end: 0 })?;
            }
            return Ok(());
        };
        if known.base < oldest.base {
            if end < oldest.previous_end {
                tracing::info!(from = end, to = oldest.base, "what this replica has missed is in the bucket");
            }
            if end <= oldest.previous_end {
                self.log.mirror.begin(oldest)?;
                self.enqueue(FoldCommand::Recover { error: StateError::Behind, end: 0 })?;
                return Ok(());
            }
        }
        let found = connection.segments(known.base - 1, 1).await?;
        if found.first().is_none_or(|found| (found.base, found.salt) != (known.base, known.salt)) {
            return Err(SharedLogError::LogLost(format!("the segment at {}", known.base)));
        }
        let head = connection.head().await?;
        if head < end && end > known.first() {
            return Err(SharedLogError::LogLost(format!("what stands from {head} to {end}")));
        }
        if let Some((position, payload)) = &self.last
            && *position >= known.base
            && connection.record_at(*position).await?.is_none_or(|found| found != **payload)
        {
            return Err(SharedLogError::LogLost(format!("the record at {position}")));
        }
        Ok(())
    }

    fn down(&mut self, error: &ClusterError) {
        let now = Instant::now();
        let since = match &self.link {
            Link::Down { since, .. } => *since,
            Link::Up(_) => now,
        };
        let was_known = matches!(&self.link, Link::Down { why: Some(_), .. });
        if !was_known {
            tracing::error!(%error, "the shared log is away: callbacks are kept here, everything else waits");
        } else {
            tracing::debug!(%error, "the shared log is still away");
        }
        self.link = Link::Down { since, why: Some(error.to_string()), retry_at: now + RETRY, connecting: None };
        self.tell_health();
    }

    fn tell_health(&self) {
        let away = match &self.link {
            Link::Up(_) => None,
            Link::Down { why, .. } => Some(why.clone().unwrap_or_else(|| "it is being connected to".to_owned())),
        };
        self.log.cluster.set_health(ClusterHealth { away, waiting: self.log.outage.waiting() });
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
                        Ok(()) => self.follow(u64::MAX).await,
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
        if self.log.cluster.epoch().borrow().is_none() && !self.rejoin().await {
            return Ok(());
        }
        if self.log.outage.waiting() > 0 {
            if let Some(chunk) = self.log.outage.next_chunk(BATCH_BYTES)? {
                self.drain(chunk).await?;
            }
            self.tell_health();
        }
        let mut requests = std::mem::take(&mut self.again);
        if requests.is_empty() {
            requests = queue.take(BATCH_BYTES);
        }
        if !requests.is_empty() {
            let began = Instant::now();
            self.append(requests, waiting.is_empty() && queue.is_empty()).await?;
            self.log.health.appending.set(None);
            tracing::trace!(took = ?began.elapsed(), "a batch was appended");
        } else if self.poll_at <= Instant::now() {
            let before = self.log.mirror.end();
            match self.follow(u64::MAX).await {
                Ok(()) => {}
                Err(SharedLogError::Cluster(error)) if !matches!(error, ClusterError::Damaged(_)) => self.down(&error),
                Err(error) => return Err(error),
            }
            let is_new = self.log.mirror.end() != before;
            self.poll = if is_new { *POLL.start() } else { (self.poll * 2).min(*POLL.end()) };
            self.poll_at = Instant::now() + self.poll.mul_f64(0.75 + rand::random::<f64>() / 2.0);
        }
        Ok(())
    }

    async fn rejoin(&mut self) -> bool {
        let Link::Up(connection) = &self.link else { return false };
        match connection.join(&host_name()).await {
            Ok(joined) => {
                tracing::info!(epoch = joined.epoch, "this replica is a member of the cluster again");
                self.serial = joined.serial;
                self.log.cluster.shares().lose();
                self.log.cluster.epoch().send_replace(Some(joined.epoch));
                true
            }
            Err(error) => {
                self.down(&error);
                false
            }
        }
    }

    /// Appends a batch. What carries the fence of an epoch that is over is refused.
    async fn append(&mut self, mut requests: Vec<AppendRequest>, nobody_waits: bool) -> Result<(), SharedLogError> {
        loop {
            let Some(epoch) = *self.log.cluster.epoch().borrow() else {
                self.again = requests;
                return Ok(());
            };
            requests = refuse(requests, epoch);
            if requests.is_empty() {
                return Ok(());
            }
            let payloads: Vec<Bytes> = requests.iter().map(|request| request.entry.to_payload().into()).collect();
            let serial = self.serial + 1;
            let Link::Up(connection) = &self.link else {
                self.again = requests;
                return Ok(());
            };
            self.log.health.appending.set(Some(std::time::Instant::now()));
            match connection.append(epoch, serial, &payloads, 0).await {
                Ok(Some(appended)) => {
                    self.serial = serial;
                    return self.appended_with(appended.start, requests, payloads, nobody_waits).await;
                }
                Ok(None) => match connection.fate(epoch, serial).await {
                    Ok(BatchFate::Appended(start)) => {
                        self.serial = serial;
                        return self.appended_with(start, requests, payloads, nobody_waits).await;
                    }
                    Ok(BatchFate::Not(serial)) => self.serial = serial,
                    Ok(BatchFate::Expelled) => {
                        tracing::warn!(epoch, "this replica was expelled: what it had under way is refused");
                        self.log.cluster.shares().lose();
                        self.log.cluster.epoch().send_replace(None);
                        self.again = requests;
                        return Ok(());
                    }
                    Ok(BatchFate::Displaced) => return Err(SharedLogError::Displaced),
                    Err(error) => {
                        self.doubtful = Some((serial, requests));
                        self.down(&error);
                        return Ok(());
                    }
                },
                Err(error) if error.is_definite() => {
                    self.again = requests;
                    self.down(&error);
                    return Ok(());
                }
                Err(error) => {
                    self.doubtful = Some((serial, requests));
                    self.down(&error);
                    return Ok(());
                }
            }
        }
    }

    /// A batch is in the log.
    async fn appended(&mut self, start: u64, requests: Vec<AppendRequest>) -> Result<(), SharedLogError> {
        let payloads = requests.iter().map(|request| request.entry.to_payload().into()).collect();
        self.appended_with(start, requests, payloads, false).await
    }

    async fn appended_with(
        &mut self,
        start: u64,
        requests: Vec<AppendRequest>,
        payloads: Vec<Bytes>,
        nobody_waits: bool,
    ) -> Result<(), SharedLogError> {
        match self.follow(start).await {
            Ok(()) => {}
            Err(SharedLogError::Cluster(error)) if !matches!(error, ClusterError::Damaged(_)) => {
                // It is read like what others append, once the log can be reached.
                for request in requests {
                    let _ = request.answer.send(Ok(ApplyOutcome::Deferred));
                }
                self.down(&error);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        if self.log.mirror.end().is_some_and(|end| end > start) {
            // It was read already.
            requests.into_iter().for_each(|request| drop(request.answer.send(Ok(ApplyOutcome::Deferred))));
            return Ok(());
        }
        self.copy(start, &payloads).await?;
        let mut position = start;
        let mut placed = Vec::with_capacity(requests.len());
        for (request, payload) in requests.into_iter().zip(&payloads) {
            placed.push((position, request));
            position += record_length(payload.len());
        }
        let batch = Batch { requests: placed, end: position };
        let rest = if nobody_waits { self.log.folding.fold_if_idle(batch) } else { Some(FoldCommand::Fold(batch)) };
        rest.map_or(Ok(()), |work| self.enqueue(work))?;
        let base = self.log.mirror.segment().map_or(0, |segment| segment.base);
        if position - base >= Writer::SEGMENT_SIZE
            && let Link::Up(connection) = &self.link
            && let Err(error) = connection.begin_segment(base, 0, rand::random()).await
        {
            tracing::debug!(%error, "the next segment cannot be begun yet");
        }
        Ok(())
    }

    /// Reads what others have appended, up to `until`, and copies it.
    async fn follow(&mut self, until: u64) -> Result<(), SharedLogError> {
        loop {
            let Some(from) = self.log.mirror.end() else {
                return Err(ClusterError::Damaged("it has no segment".to_owned()).into());
            };
            if from >= until {
                return Ok(());
            }
            let Link::Up(connection) = &self.link else {
                return Err(ClusterError::Lost("it is away".to_owned()).into());
            };
            let mut records = Vec::new();
            let mut bytes = 0;
            let mut rows = connection.read(from, READ_RECORDS).await?;
            let mut is_all = true;
            while let Some(row) = rows.next().await {
                let (position, payload) = row?;
                if position >= until {
                    break;
                }
                bytes += payload.len();
                records.push((position, payload));
                if bytes >= READ_BYTES || records.len() == READ_RECORDS as usize {
                    is_all = false;
                    break;
                }
            }
            drop(rows);
            let is_empty = records.is_empty();
            self.copy_records(records).await?;
            if until == u64::MAX {
                if is_all {
                    if is_empty {
                        self.begin_segments(None).await?;
                    }
                    return Ok(());
                }
            } else if is_empty {
                self.begin_segments(Some(until)).await?;
            }
        }
    }

    async fn copy_records(&mut self, records: Vec<(u64, Bytes)>) -> Result<(), SharedLogError> {
        let mut records = records.into_iter().peekable();
        while let Some((first, _)) = records.peek() {
            let first = *first;
            if self.log.mirror.end() != Some(first) {
                self.begin_segments(Some(first)).await?;
            }
            let (mut position, mut payloads, mut requests) = (first, Vec::new(), Vec::new());
            while let Some((at, payload)) = records.next_if(|(at, _)| *at == position) {
                let Some(entry) = Entry::from_payload(&payload) else { return Err(SharedLogError::Unknown(at)) };
                position += record_length(payload.len());
                requests.push((at, self.request_of_another(entry)));
                payloads.push(payload);
            }
            self.copy(first, &payloads).await?;
            self.enqueue(FoldCommand::Fold(Batch { requests, end: position }))?;
        }
        Ok(())
    }

    /// Nobody waits here for what another replica appended.
    fn request_of_another(&self, entry: Entry) -> AppendRequest {
        let parsed = match &entry {
            Entry::Callback(callback) => Some((self.log.parse_callback)(&callback.body)),
            Entry::Event(_) | Entry::Kept(_) => None,
        };
        AppendRequest { entry, parsed, durability: Durability::Buffered, fence: None, answer: oneshot::channel().0 }
    }

    /// Begins the segments that follow the end of the copy; with `until`, they must lead there.
    async fn begin_segments(&mut self, until: Option<u64>) -> Result<(), SharedLogError> {
        const PAGE: u32 = 16;
        loop {
            let (Some(known), Some(end)) = (self.log.mirror.segment(), self.log.mirror.end()) else { return Ok(()) };
            if until == Some(end) {
                return Ok(());
            }
            let Link::Up(connection) = &self.link else {
                return Err(ClusterError::Lost("it is away".to_owned()).into());
            };
            let next = connection.segments(known.base, PAGE).await?.first().copied();
            match next.filter(|next| next.previous_end == end && until.is_none_or(|until| next.first() <= until)) {
                Some(next) => self.log.mirror.begin(next)?,
                None if until.is_none() => return Ok(()),
                None => {
                    let hole = format!("nothing follows on from position {end}");
                    return Err(ClusterError::Damaged(hole).into());
                }
            }
        }
    }

    /// Copies records to the end, for as long as the disk takes.
    async fn copy(&mut self, first: u64, payloads: &[Bytes]) -> Result<(), SharedLogError> {
        loop {
            if self.log.mirror.end() != Some(first) {
                return Err(ClusterError::Damaged(format!("the copy does not follow on at {first}")).into());
            }
            match self.log.mirror.append(payloads.iter().map(AsRef::as_ref)) {
                Ok(()) => break,
                Err(error @ (JournalError::Taken(_) | JournalError::TooLarge(_))) => return Err(error.into()),
                Err(error) => {
                    tracing::error!(%error, "the shared log cannot be copied to this disk: it is tried again");
                    self.set_failure(Some(error.to_string()));
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
        self.set_failure(None);
        let last = payloads.last().map(|payload| payload.len());
        if let (Some(last), Some(end)) = (last, self.log.mirror.end()) {
            self.last = payloads.last().map(|payload| (end - record_length(last), payload.clone()));
        }
        Ok(())
    }

    fn set_failure(&self, failure: Option<String>) {
        *self.log.health.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = failure;
    }

    /// Appends what was kept here.
    async fn drain(&mut self, chunk: Chunk) -> Result<(), SharedLogError> {
        let (Some(epoch), Link::Up(connection)) = (*self.log.cluster.epoch().borrow(), &self.link) else {
            return Ok(());
        };
        let payloads: Vec<Bytes> = chunk.entries.iter().map(|entry| entry.to_payload().into()).collect();
        let serial = self.serial + 1;
        let appended = match connection.append(epoch, serial, &payloads, chunk.end).await {
            Ok(Some(appended)) => Ok(appended.start),
            // Read again from where the log says it is.
            Ok(None) => Err(ClusterError::Lost("the batch was not taken".to_owned())),
            Err(error) => Err(error),
        };
        match appended {
            Ok(start) => {
                self.serial = serial;
                self.log.outage.chunk_drained(&chunk)?;
                let requests = chunk.entries.into_iter().map(|entry| self.request_of_another(entry)).collect();
                self.appended_with(start, requests, payloads, false).await
            }
            Err(error) => {
                self.down(&error);
                Ok(())
            }
        }
    }

    /// Keeps callbacks on this disk, and refuses the rest.
    fn keep_here(&mut self, queue: &mut FairQueue<Option<Target>, AppendRequest>) {
        if let Some((serial, requests)) = self.doubtful.take() {
            let (callbacks, others) = split(requests);
            let entries = callbacks.iter().map(|request| request.entry.clone()).collect();
            let kept = self.log.outage.keep_doubtful(serial, entries);
            self.answer_kept(kept, callbacks);
            refuse_away(others);
        }
        let again = std::mem::take(&mut self.again);
        let mut requests = again;
        while !requests.is_empty() || !queue.is_empty() {
            let (callbacks, others) = split(requests);
            if !callbacks.is_empty() {
                let kept = self.log.outage.keep(callbacks.iter().map(|request| &request.entry));
                self.answer_kept(kept, callbacks);
            }
            refuse_away(others);
            requests = queue.take(BATCH_BYTES);
        }
        self.tell_health();
    }

    fn answer_kept(&self, kept: Result<(), JournalError>, callbacks: Vec<AppendRequest>) {
        self.set_failure(kept.as_ref().err().map(ToString::to_string));
        if let Err(error) = &kept {
            tracing::error!(%error, "the shared log is away and this disk refuses: callbacks are answered 503");
        }
        let kept = kept.map_err(Arc::new);
        for request in callbacks {
            let answer = kept.clone().map(|()| ApplyOutcome::Deferred).map_err(RecordError::Journal);
            let _ = request.answer.send(answer);
        }
    }

    fn enqueue(&self, work: FoldCommand) -> Result<(), SharedLogError> {
        self.log.folding.enqueue(work, &self.log.batches).map_err(|_| SharedLogError::Stopping)
    }

    async fn leave(self) -> Result<(), SharedLogError> {
        if let (Link::Up(connection), Some(epoch)) = (&self.link, *self.log.cluster.epoch().borrow())
            && let Err(error) = connection.leave(epoch).await
        {
            tracing::debug!(%error, "the others will notice by themselves that this replica has stopped");
        }
        Ok(())
    }
}

/// Resolves when the connection that is being made is made, or cannot be; never while none is.
async fn connected(link: &mut Link) -> Connected {
    match link {
        Link::Down { connecting: Some(connecting), .. } => {
            connecting.await.unwrap_or_else(|error| Err(ClusterError::Lost(error.to_string())))
        }
        _ => std::future::pending().await,
    }
}

/// Refuses what carries the fence of another epoch, or is too large. Gives back the rest.
fn refuse(requests: Vec<AppendRequest>, epoch: u64) -> Vec<AppendRequest> {
    let mut good = Vec::with_capacity(requests.len());
    for request in requests {
        let bytes = if let Entry::Callback(callback) = &request.entry { callback.body.len() } else { 0 };
        if request.fence.is_some_and(|fence| fence != epoch) {
            tracing::warn!(fence = request.fence, epoch, "an entry was refused: its replica was expelled meanwhile");
            let _ = request.answer.send(Err(RecordError::Fenced));
        } else if bytes + 1024 > MAX_PAYLOAD {
            let _ = request.answer.send(Err(RecordError::Journal(Arc::new(JournalError::TooLarge(bytes)))));
        } else {
            good.push(request);
        }
    }
    good
}

/// Callbacks, and whatever else.
fn split(requests: Vec<AppendRequest>) -> (Vec<AppendRequest>, Vec<AppendRequest>) {
    requests.into_iter().partition(|request| matches!(request.entry, Entry::Callback(_)))
}

fn refuse_away(requests: Vec<AppendRequest>) {
    for request in requests {
        // Its callback is kept as a whole then.
        let is_repeat = matches!(request.entry, Entry::Event(Event::Repeated { .. }));
        let _ = request.answer.send(if is_repeat { Ok(ApplyOutcome::Unknown) } else { Err(RecordError::Away) });
    }
}
