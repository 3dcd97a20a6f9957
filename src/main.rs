//! The `replyvault` command.
fn main() {}
