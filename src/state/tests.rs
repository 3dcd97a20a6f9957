mod claims;
mod fair_writes;
mod large_jobs;
mod lists;
mod read_back;
mod recovery;
mod refs;

use std::path::Path;

use bytes::Bytes;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::domain::{
    AssetId, AttemptFailure, Change, Digest, FileName, JobId, JobState, MediaUrl, Origin, QuarantineReason, RefId,
    ReplyRef, StoredFile, StuckReason, Target, Timestamp, Variant,
};
use crate::journal::{CallbackEntry, Durability, Entry, Event, Journal};
use crate::provider::{self, Parsed, Unrecognised};

fn parse_callback(body: &[u8]) -> ParsedCallback {
    match provider::read(body) {
        Ok(Parsed::Job(observation)) => ParsedCallback::Job(observation),
        Ok(Parsed::Unrecognised(Unrecognised::UnknownId)) => ParsedCallback::Unrecognised(QuarantineReason::UnknownId),
        _ => ParsedCallback::Unrecognised(QuarantineReason::UnknownShape),
    }
}

fn open(dir: &Path) -> EventLog {
    EventLog::open(Journal::open(&dir.join("journal")).unwrap(), &dir.join("state"), parse_callback).unwrap()
}

struct Bench {
    dir: TempDir,
    log: EventLog,
    adopt: bool,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path());
        log.recovered().await.unwrap();
        Self { dir, log, adopt: true }
    }

    async fn reopen(self) -> (Self, Recovery) {
        self.log.close();
        let log = open(self.dir.path());
        let recovery = log.recovered().await.unwrap();
        (Self { log, ..self }, recovery)
    }

    async fn post(&self, target: Target, body: serde_json::Value) -> ApplyOutcome {
        self.post_again(target, body, None).await
    }

    async fn post_again(&self, target: Target, body: serde_json::Value, replay_of: Option<u64>) -> ApplyOutcome {
        let body = Bytes::from(body.to_string());
        let parsed = parse_callback(&body);
        let entry = CallbackEntry {
            at: Timestamp::now(),
            target,
            adopt: self.adopt,
            sidecars: false,
            confirm: false,
            asked: false,
            foreign: false,
            replay_of,
            body,
        };
        self.log.record_callback(Entry::Callback(entry), parsed).await.unwrap()
    }

    async fn event(&self, event: Event) -> ApplyOutcome {
        self.log.record(event, Durability::Buffered).await.unwrap()
    }

    async fn add_ref(&self, number: u32, name: &str) -> ApplyOutcome {
        let (id, reply_ref) = (ref_id(number), ReplyRef::new(name).unwrap());
        self.event(Event::RefAdded { at: now(), id, reply_ref, notify_url: None, labels: Default::default() }).await
    }

    fn job(&self, number: u32) -> crate::domain::Job {
        self.log.state().job(&id(number)).unwrap().unwrap().job
    }
}

fn now() -> Timestamp {
    Timestamp::now()
}

fn id(number: u32) -> JobId {
    format!("user:1-minimax:2-video:{number}").parse().unwrap()
}

fn ref_id(number: u32) -> RefId {
    RefId::parse(&format!("ref_{number:026}")).unwrap()
}

fn progress(number: u32) -> serde_json::Value {
    json!({"videoId": id(number), "status": 1, "percent": 10})
}

fn done(number: u32, name: Option<&str>) -> serde_json::Value {
    json!({"videoId": id(number), "status": 2, "videoURL": format!("https://h/{number}"), "replyRef": name})
}

fn stored(number: u32, content: &str, key: &str, deduplicated: bool) -> Event {
    let file = StoredFile {
        file: FileName::clean("video.mp4"),
        sha256: Digest::of(content.as_bytes()),
        bytes: content.len() as u64,
        content_type: "video/mp4".to_owned(),
        key: key.to_owned(),
        deduplicated,
        url: MediaUrl::parse("https://h/x").unwrap(),
        variant: Variant::Clean,
        at: now(),
    };
    Event::Stored { job: id(number), slot: AssetId::media(), file }
}

fn reason(applied: &ApplyOutcome) -> Option<QuarantineReason> {
    match applied {
        ApplyOutcome::Quarantined { reason, .. } => Some(*reason),
        _ => None,
    }
}

