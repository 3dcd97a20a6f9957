//! Reads what others have appended, and copies the log in its order.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::link::Link;
use super::{POLL, Run, SharedLogError};
use crate::cluster::ClusterError;
use crate::journal::{Durability, Entry, JournalError, Mirror, record_length};
use crate::state::StateError;
use crate::state::event_log::{AppendRequest, Batch, FoldCommand};

/// For how long it is read on before commands are looked at again: callers wait for ten seconds.
const STEP: Duration = Duration::from_secs(1);

/// The last record of the copy: its position and payload.
pub(super) fn last_record(mirror: &Mirror) -> Result<Option<(u64, Bytes)>, JournalError> {
    let Some(segment) = mirror.segment() else { return Ok(None) };
    let (mut replay, mut last) = (mirror.journal().read_segment(segment.base), None);
    while let Some(item) = replay.next() {
        let (position, _) = item?;
        last = Some((position, replay.end()));
    }
    let Some((position, end)) = last else { return Ok(None) };
    // Not written anew: of a later version's entry, this one may not know all.
    let bytes = mirror.journal().segment(segment.base)?;
    let offset = |at: u64| usize::try_from(at - segment.base).unwrap_or(usize::MAX);
    let payload = bytes.get(offset(position + record_length(0))..offset(end));
    // Not a slice, which would keep the whole segment in memory.
    Ok(payload.map(|payload| (position, Bytes::copy_from_slice(payload))))
}

impl Run {
    /// Reads on for a step, and says when to look again.
    pub(super) async fn read_on(&mut self) -> Result<(), SharedLogError> {
        let before = self.log.mirror.end();
        match self.follow(u64::MAX).await {
            Ok(true) => {
                let is_new = self.log.mirror.end() != before;
                self.poll = if is_new { *POLL.start() } else { (self.poll * 2).min(*POLL.end()) };
                self.poll_at = Instant::now() + self.poll.mul_f64(0.75 + rand::random::<f64>() / 2.0);
            }
            Ok(false) => {}
            Err(SharedLogError::Cluster(error)) if !matches!(error, ClusterError::Damaged(_)) => {
                self.mark_unavailable(&error);
            }
            Err(error) => return Err(error),
        }
        self.report_health();
        Ok(())
    }

    /// Reads what others have appended before `until`, and copies it; all there is where `until` is the largest number. False
    /// when a step was not enough: then it is to go on at once.
    pub(super) async fn follow(&mut self, until: u64) -> Result<bool, SharedLogError> {
        let began = Instant::now();
        loop {
            let Some(from) = self.log.mirror.end() else {
                return Err(ClusterError::Damaged("it has no segment".to_owned()).into());
            };
            if from >= until {
                return Ok(true);
            }
            if began.elapsed() >= STEP {
                self.poll_at = Instant::now();
                return Ok(false);
            }
            let Link::Up(connection) = &self.link else {
                return Err(ClusterError::Lost("it is away".to_owned()).into());
            };
            let records = connection.read(from, until).await?;
            if !records.is_empty() {
                self.copy_records(records).await?;
            } else if until == u64::MAX {
                self.begin_segments(None).await?;
                return Ok(true);
            } else {
                self.begin_segments(Some(until)).await?;
            }
        }
    }

    async fn copy_records(&mut self, records: Vec<(u64, Bytes)>) -> Result<(), SharedLogError> {
        let mut records = records.into_iter().peekable();
        while let Some((first, _)) = records.peek() {
            let first = *first;
            if self.log.mirror.end() != Some(first) {
                self.begin_segments(Some(first)).await?;
            }
            let (mut position, mut payloads, mut requests) = (first, Vec::new(), Vec::new());
            while let Some((at, payload)) = records.next_if(|(at, _)| *at == position) {
                let Some(entry) = Entry::from_payload(&payload) else { return Err(SharedLogError::Unknown(at)) };
                position += record_length(payload.len());
                if at >= self.copy_to {
                    requests.push((at, self.request_of_another(entry)));
                }
                payloads.push(payload);
            }
            self.copy(first, &payloads).await?;
            if position >= self.copy_to {
                self.fold_copied(first, position, requests)?;
            }
        }
        Ok(())
    }

