//! A template with a job's own ids, times, links and reply fields in it.

use std::time::Duration;

use base64::Engine as _;
use serde_json::{Map, Value, json};

use replyvault_domain::Timestamp;

use super::{Body, Form, Rendition};
use crate::job::{Asset, Job, Links, Offer, Outcome, Stage};

/// What the job's API says of it at a stage: in a callback, or to who asks.
pub(crate) fn body(job: &Job, form: &Form, stage: &Stage, links: &dyn Links, is_callback: bool) -> Value {
    written(job, form, template(job, form, stage), links, is_callback)
}

fn template<'a>(job: &Job, form: &'a Form, stage: &Stage) -> &'a Body {
    match (stage, job.outcome()) {
        (Stage::Running(_), _) => &form.running,
        (Stage::Final { .. }, Outcome::Failed) => &form.failed,
        (Stage::Final { .. }, Outcome::Moderated) => &form.moderated,
        (Stage::Final { .. }, Outcome::Completed | Outcome::Removed) => match (&form.marked, &form.inline) {
            (Some(marked), _) if job.plan.offer != Offer::Clean => marked,
            (_, Some(inline)) if job.plan.is_inline => inline,
            _ => &form.completed,
        },
    }
}

/// A template, whichever it is, of this job.
pub(crate) fn written(job: &Job, form: &Form, template: &Body, links: &dyn Links, is_callback: bool) -> Value {
    // The rows are tested: each is JSON.
    let mut value: Value = serde_json::from_str(template.text).unwrap_or_default();
    let sent = job.id.as_sent();
    let old = text_at(&value, form.id_at);
    let own = own_part(form, &old);
    let made = value.pointer(form.created_at).and_then(made_at).unwrap_or(job.created);
    let names = Names { old: &old, new: sent, own: own.as_ref().map(|(old, new)| (old.as_str(), new(job.number))) };
    rewrite(&mut value, &names, made, job.created);
    let base = links.base();
    for (at, text) in template.edits {
        set(&mut value, at, serde_json::from_str(&filled(text, job.number, sent, base)).unwrap_or_default());
    }
    for (at, place, rendition) in template.links {
        let Some(asset) = job.assets.get(*place) else { continue };
        set(&mut value, at, link(asset, *rendition, links).into());
    }
    if !job.request.prompt.is_empty() && value.pointer(form.prompt_at).is_some() {
        set(&mut value, form.prompt_at, json!(job.request.prompt));
    }
    let api = form.api();
    let member = api.map(|api| api.reply_in).unwrap_or_default();
    let shows = is_callback || api.is_some_and(|api| api.shows_reply);
    let place = if member.is_empty() { Some(&mut value) } else { value.get_mut(member) };
    if let Some(Value::Object(place)) = place {
        place.remove("replyUrl");
        place.remove("replyRef");
        if shows {
            place.extend(job.request.reply());
        }
    }
    value
}

/// What a list of running jobs shows of one.
pub(crate) fn mention(job: &Job, id: &str) -> Value {
    let sent = job.id.as_sent();
    // A number where the API's ids are numbers.
    let shown = sent.parse::<u64>().map_or_else(|_| json!(sent), Value::from);
    let mut row = Map::from_iter([(id.to_owned(), shown), ("started".to_owned(), json!(job.created))]);
    row.extend(job.request.reply());
    Value::Object(row)
}

/// A text with the placeholders filled in.
pub(crate) fn filled(text: &str, own: u64, id: &str, base: &str) -> String {
    let uuid = format!("{:08x}-{:04x}-4000-8000-{:012x}", own >> 32, own >> 16 & 0xffff, own & 0xffff_ffff_ffff);
    [("{own}", own.to_string()), ("{uuid}", uuid), ("{hex}", format!("{own:016x}"))]
        .into_iter()
        .chain([("{id}", id.to_owned()), ("{base}", base.to_owned())])
        .fold(text.to_owned(), |text, (name, value)| text.replace(name, &value))
}

