//! The parts against each other and against real counterparts, in one binary.

// A test that can't go on has failed; clippy knows only the functions marked as tests for such.
#![allow(clippy::unwrap_used)]

mod bucket;
mod support;
