use bytes::Bytes;

use super::Intake;
use crate::provider::edit::{Change, Scalar, changed, json_text};
use crate::state::RefRecord;

impl Intake {
    /// A callback over the URL of a ref of the gateway's, as its caller's own receiver would have got it: where it shows a
    /// URL of ours, it shows the one that the caller gave, and a reference made here is left out. Every other byte stays.
    pub fn as_callers_own(&self, of: &RefRecord, body: Bytes) -> Bytes {
        let changed = json_text(&body).and_then(|text| {
            changed(text, |member| {
                let Scalar::Text(value) = &member.value else { return None };
                match &*member.name {
                    "replyUrl" => {
                        self.urls().parse(value)?;
                        Some(of.pass_on_to.clone().map_or(Change::Remove, Change::Text))
                    }
                    "replyRef" => (of.made && **value == *of.reply_ref.as_str()).then_some(Change::Remove),
                    _ => None,
                }
            })
        });
        changed.map_or(body, Bytes::from)
    }
}
