//! Tests of the whole, through its public surface.

mod simulator;
