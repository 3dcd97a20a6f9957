//! A key of the bucket belongs to one digest, whatever jobs claim, store and fail in whatever order.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// What two jobs and a store that answers late do.
#[derive(Clone, Debug)]
enum Step {
    /// A job claims one of its keys for some bytes.
    Claim {
        job: u32,
        content: u8,
        key: u8,
    },
    /// A write that was allowed some time ago arrives, whoever still waits for it.
    Arrive {
        granted: usize,
    },
    /// The job that was allowed to write finds its object there and says so.
    Store {
        granted: usize,
    },
    /// Somebody else looks what became of a claim.
    Settle {
        content: u8,
    },
    Fail {
        job: u32,
    },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..2_u32, 0..3_u8, 0..2_u8).prop_map(|(job, content, key)| Step::Claim { job, content, key }),
        4 => (0..16_usize).prop_map(|granted| Step::Arrive { granted }),
        4 => (0..16_usize).prop_map(|granted| Step::Store { granted }),
        3 => (0..3_u8).prop_map(|content| Step::Settle { content }),
        1 => (0..2_u32).prop_map(|job| Step::Fail { job }),
        1 => Just(Step::Reopen),
    ]
}

fn file(job: u32, content: u8, key: u8) -> StoredFile {
    let Event::Stored { file, .. } = stored(job, &content.to_string(), &format!("video/{job}/{key}"), false) else {
        unreachable!()
    };
    file
}

async fn claim(bench: &Bench, job: u32, file: &StoredFile) -> ClaimOutcome {
    let event = Event::Claimed { at: now(), job: id(job), slot: AssetId::media(), file: file.clone() };
    match bench.event(event).await {
        ApplyOutcome::Claim(outcome) => *outcome,
        other => panic!("{other:?}"),
    }
}

async fn run(steps: Vec<Step>) {
    let mut bench = Bench::new().await;
    for job in 0..2 {
        bench.post(Target::Channel, done(job, None)).await;
    }
    // What each key holds, and all writes that were ever allowed: each may arrive at any time, and again.
    let mut objects: HashMap<String, Digest> = HashMap::new();
    let mut granted: Vec<(u32, StoredFile)> = Vec::new();
    for step in steps {
        match step {
            Step::Claim { job, content, key } => {
                let file = file(job, content, key);
                if claim(&bench, job, &file).await == ClaimOutcome::Granted {
                    granted.push((job, file));
                }
            }
            Step::Arrive { granted: at } => {
                if let Some((_, file)) = granted.get(at) {
                    objects.insert(file.key.clone(), file.sha256);
                }
            }
            Step::Store { granted: at } => {
                if let Some((job, file)) = granted.get(at).filter(|(_, file)| objects.contains_key(&file.key)) {
                    let (job, file) = (id(*job), file.clone());
                    bench.event(Event::Stored { job, slot: AssetId::media(), file }).await;
                }
            }
            Step::Settle { content } => {
                let sha256 = Digest::of(content.to_string().as_bytes());
                let Some(Claim { job, slot, file }) = bench.log.state().claim(&sha256).unwrap() else { continue };
                let is_there = objects.get(&file.key) == Some(&sha256);
                let released = Event::Released { at: now(), sha256 };
                bench.event(if is_there { Event::Stored { job, slot, file } } else { released }).await;
            }
            Step::Fail { job } => {
                let failure = AttemptFailure { error: "500".to_owned(), counted: true, stuck: None };
                let (at, job, slot) = (now(), id(job), AssetId::media());
                bench.event(Event::AttemptFailed { at, job, slot, failure, renewals: None, due: at }).await;
            }
            Step::Reopen => {
                let recovery;
                (bench, recovery) = bench.reopen().await;
                assert_eq!(recovery.moved_aside, None, "the counts are right");
            }
        }
        let index = bench.log.state().media_list(100, None).unwrap().items;
        for (digest, media) in &index {
            let sharing = index.iter().filter(|(_, other)| other.key == media.key).count();
            assert_eq!(sharing, 1, "two digests under {}", media.key);
            let others = granted.iter().filter(|(_, file)| file.key == media.key && file.sha256 != *digest).count();
            assert_eq!(others, 0, "other bytes may come to lie under {}", media.key);
        }
    }
    bench.log.close();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_two_digests_share_a_key_and_no_other_bytes_may_come_to_lie_there(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(steps));
    }
}

#[tokio::test]
async fn a_claim_is_refused_when_the_file_is_stored_or_the_key_belongs_to_other_bytes() {
    let bench = Bench::new().await;
    for job in 0..2 {
        bench.post(Target::Channel, done(job, None)).await;
    }
    let (first, second) = (file(0, 1, 0), file(0, 2, 0));
    assert_eq!(claim(&bench, 0, &first).await, ClaimOutcome::Granted);
    assert_eq!(claim(&bench, 0, &first).await, ClaimOutcome::Granted, "the same again");
    assert_eq!(claim(&bench, 0, &second).await, ClaimOutcome::KeyTaken(first.sha256));
    bench.event(Event::Released { at: now(), sha256: first.sha256 }).await;
    assert_eq!(claim(&bench, 0, &second).await, ClaimOutcome::KeyTaken(first.sha256), "the write may still arrive");
    assert_eq!(claim(&bench, 0, &first).await, ClaimOutcome::Granted);
    bench.event(Event::Stored { job: id(0), slot: AssetId::media(), file: first.clone() }).await;
    let elsewhere = file(0, 2, 1);
    assert_eq!(claim(&bench, 0, &elsewhere).await, ClaimOutcome::FileStored(Box::new(first.clone())));
    assert!(
        matches!(claim(&bench, 1, &file(1, 1, 0)).await, ClaimOutcome::AlreadyStored(media) if media.key == first.key)
    );
}

#[tokio::test]
async fn a_job_whose_given_up_file_turns_out_to_be_stored_is_no_longer_stuck() {
    let bench = Bench::new().await;
    bench.post(Target::Channel, done(1, None)).await;
    let file = file(1, 1, 0);
    assert_eq!(claim(&bench, 1, &file).await, ClaimOutcome::Granted);
    let (at, slot) = (now(), AssetId::media());
    let stuck = Some(StuckReason::AttemptsExhausted);
    let failure = AttemptFailure { error: "404".to_owned(), counted: true, stuck };
    bench.event(Event::AttemptFailed { at, job: id(1), slot: slot.clone(), failure, renewals: None, due: at }).await;
    let decided_by = bench.job(1).final_callback;
    bench.event(Event::Ended { at, job: id(1), state: JobState::Stuck, decided_by, manifest_key: None }).await;
    assert_eq!(bench.job(1).reason, stuck);
    bench.event(Event::Stored { job: id(1), slot, file }).await;
    let job = bench.job(1);
    assert_eq!((job.state, job.reason, job.end_state()), (JobState::Archiving, None, Some(JobState::Archived)));
    assert_eq!(bench.log.state().due_page(9, None).unwrap().0.len(), 1);
}

#[tokio::test]
async fn a_journal_in_which_a_key_was_stored_twice_names_only_what_was_stored_last() {
    let bench = Bench::new().await;
    for job in 0..2 {
        bench.post(Target::Channel, done(job, None)).await;
        bench.event(stored(job, &job.to_string(), "video/one", false)).await;
    }
    let index = bench.log.state().media_list(10, None).unwrap().items;
    assert_eq!(index.iter().map(|(digest, _)| *digest).collect::<Vec<_>>(), [Digest::of(b"1")]);
    let (_, recovery) = bench.reopen().await;
    assert_eq!(recovery.moved_aside, None, "the counts are right");
}
