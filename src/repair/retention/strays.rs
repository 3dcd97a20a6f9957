//! Records beyond the end of their segment are recorded again: somebody may have been told that they are kept.

use std::time::Duration;

use super::{Retention, RetentionError};
use crate::domain::Digest;
use crate::journal::{Entry, Event, Strays};

/// How long another process that still writes may take to notice that it must not.
const PATIENCE: Duration = Duration::from_secs(5);

impl Retention {
    /// Records again what stands beyond the end of segments, and cuts it off there.
    pub(super) async fn record_strays(&self) -> Result<(), RetentionError> {
        let find = |this: &Self| Ok(this.journal().strays()?);
        let found = self.blocking(find).await?;
        self.recorded_again.lock().retain(|base, _| found.iter().any(|strays| strays.base == *base));
        if found.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(PATIENCE).await;
        for strays in self.blocking(find).await? {
            self.record_once(&strays).await?;
            self.blocking(move |this| Ok(this.journal().cut_off(&strays)?)).await?;
        }
        Ok(())
    }

    /// Records again what was not yet in this run. Where cutting fails, nothing is recorded by each pass anew.
    async fn record_once(&self, strays: &Strays) -> Result<(), RetentionError> {
        let recorded = self.recorded_again.lock().get(&strays.base).copied();
        let known = recorded.filter(|(count, digest)| {
            strays.entries.get(..*count).is_some_and(|entries| digest_of(entries) == *digest)
        });
        let new = &strays.entries[known.map_or(0, |(count, _)| count)..];
        if new.is_empty() {
            return Ok(());
        }
        let kept: Vec<_> = new.iter().filter(|entry| is_told_outside(entry)).cloned().collect();
        let (segment, records, recorded) = (strays.base, new.len(), kept.len());
        self.log.record_again(kept).await?;
        self.recorded_again.lock().insert(segment, (strays.entries.len(), digest_of(&strays.entries)));
        tracing::warn!(
            segment,
            records,
            recorded,
            "records stood beyond the end of a segment of the journal, as if two processes had written to it: what others \
             may have been told of is recorded again"
        );
        Ok(())
    }
}

fn digest_of(entries: &[Entry]) -> Digest {
    Digest::of(&entries.iter().flat_map(Entry::to_payload).collect::<Vec<_>>())
}

/// Whether somebody outside may have been told of it. How far work had come is found again by looking.
fn is_told_outside(entry: &Entry) -> bool {
    match entry {
        Entry::Callback(_) | Entry::Kept(_) => true,
        Entry::Event(event) => matches!(
            event,
            Event::RefAdded { .. }
                | Event::GatewayRefAdded { .. }
                | Event::RefRemoved { .. }
                | Event::RefKept { .. }
                | Event::Retried { .. }
                | Event::NotificationRetried { .. }
        ),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::{QuarantineReason, Target, Timestamp};
    use crate::journal::{CallbackEntry, Durability, Journal, Writer};
    use crate::state::{EventLog, ParsedCallback};

    fn parse_callback(_: &[u8]) -> ParsedCallback {
        ParsedCallback::Unrecognised(QuarantineReason::UnknownShape)
    }

    fn callback() -> Entry {
        Entry::Callback(CallbackEntry {
            at: Timestamp::now(),
            target: Target::Channel,
            adopt: true,
            sidecars: false,
            confirm: false,
            asked: false,
            foreign: false,
            replay_of: None,
            body: Bytes::from_static(b"{}"),
        })
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn records_beyond_the_end_that_cannot_be_cut_off_are_recorded_again_once() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(&dir.path().join("journal")).unwrap();
        let mut writer = Writer::new(journal.clone(), 0).unwrap();
        writer.append([&callback()], Durability::Synced).unwrap();
        drop(writer);
        let log = EventLog::open(journal, &dir.path().join("state"), parse_callback).unwrap();
        log.recovered().await.unwrap();
        log.record_callback(callback(), parse_callback(b"{}")).await.unwrap();
        let retention = Retention::new(log.clone(), parse_callback, Duration::ZERO);
        let quarantined = || log.state().counters().unwrap().quarantined;
        let before = quarantined();
        // Another process goes on in the first segment; nothing is cut off.
        let path = dir.path().join("journal/00000000000000000000.journal");
        let mut bytes = std::fs::read(&path).unwrap();
        let marker = bytes.windows(4).rposition(|window| window == b"\xF5rv\xF6").unwrap();
        let record = bytes[marker..].to_vec();
        for number in 1..=2_usize {
            bytes.extend(&record);
            std::fs::write(&path, &bytes).unwrap();
            for _ in 0..2 {
                let found = log.journal().strays().unwrap();
                assert_eq!((found.len(), found[0].entries.len()), (1, number));
                retention.record_once(&found[0]).await.unwrap();
                assert_eq!(quarantined(), before + number as u64);
            }
        }
        log.journal().cut_off(&log.journal().strays().unwrap()[0]).unwrap();
        retention.record_strays().await.unwrap();
        assert!(retention.recorded_again.lock().is_empty());
        log.close();
    }
}
