//! The one way into the state: journal first, then fold, in the same order.
//!
//! Two threads share the work. The first takes all entries that wait, appends them in one write and one sync (group
//! commit), and hands the batch on; the second folds the batch in with one store transaction and answers those who
//! wait, while the first is already writing the next. An answer therefore means: on disk, and visible to readers.
//!
//! At the start, and when the store fails, the second thread brings the store up to date from the journal, or makes it
//! anew. Journalling goes on meanwhile: what comes in is answered with [`Applied::Deferred`], and found in the journal
//! before the store is given to readers again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fail::fail_point;
use tokio::sync::{mpsc, oneshot, watch};

use super::fold::{self, Applied, Meaning};
use super::txn::Txn;
use super::{State, StateError};
use crate::domain::Timestamp;
use crate::journal::{Damage, DamageKind, Durability, Entry, Event, Journal, JournalError, Writer};

use super::open::{self, Opened, Recovery, RecoveryError};

/// Reads a callback's body.
pub type Interpret = fn(&[u8]) -> Meaning;

/// Why an entry was not recorded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RecordError {
    /// The journal refused it; nothing is kept.
    #[error("{0}")]
    Journal(Arc<JournalError>),
    /// The service is stopping; nothing is kept.
    #[error("the service is stopping")]
    Stopping,
}

/// The way to record. Cheap to clone; recording goes on until [`Ledger::close`].
#[derive(Clone, Debug)]
pub struct Ledger {
    journal: Journal,
    state: State,
    sender: Arc<Mutex<Option<mpsc::Sender<Order>>>>,
    health: Arc<Mutex<Option<String>>>,
    recovery: watch::Receiver<Option<Recovery>>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

/// What the first thread is to do.
#[derive(Debug)]
enum Order {
    Record(Box<Ticket>),
    /// Begin the next segment.
    BeginSegment(oneshot::Sender<Result<(), RecordError>>),
}

#[derive(Debug)]
struct Ticket {
    entry: Entry,
    meaning: Option<Meaning>,
    durability: Durability,
    answer: oneshot::Sender<Result<Applied, RecordError>>,
}

/// Entries that are in the journal, with their positions.
#[derive(Debug)]
struct Batch {
    tickets: Vec<(u64, Ticket)>,
    end: u64,
}

/// How many entries may wait for the journal; beyond it, callers wait.
const WAITING: usize = 1024;
/// How many bytes of bodies one write may take up.
const BATCH_BYTES: usize = 8 << 20;
/// How many written batches may wait to be folded in.
const BATCHES: usize = 4;

impl Ledger {
    /// Opens the state in `dir`, a view of `journal`, and starts the threads. Entries are taken at once; the state can be
    /// read when [`Ledger::recovered`] resolves.
    ///
    /// # Errors
    /// When the state cannot be opened, or the end of the journal not be read.
    pub fn open(journal: Journal, dir: &Path, interpret: Interpret) -> Result<Self, RecoveryError> {
        let state = State::new(dir);
        let opened = state.open_store()?;
        let writer = Writer::new(journal.clone(), opened.applied.max(first_position(&journal)))?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let (batches, batch_receiver) = sync_channel(BATCHES);
        let health = Arc::new(Mutex::new(None));
        let (recovered, recovery) = watch::channel(None);
        let commit = {
            let health = health.clone();
            spawn("journal", move || commit_all(writer, receiver, &batches, &health))
        };
        let folder = Folder { state: state.clone(), journal: journal.clone(), interpret, recovered };
        let apply = spawn("state", move || folder.run(opened, &batch_receiver));
        Ok(Self {
            journal,
            state,
            sender: Arc::new(Mutex::new(Some(sender))),
            health,
            recovery,
            threads: Arc::new(Mutex::new(vec![commit?, apply?])),
        })
    }

