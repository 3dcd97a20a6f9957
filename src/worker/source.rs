//! Where the bytes of a file are: at its link, at the provider itself, where the provider says, or in the callback's body.

use bytes::Bytes;

use super::Worker;
use super::attempt::AttemptError;
use super::task::Task;
use crate::domain::{Access, Candidate, MediaUrl};
use crate::fetch::{Download, FetchError, Fetcher};
use crate::provider::{self, Client};

/// What is needed for files that are to be had with our token alone.
#[derive(Clone)]
pub struct ProviderMedia {
    /// Says where they are.
    pub client: Client,
    /// Carries the token, to the provider's base URL alone.
    pub fetcher: Fetcher,
}

impl Worker {
    /// Begins to fetch a file.
    pub(super) async fn open(&self, task: Task<'_>, candidate: &Candidate) -> Result<Download, AttemptError> {
        if let Some((fetcher, url)) = self.locate(candidate).await? {
            return Ok(fetcher.open(&url).await?);
        }
        // The body is read and decoded again for each of its files. One at a time: while it is, it is in memory twice over.
        let _alone = self.inner.inline.acquire().await.map_err(|_| AttemptError::Deferred)?;
        let body = self.callback_body(task.final_callback).await?.ok_or(AttemptError::NotInBody)?;
        let url = candidate.url.clone();
        let decoded = tokio::task::spawn_blocking(move || provider::inline_media(&body, &url)).await;
        let bytes = decoded.ok().flatten().ok_or(AttemptError::NotInBody)?;
        Ok(self.inner.fetcher.at_hand(&candidate.url, Bytes::from(bytes))?)
    }

    /// From where a file is to be fetched, and by whom; `None` for one that stands in its callback's body.
    pub(super) async fn locate(&self, candidate: &Candidate) -> Result<Option<(Fetcher, MediaUrl)>, AttemptError> {
        let provider = || self.inner.provider.as_ref().ok_or(AttemptError::NeedsToken);
        Ok(match candidate.access {
            Access::Public => Some((self.inner.fetcher.clone(), candidate.url.clone())),
            Access::Provider => {
                let provider = provider()?;
                let url = provider.client.media_url(&candidate.url).ok_or(FetchError::Changed)?;
                Some((provider.fetcher.clone(), url))
            }
            // Anyone may have what is there: the token stays here.
            Access::Lookup => Some((self.inner.fetcher.clone(), provider()?.client.media_link(&candidate.url).await?)),
            Access::Inline => None,
        })
    }
}
