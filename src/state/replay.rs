//! Folds in what the journal has beyond the store. A second thread reads and parses ahead of the one that folds.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{SyncSender, sync_channel};

use super::fold::{self, ParseCallback, ParsedCallback};
use super::open::{Recovery, RecoveryError};
use super::store::Store;
use super::txn::Txn;
use super::{StateError, panic_text};
use crate::journal::{Entry, Journal, JournalError, Replay};

/// How many entries are folded in between two commits, at most.
const BATCH: usize = 1000;
/// From so many bytes on that they read and write, fewer.
const BATCH_BYTES: usize = 8 << 20;
/// How many entries are read ahead together, at most.
const CHUNK: usize = 256;
/// From so many bytes of bodies on, fewer: while one chunk is folded in, one is held, and a body may have 32 MiB.
const CHUNK_BYTES: usize = 1 << 20;

/// Entries that were read, in their order.
type Chunk = Vec<Result<ReadEntry, JournalError>>;

struct ReadEntry {
    position: u64,
    entry: Entry,
    /// What a callback says, or what the defect said that reading it came upon.
    parsed: Result<Option<ParsedCallback>, String>,
    /// Where the entry ends.
    end: u64,
    /// The end of the last stretch before it that is lost, or 0.
    lost_to: u64,
    /// Whether nothing that is still to be read lies before its end.
    is_in_order: bool,
}

/// Folds in what the journal has beyond the store, but for the entries at `passed_over`, whose bodies go to quarantine.
/// `go_on` is asked after each commit.
///
/// Where the store is `made_anew`, a record that cannot be read is no damage: it was written so, and would be again. The
/// entry that needs it has come upon a defect.
///
/// # Errors
/// When journal or store cannot be used, an entry not be folded in, or `go_on` says no.
pub(super) fn replay(
    store: &Store,
    journal: &Journal,
    parse_callback: ParseCallback,
    passed_over: &BTreeSet<u64>,
    made_anew: bool,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Recovery, RecoveryError> {
    store.set_bulk(true);
    let recovery = std::thread::scope(|scope| {
        let txn = Txn::begin_replay(store)?;
        let mut entries = journal.replay(txn.meta.applied)?;
        let (sender, chunks) = sync_channel(0);
        let read = move || {
            read_ahead(&mut entries, parse_callback, passed_over, &sender);
            entries
        };
        let reading = std::thread::Builder::new().name("journal reader".to_owned()).spawn_scoped(scope, read);
        let reading = reading.map_err(RecoveryError::Thread)?;
        let folded = fold_in(txn, chunks.into_iter().flatten(), passed_over, made_anew, go_on);
        let entries = reading.join().unwrap_or_else(|panic| resume_unwind(panic));
        let mut recovery = folded?;
        recovery.damage = entries.damage().to_vec();
        // Behind the last entry there may be some that are of no use.
        recovery.applied = recovery.applied.max(entries.end());
        let txn = Txn::begin_replay(store)?;
        txn.commit(recovery.applied)?;
        Ok(recovery)
    });
    store.set_bulk(false);
    recovery
}

/// Reads until the end, an error, or until nobody folds in any more.
fn read_ahead(
    entries: &mut Replay,
    parse_callback: ParseCallback,
    passed_over: &BTreeSet<u64>,
    chunks: &SyncSender<Chunk>,
) {
    let (mut chunk, mut bytes) = (Chunk::new(), 0);
    while let Some(item) = entries.next() {
        let is_last = item.is_err();
        chunk.push(item.map(|(position, entry)| {
            let parsed = match &entry {
                Entry::Callback(callback) if !passed_over.contains(&position) => {
                    bytes += callback.body.len();
                    let parse = || parse_callback(&callback.body);
                    catch_unwind(AssertUnwindSafe(parse)).map(Some).map_err(|panic| panic_text(&*panic))
                }
                _ => Ok(None),
            };
            let (end, lost_to, is_in_order) = (entries.end(), entries.lost_to(), !entries.is_among_twins());
            ReadEntry { position, entry, parsed, end, lost_to, is_in_order }
        }));
        if is_last || chunk.len() == CHUNK || bytes >= CHUNK_BYTES {
            bytes = 0;
            if chunks.send(std::mem::take(&mut chunk)).is_err() || is_last {
                return;
            }
        }
    }
    let _ = chunks.send(chunk);
}

fn fold_in(
    mut txn: Txn<'_>,
    entries: impl Iterator<Item = Result<ReadEntry, JournalError>>,
    passed_over: &BTreeSet<u64>,
    made_anew: bool,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Recovery, RecoveryError> {
    let from = txn.meta.applied;
    let mut recovery = Recovery { applied: from, ..Recovery::default() };
    let mut pending = 0;
    for read in entries {
        let ReadEntry { position, entry, parsed, end, lost_to, is_in_order } = read?;
        txn.meta.begins = txn.meta.begins.max(lost_to);
        let defect = |what| RecoveryError::Defect { position, what };
        let parsed = parsed.map_err(defect)?;
        let fold_one = || -> Result<(), StateError> {
            if passed_over.contains(&position) {
                return fold::pass_over(&mut txn, position, &entry);
            }
            fold::apply(&mut txn, position, &entry, parsed).map(drop)
        };
        // What a defect left half done in the transaction goes with it.
        match catch_unwind(AssertUnwindSafe(fold_one)).map_err(|panic| defect(panic_text(&*panic)))? {
            Err(error) if made_anew && error.is_unreadable_record() => return Err(defect(error.to_string())),
            folded => folded?,
        }
        recovery.replayed += 1;
        recovery.applied = recovery.applied.max(end);
        pending += 1;
        // A replay that is cut off goes on behind what was committed.
        if is_in_order && (pending >= BATCH || txn.bytes() > BATCH_BYTES) {
            txn = txn.commit_and_continue(recovery.applied)?;
            if !go_on() {
                return Err(RecoveryError::Stopped);
            }
            pending = 0;
        }
    }
    txn.commit(recovery.applied)?;
    recovery.made_anew = from == 0 && recovery.replayed > 0;
    Ok(recovery)
}
