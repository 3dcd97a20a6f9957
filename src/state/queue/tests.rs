use std::path::Path;

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::domain::{AssetId, AttemptFailure, JobId, QuarantineReason, Target};
use crate::journal::{CallbackEntry, Durability, Entry, Event, Journal};
use crate::provider::{self, Parsed};
use crate::state::{EventLog, ParsedCallback};

fn parse_callback(body: &[u8]) -> ParsedCallback {
    match provider::read(body) {
        Ok(Parsed::Job(observation)) => ParsedCallback::Job(observation),
        _ => ParsedCallback::Unrecognised(QuarantineReason::UnknownShape),
    }
}

fn id(number: u64) -> JobId {
    format!("user:1-minimax:2-video:{number}").parse().unwrap()
}

async fn open(dir: &Path) -> EventLog {
    let log = EventLog::open(Journal::open(&dir.join("journal")).unwrap(), &dir.join("state"), parse_callback).unwrap();
    assert_eq!(log.recovered().await.unwrap().moved_aside, None);
    log
}

/// A job that was heard of at `at` and has a link good until `dies`.
async fn post(log: &EventLog, number: u64, at: Timestamp, dies: Option<Timestamp>) {
    let query = dies.map_or(String::new(), |dies| format!("?Expires={}", dies.millis()));
    post_url(log, number, at, &format!("https://h/{number}{query}"), None).await;
}

async fn post_url(log: &EventLog, number: u64, at: Timestamp, url: &str, name: Option<&str>) {
    let body = json!({"videoId": id(number), "status": 2, "videoURL": url, "replyRef": name});
    let body = Bytes::from(body.to_string());
    let parsed = parse_callback(&body);
    let target = Target::Channel;
    let entry = Entry::Callback(CallbackEntry {
        at,
        target,
        adopt: true,
        sidecars: false,
        confirm: false,
        asked: false,
        foreign: false,
        replay_of: None,
        body,
    });
    log.record_callback(entry, parsed).await.unwrap();
}

async fn fail(log: &EventLog, number: u64, at: Timestamp, due: Timestamp) {
    let failure = AttemptFailure { error: "503".to_owned(), counted: true, stuck: None };
    let event = Event::AttemptFailed { at, job: id(number), slot: AssetId::media(), failure, renewals: None, due };
    log.record(event, Durability::Buffered).await.unwrap();
}

async fn give_up(log: &EventLog, number: u64, at: Timestamp) {
    let decided_by = log.state().job(&id(number)).unwrap().unwrap().job.final_callback;
    let stuck = Some(crate::domain::StuckReason::NoCleanUrl);
    let failure = AttemptFailure { error: "no".to_owned(), counted: true, stuck };
    let (job, slot) = (id(number), AssetId::media());
    let failed = Event::AttemptFailed { at, job: job.clone(), slot, failure, renewals: None, due: at };
    log.record(failed, Durability::Buffered).await.unwrap();
    let ended = Event::Ended { at, job, state: crate::domain::JobState::Stuck, decided_by, manifest_key: None };
    log.record(ended, Durability::Buffered).await.unwrap();
}

/// The numbers of the jobs that are due, in the order they are shown.
fn order(log: &EventLog, now: Timestamp, limit: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    let visit = |job: &DueJob| {
        numbers.push(number(log, job));
        if numbers.len() < limit { Shown::Taken } else { Shown::Enough }
    };
    log.state().visit_due(now, &mut DueCursor::default(), visit).unwrap();
    numbers
}

