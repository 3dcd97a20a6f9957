use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long the step that is under way has taken so far. One thread works, others look.
#[derive(Debug, Default)]
pub(super) struct Stopwatch(Mutex<Option<Instant>>);

impl Stopwatch {
    /// Does `step` with the watch running.
    pub(super) fn time<T>(&self, step: impl FnOnce() -> T) -> T {
        self.set(Some(Instant::now()));
        let done = step();
        self.set(None);
        done
    }

    /// Zero while nothing is under way.
    pub(super) fn elapsed(&self) -> Duration {
        self.0.lock().map_or(Duration::ZERO, |since| since.elapsed())
    }

    pub(super) fn set(&self, since: Option<Instant>) {
        *self.0.lock() = since;
    }
}
