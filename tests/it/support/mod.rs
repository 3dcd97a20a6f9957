//! What more than one suite needs.

pub(crate) mod s3;
