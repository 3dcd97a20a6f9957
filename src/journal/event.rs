use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::{
    AssetId, AttemptFailure, Digest, Job, JobId, JobState, Notification, NotificationId, Origin, QuarantineRemoval,
    RefId, ReplyRef, Route, StoredFile, Timestamp,
};

/// What happened besides callbacks. Kept as JSON, so that journals outlive the version that wrote them: what is added to an
/// event, or to a [`Job`] or [`StoredFile`] in one, needs `#[serde(default)]`; nothing is renamed or taken away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// A callback came again byte for byte; its bytes are in its first record.
    Repeated {
        /// When.
        at: Timestamp,
        /// The job it names.
        job: JobId,
        /// How often it came since it was last counted.
        #[serde(default = "once", skip_serializing_if = "is_once")]
        times: u32,
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
    /// A ref was made for a call through the gateway.
    GatewayRefAdded {
        /// When.
        at: Timestamp,
        /// Its id.
        id: RefId,
        /// The caller's reference, or one made for it.
        reply_ref: ReplyRef,
        /// True when it was made because the caller gave none.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        made: bool,
        /// The replyUrl that the caller gave: callbacks are passed on to it.
        #[serde(default, rename = "passOnTo", skip_serializing_if = "Option::is_none")]
        forward_url: Option<String>,
    },
    /// An answer through the gateway gave the token of a speech stream.
    StreamTokenGiven {
        /// When.
        at: Timestamp,
        /// The token's SHA-256.
        digest: Digest,
        /// Whether the call had the vault's own token for the provider.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        ours: bool,
        /// The provider's account, where the call named one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<String>,
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
    /// Bodies left quarantine without having been understood.
    QuarantineRemoved {
        /// When.
        at: Timestamp,
        /// Their positions.
        positions: Vec<u64>,
        /// Why.
        why: QuarantineRemoval,
    },
    /// A multipart upload was started; recorded before its first part is sent.
    UploadStarted {
        /// When.
        at: Timestamp,
        /// The job.
        job: JobId,
        /// The file.
        slot: AssetId,
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
        slot: AssetId,
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
        slot: AssetId,
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
        slot: AssetId,
        /// How.
        failure: AttemptFailure,
        /// How often attempts at the file had begun anew when this one began. Without it the failure counts in any case.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        renewals: Option<u32>,
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
    /// A ref that is still answered to, written again before the segment that has it goes.
    RefKept {
        /// Its id.
        id: RefId,
        /// The caller's reference.
        reply_ref: ReplyRef,
        /// How it came to be.
        origin: Origin,
        /// Where to tell of changes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        notify_url: Option<String>,
        /// The caller's labels.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<String, String>,
        /// True when the reference was made because the caller gave none.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        made: bool,
        /// The replyUrl that a caller of the gateway gave.
        #[serde(default, rename = "passOnTo", skip_serializing_if = "Option::is_none")]
        forward_url: Option<String>,
        /// When it was registered, adopted or made.
        created_at: Timestamp,
    },
    /// The receiver behind a ref took a callback that was passed on to it.
    PassedOn {
        /// When.
        at: Timestamp,
        /// The ref.
        id: RefId,
        /// The callback's position.
        position: u64,
    },
    /// A callback is not passed on any more, although its receiver did not take it.
    PassOnGivenUp {
        /// When.
        at: Timestamp,
        /// The ref.
        id: RefId,
        /// The callback's position.
        position: u64,
        /// Why, by a stable name.
        why: String,
    },
    /// A callback that waits to be passed on, said again before the segment that has it goes.
    PassOnKept {
        /// When the callback came.
        at: Timestamp,
        /// The ref.
        id: RefId,
        /// The callback's position.
        position: u64,
        /// Its size in bytes.
        bytes: u64,
    },
    /// A claim that is open, said again before the segment that has it goes.
    ClaimKept {
        /// The position of the claim.
        position: u64,
        /// The job.
        job: JobId,
        /// The file.
        slot: AssetId,
        /// What will be there.
        file: StoredFile,
    },
    /// A multipart upload that has not ended, said again before the segment that has its start goes.
    UploadKept {
        /// The position of its start.
        position: u64,
        /// The job.
        job: JobId,
        /// The file.
        slot: AssetId,
        /// The upload, as the bucket names it.
        upload: String,
        /// The parts that the store has, from the first on, as it names them.
        parts: Vec<String>,
        /// Where the download is behind the last of them, as the worker writes it.
        point: Option<String>,
    },
    /// A job that has not ended, written again before a segment that tells of it goes.
    JobKept {
        /// The position of the first entry that named it.
        sequence: u64,
        /// The job as it was.
        job: Box<Job>,
    },
    /// A job that the journal does not tell of, and a manifest in the bucket does.
    JobFound {
        /// When.
        at: Timestamp,
        /// The job as the manifest has it.
        job: Box<Job>,
    },
    /// The provider says the same as a final callback: it counts from now on.
    Confirmed {
        /// When.
        at: Timestamp,
        /// The job.
        job: JobId,
        /// The callback's position.
        position: u64,
        /// Of the other ids of the job in the callback those that the provider names, too.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        aliases: Vec<JobId>,
    },
    /// The provider does not say the same as a final callback: it goes to quarantine.
    Refuted {
        /// When.
        at: Timestamp,
        /// The job.
        job: JobId,
        /// The callback's position.
        position: u64,
        /// What differs, for people.
        difference: String,
    },
    /// The provider cannot tell yet whether a final callback is true.
    Unanswered {
        /// When.
        at: Timestamp,
        /// The job.
        job: JobId,
        /// When to ask again.
        due: Timestamp,
    },
    /// The provider no longer knows a job of which it never told the end.
    Removed {
        /// When.
        at: Timestamp,
        /// The job.
        job: JobId,
    },
    /// Someone asked for another try.
    Retried {
        /// When.
        at: Timestamp,
        /// The job.
        job: JobId,
    },
    /// Which endpoints are told of events from now on, and of which. What came before is none of theirs.
    NotifyRoutes {
        /// All there are.
        routes: Vec<Route>,
    },
    /// A link to a file that is not stored dies soon.
    LinksExpiring {
        /// When that was seen.
        at: Timestamp,
        /// The job.
        job: JobId,
    },
    /// A destination took an event.
    NotificationDelivered {
        /// When.
        at: Timestamp,
        /// The event.
        id: NotificationId,
    },
    /// A destination did not take an event, which is sent again.
    NotificationFailed {
        /// When.
        at: Timestamp,
        /// The event.
        id: NotificationId,
        /// How, for people.
        error: String,
        /// When it is sent again.
        due: Timestamp,
    },
    /// An event is not sent any more, although nobody took it.
    NotificationDead {
        /// When.
        at: Timestamp,
        /// The event.
        id: NotificationId,
        /// Why, by a stable name.
        why: String,
    },
    /// Someone asked for an event to be sent again.
    NotificationRetried {
        /// When.
        at: Timestamp,
        /// The event.
        id: NotificationId,
    },
    /// An event that is on its way or dead, written again before the segment goes that has what it tells of.
    NotificationKept {
        /// Its place among all events: that of what it tells of.
        number: u64,
        /// The event.
        notification: Box<Notification>,
    },
    /// What follows was sent to the shared log as one batch, and whether it got there is not known. Stands only in what
    /// a replica takes in while the shared log is away.
    Doubtful {
        /// The batch's number.
        serial: u64,
        /// How many callbacks it has: those that follow.
        callbacks: u64,
    },
    /// Whether a doubtful batch got there is known: if not, its callbacks follow once more. Stands where
    /// [`Event::Doubtful`] does.
    Settled {
        /// The batch's number.
        serial: u64,
    },
}

fn once() -> u32 {
    1
}

fn is_once(times: &u32) -> bool {
    *times == 1
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Journals are kept for good. When this fails, what was added lacks a default, or something was renamed: mend that,
    /// not the text.
    #[test]
    fn a_whole_job_that_was_written_before_can_be_read() {
        let written: Value = serde_json::from_str(include_str!("event/job_kept.json")).unwrap();
        let event: Event = serde_json::from_value(written.clone()).unwrap();
        let mut read = serde_json::to_value(&event).unwrap();
        let Event::JobKept { job, .. } = event else { panic!("another event") };
        assert_eq!((job.assets.len(), job.unconfirmed.len()), (2, 1));
        keep_only_what_is_in(&mut read, &written);
        assert_eq!(read, written);
    }

    #[test]
    fn a_repeat_is_written_as_before_unless_it_stands_for_several() {
        let job: JobId = "user:1-minimax:2-video:3".parse().unwrap();
        for (times, expected) in [(1, None), (7, Some(7))] {
            let event = Event::Repeated { at: Timestamp::from_millis_clamped(1), job: job.clone(), times };
            let written = serde_json::to_value(&event).unwrap();
            assert_eq!(written.get("times").and_then(Value::as_u64), expected);
            assert_eq!(serde_json::from_value::<Event>(written).unwrap(), event);
        }
    }

    /// What was added since is no matter.
    fn keep_only_what_is_in(read: &mut Value, written: &Value) {
        match (read, written) {
            (Value::Object(read), Value::Object(written)) => {
                read.retain(|name, _| written.contains_key(name));
                read.iter_mut().for_each(|(name, value)| keep_only_what_is_in(value, &written[name]));
            }
            (Value::Array(read), Value::Array(written)) => {
                read.iter_mut().zip(written).for_each(|(read, written)| keep_only_what_is_in(read, written));
            }
            _ => {}
        }
    }
}
