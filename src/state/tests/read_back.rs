//! Whatever a type of the domain is built of, it can be read back. A record that can be written and not be read would make the
//! state fail whenever it is looked up, however often the state is made anew.

use std::fmt::Debug;
use std::time::Duration;

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::domain::{NotificationId, Role};

/// In the state's form, and in the journal's.
fn reads_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(built: &T) {
    let record = postcard::to_stdvec(built).unwrap();
    assert_eq!(&postcard::from_bytes::<T>(&record).unwrap(), built);
    let json = serde_json::to_string(built).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&json).unwrap(), built);
}

/// Pieces of what some constructor takes, in any order, and noise.
fn any_text() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "http://",
        "https://",
        "h.example",
        "xn--",
        "b\u{fc}cher",
        "\u{ad}",
        "\u{3002}",
        "[::1]",
        ":80",
        "@",
        "/",
        "\\",
        "?",
        "#",
        "%2e",
        "user:1-minimax:2-video:",
        "p1-u2-a3-bot:minimax",
        "-bot:minimax",
        "kling:",
        "ref_01jd0000000000000000000000",
        "01JD0000000000000000000000",
        "useapi",
        "manifest.json",
        "con",
        ".",
        "-",
        "_",
        " ",
        "7",
        "2026-11-20T11:04:10.120Z",
        "9999-12-31T23:59:59-01:00",
    ];
    let piece = prop_oneof![3 => proptest::sample::select(PIECES).prop_map(str::to_owned), 1 => any::<String>()];
    proptest::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_a_constructor_accepts_can_be_read_back(
        text in any_text(),
        other in any_text(),
        millis in any::<u64>(),
        bytes in any::<[u8; 16]>(),
    ) {
        let file = FileName::clean(&text);
        reads_back(&file.with_extension(&other));
        reads_back(&file.numbered(bytes[0].into()));
        reads_back(&file.apart(&Digest::of(&bytes)));
        reads_back(&file);
        let slot = AssetId::new(&text);
        reads_back(&slot.sidecar(Role::Poster));
        reads_back(&slot);
        reads_back(&Digest::of(text.as_bytes()));
        reads_back(&NotificationId::of_random(bytes));
        let at = Timestamp::from_millis_clamped(millis);
        reads_back(&at.after(Duration::from_millis(millis)));
        reads_back(&at.midnight());
        reads_back(&at);
        reads_back(&Timestamp::parse_rfc3339(&text));
        reads_back(&text.parse::<JobId>().ok());
        reads_back(&JobId::prefixed("kling", &text).ok());
        reads_back(&JobId::prefixed(&text, &other).ok());
        reads_back(&ReplyRef::new(&text).ok());
        reads_back(&RefId::from_ulid(&text).ok());
        reads_back(&Target::parse(&text).ok());
        reads_back(&MediaUrl::parse(&text).ok());
    }
}
