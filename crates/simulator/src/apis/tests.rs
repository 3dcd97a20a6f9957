use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::cdn::SignedLinks;
use crate::faults::Faults;
use crate::job::{Job, Progress, Request, Stage};
use crate::seeded_rng::Dice;
use replyvault_domain::Timestamp;

const OWN: u64 = 400_000_000_000_000_017;

fn job(form: &'static Form, faults: &str) -> Job {
    let request = Request {
        form: Some(form),
        kind: form.kind,
        account: String::new(),
        prompt: "a boat".into(),
        models: Vec::new(),
        title: String::new(),
        aspect_ratio: String::new(),
        reply_url: Some("http://vault/reply".into()),
        reply_ref: Some("boat-17".into()),
        background: None,
        files: Vec::new(),
        input: None,
        size: None,
        max_jobs: None,
        fails_with: None,
    };
    let created = Timestamp::parse_rfc3339("2026-12-01T08:00:00Z").unwrap();
    Job::new(OWN, "3", request, created, Dice::new(1), &faults.parse::<Faults>().unwrap(), Duration::ZERO).unwrap()
}

fn forms() -> impl Iterator<Item = &'static Form> {
    ALL.into_iter().flat_map(|api| api.creates).flat_map(|create| create.forms).map(|(_, form)| *form)
}

fn shape(value: &Value, path: &str, into: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            into.push(format!("{path}.{name}"));
            shape(value, &format!("{path}.{name}"), into);
        }),
        Value::Array(items) => items.iter().for_each(|item| shape(item, &format!("{path}[]"), into)),
        _ => {}
    }
}

/// The fields of a body, those of the caller's own left out, each once.
fn fields(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    shape(value, "", &mut found);
    found.retain(|path| !path.ends_with(".replyUrl") && !path.ends_with(".replyRef"));
    found.sort();
    found.dedup();
    found
}

#[test]
fn every_template_is_a_page_with_the_jobs_own_values_and_no_field_more() {
    let links = SignedLinks::new("http://cdn".into(), Dice::new(1), None);
    let mut seen = 0;
    for form in forms() {
        let job = job(form, "");
        let bodies = [Some(form.running), Some(form.completed), Some(form.failed), Some(form.moderated)];
        for template in bodies.into_iter().chain([form.marked, form.inline]).flatten() {
            let page: Value = serde_json::from_str(template.text).unwrap();
            let body = written(&job, form, &template, &links, true);
            assert_eq!(fields(&body), fields(&page), "{body:#}");
            for (at, text) in template.edits {
                assert!(page.pointer(at).is_some(), "{at} in {}", template.text);
                assert!(serde_json::from_str::<Value>(&filled(text, OWN, "id", "http://cdn")).is_ok(), "{text}");
            }
            for (at, place, rendition) in template.links {
                assert!(page.pointer(at).is_some(), "{at} in {}", template.text);
                let link = body.pointer(at).unwrap().as_str().unwrap();
                assert!(*place < form.files.len(), "{at}");
                assert_eq!(link.starts_with("http://cdn/"), *rendition != Rendition::Inline, "{link}");
            }
            let found = body.pointer(form.id_at).unwrap();
            let found = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
            assert_eq!(found, job.id.as_sent(), "{body:#}");
            assert!(!body.to_string().contains("vault.example.com"), "{body:#}");
            assert_eq!(body.to_string().matches("boat-17").count(), 1, "{body:#}");
            seen += 1;
        }
    }
    assert!(seen > 80, "{seen}");
}

#[test]
fn times_are_as_far_from_the_jobs_own_as_on_the_page() {
    let links = SignedLinks::new("http://cdn".into(), Dice::new(1), None);
    let form = forms().find(|form| form.api == "kling").unwrap();
    let job = job(form, "");
    let body = body(&job, form, &Stage::Running(Progress::default()), &links, true);
    assert_eq!(body["task"]["createTime"], job.created.millis());
    assert_eq!(body["task"]["updateTime"], job.created.millis() + 123_052);
    assert_eq!(body["task"]["id"].to_string(), OWN.to_string());
    let form = forms().find(|form| form.api == "dreamina").unwrap();
    let body = written(&super::tests::job(form, ""), form, &form.completed, &links, true);
    assert_eq!(
        (&body["created"], &body["updated"]),
        (&"2026-12-01T08:00:00.000Z".into(), &"2026-12-01T08:01:45.336Z".into())
    );
    assert_eq!(body["response"]["finishTime"], job.created.millis() / 1000 + 104);
}

#[test]
fn offers_decide_which_file_counts() {
    let best = |api: &str, faults: &str| {
        let form = forms().find(|form| form.api == api).unwrap();
        job(form, faults).assets[0].best.0
    };
    for api in ["kling", "dreamina", "runwayml", "pixverse"] {
        assert_eq!((best(api, ""), best(api, "no-clean=1")), (Variant::Clean, Variant::Watermarked), "{api}");
    }
    assert_eq!((best("google-vids", ""), best("flowmusic", "no-clean=1")), (Variant::Watermarked, Variant::Unknown));
}
