//! What the APIs write alike.

use crate::domain::{
    Access, AssetId, AssetSource, Candidate, FileName, JobId, Kind, MediaUrl, Observation, Outcome, Role, Status,
    Timestamp, Variant,
};
use crate::provider::error::ErrorReport;
use crate::provider::json::{Object, Value};
use crate::provider::media::{sidecar, source};
use crate::provider::{MAX_JOBS, believable, budget, label, truncate_redacted};

/// The most files and the like that are looked at in one list.
const MAX_ITEMS: usize = Observation::MAX_ASSETS + 1;

/// What nearly all bodies say: the status, an error, the prompt, when the job was made. No files.
pub(super) fn observation(
    job: JobId,
    kind: Option<Kind>,
    outcome: Option<Outcome>,
    object: &Object<'_>,
) -> Observation {
    let request = object.object("request").unwrap_or_default();
    let text = |name| object.text(name).or_else(|| request.text(name));
    let times = ["created", "created_at", "createdAt"];
    Observation {
        outcome,
        status: status(object.get("status")),
        status_label: object.text("status_name").map(label),
        message: object.text("message").map(truncate_redacted),
        error: error(object),
        prompt: text("prompt").or_else(|| text("text")).map(truncate_redacted),
        details: crate::domain::JobDetails { model: text("model").map(label), ..Default::default() },
        created_at: times.iter().find_map(|name| Timestamp::parse_rfc3339(&object.text(name)?)).and_then(believable),
        kind,
        ..Observation::naming(job)
    }
}

/// The jobs of `api` whose ids are the items of a list.
pub(super) fn ids_in(list: Option<Value<'_>>, api: &str) -> Vec<JobId> {
    let ids = list.and_then(|ids| ids.items_up_to(MAX_JOBS)).unwrap_or_default();
    let ids = ids.into_iter().filter_map(|id| JobId::self_named(&id.text()?).ok());
    ids.filter(|id| super::of(id).is_some_and(|adapter| adapter.name == api)).collect()
}

/// A number, or a word.
pub(super) fn status(value: Option<Value<'_>>) -> Option<Status> {
    let value = value?;
    match value.raw().as_bytes().first() {
        Some(b'"') => value.text().map(label).map(Status::Word),
        _ => value.integer().map(Status::Number),
    }
}

/// What went wrong, in all the words there are.
fn error(object: &Object<'_>) -> Option<String> {
    let error = ErrorReport::read(object).map(|error| error.text);
    let details =
        object.get("errorDetails").and_then(|details| details.text().or_else(|| Some(details.raw().to_owned())));
    match (error, details) {
        (Some(error), Some(details)) => Some(truncate_redacted(format!("{error}: {details}"))),
        (error, details) => error.or(details.map(truncate_redacted)),
    }
}

/// The status that an error names.
pub(super) fn error_code(object: &Object<'_>) -> Option<i64> {
    ErrorReport::read(object).and_then(|error| error.code())
}

/// The provider writes milliseconds; a number too small to be of this century in milliseconds is taken as seconds.
pub(super) fn time(number: i64) -> Option<Timestamp> {
    const YEAR_2001_IN_SECONDS: u64 = 1_000_000_000;
    let number = u64::try_from(number).ok()?;
    let is_seconds = (YEAR_2001_IN_SECONDS..YEAR_2001_IN_SECONDS * 10).contains(&number);
    Timestamp::from_millis(if is_seconds { number * 1000 } else { number }).and_then(believable)
}

/// A file that a completed job names.
#[derive(Default)]
pub(super) struct Item {
    /// Tells it from the job's other files, the same in every body.
    pub(super) slot: String,
    /// Its name where it has one of its own.
    pub(super) name: Option<String>,
    /// Texts in the places of URLs, the best first.
    pub(super) urls: Vec<(Option<String>, Variant)>,
    /// Where else it is to be had.
    pub(super) others: Vec<Candidate>,
    /// A still that stands for it.
    pub(super) poster: Option<String>,
}

/// The objects of a list, each with what tells it from the others, in `slot` or by its place.
pub(super) fn items<'a>(list: Option<Value<'a>>, slot: &str) -> Vec<(String, Object<'a>)> {
    let items = list.and_then(|list| list.items_up_to(MAX_ITEMS)).unwrap_or_default();
    let objects = items.into_iter().enumerate().filter_map(|(place, item)| {
        let object = item.object()?;
        let slot = object.text(slot).unwrap_or_else(|| format!("#{}", place + 1));
        Some((slot, object))
    });
    objects.collect()
}

/// Gives a completed job its files. `name` is what a file without a name is called; several are numbered.
pub(super) fn attach(observation: &mut Observation, name: &str, items: Vec<Item>) {
    if observation.outcome != Some(Outcome::Completed) {
        return;
    }
    let several = items.len() > 1;
    let mut assets: Vec<AssetSource> = Vec::new();
    for (place, item) in items.into_iter().enumerate() {
        let file = FileName::clean(item.name.as_deref().unwrap_or(name));
        let file = if several { file.numbered(place + 1) } else { file };
        let mut slot = AssetId::new(&item.slot);
        if assets.iter().any(|other| other.slot == slot) {
            slot = AssetId::new(&format!("#{}", place + 1));
        }
        let mut media = source(Role::Media, file, item.urls, None);
        media.candidates.extend(item.others);
        media.candidates.sort_by_key(|candidate| candidate.variant);
        media.candidates.shrink_to_fit();
        let poster = if several { format!("{}-poster.jpg", media.file.stem()) } else { "poster.jpg".to_owned() };
        let poster = sidecar(Role::Poster, &poster, item.poster);
        let poster = poster.map(|poster| AssetSource { slot: slot.sidecar(Role::Poster), ..poster });
        assets.push(AssetSource { slot, ..media });
        assets.extend(poster);
    }
    (observation.assets, observation.left_out) = budget::fit(assets);
}

/// What is to be had from the provider itself with our token: at `path`, which is built of checked parts alone, below its
/// base URL.
pub(super) fn at_provider(path: &str, variant: Variant, access: Access) -> Option<Candidate> {
    let url = MediaUrl::parse(&format!("https://{}/{path}", MediaUrl::PROVIDER_HOST)).ok()?;
    Some(Candidate { url, variant, access })
}

/// What stands in the body itself: the picture of the item at `place`, counted from 0, in the list of media.
pub(super) fn inline(place: usize) -> Option<Candidate> {
    let url = MediaUrl::parse(&format!("https://{}/{place}", MediaUrl::INLINE_HOST)).ok()?;
    Some(Candidate { url, variant: Variant::Unknown, access: Access::Inline })
}

/// The outcome by the words that most APIs have.
pub(super) fn word_outcome(word: Option<&str>) -> Option<Outcome> {
    match word? {
        "completed" => Some(Outcome::Completed),
        "failed" => Some(Outcome::Failed),
        _ => None,
    }
}

/// The same, where a failure with the code 422 is a refusal.
pub(super) fn word_outcome_or_refused(object: &Object<'_>) -> Option<Outcome> {
    match word_outcome(object.text("status").as_deref()) {
        Some(Outcome::Failed) if error_code(object) == Some(422) => Some(Outcome::Moderated),
        outcome => outcome,
    }
}
