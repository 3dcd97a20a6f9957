//! replyvault: the `replyUrl` target that keeps AI media.

pub mod domain;
pub mod intake;
pub mod journal;
pub mod provider;
pub mod state;
