//! What more than one suite needs.

pub(crate) mod audit;
pub(crate) mod child;
pub(crate) mod media;
pub(crate) mod ranged;
pub(crate) mod raw;
pub(crate) mod receiver;
pub(crate) mod s3;
pub(crate) mod slow;
pub(crate) mod vault;
pub(crate) mod web_socket;
