use serde::{Deserialize, Serialize};

use super::{AttemptFailure, StuckReason};
use crate::{
    AssetId, AssetSource, Candidate, Digest, FileName, Kind, MediaUrl, MissingReason, Role, Timestamp, Variant,
};

/// How far a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AssetState {
    /// To be fetched.
    Pending,
    /// In the bucket.
    Stored,
    /// Not to be had without someone's help or a further callback.
    Stuck,
}

/// One file of a job. In journals, as [`Job`](super::Job) is: what is added needs `#[serde(default)]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asset {
    /// Which file of the job.
    pub slot: AssetId,
    /// What it is for.
    pub role: Role,
    /// Its name within the job's folder.
    pub file: FileName,
    /// How far it is.
    pub state: AssetState,
    /// Why it is stuck.
    pub stuck: Option<StuckReason>,
    /// Attempts that counted since it was last asked for.
    pub attempts: u16,
    /// The most bytes of it that were ever in the bucket and good to go on from, since it was last asked for.
    pub reached: u64,
    /// No attempt is made before this.
    pub not_before: Option<Timestamp>,
    /// How often attempts began anew: with its first links, with further ones, and when someone asked. An attempt that began
    /// before the last of these says nothing of what may be tried since.
    #[serde(default)]
    pub renewals: u32,
    /// How the last attempt failed.
    pub last_error: Option<String>,
    /// Where it may be fetched, best first.
    pub candidates: Vec<Candidate>,
    /// What is in the bucket.
    pub stored: Option<StoredFile>,
}

/// What was stored for a file. In journals, as [`Job`](super::Job) is: what is added needs `#[serde(default)]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Its name, with the extension of its real type.
    pub file: FileName,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its real MIME type.
    pub content_type: String,
    /// The object that holds the bytes, perhaps another job's.
    pub key: String,
    /// True when that object was there already.
    pub deduplicated: bool,
    /// Where the bytes came from.
    pub url: MediaUrl,
    /// What the provider said of that URL.
    pub variant: Variant,
    /// When.
    pub at: Timestamp,
}

impl Asset {
    /// Whether the provider marks such files with its watermark at all: videos and images of their own, and what an agent
    /// hands over with a clean form or a marked one beside it, or as a video. Songs, speech, an agent's stills and documents,
    /// posters and subtitles have one form.
    pub fn is_of_a_marked_kind(&self, kind: Kind) -> bool {
        const VIDEO_EXTENSIONS: [&str; 6] = ["mp4", "mov", "webm", "m4v", "mkv", "avi"];
        match kind {
            _ if self.role.is_sidecar() => false,
            Kind::Video | Kind::Image => true,
            Kind::Music | Kind::Speech => false,
            Kind::Agent | Kind::Other => {
                VIDEO_EXTENSIONS.contains(&self.file.extension())
                    || self.candidates.iter().any(|candidate| candidate.variant != Variant::Unknown)
            }
        }
    }

    /// The most URLs remembered for one file; beyond it, and beyond the bytes of URLs that its job can have, the oldest of
    /// the worst are forgotten.
    pub const MAX_CANDIDATES: usize = 16;

    /// A file of which nothing is known but what `source` says, as far as its URLs have together at most `url_bytes`. The
    /// callback was recorded at `position`.
    pub(super) fn new(source: &AssetSource, url_bytes: usize, position: u64) -> Self {
        let mut asset = Self {
            slot: source.slot.clone(),
            role: source.role,
            file: source.file.clone(),
            state: AssetState::Pending,
            stuck: None,
            attempts: 0,
            reached: 0,
            not_before: None,
            renewals: 0,
            last_error: None,
            candidates: Vec::new(),
            stored: None,
        };
        if source.candidates.is_empty() {
            asset.state = AssetState::Stuck;
            asset.mark_missing(source.missing);
        }
        asset.merge(source, url_bytes, position);
        asset
    }

