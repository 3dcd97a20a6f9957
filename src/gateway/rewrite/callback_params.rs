use crate::domain::{MediaUrl, ReplyRef, Target};
use crate::intake::ReplyUrls;

/// What a call that creates a job asks for by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::gateway) struct CallbackParams {
    /// The caller's `replyUrl`.
    pub(in crate::gateway) reply_url: Given,
    /// The caller's `replyRef`.
    pub(in crate::gateway) reply_ref: Given,
    /// The caller's `account`.
    pub(in crate::gateway) account: Option<String>,
}

/// What stands in a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::gateway) enum Given {
    /// Nothing, an empty text, or null.
    #[default]
    Nothing,
    Text(String),
    /// A number, true or false, as it is written.
    Word(String),
    /// What is none of these, or too long to be looked at: the provider will say what it thinks of that.
    Odd,
}

impl Given {
    pub(in crate::gateway) fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        if text.is_empty() { Self::Nothing } else { Self::Text(text) }
    }
}

/// What is to be done with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Plan {
    /// It gets a ref and its URL.
    Set {
        /// The caller's own reference; one is made when there is none.
        reply_ref: Option<ReplyRef>,
        /// Whether the field of the reference is free for one that is made.
        is_free: bool,
        /// Where callbacks are passed on to: an http or https URL, as the caller wrote it.
        forward_url: Option<String>,
    },
    /// It reaches the provider as it is: it would not be taken, or calls back here already.
    Leave {
        /// Whose URL of ours it has.
        over: Option<Target>,
        /// The caller's reference.
        reply_ref: Option<ReplyRef>,
    },
}

impl CallbackParams {
    /// The longest `replyUrl` that the provider takes, in characters.
    const MAX_URL_CHARS: usize = 1024;

    pub(in crate::gateway) fn plan(self, urls: &ReplyUrls) -> Plan {
        let is_free = self.reply_ref == Given::Nothing;
        let (reply_ref, is_too_long) = match self.reply_ref {
            Given::Text(text) | Given::Word(text) => {
                let reply_ref = ReplyRef::new(&text).ok();
                let is_too_long = reply_ref.is_none();
                (reply_ref, is_too_long)
            }
            Given::Nothing | Given::Odd => (None, false),
        };
        let forward_url = match self.reply_url {
            Given::Nothing => None,
            Given::Text(url) => match urls.parse(&url) {
                None if url.chars().nth(Self::MAX_URL_CHARS).is_none() && MediaUrl::parse(&url).is_ok() => Some(url),
                over => return Plan::Leave { over, reply_ref },
            },
            Given::Word(_) | Given::Odd => return Plan::Leave { over: None, reply_ref },
        };
        if is_too_long {
            return Plan::Leave { over: None, reply_ref };
        }
        Plan::Set { reply_ref, is_free, forward_url }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;
    use url::Url;

    use super::*;
    use crate::intake::ReplyKeys;

    #[test]
    fn a_call_gets_a_url_of_ours_unless_the_provider_is_to_judge_the_callers_or_it_is_ours() {
        let keys = ReplyKeys::new(&[SecretString::from("key")]).unwrap();
        let urls = ReplyUrls::new(Url::parse("https://vault.example.com").unwrap(), keys);
        let plan = |url: Given, reference: Given| {
            CallbackParams { reply_url: url, reply_ref: reference, account: None }.plan(&urls)
        };
        let text = |text: &str| Given::text(text);
        let named = |text: &str| ReplyRef::new(text).ok();
        let set = |reply_ref, is_free, url: Option<&str>| Plan::Set {
            reply_ref,
            is_free,
            forward_url: url.map(str::to_owned),
        };
        let left = |over, reply_ref| Plan::Leave { over, reply_ref };
        assert_eq!(plan(Given::Nothing, Given::Nothing), set(None, true, None));
        assert_eq!(plan(text(""), text("r")), set(named("r"), false, None));
        assert_eq!(plan(text("https://h/"), Given::Word("42".to_owned())), set(named("42"), false, Some("https://h/")));
        assert_eq!(plan(Given::Nothing, Given::Word("true".to_owned())), set(named("true"), false, None));
        assert_eq!(plan(Given::Nothing, Given::Odd), set(None, false, None));
        assert_eq!(plan(Given::Odd, text("r")), left(None, named("r")));
        assert_eq!(plan(text("Place your call back URL here"), text("r")), left(None, named("r")));
        assert_eq!(plan(text(&format!("https://h/{}", "x".repeat(1024))), Given::Nothing), left(None, None));
        assert_eq!(plan(Given::Nothing, text(&"r".repeat(1025))), left(None, None));
        for target in ["minimax", "ref_01jd0000000000000000000000"] {
            let target = Target::parse(target).unwrap();
            assert_eq!(plan(text(&urls.reply_url(&target)), Given::Nothing), left(Some(target), None));
        }
    }
}
