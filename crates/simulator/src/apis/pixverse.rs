//! PixVerse.

use replyvault_domain::Kind;

use super::Rendition::{Clean, Marked, Plain, Poster};
use super::{Api, Body, Create, Created, FileForm, FileSpec, Form, List, Paging, Row, mail, page};
use crate::job::Variant;

pub(super) const PIXVERSE: Api = Api {
    creates: &[
        create("videos/create", &[("", &VIDEO)], Created::Id("video_id")),
        create("videos/extend", &[("", &VIDEO)], Created::Id("video_id")),
        create("videos/upscale", &[("", &VIDEO)], Created::Id("video_id")),
        Create { count: 2, ..create("images/create", &[("", &IMAGE)], Created::Ids("success_ids")) },
        create("music/create", &[("", &MUSIC)], Created::Id("audio_id")),
        create("speech/create", &[("", &SPEECH)], Created::Id("audio_id")),
    ],
    calls_progress: true,
    lists: &[list("videos", 40), list("images", 50), list("music", 50), list("speech", 50)],
    ..Api::new("pixverse", "/v2/pixverse")
};

const fn create(path: &'static str, forms: &'static [(&'static str, &'static Form)], answer: Created) -> Create {
    Create { path, by: "type", forms, count: 1, status: 200, answer }
}

const fn list(path: &'static str, size: usize) -> List {
    List { path, rows: "data", row: Row::Job, paging: Paging::Offset("next_offset", false), size }
}

const VIDEO: Form = Form {
    api: "pixverse",
    kind: Kind::Video,
    id: concat!("user:4821-pixverse:", mail!(), "-video:{own}"),
    is_anonymous: false,
    one: "videos/",
    list: "videos",
    id_at: "/video_id",
    created_at: "/created_at",
    prompt_at: "/prompt",
    running: Body::new(page!("pixverse-progress")),
    completed: Body::linked(page!("pixverse-completed"), &[("/url", 0, Clean), ("/img_url", 0, Poster)]),
    failed: Body::new(page!("pixverse-failed")),
    moderated: Body::edited(
        page!("pixverse-failed"),
        &[("/video_status", "7"), ("/video_status_name", "\"MODERATED\"")],
    ),
    marked: Some(Body {
        edits: &[("/remove_watermark", "0")],
        links: &[("/url", 0, Marked), ("/img_url", 0, Poster)],
        text: page!("pixverse-completed"),
    }),
    inline: None,
    files: &[FileSpec::new(FileForm::Mp4, Clean, Variant::Clean)],
    hides_running: true,
    hides_moderated: false,
    is_late: false,
};

const IMAGE: Form = Form {
    kind: Kind::Image,
    id: concat!("user:4821-pixverse:", mail!(), "-image:{own}"),
    one: "images/",
    list: "images",
    id_at: "/image_id",
    running: Body::edited(
        page!("pixverse-image-completed"),
        &[
            ("/image_status", "5"),
            ("/image_status_name", "\"QUEUED\""),
            ("/image_status_final", "false"),
            ("/image_url", "\"\""),
        ],
    ),
    completed: Body::linked(page!("pixverse-image-completed"), &[("/image_url", 0, Clean)]),
    failed: Body::edited(page!("pixverse-moderated"), &[("/image_status", "8"), ("/image_status_name", "\"FAILED\"")]),
    moderated: Body::new(page!("pixverse-moderated")),
    marked: Some(Body {
        edits: &[("/water_mark", "true")],
        links: &[("/image_url", 0, Marked)],
        text: page!("pixverse-image-completed"),
    }),
    files: &[FileSpec::new(FileForm::Webp, Clean, Variant::Clean)],
    hides_running: false,
    ..VIDEO
};

const AUDIO_RUNNING: &[(&str, &str)] = &[
    ("/audio_status", "10"),
    ("/audio_status_name", "\"GENERATING\""),
    ("/audio_status_final", "false"),
    ("/status", "\"processing\""),
    ("/url", "\"\""),
];

const MUSIC: Form = Form {
    kind: Kind::Music,
    id: concat!("user:4821-pixverse:", mail!(), "-music:{own}"),
    one: "music/",
    list: "music",
    id_at: "/audio_id",
    running: Body::edited(page!("pixverse-music-completed"), AUDIO_RUNNING),
    completed: Body::linked(page!("pixverse-music-completed"), &[("/url", 0, Plain)]),
    failed: Body::new(page!("pixverse-music-failed")),
    moderated: Body::new(page!("pixverse-music-failed")),
    marked: None,
    files: &[FileSpec::plain(FileForm::Mp3)],
    hides_running: false,
    ..VIDEO
};

const SPEECH: Form = Form {
    kind: Kind::Speech,
    id: concat!("user:4821-pixverse:", mail!(), "-speech:{own}"),
    one: "speech/",
    list: "speech",
    running: Body::edited(page!("pixverse-speech-completed"), AUDIO_RUNNING),
    completed: Body::linked(page!("pixverse-speech-completed"), &[("/url", 0, Plain)]),
    failed: Body::edited(page!("pixverse-music-failed"), &[("/audio_id", "\"{id}\""), ("/create_mode", "\"voice\"")]),
    moderated: Body::edited(
        page!("pixverse-music-failed"),
        &[("/audio_id", "\"{id}\""), ("/create_mode", "\"voice\"")],
    ),
    ..MUSIC
};
