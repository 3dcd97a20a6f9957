//! Bodies that are urlencoded forms.

use url::form_urlencoded::{byte_serialize, parse};

use super::{Callback, CallbackParams, Given};

/// What the caller asks for.
pub(in crate::gateway) fn callback_params(body: &[u8]) -> CallbackParams {
    let mut callback_params = CallbackParams::default();
    for (name, value) in parse(body) {
        match &*name {
            "replyUrl" => callback_params.reply_url = Given::text(value),
            "replyRef" => callback_params.reply_ref = Given::text(value),
            "account" => callback_params.account = Some(value.into_owned()),
            _ => {}
        }
    }
    callback_params
}

/// The same body with the callback set; every other field is as it was, byte for byte.
pub(in crate::gateway) fn with_callback(body: &[u8], callback: &Callback) -> Vec<u8> {
    let set = [("replyUrl", Some(&callback.reply_url)), ("replyRef", callback.made_ref.as_ref())];
    let is_set = |pair: &[u8]| {
        let name = parse(pair).next().map(|(name, _)| name.into_owned());
        set.iter().any(|(known, value)| value.is_some() && name.as_deref() == Some(known))
    };
    let kept = body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty() && !is_set(pair)).map(<[u8]>::to_vec);
    let added = set.into_iter().filter_map(|(name, value)| {
        let value: String = byte_serialize(value?.as_bytes()).collect();
        Some(format!("{name}={value}").into_bytes())
    });
    kept.chain(added).collect::<Vec<_>>().join(&b'&')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_replaced_and_the_rest_stays() {
        let callback = Callback { reply_url: "https://v/r?a=b".to_owned(), made_ref: None };
        let body = b"prompt=a+b%20c&replyUrl=https%3A%2F%2Fh%2F&x=%zz&replyRef=mine";
        assert_eq!(
            (callback_params(body).reply_url, callback_params(body).reply_ref),
            (Given::text("https://h/"), Given::text("mine"))
        );
        assert_eq!(callback_params(b"account=17&prompt=x").account.as_deref(), Some("17"));
        let edited = String::from_utf8(with_callback(body, &callback)).unwrap();
        assert_eq!(edited, "prompt=a+b%20c&x=%zz&replyRef=mine&replyUrl=https%3A%2F%2Fv%2Fr%3Fa%3Db");
        let made = Callback { made_ref: Some("m".to_owned()), ..callback };
        assert_eq!(with_callback(b"", &made), b"replyUrl=https%3A%2F%2Fv%2Fr%3Fa%3Db&replyRef=m");
    }
}
