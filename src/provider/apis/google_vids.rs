//! Google Vids: `/v1/google-vids`. Its bodies have no links: its media are to be had with the token alone.

use super::common::{Item, at_provider, attach, observation, word_outcome_or_refused};
use super::{Adapter, encoded, is_mail, is_number, is_uuid, letter};
use crate::domain::{Access, JobId, Kind, Observation, Variant};
use crate::provider::endpoint::{Created, Endpoint, Row};
use crate::provider::json::Object;

pub(super) const GOOGLE_VIDS: Adapter = Adapter {
    // `j<digits><letter>-u<user>-…-bot:google-vids`
    is_id: |parts| letter(parts.own).is_some() || parts.own.strip_prefix('j').is_some_and(is_number),
    // `user:<user>-<e-mail>-job:<uuid>`
    claim: |object| {
        let id = object.text("jobid")?;
        of_account(&id, &["job"])?;
        JobId::prefixed(NAME, &id).ok()
    },
    reply_ref_in: "request",
    job_path: |id| Some(format!("jobs/{}", encoded(id.as_sent()))),
    kept_days: 7,
    encodes_ids: true,
    endpoints: &[
        Row("POST", "videos|images", Endpoint::Create(Created::Job)),
        Row("POST", "videos/extend|upscale|edit", Endpoint::Create(Created::Job)),
        Row("GET", "jobs/*", Endpoint::Job),
    ],
    ..Adapter::new(NAME, read)
};

const NAME: &str = "google-vids";

/// The noun of an id `user:<user>-<e-mail>-<noun>:<uuid>`.
fn of_account<'a>(id: &str, nouns: &[&'a str]) -> Option<&'a str> {
    let (user, rest) = id.strip_prefix("user:")?.split_once('-')?;
    let (rest, own) = rest.rsplit_once(':')?;
    let (mail, noun) = rest.rsplit_once('-')?;
    let fits = is_number(user) && is_mail(mail) && is_uuid(own) && id.bytes().all(|byte| byte.is_ascii_graphic());
    nouns.iter().copied().find(|known| fits && *known == noun)
}

fn read(job: JobId, object: &Object<'_>) -> Option<Observation> {
    let (kind, name) = match object.text("type").as_deref() {
        Some("video") => (Some(Kind::Video), "video.mp4"),
        Some("image") => (Some(Kind::Image), "image.jpg"),
        Some("audio") => (Some(Kind::Speech), "audio.wav"),
        Some(_) => return None,
        None => (None, "video.mp4"),
    };
    let mut observation = observation(job, kind, word_outcome_or_refused(object), object);
    let media = object.object("result").and_then(|result| result.text("mediaId"));
    let file = media.and_then(|media| {
        // Every video has a mark that can be seen, and no image has.
        let variant = match of_account(&media, &["video", "image", "audio"])? {
            "video" => Variant::Watermarked,
            "image" => Variant::Clean,
            _ => Variant::Unknown,
        };
        let path = format!("v1/google-vids/media/{}", encoded(&media));
        let others = vec![at_provider(&path, variant, Access::Provider)?];
        Some(Item { slot: "media".to_owned(), others, ..Item::default() })
    });
    attach(&mut observation, name, file.into_iter().collect());
    Some(observation)
}
