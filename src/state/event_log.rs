//! The one way into the state: journal first, then fold, in the same order.
//!
//! Two threads share the work. The first takes what waits, a share for each URL that it came over, appends it in one write and
//! one sync (group commit), and hands the batch on; the second folds the batch in and answers those who wait, while the first
//! is already writing the next. When there is no next, and the second has nothing to do, the first folds in itself: one thread
//! less to wake. An answer therefore means: on disk, and visible to readers.
//!
//! At the start, and when the store fails, the second thread brings the store up to date from the journal, or makes it
//! anew. Journalling goes on meanwhile: what comes in is answered with [`ApplyOutcome::Deferred`], and found in the journal
//! before the store is given to readers again.

mod append;
mod apply;
mod fair_queue;
mod outage;
mod shared;
mod watchdog;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use self::apply::{FoldState, FoldThread};
use self::outage::Outage;
use super::fold::{ApplyOutcome, ParseCallback, ParsedCallback};
use super::open::{Aside, Opened, Recovery, RecoveryError};
use super::stopwatch::Stopwatch;
use super::{State, StateError};
use crate::cluster::{Cluster, first_position};
use crate::domain::Target;
use crate::journal::{Durability, Entry, Event, Journal, JournalError, Mirror, Standing, Writer};
use crate::supervisor::Supervisor;

/// Why an entry was not recorded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RecordError {
    /// The journal refused it; nothing is kept.
    #[error("{0}")]
    Journal(Arc<JournalError>),
    /// The service is stopping; nothing is kept.
    #[error("the service is stopping")]
    Stopping,
    /// The shared log cannot be reached: what was to be recorded may yet turn out to be.
    #[error("the shared log cannot be reached")]
    Away,
    /// Another replica has taken over what this was about; nothing is kept.
    #[error("another replica has taken this over")]
    Fenced,
}

/// The way to record. Cheap to clone; recording goes on until [`EventLog::close`].
#[derive(Clone, Debug)]
pub struct EventLog {
    journal: Journal,
    state: State,
    parse_callback: ParseCallback,
    sender: Arc<Mutex<Option<mpsc::Sender<LogCommand>>>>,
    health: Arc<Health>,
    recovered: watch::Receiver<Recovered>,
    /// Whether the archive may have more than what was here at the start, and the state lack it.
    awaits_archive: Arc<AtomicBool>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
    supervisor: Supervisor,
    /// What is recorded through this handle carries it.
    fence: Option<u64>,
}

/// How the journal's thread fares.
#[derive(Debug, Default)]
struct Health {
    /// What the last append failed with.
    failure: Mutex<Option<String>>,
    appending: Stopwatch,
}

/// How the second thread has brought the store up to date.
#[derive(Clone, Debug, Default)]
struct Recovered {
    /// How it did the last time; `None` until then.
    recovery: Option<Recovery>,
    /// Requests to make the store anew that are fulfilled.
    starts_over: u64,
}

/// What the first thread is to do.
#[derive(Debug)]
enum LogCommand {
    Record(Box<AppendRequest>),
    /// Begin the next segment, there or behind.
    BeginSegment(u64, oneshot::Sender<Result<(), RecordError>>),
    /// Have the state made anew.
    StartOver,
    /// Take the segments before this one out of the shared log.
    RemoveBefore(u64, oneshot::Sender<Result<(), RecordError>>),
    /// The oldest segment that the shared log has.
    Oldest(oneshot::Sender<Result<u64, RecordError>>),
}

#[derive(Debug)]
struct AppendRequest {
    entry: Entry,
    parsed: Option<ParsedCallback>,
    durability: Durability,
    /// The epoch in which this replica has the right to record it, where it needs one.
    fence: Option<u64>,
    answer: oneshot::Sender<Result<ApplyOutcome, RecordError>>,
}

/// What the second thread is to do.
#[derive(Debug)]
enum FoldCommand {
    Fold(Batch),
    /// The first could not fold in a batch that ends there.
    Recover {
        error: StateError,
        end: u64,
    },
}

/// Entries that are in the journal, with their positions.
#[derive(Debug)]
struct Batch {
    requests: Vec<(u64, AppendRequest)>,
    end: u64,
}

