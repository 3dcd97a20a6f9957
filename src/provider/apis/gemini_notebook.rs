//! Gemini Notebook (NotebookLM): `/v1/gemini-notebook`. Its files are to be had with the token alone.

use super::common::{Item, at_provider, attach, items, observation, word_outcome};
use super::{Adapter, encoded, is_mail, is_uuid};
use crate::domain::{Access, JobId, Kind, Observation, Variant};
use crate::provider::endpoint::{Created, Endpoint, Row};
use crate::provider::json::Object;

pub(super) const GEMINI_NOTEBOOK: Adapter = Adapter {
    // `job:<uuid>-user:<user>-<e-mail>-bot:gemini_notebook`
    is_id: |parts| is_uuid(parts.own) && is_mail(parts.account),
    reply_ref_in: "request",
    job_path: |id| Some(format!("jobs/{}", encoded(id.as_sent()))),
    kept_days: 30,
    encodes_ids: true,
    endpoints: &[
        Row("POST", "artifacts|research", Endpoint::Create(Created::Job)),
        Row("POST", "artifacts/retry|revise", Endpoint::Create(Created::Job)),
        Row("GET", "jobs/*", Endpoint::Job),
        Row("GET", "jobs", Endpoint::List),
    ],
    running: &["jobs"],
    ..Adapter::new("gemini-notebook", read)
};

fn read(job: JobId, object: &Object<'_>) -> Option<Observation> {
    let result = object.object("result").unwrap_or_default();
    // What it found, in words and as sources of the notebook.
    let is_research = result.get("report").is_some() || result.get("sources").is_some();
    // Of the latter the body itself is the result.
    let (kind, name, in_words) = match object.text("type").as_deref() {
        Some("audio") => (Some(Kind::Speech), "audio", false),
        Some("video") => (Some(Kind::Video), "video", false),
        Some("infographic") => (Some(Kind::Image), "image", false),
        Some("slides") => (None, "slides", false),
        Some("report" | "interactive_report" | "table" | "quiz" | "flashcards" | "mindmap") => (None, "result", true),
        Some("research" | "deep" | "fast") => (None, "result", true),
        _ if is_research => (None, "result", true),
        Some(_) => return None,
        None => (None, "file", false),
    };
    let mut observation = observation(job, kind, word_outcome(object.text("status").as_deref()), object);
    observation.may_be_empty = in_words;
    let artifact = object.text("artifact").filter(|artifact| is_artifact(artifact));
    // Each is a different file. The address is built anew: that in the body is anybody's.
    let files = items(result.get("files"), "format").into_iter().map(|(slot, file)| {
        let format = file.text("format").filter(|format| is_format(format));
        let other = format.as_ref().zip(artifact.as_ref()).and_then(|(format, artifact)| {
            let path = format!("v1/gemini-notebook/artifacts/download?artifact={}&format={format}", encoded(artifact));
            at_provider(&path, Variant::Unknown, Access::Provider)
        });
        let name = Some(format!("{name}.{}", format.as_deref().unwrap_or("bin")));
        Item { slot, name, others: other.into_iter().collect(), ..Item::default() }
    });
    attach(&mut observation, name, files.collect());
    Some(observation)
}

/// `user:<user>-<e-mail>-artifact:<uuid>:<uuid>`
fn is_artifact(text: &str) -> bool {
    let parts = text.strip_prefix("user:").and_then(|rest| rest.split_once("-artifact:"));
    let is_own = |own: &str| own.split_once(':').is_some_and(|(notebook, own)| is_uuid(notebook) && is_uuid(own));
    parts.is_some_and(|(_, own)| is_own(own)) && text.len() <= 512 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_format(text: &str) -> bool {
    (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}
