//! Google Flow.

use replyvault_domain::Kind;

use super::Rendition::{Inline, Plain, Poster};
use super::{Api, Body, Create, FileForm, FileSpec, Form, Spelling, mail, page};

pub(super) const GOOGLE_FLOW: Api = Api {
    creates: &[
        Create { status: 201, ..Create::new("videos", &[("", &VIDEO)]) },
        Create { status: 201, ..Create::new("videos/extend", &[("", &VIDEO)]) },
        Create { status: 201, ..Create::new("videos/upscale", &[("", &VIDEO)]) },
        Create { status: 201, ..Create::new("images", &[("", &IMAGE)]) },
    ],
    spelling: Spelling::Raw,
    reply_in: "request",
    ..Api::new("google-flow", "/v1/google-flow")
};

const VIDEO: Form = Form {
    api: "google-flow",
    kind: Kind::Video,
    id: concat!("j{own}v-u4821-email:", mail!(), "-bot:google-flow"),
    is_anonymous: false,
    one: "jobs/",
    list: "",
    id_at: "/jobid",
    created_at: "/created",
    prompt_at: "/request/prompt",
    running: Body::new(page!("google-flow-progress")),
    completed: Body::linked(
        page!("google-flow-completed"),
        &[("/response/media/0/videoUrl", 0, Plain), ("/response/media/0/thumbnailUrl", 0, Poster)],
    ),
    failed: Body::new(page!("google-flow-failed")),
    moderated: Body::new(page!("google-flow-moderated")),
    marked: None,
    inline: None,
    files: &[FileSpec::plain(FileForm::Mp4)],
    hides_running: false,
    hides_moderated: false,
    is_late: false,
};

const AS_IMAGE: &[(&str, &str)] = &[("/type", "\"image\"")];

const IMAGE: Form = Form {
    kind: Kind::Image,
    id: concat!("j{own}i-u4821-email:", mail!(), "-bot:google-flow"),
    running: Body::edited(page!("google-flow-progress"), AS_IMAGE),
    completed: Body::linked(
        page!("google-flow-image-completed"),
        &[
            ("/response/media/0/image/generatedImage/fifeUrl", 0, Plain),
            ("/response/media/1/image/generatedImage/fifeUrl", 1, Plain),
        ],
    ),
    failed: Body::edited(page!("google-flow-failed"), AS_IMAGE),
    moderated: Body::edited(page!("google-flow-moderated"), AS_IMAGE),
    inline: Some(Body::linked(
        page!("google-flow-image-inline"),
        &[("/response/media/0/image/generatedImage/encodedImage", 0, Inline)],
    )),
    files: &[FileSpec::plain(FileForm::Png), FileSpec::plain(FileForm::Png)],
    ..VIDEO
};
