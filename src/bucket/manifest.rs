//! The manifest's form: one piece of code writes it, whoever it is written by, and reads it back.
//!
//! Its last member is the digest of all bytes before that. So damage shows in the bytes alone, whatever they say.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::IgnoredAny;
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
    /// Whether it was read from other bytes than were written.
    #[serde(skip)]
    is_damaged: bool,
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
        Self { schema: Schema::V1, job: JobView::new(job, |_| false), callback, written_at: at, is_damaged: false }
    }

    fn without_callback(&self) -> Self {
        Self { schema: self.schema.clone(), job: self.job.clone(), callback: None, ..*self }
    }

    /// Reads a manifest's bytes.
    ///
    /// # Errors
    /// With what was expected, when they are no manifest or not as they were written.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let manifest = Self::read_also_damaged(bytes)?;
        if manifest.is_damaged {
            return Err("its digest is not that of its bytes".to_owned());
        }
        Ok(manifest)
    }

    /// The same, also of what is [damaged](Self::is_damaged) and still has the form.
    ///
    /// # Errors
    /// With what was expected, when they are no manifest.
    pub fn read_also_damaged(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| format!("not a manifest: {error}"))?;
        Ok(Self { is_damaged: !is_as_written(bytes), ..manifest })
    }

    fn to_bytes(&self) -> Vec<u8> {
        // Texts, numbers and what is JSON already: nothing in it can fail to serialize.
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        // The last brace and the line end before it come behind the digest.
        json.truncate(json.len().saturating_sub(2));
        let ending = ending_of(&json);
        json.extend_from_slice(ending.as_bytes());
        json
    }

    /// Whether it is not as it was written: nothing that it says must be believed.
    pub const fn is_damaged(&self) -> bool {
        self.is_damaged
    }

    /// Whether it names a stored file that `job` does not have as stored: then it may be all that knows the file's digest.
    pub fn names_more_than(&self, job: &Job) -> bool {
        let stored = job.assets.iter().filter_map(|asset| asset.stored.as_ref());
        let stored: Vec<Digest> = stored.map(|file| file.sha256).collect();
        let mut named = self.job.assets.iter().filter_map(|file| file.sha256);
        // Any digest in a damaged one may be what is wrong.
        if self.is_damaged { named.count() > stored.len() } else { named.any(|sha256| !stored.contains(&sha256)) }
    }

    /// The final callback, for the manifest that is written over this one.
    ///
    /// # Errors
    /// When it may be damaged.
    pub fn into_callback(self) -> Result<Option<Box<RawValue>>, String> {
        if self.is_damaged && self.callback.is_some() {
            return Err("it is damaged, and so may be its final callback, which the state does not have".to_owned());
        }
        Ok(self.callback)
    }
}

/// How a manifest ends that begins with the bytes `before`.
fn ending_of(before: &[u8]) -> String {
    format!(",\n  \"digest\": \"{}\"\n}}", Digest::of(before))
}

/// Whether a manifest ends with the digest of what is before that, or is of an earlier version, which wrote none.
fn is_as_written(bytes: &[u8]) -> bool {
    const ENDING_BYTES: usize = 82;
    const EARLIER_MEMBERS: [&str; 4] = ["schema", "job", "callback", "writtenAt"];
    let (before, ending) = bytes.split_at(bytes.len().saturating_sub(ENDING_BYTES));
    if ending == ending_of(before).as_bytes() {
        return true;
    }
    // A digest under a damaged name is another member.
    let members = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(bytes);
    members.is_ok_and(|members| members.keys().all(|name| EARLIER_MEMBERS.contains(&name.as_str())))
}

impl Bucket {
    /// Writes a manifest, over the one that may be there.
    ///
    /// # Errors
    /// As for [`Bucket::put`].
    pub async fn put_manifest(&self, key: &ObjectKey, manifest: &Manifest) -> Result<(), BucketError> {
        let mut json = manifest.to_bytes();
        if json.len() as u64 > Manifest::MAX_BYTES {
            tracing::warn!(%key, "a final callback is too large for its manifest and is left out");
            json = manifest.without_callback().to_bytes();
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

    /// The manifest of the job `id` under `key`, which may be [damaged](Manifest::is_damaged); `None` when what is there is
    /// no such manifest, or nothing is.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn manifest_of(&self, key: &ObjectKey, id: &JobId) -> Result<Option<Manifest>, BucketError> {
        match self.read_manifest(key).await {
            Ok(bytes) => Ok(Manifest::read_also_damaged(&bytes).ok().filter(|found| found.job.job_id == *id)),
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

    #[test]
    fn a_flipped_bit_anywhere_in_a_manifest_is_noticed() {
        let job = Job::new("user:1-minimax:2-video:3".parse().unwrap(), Timestamp::now());
        let callback = serde_json::value::to_raw_value(&[1]).unwrap();
        let written = Manifest::new(&job, Some(callback), Timestamp::now()).to_bytes();
        assert_eq!(Manifest::read(&written).unwrap().to_bytes(), written);
        let members: serde_json::Value = serde_json::from_slice(&written).unwrap();
        let (before, _) = std::str::from_utf8(&written).unwrap().rsplit_once(",\n").unwrap();
        assert_eq!(members["digest"], Digest::of(before.as_bytes()).to_string());
        for bit in 0..8 * written.len() {
            let mut flipped = written.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::read(&flipped).is_err(), "bit {bit}: {}", String::from_utf8_lossy(&flipped));
        }
    }

    #[test]
    fn a_damaged_manifest_gives_no_callback_and_names_more_if_it_names_more_files() {
        let job = Job::new("user:1-minimax:2-video:3".parse().unwrap(), Timestamp::now());
        let written = Manifest::read(include_str!("manifest/v1.json").as_bytes()).unwrap().to_bytes();
        let damaged = String::from_utf8(written).unwrap().replace("\"boat\"", "\"goat\"");
        let manifest = Manifest::read_also_damaged(damaged.as_bytes()).unwrap();
        assert!(manifest.is_damaged() && manifest.names_more_than(&job));
        assert!(manifest.into_callback().is_err());
        let written = Manifest::new(&job, None, Timestamp::now()).to_bytes();
        let damaged = String::from_utf8(written).unwrap().replace("\"running\"", "\"stuck\"");
        let manifest = Manifest::read_also_damaged(damaged.as_bytes()).unwrap();
        assert!(manifest.is_damaged() && !manifest.names_more_than(&job));
        assert!(manifest.into_callback().unwrap().is_none());
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
