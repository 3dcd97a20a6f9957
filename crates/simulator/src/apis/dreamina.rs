//! Dreamina.

use replyvault_domain::Kind;

use super::Rendition::{Clean, Marked, Plain, Poster};
use super::{Api, Body, Create, FileForm, FileSpec, Form, List, Paging, Row, Spelling, mail, page};
use crate::job::Variant;

pub(super) const DREAMINA: Api = Api {
    creates: &[
        Create::new("videos", &[("", &VIDEO)]),
        Create::new("videos/upscale", &[("", &UPSCALED)]),
        Create::new("images", &[("", &IMAGE)]),
    ],
    spelling: Spelling::Raw,
    reply_in: "request",
    lists: &[List { path: "scheduler", rows: "", row: Row::Mention("jobid"), paging: Paging::None, size: 100 }],
    ..Api::new("dreamina", "/v1/dreamina")
};

const VIDEO: Form = Form {
    api: "dreamina",
    kind: Kind::Video,
    id: concat!("j{own}v-u4821-US:", mail!(), "-bot:dreamina"),
    is_anonymous: false,
    one: "videos/",
    list: "scheduler",
    id_at: "/jobid",
    created_at: "/created",
    prompt_at: "/request/prompt",
    running: Body::new(page!("dreamina-progress")),
    completed: Body::linked(
        page!("dreamina-completed"),
        &[
            ("/response/videoUrl", 0, Clean),
            ("/response/videoUrlBackup", 0, Clean),
            ("/response/videoUrlWatermarked", 0, Marked),
            ("/response/coverUrl", 0, Poster),
        ],
    ),
    failed: Body::new(page!("dreamina-failed")),
    moderated: Body::new(page!("dreamina-moderated")),
    marked: Some(Body::linked(page!("dreamina-completed-watermarked"), &[("/response/videoUrl", 0, Marked)])),
    inline: None,
    files: &[FileSpec::new(FileForm::Mp4, Clean, Variant::Clean)],
    hides_running: false,
    hides_moderated: false,
    is_late: false,
};

const AS_UPSCALED: &[(&str, &str)] = &[("/type", "\"video-upscale\"")];

/// The letter of its id differs in nothing but case.
const UPSCALED: Form = Form {
    id: concat!("j{own}V-u4821-US:", mail!(), "-bot:dreamina"),
    running: Body::new(page!("dreamina-upscale-progress")),
    completed: Body { edits: AS_UPSCALED, ..VIDEO.completed },
    failed: Body { edits: AS_UPSCALED, ..VIDEO.failed },
    moderated: Body { edits: AS_UPSCALED, ..VIDEO.moderated },
    marked: None,
    ..VIDEO
};

const AS_IMAGE: &[(&str, &str)] = &[("/type", "\"image\"")];

const IMAGE: Form = Form {
    kind: Kind::Image,
    id: concat!("j{own}i-u4821-US:", mail!(), "-bot:dreamina"),
    one: "images/",
    running: Body { edits: AS_IMAGE, ..VIDEO.running },
    completed: Body::linked(
        page!("dreamina-image-completed"),
        &[("/response/images/0/imageUrl", 0, Plain), ("/response/images/1/imageUrl", 1, Plain)],
    ),
    failed: Body { edits: AS_IMAGE, ..VIDEO.failed },
    moderated: Body { edits: AS_IMAGE, ..VIDEO.moderated },
    marked: None,
    files: &[FileSpec::plain(FileForm::Jpeg), FileSpec::plain(FileForm::Jpeg)],
    ..VIDEO
};
