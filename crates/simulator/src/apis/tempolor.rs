//! TemPolor.

use replyvault_domain::Kind;

use super::Rendition::Poster;
use super::{Api, Body, Create, Created, FileForm, FileSpec, Form, List, MediaCall, Paging, Row, page};

pub(super) const TEMPOLOR: Api = Api {
    creates: &[create("music/song"), create("music/instrumental")],
    shows_reply: false,
    lists: &[
        List { path: "music", rows: "records", row: Row::Job, paging: Paging::Cursor, size: 20 },
        List { path: "scheduler", rows: "", row: Row::Mention("job_id"), paging: Paging::None, size: 100 },
    ],
    media_call: Some(MediaCall {
        prefix: "music/download/",
        parameters: &["file_format"],
        answer: Some(r#"{"url": "{link}", "remainSeconds": 0}"#),
    }),
    ..Api::new("tempolor", "/v1/tempolor")
};

/// Two jobs, each of its own.
const fn create(path: &'static str) -> Create {
    Create { count: 2, answer: Created::Ids("jobs"), ..Create::new(path, &[("", &SONG)]) }
}

const SONG: Form = Form {
    api: "tempolor",
    kind: Kind::Music,
    id: "user:4821-tempolor:620418873305-job:{hex}",
    is_anonymous: false,
    one: "music/",
    list: "music",
    id_at: "/job_id",
    created_at: "/createTime",
    prompt_at: "/ltmMaterialExtendDto/description",
    running: Body::new(page!("tempolor-progress")),
    completed: Body::linked(page!("tempolor-completed"), &[("/cover", 0, Poster)]),
    failed: Body::new(page!("tempolor-failed")),
    moderated: Body::new(page!("tempolor-moderated")),
    marked: None,
    inline: None,
    files: &[
        FileSpec::plain(FileForm::Wav).called("music/download/{id}?file_format=wav"),
        FileSpec::plain(FileForm::Mp3).called("music/download/{id}?file_format=mp3").other(),
    ],
    hides_running: false,
    hides_moderated: false,
    is_late: true,
};