    /// How the store was brought up to date with the journal, as soon as it is. `None` when the service stops before.
    pub async fn recovered(&self) -> Option<Recovery> {
        self.recovery.clone().wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Records a callback: durable and folded in when this returns.
    ///
    /// # Errors
    /// When the journal refuses it or the service is stopping; then nothing is kept.
    pub async fn record_callback(&self, entry: Entry, meaning: Meaning) -> Result<Applied, RecordError> {
        self.submit(entry, Some(meaning), Durability::Synced).await
    }

    /// Records an event: at least as durable as `durability` says, and folded in, when this returns.
    ///
    /// # Errors
    /// As for [`Ledger::record_callback`].
    pub async fn record(&self, event: Event, durability: Durability) -> Result<Applied, RecordError> {
        self.submit(Entry::Event(event), None, durability).await
    }

    /// Records entries that were recorded before, so that the segments they stand in can go. All are durable when this
    /// returns.
    ///
    /// # Errors
    /// As for [`Ledger::record_callback`]; some may be recorded then.
    pub async fn record_again(&self, entries: Vec<Entry>) -> Result<(), RecordError> {
        let mut left = entries.len();
        for entry in entries {
            left -= 1;
            let durability = if left == 0 { Durability::Synced } else { Durability::Written };
            self.submit(entry, None, durability).await?;
        }
        Ok(())
    }

    /// Seals the segment that is written to, and begins the next.
    ///
    /// # Errors
    /// When the disk refuses or the service is stopping; recording goes on as before.
    pub async fn begin_segment(&self) -> Result<(), RecordError> {
        let (answer, answered) = oneshot::channel();
        self.send(Order::BeginSegment(answer)).await?;
        answered.await.unwrap_or(Err(RecordError::Stopping))
    }

    /// What the last append to the journal failed with, if it failed.
    pub fn journal_failure(&self) -> Option<String> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The state this folds into.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The journal this appends to.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Takes no more entries, and returns when all that were taken are recorded and folded in. Blocks.
    pub fn close(&self) {
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.journal.close_archive();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let _ = thread.join();
        }
        if let Ok(store) = self.state.store() {
            let _ = store.flush();
        }
        self.state.set_store(None);
    }

    async fn submit(
        &self,
        entry: Entry,
        meaning: Option<Meaning>,
        durability: Durability,
    ) -> Result<Applied, RecordError> {
        let (answer, answered) = oneshot::channel();
        self.send(Order::Record(Box::new(Ticket { entry, meaning, durability, answer }))).await?;
        answered.await.unwrap_or(Err(RecordError::Stopping))
    }

    async fn send(&self, order: Order) -> Result<(), RecordError> {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        sender.ok_or(RecordError::Stopping)?.send(order).await.map_err(|_| RecordError::Stopping)
    }
}

/// Where a journal begins that has nothing yet: further on than any before it in the same bucket got, unless that was
/// written to at more than 64 MiB a second all its life. So positions of two journals never meet in an archive.
fn first_position(journal: &Journal) -> u64 {
    const POSITIONS_PER_MS: u64 = 1 << 16;
    if journal.newest().is_some() { 0 } else { Timestamp::now().millis().saturating_mul(POSITIONS_PER_MS) }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, RecoveryError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|source| RecoveryError::State(StateError::Store(sled::Error::Io(source))))
}

