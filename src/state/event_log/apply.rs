//! The second thread: folds what is journalled into the store, and mends the store when it fails.

mod report;

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, SyncSender};
use std::time::{Duration, Instant};

use fail::fail_point;
use tokio::sync::{oneshot, watch};

use self::report::report;
use super::super::fold::{self, ApplyOutcome, ParsedCallback};
use super::super::open::{Aside, Opened, Recovery, RecoveryError};
use super::super::replay::replay;
use super::super::txn::Txn;
use super::super::{State, StateError, StoreError, panic_text};
use super::{AppendRequest, Batch, FoldCommand, ParseCallback, RecordError, Recovered};
use crate::journal::{Entry, Event, Journal};

/// After how many tries the state is put aside when the disk cannot read it: four minutes.
fn store_attempts() -> u32 {
    fail_point!("state.store_attempts", |_| 2);
    12
}

/// How often it is seen to that the store can still be written to, when nothing comes in.
const LOOK_AT_STORE: Duration = Duration::from_secs(1);

/// What the second thread needs.
pub(super) struct FoldThread {
    pub(super) folding: FoldState,
    pub(super) journal: Journal,
    pub(super) parse_callback: ParseCallback,
    pub(super) recovered: watch::Sender<Recovered>,
}

/// What both threads need, so that only one of them folds at a time.
#[derive(Clone)]
pub(super) struct FoldState {
    pub(super) state: State,
    /// How much the second thread has still to do, which begins with bringing the store up to date.
    pub(super) behind: Arc<AtomicUsize>,
}

impl FoldState {
    /// Folds a batch in if the second thread has nothing to do. Returns what is left for that.
    pub(super) fn fold_if_idle(&self, batch: Batch) -> Option<FoldCommand> {
        if self.behind.load(Ordering::Acquire) > 0 {
            return Some(FoldCommand::Fold(batch));
        }
        let end = batch.end;
        self.fold_in(batch).err().map(|error| FoldCommand::Recover { error, end })
    }

    /// Answers a batch that comes within `patience`, and notes what it leaves to be done. Returns false when none will come.
    fn defer(&self, batches: &Receiver<FoldCommand>, patience: Duration, deferred: &mut Deferred) -> bool {
        match batches.recv_timeout(patience) {
            Ok(work) => {
                self.behind.fetch_sub(1, Ordering::AcqRel);
                let end = match work {
                    FoldCommand::Fold(Batch { requests, end }) => {
                        defer(requests.into_iter().map(|(_, request)| request.answer));
                        end
                    }
                    FoldCommand::Recover { error, end } => {
                        deferred.starts_over += u64::from(is_start_over(&error));
                        end
                    }
                };
                deferred.end = deferred.end.max(end);
                true
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(patience);
                false
            }
        }
    }

    /// Gives work to the second thread.
    pub(super) fn enqueue(
        &self,
        work: FoldCommand,
        batches: &SyncSender<FoldCommand>,
    ) -> Result<(), SendError<FoldCommand>> {
        self.behind.fetch_add(1, Ordering::AcqRel);
        batches.send(work)
    }

    /// Folds a batch in and answers those who wait for it.
    fn fold_in(&self, Batch { requests, end }: Batch) -> Result<(), StateError> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut entries = Vec::with_capacity(requests.len());
        for (position, AppendRequest { entry, parsed, answer, .. }) in requests {
            answers.push(answer);
            entries.push((position, entry, parsed));
        }
        // A defect in folding one entry must not end the thread that all callbacks depend on.
        let apply = || catch_unwind(AssertUnwindSafe(|| apply_batch(&self.state, entries, end)));
        match self.state.shared.folding.time(apply).unwrap_or_else(|panic| Err(StateError::Defect(panic_text(&*panic))))
        {
            Ok(results) => {
                for (answer, result) in answers.into_iter().zip(results) {
                    let _ = answer.send(Ok(result));
                }
                Ok(())
            }
            Err(error) => {
                defer(answers);
                Err(error)
            }
        }
    }
}

/// What came in while the store was brought up to date.
#[derive(Default)]
struct Deferred {
    /// Up to where it is in the journal.
    end: u64,
    /// Requests to make the store anew.
    starts_over: u64,
}

