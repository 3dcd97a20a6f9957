//! Bodies that are JSON.

use super::{Callback, Wish};
use crate::provider::edit::{Scalar, json_text, members, with_members};

/// What the caller asks for; `None` when the body is no JSON object.
pub(in crate::gateway) fn wish(body: &[u8]) -> Option<Wish> {
    let text = json_text(body).filter(|text| text.starts_with('{'))?;
    let mut wish = Wish::default();
    members(text, |member| {
        if member.depth != 1 {
            return;
        }
        let field = match &*member.name {
            "replyUrl" => &mut wish.reply_url,
            "replyRef" => &mut wish.reply_ref,
            _ => return,
        };
        match member.value {
            Scalar::Text(text) => *field = Some(text.into_owned()),
            Scalar::Word("null") => *field = None,
            Scalar::Word(_) | Scalar::Nested => wish.is_odd = true,
        }
    });
    Some(wish)
}

/// The same body with the callback set.
pub(in crate::gateway) fn with_callback(body: &[u8], callback: &Callback) -> Option<Vec<u8>> {
    let mut set = vec![("replyUrl", callback.reply_url.as_str())];
    set.extend(callback.made_ref.as_deref().map(|made| ("replyRef", made)));
    with_members(json_text(body)?, &set).map(String::into_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_says_what_its_caller_asks_for() {
        let asked = |body: &str| wish(body.as_bytes()).map(|wish| (wish.reply_url, wish.reply_ref, wish.is_odd));
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            asked(r#"{"replyUrl":"https:\/\/h\/x","replyRef":"r"}"#),
            Some((text("https://h/x"), text("r"), false))
        );
        assert_eq!(asked(r#"{"replyUrl":null,"a":{"replyRef":"inner"}}"#), Some((None, None, false)));
        assert_eq!(asked(r#"{"replyUrl":["x"]}"#), Some((None, None, true)));
        assert_eq!(asked(r#"{"replyRef":17}"#), Some((None, None, true)));
        assert_eq!((asked("[]"), asked("{"), asked("prompt=x")), (None, None, None));
    }

    #[test]
    fn the_rest_of_a_body_reaches_the_provider_untouched() {
        let body = br#"{"seed": 1e400, "replyRef":"", "n":12345678901234567890,"prompt":"\u00e9"}"#;
        let callback = Callback { reply_url: "https://v/r".to_owned(), made_ref: Some("m".to_owned()) };
        let edited = String::from_utf8(with_callback(body, &callback).unwrap()).unwrap();
        let expected =
            r#"{"seed": 1e400, "replyRef":"m", "n":12345678901234567890,"prompt":"\u00e9","replyUrl":"https://v/r"}"#;
        assert_eq!(edited, expected);
    }
}
