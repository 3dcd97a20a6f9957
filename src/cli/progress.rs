use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use super::output::{print, print_error};
use crate::telemetry::escaped;

/// How often a bar moves.
pub(super) const TICK: Duration = Duration::from_millis(200);
/// How often a line says how far it is where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How far a long command is: a bar on a terminal, a line now and then elsewhere, on stderr. Findings are results and go
/// to stdout.
#[derive(Clone)]
pub(super) struct ProgressDisplay {
    bar: ProgressBar,
    last_line: Arc<Mutex<Instant>>,
    terminal: bool,
}

impl ProgressDisplay {
    pub(super) fn new() -> Self {
        let terminal = io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(0) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}, {per_sec}, {eta} left") {
            bar.set_style(style);
        }
        Self { bar, last_line: Arc::new(Mutex::new(Instant::now())), terminal }
    }

    /// So many are done of so many; `what` says what is done with what.
    pub(super) fn at(&self, (done, total): (u64, u64), what: &str) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        if self.bar.message() != what {
            self.bar.set_message(what.to_owned());
        }
        let mut last = self.last_line.lock();
        if !self.terminal && last.elapsed() >= LINE_EVERY {
            *last = Instant::now();
            print_error(&format!("{done}/{total} {what}"));
        }
    }

    /// Something else is counted from now on.
    pub(super) fn restart(&self) {
        self.bar.reset();
    }

    pub(super) fn line(&self, text: &str) {
        // Not being able to print is said with the report.
        let _ = self.bar.suspend(|| print(format!("{}\n", escaped(text))));
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
