//! Gemini Notebook.

use replyvault_domain::Kind;

use super::{Api, Body, Create, FileForm, FileSpec, Form, List, MediaCall, Paging, Row, Spelling, mail, page};

pub(super) const GEMINI_NOTEBOOK: Api = Api {
    creates: &[Create::new("artifacts", &[("audio", &AUDIO), ("slides", &SLIDES), ("report", &REPORT)])],
    spelling: Spelling::Encoded,
    reply_in: "request",
    lists: &[List { path: "jobs", rows: "", row: Row::Running, paging: Paging::None, size: 100 }],
    media_call: Some(MediaCall { prefix: "artifacts/download", parameters: &["artifact", "format"], answer: None }),
    ..Api::new("gemini-notebook", "/v1/gemini-notebook")
};

/// The artifact of a job.
macro_rules! artifact {
    () => {
        concat!("user:4821-", mail!(), "-artifact:2f4c4c2e-9a53-4a52-8f0f-6a9be3b8f0c7:{uuid}")
    };
}

/// Where a file of it is, as a body says it.
macro_rules! download {
    ($format:literal) => {
        concat!(
            "\"{base}/v1/gemini-notebook/artifacts/download?artifact=user%3A4821-studio%40example.com-artifact%3A2f4c4c2e-9a53-",
            "4a52-8f0f-6a9be3b8f0c7%3A{uuid}&format=",
            $format,
            "\""
        )
    };
}

const ARTIFACT: (&str, &str) = ("/artifact", concat!("\"", artifact!(), "\""));

const AUDIO: Form = Form {
    api: "gemini-notebook",
    kind: Kind::Speech,
    id: concat!("job:{uuid}-user:4821-", mail!(), "-bot:gemini_notebook"),
    is_anonymous: false,
    one: "jobs/",
    list: "jobs",
    id_at: "/jobid",
    created_at: "/created_at",
    prompt_at: "",
    running: Body::edited(page!("gemini-notebook-progress"), &[ARTIFACT]),
    completed: Body::edited(page!("gemini-notebook-completed"), &[ARTIFACT, ("/result/files/0/url", download!("m4a"))]),
    failed: Body::edited(page!("gemini-notebook-failed"), &[ARTIFACT, ("/type", "\"audio\"")]),
    moderated: Body::new(page!("gemini-notebook-moderated")),
    marked: None,
    inline: None,
    files: &[FileSpec::plain(FileForm::M4a).called(concat!(
        "artifacts/download?artifact=",
        artifact!(),
        "&format=m4a"
    ))],
    hides_running: false,
    hides_moderated: false,
    is_late: false,
};

const AS_SLIDES: &[(&str, &str)] = &[ARTIFACT, ("/type", "\"slides\"")];

const SLIDES: Form = Form {
    kind: Kind::Other,
    running: Body { edits: AS_SLIDES, ..AUDIO.running },
    completed: Body::edited(
        page!("gemini-notebook-slides-completed"),
        &[ARTIFACT, ("/result/files/0/url", download!("pdf")), ("/result/files/1/url", download!("pptx"))],
    ),
    failed: Body { edits: AS_SLIDES, ..AUDIO.failed },
    moderated: Body { edits: &[("/type", "\"slides\"")], ..AUDIO.moderated },
    files: &[
        FileSpec::plain(FileForm::Pdf).called(concat!("artifacts/download?artifact=", artifact!(), "&format=pdf")),
        FileSpec::plain(FileForm::Pptx).called(concat!("artifacts/download?artifact=", artifact!(), "&format=pptx")),
    ],
    ..AUDIO
};

const AS_REPORT: &[(&str, &str)] = &[ARTIFACT, ("/type", "\"report\"")];

/// Whose body is the result.
const REPORT: Form = Form {
    kind: Kind::Other,
    running: Body { edits: AS_REPORT, ..AUDIO.running },
    completed: Body::edited(page!("gemini-notebook-text-completed"), &[ARTIFACT]),
    failed: Body { edits: AS_REPORT, ..AUDIO.failed },
    moderated: Body { edits: &[("/type", "\"report\"")], ..AUDIO.moderated },
    files: &[],
    ..AUDIO
};