/// How many entries may wait for the journal; beyond it, callers wait.
const MAX_QUEUED_COMMANDS: usize = 1024;
/// How many of them the first thread sorts by where they come from, at most.
const MAX_SORTED_REQUESTS: usize = 4096;
/// How many bytes of bodies, and of what is parsed of them, one write takes up, about: little enough that the next, with a
/// share for everybody, is soon.
const BATCH_BYTES: usize = 1 << 20;
/// For how long a stop waits until the store has what is folded in.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// How many written batches may wait to be folded in.
const MAX_QUEUED_BATCHES: usize = 4;

impl EventLog {
    /// Opens the state in `dir`, a view of `journal`, and starts the threads. Entries are taken at once; the state can be
    /// read when [`EventLog::recovered`] resolves.
    ///
    /// # Errors
    /// When the end of the journal cannot be read, or a thread not be started. A state that cannot be opened is tried again.
    pub fn open(journal: Journal, dir: &Path, parse_callback: ParseCallback) -> Result<Self, RecoveryError> {
        // Who may not write must not touch the state either: it is somebody's.
        let mut writer = Writer::new(journal.clone(), first_position())?;
        let (state, opened, aside) = open_state(dir, None);
        writer.begin_behind(opened.as_ref().map_or(0, |opened| opened.applied))?;
        let log = Self::start(journal, state, opened, aside, parse_callback, |parts| {
            let StartedParts { receiver, folding, batches, health, .. } = parts;
            append::run(writer, receiver, &folding, &batches, &health);
        })?;
        log.awaits_archive.store(true, Ordering::Release);
        Ok(log)
    }

    /// Opens the state in `dir`, a view of the log that `cluster` shares, of which `journal` is to be the copy here. While the
    /// log is away, callbacks are kept in `outage`.
    ///
    /// # Errors
    /// As for [`EventLog::open`].
    pub fn open_shared(
        journal: Journal,
        dir: &Path,
        outage: &Path,
        cluster: Cluster,
        parse_callback: ParseCallback,
    ) -> Result<Self, RecoveryError> {
        let mirror = Mirror::open(journal.clone())?;
        let outage = Outage::open(outage)?;
        let (state, opened, aside) = open_state(dir, Some(cluster.clone()));
        Self::start(journal, state, opened, aside, parse_callback, move |parts| {
            let StartedParts { receiver, folding, batches, health } = parts;
            let log = shared::SharedLog { cluster, mirror, outage, parse_callback, folding, batches, health };
            shared::run(log, receiver);
        })
    }

    /// Starts the threads, the first of which does `commit`.
    fn start(
        journal: Journal,
        state: State,
        opened: Option<Opened>,
        aside: Aside,
        parse_callback: ParseCallback,
        commit: impl FnOnce(StartedParts) + Send + 'static,
    ) -> Result<Self, RecoveryError> {
        let supervisor = Supervisor::new();
        let (sender, receiver) = mpsc::channel(MAX_QUEUED_COMMANDS);
        let (batches, batch_receiver) = sync_channel(MAX_QUEUED_BATCHES);
        let health = Arc::<Health>::default();
        let (recovery_sender, recovered) = watch::channel(Recovered::default());
        let folding = FoldState { state: state.clone(), behind: Arc::new(AtomicUsize::new(1)) };
        let parts = StartedParts { receiver, folding: folding.clone(), batches, health: health.clone() };
        // The second thread ends when nobody can send it anything: after the first has said that it ended.
        let kept = parts.batches.clone();
        let commit = supervisor.thread("journal thread", kept, move |_| commit(parts));
        let folder = FoldThread { folding, journal: journal.clone(), parse_callback, recovered: recovery_sender };
        let apply = supervisor.thread("state thread", (), move |()| folder.run(opened, aside, &batch_receiver));
        watchdog::start(&state, &supervisor).map_err(RecoveryError::Thread)?;
        Ok(Self {
            journal,
            state,
            parse_callback,
            sender: Arc::new(Mutex::new(Some(sender))),
            health,
            recovered,
            awaits_archive: Arc::default(),
            threads: Arc::new(Mutex::new(vec![
                commit.map_err(RecoveryError::Thread)?,
                apply.map_err(RecoveryError::Thread)?,
            ])),
            supervisor,
            fence: None,
        })
    }

    /// The same log for whoever acts in an epoch: what is recorded through this is refused once the epoch is over. It is not,
    /// where `fence` is `None`.
    #[must_use]
    pub fn fenced(&self, fence: Option<u64>) -> Self {
        Self { fence, ..self.clone() }
    }

