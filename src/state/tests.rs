use std::path::Path;

use bytes::Bytes;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::domain::{
    AttemptFailure, Change, Digest, FileName, JobId, JobState, MediaUrl, Origin, Reason, RefId, ReplyRef, StoredFile,
    StuckReason, Target, Timestamp, Variant,
};
use crate::journal::{CallbackEntry, Durability, Entry, Event, Journal};
use crate::provider::{self, Reading, Unclear};

fn interpret(body: &[u8]) -> Meaning {
    match provider::read(body) {
        Ok(Reading::Job(observation)) => Meaning::Job(observation),
        Ok(Reading::Unclear(Unclear::UnknownId)) => Meaning::Unclear(Reason::UnknownId),
        _ => Meaning::Unclear(Reason::UnknownShape),
    }
}

fn open(dir: &Path) -> Ledger {
    Ledger::open(Journal::open(&dir.join("journal")).unwrap(), &dir.join("state"), interpret).unwrap()
}

struct Bench {
    dir: TempDir,
    ledger: Ledger,
    adopt: bool,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ledger = open(dir.path());
        ledger.recovered().await.unwrap();
        Self { dir, ledger, adopt: true }
    }

    async fn reopen(self) -> (Self, Recovery) {
        self.ledger.close();
        let ledger = open(self.dir.path());
        let recovery = ledger.recovered().await.unwrap();
        (Self { ledger, ..self }, recovery)
    }

    async fn post(&self, target: Target, body: serde_json::Value) -> Applied {
        self.post_again(target, body, None).await
    }

    async fn post_again(&self, target: Target, body: serde_json::Value, replay_of: Option<u64>) -> Applied {
        let body = Bytes::from(body.to_string());
        let meaning = interpret(&body);
        let entry = CallbackEntry {
            at: Timestamp::now(),
            target,
            adopt: self.adopt,
            sidecars: false,
            confirm: false,
            asked: false,
            replay_of,
            body,
        };
        self.ledger.record_callback(Entry::Callback(entry), meaning).await.unwrap()
    }

    async fn event(&self, event: Event) -> Applied {
        self.ledger.record(event, Durability::Written).await.unwrap()
    }

    async fn add_ref(&self, number: u32, name: &str) -> Applied {
        let (id, reply_ref) = (ref_id(number), ReplyRef::new(name).unwrap());
        self.event(Event::RefAdded { at: now(), id, reply_ref, notify_url: None, labels: Default::default() }).await
    }

    fn job(&self, number: u32) -> crate::domain::Job {
        self.ledger.state().job(&id(number)).unwrap().unwrap().job
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
    Event::Stored { job: id(number), slot: Slot::media(), file }
}

fn reason(applied: &Applied) -> Option<Reason> {
    match applied {
        Applied::Quarantined { reason, .. } => Some(*reason),
        _ => None,
    }
}

#[tokio::test]
async fn a_job_belongs_to_the_ref_over_whose_url_it_was_first_named() {
    let bench = Bench::new().await;
    bench.add_ref(1, "one").await;
    bench.add_ref(2, "two").await;
    let (one, two) = (Target::Ref(ref_id(1)), Target::Ref(ref_id(2)));

    // The channel ties a job to a ref and claims nothing.
    bench.post(Target::Channel, done(1, Some("two"))).await;
    assert_eq!(bench.job(1).ref_id, Some(ref_id(2)));
    bench.post(one.clone(), progress(1)).await;
    assert_eq!((bench.job(1).ref_id, bench.job(1).reply_ref), (Some(ref_id(1)), ReplyRef::new("one").ok()));

    assert_eq!(reason(&bench.post(two.clone(), done(1, None)).await), Some(Reason::JobOfAnotherRef));
    assert_eq!(reason(&bench.post(two, done(2, Some("one"))).await), Some(Reason::ReplyRefMismatch));
    assert!(bench.ledger.state().job(&id(2)).unwrap().is_none());

    bench.post(Target::Channel, done(1, Some("three"))).await;
    assert_eq!(bench.job(1).ref_id, Some(ref_id(1)));
    assert_eq!(bench.job(1).callbacks, 3, "two were kept aside");

    bench.event(Event::RefRemoved { at: now(), id: ref_id(1) }).await;
    assert_eq!(reason(&bench.post(one, done(1, None)).await), Some(Reason::RefRemoved));
    assert_eq!(bench.job(1).ref_id, Some(ref_id(1)), "its jobs stay");
}

