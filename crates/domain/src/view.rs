use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Asset, AssetState, Digest, FileName, Job, JobId, JobState, Kind, Outcome, RefId, ReplyRef, Role, Status,
    StuckReason, Target, Timestamp, Variant,
};

/// A job as the API and manifests show it. Field names are the provider's style; what is secret is not in it. Manifests
/// are read back: what is added needs a default.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobView {
    /// The provider's id.
    #[schema(value_type = String, example = "user:1-minimax:2-video:3")]
    pub job_id: JobId,
    /// What it makes.
    #[schema(example = "video")]
    pub kind: Kind,
    /// The channel of the provider.
    #[schema(example = "minimax")]
    pub channel: String,
    /// Whose model makes it.
    #[serde(default = "first_api")]
    #[schema(example = "minimax")]
    pub provider: String,
    /// Its ref's labels. Only manifests have none: they leave them to the ref.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = BTreeMap<String, String>, required = true)]
    pub labels: Option<BTreeMap<String, String>>,
    /// The caller's reference, a signature of ours in it hidden.
    #[schema(value_type = Option<String>)]
    pub reply_ref: Option<ReplyRef>,
    /// The ref the job is tied to.
    #[schema(value_type = Option<String>)]
    pub ref_id: Option<RefId>,
    /// Where replyvault is with it.
    #[schema(example = "archived")]
    pub state: JobState,
    /// How it ended at the provider.
    pub outcome: Option<Outcome>,
    /// The provider's `status`.
    #[schema(value_type = serde_json::Value)]
    pub status: Option<StatusView>,
    /// The provider's `statusLabel`.
    pub status_label: Option<String>,
    /// True once the provider has called the job final.
    pub status_final: bool,
    /// The most progress seen, 0 to 100.
    pub percent: Option<u8>,
    /// What the provider shows its user.
    pub message: Option<String>,
    /// The provider's error text.
    pub error: Option<String>,
    /// Why it is stuck.
    pub reason: Option<StuckReason>,
    /// What the caller asked for.
    pub prompt: Option<String>,
    /// The model it was made with, by the provider's name; an agent's models with commas between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "nano-banana-pro")]
    pub model: Option<String>,
    /// As the provider writes it, such as `2K`; else width and height in pixels, such as `1366x768`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<String>,
    /// Such as `16:9`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aspect_ratio: Option<String>,
    /// Of the video or song, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<f64>,
    /// The provider's id of the call that created the job: images created by one call share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<String>,
    /// Whether the provider takes an appeal against the moderation of this job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub can_appeal: Option<bool>,
    /// Whether the provider takes a retry of this job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub can_retry: Option<bool>,
    /// How many callbacks named it.
    pub callbacks: u32,
    /// When the provider says it was made, else when it was first seen.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When anything about it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// When it was archived.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub archived_at: Option<Timestamp>,
    /// When the provider called it moderated; what was stored of it before is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub moderated_at: Option<Timestamp>,
    /// Its manifest in the bucket.
    pub manifest_key: Option<String>,
    /// Set when callbacks named more files or URLs than a job can have: at least so many are missing here. The callbacks are
    /// in quarantine as `over_budget`.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schema(value_type = Option<u32>)]
    pub left_out: u32,
    /// Its files.
    pub assets: Vec<AssetView>,
}

/// The provider's `status`, as a number or a word.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StatusView {
    /// Video, image and music jobs.
    Number(i64),
    /// Agent jobs.
    Word(String),
}

/// A file of a job as the API and manifests show it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssetView {
    /// Its name in the job's folder.
    #[schema(value_type = String, example = "video.mp4")]
    pub file: FileName,
    /// What it is for.
    pub role: Role,
    /// Whether it carries a watermark.
    pub variant: Option<Variant>,
    /// Where it comes from, the query and other secrets hidden.
    pub source_url: Option<String>,
    /// How far it is.
    pub state: AssetProgress,
    /// SHA-256 of its bytes.
    #[schema(value_type = Option<String>)]
    pub sha256: Option<Digest>,
    /// Its size in bytes.
    pub bytes: Option<u64>,
    /// Its real MIME type.
    pub content_type: Option<String>,
    /// The object that holds it, perhaps another job's.
    pub key: Option<String>,
    /// True when that object was there already.
    pub deduplicated: bool,
    /// Attempts that counted since it was last asked for.
    pub attempts: u16,
    /// How the last attempt failed.
    pub last_error: Option<String>,
    /// When it was stored.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub stored_at: Option<Timestamp>,
    /// Where to get it, once it is stored. Manifests have none: they outlive links.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<AssetLinks>,
}

