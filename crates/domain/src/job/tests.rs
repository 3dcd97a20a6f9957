mod attempts;
mod budget;

use proptest::prelude::*;

use super::*;
use crate::{
    AssetSource, Candidate, Digest, FileName, JobDetails, MediaUrl, MissingReason, Observation, Role, Variant,
};

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis_clamped(millis)
}

fn source(slot: &str, urls: &[&str], missing: MissingReason) -> AssetSource {
    let candidate = |url: &&str| Candidate {
        url: MediaUrl::parse(&format!("https://h/{url}")).unwrap(),
        variant: if url.starts_with('c') { Variant::Clean } else { Variant::Unknown },
        access: crate::Access::Public,
    };
    let candidates = urls.iter().map(candidate).collect();
    AssetSource {
        slot: AssetId::new(slot),
        role: Role::Media,
        file: FileName::clean(&format!("{slot}.mp4")),
        candidates,
        missing,
    }
}

fn observation(outcome: Option<Outcome>, percent: Option<u8>, assets: Vec<AssetSource>) -> Observation {
    Observation {
        aliases: Vec::new(),
        job: "p1-u2-a3-bot:minimax".parse().unwrap(),
        reply_ref: None,
        outcome,
        status: None,
        status_label: outcome.map(|outcome| outcome.as_str().to_owned()),
        percent,
        message: None,
        error: None,
        prompt: None,
        details: JobDetails::default(),
        created_at: None,
        assets,
        left_out: 0,
        kind: None,
        may_be_empty: false,
    }
}

fn job(observations: &[Observation]) -> Job {
    let mut job = Job::new("p1-u2-a3-bot:minimax".parse().unwrap(), at(1));
    for (index, observation) in observations.iter().enumerate() {
        job.observe(observation, false, index as u64, at(10 + index as u64));
    }
    job
}

fn completed(urls: &[&str]) -> Observation {
    observation(Some(Outcome::Completed), None, vec![source("a", urls, MissingReason::NoUrl)])
}

fn stored(job: &mut Job, slot: &str) {
    let file = StoredFile {
        file: FileName::clean("a.webm"),
        sha256: Digest::of(b""),
        bytes: 0,
        content_type: "video/webm".to_owned(),
        key: "k".to_owned(),
        deduplicated: false,
        url: MediaUrl::parse("https://h/u").unwrap(),
        variant: Variant::Unknown,
        at: at(50),
    };
    job.file_stored(&AssetId::new(slot), file, at(50));
}

#[test]
fn a_job_goes_from_running_over_archiving_to_archived_and_never_back() {
    let mut job = job(&[observation(None, Some(40), vec![]), completed(&["u"])]);
    assert_eq!((job.state, job.end_state(), job.due), (JobState::Archiving, None, Some(at(11))));
    stored(&mut job, "a");
    assert_eq!(job.assets[0].file.as_str(), "a.webm");
    job.end(JobState::Archived, Some(1), Some("m".to_owned()), at(60));
    assert_eq!((job.state, job.due, job.archived_at), (JobState::Archived, None, Some(at(60))));
    for late in
        [observation(Some(Outcome::Failed), Some(90), vec![]), completed(&["c"]), observation(None, Some(3), vec![])]
    {
        assert_eq!(job.observe(&late, false, 9, at(70)), Change::Counted);
    }
    job.retry(at(80));
    assert_eq!((job.state, job.callbacks, job.percent, job.assets.len()), (JobState::Archived, 5, Some(90), 1));
}

#[test]
fn an_appeal_that_succeeds_revives_a_failed_job_whose_manifest_is_written() {
    let mut job = job(&[observation(Some(Outcome::Moderated), None, vec![])]);
    job.end(JobState::Failed, Some(0), Some("m".to_owned()), at(20));
    assert_eq!(job.state, JobState::Failed);
    assert_eq!(job.observe(&observation(Some(Outcome::Failed), None, vec![]), false, 1, at(21)), Change::Counted);
    assert_eq!(job.observe(&completed(&["u"]), false, 2, at(22)), Change::Ended);
    assert_eq!((job.state, job.outcome, job.due), (JobState::Archiving, Some(Outcome::Completed), Some(at(22))));
}

