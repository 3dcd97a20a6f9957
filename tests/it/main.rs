//! Tests from outside: the real thing on port 0, against real counterparts.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not inside a #[test] themselves")]

mod bucket;
mod cli;
mod config;
mod simulator;
mod support;
