//! TemPolor: `/v1/tempolor`. Its bodies have no links: a call names them.

use serde_json::json;

use super::common::{Item, at_provider, attach, ids_in, observation, status, time};
use super::{Adapter, List, Paging, is_number};
use crate::domain::{Access, JobId, Kind, Observation, Outcome, Variant};
use crate::provider::endpoint::{Created, Endpoint, Row};
use crate::provider::json::Object;

pub(super) const TEMPOLOR: Adapter = Adapter {
    hosts: &["ugc-cdn.api.instabeat.ai"],
    id_fields: &["job_id"],
    is_id: |parts| {
        parts.noun == "job" && is_number(parts.account) && parts.own.bytes().all(|byte| byte.is_ascii_alphanumeric())
    },
    job_path: |id| Some(format!("music/{}", id.as_sent())),
    naming: |id| json!({"job_id": id.as_sent()}),
    endpoints: &[
        Row("POST", "music/song|instrumental", Endpoint::Create(Created::Job)),
        Row("GET", "music/*", Endpoint::Job),
        Row("GET", "music|scheduler", Endpoint::List),
    ],
    lists: &["records"],
    // Two songs for one call.
    created: |answer| ids_in(answer.get("jobs"), "tempolor"),
    job_lists: &[
        List { name: "songs", path: "music?type=song", rows: &["records", ""], paging: Paging::Cursor("cursor") },
        List {
            name: "instrumentals",
            path: "music?type=instrumental",
            rows: &["records", ""],
            paging: Paging::Cursor("cursor"),
        },
    ],
    running: &["scheduler"],
    ..Adapter::new("tempolor", read)
};

fn read(job: JobId, object: &Object<'_>) -> Option<Observation> {
    let outcome =
        match (object.boolean("status_final"), object.text("status_name").as_deref(), object.integer("status")) {
            (Some(false), ..) => None,
            (_, Some("COMPLETED"), _) | (_, None, Some(30)) => Some(Outcome::Completed),
            (_, Some("FAILED"), _) | (_, None, Some(10)) => Some(Outcome::Failed),
            _ => None,
        };
    let download = |format| {
        let path = format!("v1/tempolor/music/download/{}?file_format={format}", job.as_sent());
        at_provider(&path, Variant::Unknown, Access::Lookup)
    };
    let wav = object.text("wavOssId").and_then(|_| download("wav"));
    let others = wav.into_iter().chain(download("mp3")).collect();
    let mut observation = observation(job, Some(Kind::Music), outcome, object);
    observation.status = status(object.get("status"));
    observation.percent = object.integer("progress").map(|percent| percent.clamp(0, 100) as u8);
    observation.created_at = object.integer("createTime").and_then(time);
    let texts = object.object("ltmMaterialExtendDto").unwrap_or_default();
    observation.prompt = texts.text("description").map(crate::provider::truncate_redacted);
    let song = Item { slot: "media".to_owned(), others, poster: object.text("cover"), ..Item::default() };
    attach(&mut observation, "audio.wav", vec![song]);
    Some(observation)
}