/// The job's own part of the template's id, and how that of another job is written.
fn own_part(form: &Form, old: &str) -> Option<(String, impl Fn(u64) -> String)> {
    let placeholder = ["{own}", "{uuid}", "{hex}"].into_iter().find(|name| form.id.contains(name))?;
    let (before, behind) = form.id.split_once(placeholder)?;
    let own = old.strip_prefix(before)?.strip_suffix(behind)?;
    Some((own.to_owned(), move |number| filled(placeholder, number, "", "")))
}

struct Names<'a> {
    old: &'a str,
    new: &'a str,
    own: Option<(&'a str, String)>,
}

impl Names<'_> {
    fn of(&self, text: &str) -> String {
        let text = if self.old.is_empty() { text.to_owned() } else { text.replace(self.old, self.new) };
        self.own.as_ref().map_or(text.clone(), |(old, new)| text.replace(old, new))
    }
}

fn rewrite(value: &mut Value, names: &Names<'_>, made: Timestamp, created: Timestamp) {
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(|value| rewrite(value, names, made, created));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| rewrite(value, names, made, created)),
        Value::String(text) => {
            *text = match is_time(text).then(|| Timestamp::parse_rfc3339(text)).flatten() {
                Some(at) => moved(at, made, created).to_string(),
                None => names.of(text),
            };
        }
        Value::Number(number) => {
            let text = number.to_string();
            let renamed = names.of(&text);
            if renamed != text
                && let Ok(renamed) = renamed.parse::<u64>()
            {
                *value = renamed.into();
            } else if let Some(number) = number.as_u64() {
                *value = shifted(number, made, created).into();
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

/// The pages' times are of one morning, as milliseconds or seconds.
fn shifted(number: u64, made: Timestamp, created: Timestamp) -> u64 {
    const MORNING: std::ops::Range<u64> = 1_795_172_000..1_795_200_000;
    let at = |millis| Timestamp::from_millis(millis).map_or(millis, |at| moved(at, made, created).millis());
    if MORNING.contains(&(number / 1000)) {
        at(number)
    } else if MORNING.contains(&number) {
        at(number * 1000) / 1000
    } else {
        number
    }
}

/// A time as far from when the job was made as that of the template is from its own.
fn moved(at: Timestamp, made: Timestamp, created: Timestamp) -> Timestamp {
    let before: Duration = made.since(at);
    let earlier = created.millis().saturating_sub(u64::try_from(before.as_millis()).unwrap_or_default());
    Timestamp::from_millis_clamped(earlier).after(at.since(made))
}

fn is_time(text: &str) -> bool {
    text.len() >= 20 && text.starts_with("2026-11-20T")
}

fn made_at(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => Timestamp::parse_rfc3339(text),
        value => Timestamp::from_millis(value.as_u64()?),
    }
}

fn text_at(value: &Value, at: &str) -> String {
    match value.pointer(at) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// Puts something at a pointer whose parent is there.
fn set(value: &mut Value, at: &str, new: Value) {
    let Some((parent, name)) = at.rsplit_once('/') else { return };
    match value.pointer_mut(parent) {
        Some(Value::Object(members)) => drop(members.insert(name.to_owned(), new)),
        Some(Value::Array(items)) => {
            if let Some(item) = name.parse().ok().and_then(|place: usize| items.get_mut(place)) {
                *item = new;
            }
        }
        _ => {}
    }
}

fn link(asset: &Asset, rendition: Rendition, links: &dyn Links) -> String {
    match rendition {
        Rendition::Clean => links.url(&asset.clean),
        Rendition::Plain => links.url(&asset.plain),
        Rendition::Marked => links.url(&asset.marked),
        Rendition::Poster => links.url(&asset.poster),
        Rendition::Inline => base64::engine::general_purpose::STANDARD.encode(asset.plain.file.whole()),
    }
}
