//! The job and its state machine.

mod asset;
mod confirm;
mod observe;
mod withdrawn;

use std::time::Duration;

pub use asset::{Asset, AssetState, StoredFile};
pub use confirm::UnconfirmedFinal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
pub use withdrawn::Withdrawal;

use super::{AssetId, JobDetails, JobId, Kind, RefId, ReplyRef, Status, Timestamp};

/// Where replyvault is with a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// The provider has not said that it is final.
    Running,
    /// Final; its files or its manifest are being written.
    Archiving,
    /// Final, all its files and its manifest stored.
    Archived,
    /// Final without media, manifest stored.
    Failed,
    /// Final, and a file cannot be had without someone's help or a further callback.
    Stuck,
}

impl JobState {
    /// Every state, in the order a job goes through them.
    pub const ALL: [Self; 5] = [Self::Running, Self::Archiving, Self::Archived, Self::Failed, Self::Stuck];

    /// The name used in the API, in manifests and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Archiving => "archiving",
            Self::Archived => "archived",
            Self::Failed => "failed",
            Self::Stuck => "stuck",
        }
    }

    /// Whether replyvault is done with a job for now: a retry, or a further callback, may move it on from `failed` and `stuck`.
    pub const fn is_end(self) -> bool {
        match self {
            Self::Running | Self::Archiving => false,
            Self::Archived | Self::Failed | Self::Stuck => true,
        }
    }

    /// Whether a manifest that was written in the state `written` says more than the record of a job in this state.
    pub const fn is_superseded_by(self, written: Self) -> bool {
        match self {
            Self::Running => true,
            Self::Archiving | Self::Failed | Self::Stuck => matches!(written, Self::Archived),
            Self::Archived => false,
        }
    }
}

/// How a job ended at the provider. A later variant beats an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The provider no longer knows it.
    Removed,
    /// It failed.
    Failed,
    /// It was held back; an appeal can still succeed.
    Moderated,
    /// There is media.
    Completed,
}

impl Outcome {
    /// The name used in the API and in manifests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Failed => "failed",
            Self::Moderated => "moderated",
            Self::Completed => "completed",
        }
    }
}

/// Why a job or a file is stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StuckReason {
    /// Every attempt that the configuration allows has failed.
    AttemptsExhausted,
    /// The outbound policy forbids every URL, or none is a web URL.
    RefusedByPolicy,
    /// The provider calls the job completed and names no URL.
    NoMediaUrl,
    /// The provider calls the job completed and a file of it still in the making.
    StillProcessing,
    /// Only watermark-free files are wanted and none is known to be one.
    NoCleanUrl,
    /// Storage takes other objects and not this one.
    RefusedByStorage,
    /// A defect in replyvault cut the work off.
    InternalError,
}

impl StuckReason {
    /// The name used in the API and in manifests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::RefusedByPolicy => "refused_by_policy",
            Self::NoMediaUrl => "no_media_url",
            Self::StillProcessing => "still_processing",
            Self::NoCleanUrl => "no_clean_url",
            Self::RefusedByStorage => "refused_by_storage",
            Self::InternalError => "internal_error",
        }
    }
}

/// What an observation did to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The job moved on while running.
    Progressed,
    /// The job became final, or a better outcome replaced the one it had.
    Ended,
    /// A further final callback brought URLs that were not known.
    Extended,
    /// Late or repeated: only counted.
    Counted,
    /// A final callback that waits for the provider to confirm it.
    Held,
}

/// How an attempt to archive a file ended short of success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptFailure {
    /// One line for people.
    pub error: String,
    /// False for what a stop, a crash or an outage of storage cut off.
    pub counted: bool,
    /// Set when no further attempt will be made.
    pub stuck: Option<StuckReason>,
}

impl AttemptFailure {
    /// The longest description that is kept, in bytes: a URL may stand in it.
    pub const MAX_ERROR_BYTES: usize = 512;

    /// A failure with a description that is cut where it is too long.
    pub fn new(mut error: String, counted: bool, stuck: Option<StuckReason>) -> Self {
        error.truncate(error.floor_char_boundary(Self::MAX_ERROR_BYTES));
        Self { error, counted, stuck }
    }
}

