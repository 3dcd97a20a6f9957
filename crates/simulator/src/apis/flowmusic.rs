//! Flow Music.

use replyvault_domain::Kind;

use super::Rendition::{Plain, Poster};
use super::{Api, Body, Create, FileForm, FileSpec, Form, List, Paging, Row, mail, page};

pub(super) const FLOWMUSIC: Api = Api {
    creates: &[Create::new("music", &[("", &SONG)]), Create::new("music/edit", &[("", &SONG)])],
    reply_in: "request",
    lists: &[List { path: "jobs", rows: "", row: Row::Running, paging: Paging::None, size: 100 }],
    ..Api::new("flowmusic", "/v1/flowmusic")
};

const SONG: Form = Form {
    api: "flowmusic",
    kind: Kind::Music,
    id: concat!("job:{uuid}-user:4821-", mail!(), "-bot:flowmusic"),
    is_anonymous: false,
    one: "jobs/",
    list: "jobs",
    id_at: "/jobid",
    created_at: "/created_at",
    prompt_at: "/request/prompt",
    running: Body::new(page!("flowmusic-progress")),
    completed: Body::linked(
        page!("flowmusic-completed"),
        &[
            ("/clips/0/wav_url", 0, Plain),
            ("/clips/0/audio_url", 2, Plain),
            ("/clips/0/image_url", 0, Poster),
            ("/clips/1/wav_url", 1, Plain),
            ("/clips/1/audio_url", 3, Plain),
            ("/clips/1/image_url", 1, Poster),
        ],
    ),
    failed: Body::new(page!("flowmusic-failed")),
    moderated: Body::new(page!("flowmusic-moderated")),
    marked: None,
    inline: None,
    files: &[
        FileSpec::plain(FileForm::Wav),
        FileSpec::plain(FileForm::Wav),
        FileSpec::plain(FileForm::M4a).other(),
        FileSpec::plain(FileForm::M4a).other(),
    ],
    hides_running: false,
    hides_moderated: false,
    is_late: false,
};
