use std::io::{self, ErrorKind, Write};

use super::Failure;
use crate::telemetry::escaped;

/// Prints a result. Whoever closed the pipe has read enough.
pub(super) fn print(text: impl AsRef<str>) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_ref().as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::runtime(format!("the result cannot be printed: {error}")))
        }
        _ => Ok(()),
    }
}

/// Says what is wrong, in one line, on stderr.
pub(super) fn print_error(message: &str) {
    let _ = writeln!(io::stderr(), "replyvault: {}", escaped(message));
}
