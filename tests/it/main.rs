//! Tests from outside: the real thing on port 0, against real counterparts, in one binary.

// A test that can't go on has failed; clippy knows only the functions marked as tests for such.
#![allow(clippy::unwrap_used)]

mod architecture;
mod bucket;
mod callbacks;
mod load;
mod pipeline;
mod simulator;
mod support;
