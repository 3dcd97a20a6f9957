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
        mail_and_noun(&id).filter(|(_, noun)| *noun == "job")?;
        JobId::prefixed(NAME, &id).ok()
    },
    reply_ref_in: "request",
    job_path: |id| Some(format!("jobs/{}", encoded(id.as_sent()))),
    account: |id| mail_and_noun(id.as_sent()).map_or(id.account(), |(mail, _)| mail),
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

/// E-mail and noun of an id `user:<user>-<e-mail>-<noun>:<uuid>`.
fn mail_and_noun(id: &str) -> Option<(&str, &str)> {
    let (user, rest) = id.strip_prefix("user:")?.split_once('-')?;
    let (rest, own) = rest.rsplit_once(':')?;
    let (mail, noun) = rest.rsplit_once('-')?;
    let fits = is_number(user) && is_mail(mail) && is_uuid(own) && id.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then_some((mail, noun))
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
        let variant = match mail_and_noun(&media)?.1 {
            "video" => Variant::Watermarked,
            "image" => Variant::Clean,
            "audio" => Variant::Unknown,
            _ => return None,
        };
        let path = format!("v1/google-vids/media/{}", encoded(&media));
        let others = vec![at_provider(&path, variant, Access::Provider)?];
        Some(Item { slot: "media".to_owned(), others, ..Item::default() })
    });
    attach(&mut observation, name, file.into_iter().collect());
    Some(observation)
}
