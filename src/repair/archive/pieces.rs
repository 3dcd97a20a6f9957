//! An object's bytes in pieces of the size that is wanted, one piece in memory at a time.

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;

use crate::bucket::BucketError;

pub(super) struct Pieces {
    stream: BoxStream<'static, Result<Bytes, BucketError>>,
    held: BytesMut,
}

impl Pieces {
    pub(super) fn new(stream: BoxStream<'static, Result<Bytes, BucketError>>) -> Self {
        Self { stream, held: BytesMut::new() }
    }

    /// The next `length` bytes; fewer only at the object's end.
    pub(super) async fn take(&mut self, length: usize) -> Result<Bytes, BucketError> {
        while self.held.len() < length
            && let Some(chunk) = self.stream.try_next().await?
        {
            self.held.extend_from_slice(&chunk);
        }
        let length = length.min(self.held.len());
        Ok(self.held.split_to(length).freeze())
    }

    /// Whatever comes next; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, BucketError> {
        if self.held.is_empty() { self.stream.try_next().await } else { Ok(Some(self.held.split().freeze())) }
    }
}
