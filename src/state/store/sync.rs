//! Where the store's threads meet, and what time it is for them. The model check has its own in the place of this.

use std::sync::PoisonError;
pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
pub(super) use std::time::Instant;

use std::time::Duration;

/// A moment after which nobody waits any longer.
pub(super) struct Deadline(Instant);

impl Deadline {
    pub(super) fn after(timeout: Duration) -> Self {
        Self(Instant::now() + timeout)
    }

    /// How long it is until then; `None` when it has passed.
    fn left(&self) -> Option<Duration> {
        Some(self.0.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }
}

/// What a panic left is as good as what is there otherwise: no method of what stands behind the lock leaves it half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until it is told.
pub(super) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// Waits until it is told or the deadline has passed: then `false`.
pub(super) fn wait_until<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    deadline: &Deadline,
) -> (MutexGuard<'a, T>, bool) {
    match deadline.left() {
        Some(left) => (condvar.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0, true),
        None => (guard, false),
    }
}

/// Rests for so long, or until it is told. What is right must not depend on how long that is.
pub(super) fn pause<T>(condvar: &Condvar, guard: MutexGuard<'_, T>, duration: Duration) {
    drop(condvar.wait_timeout(guard, duration).unwrap_or_else(PoisonError::into_inner));
}

pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}