#[test]
fn an_end_that_was_decided_before_a_better_callback_came_changes_nothing() {
    let mut job = job(&[observation(Some(Outcome::Failed), None, vec![]), completed(&["u"])]);
    job.end(JobState::Failed, Some(0), Some("m".to_owned()), at(20));
    assert_eq!(job.state, JobState::Archiving);
    job.end(JobState::Archived, Some(1), None, at(20));
    assert_eq!(job.state, JobState::Archiving, "its file is still to be fetched");
}

#[test]
fn a_stuck_file_is_due_again_when_a_callback_brings_another_url_or_someone_asks() {
    let failure =
        AttemptFailure { error: "404".to_owned(), counted: true, stuck: Some(StuckReason::AttemptsExhausted) };
    let mut job = job(&[completed(&["u"])]);
    job.attempt_failed(&AssetId::new("a"), &failure, None, at(20), at(20));
    job.end(JobState::Stuck, Some(0), None, at(21));
    assert_eq!((job.state, job.reason, job.due), (JobState::Stuck, Some(StuckReason::AttemptsExhausted), None));
    assert_eq!(job.observe(&completed(&["u"]), false, 1, at(22)), Change::Counted);
    let mut asked = job.clone();
    asked.retry(at(30));
    assert_eq!((asked.state, asked.due, asked.assets[0].attempts), (JobState::Archiving, Some(at(30)), 0));
    assert_eq!(job.observe(&completed(&["c", "v"]), false, 2, at(23)), Change::Extended);
    assert_eq!((job.state, job.assets[0].attempts), (JobState::Archiving, 0));
    let urls: Vec<_> = job.assets[0].candidates.iter().map(|candidate| candidate.url.file_name()).collect();
    assert_eq!(urls, ["c", "v", "u"], "the cleanest, then the one heard last");
}

#[test]
fn an_asset_that_cannot_be_fetched_says_why() {
    for (missing, reason) in [
        (MissingReason::NoUrl, StuckReason::NoMediaUrl),
        (MissingReason::InvalidUrl, StuckReason::RefusedByPolicy),
        (MissingReason::StillProcessing, StuckReason::StillProcessing),
    ] {
        let job = job(&[observation(Some(Outcome::Completed), None, vec![source("a", &[], missing)])]);
        assert_eq!((job.state, job.reason, job.due), (JobState::Stuck, Some(reason), None));
        assert!(job.assets[0].last_error.is_some());
    }
    let empty = observation(Some(Outcome::Completed), None, vec![]);
    let mut agent = job(std::slice::from_ref(&empty));
    assert_eq!(agent.end_state(), Some(JobState::Archived), "an agent may answer in words alone");
    agent.id = "user:1-minimax:2-video:3".parse().unwrap();
    assert_eq!(agent.stuck_reason(), Some(StuckReason::NoMediaUrl));
}

fn moderated() -> Observation {
    observation(Some(Outcome::Moderated), None, vec![])
}

fn gone(job: &mut Job, slot: &str) {
    let failure =
        AttemptFailure { error: "404".to_owned(), counted: true, stuck: Some(StuckReason::AttemptsExhausted) };
    job.attempt_failed(&AssetId::new(slot), &failure, None, at(40), at(40));
}