/// Everything known about one of the provider's jobs. The journal holds it as JSON and journals are kept for good: what is
/// added to it, or to anything in it, needs `#[serde(default)]`, and nothing in it may be renamed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The provider's id.
    pub id: JobId,
    /// The caller's reference.
    pub reply_ref: Option<ReplyRef>,
    /// The ref it is tied to.
    pub ref_id: Option<RefId>,
    /// True when it was named over that ref's own URL, which nothing can take away.
    pub claimed: bool,
    /// Where replyvault is with it.
    pub state: JobState,
    /// How it ended at the provider, once it is final.
    pub outcome: Option<Outcome>,
    /// Why it is stuck.
    pub reason: Option<StuckReason>,
    /// The provider's `status`.
    pub status: Option<Status>,
    /// The provider's `statusLabel`.
    pub status_label: Option<String>,
    /// The most progress seen, 0 to 100.
    pub percent: Option<u8>,
    /// What the provider shows its user.
    pub message: Option<String>,
    /// The provider's error text.
    pub error: Option<String>,
    /// What the caller asked for.
    pub prompt: Option<String>,
    /// What it was made with, and what may still be done about it at the provider.
    #[serde(default)]
    pub details: JobDetails,
    /// How many observations named it.
    pub callbacks: u32,
    /// When the provider says it was made, else when it was first seen.
    pub created_at: Timestamp,
    /// True once the provider has said when it was made, or its folder is fixed.
    pub created_at_settled: bool,
    /// When this record last changed.
    pub updated_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
    /// Journal position of the final callback that decided its outcome.
    pub final_callback: Option<u64>,
    /// Its folder in the bucket, fixed before anything of it is stored.
    pub folder: Option<String>,
    /// Its manifest, once written.
    pub manifest_key: Option<String>,
    /// When the worker takes it up next; `None` when there is nothing to do.
    pub due: Option<Timestamp>,
    /// Its files.
    pub assets: Vec<Asset>,
    /// Final callbacks that nothing follows from yet: the provider has still to be asked about them.
    #[serde(default)]
    pub unconfirmed: Vec<UnconfirmedFinal>,
    /// When it is asked next; `None` when there is nothing to ask.
    #[serde(default, rename = "ask_at")]
    pub confirm_at: Option<Timestamp>,
    /// Set when the provider took it back after it was completed, or called it moderated from the first.
    #[serde(default)]
    pub withdrawn: Option<Box<Withdrawal>>,
    /// The most files and URLs that one callback named and that this record has no room for. Such callbacks are in
    /// quarantine.
    #[serde(default)]
    pub left_out: u32,
    /// How many events there were that somebody was to be told of.
    #[serde(default)]
    pub events: u32,
    /// The end of the links whose coming end was told of.
    #[serde(default)]
    pub expiry_told: Option<Timestamp>,
    /// What it makes, where its id does not say it: what was first heard of it.
    #[serde(default, rename = "kind")]
    pub observed_kind: Option<Kind>,
    /// Whether it may be completed without files.
    #[serde(default)]
    pub may_be_empty: bool,
}

impl Job {
    /// No attempt is put off for longer: 4 hours and a fifth by our own delays, one by a server's wish.
    pub const LONGEST_DELAY: Duration = Duration::from_secs(6 * 3600);

    /// The host the next file comes from; `None` when nothing is left to fetch.
    pub fn next_host(&self) -> Option<&str> {
        let pending = self.assets.iter().filter(|asset| asset.state == AssetState::Pending);
        pending.min_by_key(|asset| asset.not_before)?.host()
    }

    /// From when on a link to one of the files left to fetch no longer works; `None` when that is known of none.
    pub fn link_expires_at(&self) -> Option<Timestamp> {
        let pending = self.assets.iter().filter(|asset| asset.state == AssetState::Pending);
        pending.filter_map(Asset::link_expires_at).min()
    }

    /// The file in `slot`.
    pub fn asset(&self, slot: &AssetId) -> Option<&Asset> {
        self.assets.iter().find(|asset| asset.slot == *slot)
    }

    /// Its folder in the bucket is fixed, and with it the date that stands in it.
    pub fn place(&mut self, folder: String) {
        if self.folder.is_none() {
            self.folder = Some(folder);
            self.created_at_settled = true;
        }
    }

    /// A file is stored. A repeat, or a file of a slot that is gone, changes nothing.
    pub fn file_stored(&mut self, slot: &AssetId, file: StoredFile, at: Timestamp) {
        if let Some(asset) = self.assets.iter_mut().find(|asset| asset.slot == *slot) {
            asset.store(file);
            self.updated_at = at;
        }
        // It was in the bucket all the while, although nobody knew when the job ended.
        if self.state == JobState::Stuck {
            self.reason = self.stuck_reason();
            if self.reason.is_none() {
                self.state = JobState::Archiving;
            }
        }
        self.reschedule(at);
    }

    /// So many bytes of a file are in the bucket, where the next attempt goes on.
    pub fn advanced(&mut self, slot: &AssetId, bytes: u64) {
        if let Some(asset) = self.assets.iter_mut().find(|asset| asset.slot == *slot) {
            asset.advance(bytes);
        }
    }

