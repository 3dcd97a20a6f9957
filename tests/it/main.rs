//! Tests from outside: the real thing on port 0, against real counterparts, in one binary.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not inside a #[test] themselves")]

mod api;
mod apis;
mod architecture;
mod archive;
mod backfill;
mod backup;
mod bucket;
mod budget;
mod callbacks;
mod claims;
mod cli;
mod cluster;
mod config;
mod confirm;
mod connect;
mod crash;
mod failure_points;
mod full_disk;
mod gateway;
mod hung_disk;
mod inbound;
mod large_bodies;
mod load;
mod notify;
mod pipeline;
mod private_files;
mod process_life;
mod properties;
mod reconcile;
mod relay;
mod repair;
mod resume;
mod retention;
mod saved_index;
mod shares;
mod simulator;
mod soak;
mod storage_faults;
mod support;
mod tenants;
mod unmounted;
mod upgrade;
mod withdrawn;
