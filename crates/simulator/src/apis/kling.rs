//! Kling.

use replyvault_domain::Kind;

use super::Rendition::{Clean, Marked, Plain, Poster};
use super::{Api, Body, Create, Created, FileForm, FileSpec, Form, List, MediaCall, Paging, Row, page};
use crate::job::Variant;

pub(super) const KLING: Api = Api {
    creates: &[
        create("videos/text2video", &[("", &VIDEO)]),
        create("videos/image2video-frames", &[("", &VIDEO)]),
        create("videos/omni", &[("", &VIDEO)]),
        create("images/kolors", &[("", &IMAGE)]),
        create("images/omni", &[("", &IMAGE)]),
    ],
    shows_reply: false,
    calls_progress: true,
    lists: &[
        List { path: "tasks", rows: "history", row: Row::Job, paging: Paging::Before, size: 20 },
        List { path: "scheduler", rows: "", row: Row::Mention("id"), paging: Paging::None, size: 100 },
    ],
    media_call: Some(MediaCall {
        prefix: "assets/download",
        parameters: &["workIds", "fileTypes"],
        answer: Some(r#"{"cdnUrl": "{link}", "status": "success"}"#),
    }),
    ..Api::new("kling", "/v1/kling")
};

const fn create(path: &'static str, forms: &'static [(&'static str, &'static Form)]) -> Create {
    Create { answer: Created::Member("task"), ..Create::new(path, forms) }
}

const VIDEO: Form = Form {
    api: "kling",
    kind: Kind::Video,
    id: "{own}",
    is_anonymous: true,
    one: "tasks/",
    list: "tasks",
    id_at: "/task/id",
    created_at: "/task/createTime",
    prompt_at: "/task/taskInfo/arguments/0/value",
    running: Body::new(page!("kling-progress")),
    completed: Body {
        edits: &[("/works/0/workId", "{own}1")],
        links: &[("/works/0/resource/resource", 0, Marked), ("/works/0/cover/resource", 0, Poster)],
        text: page!("kling-completed"),
    },
    failed: Body::new(page!("kling-failed")),
    moderated: Body::new(page!("kling-moderated")),
    marked: None,
    inline: None,
    // The link in the body is that of the marked file; the call gives the clean one.
    files: &[FileSpec::new(FileForm::Mp4, Clean, Variant::Clean).called("assets/download?workIds={own}1&fileTypes=MP4")],
    hides_running: false,
    hides_moderated: true,
    is_late: false,
};

const IMAGE: Form = Form {
    kind: Kind::Image,
    completed: Body {
        edits: &[("/works/0/workId", "{own}1"), ("/works/1/workId", "{own}2")],
        links: &[("/works/0/resource/resource", 0, Plain), ("/works/1/resource/resource", 1, Plain)],
        text: page!("kling-image-completed"),
    },
    files: &[FileSpec::plain(FileForm::Png), FileSpec::plain(FileForm::Png)],
    ..VIDEO
};
