mod follow;
mod saved;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

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

/// None, in a place of their own.
fn rows(max_in_memory: usize) -> Rows {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("replyvault-words-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    Rows::new(std::env::temp_dir().join(name), max_in_memory)
}

fn put(rows: &mut Rows, place: Place, state: JobState, prompt: &str) {
    let codes = codes_of(&job(place.sequence, prompt), &BTreeMap::new());
    let provider = rows.provider("minimax");
    rows.put(&Entry { place, state, kind: Kind::Video as u8, provider, codes }).unwrap();
}

fn sequences(places: Vec<Place>) -> Vec<u64> {
    places.into_iter().map(|place| place.sequence).collect()
}

fn text(text: &str) -> Query {
    Query { text: Text::read(text).unwrap(), ..Query::default() }
}

#[test]
fn jobs_are_found_by_words_and_beginnings_newest_first() {
    let mut rows = rows(1 << 20);
    put(&mut rows, place(20_000, 1), JobState::Archived, "A paper boat, slowly");
    put(&mut rows, place(20_002, 2), JobState::Archived, "The BOATS of Århus");
    put(&mut rows, place(20_001, 3), JobState::Running, "paper boat and kettle");
    let find = |query: &str| sequences(rows.find(&text(query), None, 0, 10).unwrap());
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
    let mut rows = rows(1 << 20);
    for sequence in 1..=100 {
        put(&mut rows, place(20_000 + sequence / 10, sequence), JobState::Archived, "boat");
    }
    for query in [Query::default(), text("boat")] {
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = rows.find(&query, after, 0, 7).unwrap();
            after = page.last().copied();
            seen.extend(sequences(page));
            if after.is_none() || seen.len() == 100 {
                break;
            }
        }
        assert_eq!(seen, (1..=100).rev().collect::<Vec<_>>());
        for skip in [0, 1, 9, 10, 11, 55, 99, 100] {
            let expected: Vec<u64> = (1..=100 - skip as u64).rev().take(3).collect();
            assert_eq!(sequences(rows.find(&query, None, skip, 3).unwrap()), expected, "{skip}");
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
        let mut rows = rows(1 << 20);
        for &number in &numbers {
            put(&mut rows, place(20_000 + number / 1000, number), JobState::Archived, "boat");
        }
        let expected: BTreeSet<u64> = numbers.into_iter().collect();
        for query in [Query::default(), text("boat")] {
            let found = sequences(rows.find(&query, None, skip, 1000).unwrap());
            prop_assert_eq!(found, expected.iter().rev().skip(skip).copied().collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_job_that_changes_has_one_row_wherever_it_moves() {
    let mut rows = rows(1 << 20);
    put(&mut rows, place(20_000, 7), JobState::Running, "boat");
    put(&mut rows, place(19_000, 7), JobState::Running, "kettle");
    put(&mut rows, place(19_000, 7), JobState::Archived, "kettle");
    assert_eq!(sequences(rows.find(&text("kettle"), None, 0, 9).unwrap()), [7]);
    assert!(rows.find(&text("boat"), None, 0, 9).unwrap().is_empty());
    assert_eq!((rows.in_state(JobState::Running), rows.in_state(JobState::Archived)), (0, 1));
    assert!(rows.unsettled().is_empty());
    let days = rows.days(&Query::default()).unwrap();
    assert_eq!(days.iter().map(|day| (day.day.millis() / DAY_MS, day.jobs)).collect::<Vec<_>>(), [(19_000, 1)]);
}

#[test]
fn words_that_change_often_take_up_no_more_and_more_memory() {
    let mut rows = rows(1 << 20);
    for round in 0..100_000 {
        put(&mut rows, place(20_000, 1), JobState::Running, &format!("boat number {round}"));
    }
    assert_eq!(sequences(rows.find(&text("99999"), None, 0, 9).unwrap()), [1]);
    assert!(rows.bytes() < 100_000, "{}", rows.bytes());
}

#[test]
fn days_are_counted_between_two_dates_and_by_state() {
    let mut rows = rows(1 << 20);
    for sequence in 0..30 {
        let state = if sequence % 3 == 0 { JobState::Stuck } else { JobState::Archived };
        put(&mut rows, place(20_000 + sequence % 3, sequence), state, "boat");
    }
    let day = |day: u64| Timestamp::from_millis(day * DAY_MS);
    let counts = |query: &Query| rows.days(query).unwrap().iter().map(|day| day.jobs).collect::<Vec<_>>();
    assert_eq!(counts(&Query::default()), [10, 10, 10]);
    assert_eq!(counts(&Query { from: day(20_001), to: day(20_001), ..Query::default() }), [10]);
    assert_eq!(counts(&Query { from: day(20_002), to: day(20_001), ..Query::default() }), [] as [u64; 0]);
    assert_eq!(counts(&Query { states: vec![JobState::Stuck], ..Query::default() }), [10]);
    assert_eq!(counts(&Query { provider: Some("kling".to_owned()), ..Query::default() }), [] as [u64; 0]);
}

#[test]
fn a_beginning_has_to_be_looked_at() {
    let read = |text: &str| Text::read(text).unwrap();
    let boats = job(1, "boats at sea");
    assert!(read("boat*").is_vague() && read("boat*").is_in(&boats));
    assert!(!read("boar*").is_in(&boats) && !read("boat").is_in(&boats));
    assert!(read("boa*").is_vague() && !read("boats").is_vague() && !read("bo*").is_vague());

    let words = (0..0x1000).map(|number| format!("{number:03x}"));
    let code = |word: String| (codes_of(&job(1, &word), &BTreeMap::new())[0] >> 16, word);
    let mut codes: Vec<(u32, String)> = words.map(code).collect();
    codes.sort_unstable();
    let alike = codes.windows(2).find(|pair| pair[0].0 == pair[1].0).unwrap();
    let (beginning, other) = (read(&format!("{}*", alike[0].1)), job(1, &alike[1].1));
    assert!(beginning.is_vague() && !beginning.is_in(&other), "{alike:?}");
}

#[test]
fn what_has_no_word_finds_nothing_and_a_blank_everything() {
    let mut rows = rows(1 << 20);
    put(&mut rows, place(20_000, 1), JobState::Archived, "boat \u{1f680} *** \"\"");
    let boat = job(1, "boat");
    for nothing in ["\u{1f680}", "***", "\"\"", " !? ", "\u{308}"] {
        let query = text(nothing);
        assert!(rows.find(&query, None, 0, 9).unwrap().is_empty(), "{nothing:?}");
        assert!(rows.days(&query).unwrap().is_empty() && !query.text.is_in(&boat), "{nothing:?}");
    }
    for all in ["", " ", "\t\u{a0}", "boat", "\u{1f680} boat -"] {
        let query = text(all);
        assert_eq!(sequences(rows.find(&query, None, 0, 9).unwrap()), [1], "{all:?}");
        assert!(query.text.is_in(&boat), "{all:?}");
    }
}

#[test]
fn more_than_sixteen_different_words_are_refused() {
    let words = |count: u32| (0..count).map(|number| format!("boat{number} ")).collect::<String>();
    assert!(Text::read(&words(16)).is_ok() && Text::read(&words(16).repeat(3)).is_ok());
    for text in [words(17), words(16) + "kettle*", words(17).replace(' ', "-"), words(17).replace(' ', "* ")] {
        assert_eq!(Text::read(&text).unwrap_err().to_string(), "expected at most 16 words", "{text}");
    }
}

/// `ö` may be one character or two, with the same look.
#[test]
fn a_letter_with_a_mark_is_found_however_it_is_written() {
    let mut rows = rows(1 << 20);
    put(&mut rows, place(20_000, 1), JobState::Archived, "eine Mo\u{308}we");
    put(&mut rows, place(20_000, 2), JobState::Archived, "zwei M\u{f6}wen");
    let find = |query: &str| sequences(rows.find(&text(query), None, 0, 10).unwrap());
    for query in ["m\u{f6}we", "MO\u{308}WE"] {
        assert_eq!(find(query), [1], "{query}");
        assert_eq!(find(&format!("{query}*")), [2, 1], "{query}");
        assert!(text(query).text.is_in(&job(1, "Mo\u{308}we")) && text(query).text.is_in(&job(1, "M\u{f6}we")));
    }
    assert_eq!(find("we"), [] as [u64; 0]);
}

/// A job as it is put, over and over: its number, day, state and words.
type Put = (u64, u64, usize, Vec<u8>);

fn puts() -> impl Strategy<Value = Vec<Put>> {
    let words = proptest::collection::vec(0..12_u8, 0..6);
    proptest::collection::vec((0..60_u64, 0..3_u64, 0..JobState::ALL.len(), words), 0..200)
}

/// What is put, and what must be found then. An archived job stays on its day.
fn put_all(rows: &mut Rows, known: &mut BTreeMap<u64, (Place, JobState, String)>, puts: &[Put]) {
    for (sequence, day, state, words) in puts {
        let before = known.get(sequence).filter(|(_, state, _)| *state == JobState::Archived);
        let place = before.map_or_else(|| place(20_000 + day, *sequence), |(place, ..)| *place);
        let prompt: String = words.iter().map(|word| format!("word{word} ")).collect();
        put(rows, place, JobState::ALL[*state], &prompt);
        known.insert(*sequence, (place, JobState::ALL[*state], prompt));
    }
}

fn compare(rows: &Rows, known: &BTreeMap<u64, (Place, JobState, String)>) -> Result<(), TestCaseError> {
    let expected = |takes: &dyn Fn(JobState, &str) -> bool| {
        let mut places: Vec<Place> =
            known.values().filter(|(_, state, prompt)| takes(*state, prompt)).map(|(place, ..)| *place).collect();
        places.sort_unstable_by(|a, b| b.cmp(a));
        places
    };
    let in_state = |state| Query { states: vec![state], ..Query::default() };
    let all = expected(&|_, _| true);
    prop_assert_eq!(rows.find(&Query::default(), None, 0, 1000).unwrap(), &all[..]);
    for state in JobState::ALL {
        let found = expected(&|other, _| other == state);
        prop_assert_eq!(rows.in_state(state), found.len() as u64);
        prop_assert_eq!(rows.find(&in_state(state), None, 0, 1000).unwrap(), found);
    }
    for word in 0..12 {
        let word = format!("word{word}");
        let found = expected(&|_, prompt| prompt.split_whitespace().any(|other| other == word));
        prop_assert_eq!(rows.find(&text(&word), None, 0, 1000).unwrap(), &found[..]);
        prop_assert_eq!(
            rows.find(&text(&word), found.first().copied(), 1, 1000).unwrap(),
            found.get(2..).unwrap_or(&[])
        );
        let counted: u64 = rows.days(&text(&word)).unwrap().iter().map(|day| day.jobs).sum();
        prop_assert_eq!(counted, found.len() as u64);
    }
    let mut unsettled = rows.unsettled();
    unsettled.sort_unstable();
    let expected: Vec<u64> =
        known.iter().filter(|(_, (_, state, _))| *state != JobState::Archived).map(|(sequence, _)| *sequence).collect();
    prop_assert_eq!(unsettled, expected);
    prop_assert_eq!(rows.newest(), known.keys().next_back().copied());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However few codes have room in memory.
    #[test]
    fn whatever_is_put_is_found_as_a_plain_map_would_find_it(puts in puts(), in_memory in 0..300_usize) {
        let (mut rows, mut known) = (rows(in_memory), BTreeMap::new());
        put_all(&mut rows, &mut known, &puts);
        compare(&rows, &known)?;
        prop_assert!(rows.bytes() < 60 * 300 + (in_memory + 8) * 4 + 60 * 64, "{}", rows.bytes());
    }
}

#[test]
fn the_file_of_words_that_change_stays_small() {
    let mut rows = rows(0);
    for round in 0..20_000 {
        let prompt: String = (0..100).map(|word| format!("{word}-{round} ")).collect();
        put(&mut rows, place(20_000, round % 7), JobState::Running, &prompt);
    }
    assert_eq!(sequences(rows.find(&text("19999"), None, 0, 9).unwrap()), [19_999 % 7]);
    assert!(rows.file_bytes() < 20 << 20, "{}", rows.file_bytes());
}

/// Whoever says when a job was made says where its row belongs.
#[test]
fn for_a_job_that_is_put_between_others_few_words_are_written_again() {
    const JOBS: u64 = 1000;
    let mut rows = rows(0);
    let provider = rows.provider("minimax");
    for number in 0..JOBS {
        let made = Timestamp::from_millis(20_000 * DAY_MS + number * 7919 % JOBS).unwrap();
        let (place, codes) = (Place { made, sequence: number + 1 }, (0..200).collect());
        rows.put(&Entry { place, state: JobState::Running, kind: 0, provider, codes }).unwrap();
    }
    let each = rows.file_bytes() / JOBS;
    assert!(each < 3000, "{each} bytes for each job");
    assert_eq!(rows.find(&Query::default(), None, 0, 2 * JOBS as usize).unwrap().len() as u64, JOBS);
}

#[test]
fn without_a_disk_nothing_is_lost_and_it_goes_on_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("later");
    let mut rows = Rows::new(folder.join("words"), 10);
    let put = |rows: &mut Rows, sequence| {
        let codes = codes_of(&job(sequence, "a paper boat at sea"), &BTreeMap::new());
        let provider = rows.provider("minimax");
        rows.put(&Entry { place: place(20_000, sequence), state: JobState::Running, kind: 0, provider, codes })
    };
    let refused = (1..=9).filter(|sequence| put(&mut rows, *sequence).is_err()).count();
    assert!(refused > 0);
    std::fs::create_dir(&folder).unwrap();
    for sequence in 1..=9 {
        put(&mut rows, sequence).unwrap();
    }
    assert_eq!(sequences(rows.find(&text("boat"), None, 0, 99).unwrap()), [9, 8, 7, 6, 5, 4, 3, 2, 1]);
    assert!(std::fs::read_dir(&folder).unwrap().next().is_none(), "the file has a name");
}
