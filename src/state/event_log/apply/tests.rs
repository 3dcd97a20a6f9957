use super::*;
use crate::domain::{JobId, QuarantineReason, Timestamp};
use crate::journal::{Durability, Event};
use crate::state::EventLog;

fn parse_callback(_: &[u8]) -> ParsedCallback {
    ParsedCallback::Unrecognised(QuarantineReason::UnknownShape)
}

async fn record(log: &EventLog) -> ApplyOutcome {
    let job: JobId = "user:1-minimax:2-video:1".parse().unwrap();
    log.record(Event::Retried { at: Timestamp::now(), job }, Durability::Synced).await.unwrap()
}

#[tokio::test]
async fn a_request_to_start_over_is_not_lost_while_the_store_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(&dir.path().join("journal")).unwrap();
    let log = EventLog::open(journal, &dir.path().join("state"), parse_callback).unwrap();
    log.recovered().await.unwrap();
    record(&log).await;
    // While a reader has the store, it cannot be opened again.
    let held = log.state().store().unwrap();
    log.state().set_store(None);
    assert_eq!(record(&log).await, ApplyOutcome::Deferred);
    let starting_over = log.start_over();
    tokio::pin!(starting_over);
    assert!(tokio::time::timeout(Duration::ZERO, &mut starting_over).await.is_err());
    // What is recorded behind the request is answered behind it.
    assert_eq!(record(&log).await, ApplyOutcome::Deferred);
    drop(held);
    let recovery = tokio::time::timeout(Duration::from_secs(60), starting_over).await.unwrap().unwrap();
    assert!(recovery.made_anew && recovery.moved_aside.is_some(), "{recovery:?}");
    log.close();
}
