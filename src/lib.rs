//! replyvault: the `replyUrl` target that keeps AI media.

pub mod api;
pub mod app;
pub mod bucket;
pub mod cli;
pub mod config;
pub mod domain;
pub mod egress;
pub mod fetch;
pub mod gateway;
pub mod intake;
pub mod journal;
pub mod provider;
pub mod reconcile;
pub mod relay;
pub mod repair;
pub mod simulator;
pub mod state;
pub mod supervisor;
pub mod telemetry;
pub mod worker;
