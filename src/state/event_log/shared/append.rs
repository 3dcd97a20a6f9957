//! Appends to the log what was recorded here, or keeps it here while that is impossible.

use std::sync::Arc;

use bytes::Bytes;

use super::link::Link;
use super::{Run, SharedLogError};
use crate::cluster::{BatchFate, ClusterError};
use crate::domain::Target;
use crate::journal::{Entry, Event, JournalError, MAX_PAYLOAD, Writer, record_length};
use crate::state::event_log::fair_queue::FairQueue;
use crate::state::event_log::outage::Chunk;
use crate::state::event_log::{AppendRequest, ApplyOutcome, BATCH_BYTES, Batch, FoldCommand, RecordError};

impl Run {
    /// Appends a batch. What carries the fence of an epoch that is over is refused.
    pub(super) async fn append(
        &mut self,
        mut requests: Vec<AppendRequest>,
        nobody_waits: bool,
    ) -> Result<(), SharedLogError> {
        loop {
            let Some(epoch) = *self.log.cluster.epoch().borrow() else {
                self.retry_first = requests;
                return Ok(());
            };
            requests = refuse(requests, epoch);
            if requests.is_empty() {
                self.mark_available();
                return Ok(());
            }
            let payloads: Vec<Bytes> = requests.iter().map(|request| request.entry.to_payload().into()).collect();
            let serial = self.serial + 1;
            let Link::Up(connection) = &self.link else {
                self.retry_first = requests;
                return Ok(());
            };
            self.log.health.appending.set(Some(std::time::Instant::now()));
            match connection.append(epoch, serial, &payloads, 0).await {
                Ok(Some(appended)) => {
                    self.serial = serial;
                    self.mark_available();
                    let end = end_of(appended.start, &payloads);
                    self.appended_with(appended.start, requests, payloads, nobody_waits).await?;
                    self.begin_segment_if_full(appended.base, end).await;
                    return Ok(());
                }
                Ok(None) => match connection.fate(epoch, serial).await {
                    Ok(BatchFate::Appended(start)) => {
                        self.serial = serial;
                        self.mark_available();
                        return self.appended_with(start, requests, payloads, nobody_waits).await;
                    }
                    Ok(BatchFate::Not(known)) if known < self.serial => {
                        tracing::warn!(known, expected = self.serial, "the shared log lacks batches of this replica");
                        self.retry_first = requests;
                        self.reconnect();
                        return Ok(());
                    }
                    Ok(BatchFate::Not(known)) => self.serial = known,
                    Ok(BatchFate::Expelled) => {
                        tracing::warn!(epoch, "this replica was expelled: what it had under way is refused");
                        self.log.cluster.shares().lose();
                        self.log.cluster.epoch().send_replace(None);
                        self.retry_first = requests;
                        return Ok(());
                    }
                    Err(error) => {
                        self.doubtful = Some((serial, requests));
                        self.mark_unavailable(&error);
                        return Ok(());
                    }
                },
                Err(error) if error.is_definite() => {
                    self.retry_first = requests;
                    self.mark_unavailable(&error);
                    return Ok(());
                }
                Err(error) => {
                    self.doubtful = Some((serial, requests));
                    self.mark_unavailable(&error);
                    return Ok(());
                }
            }
        }
    }

    /// A batch is in the log.
    pub(super) async fn appended(&mut self, start: u64, requests: Vec<AppendRequest>) -> Result<(), SharedLogError> {
        let payloads = requests.iter().map(|request| request.entry.to_payload().into()).collect();
        self.appended_with(start, requests, payloads, false).await
    }

