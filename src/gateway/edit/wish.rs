use crate::domain::{MediaUrl, ReplyRef};
use crate::intake::ReplyUrls;

/// What a call that creates a job asks for by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::gateway) struct Wish {
    /// The caller's `replyUrl`.
    pub(in crate::gateway) reply_url: Option<String>,
    /// The caller's `replyRef`.
    pub(in crate::gateway) reply_ref: Option<String>,
    /// One of them is no text: the provider will say what it thinks of that.
    pub(in crate::gateway) is_odd: bool,
}

/// What the job's ref is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct Plan {
    /// The caller's own reference; one is made when there is none.
    pub(in crate::gateway) reply_ref: Option<ReplyRef>,
    /// Where callbacks are passed on to: an http or https URL, as the caller wrote it.
    pub(in crate::gateway) pass_on_to: Option<String>,
}

impl Wish {
    /// The longest `replyUrl` that the provider takes, in characters.
    const MAX_URL_CHARS: usize = 1024;

    /// `None` when the call is to reach the provider as it is: it would not be taken, or calls back here already.
    pub(in crate::gateway) fn plan(self, urls: &ReplyUrls) -> Option<Plan> {
        if self.is_odd {
            return None;
        }
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let pass_on_to = match given(self.reply_url) {
            Some(url) if urls.parse(&url).is_some() => return None,
            Some(url) if url.chars().nth(Self::MAX_URL_CHARS).is_some() => return None,
            Some(url) if MediaUrl::parse(&url).is_err() => return None,
            url => url,
        };
        let reply_ref = match given(self.reply_ref) {
            Some(text) => Some(ReplyRef::new(&text).ok()?),
            None => None,
        };
        Some(Plan { reply_ref, pass_on_to })
    }
}
