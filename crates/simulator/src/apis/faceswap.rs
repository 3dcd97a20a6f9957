//! FaceSwap.

use replyvault_domain::Kind;

use super::Rendition::Plain;
use super::{Api, Body, Create, FileForm, FileSpec, Form, List, Paging, Row, page};

pub(super) const FACESWAP: Api = Api {
    creates: &[
        Create::new("picsi", &[("", &PICTURE), ("video", &VIDEO)]),
        Create::new("swapid", &[("", &PICTURE)]),
        Create::new("headshot", &[("", &PICTURE)]),
        Create::new("listid", &[("", &COMMAND)]),
    ],
    lists: &[List { path: "jobs", rows: "", row: Row::Job, paging: Paging::None, size: 1000 }],
    ..Api::new("faceswap", "/v1/faceswap")
};

const PICTURE: Form = Form {
    api: "faceswap",
    kind: Kind::Image,
    id: "{own}-user4821-faceswap",
    is_anonymous: true,
    one: "jobs?jobid=",
    list: "jobs",
    id_at: "/jobid",
    created_at: "/created",
    prompt_at: "/prompt",
    running: Body::new(page!("faceswap-progress")),
    completed: Body::linked(page!("faceswap-completed"), &[("/attachments/0/url", 0, Plain)]),
    failed: Body::new(page!("faceswap-failed")),
    moderated: Body::new(page!("faceswap-moderated")),
    marked: None,
    inline: None,
    files: &[FileSpec::plain(FileForm::Jpeg)],
    hides_running: false,
    hides_moderated: false,
    is_late: false,
};

const VIDEO: Form = Form {
    kind: Kind::Video,
    completed: Body::linked(page!("faceswap-video-completed"), &[("/attachments/0/url", 0, Plain)]),
    files: &[FileSpec::plain(FileForm::Mp4)],
    ..PICTURE
};

/// One that makes no file.
const COMMAND: Form =
    Form { kind: Kind::Other, completed: Body::new(page!("faceswap-command-completed")), files: &[], ..PICTURE };