    async fn appended_with(
        &mut self,
        start: u64,
        requests: Vec<AppendRequest>,
        payloads: Vec<Bytes>,
        nobody_waits: bool,
    ) -> Result<(), SharedLogError> {
        if self.behind() > 0 {
            // Nobody is to wait for so long a copy.
            defer(requests);
            return Ok(());
        }
        match self.follow(start).await {
            Ok(true) => {}
            Ok(false) => {
                defer(requests);
                return Ok(());
            }
            Err(SharedLogError::Cluster(error)) if !matches!(error, ClusterError::Damaged(_)) => {
                defer(requests);
                self.mark_unavailable(&error);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        if self.log.mirror.end().is_some_and(|end| end > start) {
            // It was read already, or the log lacks what was copied from there.
            defer(requests);
            self.reconnect();
            return Ok(());
        }
        self.copy(start, &payloads).await?;
        let mut position = start;
        let mut placed = Vec::with_capacity(requests.len());
        for (request, payload) in requests.into_iter().zip(&payloads) {
            placed.push((position, request));
            position += record_length(payload.len());
        }
        let batch = Batch { requests: placed, end: position };
        let rest = if nobody_waits { self.log.folding.fold_if_idle(batch) } else { Some(FoldCommand::Fold(batch)) };
        rest.map_or(Ok(()), |work| self.enqueue(work))
    }

    /// Has the log begin the next segment if the one at `base`, which ends at `end`, is full.
    async fn begin_segment_if_full(&self, base: u64, end: u64) {
        if end - base >= Writer::SEGMENT_SIZE
            && let Link::Up(connection) = &self.link
            && let Err(error) = connection.begin_segment(base, 0, rand::random()).await
        {
            tracing::debug!(%error, "the next segment cannot be begun yet");
        }
    }

    /// Appends what was kept here.
    pub(super) async fn drain(&mut self, chunk: Chunk) -> Result<(), SharedLogError> {
        let (Some(epoch), Link::Up(connection)) = (*self.log.cluster.epoch().borrow(), &self.link) else {
            return Ok(());
        };
        let payloads: Vec<Bytes> = chunk.entries.iter().map(|entry| entry.to_payload().into()).collect();
        let serial = self.serial + 1;
        self.log.health.appending.set(Some(std::time::Instant::now()));
        let appended = match connection.append(epoch, serial, &payloads, chunk.end).await {
            Ok(Some(appended)) => Ok(appended),
            // Read again from where the log says it is.
            Ok(None) => Err(ClusterError::Lost("the batch was not taken".to_owned())),
            Err(error) => Err(error),
        };
        let appended = match appended {
            Ok(appended) => appended,
            Err(error) => {
                self.mark_unavailable(&error);
                return Ok(());
            }
        };
        self.serial = serial;
        self.mark_available();
        if let Err(error) = self.log.outage.chunk_drained(&chunk) {
            // The chunk is read like what others append.
            self.mark_unavailable(&ClusterError::Outage(error));
            return Ok(());
        }
        let end = end_of(appended.start, &payloads);
        let requests = chunk.entries.into_iter().map(|entry| self.request_of_another(entry)).collect();
        self.appended_with(appended.start, requests, payloads, false).await?;
        self.begin_segment_if_full(appended.base, end).await;
        Ok(())
    }

    /// Keeps callbacks on this disk, and refuses the rest.
    pub(super) fn store_locally(&mut self, queue: &mut FairQueue<Option<Target>, AppendRequest>) {
        if let Some((serial, requests)) = self.doubtful.take() {
            let (callbacks, others) = split(requests);
            let entries = callbacks.iter().map(|request| request.entry.clone()).collect();
            let kept = self.log.outage.keep_doubtful(serial, entries);
            self.answer_stored(kept, callbacks);
            refuse_away(others);
        }
        let mut requests = std::mem::take(&mut self.retry_first);
        while !requests.is_empty() || !queue.is_empty() {
            let (callbacks, others) = split(requests);
            if !callbacks.is_empty() {
                let kept = self.log.outage.keep(callbacks.iter().map(|request| &request.entry));
                self.answer_stored(kept, callbacks);
            }
            refuse_away(others);
            requests = queue.take(BATCH_BYTES);
        }
        self.report_health();
    }

    fn answer_stored(&self, kept: Result<(), JournalError>, callbacks: Vec<AppendRequest>) {
        self.set_failure(kept.as_ref().err().map(ToString::to_string));
        if let Err(error) = &kept {
            tracing::error!(%error, "the shared log is away and this disk refuses: callbacks are answered 503");
        }
        let kept = kept.map_err(Arc::new);
        for request in callbacks {
            let answer = kept.clone().map(|()| ApplyOutcome::Deferred).map_err(RecordError::Journal);
            let _ = request.answer.send(answer);
        }
    }

    pub(super) fn set_failure(&self, failure: Option<String>) {
        *self.log.health.failure.lock() = failure;
    }
}

/// Where records with these payloads end.
fn end_of(start: u64, payloads: &[Bytes]) -> u64 {
    start + payloads.iter().map(|payload| record_length(payload.len())).sum::<u64>()
}

/// Answers for what is in the log, and is read like what others append.
fn defer(requests: Vec<AppendRequest>) {
    for request in requests {
        let _ = request.answer.send(Ok(ApplyOutcome::Deferred));
    }
}

/// Refuses what carries the fence of another epoch, or is too large. Gives back the rest.
fn refuse(requests: Vec<AppendRequest>, epoch: u64) -> Vec<AppendRequest> {
    let mut good = Vec::with_capacity(requests.len());
    for request in requests {
        let bytes = if let Entry::Callback(callback) = &request.entry { callback.body.len() } else { 0 };
        if request.fence.is_some_and(|fence| fence != epoch) {
            tracing::warn!(fence = request.fence, epoch, "an entry was refused: its replica was expelled meanwhile");
            let _ = request.answer.send(Err(RecordError::Fenced));
        } else if bytes + 1024 > MAX_PAYLOAD {
            let _ = request.answer.send(Err(RecordError::Journal(Arc::new(JournalError::TooLarge(bytes)))));
        } else {
            good.push(request);
        }
    }
    good
}

/// Callbacks, and whatever else.
fn split(requests: Vec<AppendRequest>) -> (Vec<AppendRequest>, Vec<AppendRequest>) {
    requests.into_iter().partition(|request| matches!(request.entry, Entry::Callback(_)))
}

fn refuse_away(requests: Vec<AppendRequest>) {
    for request in requests {
        // Its callback is kept as a whole then.
        let is_repeat = matches!(request.entry, Entry::Event(Event::Repeated { .. }));
        let _ = request.answer.send(if is_repeat { Ok(ApplyOutcome::Unknown) } else { Err(RecordError::Away) });
    }
}
