use serde::{Deserialize, Serialize};

use super::{FileName, JobDetails, JobId, Kind, MediaUrl, Outcome, ReplyRef, Timestamp};

/// What one answer of the provider says about one job, whichever way it came: callback, GET, list or stream. In journals,
/// as [`Job`](super::Job) is: what is added needs `#[serde(default)]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The job it is about.
    pub job: JobId,
    /// Other ids of the same job, which later answers may have in place of the first.
    #[serde(default)]
    pub aliases: Vec<JobId>,
    /// The caller's reference, when the answer carries one.
    pub reply_ref: Option<ReplyRef>,
    /// `None` while the job runs; how it ended once it is final.
    pub outcome: Option<Outcome>,
    /// The provider's `status`: a number, for agents a word.
    pub status: Option<Status>,
    /// The provider's `statusLabel`.
    pub status_label: Option<String>,
    /// Progress, 0 to 100.
    pub percent: Option<u8>,
    /// What the provider shows its user.
    pub message: Option<String>,
    /// The provider's error text.
    pub error: Option<String>,
    /// What the caller asked for.
    pub prompt: Option<String>,
    /// When the provider says the job was made.
    #[serde(rename = "made_at")]
    pub created_at: Option<Timestamp>,
    /// What it was made with.
    #[serde(default)]
    pub details: JobDetails,
    /// The files a completed job names, in the provider's order, as many as [`Observation::MAX_ASSETS`] and
    /// [`Observation::MAX_URL_BYTES`] allow.
    pub assets: Vec<AssetSource>,
    /// How many files and URLs the answer names beyond these bounds.
    #[serde(default)]
    pub left_out: u32,
    /// What the job makes, where its id does not say it and the answer does.
    #[serde(default)]
    pub kind: Option<Kind>,
    /// Whether a completed job may be without files: a command, or one whose result is words.
    #[serde(default)]
    pub may_be_empty: bool,
}

impl Observation {
    /// The most files that one answer, and one job, can have.
    pub const MAX_ASSETS: usize = 256;
    /// The most bytes that the URLs of one answer, and of one job, can have together.
    pub const MAX_URL_BYTES: usize = 64 << 10;

    /// About how many bytes it takes up.
    pub fn bytes(&self) -> usize {
        let Self { job, reply_ref, status_label, message, error, prompt, .. } = self;
        let texts = [status_label, message, error, prompt].into_iter().flatten().map(String::len).sum::<usize>();
        let source = |source: &AssetSource| {
            let urls = source.candidates.iter().map(|candidate| candidate.url.length()).sum::<usize>();
            urls + source.slot.as_str().len() + source.file.as_str().len()
        };
        let reply_ref = reply_ref.as_ref().map_or(0, |name| name.as_str().len());
        job.as_str().len() + reply_ref + texts + self.assets.iter().map(source).sum::<usize>()
    }

    /// That there is such a job, and nothing else.
    pub fn naming(job: JobId) -> Self {
        Self {
            job,
            aliases: Vec::new(),
            reply_ref: None,
            outcome: None,
            status: None,
            status_label: None,
            percent: None,
            message: None,
            error: None,
            prompt: None,
            created_at: None,
            details: JobDetails::default(),
            assets: Vec::new(),
            left_out: 0,
            kind: None,
            may_be_empty: false,
        }
    }
}

/// The provider's `status` as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Such as those of videos and images.
    Number(i64),
    /// Such as `started`, `completed`, `failed`.
    Word(String),
}

/// One file of a job, with every URL it may be had from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AssetSource {
    /// Which file of the job this is, the same in every callback.
    pub slot: AssetId,
    /// What the file is for.
    pub role: Role,
    /// The name to keep it under; its extension is a guess until the bytes are seen.
    pub file: FileName,
    /// Where it may be fetched, best first.
    pub candidates: Vec<Candidate>,
    /// Why there is nothing to fetch though the provider names the file; meaningful only without candidates.
    pub missing: MissingReason,
}

/// Why a file that the provider names has no URL to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MissingReason {
    /// No URL at all.
    NoUrl,
    /// There are texts in the places of URLs, but none is an http or https URL.
    InvalidUrl,
    /// The provider says that it is still being made.
    StillProcessing,
}

/// A place to fetch a file from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Where.
    pub url: MediaUrl,
    /// Whether the file there carries a watermark.
    pub variant: Variant,
    /// How it is to be had there.
    #[serde(default)]
    pub access: Access,
}

/// How a file is to be had from its URL. In all cases but the first, the URL's host is one that cannot exist, and its path is
/// made by an adapter, never taken from a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// By anyone, from the URL as it stands.
    #[default]
    Public,
    /// From the provider itself, with our token: path and query count, below the provider's base URL.
    Provider,
    /// From where the provider's answer to such a question says.
    Lookup,
    /// From the callback's own body: the path ends in the place in its list of media.
    Inline,
}

impl Candidate {
    /// Whether `other` is the same file to be had in the same way. Which of several callbacks has it makes no difference.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let is_in_both_bodies = self.access == Access::Inline && other.access == Access::Inline;
        self == other || (is_in_both_bodies && self.url.file_name() == other.url.file_name())
    }

    /// The same, found in the callback recorded at `position`.
    pub(crate) fn found_at(&self, position: u64) -> Self {
        let url = if self.access == Access::Inline { self.url.in_body_at(position) } else { self.url.clone() };
        Self { url, ..*self }
    }
}

/// Whether a file carries the provider's watermark. In order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// The provider says it has none.
    Clean,
    /// The provider says nothing.
    Unknown,
    /// The provider says it has one.
    Watermarked,
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What the job was made for.
    Media,
    /// A still that stands for a video.
    Poster,
    /// A small rendition.
    Thumbnail,
    /// Subtitles of a video.
    Subtitle,
}

impl Role {
    /// True for what is kept only if asked for.
    pub const fn is_sidecar(self) -> bool {
        !matches!(self, Self::Media)
    }

    /// The name used in the API and in file names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Media => "media",
            Self::Poster => "poster",
            Self::Thumbnail => "thumbnail",
            Self::Subtitle => "subtitle",
        }
    }
}

/// Names a file within its job, the same in every callback about the job: `media` where a job has one file, the
/// attachment's id (or its place) for agents, with `/poster` and the like behind it for sidecars.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct AssetId(Box<str>);

impl AssetId {
    /// The longest name, in bytes; anything longer is replaced by its digest.
    const MAX_BYTES: usize = 128;

    /// A slot of the given name.
    pub fn new(name: &str) -> Self {
        if name.len() <= Self::MAX_BYTES {
            Self(name.into())
        } else {
            Self(super::Digest::of(name.as_bytes()).to_string().into())
        }
    }

    /// The slot of a job's only file.
    pub fn media() -> Self {
        Self("media".into())
    }

    /// The slot of a sidecar of the file in this one.
    pub fn sidecar(&self, role: Role) -> Self {
        Self::new(&format!("{}/{}", self.0, role.as_str()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