/// Where a stored file is to be had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssetLinks {
    /// Below this service's own URL, with a token of the API.
    #[schema(example = "/api/v1/media/2c26…/content")]
    pub content: String,
    /// Below `storage.public_url`, where there is one.
    #[schema(format = "uri")]
    pub public: Option<String>,
    /// From the store itself, for whoever has the link, where that was asked for and the store has such links.
    #[schema(format = "uri")]
    pub presigned: Option<String>,
    /// When `presigned` ends.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

/// How far a file is, as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AssetProgress {
    /// To be fetched.
    Pending,
    /// Being fetched now.
    Fetching,
    /// In the bucket.
    Stored,
    /// Not to be had without someone's help or a further callback.
    Stuck,
}

impl From<Status> for StatusView {
    fn from(status: Status) -> Self {
        match status {
            Status::Number(number) => Self::Number(number),
            Status::Word(word) => Self::Word(word),
        }
    }
}

impl From<StatusView> for Status {
    fn from(status: StatusView) -> Self {
        match status {
            StatusView::Number(number) => Self::Number(number),
            StatusView::Word(word) => Self::Word(word),
        }
    }
}

impl JobView {
    /// Shows `job`; `is_fetching` says which of its files are being fetched now.
    pub fn new(job: &Job, is_fetching: impl Fn(&Asset) -> bool) -> Self {
        let provider = job.id.provider();
        Self {
            job_id: job.id.clone(),
            kind: job.kind(),
            channel: if provider == JobId::FIRST_API { Target::CHANNEL } else { Target::USEAPI }.to_owned(),
            provider,
            labels: None,
            reply_ref: job.reply_ref.as_ref().map(ReplyRef::shown),
            ref_id: job.ref_id.clone(),
            state: job.state,
            outcome: job.outcome,
            status: job.status.clone().map(StatusView::from),
            status_label: job.status_label.clone(),
            status_final: job.outcome.is_some(),
            percent: job.percent,
            message: job.message.clone(),
            error: job.error.clone(),
            reason: job.reason,
            prompt: job.prompt.clone(),
            model: job.details.model.clone(),
            resolution: job.details.resolution.clone(),
            aspect_ratio: job.details.aspect_ratio.clone(),
            duration: job.details.duration,
            batch_id: job.details.batch_id.clone(),
            can_appeal: job.details.can_appeal,
            can_retry: job.details.can_retry,
            callbacks: job.callbacks,
            created_at: job.created_at,
            updated_at: job.updated_at,
            archived_at: job.archived_at,
            moderated_at: job.moderated_at(),
            manifest_key: job.manifest_key.clone(),
            left_out: job.left_out,
            assets: job.assets.iter().map(|asset| AssetView::new(asset, is_fetching(asset))).collect(),
        }
    }
}

/// Manifests of earlier versions do not name it.
fn first_api() -> String {
    JobId::FIRST_API.to_owned()
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl AssetView {
    fn new(asset: &Asset, is_fetching: bool) -> Self {
        let best = asset.candidates.first();
        let stored = asset.stored.as_ref();
        Self {
            file: asset.file.clone(),
            role: asset.role,
            variant: stored.map(|file| file.variant).or(best.map(|candidate| candidate.variant)),
            source_url: stored.map(|file| &file.url).or(best.map(|candidate| &candidate.url)).map(ToString::to_string),
            state: match asset.state {
                AssetState::Pending if is_fetching => AssetProgress::Fetching,
                AssetState::Pending => AssetProgress::Pending,
                AssetState::Stored => AssetProgress::Stored,
                AssetState::Stuck => AssetProgress::Stuck,
            },
            sha256: stored.map(|file| file.sha256),
            bytes: stored.map(|file| file.bytes),
            content_type: stored.map(|file| file.content_type.clone()),
            key: stored.map(|file| file.key.clone()),
            deduplicated: stored.is_some_and(|file| file.deduplicated),
            attempts: asset.attempts,
            last_error: asset.last_error.clone(),
            stored_at: stored.map(|file| file.at),
            links: None,
        }
    }
}
