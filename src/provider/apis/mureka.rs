//! Mureka: `/v1/mureka`.

use super::common::{Item, attach, items, observation, word_outcome};
use super::{Adapter, is_number, letter};
use crate::domain::{JobId, Kind, Observation, Variant};
use crate::provider::endpoint::{Created, Endpoint, Row};
use crate::provider::json::Object;

pub(super) const MUREKA: Adapter = Adapter {
    hosts: &["static-cos.mureka.ai", "cdn.mureka.ai"],
    // `j<digits><letter>-u<user>-a<account>-bot:mureka`; newer jobs have other letters.
    is_id: |parts| letter(parts.own).is_some() && is_number(parts.account),
    reply_ref_in: "request",
    job_path: |id| Some(format!("jobs/{}", id.as_sent())),
    kept_days: 7,
    endpoints: &[
        Row(
            "POST",
            "music/create|create-advanced|create-instrumental|extend|regenerate",
            Endpoint::Create(Created::Job),
        ),
        Row("POST", "speech", Endpoint::Create(Created::Job)),
        Row("GET", "jobs/*", Endpoint::Job),
        Row("GET", "jobs", Endpoint::List),
    ],
    lists: &["jobs"],
    running: &["jobs"],
    ..Adapter::new("mureka", read)
};

fn read(job: JobId, object: &Object<'_>) -> Option<Observation> {
    let kind = match (object.text("jobType").as_deref(), letter(job.parts().own)) {
        (Some("music"), _) | (None, Some('m')) => Some(Kind::Music),
        (Some("tts"), _) | (None, Some('t')) => Some(Kind::Speech),
        // Where their files are is not known.
        (Some(_), _) => return None,
        (None, _) => None,
    };
    let mut observation = observation(job, kind, word_outcome(object.text("status").as_deref()), object);
    let response = object.object("response").unwrap_or_default();
    let songs = items(response.get("songs"), "song_id").into_iter().map(|(slot, song)| Item {
        slot: slot.rsplit(':').next().unwrap_or_default().to_owned(),
        urls: vec![(song.text("mp3_url"), Variant::Unknown)],
        poster: song.text("cover"),
        ..Item::default()
    });
    let songs: Vec<_> = songs.collect();
    let speech = response.text("mp3_url").map(|url| Item {
        slot: "media".to_owned(),
        urls: vec![(Some(url), Variant::Unknown)],
        poster: response.text("cover"),
        ..Item::default()
    });
    // Songs are complete when each has its link, which may be later than the job is.
    let is_whole = songs.iter().all(|song| song.urls.iter().all(|(url, _)| url.is_some()));
    let files = if songs.is_empty() { speech.into_iter().collect() } else { songs };
    attach(&mut observation, "audio.mp3", if is_whole { files } else { Vec::new() });
    Some(observation)
}
