//! The manifest's form: one piece of code writes it, whoever it is written by, and reads it back.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Bucket, BucketError, ObjectKey};
use crate::domain::{Digest, Job, JobId, JobView, Timestamp};

/// The document beside a job's files.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    schema: Schema,
    /// The job.
    pub job: JobView,
    /// The final callback, its secrets hidden; null for a job that ended without one.
    pub callback: Option<Box<RawValue>>,
    /// When it was written.
    pub written_at: Timestamp,
}

/// What a manifest says it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Schema {
    #[serde(rename = "replyvault/manifest/v1")]
    V1,
}

impl Manifest {
    /// The most bytes a manifest has. A final callback that would not fit is left out.
    pub const MAX_BYTES: u64 = 4 << 20;

    /// Describes `job` as it is at `at`. `callback` is the final one, with what is secret hidden.
    pub fn new(job: &Job, callback: Option<Box<RawValue>>, at: Timestamp) -> Self {
        Self { schema: Schema::V1, job: JobView::new(job, |_| false), callback, written_at: at }
    }

    fn without_callback(&self) -> Self {
        Self { schema: self.schema.clone(), job: self.job.clone(), callback: None, written_at: self.written_at }
    }

    /// Reads a manifest's bytes.
    ///
    /// # Errors
    /// With what was expected, when they are no manifest.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("not a manifest: {error}"))
    }

    /// Whether it names a stored file that `job` does not have as stored: then it may be all that knows the file's digest.
    pub fn names_more_than(&self, job: &Job) -> bool {
        let is_known = |sha256: Digest| {
            job.assets.iter().filter_map(|asset| asset.stored.as_ref()).any(|file| file.sha256 == sha256)
        };
        self.job.assets.iter().filter_map(|file| file.sha256).any(|sha256| !is_known(sha256))
    }
}

impl Bucket {
    /// Writes a manifest, over the one that may be there.
    ///
    /// # Errors
    /// As for [`Bucket::put`].
    pub async fn put_manifest(&self, key: &ObjectKey, manifest: &Manifest) -> Result<(), BucketError> {
        // Texts, numbers and what is JSON already: nothing in it can fail to serialize.
        let mut json = serde_json::to_vec_pretty(manifest).unwrap_or_default();
        if json.len() as u64 > Manifest::MAX_BYTES {
            tracing::warn!(%key, "a final callback is too large for its manifest and is left out");
            json = serde_json::to_vec_pretty(&manifest.without_callback()).unwrap_or_default();
        }
        self.put(key, vec![Bytes::from(json)], "application/json").await
    }

    /// The bytes of a manifest.
    ///
    /// # Errors
    /// As for [`Bucket::read_whole`] with [`Manifest::MAX_BYTES`].
    pub async fn read_manifest(&self, key: &ObjectKey) -> Result<Bytes, BucketError> {
        self.read_whole(key, Manifest::MAX_BYTES).await
    }

    /// The manifest of the job `id` under `key`; `None` when what is there is no such manifest, or nothing is.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn manifest_of(&self, key: &ObjectKey, id: &JobId) -> Result<Option<Manifest>, BucketError> {
        match self.read_manifest(key).await {
            Ok(bytes) => Ok(Manifest::read(&bytes).ok().filter(|found| found.job.job_id == *id)),
            Err(BucketError::NotFound(_) | BucketError::TooLarge(..)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::JobState;

    #[test]
    fn written_state_records_can_be_read() {
        let job = Job::new("user:1-minimax:2-video:3".parse().unwrap(), Timestamp::now());
        for callback in [None, Some(serde_json::value::to_raw_value(&[1]).unwrap())] {
            let manifest = Manifest::new(&job, callback, Timestamp::now());
            let written = serde_json::to_string(&manifest).unwrap();
            let read = Manifest::read(written.as_bytes()).unwrap();
            assert_eq!((&read.job.job_id, read.job.state), (&job.id, JobState::Running));
            assert_eq!(serde_json::to_string(&read).unwrap(), written);
        }
    }

    /// Manifests stay in buckets for good.
    #[test]
    fn manifests_of_earlier_versions_can_be_read() {
        let written = include_str!("manifest/v1.json");
        let manifest = Manifest::read(written.as_bytes()).unwrap();
        // What was added since stands beside what was written.
        let added = "    \"provider\": \"minimax\",\n";
        assert_eq!(serde_json::to_string_pretty(&manifest).unwrap().replacen(added, "", 1), written.trim_end());
    }

    #[test]
    fn a_manifest_that_names_a_file_which_the_job_has_not_stored_names_more() {
        let job = Job::new("user:1-minimax:2-video:3".parse().unwrap(), Timestamp::now());
        let written = Manifest::read(include_str!("manifest/v1.json").as_bytes()).unwrap();
        assert!(written.names_more_than(&job));
        assert!(!Manifest::new(&job, None, Timestamp::now()).names_more_than(&job));
    }

    #[test]
    fn anything_else_is_refused() {
        let other_schema = include_str!("manifest/v1.json").replace("manifest/v1", "manifest/v0");
        for other in ["", "{", "{}", &other_schema] {
            assert!(Manifest::read(other.as_bytes()).is_err(), "{other}");
        }
    }
}
