//! Tests from outside: the real thing on port 0, against real counterparts.

mod api;
mod bucket;
mod simulator;
mod support;
