use replyvault_domain::{Digest, JobId, Kind, Timestamp};

use super::job::{Job, Links, Outcome, Variant};

/// What a perfect archive would hold of one job once it is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// The job.
    pub job_id: JobId,
    /// The caller's reference, where one was given.
    pub reply_ref: Option<String>,
    /// What it makes.
    pub kind: Kind,
    /// When it was made, as its payloads say.
    pub created_at: Timestamp,
    /// How it ends.
    pub outcome: Outcome,
    /// Whether a final callback was answered with 2xx by now; where not, only asking the provider tells of the end.
    pub heard: bool,
    /// The best variant of each of its files, in the payload's order; none unless it completes.
    pub files: Vec<ExpectedFile>,
}

/// One file of [`Expected`].
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectedFile {
    /// Where the CDN serves it; where links expire, signed just now. Bodies may name it otherwise, or hold its bytes.
    pub url: String,
    /// What the provider says of its watermark.
    pub variant: Variant,
    /// The digest of its bytes.
    pub sha256: Digest,
    /// Its length.
    pub bytes: u64,
    /// Its real type.
    pub content_type: &'static str,
}

pub(super) fn of(job: &Job, links: &dyn Links) -> Expected {
    let completed = job.outcome() == Outcome::Completed;
    let assets = job.assets.iter().filter(|asset| completed && !asset.is_other);
    let files = assets.map(|asset| {
        let (variant, published) = &asset.best;
        ExpectedFile {
            url: links.url(published),
            variant: *variant,
            sha256: published.file.sha256(),
            bytes: published.file.len(),
            content_type: published.file.form.content_type(),
        }
    });
    Expected {
        job_id: job.id.clone(),
        reply_ref: job.request.reply_ref.clone(),
        kind: job.kind(),
        created_at: job.created,
        outcome: job.outcome(),
        heard: job.was_heard(),
        files: files.collect(),
    }
}
