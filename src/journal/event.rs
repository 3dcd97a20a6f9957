use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::{AttemptFailure, Digest, JobId, JobState, RefId, ReplyRef, Slot, StoredFile, Timestamp};

/// What happened besides callbacks. Kept as JSON, so that journals outlive the version that wrote them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// A callback came again byte for byte; its bytes are in its first record.
    Repeated {
        /// When.
        at: Timestamp,
        /// The job it names.
        job: JobId,
    },
    /// A ref was registered.
    RefAdded {
        /// When.
        at: Timestamp,
        /// Its id.
        id: RefId,
        /// The caller's reference.
        reply_ref: ReplyRef,
        /// Where to tell of changes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        notify_url: Option<String>,
        /// The caller's labels.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<String, String>,
    },
    /// A ref was deleted.
    RefRemoved {
        /// When.
        at: Timestamp,
        /// Its id.
        id: RefId,
    },
    /// A job gets its folder: `folder`, or `fallback` where another job holds that.
    Placed {
        /// When.
        at: Timestamp,
        /// The job.
        job: JobId,
        /// The folder wanted.
        folder: String,
        /// The folder taken otherwise.
        fallback: String,
    },
    /// A multipart upload was started; recorded before its first part is sent.
    UploadStarted {
        /// When.
        at: Timestamp,
        /// The job.
        job: JobId,
        /// The file.
        slot: Slot,
        /// The upload, as the bucket names it.
        upload: String,
    },
    /// The store has more of an upload's parts, and the download they come from can be gone on with behind them.
    UploadAdvanced {
        /// When.
        at: Timestamp,
        /// The upload, as the bucket names it.
        upload: String,
        /// How many parts came before.
        first: usize,
        /// The parts that follow those, without a gap, as the store names them.
        parts: Vec<String>,
        /// How many bytes there are up to here.
        bytes: u64,
        /// Where the download is behind the last of them, as the worker writes it.
        point: String,
    },
    /// A multipart upload is no more: completed or aborted.
    UploadEnded {
        /// When.
        at: Timestamp,
        /// The upload, as the bucket names it.
        upload: String,
    },
    /// An object is about to become visible; what will be [`Event::Stored`] once it is.
    Claimed {
        /// When.
        at: Timestamp,
        /// The job.
        job: JobId,
        /// The file.
        slot: Slot,
        /// What will be there.
        file: StoredFile,
    },
    /// A claim came to nothing: no object is there.
    Released {
        /// When.
        at: Timestamp,
        /// SHA-256 of the bytes.
        sha256: Digest,
    },
    /// A file is in the bucket.
    Stored {
        /// The job.
        job: JobId,
        /// The file.
        slot: Slot,
        /// What is there.
        file: StoredFile,
    },
    /// An attempt at a file failed.
    AttemptFailed {
        /// When.
        at: Timestamp,
        /// The job.
        job: JobId,
        /// The file.
        slot: Slot,
        /// How.
        failure: AttemptFailure,
        /// When to take the job up again.
        due: Timestamp,
    },
    /// A job is over; its manifest, if it gets one, is written.
    Ended {
        /// When.
        at: Timestamp,
        /// The job.
        job: JobId,
        /// `archived`, `failed` or `stuck`.
        state: JobState,
        /// The final callback that decided it.
        decided_by: Option<u64>,
        /// The manifest.
        manifest_key: Option<String>,
    },
    /// Someone asked for another try.
    Retried {
        /// When.
        at: Timestamp,
        /// The job.
        job: JobId,
    },
}
