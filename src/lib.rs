//! replyvault: the `replyUrl` target that keeps AI media.

pub mod domain;
pub mod simulator;
