use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::{
    AssetId, Job, JobId, JobState, Origin, QuarantineReason, RefId, ReplyRef, StoredFile, Target, Timestamp,
};

/// A job with the number that orders jobs by when they were first heard of.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRecord {
    /// The journal position of the first entry that named it.
    pub sequence: u64,
    /// The job.
    pub job: Job,
}

/// What an entry made of a job. All else is there to be read.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSummary {
    /// See [`JobRecord::sequence`].
    pub sequence: u64,
    /// Its id.
    pub id: JobId,
    /// The caller's reference.
    pub reply_ref: Option<ReplyRef>,
    /// Where replyvault is with it.
    pub state: JobState,
    /// True once a callback has called it final, believed or not.
    pub is_final: bool,
    /// The journal position of the last final callback that waits to be confirmed.
    pub last_unconfirmed: Option<u64>,
}

/// What is told of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeNotice {
    /// A job changed.
    Job(JobChanged),
    /// The state was opened anew: any job may have changed, and that is not told one by one.
    Gap,
    /// There will be no more changes.
    End,
}

/// That a job changed: who wants to know how reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobChanged {
    /// See [`JobRecord::sequence`].
    pub sequence: u64,
    /// Where replyvault was with it then.
    pub state: JobState,
    /// Which change this is, counted from the start of the process on.
    pub number: u64,
    /// Whether somebody asked for another try.
    pub is_retry: bool,
}

/// A ref: registered, adopted, or made for a call through the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefRecord {
    /// Its id, part of its URL.
    pub id: RefId,
    /// The caller's reference.
    pub reply_ref: ReplyRef,
    /// How it came to be.
    pub origin: Origin,
    /// Where to tell of changes.
    pub notify_url: Option<String>,
    /// The caller's labels.
    pub labels: BTreeMap<String, String>,
    /// True when the reference was made because a caller of the gateway gave none.
    pub made: bool,
    /// The replyUrl that a caller of the gateway gave: what comes over this ref's URL is passed on to it. Its query may be
    /// a secret of the caller's.
    pub forward_url: Option<String>,
    /// When.
    pub created_at: Timestamp,
    /// Set once it is deleted: its URL is no longer accepted and it is no longer shown.
    pub removed_at: Option<Timestamp>,
}

impl RefRecord {
    /// About how many bytes it has.
    pub(super) fn bytes(&self) -> usize {
        let Self { reply_ref, notify_url, labels, forward_url, .. } = self;
        let urls = [notify_url, forward_url].into_iter().flatten().map(String::len).sum::<usize>();
        let labels = labels.iter().map(|(name, text)| name.len() + text.len()).sum::<usize>();
        reply_ref.as_str().len() + urls + labels
    }

    /// A ref with nothing said of it.
    pub(super) fn new(id: RefId, reply_ref: ReplyRef, origin: Origin, created_at: Timestamp) -> Self {
        Self {
            id,
            reply_ref,
            origin,
            notify_url: None,
            labels: BTreeMap::new(),
            made: false,
            forward_url: None,
            created_at,
            removed_at: None,
        }
    }
}

/// The token of a speech stream, which goes by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamTokenRecord {
    /// When it was given.
    pub at: Timestamp,
    /// Whether to a call with the vault's own token for the provider.
    pub ours: bool,
    /// The provider's account, where the call named one.
    pub account: Option<String>,
}

impl StreamTokenRecord {
    /// How long the provider takes it.
    pub const LIVES: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
}

/// What is known of the bytes with one digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaRecord {
    /// Their number.
    pub bytes: u64,
    /// Their real MIME type.
    pub content_type: String,
    /// The object that holds them.
    pub key: String,
    /// When they were first stored.
    pub first_stored_at: Timestamp,
    /// The journal position of that.
    pub position: u64,
}

/// A file that consists of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The job.
    pub job_id: JobId,
    /// Its file's name.
    pub file: String,
    /// The caller's reference.
    pub reply_ref: Option<ReplyRef>,
}

impl Reference {
    /// About how many bytes it has.
    pub(super) fn bytes(&self) -> usize {
        let reply_ref = self.reply_ref.as_ref().map_or(0, |name| name.as_str().len());
        self.job_id.as_str().len() + self.file.len() + reply_ref
    }
}

/// Announces that an object is about to become visible.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// The job it is for.
    pub job: JobId,
    /// The file it is for.
    pub slot: AssetId,
    /// What will be there.
    pub file: StoredFile,
}

