//! Every object below `_journal/`: whether it is a segment, can be read, and follows on the one before it.

use futures_util::StreamExt;

use super::archive::is_segment;
use super::{Finding, FindingKind, Run, VerifyError};
use crate::bucket::ObjectFolder;
use crate::journal::{Damage, DamageKind, Replay, SegmentCheck};

impl Run<'_> {
    pub(super) async fn check_journal(&self) -> Result<(), VerifyError> {
        let mut listing = self.inner.bucket.list(Some(&ObjectFolder::journal()));
        while let Some(listed) = listing.next().await {
            let (key, _) = listed?;
            if !is_segment(&key) {
                let detail = "it is no segment of the journal, and is passed over";
                self.progress.found(Finding::new(FindingKind::OrphanObject, key.as_str(), None, detail));
            }
            self.progress.count(|report| report.objects_listed += 1);
            self.progress.step();
        }
        let journal = self.inner.log.journal().clone();
        let mut check = self.off_thread(move || journal.check_archive()).await?;
        while let Some((rest, checked)) = self.next_segment(check).await? {
            check = rest;
            self.report(&checked);
        }
        Ok(())
    }

    /// Reads one segment, which takes no more memory than it does.
    async fn next_segment(&self, mut check: Replay) -> Result<Option<(Replay, SegmentCheck)>, VerifyError> {
        self.off_thread(move || match check.check_next() {
            Some(Ok(checked)) => Ok(Some((check, checked))),
            Some(Err(error)) => Err(error),
            None => Ok(None),
        })
        .await
    }

    async fn off_thread<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, VerifyError> {
        let done = tokio::task::spawn_blocking(work).await.map_err(|error| VerifyError::Journal(error.to_string()))?;
        done.map_err(|error| VerifyError::Journal(error.to_string()))
    }

    /// One finding for a segment, however much of it cannot be read, and one for each stretch that is missing before it.
    fn report(&self, checked: &SegmentCheck) {
        let folder =
            if checked.is_archived { ObjectFolder::journal().as_str().to_owned() } else { "journal".to_owned() };
        let key = format!("{folder}/{}", checked.name);
        let found = |kind, detail: String| self.progress.found(Finding::new(kind, &key, None, detail));
        let is_missing = |damage: &&Damage| damage.kind == DamageKind::Missing;
        for Damage { from, to, .. } in checked.damage.iter().filter(is_missing) {
            found(FindingKind::MissingSegment, format!("from {from} to {to} is neither here nor in the bucket"));
        }
        // What a crash, or a write that is under way, leaves at the end was never acknowledged.
        let is_damaged = |damage: &&Damage| !matches!(damage.kind, DamageKind::Missing | DamageKind::TornTail);
        let stretches: Vec<_> = checked.damage.iter().filter(is_damaged).collect();
        let unreadable = stretches.first().map(|first| {
            format!("{} stretches cannot be read, the first from {} to {}", stretches.len(), first.from, first.to)
        });
        let detail: Vec<_> = unreadable.into_iter().chain(checked.problem.clone()).collect();
        if !detail.is_empty() {
            found(FindingKind::DamagedSegment, detail.join("; "));
        }
        self.progress.count(|report| {
            report.segments += u64::from(checked.is_archived);
            report.journal_entries += checked.entries;
        });
        self.progress.step();
    }
}
