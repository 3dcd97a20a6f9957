//! Google Vids.

use replyvault_domain::Kind;

use super::Rendition::{Marked, Plain};
use super::{Api, Body, Create, FileForm, FileSpec, Form, MediaCall, Spelling, mail, page};
use crate::job::Variant;

pub(super) const GOOGLE_VIDS: Api = Api {
    creates: &[
        Create::new("videos", &[("", &VIDEO)]),
        Create::new("videos/extend", &[("", &VIDEO)]),
        Create::new("images", &[("", &IMAGE)]),
    ],
    spelling: Spelling::Encoded,
    reply_in: "request",
    media_call: Some(MediaCall { prefix: "media/", parameters: &[], answer: None }),
    ..Api::new("google-vids", "/v1/google-vids")
};

const VIDEO: Form = Form {
    api: "google-vids",
    kind: Kind::Video,
    id: concat!("user:4821-", mail!(), "-job:{uuid}"),
    is_anonymous: true,
    one: "jobs/",
    list: "",
    id_at: "/jobid",
    created_at: "/created",
    prompt_at: "/request/prompt",
    running: Body::new(page!("google-vids-progress")),
    completed: Body::edited(
        page!("google-vids-completed"),
        &[("/result/mediaId", concat!("\"user:4821-", mail!(), "-video:{uuid}\""))],
    ),
    failed: Body::new(page!("google-vids-failed")),
    moderated: Body::new(page!("google-vids-moderated")),
    marked: None,
    inline: None,
    files: &[FileSpec::new(FileForm::Mp4, Marked, Variant::Watermarked).called(concat!(
        "media/user:4821-",
        mail!(),
        "-video:{uuid}"
    ))],
    hides_running: false,
    hides_moderated: false,
    is_late: false,
};

const AS_IMAGE: &[(&str, &str)] = &[("/jobid", "\"{id}\""), ("/type", "\"image\"")];

/// Its ids are of the other grammar, which names the API.
const IMAGE: Form = Form {
    kind: Kind::Image,
    id: concat!("j{own}i-u4821-", mail!(), "-bot:google-vids"),
    is_anonymous: false,
    running: Body { edits: AS_IMAGE, ..VIDEO.running },
    completed: Body::edited(
        page!("google-vids-image-completed"),
        &[("/result/mediaId", concat!("\"user:4821-", mail!(), "-image:{uuid}\""))],
    ),
    failed: Body { edits: AS_IMAGE, ..VIDEO.failed },
    moderated: Body { edits: AS_IMAGE, ..VIDEO.moderated },
    files: &[FileSpec::new(FileForm::Jpeg, Plain, Variant::Clean).called(concat!(
        "media/user:4821-",
        mail!(),
        "-image:{uuid}"
    ))],
    ..VIDEO
};
