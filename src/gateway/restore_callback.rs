use bytes::Bytes;

use super::veil::Veil;
use crate::domain::{Origin, RefId, Target};
use crate::intake::{Intake, ReplyUrls};
use crate::provider::Endpoint;
use crate::provider::json_patch::{Change, Scalar, changed, json_text};
use crate::state::RefRecord;

/// An answer's JSON as its caller would see it without the gateway: with the caller's own replyUrl and replyRef, or none.
/// `None` when it is that already.
pub(super) fn restored_text(intake: &Intake, endpoint: Endpoint, text: &str) -> Option<String> {
    changed(json_text(text.as_bytes())?, |member| {
        let Scalar::Text(value) = &member.value else { return None };
        match callers_url(intake, value) {
            Some(own) => Some(as_given(endpoint, own)),
            None if member.name == "replyRef" => is_made(intake, value).then(|| as_given(endpoint, None)),
            None => None,
        }
    })
}

/// What the caller gave in place of a URL that was put in here. `None` when it was not.
fn callers_url(intake: &Intake, url: &str) -> Option<Option<String>> {
    let Some(Target::Ref(id)) = intake.urls().parse(url) else { return None };
    match intake.log().state().ref_including_deleted(&id) {
        Ok(Some(record)) if record.origin == Origin::Gateway => Some(record.forward_url),
        Ok(Some(_)) => None,
        // Its signature is shown to nobody, whatever is known of it.
        Ok(None) | Err(_) => Some(None),
    }
}

/// Whether a reference was made here for a caller who gave none.
fn is_made(intake: &Intake, text: &str) -> bool {
    let Ok(id) = RefId::from_ulid(text) else { return false };
    let known = intake.log().state().ref_including_deleted(&id).ok().flatten();
    known.is_some_and(|record| record.made && record.reply_ref.as_str() == text)
}

/// The scheduler shows an empty text for what was not given; elsewhere it is left out.
fn as_given(endpoint: Endpoint, own: Option<String>) -> Change {
    match own {
        Some(own) => Change::Text(own),
        None if endpoint == Endpoint::MentionsJobs => Change::Text(String::new()),
        None => Change::Remove,
    }
}

/// A callback over a ref's URL as the provider would have sent it to the caller's own: where it repeats that URL or the
/// reference that was made here, it has what the caller gave, or nothing. Every other byte is as it came.
pub fn relayed(urls: &ReplyUrls, record: &RefRecord, body: Bytes) -> Bytes {
    let own = json_text(&body).and_then(|text| {
        let own = changed(text, |member| {
            let Scalar::Text(value) = &member.value else { return None };
            match urls.parse(value) {
                Some(Target::Ref(id)) if id == record.id => {
                    Some(record.forward_url.clone().map_or(Change::Remove, Change::Text))
                }
                None if member.name == "replyRef" && record.made && *value == record.reply_ref.as_str() => {
                    Some(Change::Remove)
                }
                _ => None,
            }
        })?;
        // With the byte order mark, if it had one.
        Some(Bytes::from([&body[..body.len() - text.len()], own.as_bytes()].concat()))
    });
    let own = own.unwrap_or(body);
    match Veil::over(urls, &own) {
        Ok(hidden) => hidden.unwrap_or(own),
        Err(error) => {
            tracing::warn!(reference = %record.id, %error, "a callback is passed on as an empty object");
            Bytes::from_static(b"{}")
        }
    }
}
