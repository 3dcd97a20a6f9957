use serde::{Deserialize, Serialize};

use super::body_hashes::{BodyHashes, ChecksState};
use super::container::{Container, ContainerState};
use super::entity::Entity;
use super::{Download, FetchError, Fetcher};
use crate::domain::MediaUrl;
use crate::egress::header::HeaderValue;

/// Where a download was, and all that is needed to go on from there, in another process too: what its server's entity is
/// recognised by, and the states of the hashes and of the container's check behind the last byte that counts. About 600
/// bytes of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumePoint {
    length: Option<u64>,
    content_type: Option<String>,
    etag: Option<String>,
    ranges: Option<bool>,
    checks: ChecksState,
    container: ContainerState,
}

impl ResumePoint {
    pub(super) fn of(entity: &Entity, checks: &BodyHashes, container: &Container) -> Option<Self> {
        if !entity.is_resumable() {
            return None;
        }
        let etag = match &entity.etag {
            Some(etag) => Some(etag.to_str().ok()?.to_owned()),
            None => None,
        };
        Some(Self {
            length: entity.length,
            content_type: entity.content_type.clone(),
            etag,
            ranges: entity.ranges,
            checks: checks.state(),
            container: container.checked()?,
        })
    }

    /// How many bytes lie before it.
    pub fn offset(&self) -> u64 {
        self.checks.bytes
    }

    /// `None` for what was recorded by a version whose states this one does not know.
    fn restore(&self) -> Option<(Entity, BodyHashes, Container)> {
        let checks = BodyHashes::resume(&self.checks)?;
        let etag = match &self.etag {
            Some(etag) => Some(HeaderValue::from_str(etag).ok()?),
            None => None,
        };
        let entity = Entity {
            length: self.length,
            content_type: self.content_type.clone(),
            etag,
            declared: checks.declared(),
            ranges: self.ranges,
        };
        Some((entity, checks, Container::resume(&self.container)?))
    }
}

impl Fetcher {
    /// Asks for what follows `point`, with the check of the container as it was there. Does not try again by itself.
    ///
    /// # Errors
    /// [`FetchError::Changed`] when what is there now is not provably the same, when the server sends the whole, and when
    /// the point is of no use to this version: start over. Otherwise as for [`Fetcher::open`]: the point stays good.
    pub async fn resume(&self, url: &MediaUrl, point: &ResumePoint) -> Result<(Download, Container), FetchError> {
        let (mut entity, checks, container) = point.restore().ok_or(FetchError::Changed)?;
        let headers = entity.rest(point.offset()).ok_or(FetchError::Changed)?;
        let response = self.request(url, headers).await?;
        entity.continue_at(point.offset(), &response)?;
        self.check_size(entity.length.unwrap_or(0))?;
        Ok((Download::resumed(self.clone(), url.clone(), entity, checks, response), container))
    }
}

#[cfg(test)]
mod tests;
