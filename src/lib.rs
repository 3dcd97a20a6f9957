//! replyvault: the `replyUrl` target that keeps AI media.

pub use replyvault_domain as domain;
pub use replyvault_simulator as simulator;

pub mod api;
pub mod app;
pub mod backoff;
pub mod bucket;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod decompress;
pub mod delivery;
pub mod disk;
pub mod egress;
pub mod fetch;
pub mod gateway;
pub mod http;
pub mod intake;
pub mod journal;
pub mod notify;
pub mod provider;
pub mod reconcile;
pub mod relay;
pub mod repair;
pub mod search;
pub mod state;
pub mod supervisor;
pub mod telemetry;
pub mod thumbnail;
pub mod worker;
