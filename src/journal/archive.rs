use bytes::Bytes;

/// Where segments are that are no longer here. Its calls block.
pub trait Archive: std::fmt::Debug + Send + Sync {
    /// The bases of all segments there, lowest first.
    ///
    /// # Errors
    /// When they cannot be found out; that there are none is no error.
    fn bases(&self) -> Result<Vec<u64>, ArchiveError>;

    /// A segment's bytes, as [`Journal::segment`](super::Journal::segment) gave them.
    ///
    /// # Errors
    /// When they cannot be had.
    fn segment(&self, base: u64) -> Result<Bytes, ArchiveError>;

    /// The same for one record of it. Whoever wants one often wants another soon.
    ///
    /// # Errors
    /// As for [`Archive::segment`].
    fn segment_for_record(&self, base: u64) -> Result<Bytes, ArchiveError> {
        self.segment(base)
    }

    /// Nobody waits any more: calls that run, and all after, fail soon.
    fn close(&self);
}

/// Why segments that are no longer here cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal's older segments cannot be read: {0}")]
pub struct ArchiveError(pub String);
