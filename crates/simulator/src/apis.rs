//! The provider's APIs beside its first one, as a table: a file for each, with the bodies of the provider's pages as templates.
//!
//! What an API answers, and calls back with, is such a body with a job's own ids, times, links and reply fields in it, and no
//! field more. Nothing outside of these files knows names of APIs.

mod body;
mod dreamina;
mod faceswap;
mod flowmusic;
mod gemini_notebook;
mod google_flow;
mod google_vids;
mod kling;
mod minimax;
mod mureka;
mod pixverse;
mod runwayml;
mod tempolor;

use replyvault_domain::{JobId, JobIdParseError, Kind};

use super::job::{Form as FileForm, Variant};
pub(super) use body::{body, filled, mention, written};

/// Every API. Of the first one only what it makes nowadays is in this table; the rest has handlers of its own.
pub(super) const ALL: [&Api; 12] = [
    &minimax::MINIMAX,
    &google_flow::GOOGLE_FLOW,
    &flowmusic::FLOWMUSIC,
    &dreamina::DREAMINA,
    &kling::KLING,
    &runwayml::RUNWAYML,
    &pixverse::PIXVERSE,
    &mureka::MUREKA,
    &tempolor::TEMPOLOR,
    &faceswap::FACESWAP,
    &google_vids::GOOGLE_VIDS,
    &gemini_notebook::GEMINI_NOTEBOOK,
];

/// A body of the provider's pages.
macro_rules! page {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../src/provider/apis/fixtures/", $name, ".json"))
    };
}
use page;

/// The account that jobs of most APIs run on.
macro_rules! mail {
    () => {
        "studio@example.com"
    };
}
use mail;

/// One API.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) name: &'static str,
    /// What its paths begin with.
    pub(super) base: &'static str,
    pub(super) creates: &'static [Create],
    pub(super) spelling: Spelling,
    /// The member that the caller's reply fields stand in; empty for the top level.
    pub(super) reply_in: &'static str,
    /// Whether they stand in the answers of GET, too.
    pub(super) shows_reply: bool,
    /// Whether it calls back before the end.
    pub(super) calls_progress: bool,
    pub(super) lists: &'static [List],
    pub(super) media_call: Option<MediaCall>,
}

impl Api {
    /// Nothing but a name and a path.
    const fn new(name: &'static str, base: &'static str) -> Self {
        Self {
            name,
            base,
            creates: &[],
            spelling: Spelling::Any,
            reply_in: "",
            shows_reply: true,
            calls_progress: false,
            lists: &[],
            media_call: None,
        }
    }
}

/// How an id stands in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    Any,
    /// An encoded one is refused.
    Raw,
    /// One that is not encoded is refused.
    Encoded,
}

/// A call that makes jobs.
#[derive(Debug)]
pub(super) struct Create {
    /// Below the base.
    pub(super) path: &'static str,
    /// The field that says which of the forms; the first where it is not given.
    pub(super) by: &'static str,
    pub(super) forms: &'static [(&'static str, &'static Form)],
    pub(super) count: u64,
    pub(super) status: u16,
    pub(super) answer: Created,
}

impl Create {
    /// One that makes a job and answers 200 with its record.
    const fn new(path: &'static str, forms: &'static [(&'static str, &'static Form)]) -> Self {
        Self { path, by: "type", forms, count: 1, status: 200, answer: Created::Record }
    }
}

/// What a call that makes jobs answers.
#[derive(Debug)]
pub(super) enum Created {
    /// The job as it is now.
    Record,
    /// This member of it.
    Member(&'static str),
    /// `{name: id}`
    Id(&'static str),
    /// `{name: [id, …]}`
    Ids(&'static str),
}

/// What becomes of a call, by its bodies.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) api: &'static str,
    pub(super) kind: Kind,
    /// The grammar of its ids: `{own}` are digits, `{uuid}` and `{hex}` the same number otherwise.
    pub(super) id: &'static str,
    /// Whether the ids do not name the API.
    pub(super) is_anonymous: bool,
    /// What its GET begins with, below the base: the rest is the id.
    pub(super) one: &'static str,
    /// The list that shows it; empty for none.
    pub(super) list: &'static str,
    /// Where the id stands, the time at which it was made, and the caller's prompt.
    pub(super) id_at: &'static str,
    pub(super) created_at: &'static str,
    pub(super) prompt_at: &'static str,
    pub(super) running: Body,
    pub(super) completed: Body,
    pub(super) failed: Body,
    pub(super) moderated: Body,
    /// Completed with nothing but marked files.
    pub(super) marked: Option<Body>,
    /// Completed with the files in the body itself.
    pub(super) inline: Option<Body>,
    pub(super) files: &'static [FileSpec],
    /// Whether GET denies a job that still runs.
    pub(super) hides_running: bool,
    /// Whether GET denies a refused job.
    pub(super) hides_moderated: bool,
    /// Whether a file may not be there yet when the job is complete.
    pub(super) is_late: bool,
}

/// A template.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body {
    pub(super) text: &'static str,
    /// Pointers and what is to stand there, as JSON with `{id}`, `{own}`, `{uuid}`, `{hex}` and `{base}` filled in.
    pub(super) edits: &'static [(&'static str, &'static str)],
    /// Pointers and the link to stand there: the file's place, and which form of it.
    pub(super) links: &'static [(&'static str, usize, Rendition)],
}

