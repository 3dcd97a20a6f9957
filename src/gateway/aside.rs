//! Long looks at what the provider says, beside the threads that answer.

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// What is looked at in a moment, in bytes.
const MAX_SMALL_BYTES: usize = 64 << 10;
/// Long looks at a time, so that processors are left for everything else; the rest waits.
static TURNS: Semaphore = Semaphore::const_new(2);

/// Looks at so many bytes: at many on a thread that may block, where no other connection waits for it. That goes on when the
/// result is not wanted any more, and its turn with it. `None` when it comes upon a defect.
pub(super) async fn aside<T: Send + 'static>(bytes: usize, look: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if bytes <= MAX_SMALL_BYTES {
        return Some(look());
    }
    let turn = TURNS.acquire().await.ok()?;
    spawn_blocking(move || (look(), turn)).await.ok().map(|(seen, _)| seen)
}
