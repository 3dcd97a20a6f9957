use std::io::{self, ErrorKind, Write};

use super::Failure;
use crate::telemetry::escaped;

/// Prints a result.
pub(super) fn print(text: impl AsRef<str>) -> Result<(), Failure> {
    write(text.as_ref()).map_err(|error| Failure::runtime(format!("the result cannot be printed: {error}")))
}

/// Writes to stdout. Whoever closed the pipe has read enough.
pub(super) fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Says what is wrong, in one line, on stderr.
pub(super) fn print_error(message: &str) {
    let _ = writeln!(io::stderr(), "replyvault: {}", escaped(message));
}
