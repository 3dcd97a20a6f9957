use std::path::Path;

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::domain::{AttemptFailure, JobId, Reason, Slot, Target};
use crate::journal::{CallbackEntry, Durability, Entry, Event, Journal};
use crate::provider::{self, Reading};
use crate::state::{Ledger, Meaning};

fn interpret(body: &[u8]) -> Meaning {
    match provider::read(body) {
        Ok(Reading::Job(observation)) => Meaning::Job(observation),
        _ => Meaning::Unclear(Reason::UnknownShape),
    }
}

fn id(number: u64) -> JobId {
    format!("user:1-minimax:2-video:{number}").parse().unwrap()
}

async fn open(dir: &Path) -> Ledger {
    let ledger = Ledger::open(Journal::open(&dir.join("journal")).unwrap(), &dir.join("state"), interpret).unwrap();
    assert_eq!(ledger.recovered().await.unwrap().moved_aside, None);
    ledger
}

/// A job that was heard of at `at` and has a link good until `dies`.
async fn post(ledger: &Ledger, number: u64, at: Timestamp, dies: Option<Timestamp>) {
    let query = dies.map_or(String::new(), |dies| format!("?Expires={}", dies.millis()));
    let url = format!("https://h/{number}{query}");
    let body = Bytes::from(json!({"videoId": id(number), "status": 2, "videoURL": url}).to_string());
    let meaning = interpret(&body);
    let target = Target::Channel;
    let entry = Entry::Callback(CallbackEntry {
        at,
        target,
        adopt: true,
        sidecars: false,
        confirm: false,
        asked: false,
        replay_of: None,
        body,
    });
    ledger.record_callback(entry, meaning).await.unwrap();
}

async fn fail(ledger: &Ledger, number: u64, at: Timestamp, due: Timestamp) {
    let failure = AttemptFailure { error: "503".to_owned(), counted: true, stuck: None };
    let event = Event::AttemptFailed { at, job: id(number), slot: Slot::media(), failure, due };
    ledger.record(event, Durability::Written).await.unwrap();
}

/// The numbers of the jobs that are due, in the order they are shown.
fn order(ledger: &Ledger, now: Timestamp, limit: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    let visit = |job: DueJob| {
        let id = ledger.state().job_at(job.sequence).unwrap().unwrap().job.id;
        numbers.push(id.as_str().rsplit(':').next().unwrap().parse().unwrap());
        ControlFlow::Continue(())
    };
    ledger.state().visit_due(now, limit, visit).unwrap();
    numbers
}

#[tokio::test]
async fn jobs_whose_links_die_next_are_shown_first_and_dead_ones_last() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path()).await;
    let start = Timestamp::parse_rfc3339("2026-11-20T10:00:00Z").unwrap();
    let minute = |minutes: u64| start.after(Duration::from_secs(60 * minutes));
    post(&ledger, 1, start, None).await;
    post(&ledger, 2, start, Some(minute(24 * 60))).await;
    post(&ledger, 3, start, Some(minute(30))).await;
    post(&ledger, 4, start, Some(minute(90))).await;
    post(&ledger, 5, minute(1), Some(minute(10))).await;
    post(&ledger, 6, minute(1), Some(minute(30))).await;
    assert_eq!(order(&ledger, minute(1), 9), [5, 3, 6, 4, 1, 2]);
    assert_eq!(order(&ledger, minute(1), 2), [5, 3]);
    assert_eq!(order(&ledger, minute(10).after(Duration::from_millis(1)), 9), [3, 6, 4, 1, 2, 5]);
    assert_eq!(ledger.state().dying(minute(1), minute(61)).unwrap(), 3);
    assert_eq!(ledger.state().oldest_due().unwrap(), Some(start));

    // What waits for another attempt is not shown before its time, and then in its place.
    fail(&ledger, 3, minute(2), minute(7)).await;
    fail(&ledger, 1, minute(2), minute(9)).await;
    assert_eq!(order(&ledger, minute(2), 9), [5, 6, 4, 2]);
    assert_eq!(ledger.state().next_due(minute(2)).unwrap(), Some(minute(7)));
    assert_eq!(order(&ledger, minute(7), 9), [5, 3, 6, 4, 2]);
    assert_eq!(ledger.state().next_due(minute(7)).unwrap(), Some(minute(9)));
    assert_eq!(order(&ledger, minute(9), 9), [5, 3, 6, 4, 1, 2]);
    assert_eq!(ledger.state().next_due(minute(9)).unwrap(), None);
    assert_eq!(ledger.state().dying(minute(1), minute(61)).unwrap(), 3, "those that wait count, too");

    // A fresh link counts, not the one it replaces.
    post(&ledger, 5, minute(3), Some(minute(600))).await;
    assert_eq!(order(&ledger, minute(9), 9), [3, 6, 4, 1, 5, 2]);

    ledger.close();
    let ledger = open(dir.path()).await;
    assert_eq!(order(&ledger, minute(9), 9), [3, 6, 4, 1, 5, 2]);
    for number in 1..=6 {
        let decided_by = ledger.state().job(&id(number)).unwrap().unwrap().job.final_callback;
        let failure = AttemptFailure {
            error: "no".to_owned(),
            counted: true,
            stuck: Some(crate::domain::StuckReason::NoCleanUrl),
        };
        let (job, slot) = (id(number), Slot::media());
        let failed = Event::AttemptFailed { at: minute(9), job: job.clone(), slot, failure, due: minute(9) };
        ledger.record(failed, Durability::Written).await.unwrap();
        let state = crate::domain::JobState::Stuck;
        let ended = Event::Ended { at: minute(9), job, state, decided_by, manifest_key: None };
        ledger.record(ended, Durability::Written).await.unwrap();
    }
    let counters = ledger.state().counters().unwrap();
    assert_eq!((counters.queued, counters.ready, counters.dying_minutes), (0, 0, 0));
    ledger.close();
    open(dir.path()).await.close();
}