fn commit_all(
    mut writer: Writer,
    mut waiting: mpsc::Receiver<Order>,
    batches: &SyncSender<Batch>,
    health: &Mutex<Option<String>>,
) {
    while let Some(first) = waiting.blocking_recv() {
        let mut bytes = 0;
        let mut tickets = Vec::new();
        let mut next = Some(first);
        while let Some(order) = next {
            match order {
                Order::Record(ticket) => {
                    bytes += size(&ticket);
                    tickets.push(*ticket);
                }
                Order::BeginSegment(answer) => {
                    let begun = writer.begin_next().map_err(|error| RecordError::Journal(Arc::new(error)));
                    let _ = answer.send(begun);
                }
            }
            next = if bytes < BATCH_BYTES { waiting.try_recv().ok() } else { None };
        }
        if tickets.is_empty() {
            continue;
        }
        let durability = tickets.iter().map(|ticket| ticket.durability).max().unwrap_or(Durability::Synced);
        let appended = writer.append(tickets.iter().map(|ticket| &ticket.entry), durability);
        let failure = appended.as_ref().err().map(ToString::to_string);
        let mut last = health.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = &failure
            && last.is_none()
        {
            tracing::error!(error = failure, "the journal cannot be written: callbacks are answered 503");
        } else if failure.is_none() && last.is_some() {
            tracing::info!("the journal can be written again");
        }
        *last = failure;
        drop(last);
        match appended {
            Ok(positions) => {
                let batch = Batch { tickets: positions.into_iter().zip(tickets).collect(), end: writer.end() };
                if batches.send(batch).is_err() {
                    return;
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for ticket in tickets {
                    let _ = ticket.answer.send(Err(RecordError::Journal(error.clone())));
                }
            }
        }
    }
}

fn size(ticket: &Ticket) -> usize {
    match &ticket.entry {
        Entry::Callback(callback) => callback.body.len(),
        Entry::Kept(kept) => kept.callback.body.len(),
        Entry::Event(_) => 512,
    }
}

/// What the second thread needs.
struct Folder {
    state: State,
    journal: Journal,
    interpret: Interpret,
    recovered: watch::Sender<Option<Recovery>>,
}

impl Folder {
    fn run(self, opened: Opened, batches: &Receiver<Batch>) {
        self.catch_up(Some(opened), None, batches);
        while let Ok(Batch { tickets, end }) = batches.recv() {
            let mut answers = Vec::with_capacity(tickets.len());
            let mut entries = Vec::with_capacity(tickets.len());
            for (position, Ticket { entry, meaning, answer, .. }) in tickets {
                answers.push(answer);
                entries.push((position, entry, meaning));
            }
            // A defect in folding one entry, or in the store, must not end the thread that all callbacks depend on.
            let (error, damaged) = match catch_unwind(AssertUnwindSafe(|| apply_batch(&self.state, entries, end))) {
                Ok(Ok(results)) => {
                    for (answer, result) in answers.into_iter().zip(results) {
                        let _ = answer.send(Ok(result));
                    }
                    continue;
                }
                Ok(Err(error)) => (error.to_string(), error.is_damage()),
                Err(_) => ("it panicked".to_owned(), true),
            };
            defer(answers);
            tracing::error!(error, "the state store failed; callbacks are still accepted while it is opened anew");
            // What fails for good, as sled does after one full disk, is mended by opening it anew; damage is not.
            let moved_aside = if damaged { self.state.move_aside(&error) } else { None };
            self.catch_up(None, moved_aside, batches);
        }
    }

    /// Brings the store up to date, for as long as it takes, and gives it to readers. What is journalled meanwhile is
    /// answered at once, and read from the journal in the end.
    fn catch_up(&self, mut opened: Option<Opened>, moved_aside: Option<(String, PathBuf)>, batches: &Receiver<Batch>) {
        const PAUSE: Duration = Duration::from_secs(1);
        const POLL: Duration = Duration::from_millis(5);
        let mut deferred_end = 0;
        let mut total = Recovery::default();
        loop {
            let mut closed = false;
            let mut answer = |deferred_end: &mut u64| match defer_batches(batches, POLL) {
                Some(end) => *deferred_end = end.max(*deferred_end),
                None => closed = true,
            };
            let attempt = std::thread::scope(|scope| {
                let attempt = scope.spawn(|| self.bring_up_to_date(&mut opened));
                while !attempt.is_finished() {
                    answer(&mut deferred_end);
                }
                attempt.join()
            });
            let error = match attempt {
                Ok(Ok(recovery)) => {
                    total.replayed += recovery.replayed;
                    total.damage.extend(recovery.damage);
                    total.applied = recovery.applied;
                    if recovery.applied >= deferred_end {
                        break;
                    }
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it panicked".to_owned(),
            };
            tracing::error!(error, "the state cannot be brought up to date yet");
            opened = None;
            let retry = Instant::now() + PAUSE;
            while Instant::now() < retry {
                answer(&mut deferred_end);
            }
            if closed {
                // All is in the journal: the next start may have more luck, and a stop must not wait for it.
                return;
            }
        }
        let Some(opened) = opened else { return };
        total.moved_aside = moved_aside.or(opened.moved_aside);
        report(&total);
        self.state.set_store(Some(opened.store));
        self.recovered.send_replace(Some(total));
    }

    fn bring_up_to_date(&self, opened: &mut Option<Opened>) -> Result<Recovery, RecoveryError> {
        let opened = match opened {
            Some(opened) => opened,
            None => opened.insert(self.state.open_store()?),
        };
        open::replay(&opened.store, &self.journal, self.interpret)
    }
}

fn report(recovery: &Recovery) {
    if let Some((reason, aside)) = &recovery.moved_aside {
        tracing::warn!(reason, moved_to = %aside.display(), "the state could not be used and was made anew from the journal");
    }
    for Damage { segment, from, to, kind } in &recovery.damage {
        let segment = segment.display();
        match kind {
            DamageKind::TornTail => {
                tracing::warn!(%segment, from, "the last write to the journal was cut off; it was never acknowledged");
            }
            DamageKind::Garbled => {
                tracing::error!(%segment, from, to, "a part of the journal is damaged and was passed over");
            }
            DamageKind::Missing => tracing::error!(before = %segment, from, to, "a part of the journal is missing"),
        }
    }
    if recovery.replayed > 0 {
        tracing::info!(entries = recovery.replayed, "the state was brought up to date from the journal");
    }
}

fn apply_batch(
    state: &State,
    entries: Vec<(u64, Entry, Option<Meaning>)>,
    end: u64,
) -> Result<Vec<Applied>, StateError> {
    fail_point!("state.apply", |_| Err(StateError::Rebuilding));
    let store = state.store()?;
    let mut txn = Txn::begin(&store)?;
    let covered = txn.meta.applied;
    let mut results = Vec::with_capacity(entries.len());
    for (position, entry, meaning) in entries {
        // A recovery has read it from the journal already.
        let seen = position < covered;
        results.push(if seen { Applied::Deferred } else { fold::apply(&mut txn, position, &entry, meaning)? });
    }
    let (due_changed, asks_changed) = (txn.due_changed, txn.asks_changed);
    let to_pass_on = std::mem::take(&mut txn.to_pass_on);
    txn.commit(end.max(covered))?;
    if due_changed {
        state.shared.due_changed.notify_one();
    }
    if asks_changed {
        state.shared.asks_changed.notify_one();
    }
    for id in to_pass_on {
        // It fails when nobody passes anything on.
        let _ = state.shared.to_pass_on.send(Some(id));
    }
    if state.shared.changes.receiver_count() > 0 {
        for result in &results {
            if let Applied::Job { record, .. } = result {
                // It fails when the last listener has just left.
                let _ = state.shared.changes.send(Some(Arc::new((**record).clone())));
            }
        }
    }
    Ok(results)
}

/// Answers a batch that comes within `patience`. Returns its end, 0 if none came; `None` when none will.
fn defer_batches(batches: &Receiver<Batch>, patience: Duration) -> Option<u64> {
    match batches.recv_timeout(patience) {
        Ok(Batch { tickets, end }) => {
            defer(tickets.into_iter().map(|(_, ticket)| ticket.answer));
            Some(end)
        }
        Err(RecvTimeoutError::Timeout) => Some(0),
        Err(RecvTimeoutError::Disconnected) => {
            std::thread::sleep(patience);
            None
        }
    }
}

fn defer(answers: impl IntoIterator<Item = oneshot::Sender<Result<Applied, RecordError>>>) {
    for answer in answers {
        let _ = answer.send(Ok(Applied::Deferred));
    }
}
