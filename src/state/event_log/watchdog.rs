//! Notices that sled does not return any more.
//!
//! Its threads may come to wait for each other: who extends its file waits until the file was shortened, which waits for a
//! thread of a pool, all of which wait for whoever extends the file (<https://github.com/spacejam/sled/pull/1269>, mended in no
//! release of 0.34). Then nobody can read the state either, and callbacks get no answer. A start anew mends it.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fail::fail_point;

use super::super::State;
use crate::supervisor::Supervisor;

/// One call of sled that takes longer will never return. The largest batch takes minutes on a slow disk of which nothing is
/// cached.
const HANG_TIMEOUT: Duration = Duration::from_secs(300);

/// Reports the state's writer as ended once it hangs. The thread ends with the state.
///
/// # Errors
/// When the system refuses another thread.
pub(super) fn start(state: &State, supervisor: &Supervisor) -> io::Result<()> {
    const INTERVAL: Duration = Duration::from_millis(500);
    let (shared, supervisor) = (Arc::downgrade(&state.shared), supervisor.clone());
    let watch = move || {
        while let Some(shared) = shared.upgrade() {
            let hangs_for = State { shared }.writing_for();
            if hangs_for > hang_timeout() {
                let reason = format!("sled has not returned for {} s", hangs_for.as_secs());
                supervisor.guard("state writer").end(reason);
                return;
            }
            thread::sleep(INTERVAL);
        }
    };
    thread::Builder::new().name("state watchdog".to_owned()).spawn(watch).map(drop)
}

fn hang_timeout() -> Duration {
    fail_point!("state.hang_timeout", |_| Duration::from_secs(1));
    HANG_TIMEOUT
}