    /// The other replicas, where there may be any.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.state.cluster()
    }

    /// Takes the segments before `base` out of the shared log: they are in the archive. Nothing where none is shared.
    ///
    /// # Errors
    /// When the log cannot be reached.
    pub async fn remove_before(&self, base: u64) -> Result<(), RecordError> {
        if self.cluster().is_none() {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        self.send(LogCommand::RemoveBefore(base, answer)).await?;
        answered.await.unwrap_or(Err(RecordError::Stopping))
    }

    /// The base of the oldest segment that the shared log still has.
    ///
    /// # Errors
    /// When the log cannot be reached, or none is shared.
    pub async fn oldest_shared(&self) -> Result<u64, RecordError> {
        let (answer, answered) = oneshot::channel();
        self.send(LogCommand::Oldest(answer)).await?;
        answered.await.unwrap_or(Err(RecordError::Stopping))
    }

    /// How the store was brought up to date with the journal, as soon as it is. `None` when the service stops before.
    pub async fn recovered(&self) -> Option<Recovery> {
        let mut recovered = self.recovered.clone();
        let found = recovered.wait_for(|recovered| recovered.recovery.is_some()).await.ok()?;
        found.recovery.clone()
    }

    /// Records a callback: durable and folded in when this returns.
    ///
    /// # Errors
    /// When the journal refuses it or the service is stopping; then nothing is kept.
    pub async fn record_callback(&self, entry: Entry, parsed: ParsedCallback) -> Result<ApplyOutcome, RecordError> {
        self.submit(entry, Some(parsed), Durability::Synced).await
    }

    /// Records an event: at least as durable as `durability` says, and folded in, when this returns.
    ///
    /// # Errors
    /// As for [`EventLog::record_callback`].
    pub async fn record(&self, event: Event, durability: Durability) -> Result<ApplyOutcome, RecordError> {
        self.submit(Entry::Event(event), None, durability).await
    }

    /// Records entries that were recorded before, so that the segments they stand in can go. All are durable when this
    /// returns.
    ///
    /// # Errors
    /// As for [`EventLog::record_callback`]; some may be recorded then.
    pub async fn record_again(&self, entries: Vec<Entry>) -> Result<(), RecordError> {
        let mut left = entries.len();
        for entry in entries {
            left -= 1;
            let durability = if left == 0 { Durability::Synced } else { Durability::Buffered };
            let parsed = match &entry {
                Entry::Callback(callback) => Some((self.parse_callback)(&callback.body)),
                Entry::Event(_) | Entry::Kept(_) => None,
            };
            self.submit(entry, parsed, durability).await?;
        }
        Ok(())
    }

    /// Seals the segment that is written to, and begins the next.
    ///
    /// # Errors
    /// When the disk refuses or the service is stopping; recording goes on as before.
    pub async fn begin_segment(&self) -> Result<(), RecordError> {
        self.begin_segment_at(0).await
    }

    /// The same, at a position or behind it: nothing is recorded before it from then on.
    ///
    /// # Errors
    /// As for [`EventLog::begin_segment`].
    pub async fn begin_segment_at(&self, position: u64) -> Result<(), RecordError> {
        let (answer, answered) = oneshot::channel();
        self.send(LogCommand::BeginSegment(position, answer)).await?;
        answered.await.unwrap_or(Err(RecordError::Stopping))
    }

    /// Has the state made anew from journal and archive: it turned out to lack some of it. Returns when it is; `None` when the
    /// service stops before.
    pub async fn start_over(&self) -> Option<Recovery> {
        let mut recovered = self.recovered.clone();
        let before = recovered.borrow().starts_over;
        self.send(LogCommand::StartOver).await.ok()?;
        let found = recovered.wait_for(|recovered| recovered.starts_over > before).await.ok()?;
        found.recovery.clone()
    }

    /// Whether the state may lack refs that the archive knows: what was here at the start is not compared with the archive
    /// yet, or turned out to be older or gone, and what is beyond it is not all folded in.
    pub fn may_lack_refs(&self) -> bool {
        self.awaits_archive.load(Ordering::Acquire) && self.journal.standing() != Standing::InStep
    }

    /// What the archive has beyond what was here at the start is folded in, if it has anything.
    pub fn note_archive_folded_in(&self) {
        self.awaits_archive.store(false, Ordering::Release);
    }

    /// What the last append to the journal failed with, if it failed.
    pub fn journal_failure(&self) -> Option<String> {
        self.health.failure.lock().clone()
    }

    /// How long the append that is under way has taken so far.
    pub fn appending_for(&self) -> Duration {
        self.health.appending.elapsed()
    }

    /// Hears of the end of the threads behind this, and of whatever else the service cannot do without.
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// The state this folds into.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The journal this appends to.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Waits until all that is folded in by now is on the disk in the state's store, so that no later start needs the journal
    /// for it; at most for `timeout`. Returns whether it is. Blocks.
    ///
    /// # Errors
    /// While the state is rebuilt, or when the store fails.
    pub fn flush(&self, timeout: Duration) -> Result<bool, StateError> {
        Ok(self.state.store()?.flush(timeout)?)
    }

    /// Takes no more entries, and returns when all that were taken are recorded and folded in. Blocks.
    pub fn close(&self) {
        self.finish();
        let _ = self.state.release_store();
    }

    /// The same; `last` is done while the state can still be read and changes no more. It is not waited for longer than some
    /// seconds, nor done at all when the disk is too slow to take in the state.
    pub fn close_after(&self, last: impl FnOnce() + Send + 'static) {
        if self.finish() {
            // A hung disk must not hold up the stop.
            let (done, ended) = sync_channel::<()>(0);
            let last = move || {
                last();
                drop(done);
            };
            if std::thread::Builder::new().name("last of all".to_owned()).spawn(last).is_ok() {
                let _ = ended.recv_timeout(STOP_PATIENCE);
            }
        }
        let _ = self.state.release_store();
    }

    /// Ends the threads when all is folded in. Returns whether the store has all of it on the disk; what it has not is folded in
    /// again at the next start.
    fn finish(&self) -> bool {
        drop(self.sender.lock().take());
        self.journal.close_archive();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            let _ = thread.join();
        }
        self.flush(STOP_PATIENCE).is_ok_and(|flushed| flushed)
    }

    async fn submit(
        &self,
        entry: Entry,
        parsed: Option<ParsedCallback>,
        durability: Durability,
    ) -> Result<ApplyOutcome, RecordError> {
        let (answer, answered) = oneshot::channel();
        self.send(LogCommand::Record(Box::new(AppendRequest { entry, parsed, durability, fence: self.fence, answer })))
            .await?;
        answered.await.unwrap_or(Err(RecordError::Stopping))
    }

    async fn send(&self, order: LogCommand) -> Result<(), RecordError> {
        let sender = self.sender.lock().clone();
        sender.ok_or(RecordError::Stopping)?.send(order).await.map_err(|_| RecordError::Stopping)
    }
}

