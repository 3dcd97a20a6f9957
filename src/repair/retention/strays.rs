//! Records beyond the end of their segment are recorded again: somebody may have been told that they are kept.

use std::time::Duration;

use super::{Retention, RetentionError};
use crate::journal::{Entry, Event};

/// How long another process that still writes may take to notice that it must not.
const PATIENCE: Duration = Duration::from_secs(5);

impl Retention {
    /// Records again what stands beyond the end of segments, and cuts it off there.
    pub(super) async fn record_strays(&self) -> Result<(), RetentionError> {
        let find = |this: &Self| Ok(this.journal().strays()?);
        if self.blocking(find).await?.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(PATIENCE).await;
        for strays in self.blocking(find).await? {
            let kept: Vec<_> = strays.entries.iter().filter(|entry| is_told_outside(entry)).cloned().collect();
            let (segment, records, recorded) = (strays.base, strays.entries.len(), kept.len());
            self.log.record_again(kept).await?;
            tracing::warn!(
                segment,
                records,
                recorded,
                "records stood beyond the end of a segment of the journal, as if two processes had written to it: what others \
                 may have been told of is recorded again"
            );
            self.blocking(move |this| Ok(this.journal().cut_off(&strays)?)).await?;
        }
        Ok(())
    }
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
