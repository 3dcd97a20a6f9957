//! Where the bytes of a file are: at its link, at the provider itself, where the provider says, or in the callback's body.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::attempt_error::AttemptError;
use super::callback_bodies::CallbackBodies;
use super::task::Task;
use crate::domain::{Access, Candidate, Job, MediaUrl};
use crate::fetch::{Container, Download, FetchError, Fetcher, ResumePoint};
use crate::provider::{self, Client};

/// What is needed for files that are to be had with our token alone.
#[derive(Clone)]
pub struct ProviderMedia {
    /// Says where they are.
    pub client: Client,
    /// Carries the token, to the provider's base URL alone.
    pub fetcher: Fetcher,
}

/// Opens files wherever they are.
pub(super) struct MediaSource {
    fetcher: Fetcher,
    provider: Option<ProviderMedia>,
    bodies: CallbackBodies,
    /// KiB of files that stood in bodies.
    decoded: Arc<Semaphore>,
}

impl MediaSource {
    /// KiB of all files together that stood in callbacks' bodies and are on their way to the bucket.
    const DECODED_KIB: u32 = 64 << 10;

    pub(super) fn new(fetcher: Fetcher, provider: Option<ProviderMedia>, bodies: CallbackBodies) -> Self {
        Self { fetcher, provider, bodies, decoded: Arc::new(Semaphore::new(Self::DECODED_KIB as usize)) }
    }

    /// Begins to fetch a file.
    pub(super) async fn open(&self, task: Task<'_>) -> Result<Download, AttemptError> {
        let Task { job, candidate, .. } = task;
        if let Some((fetcher, url)) = self.locate(job, candidate).await? {
            return fetcher.open(&url).await.map_err(|error| self.judge(job, candidate, error));
        }
        // The body is read and decoded again for each of its files.
        let position = candidate.url.body_position().or(job.final_callback);
        let (body, _turn) = self.bodies.read(position).await?.ok_or(AttemptError::NotInBody)?;
        let url = candidate.url.clone();
        let decoded = tokio::task::spawn_blocking(move || provider::inline_media(&body, &url)).await;
        let bytes = decoded.ok().flatten().ok_or(AttemptError::NotInBody)?;
        let kib = u32::try_from(bytes.len().div_ceil(1024)).unwrap_or(u32::MAX).min(Self::DECODED_KIB);
        let room = self.decoded.clone().acquire_many_owned(kib).await.map_err(|_| AttemptError::Deferred)?;
        Ok(self.fetcher.at_hand(&candidate.url, Bytes::from_owner(Decoded { bytes, _room: room }))?)
    }

    /// Goes on to fetch a file from `point`; `None` for one that stands in its callback's body.
    pub(super) async fn resume(
        &self,
        job: &Job,
        candidate: &Candidate,
        point: &ResumePoint,
    ) -> Result<Option<(Download, Container)>, AttemptError> {
        let Some((fetcher, url)) = self.locate(job, candidate).await? else { return Ok(None) };
        let resumed = fetcher.resume(&url, point).await;
        resumed.map(Some).map_err(|error| self.judge(job, candidate, error))
    }

    /// What a failed request means: at the provider its status may be about more than the file.
    fn judge(&self, job: &Job, candidate: &Candidate, error: FetchError) -> AttemptError {
        let FetchError::Status { status, retry_after } = error else { return error.into() };
        let provider = self.provider.as_ref().filter(|_| candidate.access == Access::Provider);
        let refused = provider.and_then(|provider| provider.client.media_refused(&job.id, status, retry_after));
        refused.map_or_else(|| error.into(), AttemptError::from)
    }

    /// From where a file is to be fetched, and by whom; `None` for one that stands in its callback's body.
    async fn locate(&self, job: &Job, candidate: &Candidate) -> Result<Option<(Fetcher, MediaUrl)>, AttemptError> {
        let provider = || self.provider.as_ref().ok_or(AttemptError::NeedsToken);
        Ok(match candidate.access {
            Access::Public => Some((self.fetcher.clone(), candidate.url.clone())),
            Access::Provider => {
                let provider = provider()?;
                let url = provider.client.media_url(&job.id, &candidate.url)?;
                Some((provider.fetcher.clone(), url))
            }
            // Anyone may have what is there: the token stays here.
            Access::Lookup => {
                let link = provider()?.client.media_link(&job.id, &candidate.url).await?;
                Some((self.fetcher.clone(), link))
            }
            Access::Inline => None,
        })
    }
}

/// A file out of a body, and its part of what all of them may take up.
struct Decoded {
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Decoded {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