#[test]
fn a_completed_job_that_is_taken_back_ends_so_only_when_nothing_is_stored_and_nothing_left_to_try() {
    let mut taken = job(&[completed(&["u"]), moderated()]);
    assert_eq!((taken.state, taken.outcome, taken.end_state()), (JobState::Archiving, Some(Outcome::Completed), None));
    assert_eq!((taken.due, taken.moderated_at()), (Some(at(11)), Some(at(11))));
    let mut kept = taken.clone();
    gone(&mut taken, "a");
    assert_eq!((taken.outcome, taken.end_state()), (Some(Outcome::Moderated), Some(JobState::Failed)));
    assert_eq!((taken.final_callback, taken.due), (Some(1), Some(at(11))));
    taken.end(JobState::Failed, Some(1), Some("m".to_owned()), at(41));
    assert_eq!(taken.observe(&completed(&["u"]), false, 2, at(42)), Change::Ended, "its links are tried once more");
    gone(&mut taken, "a");
    assert_eq!(taken.end_state(), Some(JobState::Failed));

    stored(&mut kept, "a");
    kept.end(JobState::Archived, Some(0), Some("m".to_owned()), at(60));
    assert_eq!(
        (kept.state, kept.outcome, kept.moderated_at()),
        (JobState::Archived, Some(Outcome::Completed), Some(at(11)))
    );

    let mut two = job(&[observation(
        Some(Outcome::Completed),
        None,
        vec![source("a", &["u"], MissingReason::NoUrl), source("b", &["v"], MissingReason::NoUrl)],
    )]);
    stored(&mut two, "a");
    gone(&mut two, "b");
    two.end(JobState::Stuck, Some(0), None, at(61));
    two.observe(&moderated(), false, 3, at(62));
    assert_eq!((two.state, two.outcome), (JobState::Stuck, Some(Outcome::Completed)));
}

#[test]
fn a_completed_job_that_is_no_longer_known_ends_as_removed_and_an_archived_one_stays() {
    let mut lost = job(&[completed(&["u"])]);
    gone(&mut lost, "a");
    lost.end(JobState::Stuck, Some(0), None, at(50));
    lost.remove(7, at(51));
    assert_eq!((lost.state, lost.outcome, lost.moderated_at()), (JobState::Archiving, Some(Outcome::Removed), None));
    let mut kept = job(&[completed(&["u"])]);
    stored(&mut kept, "a");
    kept.end(JobState::Archived, Some(0), Some("m".to_owned()), at(60));
    let before = kept.clone();
    kept.remove(7, at(61));
    assert_eq!(kept, before);
}

fn any_observation() -> impl Strategy<Value = Observation> {
    let url = prop_oneof!["c[0-4]", "u[0-4]"];
    let missing =
        prop_oneof![Just(MissingReason::NoUrl), Just(MissingReason::InvalidUrl), Just(MissingReason::StillProcessing)];
    let asset = (prop_oneof!["a", "b", "d"], proptest::collection::vec(url, 0..3), missing);
    let outcome = prop_oneof![
        3 => Just(None),
        1 => Just(Some(Outcome::Removed)),
        2 => Just(Some(Outcome::Failed)),
        2 => Just(Some(Outcome::Moderated)),
        4 => Just(Some(Outcome::Completed)),
    ];
    (outcome, proptest::option::of(0u8..=100), proptest::collection::vec(asset, 0..3)).prop_map(
        |(outcome, percent, assets)| {
            let mut sources: Vec<AssetSource> = Vec::new();
            for (slot, urls, missing) in assets {
                if sources.iter().all(|known| known.slot.as_str() != slot) {
                    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
                    sources.push(source(&slot, &urls, missing));
                }
            }
            if outcome != Some(Outcome::Completed) {
                sources.clear();
            }
            observation(outcome, percent, sources)
        },
    )
}

/// What must not depend on the order of callbacks.
fn essence(job: &Job) -> impl PartialEq + std::fmt::Debug + use<> {
    let mut assets: Vec<_> = job
        .assets
        .iter()
        .map(|asset| {
            let mut urls: Vec<_> =
                asset.candidates.iter().map(|candidate| candidate.url.expose().to_string()).collect();
            urls.sort();
            (asset.slot.clone(), asset.state, asset.stuck, urls)
        })
        .collect();
    assets.sort_by(|a, b| a.0.cmp(&b.0));
    (job.state, job.outcome, job.percent, job.end_state(), assets)
}

