//! A multipart upload under way: its parts, and where its download was at the end of each.

use std::collections::BTreeMap;
use std::time::Duration;

use fail::fail_point;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::attempt_error::AttemptError;
use super::part_buffer::PartBuffer;
use crate::bucket::{Bucket, BucketError, PartId, Upload};
use crate::fetch::ResumePoint;

/// Parts of one file on their way at once, besides the one being filled.
const PARTS_IN_FLIGHT: usize = 4;

/// How far a download may be ahead of what is recorded of it. A record is about a kilobyte, written without a sync, so
/// 4 GiB that come at once take 64 of them, and what comes slowly one every few seconds: a crash costs no more than the
/// greater of the two.
const RECORD_BYTES: u64 = 64 << 20;
const RECORD_EVERY: Duration = Duration::from_secs(2);

/// A multipart upload under way.
#[derive(Debug)]
pub(super) struct MultipartUpload {
    pub(super) upload: Upload,
    tasks: JoinSet<Result<(usize, PartId), BucketError>>,
    /// What the store has, by place.
    parts: BTreeMap<usize, PartId>,
    /// Where the download was behind each part that is not recorded yet. Parts are done in any order, and what is recorded
    /// has no gap.
    points: BTreeMap<usize, ResumePoint>,
    started: usize,
    recorded: usize,
    recorded_at: Instant,
}

/// What is to be recorded next.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub(super) first: usize,
    pub(super) parts: Vec<String>,
    pub(super) point: ResumePoint,
}

impl MultipartUpload {
    /// An upload that has `parts`, all of them recorded.
    pub(super) fn new(upload: Upload, parts: Vec<String>) -> Self {
        let recorded = parts.len();
        let bytes = upload.part_size;
        let parts = parts.into_iter().map(|tag| PartId { tag, bytes }).enumerate().collect();
        Self {
            upload,
            tasks: JoinSet::new(),
            parts,
            points: BTreeMap::new(),
            started: recorded,
            recorded,
            recorded_at: Instant::now(),
        }
    }

    /// True when some of it can be gone on with later.
    pub(super) fn is_recorded(&self) -> bool {
        self.recorded > 0
    }

    /// Sends the next part as soon as few enough are on their way. `point` is where the download was behind it.
    pub(super) async fn send(
        &mut self,
        bucket: &Bucket,
        part: PartBuffer,
        point: Option<ResumePoint>,
    ) -> Result<(), AttemptError> {
        while self.tasks.len() >= PARTS_IN_FLIGHT {
            self.wait_for_one().await?;
        }
        let (bucket, upload, index) = (bucket.clone(), self.upload.clone(), self.started);
        self.started += 1;
        self.points.extend(point.map(|point| (index, point)));
        self.tasks.spawn(async move {
            let (chunks, _memory) = part.into_chunks();
            fail_point!("worker.part", |_| Err(BucketError::Unavailable("injected".to_owned())));
            let sent = bucket.put_part(&upload, index, chunks).await?;
            fail_point!("worker.part.done", |_| Err(BucketError::Unavailable("injected".to_owned())));
            Ok((index, sent))
        });
        Ok(())
    }

    /// Sends the last part, waits for all, and gives what makes the object.
    pub(super) async fn finish(
        &mut self,
        bucket: &Bucket,
        last: PartBuffer,
    ) -> Result<(Upload, Vec<PartId>), AttemptError> {
        if !last.is_empty() {
            self.send(bucket, last, None).await?;
        }
        while self.is_sending() {
            self.wait_for_one().await?;
        }
        Ok((self.upload.clone(), self.parts.values().cloned().collect()))
    }

    /// Whether parts are on their way.
    pub(super) fn is_sending(&self) -> bool {
        !self.tasks.is_empty()
    }

    /// Waits until one of the parts on their way is there. May be dropped at any time.
    pub(super) async fn wait_for_one(&mut self) -> Result<(), AttemptError> {
        match self.tasks.join_next().await {
            Some(ended) => self.ended(ended),
            None => Ok(()),
        }
    }

    /// Takes note of a part that was on its way.
    fn ended(&mut self, ended: Result<Result<(usize, PartId), BucketError>, JoinError>) -> Result<(), AttemptError> {
        let (index, part) = ended.map_err(|error| BucketError::Unavailable(error.to_string()))??;
        self.parts.insert(index, part);
        Ok(())
    }

    /// Waits for what is on its way, or drops it, and takes note of what of it is done.
    pub(super) async fn wait_for_parts(&mut self, wait: bool) {
        if !wait {
            self.tasks.abort_all();
        }
        while let Some(ended) = self.tasks.join_next().await {
            // Why the attempt fails is known already.
            let _ = self.ended(ended);
        }
    }

    /// When to record what can be: `None` while there is nothing new.
    pub(super) fn due(&self, stopping: bool) -> Option<Instant> {
        let new = self.recordable() - self.recorded;
        match new as u64 * self.upload.part_size {
            0 => None,
            // A stop may cut it off at any moment.
            bytes if stopping || bytes >= RECORD_BYTES => Some(Instant::now()),
            _ => Some(self.recorded_at + RECORD_EVERY),
        }
    }

    /// What can be recorded and is not yet.
    pub(super) fn checkpoint(&self) -> Option<Checkpoint> {
        let end = self.recordable();
        let point = self.points.get(&end.checked_sub(1)?)?.clone();
        let parts = self.parts.range(self.recorded..end).map(|(_, part)| part.tag.clone()).collect();
        Some(Checkpoint { first: self.recorded, parts, point })
    }

    /// What [`Self::checkpoint`] gave is in the journal, or cannot be written now; then it is tried again later.
    pub(super) fn recorded(&mut self, advance: &Checkpoint, written: bool) {
        self.recorded_at = Instant::now();
        if written {
            self.recorded = advance.first + advance.parts.len();
            self.points = self.points.split_off(&self.recorded);
        }
    }

    /// How many parts from the first on are there without a gap, up to one whose end can be gone on from.
    fn recordable(&self) -> usize {
        let is_good = |index: &usize| self.parts.contains_key(index) && self.points.contains_key(index);
        (self.recorded..self.started).take_while(is_good).last().map_or(self.recorded, |last| last + 1)
    }
}