fn number(log: &EventLog, job: &DueJob) -> u64 {
    let id = log.state().job_at(job.sequence).unwrap().unwrap().job.id;
    id.as_str().rsplit(':').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn jobs_whose_links_die_next_are_shown_first_and_dead_ones_last() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    let start = Timestamp::parse_rfc3339("2026-11-20T10:00:00Z").unwrap();
    let minute = |minutes: u64| start.after(Duration::from_secs(60 * minutes));
    post(&log, 1, start, None).await;
    post(&log, 2, start, Some(minute(24 * 60))).await;
    post(&log, 3, start, Some(minute(30))).await;
    post(&log, 4, start, Some(minute(90))).await;
    post(&log, 5, minute(1), Some(minute(10))).await;
    post(&log, 6, minute(1), Some(minute(30))).await;
    assert_eq!(order(&log, minute(1), 9), [5, 3, 6, 4, 1, 2]);
    assert_eq!(order(&log, minute(1), 2), [5, 3]);
    assert_eq!(order(&log, minute(10).after(Duration::from_millis(1)), 9), [3, 6, 4, 1, 2, 5]);
    assert_eq!(log.state().expiring(minute(1), minute(61)).unwrap(), 3);
    assert_eq!(log.state().oldest_due().unwrap(), Some(start));

    // What waits for another attempt is not shown before its time, and then in its place.
    fail(&log, 3, minute(2), minute(7)).await;
    fail(&log, 1, minute(2), minute(9)).await;
    assert_eq!(order(&log, minute(2), 9), [5, 6, 4, 2]);
    assert_eq!(log.state().next_due(minute(2)).unwrap(), Some(minute(7)));
    assert_eq!(order(&log, minute(7), 9), [5, 3, 6, 4, 2]);
    assert_eq!(log.state().next_due(minute(7)).unwrap(), Some(minute(9)));
    assert_eq!(order(&log, minute(9), 9), [5, 3, 6, 4, 1, 2]);
    assert_eq!(log.state().next_due(minute(9)).unwrap(), None);
    assert_eq!(log.state().expiring(minute(1), minute(61)).unwrap(), 3, "those that wait count, too");

    // A fresh link counts, not the one it replaces.
    post(&log, 5, minute(3), Some(minute(600))).await;
    assert_eq!(order(&log, minute(9), 9), [3, 6, 4, 1, 5, 2]);

    log.close();
    let log = open(dir.path()).await;
    assert_eq!(order(&log, minute(9), 9), [3, 6, 4, 1, 5, 2]);
    for number in 1..=6 {
        give_up(&log, number, minute(9)).await;
    }
    let counters = log.state().counters().unwrap();
    assert_eq!((counters.queued, counters.ready, counters.dying_minutes), (0, 0, 0));
    log.close();
    open(dir.path()).await.close();
}

#[tokio::test]
async fn a_job_with_room_is_found_behind_thousands_without() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    let start = Timestamp::parse_rfc3339("2026-11-20T10:00:00Z").unwrap();
    let later = start.after(Duration::from_secs(60));
    let greedy = (0..3000).map(|number| {
        let log = log.clone();
        async move {
            post_url(&log, number, start, &format!("https://slow/{number}"), Some("greedy")).await;
            if number % 2 == 0 {
                fail(&log, number, start, start.after(Duration::from_secs(1))).await;
            }
        }
    });
    futures_util::future::join_all(greedy).await;
    post_url(&log, 3000, later, "https://other/v", Some("greedy")).await;
    post_url(&log, 3001, later, "https://slow/v", Some("modest")).await;
    post_url(&log, 3002, later, "https://slow/w", None).await;
    let greedy = log.state().job(&id(0)).unwrap().unwrap().job.ref_id.unwrap();
    let greedy = keys::short_hash(greedy.as_str());
    let visit = |visit: &mut dyn FnMut(&DueJob) -> Shown| {
        let (mut shown, mut cursor) = (Vec::new(), DueCursor::default());
        let more = log.state().visit_due(later, &mut cursor, |job| {
            shown.push(number(&log, job));
            visit(job)
        });
        assert!(!more.unwrap());
        shown
    };
    let shown = visit(&mut |job| if job.host == "slow" { Shown::HostFull } else { Shown::Taken });
    assert_eq!((shown.len(), shown[1]), (2, 3000), "{shown:?}");
    let shown = visit(&mut |job| match job.owner {
        owner if owner == greedy => Shown::OwnerFull,
        _ => Shown::Taken,
    });
    assert!(shown.contains(&3001) && shown.contains(&3002) && shown.len() < 200, "{shown:?}");
    let shown = visit(&mut |job| if job.owner == greedy { Shown::Passed } else { Shown::Enough });
    assert!(shown.len() < 200, "{shown:?}");
    log.close();
    open(dir.path()).await.close();
}

#[tokio::test]
async fn of_very_many_hosts_each_has_its_turn() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    let start = Timestamp::parse_rfc3339("2026-11-20T10:00:00Z").unwrap();
    let posts = (0..1000).map(|number| {
        let (log, url) = (log.clone(), format!("https://h{number}/v"));
        async move { post_url(&log, number, start, &url, None).await }
    });
    futures_util::future::join_all(posts).await;
    let (mut seen, mut cursor, mut walks) = (std::collections::HashSet::new(), DueCursor::default(), 0);
    while log
        .state()
        .visit_due(start, &mut cursor, |job| {
            seen.insert(number(&log, job));
            Shown::HostFull
        })
        .unwrap()
        && seen.len() < 1000
    {
        walks += 1;
        assert!(walks < 10);
    }
    assert_eq!(seen.len(), 1000);
    log.close();
}