proptest! {
    #[test]
    fn order_and_repetition_make_no_difference(
        observations in proptest::collection::vec(any_observation(), 1..7),
        picks in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
        seed in any::<u64>(),
    ) {
        let expected = job(&observations);
        let mut shuffled = observations.clone();
        shuffled.extend(picks.iter().map(|pick| pick.get(&observations).clone()));
        let mut random = seed;
        for index in (1..shuffled.len()).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            shuffled.swap(index, (random >> 33) as usize % (index + 1));
        }
        let found = job(&shuffled);
        prop_assert_eq!(essence(&found), essence(&expected));
        prop_assert_eq!(found.callbacks as usize, shuffled.len());
    }

    #[test]
    fn a_job_with_work_is_due_and_one_without_is_not(observations in proptest::collection::vec(any_observation(), 1..7)) {
        let job = job(&observations);
        prop_assert_eq!(job.due.is_some(), job.state == JobState::Archiving);
        prop_assert_eq!(job.reason.is_some(), job.state == JobState::Stuck);
    }
}

#[test]
fn a_job_with_a_file_to_wait_for_is_not_due_before_it() {
    let files = ["a", "b"].map(|slot| source(slot, &[slot], MissingReason::NoUrl)).to_vec();
    let mut job = job(&[observation(Some(Outcome::Completed), None, files)]);
    let failure = AttemptFailure::new("503".to_owned(), true, None);
    job.attempt_failed(&AssetId::new("a"), &failure, None, at(9000), at(40));
    assert_eq!(job.due, Some(at(10)), "the other file is due");
    stored(&mut job, "b");
    assert_eq!(job.due, Some(at(9000)));
    stored(&mut job, "a");
    assert_eq!(job.due, Some(at(50)), "it is to be ended");
}

#[test]
fn a_link_that_was_only_signed_anew_is_known() {
    let job = job(&[completed(&["u?Expires=1795172334&Signature=1"])]);
    let (before, after) = (at(1_795_172_333_000), at(1_795_172_335_000));
    for (url, now, is_news) in [
        ("u?Expires=1795175934&Signature=2", before, false),
        ("u?Expires=1795175934&Signature=2", after, true),
        ("other?Expires=1795175934&Signature=2", before, true),
    ] {
        let again = completed(&[url]);
        assert!(job.would_change(&again, false));
        assert_eq!(job.would_change(&job.with_known_links(&again, now), false), is_news, "{url}");
    }
    let mut stuck = job;
    let failure = AttemptFailure::new("403".to_owned(), true, Some(StuckReason::AttemptsExhausted));
    stuck.attempt_failed(&AssetId::new("a"), &failure, None, at(100), at(50));
    let again = completed(&["u?Expires=1795175934&Signature=2"]);
    let is_news = |now| stuck.would_change(&stuck.with_known_links(&again, at(now)), false);
    assert_eq!((is_news(99), is_news(100)), (false, true));
    // A manifest does not say when the next attempt was to be.
    stuck.assets[0].not_before = None;
    assert!(stuck.would_change(&stuck.with_known_links(&again, at(99)), false));
}

#[test]
fn what_stands_in_a_body_is_to_be_had_from_that_callback() {
    let mut inline = completed(&["0"]);
    for candidate in &mut inline.assets[0].candidates {
        candidate.url = MediaUrl::parse("https://body.invalid/0").unwrap();
        candidate.access = crate::Access::Inline;
    }
    let job = job(&[completed(&["u"]), inline.clone(), inline.clone()]);
    let positions: Vec<_> = job.assets[0].candidates.iter().map(|candidate| candidate.url.body_position()).collect();
    assert_eq!((positions, job.final_callback), (vec![Some(1), None], Some(0)));
    assert_eq!(job.lacks(&inline, false), 0);
}
