use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};

use super::*;

/// Two words of three characters that the index takes for the same when it is asked how words begin.
fn words_that_begin_alike() -> (String, String) {
    let mut known = BTreeMap::new();
    for word in (0..0x1000).map(|number| format!("{number:03x}")) {
        let mut hasher = DefaultHasher::new();
        hasher.write(word.as_bytes());
        if let Some(other) = known.insert((hasher.finish() as u32) >> 16, word.clone()) {
            return (other, word);
        }
    }
    panic!("no two words are alike");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_jobs_with_a_word_that_begins_so_are_counted_and_skipped() {
    let vault = Vault::start().await;
    let (word, other) = words_that_begin_alike();
    made(&vault, 1, "2026-03-01", "0", &other).await;
    let days = async || vault.get(&format!("{JOBS}/days?q={word}*")).await["items"].clone();
    assert_eq!(numbers(&vault, &format!("q={word}*")).await, [] as [u32; 0], "{word} {other}");
    assert_eq!(days().await, json!([]), "{word} {other}");
    made(&vault, 2, "2026-02-01", "0", &word).await;
    assert_eq!(numbers(&vault, &format!("q={word}*")).await, [2], "{word} {other}");
    assert_eq!(numbers(&vault, &format!("q={word}*&skip=1")).await, [] as [u32; 0], "{word} {other}");
    assert_eq!(days().await, json!([{"day": "2026-02-01", "jobs": 1}]), "{word} {other}");
}
