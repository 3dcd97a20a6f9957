//! FaceSwap (InsightFaceSwap on Discord): `/v1/faceswap`. Its ids are of no known form.

use serde_json::json;

use super::common::{Item, attach, items, observation, word_outcome};
use super::{Adapter, List, Paging, encoded};
use crate::domain::{JobId, Kind, Observation, Outcome, Variant};
use crate::provider::endpoint::{Created, Endpoint, Row};
use crate::provider::json::Object;

pub(super) const FACESWAP: Adapter = Adapter {
    // Everybody's uploads: an exact host.
    hosts: &["cdn.discordapp.com"],
    id_fields: &[],
    claim: |object| {
        object.text("verb").filter(|verb| verb.starts_with(VERB))?;
        JobId::prefixed(NAME, &object.text("jobid")?).ok()
    },
    job_path: |id| Some(format!("jobs/?jobid={}", encoded(id.as_sent()))),
    naming: |id| json!({"jobid": id.as_sent(), "verb": VERB}),
    uses_account_default: true,
    endpoints: &[
        Row("POST", "picsi|swapid|inswapper|headshot|changebg|swap", Endpoint::Create(Created::Job)),
        Row("GET", "jobs", Endpoint::List),
    ],
    job_lists: &[List { name: "swaps", path: "jobs", rows: &["", "jobs"], paging: Paging::One }],
    ..Adapter::new(NAME, read)
};

const NAME: &str = "faceswap";
const VERB: &str = "faceswap-";
/// Calls that make no file.
const COMMANDS: [&str; 5] = ["saveid", "listid", "setid", "delid", "delall"];

fn read(job: JobId, object: &Object<'_>) -> Option<Observation> {
    let outcome = match object.text("status").as_deref() {
        Some("cancelled") => Some(Outcome::Failed),
        Some("moderated") => Some(Outcome::Moderated),
        word => word_outcome(word),
    };
    let attachments = items(object.get("attachments"), "id");
    let kind = attachments.first().map(|(_, file)| match file.text("content_type") {
        Some(mime) if mime.starts_with("video/") => Kind::Video,
        Some(mime) if mime.starts_with("image/") => Kind::Image,
        _ => Kind::Other,
    });
    let mut observation = observation(job, kind, outcome, object);
    let verb = object.text("verb").unwrap_or_default();
    observation.may_be_empty = verb.strip_prefix(VERB).is_some_and(|verb| COMMANDS.contains(&verb));
    let files = attachments.into_iter().map(|(slot, file)| Item {
        slot,
        name: file.text("filename"),
        urls: vec![(file.text("url"), Variant::Unknown)],
        ..Item::default()
    });
    attach(&mut observation, "image.png", files.collect());
    Some(observation)
}
