//! What must hold for any bytes at all. The fuzz targets under `fuzz/` run the same checks for as long as one likes; here
//! they see every seed, and some hundred changed ones.

mod compressed;
mod config;
mod container;
mod journal;
mod jpeg_scan;
mod payload;
mod range;
mod sealed;
mod signed_path;
mod text;
mod url_policy;
mod veil;
mod wav;

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;

/// The inputs that the fuzz target of this name starts with, those that once found a fault among them.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|item| item.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{}", folder.display());
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Seeds with pieces of other seeds, words that mean something to the target, and noise put in.
fn mutated(target: &'static str, words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let seeds = seeds(target);
    let all = seeds.concat();
    let noise = proptest::collection::vec(any::<u8>(), 0..8);
    let word = proptest::sample::select(words).prop_map(|word| word.as_bytes().to_vec());
    let spliced = (any::<Index>(), 0..40_usize).prop_map(move |(at, length)| {
        let at = at.index(all.len());
        all[at..all.len().min(at + length)].to_vec()
    });
    let piece = prop_oneof![noise, word, spliced];
    let change = (any::<Index>(), 0..6_usize, piece);
    (proptest::sample::select(seeds), proptest::collection::vec(change, 0..5)).prop_map(|(mut bytes, changes)| {
        for (at, removed, piece) in changes {
            let at = at.index(bytes.len() + 1);
            let to = bytes.len().min(at + removed);
            bytes.splice(at..to, piece);
        }
        bytes
    })
}

/// Holds `check` against every seed of the target and `cases` changed ones, or `PROPERTY_FACTOR` times as many.
fn holds(target: &'static str, check: fn(&[u8]), cases: u32, words: &'static [&'static str]) {
    seeds(target).iter().for_each(|seed| check(seed));
    let factor = std::env::var("PROPERTY_FACTOR").map_or(1, |factor| factor.parse().expect("a number"));
    let cases = cases * factor;
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(input in mutated(target, words))| check(&input));
}

#[test]
fn any_body_is_read_and_shown_without_its_secrets() {
    let words = &[
        "https://h/a?Signature=0123456789",
        "/reply/minimax/",
        "%2Freply%2F",
        "://",
        "?",
        " ",
        "\\/",
        "\\u002f",
        "null",
    ];
    holds("payload", payload::check, 500, words);
}

#[test]
fn only_what_was_signed_is_believed() {
    let words = &["/reply/minimax/", "ref_", "q_0123456789abcdef", "%2F", "/", "="];
    holds("signed_path", signed_path::check, 500, words);
}

#[test]
fn no_spelling_of_a_url_gets_around_the_policy() {
    let words = &[
        "@",
        "\\",
        "//",
        ".",
        ":443",
        "127.1",
        "[::ffff:7f00:1]",
        "0x7f.1",
        "。",
        "%2e",
        "#",
        "?",
        "*.",
        "\u{ad}",
        "xn--",
    ];
    holds("url_policy", url_policy::check, 1000, words);
}

#[test]
fn a_file_is_judged_alike_in_whatever_pieces_it_comes() {
    let words = &[
        "moov",
        "mdat",
        "ftyp",
        "\0\0\0\u{8}",
        "RIFF",
        "data",
        "OggS",
        "ID3\u{4}\0\0",
        "%%EOF",
        "PK\u{5}\u{6}",
        ";",
        "<",
    ];
    holds("container", container::check, 1000, words);
}

#[test]
fn no_range_leaves_what_there_is() {
    let words = &["bytes ", "bytes=", "-", "/", "0", "18446744073709551615", ",", "+"];
    holds("range", range::check, 1000, words);
}

#[test]
fn every_recorded_entry_and_nothing_else_is_found_again() {
    holds("journal", journal::check, 200, &["\u{f5}rv", "\0\0\0\0", "\u{7}\u{3}abc", "\u{6}\u{3}"]);
}

#[test]
fn any_configuration_is_read_or_refused_in_one_line() {
    let words = &[
        "[server]\n",
        "[auth]\n",
        "\0REPLYVAULT_AUTH__API_TOKENS=[*",
        "= [",
        "\"",
        "'''",
        "\n",
        "[[auth.tokens]]\n",
        "1e9",
    ];
    holds("config", config::check, 300, words);
}

#[test]
fn no_scan_of_a_jpeg_does_harm_and_its_end_makes_none_less_whole() {
    holds("jpeg_scan", jpeg_scan::check, 300, &["\u{2}\u{20}", "\0\0", "\u{1}\u{3}\u{8}", "\u{3}\u{3}\u{1}\u{5}\u{1}"]);
}

#[test]
fn a_wav_is_whole_with_its_data_whatever_else_it_holds() {
    holds("wav", wav::check, 500, &["\0\u{9}", "\u{1}\u{3}abc", "\0\0"]);
}

#[test]
fn no_message_is_media_in_any_encoding() {
    holds("text", text::check, 1000, &["<", "{", "ID3", "\u{feff}", "链接", "\n", "PK", "OggS", "fLaC", "G", "é"]);
}

#[test]
fn what_proxies_compress_is_read_within_its_bound_however_it_comes() {
    let words = &["\u{1f}\u{8b}\u{8}", "x\u{9c}", "{", "[", " ", "\u{8}\u{1d}", "8", "\u{3}\0"];
    holds("compressed", compressed::check, 300, words);
}

#[test]
fn of_an_archived_segment_what_is_intact_is_read_and_nothing_else() {
    holds("sealed", sealed::check, 40, &["RVSEALD1", "\u{2}\u{3}", "\0\0\u{1}"]);
}

#[test]
fn no_signature_of_ours_passes_however_it_is_written_and_cut() {
    let words = &[
        "\\",
        "%",
        "&",
        "%25",
        "\\u00",
        "&#x2",
        "ref_",
        "minimax/",
        "/",
        "\0",
        "\n",
        "ref_01jd0000000000000000000000/",
    ];
    holds("veil", veil::check, 500, words);
}
