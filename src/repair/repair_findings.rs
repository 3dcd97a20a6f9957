//! Mends an object from where its bytes once came, and a manifest from the job's record.

use super::Run;
use super::index::Expected;
use crate::bucket::{Manifest, ObjectKey};
use crate::domain::{AssetId, JobId, MediaUrl, Timestamp};
use crate::state::State;

/// Files with the same bytes whose URLs are tried.
const MAX_HOLDERS: usize = 16;

/// Where an object's bytes may be had, and the file they are for.
struct Source {
    url: MediaUrl,
    job: JobId,
    slot: AssetId,
}

impl Run<'_> {
    /// Stores an object's bytes again under its key; says why that cannot be done.
    pub(super) async fn mend_object(&self, expected: &Expected, job: Option<&JobId>) -> Result<(), String> {
        let _alone = self.inner.mending.lock().await;
        let key: ObjectKey = expected.key.parse().map_err(|error| format!("its key: {error}"))?;
        let sources = {
            let (wanted, job) = (expected.sha256, job.cloned());
            let read = move |state: &State| {
                let mut jobs: Vec<_> = job.iter().cloned().collect();
                let (holders, _) = state.references(&wanted, MAX_HOLDERS, usize::MAX)?;
                jobs.extend(holders.into_iter().map(|holder| holder.job_id));
                let mut sources: Vec<Source> = Vec::new();
                for id in jobs {
                    let Some(record) = state.job(&id)? else { continue };
                    for asset in record.job.assets {
                        let Some(stored) = asset.stored.filter(|stored| stored.sha256 == wanted) else { continue };
                        let others = asset.candidates.into_iter().map(|candidate| candidate.url);
                        for url in std::iter::once(stored.url).chain(others) {
                            if sources.iter().all(|source| source.url != url) {
                                sources.push(Source { url, job: id.clone(), slot: asset.slot.clone() });
                            }
                        }
                    }
                }
                Ok(sources)
            };
            self.state(read).await.map_err(|error| error.to_string())?
        };
        let mut last = "no URL of it is known".to_owned();
        for Source { url, job, slot } in sources {
            match self.store_again(&url, &key, expected, (job, slot)).await {
                Ok(()) => {
                    let found = self.inner.bucket.digest(&key).await.map_err(|error| error.to_string())?;
                    if found == Some((expected.sha256, expected.bytes)) {
                        tracing::info!(%key, "an object was stored again");
                        return Ok(());
                    }
                    last = "it was stored again and is not what was stored".to_owned();
                }
                Err(error) => last = format!("{url}: {error}"),
            }
        }
        Err(last)
    }

    /// Writes a job's manifest again; says why that cannot be done.
    pub(super) async fn mend_manifest(&self, sequence: u64, key: &ObjectKey) -> Result<(), String> {
        let _alone = self.inner.mending.lock().await;
        let lease = self.inner.log.state().lease(sequence);
        let _lease = lease.ok_or_else(|| "its job is being worked on, which writes it".to_owned())?;
        let record = self.state(move |state| state.job_at(sequence)).await.map_err(|error| error.to_string())?;
        let Some(record) = record else { return Err("its job is gone".to_owned()) };
        if super::jobs::manifest_key(&record.job).as_ref() != Some(key) {
            return Err("its job is being worked on, which writes it".to_owned());
        }
        let written = self.inner.bucket.manifest_of(key, &record.job.id).await.map_err(|error| error.to_string())?;
        let says_more =
            |found: &Manifest| record.job.state.is_superseded_by(found.job.state) || found.names_more_than(&record.job);
        // It may be all that knows a file's digest.
        if let Some(written) = &written
            && says_more(written)
        {
            let expected = if written.is_damaged() {
                "it is damaged, says more than the state and is kept: retry the job, or move it away and repair again"
            } else {
                "it says more than the state and is kept: once the objects that it names are there, run `replyvault \
                 rebuild`, or retry the job"
            };
            return Err(expected.to_owned());
        }
        // A manifest must only name what is there.
        for file in record.job.assets.iter().filter_map(|asset| asset.stored.as_ref()) {
            let object: ObjectKey = file.key.parse().map_err(|error| format!("{}: {error}", file.key))?;
            let size = self.inner.bucket.size(&object).await.map_err(|error| error.to_string())?;
            if size != Some(file.bytes) {
                return Err(format!("{object}, which it names, is not there as it was stored"));
            }
        }
        let callback = match record.job.final_callback {
            None => None,
            Some(position) => {
                let at =
                    self.state(move |state| state.callback_at(position)).await.map_err(|error| error.to_string())?;
                let journal = self.inner.log.journal().clone();
                let read = tokio::task::spawn_blocking(move || journal.read(at)).await;
                let entry = read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
                entry.into_callback().and_then(|callback| (self.inner.redact)(&callback.body))
            }
        };
        // A job that was restored from its manifest has its callback nowhere else.
        let callback = match (callback, written) {
            (None, Some(written)) => written.into_callback()?,
            (callback, _) => callback,
        };
        let manifest = Manifest::new(&record.job, callback, Timestamp::now());
        self.inner.bucket.put_manifest(key, &manifest).await.map_err(|error| error.to_string())?;
        tracing::info!(%key, "a manifest was written again");
        Ok(())
    }
}