#[tokio::test]
async fn unknown_refs_are_adopted_or_kept_aside_and_looked_at_again() {
    let mut bench = Bench::new().await;
    bench.post(Target::Channel, done(1, Some("new"))).await;
    let adopted = bench.ledger.state().reply_ref_named(&ReplyRef::new("new").unwrap()).unwrap().unwrap();
    assert_eq!((adopted.origin, bench.job(1).ref_id), (Origin::Adopted, Some(adopted.id.clone())));
    assert!(
        matches!(bench.add_ref(9, "new").await, Applied::Ref { created: false, record } if record.id == adopted.id)
    );

    bench.adopt = false;
    for (number, name) in [(2, None), (3, Some("new")), (4, Some("nobody"))] {
        assert_eq!(reason(&bench.post(Target::Channel, done(number, name)).await), Some(Reason::UnknownReplyRef));
    }
    bench.add_ref(5, "nobody").await;
    let page = bench.ledger.state().quarantine(10, None).unwrap();
    assert_eq!(page.items.len(), 3);
    let kept = &page.items[0];
    assert_eq!((kept.job_id.clone(), kept.reason), (Some(id(4)), Reason::UnknownReplyRef));
    let Entry::Callback(original) = bench.ledger.journal().read(kept.position).unwrap() else { panic!("a callback") };
    let body = serde_json::from_slice(&original.body).unwrap();
    assert!(matches!(bench.post_again(Target::Channel, body, Some(kept.position)).await, Applied::Job { .. }));
    assert_eq!(bench.job(4).ref_id, Some(ref_id(5)));
    let again = bench.post_again(Target::Channel, done(2, None), Some(page.items[2].position)).await;
    assert_eq!(again, Applied::Quarantined { position: page.items[2].position, reason: Reason::UnknownReplyRef });
    assert_eq!(bench.ledger.state().counters().unwrap().quarantined, 2);
}

#[tokio::test]
async fn the_same_ref_is_registered_once_and_other_content_conflicts() {
    let bench = Bench::new().await;
    assert!(matches!(bench.add_ref(1, "a").await, Applied::Ref { created: true, .. }));
    assert!(matches!(bench.add_ref(2, "a").await, Applied::Ref { created: false, record } if record.id == ref_id(1)));
    let labels = [("k".to_owned(), "v".to_owned())].into();
    let other =
        Event::RefAdded { at: now(), id: ref_id(3), reply_ref: ReplyRef::new("a").unwrap(), notify_url: None, labels };
    assert_eq!(bench.event(other).await, Applied::RefConflict);
    assert_eq!(bench.ledger.state().refs(10, None).unwrap().0.len(), 1);
}

#[tokio::test]
async fn refs_of_the_gateway_may_repeat_a_reference_and_take_nothing_from_one_that_is_registered() {
    let bench = Bench::new().await;
    let a = ReplyRef::new("a").unwrap();
    let made = |number| Event::GatewayRefAdded {
        at: now(),
        id: ref_id(number),
        reply_ref: a.clone(),
        made: number == 1,
        pass_on_to: Some("https://h/x?token=1".to_owned()),
    };
    for number in [1, 2, 5] {
        assert!(matches!(bench.event(made(number)).await, Applied::Ref { created: true, .. }));
    }
    assert_eq!(bench.ledger.state().reply_ref_named(&a).unwrap(), None);
    assert!(matches!(bench.add_ref(3, "a").await, Applied::Ref { created: true, .. }));
    bench.post(Target::Channel, done(1, Some("a"))).await;
    assert_eq!(bench.job(1).ref_id, Some(ref_id(3)), "only the registered one answers to the reference");
    bench.post(Target::Ref(ref_id(2)), done(2, Some("a"))).await;
    assert_eq!(bench.job(2).ref_id, Some(ref_id(2)));

    // The next start counts them, too.
    let (bench, recovery) = bench.reopen().await;
    assert_eq!((recovery.moved_aside, recovery.replayed), (None, 0));
    let listed = |limit, before: Option<u32>| {
        let (items, more) = bench.ledger.state().refs_named(&a, limit, before.map(ref_id).as_ref()).unwrap();
        (items.into_iter().map(|record| record.id).collect::<Vec<_>>(), more)
    };
    let ids = |numbers: &[u32]| numbers.iter().copied().map(ref_id).collect::<Vec<_>>();
    assert_eq!(listed(9, None), (ids(&[5, 3, 2, 1]), false));
    assert_eq!(listed(4, None), (ids(&[5, 3, 2, 1]), false));
    assert_eq!(listed(2, None), (ids(&[5, 3]), true));
    assert_eq!(listed(1, Some(5)), (ids(&[3]), true));
    assert_eq!(listed(1, Some(3)), (ids(&[2]), true));
    assert_eq!(listed(1, Some(2)), (ids(&[1]), false));
    bench.event(Event::RefRemoved { at: now(), id: ref_id(2) }).await;
    bench.event(Event::RefRemoved { at: now(), id: ref_id(3) }).await;
    assert_eq!(listed(9, None), (ids(&[5, 1]), false));
    let record = bench.ledger.state().reply_ref_ever(&ref_id(2)).unwrap().unwrap();
    assert_eq!((record.made, record.pass_on_to.as_deref()), (false, Some("https://h/x?token=1")));
    let (_, recovery) = bench.reopen().await;
    assert_eq!(recovery.moved_aside, None);
}

