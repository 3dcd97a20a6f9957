//! Agent jobs: a word for a status, and any number of attachments.

use std::collections::HashSet;

use super::{details, media};
use crate::domain::{AssetId, AssetSource, JobId, MissingReason, Observation, Outcome, Role, Status, Timestamp};
use crate::provider::error::ErrorReport;
use crate::provider::json::Object;
use crate::provider::{believable, budget, label, truncate_redacted};

/// The provider's `status` of an attachment that is not ready.
const PROCESSING: i64 = 2;

pub(super) fn read(job: JobId, object: &Object<'_>, request: &Object<'_>) -> Observation {
    let status = object.text("status").map(label);
    let error = ErrorReport::read(object);
    let outcome = match status.as_deref() {
        Some("completed") => Some(Outcome::Completed),
        Some("failed") if error.as_ref().is_some_and(ErrorReport::is_moderation) => Some(Outcome::Moderated),
        Some("failed") => Some(Outcome::Failed),
        _ => None,
    };
    let response = object.object("response").unwrap_or_default();
    let (assets, left_out) = match outcome {
        Some(Outcome::Completed) => attachments(&response),
        _ => (Vec::new(), 0),
    };
    Observation {
        outcome,
        status: status.clone().map(Status::Word),
        status_label: status,
        message: response.text("msg_content").map(truncate_redacted),
        error: error.map(|error| error.text),
        prompt: request.text("prompt").map(truncate_redacted),
        details: details::of_agent(request),
        created_at: object.text("created").as_deref().and_then(Timestamp::parse_rfc3339).and_then(believable),
        assets,
        left_out,
        ..Observation::naming(job)
    }
}

/// The files of the attachments that a job can have, and about how many files and URLs there are beyond them.
fn attachments(response: &Object<'_>) -> (Vec<AssetSource>, u32) {
    let Some(attachments) = response.get("attachments") else { return (Vec::new(), 0) };
    let mut slots = HashSet::new();
    let mut assets = Vec::new();
    let (mut place, mut unread) = (0, 0u32);
    attachments.each_item(|item| {
        place += 1;
        if slots.len() == Observation::MAX_ASSETS {
            unread = unread.saturating_add(1);
            return;
        }
        let Some(attachment) = item.object() else { return };
        let Some(mut found) = media::attachment(&attachment, place) else { return };
        if attachment.integer("status") == Some(PROCESSING) {
            found.media.candidates = Vec::new();
            found.media.missing = MissingReason::StillProcessing;
        }
        // Two attachments of the same id are two files all the same.
        let mut slot = AssetId::new(&attachment.text("attachmentID").unwrap_or_else(|| format!("#{place}")));
        if !slots.insert(slot.clone()) {
            slot = AssetId::new(&format!("#{place}"));
            slots.insert(slot.clone());
        }
        found.media.slot = slot.clone();
        assets.push(found.media);
        assets.extend(
            found.sidecars.into_iter().map(|sidecar| AssetSource { slot: slot.sidecar(sidecar.role), ..sidecar }),
        );
    });
    debug_assert!(assets.iter().all(|asset| asset.role != Role::Media || slots.contains(&asset.slot)));
    let (assets, left_out) = budget::fit(assets);
    (assets, left_out.saturating_add(unread))
}
