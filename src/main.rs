//! The `replyvault` command.

use std::process::ExitCode;

// jemalloc takes the place of `malloc`: callbacks and the state's records are many small pieces, made by one thread and freed
// by another. As Rust's own global allocator it would hand out zeroed memory only after writing zeros to it, and sled asks for
// 18 MiB that it never looks at.
use tikv_jemalloc_sys as _;

fn main() -> ExitCode {
    replyvault::cli::main()
}