    /// An attempt at a file failed, which began after so many [`Asset::renewals`], where that is known; the next is made at
    /// `due`.
    pub fn attempt_failed(
        &mut self,
        slot: &AssetId,
        failure: &AttemptFailure,
        renewals: Option<u32>,
        due: Timestamp,
        at: Timestamp,
    ) {
        if let Some(asset) = self.assets.iter_mut().find(|asset| asset.slot == *slot) {
            asset.fail(failure, renewals, due);
            self.updated_at = at;
        }
        if self.state == JobState::Archiving {
            self.give_way();
        }
        self.reschedule(at);
    }

    /// While it is archived, it is due when the first of its files is, and at once when it only has to be ended.
    fn reschedule(&mut self, at: Timestamp) {
        let pending = self.assets.iter().filter(|asset| asset.state == AssetState::Pending);
        let next = pending.map(|asset| asset.not_before.unwrap_or(at)).min().unwrap_or(at);
        // What is due already keeps its place.
        let keeps_place = next <= at && self.due.is_some_and(|due| due <= at);
        if self.state == JobState::Archiving && !keeps_place {
            self.due = Some(next);
        }
    }

    /// The state this job ends in as it stands, or `None` while a file is still to be had.
    pub fn end_state(&self) -> Option<JobState> {
        match self.outcome? {
            Outcome::Removed | Outcome::Failed | Outcome::Moderated => Some(JobState::Failed),
            Outcome::Completed if self.assets.iter().any(|asset| asset.state == AssetState::Pending) => None,
            Outcome::Completed if self.stuck_reason().is_some() => Some(JobState::Stuck),
            Outcome::Completed => Some(JobState::Archived),
        }
    }

    /// Why this job would be stuck as it stands, if it would.
    pub fn stuck_reason(&self) -> Option<StuckReason> {
        if self.outcome == Some(Outcome::Completed) && self.assets.is_empty() && !self.needs_no_files() {
            return Some(StuckReason::NoMediaUrl);
        }
        // A poster or subtitles that are not to be had do not make a job of which all media are stored fail.
        self.assets.iter().filter(|asset| !asset.role.is_sidecar()).find_map(|asset| asset.stuck)
    }

    /// The job is over as far as replyvault is concerned, its manifest (if it gets one) written.
    ///
    /// `decided_by` is the final callback the manifest was written for: when a better one has arrived meanwhile, or
    /// a file became due again, the job is not over and nothing changes.
    pub fn end(&mut self, end: JobState, decided_by: Option<u64>, manifest_key: Option<String>, at: Timestamp) {
        if self.state != JobState::Archiving || self.final_callback != decided_by || self.end_state() != Some(end) {
            return;
        }
        self.state = end;
        self.reason = if end == JobState::Stuck { self.stuck_reason() } else { None };
        self.archived_at = (end == JobState::Archived).then_some(at);
        self.manifest_key = manifest_key.or(self.manifest_key.take());
        self.due = None;
        self.updated_at = at;
    }

    /// Someone asks for another try: files that are stuck, attempts that wait, and questions to the provider are due at
    /// once.
    pub fn retry(&mut self, at: Timestamp) {
        self.ask_again(at);
        match self.state {
            JobState::Stuck | JobState::Archiving => {
                for asset in &mut self.assets {
                    asset.retry();
                }
                if self.end_state() != Some(JobState::Stuck) {
                    self.state = JobState::Archiving;
                    self.reason = None;
                    self.due = Some(at);
                }
                self.updated_at = at;
            }
            JobState::Running | JobState::Archived | JobState::Failed => {}
        }
    }

    /// An agent may answer in words alone.
    fn needs_no_files(&self) -> bool {
        self.may_be_empty || self.id.kind() == Kind::Agent
    }

    /// What it makes, as far as that is known.
    pub fn kind(&self) -> Kind {
        match self.id.kind() {
            Kind::Other => self.observed_kind.unwrap_or(Kind::Other),
            kind => kind,
        }
    }
}

impl Job {
    /// A job of which nothing is known but its id.
    pub fn new(id: JobId, at: Timestamp) -> Self {
        Self {
            id,
            reply_ref: None,
            ref_id: None,
            claimed: false,
            state: JobState::Running,
            outcome: None,
            reason: None,
            status: None,
            status_label: None,
            percent: None,
            message: None,
            error: None,
            prompt: None,
            details: JobDetails::default(),
            callbacks: 0,
            created_at: at,
            created_at_settled: false,
            updated_at: at,
            archived_at: None,
            final_callback: None,
            folder: None,
            manifest_key: None,
            due: None,
            assets: Vec::new(),
            unconfirmed: Vec::new(),
            confirm_at: None,
            withdrawn: None,
            left_out: 0,
            events: 0,
            expiry_told: None,
            observed_kind: None,
            may_be_empty: false,
        }
    }
}

#[cfg(test)]
mod tests;
