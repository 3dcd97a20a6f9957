//! What an attempt, a further link, and a job taken back mean for the attempts that follow.

use super::*;

fn exhausted() -> AttemptFailure {
    AttemptFailure::new("404".to_owned(), true, Some(StuckReason::AttemptsExhausted))
}

#[test]
fn an_attempt_from_before_a_retry_or_a_fresh_link_gives_nothing_up() {
    let (slot, before) = (AssetId::new("a"), job(&[completed(&["u"])]));
    let (mut retried, mut extended, mut older) = (before.clone(), before.clone(), before.clone());
    retried.retry(at(20));
    extended.observe(&completed(&["v"]), false, 1, at(20));
    for mut job in [retried, extended] {
        job.attempt_failed(&slot, &exhausted(), Some(before.assets[0].renewals), at(9000), at(30));
        let asset = &job.assets[0];
        assert_eq!((asset.state, asset.attempts, asset.not_before), (AssetState::Pending, 0, None));
        assert_eq!((asset.last_error.as_deref(), job.end_state()), (Some("404"), None));
        assert!(job.due.is_some_and(|due| due <= at(30)), "it is tried at once");
        let renewals = Some(job.assets[0].renewals);
        job.attempt_failed(&slot, &exhausted(), renewals, at(9000), at(40));
        assert_eq!((job.assets[0].state, job.end_state()), (AssetState::Stuck, Some(JobState::Stuck)));
    }
    older.retry(at(20));
    older.attempt_failed(&slot, &exhausted(), None, at(9000), at(30));
    assert_eq!(older.assets[0].state, AssetState::Stuck, "older journals do not say when an attempt began");
}

#[test]
fn links_that_were_asked_for_hurry_no_attempt_and_revive_no_file_while_others_are_tried() {
    let named = |link: u32| {
        let files = ["a", "b", "d"].map(|slot| source(slot, &[format!("{slot}{link}").as_str()], MissingReason::NoUrl));
        observation(Some(Outcome::Completed), None, files.to_vec())
    };
    let mut job = job(&[named(1)]);
    gone(&mut job, "a");
    let failure = AttemptFailure::new("403".to_owned(), true, None);
    job.attempt_failed(&AssetId::new("b"), &failure, None, at(9000), at(40));
    stored(&mut job, "d");
    let before = job.clone();
    assert_eq!(job.observe(&named(2), false, 1, at(60)), Change::Extended);
    job.keep_attempts(&before);
    assert_eq!((job.state, job.due), (JobState::Archiving, Some(at(9000))));
    assert_eq!((&job.assets[0], job.assets[1].candidates.len()), (&before.assets[0], 2));
    let candidates = before.assets[1].candidates.clone();
    assert_eq!(Asset { candidates, ..job.assets[1].clone() }, before.assets[1]);
    let mut told = job.clone();
    told.observe(&named(2), false, 2, at(61));
    assert_eq!(told.assets[0].state, AssetState::Pending, "a callback with the same link revives it");
    gone(&mut job, "b");
    job.end(JobState::Stuck, Some(0), None, at(70));
    let before = job.clone();
    job.observe(&named(3), false, 2, at(80));
    job.keep_attempts(&before);
    let states: Vec<_> = job.assets.iter().map(|asset| (asset.state, asset.not_before)).take(2).collect();
    assert_eq!(states, [(AssetState::Pending, None); 2], "once all are given up, links that come are tried");
    assert_eq!(job.due, Some(at(80)));
}

#[test]
fn links_that_were_asked_for_revive_what_was_given_up_alone_or_when_the_job_was_taken_back() {
    let named = |outcome, link: u32| {
        let files = ["a", "b"].map(|slot| source(slot, &[format!("{slot}{link}").as_str()], MissingReason::NoUrl));
        observation(Some(outcome), None, files.to_vec())
    };
    let mut alone = job(&[completed(&["u"])]);
    gone(&mut alone, "a");
    let before = alone.clone();
    alone.observe(&completed(&["v"]), false, 1, at(60));
    alone.keep_attempts(&before);
    assert_eq!(alone.assets[0].state, AssetState::Pending);
    let mut job = job(&[named(Outcome::Completed, 1)]);
    job.observe(&observation(Some(Outcome::Moderated), None, Vec::new()), false, 1, at(30));
    gone(&mut job, "a");
    let before = job.clone();
    job.observe(&named(Outcome::Completed, 2), false, 2, at(60));
    job.keep_attempts(&before);
    assert_eq!(job.assets[0].state, AssetState::Pending, "{job:#?}");
}

#[test]
fn a_job_that_was_taken_back_and_is_completed_again_is_one_like_any_other() {
    let mut job = job(&[completed(&["u"])]);
    job.remove(7, at(20));
    gone(&mut job, "a");
    job.end(JobState::Failed, Some(7), Some("m".to_owned()), at(41));
    assert_eq!((job.state, job.outcome), (JobState::Failed, Some(Outcome::Removed)));
    assert_eq!(job.observe(&completed(&["v"]), false, 8, at(42)), Change::Ended);
    assert_eq!((job.state, &job.withdrawn), (JobState::Archiving, &None));
    gone(&mut job, "a");
    assert_eq!((job.outcome, job.end_state()), (Some(Outcome::Completed), Some(JobState::Stuck)));
}