fn is_start_over(error: &StateError) -> bool {
    matches!(error, StateError::Incomplete)
}

/// How far bringing the store up to date is.
#[derive(Default)]
struct Attempt {
    opened: Option<Opened>,
    aside: Aside,
    /// Entries that came upon a defect.
    passed_over: BTreeSet<u64>,
    /// Whether the store takes far more room than it has to.
    needs_compaction: bool,
    /// Whether it was looked for a state that others have made.
    has_looked_for_snapshot: bool,
    /// Requests to make the store anew that this fulfils.
    starts_over: u64,
}

impl FoldThread {
    pub(super) fn run(self, opened: Option<Opened>, aside: Aside, batches: &Receiver<FoldCommand>) {
        let FoldState { state, behind } = &self.folding;
        self.catch_up(Attempt { opened, aside, ..Attempt::default() }, batches);
        loop {
            // While it mends, and until then, nobody else folds.
            behind.fetch_sub(1, Ordering::AcqRel);
            let outcome = match batches.recv_timeout(LOOK_AT_STORE) {
                Ok(FoldCommand::Fold(batch)) => self.folding.fold_in(batch),
                Ok(FoldCommand::Recover { error, .. }) => Err(error),
                Err(RecvTimeoutError::Timeout) => {
                    behind.fetch_add(1, Ordering::AcqRel);
                    state.failure().map_or(Ok(()), Err)
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let Err(error) = outcome else { continue };
            tracing::error!(%error, "the state failed; callbacks are still accepted while it is brought up to date");
            if error.is_disk_full() {
                state.make_room();
            }
            let mut attempt = Attempt { starts_over: u64::from(is_start_over(&error)), ..Attempt::default() };
            match error {
                // The store is as it was.
                StateError::Defect(_) | StateError::Behind | StateError::Store(StoreError::Stalled) => {
                    attempt.opened = state.take_store()
                }
                error if error.is_damage() => attempt.aside.damage = Some(error.to_string()),
                // What fails for good, as sled does after one full disk, is mended by opening it anew.
                _ => {}
            }
            self.catch_up(attempt, batches);
        }
    }

    /// Brings the store up to date, for as long as it takes, and gives it to readers. What is journalled meanwhile is
    /// answered at once, and read from the journal in the end.
    fn catch_up(&self, mut work: Attempt, batches: &Receiver<FoldCommand>) {
        const PAUSE: Duration = Duration::from_secs(1);
        const MAX_PAUSE: Duration = Duration::from_secs(30);
        const POLL: Duration = Duration::from_millis(5);
        /// How often a segment that the disk cannot read is tried before the rest has to do.
        const READ_ATTEMPTS: usize = 4;
        /// The same for one that the bucket cannot read: half a minute at least.
        const ARCHIVE_READ_ATTEMPTS: usize = 6;
        let mut pause = PAUSE;
        let (mut failed_reads, mut unreadable) = (0, 0);
        let mut unread = HashMap::<String, usize>::new();
        let mut deferred = Deferred::default();
        let mut total = Recovery::default();
        let closed = AtomicBool::new(false);
        let answer = |deferred: &mut Deferred| {
            if !self.folding.defer(batches, POLL, deferred) {
                closed.store(true, Ordering::Relaxed);
            }
        };
        loop {
            if deferred.starts_over > 0 {
                // What was folded in so far was not made of all there is by now.
                work.starts_over += std::mem::take(&mut deferred.starts_over);
                (work.opened, work.aside.damage) = (None, Some(StateError::Incomplete.to_string()));
                total = Recovery::default();
            }
            let attempt = std::thread::scope(|scope| {
                let attempt = || self.bring_up_to_date(&mut work, &mut || !closed.load(Ordering::Relaxed));
                let attempt = std::thread::Builder::new().spawn_scoped(scope, attempt);
                // The system may have no thread to give right now.
                let attempt = attempt.map_err(RecoveryError::Thread)?;
                while !attempt.is_finished() {
                    answer(&mut deferred);
                }
                attempt.join().unwrap_or_else(|_| Err(StateError::Panicked.into()))
            });
            let error = match attempt {
                Ok(recovery) => {
                    work.needs_compaction = recovery.needs_compaction();
                    total.replayed += recovery.replayed;
                    total.damage.extend(recovery.damage);
                    total.applied = recovery.applied;
                    total.made_anew |= recovery.made_anew;
                    if recovery.applied >= deferred.end && !work.needs_compaction && deferred.starts_over == 0 {
                        break;
                    }
                    continue;
                }
                Err(RecoveryError::Defect { position, what }) if work.passed_over.insert(position) => {
                    tracing::error!(position, error = what, "an entry of the journal cannot be folded in: passed over");
                    continue;
                }
                Err(RecoveryError::Stopped) => {
                    // All is in the journal: a stop must not wait for it. The next start goes on from here, and nothing will
                    // tell it whether the state was made anew, or of a journal with gaps.
                    self.expect_manifests();
                    return;
                }
                Err(error) => error,
            };
            tracing::error!(%error, retry_in = ?pause, "the state cannot be brought up to date yet");
            if let RecoveryError::Journal(error) = &error
                && error.is_read_error()
            {
                failed_reads += 1;
                if failed_reads == READ_ATTEMPTS {
                    tracing::error!("what the disk cannot read of the journal is passed over from now on");
                    self.journal.read_around_errors();
                }
            }
            if let RecoveryError::Journal(error) = &error
                && let Some(segment) = error.unreadable_segment()
            {
                let failed = unread.entry(segment.to_owned()).or_default();
                *failed += 1;
                if *failed == ARCHIVE_READ_ATTEMPTS {
                    tracing::error!(
                        segment,
                        "an archived segment that cannot be read is passed over: once it can, run `replyvault rebuild`"
                    );
                    self.journal.pass_over(segment);
                }
            }
            self.folding.state.shared.is_failing.store(true, Ordering::Relaxed);
            if error.is_disk_full() {
                self.folding.state.make_room();
            }
            match &error {
                RecoveryError::State(StateError::Store(StoreError::Stalled)) => {}
                RecoveryError::State(error) if error.is_damage() => {
                    (work.opened, work.aside.damage) = (None, Some(error.to_string()));
                }
                RecoveryError::State(StateError::Store(error @ StoreError::Unreadable(_))) => {
                    unreadable += 1;
                    work.opened = None;
                    if unreadable == store_attempts() {
                        tracing::error!(%error, "a state that cannot be read next time either is put aside: the journal has it");
                        work.aside.takes_unreadable = true;
                    }
                }
                _ => work.opened = None,
            }
            let retry = Instant::now() + pause;
            pause = (2 * pause).min(MAX_PAUSE);
            while Instant::now() < retry {
                answer(&mut deferred);
            }
            if closed.load(Ordering::Relaxed) {
                // All is in the journal: the next start may have more luck, and a stop must not wait for it.
                return;
            }
        }
        let Some(opened) = work.opened else { return };
        total.moved_aside = work.aside.moved;
        total.passed_over = work.passed_over.into_iter().collect();
        report(&total);
        if total.has_gaps() {
            self.expect_manifests();
        }
        // What is folded in from now on is told of. What was folded in by now is not, and later than at first others listen.
        let is_first = self.folding.state.shared.recovered_at.set(total.applied).is_ok();
        self.folding.state.set_store(Some(opened.store));
        if !is_first {
            self.folding.state.tell_gap();
        }
        // A snapshot may be ahead of the copy of the log, and whoever works on a job reads callbacks there.
        let copied = self.journal.end().unwrap_or_default();
        self.folding.state.set_applied(total.applied.min(copied));
        self.recovered.send_modify(|recovered| {
            recovered.recovery = Some(total);
            recovered.starts_over += work.starts_over;
        });
    }

    /// Has later starts read the bucket's manifests, which may tell of more than the state.
    fn expect_manifests(&self) {
        if let Err(error) = self.folding.state.expect_manifests() {
            tracing::warn!(%error, "that manifests may tell of more than the state cannot be kept for later starts");
        }
    }

    fn bring_up_to_date(&self, work: &mut Attempt, go_on: &mut dyn FnMut() -> bool) -> Result<Recovery, RecoveryError> {
        let state = &self.folding.state;
        let opened = match work.opened.take() {
            Some(opened) => opened,
            None => state.open_store(&mut work.aside)?,
        };
        let is_first = !std::mem::replace(&mut work.has_looked_for_snapshot, true);
        let opened = if is_first && state.cluster().is_some() {
            state.begin_with_snapshot(opened, &self.journal, &mut work.aside)?
        } else {
            opened
        };
        let opened = if std::mem::take(&mut work.needs_compaction) {
            state.compact(opened, &mut work.aside, go_on)?
        } else {
            opened
        };
        let opened = work.opened.insert(opened);
        let made_anew = work.aside.moved.is_some();
        replay(&opened.store, &self.journal, self.parse_callback, &work.passed_over, made_anew, go_on)
    }
}

/// How many entries are folded in by one commit: what is written to sled at once is made of whole commits.
const IN_ONE_COMMIT: usize = 16;

fn apply_batch(
    state: &State,
    entries: Vec<(u64, Entry, Option<ParsedCallback>)>,
    end: u64,
) -> Result<Vec<ApplyOutcome>, StateError> {
    fail_point!("state.apply", |_| Err(StateError::Rebuilding));
    let store = state.store()?;
    let (mut results, mut retries) = (Vec::with_capacity(entries.len()), Vec::new());
    let mut entries = entries.into_iter().peekable();
    while entries.peek().is_some() {
        let mut txn = Txn::begin(&store)?;
        let covered = txn.meta.applied;
        let mut labelled = Vec::new();
        for (position, entry, parsed) in entries.by_ref().take(IN_ONE_COMMIT) {
            // A recovery has read it from the journal already.
            let seen = position < covered;
            let labelled_before = txn.meta.counters.refs_labelled;
            let result = if seen { ApplyOutcome::Deferred } else { fold::apply(&mut txn, position, &entry, parsed)? };
            // A ref that was adopted has jobs already, and nothing else tells that their labels change.
            if let ApplyOutcome::Ref { record, created: false } = &result
                && txn.meta.counters.refs_labelled > labelled_before
            {
                labelled.push(record.reply_ref.clone());
            }
            if matches!(entry, Entry::Event(Event::Retried { .. })) {
                retries.push(results.len());
            }
            results.push(result);
        }
        let next = entries.peek().map_or(end, |(position, _, _)| *position);
        commit(state, txn, next.max(covered))?;
        labelled.into_iter().for_each(|name| state.shared.changes.tell_labelled(name));
    }
    state.set_applied(end);
    for (index, result) in results.iter().enumerate() {
        if let ApplyOutcome::Job { job, .. } = result {
            state.shared.waiters.wake(job);
            state.shared.changes.tell(job.sequence, job.state, retries.contains(&index));
        }
    }
    Ok(results)
}

fn commit(state: &State, mut txn: Txn<'_>, applied: u64) -> Result<(), StateError> {
    let (due_changed, confirmations_changed) = (txn.due_changed, txn.confirmations_changed);
    let outbox_updates = std::mem::take(&mut txn.outbox_updates);
    let notifications = std::mem::take(&mut txn.notifications);
    let (lanes, queued) = (std::mem::take(&mut txn.lanes), txn.meta.counters.queued);
    state.note_labels(&txn.meta.counters);
    txn.commit(applied)?;
    state.note_lanes(lanes, queued);
    if due_changed {
        state.shared.due_changed.notify_one();
    }
    if confirmations_changed {
        state.shared.confirmations_changed.notify_one();
    }
    for id in outbox_updates {
        // It fails when nobody passes anything on.
        let _ = state.shared.outbox_updates.send(Some(id));
    }
    for changed in notifications {
        let _ = state.shared.notifications.send(Some(changed));
    }
    Ok(())
}

fn defer(answers: impl IntoIterator<Item = oneshot::Sender<Result<ApplyOutcome, RecordError>>>) {
    for answer in answers {
        let _ = answer.send(Ok(ApplyOutcome::Deferred));
    }
}

#[cfg(test)]
mod tests;
