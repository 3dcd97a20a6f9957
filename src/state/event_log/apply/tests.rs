use bytes::Bytes;

use super::*;
use crate::domain::{JobId, QuarantineReason, Target, Timestamp};
use crate::journal::{CallbackEntry, Durability, Event, Writer};
use crate::state::{EventLog, restore_marker};

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

#[tokio::test]
async fn a_stop_does_not_wait_for_a_rebuild_and_the_next_start_goes_on_with_it() {
    const CALLBACKS: usize = 10_000;
    /// Ten seconds for all of them at the least.
    fn parse_slowly(body: &[u8]) -> ParsedCallback {
        std::thread::sleep(Duration::from_millis(1));
        parse_callback(body)
    }
    let dir = tempfile::tempdir().unwrap();
    let (folder, state) = (dir.path().join("journal"), dir.path().join("state"));
    let callback = Entry::Callback(CallbackEntry {
        at: Timestamp::now(),
        target: Target::Channel,
        adopt: true,
        sidecars: false,
        confirm: false,
        asked: false,
        foreign: false,
        replay_of: None,
        body: Bytes::from_static(b"{}"),
    });
    let mut writer = Writer::new(Journal::open(&folder).unwrap(), 0).unwrap();
    writer.append(vec![&callback; CALLBACKS], Durability::Buffered).unwrap();
    drop(writer);
    let log = EventLog::open(Journal::open(&folder).unwrap(), &state, parse_slowly).unwrap();
    log.close();
    assert_eq!(log.recovered().await, None, "the stop waited");
    assert!(restore_marker(&state).exists(), "no start would know that this state was made anew");
    let log = EventLog::open(Journal::open(&folder).unwrap(), &state, parse_callback).unwrap();
    log.recovered().await.unwrap();
    assert_eq!(log.state().counters().unwrap().quarantined, CALLBACKS as u64);
    log.close();
}