/// What the first thread works with.
struct StartedParts {
    receiver: mpsc::Receiver<LogCommand>,
    folding: FoldState,
    batches: SyncSender<FoldCommand>,
    health: Arc<Health>,
}

/// The state in `dir`, and its store if that can be opened now.
fn open_state(dir: &Path, cluster: Option<Cluster>) -> (State, Option<Opened>, Aside) {
    let state = State::new(dir, cluster);
    let mut aside = Aside::default();
    let opened = state.open_store(&mut aside).inspect_err(|error| {
        tracing::error!(%error, "the state cannot be opened; callbacks are accepted while it is tried again");
    });
    (state, opened.ok(), aside)
}

/// Whose share of a write an entry takes up: that of the URL it came over; `None` for what comes from within.
fn sender(request: &AppendRequest) -> Option<Target> {
    match &request.entry {
        Entry::Callback(callback) => Some(callback.target.clone()),
        Entry::Kept(_) | Entry::Event(_) => None,
    }
}

/// What an entry counts for in its sender's share: a small body may name as many files as a large one.
fn size(request: &AppendRequest) -> usize {
    /// Of an entry beside its body.
    const FIXED: usize = 512;
    let body = match &request.entry {
        Entry::Callback(callback) => callback.body.len(),
        Entry::Kept(kept) => kept.callback.body.len(),
        Entry::Event(_) => 0,
    };
    body + request.parsed.as_ref().map_or(0, ParsedCallback::bytes) + FIXED
}

#[cfg(test)]
mod tests;