impl Body {
    const fn new(text: &'static str) -> Self {
        Self { text, edits: &[], links: &[] }
    }

    const fn edited(text: &'static str, edits: &'static [(&'static str, &'static str)]) -> Self {
        Self { text, edits, links: &[] }
    }

    const fn linked(text: &'static str, links: &'static [(&'static str, usize, Rendition)]) -> Self {
        Self { text, edits: &[], links }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rendition {
    Clean,
    Plain,
    Marked,
    Poster,
    /// The plain file's bytes, in base64.
    Inline,
}

/// A file that a completed job has.
#[derive(Debug)]
pub(super) struct FileSpec {
    pub(super) form: FileForm,
    /// Which of its bytes count, and what is said of them.
    pub(super) rendition: Rendition,
    pub(super) variant: Variant,
    /// The same as another file, in another container.
    pub(super) is_other: bool,
    /// Path and query, below the base and decoded, of the call that gives it; with the placeholders of [`Body::edits`].
    pub(super) call: &'static str,
}

impl FileSpec {
    const fn new(form: FileForm, rendition: Rendition, variant: Variant) -> Self {
        Self { form, rendition, variant, is_other: false, call: "" }
    }

    /// Of whose watermark nothing is said.
    const fn plain(form: FileForm) -> Self {
        Self::new(form, Rendition::Plain, Variant::Unknown)
    }

    const fn called(self, call: &'static str) -> Self {
        Self { call, ..self }
    }

    const fn other(self) -> Self {
        Self { is_other: true, ..self }
    }
}

/// The call with the token that gives files.
#[derive(Debug)]
pub(super) struct MediaCall {
    /// What its path begins with, below the base.
    pub(super) prefix: &'static str,
    /// The parameters that count, in this order.
    pub(super) parameters: &'static [&'static str],
    /// An answer with `{link}` in it; without one, the file itself is answered.
    pub(super) answer: Option<&'static str>,
}

/// A list.
#[derive(Debug)]
pub(super) struct List {
    pub(super) path: &'static str,
    /// The member that holds the rows; empty where the answer itself is the list.
    pub(super) rows: &'static str,
    pub(super) row: Row,
    pub(super) paging: Paging,
    pub(super) size: usize,
}

#[derive(Debug)]
pub(super) enum Row {
    /// As GET of the job answers.
    Job,
    /// The same, of running jobs alone.
    Running,
    /// Running jobs by their ids under this name, with the caller's reply fields.
    Mention(&'static str),
    /// A template of its own, of completed jobs.
    Other(&'static Body),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Paging {
    None,
    /// `offset` and `limit`, and the next offset under this name; required where `true`.
    Offset(&'static str, bool),
    /// Jobs made before `createdBefore`, in milliseconds, at most `pageSize`.
    Before,
    /// `cursor`, and the next one under the same name.
    Cursor,
    /// `page`, counted from 1, and `page_size`; `has_more` says whether there is another.
    Page,
}

/// A call that makes jobs, of any API but the first's older ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateCall {
    /// The API.
    pub provider: &'static str,
    /// Where its paths begin, with a slash in front.
    pub base: &'static str,
    /// What follows, without one.
    pub path: &'static str,
    /// The field that decides what is made, and its value; both empty where the path alone does.
    pub choice: (&'static str, &'static str),
    /// How many jobs it makes.
    pub jobs: u64,
}

/// Every call of the table that makes jobs.
pub(super) fn creates() -> impl Iterator<Item = CreateCall> {
    ALL.into_iter().flat_map(|api| {
        api.creates.iter().flat_map(move |create| {
            create.forms.iter().map(move |(value, _)| CreateCall {
                provider: api.name,
                base: api.base,
                path: create.path,
                choice: if value.is_empty() { ("", "") } else { (create.by, value) },
                jobs: create.count,
            })
        })
    })
}

/// The API of a name.
pub(super) fn of(name: &str) -> Option<&'static Api> {
    ALL.into_iter().find(|api| api.name == name)
}

impl Form {
    /// The id of the job with this number, as the provider writes it.
    pub(super) fn sent_id(&self, own: u64) -> String {
        filled(self.id, own, "", "")
    }

    /// The same as replyvault knows it.
    pub(super) fn job_id(&self, own: u64) -> Result<JobId, JobIdParseError> {
        self.known(&self.sent_id(own))
    }

    pub(super) fn known(&self, sent: &str) -> Result<JobId, JobIdParseError> {
        if self.is_anonymous { JobId::prefixed(self.api, sent) } else { sent.parse() }
    }

    pub(super) fn api(&self) -> Option<&'static Api> {
        of(self.api)
    }
}

#[cfg(test)]
mod tests;