    /// Takes over what `source` adds, as far as its URLs have together at most `url_bytes` bytes. The callback was recorded at
    /// `position`. True when there is something new to fetch.
    pub(super) fn merge(&mut self, source: &AssetSource, url_bytes: usize, position: u64) -> bool {
        if self.state == AssetState::Stored {
            return false;
        }
        let mut merged = self.candidates.clone();
        for candidate in source.candidates.iter().rev() {
            if !merged.iter().any(|known| known.is_same(candidate)) {
                merged.insert(0, candidate.found_at(position));
            }
        }
        if merged.len() == self.candidates.len() {
            if self.candidates.is_empty() {
                self.mark_missing(source.missing);
            }
            return false;
        }
        // Stable: of two equally clean URLs the one heard last is tried first, since links die with age.
        merged.sort_by_key(|candidate| candidate.variant);
        merged.truncate(Self::MAX_CANDIDATES);
        let mut left = url_bytes;
        merged.retain(|candidate| match left.checked_sub(candidate.url.length()) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        });
        if merged.iter().all(|candidate| self.candidates.contains(candidate)) {
            return false;
        }
        self.candidates = merged;
        self.ask_again();
        true
    }

    /// The host of the URL that is tried first.
    pub fn host(&self) -> Option<&str> {
        self.candidates.first().map(|candidate| candidate.url.host())
    }

    /// How many bytes its URLs have together.
    pub(super) fn url_bytes(&self) -> usize {
        self.candidates.iter().map(|candidate| candidate.url.length()).sum()
    }

    /// How many of a source's URLs are neither here nor needed.
    pub(super) fn lacks(&self, source: &AssetSource) -> usize {
        match self.state {
            AssetState::Stored => 0,
            AssetState::Pending | AssetState::Stuck => {
                let is_known = |wanted: &&Candidate| self.candidates.iter().any(|known| known.is_same(wanted));
                source.candidates.iter().filter(|candidate| !is_known(candidate)).count()
            }
        }
    }

    /// From when on the best of its links no longer works; `None` when that is not known. Of equally clean links the one
    /// that lives longest counts.
    pub fn link_expires_at(&self) -> Option<Timestamp> {
        let best = self.candidates.first()?.variant;
        let mut latest = None;
        for candidate in self.candidates.iter().take_while(|candidate| candidate.variant == best) {
            latest = latest.max(Some(candidate.url.expires_at()?));
        }
        latest
    }

    pub(super) fn store(&mut self, file: StoredFile) {
        if self.state != AssetState::Stored {
            self.file = file.file.clone();
            self.state = AssetState::Stored;
            self.stuck = None;
            self.last_error = None;
            self.stored = Some(file);
        }
    }

    /// An attempt failed that began after so many `renewals`, where that is known. Of one that began before the last of them
    /// nothing but the error is kept.
    pub(super) fn fail(&mut self, failure: &AttemptFailure, renewals: Option<u32>, due: Timestamp) {
        if self.state == AssetState::Stored {
            return;
        }
        let error = &failure.error;
        self.last_error = Some(error[..error.floor_char_boundary(AttemptFailure::MAX_ERROR_BYTES)].to_owned());
        if renewals.is_some_and(|renewals| renewals != self.renewals) {
            return;
        }
        self.attempts = self.attempts.saturating_add(failure.counted.into());
        self.not_before = Some(due);
        if failure.stuck.is_some() {
            self.state = AssetState::Stuck;
            self.stuck = failure.stuck;
        }
    }

    /// Further than ever before is progress, from which on attempts are counted anew. A source that begins again and again
    /// makes none.
    pub(super) fn advance(&mut self, bytes: u64) {
        if self.state == AssetState::Pending && bytes > self.reached {
            self.reached = bytes;
            self.attempts = 0;
        }
    }

    pub(super) fn retry(&mut self) {
        if self.state != AssetState::Stored && !self.candidates.is_empty() {
            self.ask_again();
        }
    }

    fn ask_again(&mut self) {
        self.state = AssetState::Pending;
        self.stuck = None;
        self.attempts = 0;
        self.reached = 0;
        self.not_before = None;
        self.renewals = self.renewals.wrapping_add(1);
    }

    /// Is to be tried as before it got further links: as often, and when. To one that is not tried any more they stay unknown, so
    /// that a callback with them revives it.
    pub(super) fn keep_attempts(&mut self, before: &Self) {
        if before.state == AssetState::Stuck {
            self.candidates.clone_from(&before.candidates);
        }
        (self.state, self.stuck) = (before.state, before.stuck);
        (self.attempts, self.reached) = (before.attempts, before.reached);
        (self.not_before, self.renewals) = (before.not_before, before.renewals);
    }

    /// Of the reasons heard for there being no URL, the one that says most stays, whatever their order.
    fn mark_missing(&mut self, missing: MissingReason) {
        let (reason, error) = match missing {
            MissingReason::NoUrl => (StuckReason::NoMediaUrl, "the provider names no URL for this file"),
            MissingReason::InvalidUrl => {
                (StuckReason::RefusedByPolicy, "expected an absolute http or https URL of at most 8192 bytes")
            }
            MissingReason::StillProcessing => (StuckReason::StillProcessing, "the provider is still making this file"),
        };
        let says_more = match (self.stuck, reason) {
            (None, _) => true,
            (Some(StuckReason::StillProcessing), _) => true,
            (Some(StuckReason::NoMediaUrl), StuckReason::RefusedByPolicy) => true,
            (Some(_), _) => false,
        };
        if says_more {
            self.stuck = Some(reason);
            self.last_error = Some(error.to_owned());
        }
    }
}