    /// Has records folded in that were copied, with all before them that was copied and no more.
    fn fold_copied(&mut self, first: u64, end: u64, requests: Vec<(u64, AppendRequest)>) -> Result<(), SharedLogError> {
        if first < self.copy_to {
            self.copy_to = 0;
            return self.enqueue(FoldCommand::Recover { error: StateError::Behind, end });
        }
        self.enqueue(FoldCommand::Fold(Batch { requests, end }))
    }

    /// Nobody waits here for what another replica appended.
    pub(super) fn request_of_another(&self, entry: Entry) -> AppendRequest {
        let parsed = match &entry {
            Entry::Callback(callback) => Some((self.log.parse_callback)(&callback.body)),
            Entry::Event(_) | Entry::Kept(_) => None,
        };
        AppendRequest { entry, parsed, durability: Durability::Buffered, fence: None, answer: oneshot::channel().0 }
    }

    /// Begins the segments that follow the end of the copy; with `until`, they must lead there.
    async fn begin_segments(&mut self, until: Option<u64>) -> Result<(), SharedLogError> {
        const PAGE: u32 = 16;
        loop {
            let (Some(known), Some(end)) = (self.log.mirror.segment(), self.log.mirror.end()) else { return Ok(()) };
            if until == Some(end) {
                return Ok(());
            }
            let Link::Up(connection) = &self.link else {
                return Err(ClusterError::Lost("it is away".to_owned()).into());
            };
            let next = connection.segments(known.base + 1, PAGE).await?.first().copied();
            match next.filter(|next| next.previous_end == end && until.is_none_or(|until| next.first() <= until)) {
                Some(next) => self.log.mirror.begin(next)?,
                None if until.is_none() => return Ok(()),
                None => {
                    // What comes next may just have been moved into the archive: connecting anew finds out.
                    let oldest = connection.segments(0, 1).await?.first().map_or(0, |oldest| oldest.base);
                    let hole = format!("nothing follows on from position {end}");
                    let is_archived = oldest > known.base;
                    return Err(if is_archived { ClusterError::Lost(hole) } else { ClusterError::Damaged(hole) }.into());
                }
            }
        }
    }

    /// Copies records to the end, for as long as the disk takes.
    pub(super) async fn copy(&mut self, first: u64, payloads: &[Bytes]) -> Result<(), SharedLogError> {
        loop {
            if self.log.mirror.end() != Some(first) {
                return Err(ClusterError::Damaged(format!("the copy does not follow on at {first}")).into());
            }
            match self.log.mirror.append(payloads.iter().map(AsRef::as_ref)) {
                Ok(()) => break,
                Err(error @ (JournalError::Taken(_) | JournalError::TooLarge(_))) => return Err(error.into()),
                Err(error) => {
                    tracing::error!(%error, "the shared log cannot be copied to this disk: it is tried again");
                    self.set_failure(Some(error.to_string()));
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
        self.set_failure(None);
        let last = payloads.last().map(|payload| payload.len());
        if let (Some(last), Some(end)) = (last, self.log.mirror.end()) {
            self.last = payloads.last().map(|payload| (end - record_length(last), payload.clone()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Journal, SegmentStart};

    #[test]
    fn the_last_record_of_a_copy_is_read_byte_for_byte() {
        let dir = tempfile::tempdir().unwrap();
        let start = SegmentStart { base: 1 << 30, previous_end: 0, salt: 7 };
        let mut mirror = Mirror::open(Journal::open(dir.path()).unwrap()).unwrap();
        assert_eq!(last_record(&mirror).unwrap(), None);
        mirror.begin(start).unwrap();
        assert_eq!(last_record(&mirror).unwrap(), None);
        let event = |json: &str| [b"\x02".as_slice(), json.as_bytes()].concat();
        let later = r#"{"event":"settled","serial":2,"added":"by a later version"}"#;
        let payloads = [event(r#"{"event":"settled","serial":1}"#), event(later)];
        mirror.append(payloads.iter().map(Vec::as_slice)).unwrap();
        drop(mirror);
        let mirror = Mirror::open(Journal::open(dir.path()).unwrap()).unwrap();
        let position = start.first() + record_length(payloads[0].len());
        assert_eq!(last_record(&mirror).unwrap(), Some((position, Bytes::from(payloads[1].clone()))));
    }
}
