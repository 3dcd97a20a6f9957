//! Every index entry, and the object it names.

use futures_util::FutureExt;

use super::{Finding, FindingKind, PAGE, Run, VerifyError};
use crate::bucket::ObjectKey;
use crate::domain::{Digest, JobId};
use crate::state::MediaRecord;

/// What should be in the bucket.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) sha256: Digest,
    pub(super) bytes: u64,
    pub(super) content_type: String,
    pub(super) key: String,
}

impl Run<'_> {
    pub(super) async fn check_index(&self) -> Result<(), VerifyError> {
        let mut before = None;
        loop {
            let page = self.state(move |state| state.media_list(PAGE, before)).await?;
            let check = |(sha256, media)| self.check_entry(sha256, media).boxed();
            self.do_all(page.items.into_iter().map(check).collect()).await?;
            match page.next {
                Some(next) => before = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn check_entry(&self, sha256: Digest, media: MediaRecord) -> Result<(), VerifyError> {
        let MediaRecord { bytes, content_type, key, .. } = media;
        self.check_object(&Expected { sha256, bytes, content_type, key }, None).await?;
        self.progress.count(|report| report.index_entries += 1);
        self.progress.step();
        Ok(())
    }

    /// Looks at one object, and mends it if that is asked for. `job` names it, else one that the index knows.
    pub(super) async fn check_object(&self, expected: &Expected, job: Option<&JobId>) -> Result<(), VerifyError> {
        let fault = match expected.key.parse::<ObjectKey>() {
            Ok(key) => self.fault(&key, expected).await?,
            Err(error) => Some((FindingKind::MissingObject, error.to_string())),
        };
        let Some((kind, detail)) = fault else { return Ok(()) };
        let sha256 = expected.sha256;
        let known = match job {
            Some(job) => Some(job.clone()),
            None => self
                .state(move |state| state.references(&sha256, 1, usize::MAX))
                .await?
                .0
                .pop()
                .map(|holder| holder.job_id),
        };
        let mut finding = Finding::new(kind, &expected.key, known.as_ref(), detail);
        if self.options.repair {
            let mended = self.mend_object(expected, known.as_ref()).await;
            finding = finding.with_repair(mended);
        }
        self.progress.found(finding);
        Ok(())
    }

    async fn fault(&self, key: &ObjectKey, expected: &Expected) -> Result<Option<(FindingKind, String)>, VerifyError> {
        let bucket = &self.inner.bucket;
        let hashed = self.options.sample.takes(self.seed, key.as_str());
        let found = if hashed {
            let digest = self.read(key, || bucket.digest(key)).await?;
            digest.map(|found| found.map(|(digest, bytes)| (bytes, Some(digest))))
        } else {
            let size = self.read(key, || bucket.size(key)).await?;
            size.map(|found| found.map(|bytes| (bytes, None)))
        };
        // What cannot be read is in the report already.
        let Some(found) = found else { return Ok(None) };
        let Some((bytes, digest)) = found else {
            return Ok(Some((FindingKind::MissingObject, "it is not in the bucket".to_owned())));
        };
        if digest.is_some() {
            self.progress.count(|report| {
                report.objects_hashed += 1;
                report.bytes_hashed += bytes;
            });
        }
        if bytes != expected.bytes {
            return Ok(Some((FindingKind::WrongSize, format!("it has {bytes} bytes, expected {}", expected.bytes))));
        }
        let other = digest.filter(|digest| *digest != expected.sha256);
        let detail = |digest| format!("its SHA-256 is {digest}, expected {}", expected.sha256);
        Ok(other.map(|digest| (FindingKind::WrongDigest, detail(digest))))
    }
}
