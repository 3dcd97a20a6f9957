//! The `replyvault` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    replyvault::cli::main()
}
