//! replyvault: the `replyUrl` target that keeps AI media.

pub mod bucket;
pub mod domain;
