mod saved;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::codes::codes_of;
use super::rows::{Place, Query, Rows};
use super::{Entry, Text};
use crate::domain::{Job, JobState, Kind, Timestamp};

const DAY_MS: u64 = 86_400_000;

fn place(day: u64, sequence: u64) -> Place {
    Place { made: Timestamp::from_millis(day * DAY_MS + sequence).unwrap(), sequence }
}

fn job(sequence: u64, prompt: &str) -> Job {
    let mut job = Job::new(format!("user:1-minimax:2-video:{sequence}").parse().unwrap(), Timestamp::default());
    job.prompt = Some(prompt.to_owned());
    job
}

fn put(rows: &mut Rows, place: Place, state: JobState, prompt: &str) {
    let codes = codes_of(&job(place.sequence, prompt), &BTreeMap::new());
    let provider = rows.provider("minimax");
    rows.put(&Entry { place, state, kind: Kind::Video as u8, provider, codes });
}

fn sequences(places: Vec<Place>) -> Vec<u64> {
    places.into_iter().map(|place| place.sequence).collect()
}

fn text(text: &str) -> Query {
    Query { text: Text::read(text), ..Query::default() }
}

#[test]
fn jobs_are_found_by_words_and_beginnings_newest_first() {
    let mut rows = Rows::default();
    put(&mut rows, place(20_000, 1), JobState::Archived, "A paper boat, slowly");
    put(&mut rows, place(20_002, 2), JobState::Archived, "The BOATS of Århus");
    put(&mut rows, place(20_001, 3), JobState::Running, "paper boat and kettle");
    let find = |query: &str| sequences(rows.find(&text(query), None, 0, 10));
    assert_eq!(find(""), [2, 3, 1]);
    assert_eq!(find("boat"), [3, 1]);
    assert_eq!(find("Boat paper"), [3, 1]);
    assert_eq!(find("boa*"), [2, 3, 1]);
    assert_eq!(find("århus"), [2]);
    assert_eq!(find("boat kettle-and"), [3]);
    assert_eq!(find("ship"), [] as [u64; 0]);
}

