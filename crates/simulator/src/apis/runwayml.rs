//! Runway.

use replyvault_domain::Kind;

use super::Rendition::{Clean, Marked, Plain, Poster};
use super::{Api, Body, Create, FileForm, FileSpec, Form, List, Paging, Row, mail, page};
use crate::job::Variant;

pub(super) const RUNWAYML: Api = Api {
    creates: &[
        Create::new("videos/create", &[("", &VIDEO)]),
        Create::new("gen4/upscale", &[("", &VIDEO)]),
        Create::new("images/create", &[("", &IMAGES)]),
        Create::new("frames/create", &[("", &IMAGES)]),
    ],
    shows_reply: false,
    calls_progress: true,
    lists: &[List { path: "tasks", rows: "tasks", row: Row::Job, paging: Paging::Offset("", true), size: 20 }],
    ..Api::new("runwayml", "/v1/runwayml")
};

const VIDEO: Form = Form {
    api: "runwayml",
    kind: Kind::Video,
    id: concat!("user:4821-runwayml:", mail!(), "-task:{uuid}"),
    is_anonymous: false,
    one: "tasks/",
    list: "tasks",
    id_at: "/taskId",
    created_at: "/createdAt",
    prompt_at: "/options/text_prompt",
    running: Body::new(page!("runwayml-progress")),
    completed: Body::linked(
        page!("runwayml-completed"),
        &[("/artifacts/0/url", 0, Clean), ("/artifacts/0/previewUrls/0", 0, Poster)],
    ),
    failed: Body::new(page!("runwayml-failed")),
    moderated: Body::new(page!("runwayml-moderated")),
    marked: Some(Body {
        edits: &[("/options/watermark", "true")],
        links: &[("/artifacts/0/url", 0, Marked), ("/artifacts/0/previewUrls/0", 0, Poster)],
        text: page!("runwayml-completed"),
    }),
    inline: None,
    files: &[FileSpec::new(FileForm::Mp4, Clean, Variant::Clean)],
    hides_running: false,
    hides_moderated: false,
    is_late: false,
};

const IMAGES: Form = Form {
    kind: Kind::Image,
    prompt_at: "",
    completed: Body::linked(
        page!("runwayml-image-completed"),
        &[("/artifacts/0/url", 0, Plain), ("/artifacts/1/url", 1, Plain)],
    ),
    marked: None,
    files: &[FileSpec::plain(FileForm::Png), FileSpec::plain(FileForm::Png)],
    ..VIDEO
};
