//! Notices that sled goes on with nothing any more, and ends the process: a start anew mends that.
//!
//! sled's threads may come to wait for each other: who extends its file waits until the file was shortened, which waits for a
//! thread of a pool, all of which wait for whoever extends the file (<https://github.com/spacejam/sled/pull/1269>, mended in no
//! release of 0.34). Nobody can read any store of the process then, so callbacks get no answer either.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use fail::fail_point;

use super::super::store::probe;
use super::super::{Shared, State};
use crate::disk::{remove_durably, write_durably};
use crate::supervisor::Supervisor;

/// Between two probes of the store.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// Between two looks at how many probes came back.
const TICK: Duration = Duration::from_secs(1);
/// After so many ticks without a probe that came back, sled hangs. A batch keeps readers out for minutes on a slow disk of which
/// nothing is cached. Ticks are counted, and not time: whoever was suspended had none.
const MAX_SILENT_TICKS: u32 = 600;
/// A disk that does not take in a small file for so long hangs itself, and may yet get on.
const DISK_PATIENCE: Duration = Duration::from_secs(30);
/// How long a probe may take to come back once the disk has answered, and then whoever hears of it to end the process.
const GRACE: Duration = Duration::from_secs(10);

/// Watches the store. The threads end with the state.
///
/// # Errors
/// When the system refuses another thread.
pub(super) fn start(state: &State, supervisor: &Supervisor) -> io::Result<()> {
    let (shared, supervisor) = (Arc::downgrade(&state.shared), supervisor.clone());
    let probes = Arc::<AtomicU64>::default();
    let (probed, counted) = (shared.clone(), probes.clone());
    spawn("state prober", move || {
        while let Some(state) = probed.upgrade() {
            let store = state.last.lock().upgrade();
            drop(state);
            // sled may panic when its last handle goes.
            let _ = catch_unwind(AssertUnwindSafe(|| probe(store)));
            counted.fetch_add(1, Ordering::Relaxed);
            thread::sleep(PROBE_INTERVAL);
        }
    })?;
    spawn("state watchdog", move || watch(&shared, &probes, &supervisor))
}

fn watch(shared: &Weak<Shared>, probes: &AtomicU64, supervisor: &Supervisor) {
    let (mut seen, mut silent_ticks) = (0, 0);
    while let Some(state) = shared.upgrade() {
        let now = probes.load(Ordering::Relaxed);
        silent_ticks = if now == seen { silent_ticks + 1 } else { 0 };
        seen = now;
        let file = state.dir.with_extension("probe");
        drop(state);
        if silent_ticks >= max_silent_ticks() {
            if disk_answers(&file) {
                // It may have hung until now, and then lets the probe come back, too.
                thread::sleep(GRACE);
                if probes.load(Ordering::Relaxed) == seen {
                    end(supervisor);
                }
            }
            silent_ticks = 0;
        }
        thread::sleep(TICK);
    }
}

fn end(supervisor: &Supervisor) {
    supervisor.guard("state's store").end("sled goes on with nothing".to_owned());
    thread::sleep(GRACE);
    // Whoever heard of it waits for the store, as others do.
    tracing::error!("the state's store hangs, and nothing can be ended any more: the process ends as it is");
    process::exit(1);
}

fn disk_answers(file: &Path) -> bool {
    let (answer, answered) = channel();
    let file = file.to_owned();
    let probe = move || {
        // A disk that refuses has answered.
        let _ = write_durably(&file, b"").and_then(|()| remove_durably(&file));
        let _ = answer.send(());
    };
    spawn("disk prober", probe).is_ok() && answered.recv_timeout(DISK_PATIENCE).is_ok()
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

fn max_silent_ticks() -> u32 {
    fail_point!("state.hang_timeout", |_| 5);
    MAX_SILENT_TICKS
}
