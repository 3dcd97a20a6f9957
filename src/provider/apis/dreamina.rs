//! Dreamina (Seedance, Seedream): `/v1/dreamina`.

use super::common::{Item, attach, items, observation, word_outcome};
use super::{Adapter, is_mail, letter};
use crate::domain::{JobId, JobIdParts, Kind, Observation, Variant};
use crate::provider::endpoint::{Created, Endpoint, Row};
use crate::provider::json::Object;

pub(super) const DREAMINA: Adapter = Adapter {
    hosts: &["v3-web.douyinvod.com", "p9-sign.douyinpic.com", "*.ibyteimg.com", "*.byteimg.com"],
    is_id,
    reply_ref_in: "request",
    // Raw, and by the letter: the other path answers 404.
    job_path: |id| {
        let list = if kind(id.parts().own)? == Kind::Video { "videos" } else { "images" };
        Some(format!("{list}/{}", id.as_sent()))
    },
    kept_days: 30,
    endpoints: &[
        Row("POST", "videos|images", Endpoint::Create(Created::Job)),
        Row("POST", "videos/upscale|interpolate", Endpoint::Create(Created::Job)),
        Row("POST", "images/upscale", Endpoint::Create(Created::Job)),
        Row("GET", "videos|images/*", Endpoint::Job),
        Row("GET", "scheduler", Endpoint::List),
    ],
    running: &["scheduler"],
    ..Adapter::new("dreamina", read)
};

/// `j<digits><letter>-u<user>-<REGION>:<e-mail>-bot:dreamina`
fn is_id(parts: &JobIdParts<'_>) -> bool {
    let account = parts.account.split_once(':');
    let is_region = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase());
    kind(parts.own).is_some() && account.is_some_and(|(region, mail)| is_region(region) && is_mail(mail))
}

fn kind(own: &str) -> Option<Kind> {
    match letter(own)? {
        'v' | 'V' | 'F' => Some(Kind::Video),
        'i' | 'I' => Some(Kind::Image),
        _ => None,
    }
}

fn read(job: JobId, object: &Object<'_>) -> Option<Observation> {
    let kind = kind(job.parts().own);
    let mut observation = observation(job, kind, word_outcome(object.text("status").as_deref()), object);
    let response = object.object("response").unwrap_or_default();
    let files = match kind? {
        Kind::Video => {
            let variant = match response.boolean("watermarked") {
                Some(false) => Variant::Clean,
                Some(true) => Variant::Watermarked,
                None => Variant::Unknown,
            };
            let urls = vec![
                (response.text("videoUrl"), variant),
                (response.text("videoUrlBackup"), variant),
                (response.text("videoUrlWatermarked"), Variant::Watermarked),
            ];
            let is_named = urls.iter().any(|(url, _)| url.is_some());
            let video = Item { slot: "media".to_owned(), urls, poster: response.text("coverUrl"), ..Item::default() };
            Vec::from_iter(is_named.then_some(video))
        }
        _ => items(response.get("images"), "itemId")
            .into_iter()
            .map(|(slot, image)| Item {
                slot,
                urls: vec![(image.text("imageUrl"), Variant::Unknown)],
                ..Item::default()
            })
            .collect(),
    };
    attach(&mut observation, if kind == Some(Kind::Video) { "video.mp4" } else { "image.jpg" }, files);
    Some(observation)
}
