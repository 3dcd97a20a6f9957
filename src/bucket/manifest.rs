//! The manifest's form: one piece of code writes it, whoever it is written by, and reads it back.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Bucket, BucketError, ObjectKey};
use crate::domain::{Digest, Job, JobView, Timestamp};

/// What a manifest says it is.
const SCHEMA: &str = "replyvault/manifest/v1";

/// The document beside a job's files.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest<'a> {
    schema: &'static str,
    job: JobView,
    /// Null for a job that ended without one.
    callback: Option<&'a RawValue>,
    written_at: Timestamp,
}

/// What a manifest in the bucket says, as far as it can be checked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ManifestContent {
    schema: String,
    /// The job.
    pub job: ManifestJob,
}

/// The job of a [`ManifestContent`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestJob {
    /// The provider's id.
    pub job_id: String,
    /// Where replyvault was with it.
    pub state: String,
    /// Its files.
    pub assets: Vec<ManifestFile>,
}

/// A file of a [`ManifestJob`]; without the last three when it is not stored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ManifestFile {
    /// Its name.
    pub file: String,
    /// The object that holds it.
    pub key: Option<String>,
    /// SHA-256 of its bytes.
    pub sha256: Option<Digest>,
    /// Its size in bytes.
    pub bytes: Option<u64>,
}

impl<'a> Manifest<'a> {
    /// Describes `job` as it is at `at`. `callback` is the final one, with what is secret hidden.
    pub fn new(job: &Job, callback: Option<&'a RawValue>, at: Timestamp) -> Self {
        Self { schema: SCHEMA, job: JobView::new(job, |_| false), callback, written_at: at }
    }
}

impl ManifestContent {
    /// Reads a manifest's bytes.
    ///
    /// # Errors
    /// With what was expected, when they are no manifest.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let content: Self = serde_json::from_slice(bytes).map_err(|error| format!("not a manifest: {error}"))?;
        if content.schema == SCHEMA { Ok(content) } else { Err(format!("expected the schema {SCHEMA}")) }
    }
}

impl Bucket {
    /// Writes a manifest, over the one that may be there.
    ///
    /// # Errors
    /// As for [`Bucket::put`].
    pub async fn put_manifest(&self, key: &ObjectKey, manifest: &Manifest<'_>) -> Result<(), BucketError> {
        // Texts, numbers and what is JSON already: nothing in it can fail to serialize.
        let json = serde_json::to_vec_pretty(manifest).unwrap_or_default();
        self.put(key, vec![Bytes::from(json)], "application/json").await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let job = Job::new("user:1-minimax:2-video:3".parse().unwrap(), Timestamp::now());
        let callback = serde_json::value::to_raw_value(&[1]).unwrap();
        let written = serde_json::to_vec(&Manifest::new(&job, Some(&callback), Timestamp::now())).unwrap();
        let content = ManifestContent::read(&written).unwrap();
        assert_eq!((content.job.job_id.as_str(), content.job.state.as_str()), (job.id.as_str(), "running"));
    }

    #[test]
    fn anything_else_is_refused() {
        for other in ["", "{", "{}", r#"{"schema":"other","job":{"jobId":"a","state":"b","assets":[]}}"#] {
            assert!(ManifestContent::read(other.as_bytes()).is_err(), "{other}");
        }
    }
}