/// A multipart upload that is not known to have ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRecord {
    /// The job it is for.
    pub job: JobId,
    /// The file it is for.
    pub slot: AssetId,
    /// The parts that the store has, from the first on, as it names them.
    pub parts: Vec<String>,
    /// Where the download is behind them, as the worker writes it; `None` while it cannot be gone on with.
    pub point: Option<String>,
}

/// A body kept aside. The body itself is in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineRecord {
    /// Its journal position: its id.
    pub position: u64,
    /// When it came.
    pub at: Timestamp,
    /// Over which URL.
    pub target: Target,
    /// Why it is here.
    pub reason: QuarantineReason,
    /// The job it names, if it names one.
    pub job_id: Option<JobId>,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A callback that waits to be passed on. The body is in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRecord {
    /// When it came.
    pub at: Timestamp,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Events about one job to one destination: they follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NotificationLane {
    /// Stands for the destination: see [`State::destination`](super::State::destination).
    pub destination: u64,
    /// Stands for the job.
    pub job: u64,
}

impl std::fmt::Display for NotificationLane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}-{:016x}", self.destination, self.job)
    }
}

/// That there is something new to send in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotificationsChanged {
    /// Where.
    pub lane: NotificationLane,
    /// Stands for whose it is: see [`State::notification_owner`](super::State::notification_owner).
    pub owner: u64,
    /// Whether somebody asked for it to be sent now.
    pub at_once: bool,
}

/// Numbers kept up to date with every batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Jobs by state.
    pub jobs: BTreeMap<JobState, u64>,
    /// Jobs that are due now or later.
    pub queued: u64,
    /// Of these, those that were due at once.
    pub ready: u64,
    /// Minutes in which links of the queue die.
    pub dying_minutes: u64,
    /// Objects in the content-hash index.
    pub objects: u64,
    /// Their bytes.
    pub bytes_stored: u64,
    /// Keys of the bucket that belong to a digest.
    pub object_keys: u64,
    /// Bytes that were there already when a file turned out to consist of them.
    pub bytes_deduplicated: u64,
    /// Refs that are not deleted.
    pub refs: u64,
    /// Of these, those made by the gateway, which do not answer to their replyRef.
    pub refs_of_gateway: u64,
    /// Refs that were deleted.
    pub refs_removed: u64,
    /// Refs that have labels, deleted or not.
    pub refs_labelled: u64,
    /// Files that consist of the objects in the index.
    pub references: u64,
    /// Jobs that are tied to a reference.
    pub jobs_tied: u64,
    /// Jobs that have a folder.
    pub jobs_placed: u64,
    /// Ids of jobs beside their own.
    pub job_aliases: u64,
    /// Bodies in quarantine.
    pub quarantined: u64,
    /// Their bytes.
    pub quarantined_bytes: u64,
    /// Callbacks that were written again.
    pub kept: u64,
    /// Callbacks that wait to be passed on.
    pub outbox: u64,
    /// Callbacks that were passed on.
    pub passed_on: u64,
    /// Callbacks that were given up instead.
    pub not_passed_on: u64,
    /// Events that are to be sent.
    pub notifications_pending: u64,
    /// Of those that were delivered, how many are remembered.
    pub notifications_delivered: u64,
    /// Of those that nobody took, how many are remembered.
    pub notifications_dead: u64,
    /// Events that were delivered, ever.
    pub notified: u64,
    /// Events that nobody took, ever.
    pub not_notified: u64,
    /// Callbacks understood, repeats included.
    pub callbacks: u64,
    /// Jobs with final callbacks that the provider has still to confirm.
    pub unconfirmed: u64,
    /// Of these callbacks, those whose content has a record of its own.
    pub unconfirmed_apart: u64,
    /// Files of jobs that have records of their own.
    pub job_files: u64,
}

impl Counters {
    /// Events that are to be sent, and those that are remembered.
    pub(super) fn notifications(&self) -> u64 {
        self.notifications_pending + self.notifications_delivered + self.notifications_dead
    }
}

/// The one record that says what the others cover.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// The form of the records.
    pub(super) version: u32,
    /// Everything before this journal position is folded in.
    pub(super) applied: u64,
    /// Of what is before this journal position, something was missing when it was to be folded in.
    pub(super) begins: u64,
    /// The numbers.
    pub(super) counters: Counters,
}

/// The form of the records; a store of any other is rebuilt from the journal.
pub(super) const VERSION: u32 = 25;
