//! Tests from outside: the real thing on port 0, against real counterparts.

mod bucket;
mod cli;
mod config;
mod simulator;
mod support;
