//! Bodies that are not understood, or were not once.
use replyvault::domain::{QuarantineReason, Target, Timestamp};
use replyvault::intake::parse_quarantine_id;
use replyvault::journal::{CallbackEntry, Entry};
use replyvault::provider::{self, Parsed};
use replyvault::state::ParsedCallback;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::world::{World, expected, fixtures, redirected};
use crate::support::apis::encoded;
use crate::support::vault::Vault;

/// A body that an earlier version did not understand is understood by this one.
#[tokio::test]
async fn what_an_earlier_version_quarantined_replays_after_an_upgrade() {
    let world = World::start();
    let vault = Vault::start_with(|settings| world.configure(settings)).await;
    let log = vault.running().intake().log().clone();
    let mut all = Vec::new();
    for (name, body) in fixtures() {
        let body = redirected(&body, &world.base).to_string();
        let entry = CallbackEntry {
            at: Timestamp::now(),
            target: Target::UseApi,
            adopt: true,
            sidecars: false,
            confirm: false,
            asked: false,
            foreign: false,
            replay_of: None,
            body: body.clone().into(),
        };
        // As a version records it whose adapters do not know the body.
        let parsed = ParsedCallback::Unrecognised(QuarantineReason::UnknownShape);
        log.record_callback(Entry::Callback(entry), parsed).await.unwrap();
        all.push((name, body));
    }
    let (_, kept) = vault.get("/api/v1/quarantine?limit=200").await;
    let kept = kept["items"].as_array().unwrap();
    assert_eq!(kept.len(), all.len());
    let mut ends = Vec::new();
    // The newest is listed first.
    for ((name, body), kept) in all.iter().zip(kept.iter().rev()) {
        let id = kept["quarantineId"].as_str().unwrap();
        let at = log.state().callback_at(parse_quarantine_id(id).unwrap()).unwrap();
        let recorded = log.journal().read(at).unwrap().into_callback().unwrap();
        assert_eq!(recorded.body, body.as_bytes(), "{name}");
        let (status, answer) = vault.send("POST", &format!("/api/v1/quarantine/{id}/replay"), &Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{name}: {answer}");
        ends.push((name, answer["jobId"].as_str().unwrap().to_owned()));
    }
    assert_eq!(vault.get("/api/v1/quarantine").await.1["items"], json!([]));
    for (name, id) in ends {
        let (state, outcome, _) = expected(name);
        if state != "running" {
            let job = vault.job_in(&encoded(&id), &[state]).await;
            assert_eq!(job["outcome"], outcome, "{name}");
        }
    }
}

/// Bodies with fields taken out, renamed and changed, and noise in their place: what is not understood is kept to the byte, and
/// can be looked at again.
#[tokio::test]
async fn whatever_is_not_understood_is_quarantined_whole_and_can_be_replayed() {
    let vault = Vault::start().await;
    let log = vault.running().intake().log().clone();
    let url = vault.running().intake().urls().reply_url(&Target::UseApi);
    let (mut dice, mut kept) = (Dice(1), 0);
    for (name, body) in fixtures() {
        let api = provider::names().find(|api| name.starts_with(&format!("{api}-"))).unwrap();
        for _ in 0..12 {
            let mut changed = body.clone();
            for _ in 0..=dice.below(6) {
                mutate(&mut changed, &mut dice);
            }
            // As somebody else might write it.
            let text = format!(" {}\n", serde_json::to_string_pretty(&changed).unwrap());
            match provider::read(text.as_bytes()).unwrap() {
                Parsed::Job(found) => assert_eq!(found.job.provider(), api, "{text}"),
                Parsed::Unrecognised(why) => {
                    let (status, answer) = vault.post(&url, text.clone()).await;
                    assert_eq!((status, &answer["reason"]), (StatusCode::ACCEPTED, &json!(why.as_str())), "{text}");
                    let id = answer["quarantineId"].as_str().unwrap();
                    let at = log.state().callback_at(parse_quarantine_id(id).unwrap()).unwrap();
                    let recorded = log.journal().read(at).unwrap().into_callback().unwrap();
                    assert_eq!(recorded.body, text.as_bytes());
                    let replay = format!("/api/v1/quarantine/{id}/replay");
                    let (status, again) = vault.send("POST", &replay, &Value::Null).await;
                    assert_eq!((status, &again["reason"]), (StatusCode::ACCEPTED, &json!(why.as_str())), "{again}");
                    kept += 1;
                }
            }
        }
    }
    assert!(kept > 100, "{kept}");
}

/// The same numbers in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % bound.max(1)
    }
}

/// Takes something out, gives it another name, or puts something else in its place: at the top as often as further down.
fn mutate(value: &mut Value, dice: &mut Dice) {
    let Value::Object(members) = value else {
        *value = json!(["noise", dice.below(1000)]);
        return;
    };
    let names: Vec<String> = members.keys().cloned().collect();
    let Some(name) = names.get(dice.below(names.len())) else { return };
    match dice.below(6) {
        0 | 1 => drop(members.remove(name)),
        2 => {
            let taken = members.remove(name).unwrap();
            members.insert(format!("{name}2"), taken);
        }
        3 => drop(members.insert(name.clone(), json!(dice.below(100_000)))),
        4 => drop(members.insert(name.clone(), json!({"noise": [null, true, "\u{1F980}"]}))),
        _ => mutate(members.get_mut(name).unwrap(), dice),
    }
}
