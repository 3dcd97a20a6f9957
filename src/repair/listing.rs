//! Every object in the bucket, and what names it.

use futures_util::StreamExt;

use super::{Finding, FindingKind, Run, VerifyError};
use crate::bucket::ObjectKey;
use crate::domain::{Job, StoredFile};

impl Run<'_> {
    pub(super) async fn check_listing(&self) -> Result<(), VerifyError> {
        let mut listing = self.inner.bucket.list(None);
        while let Some(listed) = listing.next().await {
            // A listing cannot be gone on with; the store's client has tried again already.
            let (key, _) = listed?;
            self.check_listed(&key).await?;
            self.progress.count(|report| report.objects_listed += 1);
            self.progress.step();
        }
        Ok(())
    }

    async fn check_listed(&self, key: &ObjectKey) -> Result<(), VerifyError> {
        let orphan = if key.is_manifest() { FindingKind::OrphanManifest } else { FindingKind::OrphanObject };
        let folder = key.as_str().rsplit_once('/').map(|(folder, _)| folder.to_owned());
        let owner = match folder {
            Some(folder) => self.state(move |state| state.job_in_folder(&folder)).await?,
            None => None,
        };
        let names = |file: &StoredFile| file.key == key.as_str();
        let is_named = |job: &Job| job.assets.iter().any(|asset| asset.stored.as_ref().is_some_and(names));
        let detail = match &owner {
            // Whatever is written goes into a folder that was given to its job before.
            None if key.is_manifest() => "no job has its folder",
            Some(_) if key.is_manifest() => return Ok(()),
            Some(owner) if is_named(&owner.job) => return Ok(()),
            _ if self.is_in_index(key).await? => return Ok(()),
            None => "no job has its folder, nor does the index name it",
            Some(_) => "its job does not name it, nor does the index",
        };
        self.progress.found(Finding::new(orphan, key.as_str(), owner.as_ref().map(|owner| &owner.job.id), detail));
        Ok(())
    }

    /// Whether the index, or an open claim, names the object.
    async fn is_in_index(&self, key: &ObjectKey) -> Result<bool, VerifyError> {
        let name = key.as_str().to_owned();
        let Some(sha256) = self.state(move |state| state.owner_of_key(&name)).await? else { return Ok(false) };
        // The claim first: what was claimed a moment ago may be in the index by now, and never the other way round.
        let claim = self.state(move |state| state.claim(&sha256)).await?;
        let entry = self.state(move |state| state.media(&sha256)).await?;
        Ok(claim.is_some_and(|claim| claim.file.key == key.as_str())
            || entry.is_some_and(|entry| entry.key == key.as_str()))
    }
}
