//! The manifest's form: one piece of code writes it, whoever it is written by, and reads it back.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Bucket, BucketError, ObjectKey};
use crate::domain::{
    Digest, FileName, Job, JobId, JobState, JobView, Outcome, RefId, ReplyRef, Role, StuckReason, Timestamp, Variant,
};

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

/// What a manifest in the bucket says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestContent {
    schema: String,
    /// The job.
    pub job: ManifestJob,
    /// The final callback, its secrets hidden.
    #[serde(default)]
    pub callback: Option<Box<RawValue>>,
    /// When it was written.
    pub written_at: Timestamp,
}

/// The job of a [`ManifestContent`]: its fields are those of [`JobView`].
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "documented where they are written")]
pub struct ManifestJob {
    pub job_id: JobId,
    pub reply_ref: Option<ReplyRef>,
    pub ref_id: Option<RefId>,
    pub state: JobState,
    pub outcome: Option<Outcome>,
    pub status: Option<ManifestStatus>,
    pub status_label: Option<String>,
    pub percent: Option<u8>,
    pub message: Option<String>,
    pub error: Option<String>,
    pub reason: Option<StuckReason>,
    pub prompt: Option<String>,
    pub callbacks: u32,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub archived_at: Option<Timestamp>,
    pub assets: Vec<ManifestFile>,
}

/// A file of a [`ManifestJob`]; its fields are those of [`AssetView`](crate::domain::AssetView).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "documented where they are written")]
pub struct ManifestFile {
    pub file: FileName,
    pub role: Role,
    pub variant: Option<Variant>,
    pub source_url: Option<String>,
    pub sha256: Option<Digest>,
    pub bytes: Option<u64>,
    pub content_type: Option<String>,
    pub key: Option<String>,
    pub deduplicated: bool,
    pub attempts: u16,
    pub last_error: Option<String>,
    pub stored_at: Option<Timestamp>,
}

/// The provider's `status`, as a number or a word.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ManifestStatus {
    Number(i64),
    Word(String),
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
        assert_eq!((content.job.job_id, content.job.state), (job.id, JobState::Running));
    }

    #[test]
    fn anything_else_is_refused() {
        for other in ["", "{", "{}", r#"{"schema":"other","job":{"jobId":"a","state":"b","assets":[]}}"#] {
            assert!(ManifestContent::read(other.as_bytes()).is_err(), "{other}");
        }
    }
}
