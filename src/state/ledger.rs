//! The one way into the state: journal first, then fold, in the same order.
//!
//! Two threads share the work. The first takes all entries that wait, appends them in one write and one sync (group
//! commit), and hands the batch on; the second folds the batch in with one store transaction and answers those who
//! wait, while the first is already writing the next. An answer therefore means: on disk, and visible to readers.
//!
//! When the store fails, journalling goes on: the batch is answered with [`Applied::Deferred`], and the store is opened
//! anew or rebuilt from the journal, which by then has those entries.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::fold::{self, Applied, Meaning};
use super::txn::Txn;
use super::{State, StateError};
use crate::journal::{Durability, Entry, Event, Journal, JournalError, Writer};

use super::open::{Recovery, RecoveryError};

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
    sender: Arc<Mutex<Option<mpsc::Sender<Ticket>>>>,
    health: Arc<Mutex<Option<String>>>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
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
    /// Opens journal and state below `dir`, brings the state up to date and starts the threads.
    ///
    /// # Errors
    /// When the journal or the state cannot be opened.
    pub fn open(dir: &Path, interpret: Interpret) -> Result<(Self, Recovery), RecoveryError> {
        let journal = Journal::open(&dir.join("journal"))?;
        let state = State::new(&dir.join("state"));
        let recovery = state.recover(&journal, interpret)?;
        let writer = Writer::new(journal.clone(), recovery.journal_end, recovery.applied)?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let (batches, batch_receiver) = sync_channel(BATCHES);
        let health = Arc::new(Mutex::new(None));
        let commit = {
            let health = health.clone();
            spawn("journal", move || commit_all(writer, receiver, &batches, &health))
        };
        let apply = {
            let (state, journal) = (state.clone(), journal.clone());
            spawn("state", move || apply_all(&state, &journal, interpret, &batch_receiver))
        };
        let ledger = Self {
            journal,
            state,
            sender: Arc::new(Mutex::new(Some(sender))),
            health,
            threads: Arc::new(Mutex::new(vec![commit?, apply?])),
        };
        Ok((ledger, recovery))
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
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sender = sender.ok_or(RecordError::Stopping)?;
        let (answer, answered) = oneshot::channel();
        sender.send(Ticket { entry, meaning, durability, answer }).await.map_err(|_| RecordError::Stopping)?;
        drop(sender);
        answered.await.unwrap_or(Err(RecordError::Stopping))
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, RecoveryError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|source| RecoveryError::State(StateError::Store(sled::Error::Io(source))))
}

fn commit_all(
    mut writer: Writer,
    mut waiting: mpsc::Receiver<Ticket>,
    batches: &SyncSender<Batch>,
    health: &Mutex<Option<String>>,
) {
    while let Some(first) = waiting.blocking_recv() {
        let mut bytes = size(&first);
        let mut tickets = vec![first];
        while bytes < BATCH_BYTES
            && let Ok(next) = waiting.try_recv()
        {
            bytes += size(&next);
            tickets.push(next);
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
        Entry::Event(_) => 512,
    }
}

fn apply_all(state: &State, journal: &Journal, interpret: Interpret, batches: &Receiver<Batch>) {
    while let Ok(batch) = batches.recv() {
        let Batch { tickets, end } = batch;
        let mut answers = Vec::with_capacity(tickets.len());
        let mut entries = Vec::with_capacity(tickets.len());
        for (position, Ticket { entry, meaning, answer, .. }) in tickets {
            answers.push(answer);
            entries.push((position, entry, meaning));
        }
        // A defect in folding one entry, or in the store, must not end the thread that all callbacks depend on.
        let applied = catch_unwind(AssertUnwindSafe(|| apply_batch(state, entries, end)));
        match applied {
            Ok(Ok(results)) => {
                for (answer, result) in answers.into_iter().zip(results) {
                    let _ = answer.send(Ok(result));
                }
            }
            failed => {
                defer(answers);
                let error = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => "it panicked".to_owned(),
                };
                tracing::error!(error, "the state store failed; callbacks are still accepted while it is opened anew");
                recover(state, journal, interpret, batches);
            }
        }
    }
}

fn apply_batch(
    state: &State,
    entries: Vec<(u64, Entry, Option<Meaning>)>,
    end: u64,
) -> Result<Vec<Applied>, StateError> {
    let store = state.store()?;
    let mut txn = Txn::begin(&store)?;
    let covered = txn.meta.applied;
    let mut results = Vec::with_capacity(entries.len());
    for (position, entry, meaning) in entries {
        // A recovery has read it from the journal already.
        let seen = position < covered;
        results.push(if seen { Applied::Deferred } else { fold::apply(&mut txn, position, &entry, meaning)? });
    }
    let due_changed = txn.due_changed;
    txn.commit(end.max(covered))?;
    if due_changed {
        state.shared.due_changed.notify_one();
    }
    Ok(results)
}

/// Opens the store anew, for as long as it takes, answering what is journalled meanwhile.
fn recover(state: &State, journal: &Journal, interpret: Interpret, batches: &Receiver<Batch>) {
    const PAUSE: Duration = Duration::from_secs(1);
    loop {
        match state.recover(journal, interpret) {
            Ok(recovery) => {
                tracing::info!(replayed = recovery.replayed, moved_aside = ?recovery.moved_aside, "the state is back");
                return;
            }
            Err(error) => tracing::error!(%error, "the state cannot be opened yet"),
        }
        let retry = Instant::now() + PAUSE;
        while let Some(left) = retry.checked_duration_since(Instant::now()) {
            match batches.recv_timeout(left) {
                Ok(batch) => defer(batch.tickets.into_iter().map(|(_, ticket)| ticket.answer)),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

fn defer(answers: impl IntoIterator<Item = oneshot::Sender<Result<Applied, RecordError>>>) {
    for answer in answers {
        let _ = answer.send(Ok(Applied::Deferred));
    }
}
