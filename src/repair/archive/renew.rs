//! What lies in the archive in clear, or under another key, is encrypted with the first.
//!
//! What cannot be done to one segment holds up none behind it. How far each has come is remembered, so another try does
//! what is left and no more: an object that must not be removed, as with Object Lock, is not read and written again.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::pieces::Pieces;
use super::{SegmentArchive, name, sealed};
use crate::bucket::{BucketError, ObjectKey};
use crate::domain::{Digest, FileName};
use crate::journal::{ArchiveError, Archived};

/// How far a segment has come in this run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// It is encrypted with the first key.
    Sealed,
    /// The object of this name has its bytes, encrypted with the first key: it is to be removed.
    Replaced(String),
    /// It cannot be read as it was written, and stays.
    Damaged,
}

impl SegmentArchive {
    /// Encrypts these, all that there are, with the first key. Returns how many are damaged and stay as they are.
    pub(super) async fn renew_all(&self, segments: &[Archived]) -> Result<usize, ArchiveError> {
        let listed: BTreeSet<_> = segments.iter().map(|segment| segment.name.as_str()).collect();
        let (mut damaged, mut left, mut first) = (0, 0, None);
        for segment in segments {
            match self.renew_one(segment, &listed).await {
                Ok(renewal) => damaged += usize::from(renewal == Renewal::Damaged),
                // Of a bucket that does not answer nothing else is asked.
                Err(reason) if self.bucket.probe().await.is_err() => return Err(ArchiveError::Unavailable(reason)),
                Err(reason) => {
                    left += 1;
                    first = first.or(Some(reason));
                }
            }
        }
        first.map_or(Ok(damaged), |reason| Err(ArchiveError::NotRenewed { left, reason }))
    }

    /// Does what is left to do of a segment, or says why that cannot be done.
    async fn renew_one(&self, segment: &Archived, listed: &BTreeSet<&str>) -> Result<Renewal, String> {
        let known = self.renewals.lock().get(&segment.name).cloned();
        let renewal = match known {
            Some(Renewal::Replaced(by)) if !listed.contains(by.as_str()) => self.seal_again(segment, listed).await?,
            Some(renewal) => renewal,
            None => self.seal_again(segment, listed).await?,
        };
        self.renewals.lock().insert(segment.name.clone(), renewal.clone());
        if let Renewal::Replaced(_) = renewal {
            let removed = self.bucket.remove_journal(&name::file_name(segment)).await;
            removed.map_err(|error| hindrance(segment, "removed", "s3:DeleteObject", &error))?;
        }
        Ok(renewal)
    }

    async fn seal_again(&self, segment: &Archived, listed: &BTreeSet<&str>) -> Result<Renewal, String> {
        let read = self.read_older(segment).await;
        let bytes = match read.map_err(|error| hindrance(segment, "read", "s3:GetObject", &error))? {
            Ok(bytes) => bytes,
            Err(renewal) => return Ok(renewal),
        };
        let name = name::sealed(segment.base, &bytes);
        // Of one with another key the name is the same; the bytes are, too.
        let is_another = segment.name != name.as_str();
        let may_be_there = is_another && listed.contains(name.as_str());
        let written = self.put_unless_there(&name, segment.base, &bytes, may_be_there).await;
        written.map_err(|error| hindrance(segment, "written encrypted", "s3:PutObject", &error))?;
        tracing::info!(from = segment.name, to = %name, "an archived segment of the journal was encrypted");
        Ok(if is_another { Renewal::Replaced(name.as_str().to_owned()) } else { Renewal::Sealed })
    }

    /// The bytes of a segment that is to be encrypted; else what has become of it.
    async fn read_older(&self, segment: &Archived) -> Result<Result<Bytes, Renewal>, BucketError> {
        if !name::is_clear(segment) {
            let range = Some(0..sealed::INDEX_WITHIN);
            let mut pieces = Pieces::new(self.bucket.read(&name::key(segment), range).await?);
            match sealed::index(&mut pieces, &self.keys).await? {
                Ok(index) if self.keys.seals_with(index.key_id) => return Ok(Err(Renewal::Sealed)),
                Ok(_) => {}
                Err(_) => return Ok(Err(Renewal::Damaged)),
            }
        }
        let found = self.open(segment, 0, u64::MAX).await?;
        Ok(if found.problem.is_none() { Ok(found.bytes) } else { Err(Renewal::Damaged) })
    }

    async fn put_unless_there(
        &self,
        name: &FileName,
        base: u64,
        bytes: &Bytes,
        may_be_there: bool,
    ) -> Result<(), BucketError> {
        if may_be_there && self.has(name, base, bytes).await? {
            return Ok(());
        }
        self.put(name, base, bytes).await
    }

    /// Whether an encrypted segment of this name can be read as a whole and has these bytes.
    pub(super) async fn has(&self, name: &FileName, base: u64, bytes: &Bytes) -> Result<bool, BucketError> {
        let segment = Archived { base, end: None, name: name.as_str().to_owned() };
        let found = match self.open_sealed(&segment, &ObjectKey::journal(name), 0, u64::MAX).await {
            // It is empty, or gone since it was listed.
            Err(BucketError::InvalidRange(_) | BucketError::NotFound(_)) => return Ok(false),
            found => found?,
        };
        Ok(found.problem.is_none() && Digest::of(&found.bytes) == Digest::of(bytes))
    }
}

/// Why a segment stays as it is, with the permission that it takes to change that.
fn hindrance(segment: &Archived, done: &str, permission: &str, error: &BucketError) -> String {
    format!("{} cannot be {done}, for which S3 wants {permission}: {error}", name::key(segment))
}
