//! However much callbacks name, a job stays as large as it may be.

use super::*;
use crate::Target;

fn url_bytes(job: &Job) -> usize {
    job.assets.iter().map(Asset::url_bytes).sum()
}

fn is_within_budget(job: &Job) -> bool {
    job.assets.len() <= Job::MAX_ASSETS && url_bytes(job) <= Job::MAX_URL_BYTES
}

/// A file whose URLs have about `length` bytes.
fn large(slot: usize, urls: &[&str], length: usize) -> AssetSource {
    let urls: Vec<_> = urls.iter().map(|url| format!("{url}{slot}-{}", "x".repeat(length))).collect();
    source(&format!("s{slot}"), &urls.iter().map(String::as_str).collect::<Vec<_>>(), MissingReason::NoUrl)
}

fn naming(assets: Vec<AssetSource>) -> Observation {
    observation(Some(Outcome::Completed), None, assets)
}

#[test]
fn a_job_grown_by_many_callbacks_has_no_more_files_than_one_may() {
    let mut job = job(&[]);
    for callback in 0..8 {
        let assets = (0..48).map(|file| large(callback * 48 + file, &["u"], 10)).collect();
        job.observe(&naming(assets), false, callback as u64, at(10));
        assert!(is_within_budget(&job));
    }
    assert_eq!((job.assets.len(), job.left_out), (Job::MAX_ASSETS, 48));
    assert!(
        job.assets.iter().zip(0..).all(|(asset, slot)| asset.slot.as_str() == format!("s{slot}")),
        "the first stay"
    );
}

#[test]
fn of_one_file_fresh_urls_take_the_place_of_old_ones() {
    let mut job = job(&[]);
    for fresh in ["a", "b", "d", "e"] {
        let assets: Vec<_> = (0..10).map(|slot| large(slot, &[fresh], 3000)).collect();
        assert_ne!(job.observe(&naming(assets), false, 1, at(10)), Change::Counted);
        assert!(is_within_budget(&job));
        assert!(job.assets.iter().all(|asset| asset.candidates[0].url.file_name().starts_with(fresh)));
    }
    assert_eq!(job.left_out, 0, "old links are no loss");
}

#[test]
fn assets_beyond_the_budget_change_nothing_and_are_counted() {
    let full = naming((0..8).map(|slot| large(slot, &["u"], 8150)).collect());
    let mut job = job(std::slice::from_ref(&full));
    let before = job.clone();
    assert_eq!((job.assets.len(), job.left_out), (8, 0));
    let more = naming(vec![large(9, &["u"], 100), large(10, &["u"], 1000)]);
    job.observe(&more, false, 1, at(11));
    assert_eq!((job.assets.len(), job.left_out), (9, 1));
    assert!(is_within_budget(&job));
    assert_eq!(job.assets[..8], before.assets);
    assert_eq!((job.lacks(&full, false), job.lacks(&more, false)), (0, 1));
    assert!(!job.would_change(&more, false), "the same again is no news");
}

#[test]
fn of_unconfirmed_callbacks_that_are_too_many_bytes_the_largest_gives_way() {
    let mut job = job(&[]);
    let held = |position: u64, observation: Observation| UnconfirmedFinal {
        position,
        quarantine_as: position,
        at: at(position),
        target: Target::Channel,
        sidecars: false,
        bytes: 1,
        observation: Box::new(observation),
    };
    assert_eq!(job.hold(held(1, completed(&["u"]))), []);
    let mut displaced = Vec::new();
    for position in 2..9 {
        let urls = (0..7).map(|slot| large(slot, &["u"], 8150)).collect();
        let prompt = Some("p".repeat(100_000));
        displaced.extend(job.hold(held(position, Observation { prompt, ..naming(urls) })));
        let bytes: usize = job.unconfirmed.iter().map(|callback| callback.observation.bytes()).sum();
        assert!(bytes <= Job::MAX_UNCONFIRMED_BYTES && job.unconfirmed.len() <= Job::MAX_UNCONFIRMED);
    }
    assert!(job.unconfirmed.iter().any(|callback| callback.position == 1), "the small one is still there");
    assert_eq!(displaced.len() + job.unconfirmed.len(), 8, "none is lost");
}

#[test]
fn a_long_description_of_a_failure_is_cut() {
    let mut job = job(&[completed(&["u"])]);
    let failure = AttemptFailure { error: "é".repeat(10_000), counted: true, stuck: None };
    job.attempt_failed(&AssetId::new("a"), &failure, None, at(20), at(20));
    assert!(job.assets[0].last_error.as_ref().is_some_and(|error| error.len() <= 512));
}

fn any_large_observation() -> impl Strategy<Value = Observation> {
    let url = prop_oneof!["c[0-9]", "u[0-9]"];
    let asset = (0usize..400, proptest::collection::vec(url, 0..6), prop_oneof![Just(10usize), Just(2000), Just(8000)]);
    proptest::collection::vec(asset, 0..60).prop_map(|assets| {
        let mut sources: Vec<AssetSource> = Vec::new();
        for (slot, urls, length) in assets {
            let urls: Vec<_> = urls.iter().map(String::as_str).collect();
            if sources.iter().all(|known| known.slot.as_str() != format!("s{slot}")) {
                sources.push(large(slot, &urls, length));
            }
        }
        naming(sources)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_job_stays_within_its_budget_under_any_callbacks(
        observations in proptest::collection::vec(any_large_observation(), 1..12),
    ) {
        let mut job = job(&[]);
        let mut first: Vec<AssetId> = Vec::new();
        for (position, observation) in observations.iter().enumerate() {
            job.observe(observation, false, position as u64, at(10));
            prop_assert!(is_within_budget(&job));
            prop_assert!(job.assets.iter().zip(&first).all(|(asset, slot)| asset.slot == *slot), "a file gave way");
            first = job.assets.iter().map(|asset| asset.slot.clone()).collect();
            let lacks = job.lacks(observation, false);
            prop_assert!(lacks <= job.left_out);
            let has_all = observation.assets.iter().all(|source| {
                let asset = job.assets.iter().find(|asset| asset.slot == source.slot);
                asset.is_some_and(|asset| source.candidates.iter().all(|named| asset.candidates.contains(named)))
            });
            prop_assert_eq!(lacks == 0, has_all);
        }
        let mut names: Vec<_> = job.assets.iter().map(|asset| asset.file.stem()).collect();
        names.sort_unstable();
        names.dedup();
        prop_assert_eq!(names.len(), job.assets.len());
    }
}
