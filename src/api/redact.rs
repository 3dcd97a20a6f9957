//! Hides, in a body as it came, what only the journal may show: our signatures and the queries of URLs.

use crate::intake::ReplyUrls;

/// Stands for what is hidden.
const HIDDEN: &str = "…";

/// `body` with [`HIDDEN`] for every signature of ours and for the query of every URL.
pub(super) fn shown(body: &str, urls: &ReplyUrls) -> String {
    hide_signatures(&hide_queries(body), urls)
}

fn hide_queries(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(colon) = rest.find(':') {
        let (before, after) = rest.split_at(colon);
        shown.push_str(before);
        let is_url =
            ["://", ":\\/\\/", ":\\u002f\\u002f", ":\\u002F\\u002F"].iter().any(|mark| after.starts_with(mark));
        if !is_url {
            shown.push(':');
            rest = &after[1..];
            continue;
        }
        let ends = |char: char| matches!(char, '"' | '<' | '>') || char.is_whitespace() || char.is_control();
        let (url, behind) = after.split_at(after.find(ends).unwrap_or(after.len()));
        // A quote inside a JSON string has a backslash in front, which is not the URL's.
        let (url, behind) = match behind.starts_with('"') {
            true => after.split_at(url.trim_end_matches('\\').len()),
            false => (url, behind),
        };
        let query = ["?", "\\u003f", "\\u003F"].iter().filter_map(|mark| Some(url.find(mark)? + mark.len())).min();
        match query {
            Some(query) => shown.extend([&url[..query], HIDDEN]),
            None => shown.push_str(url),
        }
        rest = behind;
    }
    shown.push_str(rest);
    shown
}

/// Finds signatures by checking them, so that it does not matter how the slashes around one are written.
fn hide_signatures(text: &str, urls: &ReplyUrls) -> String {
    /// 32 bytes in base64url.
    const LENGTH: usize = 43;
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let bytes = text.as_bytes();
    let mut shown = String::with_capacity(text.len());
    let (mut kept, mut start) = (0, 0);
    while start < bytes.len() {
        let length = bytes[start..].iter().take_while(|byte| is_part(**byte)).count();
        let end = start + length;
        if length >= LENGTH {
            // An escape before it, such as `%2F`, may have left letters that look like a part of it.
            for from in [end - LENGTH, start] {
                let is_ours = |target: &str| urls.verify(target, &text[from..from + LENGTH]).is_some();
                if targets_before(&text[..from]).any(is_ours) {
                    shown.extend([&text[kept..from], HIDDEN]);
                    kept = from + LENGTH;
                    break;
                }
            }
        }
        start = end + 1;
    }
    shown.push_str(&text[kept..]);
    shown
}

/// The targets that a signature right behind `text` may be for.
fn targets_before(text: &str) -> impl Iterator<Item = &str> {
    const NEAR: usize = 64;
    const REF: usize = 30;
    let near = &text[text.floor_char_boundary(text.len().saturating_sub(NEAR))..];
    let of_ref = near.rfind("ref_").and_then(|at| near.get(at..at + REF));
    of_ref.into_iter().chain(near.contains("minimax").then_some("minimax"))
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::domain::Target;
    use crate::intake::ReplyKeys;

    fn urls() -> ReplyUrls {
        let keys = ReplyKeys::new(&["secret".into()]).unwrap();
        ReplyUrls::new(Url::parse("https://vault.example.com").unwrap(), keys)
    }

    #[test]
    fn signatures_are_found_however_they_are_written() {
        let urls = urls();
        for target in ["minimax", "ref_01jd0000000000000000000000"] {
            let url = urls.reply_url(&Target::parse(target).unwrap());
            let signature = url.rsplit('/').next().unwrap().to_owned();
            let forms = [
                url.clone(),
                format!("{{\"replyUrl\":\"{url}\"}}"),
                format!("\"{}\"", url.replace('/', "\\/")),
                format!("\"{}\"", url.replace('/', "\\u002f")),
                format!("\"{}\"", url.replace('/', "%2F")),
                format!("é✓ /reply/{target}/{signature}\\n and {url}, twice"),
                format!("/reply/{target}/{signature}%22"),
            ];
            for form in forms {
                let shown = shown(&form, &urls);
                assert!(!shown.contains(&signature), "{shown}");
                assert!(shown.contains('…') && shown.contains(target), "{shown}");
            }
        }
    }

    #[test]
    fn what_is_no_signature_stays() {
        let urls = urls();
        let other = "A".repeat(43);
        let long = "b".repeat(500);
        for text in ["", "{\"a\":1}", &format!("/reply/minimax/{other}"), &long, "ref_", "é", "https://a.example/b#c"]
        {
            assert_eq!(shown(text, &urls), *text);
        }
    }

    #[test]
    fn queries_are_hidden_and_the_json_stays_json() {
        let urls = urls();
        for (text, expected) in [
            (
                r#"{"a":"https://cdn.example/v.mp4?sig=1&b=2","c":"d?e"}"#,
                r#"{"a":"https://cdn.example/v.mp4?…","c":"d?e"}"#,
            ),
            (r#"{"a":"https:\/\/cdn.example\/v.mp4?sig=1\u0026b"}"#, r#"{"a":"https:\/\/cdn.example\/v.mp4?…"}"#),
            (r#"{"a":"http://x/y\u003fsig=1"}"#, r#"{"a":"http://x/y\u003f…"}"#),
            (r#""see \"https://x/y?z=1\" there""#, r#""see \"https://x/y?…\" there""#),
            ("https://x/?a=1 https://y/?b=2", "https://x/?… https://y/?…"),
            (r#"{"at":"12:30","b":{"c":1}}"#, r#"{"at":"12:30","b":{"c":1}}"#),
        ] {
            assert_eq!(shown(text, &urls), expected);
        }
    }
}
