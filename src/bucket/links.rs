//! Where stored files are to be had.

use std::time::Duration;

use super::{Bucket, BucketError, ObjectKey};
use crate::domain::{AssetLinks, JobView, Timestamp};

/// What links are made with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Links {
    bucket: Bucket,
    config: LinkConfig,
}

/// How links are made.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// What stands before a key where the world sees the bucket, without a slash at its end.
    pub public_url: Option<String>,
    /// How long a presigned link is good for, at most seven days.
    pub presign_expiry: Duration,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self { public_url: None, presign_expiry: Duration::from_secs(3600) }
    }
}

impl Links {
    /// Links to what is in `bucket`.
    pub fn new(bucket: Bucket, config: LinkConfig) -> Self {
        Self { bucket, config }
    }

    /// Says of each stored file where it is to be had, without asking anybody.
    pub fn add(&self, job: &mut JobView) {
        for asset in &mut job.assets {
            let (Some(sha256), Some(key)) = (&asset.sha256, &asset.key) else { continue };
            // A key is plain ASCII and has nothing that would be escaped in a URL's path.
            let public = self.config.public_url.as_ref().map(|base| format!("{base}/{key}"));
            let content = format!("/api/v1/media/{sha256}/content");
            asset.links = Some(AssetLinks { content, public, presigned: None, expires_at: None });
        }
    }

    /// Says also where the store gives them to whoever has the link, if it has such links.
    ///
    /// # Errors
    /// When the credentials to sign with can't be had.
    pub async fn add_presigned(&self, job: &mut JobView) -> Result<(), BucketError> {
        let expiry = self.config.presign_expiry;
        for asset in &mut job.assets {
            let (Some(links), Some(key)) = (&mut asset.links, &asset.key) else { continue };
            let Ok(key) = key.parse::<ObjectKey>() else { continue };
            let now = Timestamp::now();
            let Some(link) = self.bucket.presign(&key, expiry, None).await? else { return Ok(()) };
            (links.presigned, links.expires_at) = (Some(link.into()), Some(now.after(expiry)));
        }
        Ok(())
    }
}
