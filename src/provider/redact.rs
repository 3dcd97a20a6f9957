//! A body as it may be shown: our signatures and the queries of URLs read `…`, all else is as it came.

use memchr::memchr2;
use serde_json::value::RawValue;

use super::json::Value;
use crate::domain::{MediaUrl, Target};

/// `body` with what is secret hidden; numbers, order and spacing stay. `None` when it is not JSON.
pub fn redacted(body: &[u8]) -> Option<Box<RawValue>> {
    let text = super::json::parse(body).ok()?.raw();
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('"') {
        shown.push_str(&rest[..start]);
        let end = start + literal_length(&rest[start..]);
        let literal = &rest[start..end];
        match hidden(literal) {
            Some(hidden) => shown.push_str(&hidden),
            None => shown.push_str(literal),
        }
        rest = &rest[end..];
    }
    shown.push_str(rest);
    RawValue::from_string(shown).ok()
}

/// The length of the string literal that `text` starts with, quotes included.
fn literal_length(text: &str) -> usize {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

/// The literal to show instead, when there is something to hide.
fn hidden(literal: &str) -> Option<String> {
    let raw: &RawValue = serde_json::from_str(literal).ok()?;
    let text = Value::of(raw).text()?;
    let shown = redacted_text(&text);
    if shown == text { None } else { serde_json::to_string(&shown).ok() }
}

/// A text with our signatures and the queries of URLs hidden, wherever in it they stand.
pub(super) fn redacted_text(text: &str) -> String {
    // Each of these needs one of them, and most texts have none.
    if memchr2(b'?', b'%', text.as_bytes()).is_none() && !text.contains("reply") {
        return text.to_owned();
    }
    // What is a URL as a whole may hold spaces, or have no slashes behind the scheme.
    let whole = text.split_once('?').filter(|_| MediaUrl::parse(text).is_ok());
    let text = whole.map_or_else(|| text.to_owned(), |(path, _)| format!("{path}?…"));
    without_signatures(&URL_MARKS.iter().fold(text, |text, (mark, question)| without_queries(&text, mark, question)))
}

/// What stands behind a URL's scheme and before its query: as it is, as JSON inside a text, percent-encoded.
const URL_MARKS: [(&str, &str); 4] = [("://", "?"), (r":\/\/", "?"), ("%3A%2F%2F", "%3F"), ("%3a%2f%2f", "%3f")];

fn without_queries(text: &str, mark: &str, question: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(mark) {
        let (before, url) = rest.split_at(start);
        let ends = |c: char| matches!(c, '"' | '<' | '>') || c.is_whitespace() || c.is_control();
        let (url, behind) = url.split_at(url.find(ends).unwrap_or(url.len()));
        shown.push_str(before);
        match url.split_once(question) {
            Some((path, _)) => shown.extend([path, question, "…"]),
            None => shown.push_str(url),
        }
        rest = behind;
    }
    shown.push_str(rest);
    shown
}

/// A slash in a path, likewise.
const SLASHES: [&str; 8] = ["/", r"\/", "%2F", "%2f", "%252F", "%252f", r"\u002F", r"\u002f"];

/// Wherever a path of a reply URL stands, what follows its target is a signature.
fn without_signatures(text: &str) -> String {
    const MARK: &str = "reply";
    let mut shown = String::with_capacity(text.len());
    let mut done = 0;
    for (at, _) in text.match_indices(MARK) {
        let Some(behind) = behind_target(&text[at + MARK.len()..]) else { continue };
        let length = behind.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')));
        let length = length.unwrap_or(behind.len());
        if length > 0 {
            let start = text.len() - behind.len();
            shown.extend([&text[done..start], "…"]);
            done = start + length;
        }
    }
    shown.push_str(&text[done..]);
    shown
}

/// What follows a slash, a target and another slash.
fn behind_target(text: &str) -> Option<&str> {
    let behind_slash = |text: &'_ str| SLASHES.iter().find(|slash| text.starts_with(**slash)).map(|slash| slash.len());
    let text = &text[behind_slash(text)?..];
    let (target, text) = text.split_at(text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?);
    Target::parse(target).ok()?;
    Some(&text[behind_slash(text)?..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(body: &str) -> String {
        redacted(body.as_bytes()).unwrap().get().to_owned()
    }

    #[test]
    fn queries_and_signatures_are_hidden_and_all_else_stays() {
        let body = r#"{ "userID":923847293472394001, "x": 1.50e+3,"downloadURL":"https:\/\/cdn.example\/v.mp4?Signature=s",
            "replyUrl":"https://vault.example.com/reply/minimax/AbC-_9", "desc":"what? \"why\" \ud800 /reply/other/x" }"#;
        let expected = r#"{ "userID":923847293472394001, "x": 1.50e+3,"downloadURL":"https://cdn.example/v.mp4?…",
            "replyUrl":"https://vault.example.com/reply/minimax/…", "desc":"what? \"why\" \ud800 /reply/other/x" }"#;
        assert_eq!(shown(body), expected);
        assert_eq!(
            shown(r#"["see /reply/minimax/abc and /reply/minimax/def."]"#),
            r#"["see /reply/minimax/… and /reply/minimax/…."]"#
        );
        for (text, expected) in [
            (r#""\u002freply\u002fminimax\u002fSECRET""#, r#""/reply/minimax/…""#),
            (r#""x%2Freply%2Fminimax%2FSECRET&""#, r#""x%2Freply%2Fminimax%2F…&""#),
            (r#""failed: https://h/v.mp4?Signature=SECRET (403)""#, r#""failed: https://h/v.mp4?… (403)""#),
            (r#""what? https://h/v.mp4""#, r#""what? https://h/v.mp4""#),
            (r#""https://h/my video.mp4?Signature=SECRET""#, r#""https://h/my video.mp4?…""#),
            (r#""https:h/v.mp4?Signature=SECRET""#, r#""https:h/v.mp4?…""#),
            (r#""https:\\\\h\\v.mp4?Signature=SECRET""#, r#""https:\\\\h\\v.mp4?…""#),
            (r#""https:/\t/h/v.mp4\n?Signature=SECRET""#, r#""https:/\t/h/v.mp4\n?…""#),
            (r#""x https%3A%2F%2Fh%2Fv%3FSECRET y""#, r#""x https%3A%2F%2Fh%2Fv%3F… y""#),
            (r#""{\"u\":\"https:\\/\\/h\\/v?SECRET\"}""#, r#""{\"u\":\"https:\\/\\/h\\/v?…\"}""#),
            (r#""\\/reply\\/minimax\\/SECRET\"""#, r#""\\/reply\\/minimax\\/…\"""#),
            (r#""https://h/reply/reply/minimax/SECRET""#, r#""https://h/reply/reply/minimax/…""#),
            (r#""/reply/minimax/reply/minimax/SECRET""#, r#""/reply/minimax/…/minimax/…""#),
            (r#""/reply/minimax/ /reply/minimax/…""#, r#""/reply/minimax/ /reply/minimax/…""#),
        ] {
            assert_eq!(shown(text), expected);
        }
        assert!(redacted(b"{").is_none());
    }

    proptest! {
        #[test]
        fn what_is_shown_is_json_and_shows_no_secret(before in "\\PC{0,10}", path in "[a-z/]{0,10}") {
            let url = format!("https://h/{path}?sig=SECRET");
            let reply = format!("{before} https://h/reply/minimax/SECRET{path}");
            let body = serde_json::json!({ before.clone(): [url, { "a": reply }], "b": before }).to_string();
            let shown = shown(&body);
            prop_assert!(serde_json::from_str::<serde_json::Value>(&shown).is_ok());
            prop_assert!(!shown.contains("SECRET") , "{}", shown);
        }
    }
}
