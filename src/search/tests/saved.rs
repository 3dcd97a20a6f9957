use std::fs;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn saved_rows_are_found_as_before_and_go_on_changing(
        first in puts(),
        then in puts(),
        in_memory in 0..300_usize,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("index");
        let (mut rows, mut known) = (rows(in_memory), BTreeMap::new());
        put_all(&mut rows, &mut known, &first);
        rows.save(&file, 77).unwrap();
        prop_assert!(rows.load(&file, 78).unwrap().is_none(), "of another state");
        let mut loaded = rows.load(&file, 77).unwrap().unwrap();
        fs::remove_file(&file).unwrap();
        compare(&loaded, &known)?;
        put_all(&mut loaded, &mut known, &then);
        compare(&loaded, &known)?;
        loaded.save(&file, 78).unwrap();
        compare(&rows.load(&file, 78).unwrap().unwrap(), &known)?;
    }
}

#[test]
fn a_file_that_is_not_as_it_was_written_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("index");
    let mut rows = rows(1000);
    for sequence in 0..6 {
        put(&mut rows, place(20_000 + sequence % 2, sequence), JobState::Running, "a paper boat");
    }
    rows.save(&file, 5).unwrap();
    let whole = fs::read(&file).unwrap();
    let is_believed = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        matches!(rows.load(&file, 5), Ok(Some(_)))
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
