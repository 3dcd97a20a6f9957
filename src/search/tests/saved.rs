use std::fs;

use super::*;

/// Where a job is put, in which state and with which prompt.
type Put = (u64, u64, usize, u8);

fn puts() -> impl Strategy<Value = Vec<Put>> {
    let states = 0..JobState::ALL.len();
    proptest::collection::vec((20_000..20_004_u64, 0..40_u64, states, 0..6_u8), 0..120)
}

fn put_all(rows: &mut Rows, puts: &[Put]) {
    for &(day, sequence, state, words) in puts {
        let prompt: Vec<String> = (0..words).map(|word| format!("word{word} {}", sequence % 5)).collect();
        let codes = codes_of(&job(sequence, &prompt.join(" ")), &BTreeMap::new());
        let provider = rows.provider(["minimax", "kling", "rünway"][words as usize % 3]);
        // Archived jobs stay where they are.
        let place = place(20_000 + sequence % 4, sequence);
        let place =
            if JobState::ALL[state] == JobState::Archived { place } else { Place { ..self::place(day, sequence) } };
        rows.put(&Entry { place, state: JobState::ALL[state], kind: words, provider, codes });
    }
}

fn answers(rows: &Rows) -> String {
    let state = |state| Query { states: vec![state], ..Query::default() };
    let queries = [Query::default(), text("word0"), text("word4 3"), text("wor*")];
    let queries = queries.into_iter().chain(JobState::ALL.map(state)).chain(
        ["minimax", "kling", "rünway", "none"].map(|name| Query { provider: Some(name.into()), ..Query::default() }),
    );
    let answer = |query: Query| {
        format!("{:?} {:?} {}\n", rows.find(&query, None, 0, 1000), rows.days(&query), rows.is_vague(&query))
    };
    let counts = JobState::ALL.map(|state| rows.in_state(state));
    let mut unsettled = rows.unsettled();
    unsettled.sort_unstable();
    format!("{}{counts:?} {unsettled:?} {:?}", queries.map(answer).collect::<String>(), rows.newest())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn saved_rows_answer_as_before_and_go_on_changing(first in puts(), then in puts(), most in 10..2000_usize) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("index");
        let mut rows = Rows::bounded(most);
        put_all(&mut rows, &first);
        rows.save(&file, 77).unwrap();
        prop_assert!(Rows::load(&file, 78).unwrap().is_none(), "of another state");
        let mut loaded = Rows::load(&file, 77).unwrap().unwrap();
        prop_assert_eq!(answers(&loaded), answers(&rows));
        if rows.bytes() < most {
            put_all(&mut rows, &then);
            put_all(&mut loaded, &then);
            prop_assert_eq!(answers(&loaded), answers(&rows));
        }
    }
}

#[test]
fn a_file_that_is_not_as_it_was_written_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("index");
    let mut rows = Rows::default();
    for sequence in 0..6 {
        put(&mut rows, place(20_000 + sequence % 2, sequence), JobState::Running, "a paper boat");
    }
    rows.save(&file, 5).unwrap();
    let whole = fs::read(&file).unwrap();
    let is_believed = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        matches!(Rows::load(&file, 5), Ok(Some(_)))
    };
    assert!(is_believed(&whole));
    for length in 0..whole.len() {
        assert!(!is_believed(&whole[..length]), "the first {length} of {}", whole.len());
    }
    for byte in 0..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[byte] ^= 1 << bit;
            assert!(!is_believed(&flipped), "bit {bit} of byte {byte}");
        }
    }
    assert!(!is_believed(&[&whole[..], &[0]].concat()));
    assert!(!is_believed(&[&whole[..], &whole[..]].concat()));
}
