//! Callbacks' bodies: reading, what a job makes of them, and what is shown of them.

use replyvault::domain::{FileName, Job, JobState, JobView, MediaUrl, Observation, Outcome, Timestamp};
use replyvault::provider::{Parsed, mentioned_jobs, parse_jobs, read, redacted};
use serde_json::Value;

const SECRET: &str = "qZ7-SECRET_x";
/// What is said in words is cut to 8 KiB, and a sign that it was.
const MAX_TEXT: usize = 8192 + '…'.len_utf8();

/// Any body at all.
pub(crate) fn check(body: &[u8]) {
    let shown = redacted(body);
    let _ = mentioned_jobs(body);
    parse_jobs(&body.to_vec().into()).iter().for_each(|answer| observation_is_sound(&answer.observation));
    match read(body) {
        Err(_) => assert!(shown.is_none(), "shown, and no JSON"),
        Ok(reading) => {
            let shown = shown.expect("JSON can be shown");
            redaction_changes_nothing_else(body, shown.get());
            if let Parsed::Job(observation) = reading {
                observation_is_sound(&observation);
                let view = becomes_a_sound_job(&observation);
                no_query_is_shown(body, &observation, shown.get(), &view);
            }
        }
    }
    if let Ok(text) = std::str::from_utf8(body) {
        secrets_are_hidden_in_any_text(text);
    }
}

fn redaction_changes_nothing_else(body: &[u8], shown: &str) {
    assert_eq!(redacted(shown.as_bytes()).expect("still JSON").get(), shown, "showing it again hides more");
    // Beyond what a tree of serde_json can hold: depth, numbers, lone surrogates.
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    if let (Ok(before), Ok(after)) = (serde_json::from_slice(body), serde_json::from_str(shown)) {
        same_but_for_what_is_hidden(&before, &after);
    }
}

fn same_but_for_what_is_hidden(before: &Value, after: &Value) {
    match (before, after) {
        (Value::String(before), Value::String(after)) => assert!(before == after || after.contains('…')),
        (Value::Array(before), Value::Array(after)) => {
            assert_eq!(before.len(), after.len());
            before.iter().zip(after).for_each(|(before, after)| same_but_for_what_is_hidden(before, after));
        }
        (Value::Object(before), Value::Object(after)) => {
            // Two names may look the same once what is secret in them is hidden.
            assert!(after.len() <= before.len());
            for (name, before) in before {
                let Some(after) = after.get(name) else { continue };
                if before.is_number() || before.is_boolean() {
                    assert_eq!(before, after);
                }
            }
        }
        _ => assert_eq!(before, after),
    }
}

fn observation_is_sound(observation: &Observation) {
    let recorded = serde_json::to_string(observation).expect("it can be written");
    assert!(serde_json::from_str::<Observation>(&recorded).is_ok(), "it cannot be read back: {recorded}");
    assert!(observation.percent.is_none_or(|percent| percent <= 100));
    for text in [&observation.message, &observation.error, &observation.prompt, &observation.status_label] {
        assert!(text.as_ref().is_none_or(|text| !text.is_empty() && text.len() <= MAX_TEXT));
    }
    assert!(observation.assets.is_empty() || observation.outcome == Some(Outcome::Completed));
    assert!(observation.assets.len() <= Observation::MAX_ASSETS);
    let urls = observation.assets.iter().flat_map(|asset| &asset.candidates);
    assert!(urls.map(|candidate| candidate.url.length()).sum::<usize>() <= Observation::MAX_URL_BYTES);
    let mut slots = std::collections::HashSet::new();
    for asset in &observation.assets {
        assert!(slots.insert(&asset.slot), "two files in one slot: {:?}", asset.slot);
        assert_eq!(asset.file.as_str().parse::<FileName>().as_ref(), Ok(&asset.file), "an unsafe name");
        assert!(asset.candidates.is_sorted_by_key(|candidate| candidate.variant), "not the cleanest first");
        for candidate in &asset.candidates {
            let url = candidate.url.expose();
            assert!(matches!(url.scheme(), "http" | "https") && url.has_host());
            assert!(url.as_str().len() <= MediaUrl::MAX_LENGTH);
        }
    }
}

fn becomes_a_sound_job(observation: &Observation) -> String {
    let at = Timestamp::default();
    let mut job = Job::new(observation.job.clone(), at);
    job.observe(observation, true, 1, at);
    let essence =
        |job: &Job| (job.state, job.outcome, job.percent, job.due, job.reason, job.assets.clone(), job.left_out);
    let first = essence(&job);
    assert_eq!(job.due.is_some(), job.state == JobState::Archiving);
    assert_eq!(job.reason.is_some(), job.state == JobState::Stuck);
    assert!(job.assets.len() <= Job::MAX_ASSETS);
    job.observe(observation, true, 2, at);
    assert_eq!(essence(&job), first, "hearing it again makes a difference");
    assert_eq!(job.callbacks, 2);
    serde_json::to_string(&JobView::new(&job, |_| false)).expect("a job can be shown")
}

/// The query of a URL that may be fetched is in nothing that is shown, however the URL is spelled.
fn no_query_is_shown(body: &[u8], observation: &Observation, shown: &str, view: &str) {
    // With escapes, other texts of the body can become the same once they are read.
    if body.iter().any(|byte| matches!(byte, b'\\' | b'%')) {
        return;
    }
    for candidate in observation.assets.iter().flat_map(|asset| &asset.candidates) {
        let Some(query) = candidate.url.expose().query().filter(|query| query.len() >= 8) else { continue };
        // Elsewhere in the body it would be no secret of this URL.
        if body.windows(query.len()).filter(|window| *window == query.as_bytes()).count() == 1 {
            assert!(!shown.contains(query), "{query} is shown in {shown}");
            assert!(!view.contains(query), "{query} is shown in {view}");
        }
    }
}

/// What surrounds a URL of a file or of ours does not save its secret from being hidden.
fn secrets_are_hidden_in_any_text(text: &str) {
    let mut middle = text.len() / 2;
    while !text.is_char_boundary(middle) {
        middle += 1;
    }
    let (before, after) = text.split_at(middle);
    for secret in [
        format!("https://cdn.example/v.mp4?{SECRET}"),
        format!("/reply/minimax/{SECRET}"),
        format!("%2Freply%2Fref_01jd0000000000000000000000%2F{SECRET}"),
    ] {
        let body = serde_json::json!([format!("{before}{secret}"), { "url": format!("{before}{secret} {after}") }]);
        let shown = redacted(body.to_string().as_bytes()).expect("JSON can be shown");
        assert!(!shown.get().contains(SECRET), "{shown}");
    }
}
