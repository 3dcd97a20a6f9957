//! What a transfer is for.

use super::attempt_error::AttemptError;
use super::file_type::judge;
use crate::bucket::{ObjectFolder, ObjectKey};
use crate::domain::{Asset, Candidate, FileName, Job};
use crate::fetch::{Download, MediaType};

/// A file of a job that is to be fetched from one URL.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task<'a> {
    pub(super) job: &'a Job,
    pub(super) asset: &'a Asset,
    /// The job's folder.
    pub(super) folder: &'a ObjectFolder,
    /// From where.
    pub(super) candidate: &'a Candidate,
    /// Set when the bytes must go there: to an object that has gone missing, or since their usual key is taken.
    pub(super) key: Option<&'a ObjectKey>,
    /// What the file turned out to be when it had come before: an upload is named at its beginning.
    pub(super) media_type: Option<MediaType>,
}

impl Task<'_> {
    /// Whether an upload to `key` can become what this is for.
    pub(super) fn accepts(&self, key: &ObjectKey) -> bool {
        match self.key {
            Some(wanted) => key == wanted,
            None => key.as_str().strip_prefix(self.folder.as_str()).is_some_and(|rest| rest.starts_with('/')),
        }
    }

    /// The key for a file of that name.
    pub(super) fn key(&self, file: &FileName) -> ObjectKey {
        self.key.cloned().unwrap_or_else(|| self.folder.file(file))
    }

    /// The name and content type of the file, or why it is not wanted.
    pub(super) fn judge(
        &self,
        found: Option<MediaType>,
        download: &Download,
    ) -> Result<(FileName, String), AttemptError> {
        judge(self.job.kind(), self.asset.role, &self.asset.file, found, download.content_type())
    }
}
