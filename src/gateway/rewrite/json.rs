//! Bodies that are JSON.

use super::{Callback, CallbackParams, Given};
use crate::provider::json_patch::{Scalar, json_text, members, with_members};

/// What the caller asks for; `None` when the body is no JSON object.
pub(in crate::gateway) fn callback_params(body: &[u8]) -> Option<CallbackParams> {
    let text = json_text(body).filter(|text| text.trim_ascii_start().starts_with('{'))?;
    let mut callback_params = CallbackParams::default();
    members(text, |member| {
        let field = match &*member.name {
            _ if member.depth != 1 => return,
            "replyUrl" => &mut callback_params.reply_url,
            "replyRef" => &mut callback_params.reply_ref,
            "account" => {
                callback_params.account = match member.value {
                    Scalar::Text(text) => Some(text.into_owned()),
                    Scalar::Literal(word) => Some(word.to_owned()),
                    Scalar::Nested => None,
                };
                return;
            }
            _ => return,
        };
        *field = match member.value {
            Scalar::Text(text) => Given::text(text),
            Scalar::Literal("null") => Given::Nothing,
            Scalar::Literal(word) => Given::Word(word.to_owned()),
            Scalar::Nested => Given::Odd,
        };
    });
    Some(callback_params)
}

/// The same body with the callback set.
pub(in crate::gateway) fn with_callback(body: &[u8], callback: &Callback) -> Option<Vec<u8>> {
    let mut set = vec![("replyUrl", callback.reply_url.as_str())];
    set.extend(callback.made_ref.as_deref().map(|made| ("replyRef", made)));
    let text = json_text(body)?;
    // With the byte order mark, if it had one.
    Some([&body[..body.len() - text.len()], with_members(text, &set)?.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_says_what_its_caller_asks_for() {
        let asked = |body: &str| {
            callback_params(body.as_bytes())
                .map(|callback_params| (callback_params.reply_url, callback_params.reply_ref))
        };
        let word = |word: &str| Given::Word(word.to_owned());
        assert_eq!(
            asked(" {\"replyUrl\":\"https:\\/\\/h\\/x\",\"replyRef\":\"r\"}\n"),
            Some((Given::text("https://h/x"), Given::text("r")))
        );
        let nothing = || Given::Nothing;
        assert_eq!(asked(r#"{"replyUrl":null,"a":{"replyRef":"inner"}}"#), Some((nothing(), nothing())));
        assert_eq!(asked(r#"{"replyUrl":["x"]}"#), Some((Given::Odd, nothing())));
        assert_eq!(asked(r#"{"replyRef":17}"#), Some((nothing(), word("17"))));
        assert_eq!(asked(r#"{"replyRef":false,"replyUrl":7}"#), Some((word("7"), word("false"))));
        assert_eq!((asked("[]"), asked("{"), asked("prompt=x")), (None, None, None));
        assert_eq!(callback_params(br#"{"account":17}"#).unwrap().account.as_deref(), Some("17"));
    }

    #[test]
    fn the_rest_of_a_body_reaches_the_provider_untouched() {
        let body = "\u{feff} {\"seed\": 1e400, \"replyRef\":\"\", \"n\":12345678901234567890,\"prompt\":\"\\u00e9\"}\n";
        let callback = Callback { reply_url: "https://v/r".to_owned(), made_ref: Some("m".to_owned()) };
        let edited = String::from_utf8(with_callback(body.as_bytes(), &callback).unwrap()).unwrap();
        let expected = "\u{feff} {\"seed\": 1e400, \"replyRef\":\"m\", \"n\":12345678901234567890,\
             \"prompt\":\"\\u00e9\",\"replyUrl\":\"https://v/r\"}\n";
        assert_eq!(edited, expected);
    }
}
