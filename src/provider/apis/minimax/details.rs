//! What a job was made with, where an answer says it.

use crate::domain::JobDetails;
use crate::provider::json::{Object, Value};
use crate::provider::redacted_beginning;

/// Of a video, an image, a song or speech.
pub(super) fn of_job(object: &Object<'_>) -> JobDetails {
    let pixels = |name| object.integer(name).filter(|pixels| *pixels > 0);
    let size = || Some(format!("{}x{}", pixels("width")?, pixels("height")?));
    JobDetails {
        model: text(object, "modelID").or_else(|| text(object, "model")),
        // The provider's zeros stand for what it does not know.
        resolution: text(object, "resolution").filter(|resolution| resolution != "0").or_else(size),
        aspect_ratio: text(object, "aspectRatio"),
        duration: seconds(object),
        batch_id: text(object, "batchID"),
        can_appeal: object.boolean("canAppeal"),
        can_retry: object.boolean("canRetry"),
    }
}

/// Of an agent job, by its request.
pub(super) fn of_agent(request: &Object<'_>) -> JobDetails {
    const MAX_MODELS: usize = 16;
    let models = request.get("models").and_then(|models| models.items_up_to(MAX_MODELS)).unwrap_or_default();
    let models: Vec<_> = models.into_iter().filter_map(Value::text).collect();
    JobDetails { model: (!models.is_empty()).then(|| cut(models.join(","))), ..JobDetails::default() }
}

fn seconds(object: &Object<'_>) -> Option<f64> {
    let seconds: f64 = object.text("duration")?.trim().parse().ok()?;
    (seconds.is_finite() && seconds > 0.0).then_some(seconds)
}

fn text(object: &Object<'_>, name: &str) -> Option<String> {
    object.text(name).map(cut)
}

fn cut(text: String) -> String {
    let mut text = redacted_beginning(&text, JobDetails::MAX_TEXT_BYTES);
    text.truncate(text.floor_char_boundary(JobDetails::MAX_TEXT_BYTES));
    text
}