#[tokio::test]
async fn the_answer_to_a_call_ties_its_job_unless_another_ref_has_claimed_it() {
    let bench = Bench::new().await;
    bench.add_ref(1, "one").await;
    bench.add_ref(2, "two").await;
    let answer = async |reference, body: serde_json::Value| {
        let body = Bytes::from(body.to_string());
        let meaning = interpret(&body);
        let (at, target) = (now(), Target::Ref(ref_id(reference)));
        let entry = CallbackEntry {
            at,
            target,
            adopt: true,
            sidecars: false,
            confirm: false,
            asked: true,
            replay_of: None,
            body,
        };
        bench.ledger.record_callback(Entry::Callback(entry), meaning).await.unwrap()
    };
    bench.post(Target::Channel, done(1, Some("two"))).await;
    answer(1, progress(1)).await;
    answer(2, progress(1)).await;
    assert_eq!(bench.job(1).ref_id, Some(ref_id(1)));
    assert_eq!(reason(&bench.post(Target::Ref(ref_id(2)), done(1, None)).await), Some(Reason::JobOfAnotherRef));
    // Deleted meanwhile, or answered with another reference: nothing is kept aside.
    answer(3, progress(3)).await;
    answer(1, done(4, Some("other"))).await;
    assert_eq!((bench.job(3).ref_id, bench.job(4).ref_id), (None, Some(ref_id(1))));
    assert_eq!(bench.ledger.state().counters().unwrap().quarantined, 1);
}

