//! A body as it may be shown: our signatures and the queries of URLs read `…`, all else is as it came.

use serde_json::value::RawValue;

use super::json::Value;

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
    if !literal.contains('/') {
        return None;
    }
    let raw: &RawValue = serde_json::from_str(literal).ok()?;
    let text = Value::of(raw).text()?;
    let without_query = match text.split_once('?') {
        Some((before, _)) if is_url(&text) => format!("{before}?…"),
        _ => text.clone(),
    };
    let shown = without_signature(&without_query);
    if shown == text { None } else { serde_json::to_string(&shown).ok() }
}

fn is_url(text: &str) -> bool {
    let start = text.trim_start().get(..8).unwrap_or_default().to_ascii_lowercase();
    start.starts_with("http://") || start.starts_with("https://")
}

/// Wherever a path of a reply URL stands, what follows its target is a signature.
fn without_signature(text: &str) -> String {
    const MARK: &str = "/reply/";
    let Some((before, after)) = text.split_once(MARK) else { return text.to_owned() };
    let after = match after.split_once('/') {
        Some((target, signature)) if crate::domain::Target::parse(target).is_ok() => {
            let length = signature.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')));
            format!("{target}/…{}", without_signature(&signature[length.unwrap_or(signature.len())..]))
        }
        _ => without_signature(after),
    };
    format!("{before}{MARK}{after}")
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