#[tokio::test]
async fn one_owners_thousands_of_hosts_do_not_hide_anothers_job() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    let start = Timestamp::parse_rfc3339("2026-11-20T10:00:00Z").unwrap();
    let later = start.after(Duration::from_secs(60));
    let posts = (0..5000).map(|number| {
        let (log, url) = (log.clone(), format!("https://h{number}/v"));
        async move { post_url(&log, number, start, &url, Some("greedy")).await }
    });
    futures_util::future::join_all(posts).await;
    let greedy = log.state().job(&id(0)).unwrap().unwrap().job.ref_id.unwrap();
    let greedy = keys::short_hash(greedy.as_str());
    let mut cursor = DueCursor::default();
    let mut walk = |full: &[u64]| {
        let mut shown = Vec::new();
        cursor.leave_out(full.to_vec());
        let visit = |job: &DueJob| {
            shown.push(number(&log, job));
            if job.owner == greedy { Shown::OwnerFull } else { Shown::Taken }
        };
        assert!(log.state().visit_due(later, &mut cursor, visit).unwrap());
        shown
    };
    post_url(&log, 5000, start, "https://other/v", Some("modest")).await;
    let shown = walk(&[]);
    assert!(shown.contains(&5000) && shown.len() <= 256, "{shown:?}");
    // One that comes when all others are known.
    post_url(&log, 5001, later, "https://another/v", Some("late")).await;
    let shown = walk(&[]);
    assert!(shown.contains(&5000) && shown.contains(&5001), "{shown:?}");
    let mut shown = walk(&[greedy]);
    shown.sort_unstable();
    assert_eq!(shown, [5000, 5001], "nobody looks at hosts of one who is full");
    // One that waits for another attempt.
    fail(&log, 5001, later, later.after(Duration::from_secs(60))).await;
    assert_eq!(walk(&[greedy]), [5000]);
    let named = || log.state().shared.owners.lock().as_mut().unwrap().name(&mut 0, &[greedy], 9).0.len();
    assert_eq!(named(), 2);
    give_up(&log, 5001, later).await;
    assert_eq!(walk(&[greedy]), [5000]);
    assert_eq!(named(), 1, "a lane without jobs is forgotten");
    log.close();
}

#[test]
fn owners_name_their_hosts_in_turn() {
    let mut owners = owners_of([(1, 10), (1, 11), (1, 12), (1, 13), (2, 12), (2, 20), (3, 30)]);
    let mut turn = 0;
    let mut names = |full: &[u64], most| Vec::from_iter(owners.name(&mut turn, full, most).1);
    assert_eq!(names(&[], 2), [10, 12], "the first of the first two");
    assert_eq!(names(&[], 3), [11, 20, 30], "then from the third on");
    assert_eq!(names(&[1], 9), [12, 20, 30]);
    assert_eq!(names(&[], 9), [10, 11, 12, 13, 20, 30], "all, each once");
    assert!(names(&[1, 2, 3], 9).is_empty());
}

#[test]
fn an_owner_with_most_hosts_names_no_more_than_others_while_they_have_some() {
    let many = (0..10_000).map(|host| (7, host));
    let mut owners = owners_of(many.chain((100..120).map(|owner| (owner, 1_000_000 + owner))));
    let mut turn = 0;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..43 {
        let (_, hosts, _) = owners.name(&mut turn, &[], 256);
        assert_eq!((hosts.len(), hosts.range(1_000_000..).count()), (256, 20));
        seen.extend(hosts);
    }
    assert_eq!(seen.len(), 10_020, "each has had its turn");
}

fn owners_of(lanes: impl IntoIterator<Item = Lane>) -> Owners {
    let mut owners = Owners::new();
    owners.note(lanes);
    owners
}

#[tokio::test]
async fn an_attempt_put_off_by_a_clock_that_was_ahead_is_due() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    let start = Timestamp::parse_rfc3339("2026-11-20T10:00:00Z").unwrap();
    let hours = |hours: u64| start.after(Duration::from_secs(3600 * hours));
    for (number, due) in [(1, hours(30 * 24)), (2, hours(4)), (3, hours(7))] {
        post(&log, number, start, None).await;
        fail(&log, number, start, due).await;
    }
    assert_eq!(order(&log, start, 9), [3, 1]);
    assert_eq!((log.state().due_by(start).unwrap(), log.state().next_due(start).unwrap()), (2, Some(hours(4))));
    log.close();
}
