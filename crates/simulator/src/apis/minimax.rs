//! MiniMax: speech and music of 2026. What it had before has handlers of its own.

use replyvault_domain::Kind;

use super::Rendition::Plain;
use super::{Api, Body, Create, Created, FileForm, FileSpec, Form, List, Paging, Row, page};

pub(super) const MINIMAX: Api = Api {
    creates: &[
        Create { status: 201, answer: Created::Id("audioId"), ..Create::new("speech/create", &[("", &SPEECH)]) },
        Create { answer: Created::Id("musicId"), ..Create::new("music/create", &[("", &MUSIC)]) },
    ],
    shows_reply: false,
    lists: &[List {
        path: "speech",
        rows: "audio_list",
        row: Row::Other(&HISTORY_ROW),
        paging: Paging::Page,
        size: 20,
    }],
    ..Api::new("minimax", "/v1/minimax")
};

const HISTORY_ROW: Body = Body {
    edits: &[("/audio_id", "\"{id}\"")],
    links: &[("/audio_url", 0, Plain)],
    text: page!("minimax-audio-history-row"),
};

const SPEECH: Form = Form {
    api: "minimax",
    kind: Kind::Speech,
    id: "user:4821-minimax:730015522-audio:{hex}",
    is_anonymous: false,
    one: "speech/",
    list: "speech",
    id_at: "/audioId",
    created_at: "/create_time",
    prompt_at: "/text",
    running: Body::new(page!("minimax-audio-progress")),
    completed: Body {
        edits: &[("/audio_id", "\"{id}\"")],
        links: &[("/audio_url", 0, Plain)],
        text: page!("minimax-audio-completed"),
    },
    failed: Body::new(page!("minimax-audio-failed")),
    moderated: Body::new(page!("minimax-audio-moderated")),
    marked: None,
    inline: None,
    files: &[FileSpec::plain(FileForm::Mp3)],
    hides_running: false,
    hides_moderated: false,
    is_late: false,
};

const MUSIC: Form = Form {
    kind: Kind::Music,
    id: "user:4821-minimax:730015522-music:{own}",
    one: "music/",
    list: "",
    id_at: "/musicId",
    created_at: "",
    prompt_at: "/prompt",
    running: Body::edited(
        page!("minimax-music-completed"),
        &[("/statusLabel", "\"processing\""), ("/statusFinal", "false"), ("/audio_url", "\"\"")],
    ),
    completed: Body::linked(page!("minimax-music-completed"), &[("/audio_url", 0, Plain)]),
    failed: Body::edited(page!("minimax-music-completed"), &[("/statusLabel", "\"failed\""), ("/audio_url", "\"\"")]),
    moderated: Body::edited(
        page!("minimax-music-completed"),
        &[("/statusLabel", "\"moderated\""), ("/audio_url", "\"\"")],
    ),
    ..SPEECH
};
