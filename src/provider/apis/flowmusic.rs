//! Flow Music (Lyria): `/v1/flowmusic`.

use super::common::{Item, attach, items, observation, word_outcome_or_refused};
use super::{Adapter, is_mail, is_uuid};
use crate::domain::{JobId, Kind, Observation, Variant};
use crate::provider::endpoint::{Created, Endpoint, Row};
use crate::provider::json::Object;

pub(super) const FLOWMUSIC: Adapter = Adapter {
    // Everybody's storage: an exact host.
    hosts: &["storage.googleapis.com"],
    // `job:<uuid>-user:<user>-<e-mail>-bot:flowmusic`
    is_id: |parts| is_uuid(parts.own) && is_mail(parts.account),
    reply_ref_in: "request",
    job_path: |id| Some(format!("jobs/{}", id.as_sent())),
    endpoints: &[
        Row("POST", "music", Endpoint::Create(Created::Job)),
        Row("POST", "music/edit", Endpoint::Create(Created::Job)),
        Row("GET", "jobs/*", Endpoint::Job),
        Row("GET", "jobs", Endpoint::List),
    ],
    running: &["jobs"],
    ..Adapter::new("flowmusic", read)
};

fn read(job: JobId, object: &Object<'_>) -> Option<Observation> {
    let mut observation = observation(job, Some(Kind::Music), word_outcome_or_refused(object), object);
    let clips = items(object.get("clips"), "clip").into_iter().map(|(slot, clip)| Item {
        // Without the account that stands in front.
        slot: slot.rsplit(':').next().unwrap_or_default().to_owned(),
        // One take in two forms.
        urls: vec![(clip.text("wav_url"), Variant::Unknown), (clip.text("audio_url"), Variant::Unknown)],
        poster: clip.text("image_url"),
        ..Item::default()
    });
    attach(&mut observation, "audio.wav", clips.collect());
    Some(observation)
}
