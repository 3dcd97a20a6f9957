//! replyvault: the `replyUrl` target that keeps AI media.

pub mod domain;
pub mod egress;
pub mod fetch;
