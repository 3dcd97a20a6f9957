//! Mureka.

use replyvault_domain::Kind;

use super::Rendition::{Plain, Poster};
use super::{Api, Body, Create, FileForm, FileSpec, Form, List, Paging, Row, page};

pub(super) const MUREKA: Api = Api {
    creates: &[
        Create::new("music/create", &[("", &MUSIC)]),
        Create::new("music/create-advanced", &[("", &MUSIC)]),
        Create::new("music/create-instrumental", &[("", &MUSIC)]),
        Create::new("music/extend", &[("", &MUSIC)]),
        Create::new("speech", &[("", &SPEECH)]),
    ],
    reply_in: "request",
    calls_progress: true,
    lists: &[List { path: "jobs", rows: "", row: Row::Running, paging: Paging::None, size: 100 }],
    ..Api::new("mureka", "/v1/mureka")
};

const MUSIC: Form = Form {
    api: "mureka",
    kind: Kind::Music,
    id: "j{own}m-u4821-a73001552298761-bot:mureka",
    is_anonymous: false,
    one: "jobs/",
    list: "jobs",
    id_at: "/jobid",
    created_at: "/created",
    prompt_at: "/request/prompt",
    running: Body::new(page!("mureka-progress")),
    completed: Body::linked(
        page!("mureka-completed"),
        &[
            ("/response/songs/0/mp3_url", 0, Plain),
            ("/response/songs/0/cover", 0, Poster),
            ("/response/songs/1/mp3_url", 1, Plain),
            ("/response/songs/1/cover", 1, Poster),
        ],
    ),
    failed: Body::new(page!("mureka-failed")),
    moderated: Body::new(page!("mureka-moderated")),
    marked: None,
    inline: None,
    files: &[FileSpec::plain(FileForm::Mp3), FileSpec::plain(FileForm::Mp3)],
    hides_running: false,
    hides_moderated: false,
    is_late: false,
};

const AS_SPEECH: &[(&str, &str)] = &[("/jobType", "\"tts\""), ("/verb", "\"speech\"")];

const SPEECH: Form = Form {
    kind: Kind::Speech,
    id: "j{own}t-u4821-a73001552298761-bot:mureka",
    prompt_at: "/request/text",
    running: Body { edits: AS_SPEECH, ..MUSIC.running },
    completed: Body::linked(
        page!("mureka-speech-completed"),
        &[("/response/mp3_url", 0, Plain), ("/response/cover", 0, Poster)],
    ),
    failed: Body { edits: AS_SPEECH, ..MUSIC.failed },
    moderated: Body { edits: AS_SPEECH, ..MUSIC.moderated },
    files: &[FileSpec::plain(FileForm::Mp3)],
    ..MUSIC
};