#[tokio::test]
async fn what_is_recorded_is_the_queue() {
    let bench = Bench::new().await;
    bench.post(Target::Channel, progress(1)).await;
    assert_eq!(bench.ledger.state().due(9).unwrap(), []);
    let Applied::Job { record, change } = bench.post(Target::Channel, done(1, None)).await else { panic!("a job") };
    assert_eq!(change, Some(Change::Ended));
    assert_eq!(
        bench.ledger.state().due(9).unwrap(),
        [DueJob { at: record.job.due.unwrap(), sequence: record.sequence, host: "h".to_owned(), link_dies_at: None }]
    );

    let later = Timestamp::from_millis_clamped(now().millis() + 1000);
    let failure = AttemptFailure { error: "503".to_owned(), counted: true, stuck: None };
    bench.event(Event::AttemptFailed { at: now(), job: id(1), slot: Slot::media(), failure, due: later }).await;
    assert_eq!(
        bench.ledger.state().due(9).unwrap(),
        [DueJob { at: later, sequence: record.sequence, host: "h".to_owned(), link_dies_at: None }]
    );

    let failure =
        AttemptFailure { error: "503".to_owned(), counted: true, stuck: Some(StuckReason::AttemptsExhausted) };
    bench.event(Event::AttemptFailed { at: now(), job: id(1), slot: Slot::media(), failure, due: later }).await;
    let decided_by = bench.job(1).final_callback;
    bench.event(Event::Ended { at: now(), job: id(1), state: JobState::Stuck, decided_by, manifest_key: None }).await;
    let stuck = JobFilter { state: Some(JobState::Stuck), ..Default::default() };
    assert_eq!(bench.ledger.state().due(9).unwrap(), []);
    assert_eq!(bench.ledger.state().jobs(&stuck, 9, None).unwrap().items.len(), 1);
    bench.event(Event::Retried { at: now(), job: id(1) }).await;
    assert_eq!(bench.ledger.state().due(9).unwrap().len(), 1);
    assert_eq!(bench.ledger.state().jobs(&stuck, 9, None).unwrap().items.len(), 0);
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
    assert_eq!(bench.event(claim(1)).await, Applied::Claim(Box::new(ClaimOutcome::Granted)));
    assert_eq!(bench.event(claim(1)).await, Applied::Claim(Box::new(ClaimOutcome::Granted)), "a step may run twice");
    let Applied::Claim(outcome) = bench.event(claim(2)).await else { panic!("an outcome") };
    assert!(matches!(*outcome, ClaimOutcome::HeldBy(held) if held.job == id(1)));
    for _ in 0..2 {
        bench.event(stored(1, "same", "video/1", false)).await;
        bench.event(stored(2, "same", "video/1", true)).await;
    }
    let Applied::Claim(outcome) = bench.event(claim(2)).await else { panic!("an outcome") };
    assert!(matches!(*outcome, ClaimOutcome::AlreadyStored(media) if media.key == "video/1"));
    let state = bench.ledger.state();
    let counters = state.counters().unwrap();
    assert_eq!((counters.objects, counters.bytes_stored, counters.bytes_deduplicated), (1, 4, 4));
    assert_eq!(
        state.references(&sha256, 10).unwrap().iter().map(|r| r.job_id.clone()).collect::<Vec<_>>(),
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
async fn the_state_comes_back_from_the_journal_alone() {
    let mut bench = Bench::new().await;
    bench.add_ref(1, "one").await;
    for number in 0..20 {
        bench.post(Target::Channel, progress(number)).await;
        bench.post(Target::Channel, done(number, Some("adopted"))).await;
    }
    bench.event(stored(3, "x", "video/3", false)).await;
    bench.post(Target::Channel, json!({"what": "ever"})).await;
    let before = snapshot(bench.ledger.state());

    let recovery;
    (bench, recovery) = bench.reopen().await;
    assert_eq!((recovery.replayed, recovery.moved_aside), (0, None), "replay applies nothing twice");
    assert_eq!(snapshot(bench.ledger.state()), before);

    bench.ledger.close();
    for damage in [remove, truncate, fill_with_zeros] {
        damage(&bench.dir.path().join("state"));
        let ledger = open(bench.dir.path());
        let recovery = ledger.recovered().await.unwrap();
        assert_eq!(recovery.replayed, 43);
        assert_eq!(snapshot(ledger.state()), before);
        ledger.close();
    }
}

/// Noise that sled alone does not always notice: it may open without an error and with records gone.
#[tokio::test]
async fn noise_in_any_of_the_stores_files_is_noticed_and_mended() {
    let bench = Bench::new().await;
    for number in 0..300 {
        bench.post(Target::Channel, done(number, Some(&format!("ref-{number}")))).await;
        bench.event(stored(number, &format!("{number}"), "video/x", false)).await;
    }
    let before = snapshot(bench.ledger.state());
    bench.ledger.close();
    let (dir, mut random, mut rebuilt) = (bench.dir.path().join("state"), 1u64, 0);
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 33
    };
    for _ in 0..25 {
        for name in ["db", "conf"].map(|name| dir.join(name)) {
            let mut bytes = std::fs::read(&name).unwrap();
            let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
            for _ in 0..4 {
                let at = next() as usize % used;
                bytes.iter_mut().skip(at).take(64).for_each(|byte| *byte = next() as u8);
            }
            std::fs::write(&name, &bytes).unwrap();
            let ledger = open(bench.dir.path());
            rebuilt += usize::from(ledger.recovered().await.unwrap().moved_aside.is_some());
            assert!(snapshot(ledger.state()) == before, "other records than before");
            ledger.close();
        }
    }
    // What hits room that is not in use is no damage; what hits the configuration always is.
    assert!(rebuilt >= 25, "the noise hits nothing: {rebuilt}");
}

fn remove(dir: &Path) {
    std::fs::remove_dir_all(dir).unwrap();
}

fn truncate(dir: &Path) {
    std::fs::write(dir.join("db"), b"").unwrap();
    std::fs::remove_file(dir.join("conf")).unwrap();
}

fn fill_with_zeros(dir: &Path) {
    let length = std::fs::metadata(dir.join("conf")).unwrap().len();
    std::fs::write(dir.join("conf"), vec![0; length as usize]).unwrap();
}

fn snapshot(state: &State) -> impl PartialEq + std::fmt::Debug + use<> {
    let jobs = state.jobs(&JobFilter::default(), 100, None).unwrap().items;
    let quarantine = state.quarantine(100, None).unwrap().items;
    (jobs, quarantine, state.refs(100, None).unwrap(), state.media_list(100, None).unwrap(), state.counters().unwrap())
}

#[tokio::test]
async fn a_store_that_fails_at_run_time_is_opened_anew_and_nothing_is_lost() {
    let bench = Bench::new().await;
    bench.post(Target::Channel, done(1, None)).await;
    bench.ledger.state().set_store(None);
    assert_eq!(bench.post(Target::Channel, done(2, None)).await, Applied::Deferred);
    loop {
        if let Applied::Job { .. } = bench.post(Target::Channel, done(3, None)).await {
            break;
        }
    }
    let jobs = bench.ledger.state().jobs(&JobFilter::default(), 10, None).unwrap().items;
    assert_eq!(jobs.iter().map(|record| record.job.id.clone()).collect::<Vec<_>>(), [id(3), id(2), id(1)]);
}

#[tokio::test]
async fn a_record_that_is_damaged_at_run_time_makes_the_store_be_made_anew() {
    let bench = Bench::new().await;
    bench.post(Target::Channel, done(1, None)).await;
    let before = bench.job(1);
    let record = bench.ledger.state().job(&id(1)).unwrap().unwrap();
    bench.ledger.state().store().unwrap().insert(keys::job(record.sequence), b"noise").unwrap();
    assert_eq!(bench.post(Target::Channel, done(1, None)).await, Applied::Deferred);
    let mended = async {
        loop {
            match bench.ledger.state().job(&id(1)) {
                Ok(Some(record)) => return record.job,
                _ => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        }
    };
    let job = tokio::time::timeout(std::time::Duration::from_secs(60), mended).await.unwrap();
    assert_eq!((job.callbacks, job.state), (2, before.state));
}

#[tokio::test]
async fn a_state_that_cannot_be_brought_up_to_date_does_not_hold_up_a_stop() {
    let bench = Bench::new().await;
    bench.post(Target::Channel, done(1, None)).await;
    // The journal is still written through its open file; it cannot be read from its folder any more.
    std::fs::remove_dir_all(bench.dir.path().join("journal")).unwrap();
    bench.ledger.state().set_store(None);
    assert_eq!(bench.post(Target::Channel, done(2, None)).await, Applied::Deferred);
    let ledger = bench.ledger.clone();
    let (done, closed) = std::sync::mpsc::channel();
    // Not one of the runtime's threads: the runtime would wait for it when the test has failed.
    std::thread::spawn(move || {
        ledger.close();
        done.send(())
    });
    closed.recv_timeout(std::time::Duration::from_secs(30)).expect("the stop hangs");
}

#[tokio::test]
async fn lists_go_page_by_page_newest_first() {
    let bench = Bench::new().await;
    for number in 0..5 {
        bench.post(Target::Channel, done(number, Some(if number % 2 == 0 { "even" } else { "odd" }))).await;
    }
    let state = bench.ledger.state();
    let numbers = |page: &Page<JobRecord>| page.items.iter().map(|record| record.job.id.clone()).collect::<Vec<_>>();
    let first = state.jobs(&JobFilter::default(), 2, None).unwrap();
    let second = state.jobs(&JobFilter::default(), 2, first.next).unwrap();
    let third = state.jobs(&JobFilter::default(), 2, second.next).unwrap();
    assert_eq!([numbers(&first), numbers(&second), numbers(&third)].concat(), [id(4), id(3), id(2), id(1), id(0)]);
    assert_eq!(third.next, None);
    let even = JobFilter { reply_ref: ReplyRef::new("even").ok(), ..Default::default() };
    assert_eq!(numbers(&state.jobs(&even, 10, None).unwrap()), [id(4), id(2), id(0)]);
}
