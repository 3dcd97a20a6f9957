//! A body as it may be shown: our signatures, what URLs carry besides their host and path, and what stands behind the name
//! of a credential read `…`; all else is as it came.
//!
//! Texts are looked at as they are and without their escapes, layer by layer, so that it does not matter in which form,
//! or how deep in another text, a secret stands.

#[cfg(test)]
mod tests;

use serde_json::value::RawValue;

use super::json::Value;
use crate::domain::MediaUrl;
use crate::domain::redact::{self, redacted_text, shows_reply_url};

/// Members that hold where somebody wants to be called: the whole of such a URL behind its host may be a credential.
const CALLBACK_NAMES: [&str; 8] =
    ["replyurl", "notifyurl", "callbackurl", "webhookurl", "callback", "webhook", "hookurl", "passonto"];

/// A body of more bytes has files in it, ...
const LARGE_BODY: usize = 4 << 20;
/// ... as texts of more than this.
const LONGEST_TEXT: usize = 64 << 10;
/// Instead of a string.
const HIDDEN: &str = "\"…\"";

/// `body` with what is secret hidden; numbers, order and spacing stay. Of one with more than 4 MiB texts of more than 64 KiB
/// read `…`, too. `None` when it is not JSON.
pub fn redacted(body: &[u8]) -> Option<Box<RawValue>> {
    let text = super::json::parse(body).ok()?.raw();
    let leaves_out = body.len() > LARGE_BODY;
    let mut shown = String::with_capacity(text.len().min(LARGE_BODY));
    let mut rest = text;
    let mut place = Place::default();
    while let Some(start) = rest.find('"') {
        let (between, behind) = rest.split_at(start);
        let (literal, after) = behind.split_at(literal_length(behind));
        let name = place.enter(between);
        let is_name = after.trim_start().starts_with(':');
        shown.push_str(between);
        if leaves_out && literal.len() > LONGEST_TEXT {
            shown.push_str(HIDDEN);
        } else if !is_name && (place.is_within_credential() || is_credential(name, literal)) {
            shown.push_str(if unquoted(literal).is_some() { HIDDEN } else { literal });
        } else if let Some(hidden) = hidden(name, literal) {
            shown.push_str(&hidden);
        } else {
            shown.push_str(literal);
        }
        place.before = literal;
        rest = after;
    }
    shown.push_str(rest);
    RawValue::from_string(shown).ok()
}

/// Where in a body a string stands.
#[derive(Default)]
struct Place<'a> {
    /// The string before it.
    before: &'a str,
    /// In how many objects and arrays.
    depth: usize,
    /// In how many the value is that is a credential's as a whole.
    credential: Option<usize>,
}

impl<'a> Place<'a> {
    /// Goes over what stands between a string and the next. Gives the next one's name where it is the value of a member.
    fn enter(&mut self, between: &str) -> &'a str {
        let value = between.trim_start().strip_prefix(':').map(str::trim);
        if self.credential.is_none()
            && value.is_some_and(|value| value.starts_with(['{', '[']))
            && is_credential(self.before, "")
        {
            self.credential = Some(self.depth);
        }
        for byte in between.bytes() {
            match byte {
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.credential = self.credential.filter(|around| self.depth > *around);
                }
                _ => {}
            }
        }
        if value == Some("") { self.before } else { "" }
    }

    fn is_within_credential(&self) -> bool {
        self.credential.is_some()
    }
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
fn hidden(name: &str, literal: &str) -> Option<String> {
    let text = unquoted(literal)?;
    let redacted = redacted_text(&text);
    // One of ours still says whose it is, and does so when it is shown again.
    let is_others = is_callback(name) && !shows_reply_url(&redacted);
    let shown = if is_others { host_alone(&text).unwrap_or(redacted) } else { redacted };
    if shown == text { None } else { serde_json::to_string(&shown).ok() }
}

fn unquoted(literal: &str) -> Option<String> {
    let raw: &RawValue = serde_json::from_str(literal).ok()?;
    Value::of(raw).text()
}

/// Whether the member with this name, as it is written, holds a credential if its value is written so.
fn is_credential(name: &str, value: &str) -> bool {
    !name.is_empty() && unquoted(name).is_some_and(|name| redact::is_credential(&name, value))
}

fn is_callback(name: &str) -> bool {
    let plain = |name: String| name.to_ascii_lowercase().replace(['_', '-'], "");
    !name.is_empty() && unquoted(name).map(plain).is_some_and(|name| CALLBACK_NAMES.contains(&&*name))
}

/// A URL's scheme, host and port.
fn host_alone(text: &str) -> Option<String> {
    let url = MediaUrl::parse(text).ok()?;
    let origin = url.expose().origin().ascii_serialization();
    (url.expose().path().len() > 1).then(|| format!("{origin}/…"))
}
