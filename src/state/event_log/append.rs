//! The first thread where the journal is this machine's own: appends what waits, a share for each URL, and hands it on to be
//! folded in.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::apply::FoldState;
use super::fair_queue::FairQueue;
use super::{BATCH_BYTES, Batch, FoldCommand, Health, LogCommand, MAX_SORTED_REQUESTS, RecordError, sender, size};
use crate::journal::{Durability, JournalError, Writer};
use crate::state::StateError;

/// After a write of so many entries those who are about to send more are let go first: one write then takes up what would cost
/// two. When nobody is, that is over at once.
const MANY: usize = 8;

/// Runs until nothing more can come in.
pub(super) fn run(
    mut writer: Writer,
    mut waiting: mpsc::Receiver<LogCommand>,
    folding: &FoldState,
    batches: &SyncSender<FoldCommand>,
    health: &Health,
) {
    let mut queue = FairQueue::new();
    let mut written = 0;
    loop {
        let mut next = if queue.is_empty() { wait(&mut waiting, &mut writer, health) } else { waiting.try_recv().ok() };
        if next.is_none() && queue.is_empty() {
            return;
        }
        if written >= MANY {
            std::thread::yield_now();
        }
        while let Some(order) = next {
            match order {
                LogCommand::Record(request) => queue.push(sender(&request), size(&request), *request),
                LogCommand::StartOver => {
                    let work = FoldCommand::Recover { error: StateError::Incomplete, end: writer.end() };
                    if folding.enqueue(work, batches).is_err() {
                        return;
                    }
                }
                // There is no shared log.
                LogCommand::RemoveBefore(_, answer) => drop(answer.send(Ok(()))),
                LogCommand::Oldest(answer) => drop(answer.send(Err(RecordError::Away))),
                LogCommand::BeginSegment(at_least, answer) => {
                    let begun = health.appending.time(|| writer.begin_next(at_least));
                    let begun = begun.map_err(|error| RecordError::Journal(Arc::new(error)));
                    let _ = answer.send(begun);
                }
            }
            next = if queue.len() < MAX_SORTED_REQUESTS { waiting.try_recv().ok() } else { None };
        }
        let requests = queue.take(BATCH_BYTES);
        written = requests.len();
        if requests.is_empty() {
            continue;
        }
        let durability = requests.iter().map(|request| request.durability).max().unwrap_or(Durability::Synced);
        let entries = requests.iter().map(|request| &request.entry);
        let appended = health.appending.time(|| writer.append(entries, durability));
        note(health, appended.as_ref().err());
        match appended {
            Ok(positions) => {
                let batch = Batch { requests: positions.into_iter().zip(requests).collect(), end: writer.end() };
                // Whoever waits already is better served by the next write.
                let nobody_waits = waiting.is_empty() && queue.is_empty();
                let rest = if nobody_waits { folding.fold_if_idle(batch) } else { Some(FoldCommand::Fold(batch)) };
                if rest.is_some_and(|work| folding.enqueue(work, batches).is_err()) {
                    return;
                }
            }
            Err(error) => {
                if error.is_disk_full() {
                    folding.state.make_room();
                }
                let error = Arc::new(error);
                for request in requests {
                    let _ = request.answer.send(Err(RecordError::Journal(error.clone())));
                }
            }
        }
    }
}

/// Waits for what is to be done next; `None` when there will be no more. While the last write failed, the journal is tried
/// now and then: whoever asks whether the service is ready before sending anything learns that it is.
fn wait(waiting: &mut mpsc::Receiver<LogCommand>, writer: &mut Writer, health: &Health) -> Option<LogCommand> {
    const RETRY_INTERVAL: Duration = Duration::from_secs(5);
    const POLL: Duration = Duration::from_millis(20);
    let mut retry_at = Instant::now() + RETRY_INTERVAL;
    while health.failure.lock().is_some() {
        match waiting.try_recv() {
            Err(TryRecvError::Empty) if Instant::now() < retry_at => std::thread::sleep(POLL),
            Err(TryRecvError::Empty) => {
                let begun = health.appending.time(|| writer.begin_next(0));
                note(health, begun.as_ref().err());
                retry_at = Instant::now() + RETRY_INTERVAL;
            }
            next => return next.ok(),
        }
    }
    waiting.blocking_recv()
}

/// Takes note of how the last write went.
fn note(health: &Health, failure: Option<&JournalError>) {
    let failure = failure.map(ToString::to_string);
    let mut last = health.failure.lock();
    if let Some(failure) = &failure
        && last.is_none()
    {
        tracing::error!(error = failure, "the journal cannot be written: callbacks are answered 503");
    } else if failure.is_none() && last.is_some() {
        tracing::info!("the journal can be written again");
    }
    *last = failure;
}