#[test]
fn pages_go_on_where_the_last_ended_and_can_begin_anywhere() {
    let mut rows = Rows::default();
    for sequence in 1..=100 {
        put(&mut rows, place(20_000 + sequence / 10, sequence), JobState::Archived, "boat");
    }
    for query in [Query::default(), text("boat")] {
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = rows.find(&query, after, 0, 7);
            after = page.last().copied();
            seen.extend(sequences(page));
            if after.is_none() || seen.len() == 100 {
                break;
            }
        }
        assert_eq!(seen, (1..=100).rev().collect::<Vec<_>>());
        for skip in [0, 1, 9, 10, 11, 55, 99, 100] {
            let expected: Vec<u64> = (1..=100 - skip as u64).rev().take(3).collect();
            assert_eq!(sequences(rows.find(&query, None, skip, 3)), expected, "{skip}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Newest first, as they are indexed, oldest first, as they come, or in any order.
    #[test]
    fn in_whatever_order_jobs_come_they_are_found_newest_first(
        mut numbers in proptest::collection::vec(0..3000_u64, 1..200),
        order in 0..3_u8,
        skip in 0..200_usize,
    ) {
        match order {
            0 => numbers.sort_unstable(),
            1 => numbers.sort_unstable_by(|a, b| b.cmp(a)),
            _ => {}
        }
        let mut rows = Rows::default();
        for &number in &numbers {
            put(&mut rows, place(20_000 + number / 1000, number), JobState::Archived, "boat");
        }
        let expected: BTreeSet<u64> = numbers.into_iter().collect();
        for query in [Query::default(), text("boat")] {
            let found = sequences(rows.find(&query, None, skip, 1000));
            prop_assert_eq!(found, expected.iter().rev().skip(skip).copied().collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_job_that_changes_has_one_row_wherever_it_moves() {
    let mut rows = Rows::default();
    put(&mut rows, place(20_000, 7), JobState::Running, "boat");
    put(&mut rows, place(19_000, 7), JobState::Running, "kettle");
    put(&mut rows, place(19_000, 7), JobState::Archived, "kettle");
    assert_eq!(sequences(rows.find(&text("kettle"), None, 0, 9)), [7]);
    assert!(rows.find(&text("boat"), None, 0, 9).is_empty());
    assert_eq!((rows.in_state(JobState::Running), rows.in_state(JobState::Archived)), (0, 1));
    assert!(rows.unsettled().is_empty());
    let days = rows.days(&Query::default());
    assert_eq!(days.iter().map(|day| (day.day.millis() / DAY_MS, day.jobs)).collect::<Vec<_>>(), [(19_000, 1)]);
}

#[test]
fn words_that_change_often_take_up_no_more_and_more_memory() {
    let mut rows = Rows::default();
    for round in 0..100_000 {
        put(&mut rows, place(20_000, 1), JobState::Running, &format!("boat number {round}"));
    }
    assert_eq!(sequences(rows.find(&text("99999"), None, 0, 9)), [1]);
    assert!(rows.bytes() < 100_000, "{}", rows.bytes());
}

#[test]
fn days_are_counted_between_two_dates_and_by_state() {
    let mut rows = Rows::default();
    for sequence in 0..30 {
        let state = if sequence % 3 == 0 { JobState::Stuck } else { JobState::Archived };
        put(&mut rows, place(20_000 + sequence % 3, sequence), state, "boat");
    }
    let day = |day: u64| Timestamp::from_millis(day * DAY_MS);
    let counts = |query: &Query| rows.days(query).iter().map(|day| day.jobs).collect::<Vec<_>>();
    assert_eq!(counts(&Query::default()), [10, 10, 10]);
    assert_eq!(counts(&Query { from: day(20_001), to: day(20_001), ..Query::default() }), [10]);
    assert_eq!(counts(&Query { from: day(20_002), to: day(20_001), ..Query::default() }), [] as [u64; 0]);
    assert_eq!(counts(&Query { states: vec![JobState::Stuck], ..Query::default() }), [10]);
    assert_eq!(counts(&Query { provider: Some("kling".to_owned()), ..Query::default() }), [] as [u64; 0]);
}

#[test]
fn a_beginning_of_more_than_three_letters_has_to_be_looked_at() {
    let boats = job(1, "boats at sea");
    assert!(Text::read("boat*").is_vague() && Text::read("boat*").is_in(&boats));
    assert!(!Text::read("boar*").is_in(&boats) && !Text::read("boat").is_in(&boats));
    assert!(!Text::read("boa*").is_vague());
}

#[test]
fn beyond_its_bound_the_oldest_words_are_forgotten_and_what_may_match_is_found() {
    let mut rows = Rows::bounded(400);
    for sequence in 0..300 {
        put(&mut rows, place(20_000 + sequence / 10, sequence), JobState::Archived, "paper boat");
        assert!(rows.bytes() < 400 * 4 + 300 * 64, "{}", rows.bytes());
    }
    let ships = text("ship");
    let found = sequences(rows.find(&ships, None, 0, 1000));
    assert!(!found.is_empty() && found.len() < 290 && found.iter().all(|sequence| *sequence < 290), "{found:?}");
    assert_eq!(sequences(rows.find(&text("boat"), None, 0, 1000)).len(), 300);
    let day = |day: u64| Timestamp::from_millis(day * DAY_MS);
    assert!(rows.is_vague(&ships) && rows.is_vague(&Query { from: day(20_000), ..text("ship") }));
    assert!(!rows.is_vague(&Query { from: day(20_029), ..text("ship") }) && !rows.is_vague(&Query::default()));
    // What is older than what was forgotten gets no words either.
    put(&mut rows, place(19_000, 1000), JobState::Running, "kettle");
    put(&mut rows, place(19_000, 1000), JobState::Archived, "kettle and boat");
    assert_eq!(sequences(rows.find(&Query { to: day(19_000), ..text("ship") }, None, 0, 9)), [1000]);
    assert_eq!(rows.days(&Query::default()).iter().map(|day| day.jobs).sum::<u64>(), 301);
}
