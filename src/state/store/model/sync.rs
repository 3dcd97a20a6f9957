//! As the store's own `sync.rs`, for threads that shuttle schedules. Time passes by chance.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use shuttle::rand::{Rng, thread_rng};
pub(super) use shuttle::sync::Condvar;
use shuttle::thread;

/// A lock whose guard knows it.
#[derive(Debug)]
pub(super) struct Mutex<T>(shuttle::sync::Mutex<T>);

pub(super) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    guard: shuttle::sync::MutexGuard<'a, T>,
}

impl<T> Mutex<T> {
    pub(super) fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// A moment; any time may have passed since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instant;

impl Instant {
    pub(super) fn now() -> Self {
        Self
    }

    /// Nothing, or more than anybody waits for.
    pub(super) fn elapsed(self) -> Duration {
        if thread_rng().gen_bool(0.5) { Duration::ZERO } else { Duration::from_secs(3600) }
    }
}

std::thread_local! {
    static DEADLINES_PASS: Cell<bool> = const { Cell::new(false) };
}

/// Whether whoever waits with a deadline may give up at any moment. Where nobody does, a thread that is not woken is a deadlock.
/// shuttle runs all threads of one check on one of the system's.
pub(super) fn let_deadlines_pass(pass: bool) {
    DEADLINES_PASS.set(pass);
}

pub(super) struct Deadline;

impl Deadline {
    pub(super) fn after(_: Duration) -> Self {
        Self
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    MutexGuard { mutex, guard: mutex.0.lock().unwrap() }
}

pub(super) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    let MutexGuard { mutex, guard } = guard;
    MutexGuard { mutex, guard: condvar.wait(guard).unwrap() }
}

pub(super) fn wait_until<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    _: &Deadline,
) -> (MutexGuard<'a, T>, bool) {
    if !DEADLINES_PASS.get() {
        return (wait(condvar, guard), true);
    }
    let mutex = guard.mutex;
    pause(condvar, guard, Duration::ZERO);
    (lock(mutex), thread_rng().gen_bool(0.5))
}

/// Ends at any moment, which is all that may be relied on.
pub(super) fn pause<T>(_: &Condvar, guard: MutexGuard<'_, T>, _: Duration) {
    drop(guard);
    thread::yield_now();
}

pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}