#[tokio::test]
async fn recorded_work_is_the_queue() {
    let bench = Bench::new().await;
    bench.post(Target::Channel, progress(1)).await;
    let queue = || bench.log.state().due_page(9, None).unwrap().0;
    assert_eq!(queue(), Vec::<u64>::new());
    let ApplyOutcome::Job { job, change, .. } = bench.post(Target::Channel, done(1, None)).await else {
        panic!("a job")
    };
    let sequence = job.sequence;
    assert_eq!(change, Some(Change::Ended));
    assert_eq!(queue(), [sequence]);
    assert!(bench.job(1).due.is_some_and(|due| due <= now()));

    let later = Timestamp::from_millis_clamped(now().millis() + 600_000);
    let failed = |failure| {
        let (at, job, slot) = (now(), id(1), AssetId::media());
        Event::AttemptFailed { at, job, slot, failure, renewals: None, due: later }
    };
    let failure = AttemptFailure { error: "503".to_owned(), counted: true, stuck: None };
    bench.event(failed(failure)).await;
    assert_eq!((queue(), bench.log.state().next_due(now()).unwrap()), (vec![sequence], Some(later)));

    let failure =
        AttemptFailure { error: "503".to_owned(), counted: true, stuck: Some(StuckReason::AttemptsExhausted) };
    bench.event(failed(failure)).await;
    let decided_by = bench.job(1).final_callback;
    bench.event(Event::Ended { at: now(), job: id(1), state: JobState::Stuck, decided_by, manifest_key: None }).await;
    let stuck = JobFilter { state: Some(JobState::Stuck), ..Default::default() };
    assert_eq!(queue(), Vec::<u64>::new());
    assert_eq!(bench.log.state().jobs(&stuck, 9, None).unwrap().items.len(), 1);
    bench.event(Event::Retried { at: now(), job: id(1) }).await;
    assert_eq!(queue().len(), 1);
    assert_eq!(bench.log.state().jobs(&stuck, 9, None).unwrap().items.len(), 0);
}

#[tokio::test]
async fn one_file_claims_a_digest_and_others_find_it_stored() {
    let bench = Bench::new().await;
    for number in [1, 2] {
        bench.post(Target::Channel, done(number, None)).await;
    }
    let sha256 = Digest::of(b"same");
    let claim = |number: u32| {
        let Event::Stored { job, slot, file } = stored(number, "same", &format!("video/{number}"), false) else {
            unreachable!()
        };
        Event::Claimed { at: now(), job, slot, file }
    };
    assert_eq!(bench.event(claim(1)).await, ApplyOutcome::Claim(Box::new(ClaimOutcome::Granted)));
    assert_eq!(
        bench.event(claim(1)).await,
        ApplyOutcome::Claim(Box::new(ClaimOutcome::Granted)),
        "a step may run twice"
    );
    let ApplyOutcome::Claim(outcome) = bench.event(claim(2)).await else { panic!("an outcome") };
    assert!(matches!(*outcome, ClaimOutcome::HeldBy(held) if held.job == id(1)));
    for _ in 0..2 {
        bench.event(stored(1, "same", "video/1", false)).await;
        bench.event(stored(2, "same", "video/1", true)).await;
    }
    let ApplyOutcome::Claim(outcome) = bench.event(claim(2)).await else { panic!("an outcome") };
    assert!(matches!(*outcome, ClaimOutcome::AlreadyStored(media) if media.key == "video/1"));
    let state = bench.log.state();
    let counters = state.counters().unwrap();
    assert_eq!((counters.objects, counters.bytes_stored, counters.bytes_deduplicated), (1, 4, 4));
    assert_eq!(
        state.references(&sha256, 10, 1000).unwrap().0.iter().map(|r| r.job_id.clone()).collect::<Vec<_>>(),
        [id(1), id(2)]
    );
    assert_eq!(state.media_list(10, None).unwrap().items.len(), 1);
    assert_eq!(state.claims().unwrap(), []);
}

#[tokio::test]
async fn two_jobs_that_want_the_same_folder_get_two() {
    let bench = Bench::new().await;
    let place = |number: u32| Event::Placed {
        at: now(),
        job: id(number),
        folder: "f".to_owned(),
        fallback: format!("f-{number}"),
    };
    for number in [1, 2, 2, 1] {
        bench.post(Target::Channel, done(number, None)).await;
        bench.event(place(number)).await;
    }
    assert_eq!((bench.job(1).folder.as_deref(), bench.job(2).folder.as_deref()), (Some("f"), Some("f-2")));
}

#[tokio::test]
async fn lists_go_page_by_page_newest_first() {
    let bench = Bench::new().await;
    for number in 0..5 {
        bench.post(Target::Channel, done(number, Some(if number % 2 == 0 { "even" } else { "odd" }))).await;
    }
    let state = bench.log.state();
    let numbers = |page: &Page<JobRecord>| page.items.iter().map(|record| record.job.id.clone()).collect::<Vec<_>>();
    let first = state.jobs(&JobFilter::default(), 2, None).unwrap();
    let second = state.jobs(&JobFilter::default(), 2, first.next).unwrap();
    let third = state.jobs(&JobFilter::default(), 2, second.next).unwrap();
    assert_eq!([numbers(&first), numbers(&second), numbers(&third)].concat(), [id(4), id(3), id(2), id(1), id(0)]);
    assert_eq!(third.next, None);
    let even = JobFilter { reply_ref: ReplyRef::new("even").ok(), ..Default::default() };
    assert_eq!(numbers(&state.jobs(&even, 10, None).unwrap()), [id(4), id(2), id(0)]);
}
