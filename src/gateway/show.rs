use super::Gateway;
use super::call::Call;
use crate::domain::{Origin, RefId, Target};
use crate::provider::edit::{Change, Scalar, changed, json_text};

impl Gateway {
    /// An answer's JSON as its caller would see it without the gateway: with the caller's own replyUrl and replyRef, or
    /// none. `None` when it is that already.
    pub(super) fn shown_text(&self, call: Call, text: &str) -> Option<String> {
        if !text.contains("replyUrl") && !text.contains("replyRef") {
            return None;
        }
        changed(json_text(text.as_bytes())?, |member| {
            let Scalar::Text(value) = &member.value else { return None };
            match &*member.name {
                "replyUrl" => self.callers_url(value).map(|own| as_given(call, own)),
                "replyRef" => self.is_made(value).then(|| as_given(call, None)),
                _ => None,
            }
        })
    }

    /// What the caller gave in place of a URL that was put in here. `None` when it was not.
    fn callers_url(&self, url: &str) -> Option<Option<String>> {
        let Some(Target::Ref(id)) = self.intake().urls().parse(url) else { return None };
        match self.intake().ledger().state().reply_ref_ever(&id) {
            Ok(Some(record)) if record.origin == Origin::Gateway => Some(record.pass_on_to),
            Ok(Some(_)) => None,
            // Its signature is shown to nobody, whatever is known of it.
            Ok(None) | Err(_) => Some(None),
        }
    }

    /// Whether a reference was made here for a caller who gave none.
    fn is_made(&self, text: &str) -> bool {
        let Ok(id) = RefId::from_ulid(text) else { return false };
        let known = self.intake().ledger().state().reply_ref_ever(&id).ok().flatten();
        known.is_some_and(|record| record.made && record.reply_ref.as_str() == text)
    }
}

/// The scheduler shows an empty text for what was not given; elsewhere it is left out.
fn as_given(call: Call, own: Option<String>) -> Change {
    match own {
        Some(own) => Change::Text(own),
        None if call == Call::Tells => Change::Text(String::new()),
        None => Change::Remove,
    }
}
