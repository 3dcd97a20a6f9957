//! Endpoints and refs are told what becomes of jobs, by Standard Webhooks.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use replyvault::app::Settings;
use replyvault::domain::{EventType, MediaUrl, Route};
use replyvault::egress::AllowedHosts;
use replyvault::intake::Intake;
use replyvault::journal::{Durability, Event};
use replyvault::notify::{Endpoint, SigningKeys};
use replyvault::repair::Retention;
use replyvault::state::Counters;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::media::{MediaServer, mp4};
use crate::support::receiver::Receiver;
use crate::support::vault::{NOTIFY_SECRET, PATIENCE, Vault, completed, video_id};

mod clients;
mod crash;
mod links;
mod shared_hosts;
mod shares;
mod wait;

pub(crate) use crash::POINTS;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

struct Bench {
    vault: Vault,
    media: MediaServer,
}

impl Bench {
    async fn start(change: impl FnOnce(&mut Settings)) -> Self {
        Self { vault: Vault::start_with(change).await, media: MediaServer::start() }
    }

    /// A completed video that can be had.
    fn video(&self, number: u64) -> Value {
        completed(number, &self.media.put(&format!("/{number}.mp4"), mp4(number, 3000), "video/mp4"))
    }

    /// A ref that is told at `url`; its replyUrl.
    async fn reference(&self, name: &str, url: &str) -> String {
        let body = json!({"replyRef": name, "notifyUrl": url, "labels": {"team": "films"}});
        let (status, made) = self.vault.send("POST", "/api/v1/refs", &body).await;
        assert_eq!(status, 201, "{made}");
        made["replyUrl"].as_str().unwrap().to_owned()
    }

    fn counters(&self) -> Counters {
        self.vault.running().intake().log().state().counters().unwrap()
    }

    /// How many were delivered and how many are dead, once none is on its way.
    async fn settled(&self) -> (u64, u64) {
        let settled = async {
            while self.counters().notifications_pending > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, settled).await.expect("something is still on its way");
        let Counters { notified, not_notified, .. } = self.counters();
        (notified, not_notified)
    }

    async fn move_segments(&self) -> usize {
        let log = self.vault.running().intake().log().clone();
        Retention::new(log, Intake::parse_callback, Duration::ZERO).pass().await.unwrap()
    }

    async fn restart_without(&mut self, paths: &[std::path::PathBuf]) {
        self.vault.stop().await;
        paths.iter().for_each(|path| std::fs::remove_dir_all(path).unwrap());
        self.vault.start_again().await;
    }

    fn state_dir(&self) -> std::path::PathBuf {
        self.vault.settings.data_dir.join("state")
    }
}

fn endpoint(name: &str, url: &str) -> Endpoint {
    Endpoint {
        route: Route {
            endpoint: name.to_owned(),
            events: EventType::DEFAULT.to_vec(),
            providers: Vec::new(),
            kinds: Vec::new(),
            labels: BTreeMap::new(),
        },
        url: MediaUrl::parse(url).unwrap(),
        keys: SigningKeys::read([&SECRET.into()]).unwrap(),
        presigned: false,
    }
}

/// What a receiver got, each with its id, once there are `count` of them and every signature was checked.
async fn events(receiver: &Receiver, count: usize, secret: &str) -> Vec<(String, Value)> {
    let bodies = receiver.bodies(count).await;
    let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let heads = receiver.signed();
    assert!(receiver.got().iter().all(|got| got.1 == "application/json"));
    let checked = bodies.into_iter().zip(heads).map(|(body, [id, time, signature])| {
        let mac = Hmac::<Sha256>::new_from_slice(&key).unwrap().chain_update(format!("{id}.{time}.{body}"));
        let expected = format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
        assert!(signature.split(' ').any(|one| one == expected), "{signature}");
        let now = replyvault::domain::Timestamp::now().millis() / 1000;
        assert!(now.abs_diff(time.parse().unwrap()) < 300);
        (id, serde_json::from_str(&body).unwrap())
    });
    checked.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_and_refs_are_told_what_became_of_a_job_once_its_manifest_is_there() {
    let (all, films, other) = (Receiver::start(), Receiver::start(), Receiver::start());
    let bench = Bench::start(|settings| {
        let labelled = |name: &str, receiver: &Receiver, team: &str| {
            let mut endpoint = endpoint(name, &receiver.url("/"));
            endpoint.route.labels.insert("team".to_owned(), team.to_owned());
            endpoint
        };
        settings.notify.endpoints =
            vec![endpoint("all", &all.url("/")), labelled("films", &films, "films"), labelled("x", &other, "games")];
        settings.links.public_url = Some("https://media.example.com".to_owned());
    })
    .await;
    let own = Receiver::start();
    let url = bench.reference("boat", &own.url("/own?key=hidden")).await;
    let mut video = bench.video(1);
    video["replyRef"] = "boat".into();
    assert_eq!(bench.vault.post(&url, video.to_string()).await.0, 200);
    let job = bench.vault.archived(&video_id(1)).await;
    bench.vault.callback(json!({"videoId": video_id(2), "status": 3, "replyRef": "two"})).await;
    bench.vault.job_in(&video_id(2), &["failed"]).await;
    bench.vault.callback(completed(3, "http://192.0.2.1/refused.mp4")).await;
    bench.vault.job_in(&video_id(3), &["stuck"]).await;
    assert_eq!(bench.settled().await, (5, 0));
    let told = events(&all, 3, SECRET).await;
    let mut types: Vec<_> = told.iter().map(|(_, event)| event["type"].as_str().unwrap()).collect();
    types.sort_unstable();
    assert_eq!(types, ["job.archived", "job.failed", "job.stuck"]);
    assert_eq!(told.iter().map(|(id, _)| id).collect::<HashSet<_>>().len(), 3);
    let (_, archived) = told.iter().find(|(_, event)| event["type"] == "job.archived").unwrap();
    assert_eq!(archived["data"], job, "as the API has it");
    assert_eq!(archived["timestamp"], job["archivedAt"]);
    let links = &job["assets"][0]["links"];
    let (sha256, key) = (job["assets"][0]["sha256"].as_str().unwrap(), job["assets"][0]["key"].as_str().unwrap());
    assert_eq!(
        *links,
        json!({"content": format!("/api/v1/media/{sha256}/content"), "public": format!("https://media.example.com/{key}"),
            "presigned": null, "expiresAt": null})
    );
    let manifest = bench.vault.manifest(&job).await;
    assert!(manifest["job"].get("labels").is_none() && manifest["job"]["assets"][0].get("links").is_none());
    for (receiver, secret) in [(&films, SECRET), (&own, NOTIFY_SECRET)] {
        let told = events(receiver, 1, secret).await;
        assert_eq!((told.len(), &told[0].1["data"]["jobId"]), (1, &job["jobId"]));
    }
    assert_eq!((own.got()[0].0.as_str(), other.got().len()), ("/own?key=hidden", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_told_in_order_to_those_who_ask_for_it() {
    let receiver = Receiver::start();
    let bench = Bench::start(|settings| {
        let mut endpoint = endpoint("a", &receiver.url("/"));
        endpoint.route.events = EventType::ALL.to_vec();
        settings.notify.endpoints = vec![endpoint];
    })
    .await;
    for percent in 1..=20 {
        bench.vault.callback(json!({"videoId": video_id(1), "status": 1, "percent": percent})).await;
    }
    bench.vault.callback(bench.video(1)).await;
    bench.vault.archived(&video_id(1)).await;
    assert_eq!(bench.settled().await, (21, 0));
    let told = events(&receiver, 21, SECRET).await;
    let seen: Vec<_> =
        told.iter().map(|(_, event)| (&event["type"], event["data"]["percent"].as_u64().unwrap())).collect();
    let expected: Vec<_> = (1..=20).map(|percent| (json!("job.running"), percent)).collect();
    assert!(seen.iter().zip(&expected).all(|(seen, expected)| *seen == (&expected.0, expected.1)), "{seen:?}");
    assert_eq!(seen[20], (&json!("job.archived"), 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_events_outlive_state_and_journal_and_delivered_ones_are_not_sent_again() {
    let mut receiver = Receiver::start();
    let mut bench = Bench::start(|settings| settings.notify.endpoints = vec![endpoint("a", &receiver.url("/"))]).await;
    bench.vault.callback(bench.video(1)).await;
    let first = events(&receiver, 1, SECRET).await;
    bench.settled().await;
    receiver.down().await;
    bench.vault.callback(bench.video(2)).await;
    bench.vault.archived(&video_id(2)).await;
    let state = bench.state_dir();
    bench.restart_without(std::slice::from_ref(&state)).await;
    assert_eq!((bench.counters().notifications_pending, bench.counters().notified), (1, 1));
    for number in 3..=4 {
        assert!(bench.move_segments().await > 0);
        bench.vault.callback(bench.video(number)).await;
        bench.vault.archived(&video_id(number)).await;
    }
    let archive = bench.vault.dir.path().join("bucket/_journal");
    bench.restart_without(&[state, archive]).await;
    assert_eq!(bench.counters().notifications_pending, 3);
    assert_eq!(bench.vault.running().intake().log().state().notify_routes().unwrap().len(), 1);
    receiver.up();
    let told = events(&receiver, 4, SECRET).await;
    assert_eq!((bench.settled().await.1, told[0] == first[0]), (0, true));
    let jobs: HashSet<_> = told.iter().map(|(_, event)| event["data"]["jobId"].as_str().unwrap().to_owned()).collect();
    assert_eq!((jobs.len(), receiver.got().len()), (4, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn unwanted_and_forbidden_events_are_dead_and_those_of_a_removed_endpoint_too() {
    let gone = Receiver::start();
    gone.answer(&[410]);
    let mut down = Receiver::start();
    down.down().await;
    let mut bench = Bench::start(|settings| {
        settings.notify.endpoints = vec![endpoint("gone", &gone.url("/")), endpoint("down", &down.url("/"))];
        // Refs' receivers are strangers that have to be public.
        settings.notify.egress.allowed_hosts = AllowedHosts::Only(vec!["127.0.0.1".parse().unwrap()]);
    })
    .await;
    let url = bench.reference("boat", "http://elsewhere.example/").await;
    let mut video = bench.video(1);
    video["replyRef"] = "boat".into();
    assert_eq!(bench.vault.post(&url, video.to_string()).await.0, 200);
    bench.vault.archived(&video_id(1)).await;
    let dead = async {
        while bench.counters().notifications_dead < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, dead).await.unwrap();
    bench.vault.stop().await;
    bench.vault.settings.notify.endpoints.pop();
    bench.vault.start_again().await;
    assert_eq!(bench.settled().await, (0, 3));
    let known = bench.vault.running().intake().log().state().notifications(None, 10, None).unwrap().items;
    let mut reasons: Vec<_> = known.iter().map(|known| known.reason.clone().unwrap()).collect();
    reasons.sort();
    assert_eq!(reasons, ["endpoint_removed", "gone", "host_not_allowed"]);
    assert_eq!(gone.got().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_looks_too_old_is_given_up_once_it_has_failed_and_did_so_before() {
    let (up, down) = (Receiver::start(), Receiver::start_down());
    let bench = Bench::start(|settings| {
        settings.notify.endpoints = vec![endpoint("up", &up.url("/")), endpoint("down", &down.url("/"))];
        settings.notify.patience = Duration::ZERO;
    })
    .await;
    bench.vault.callback(json!({"videoId": video_id(1), "status": 3})).await;
    // Both are on their way from the same moment on.
    events(&up, 1, SECRET).await;
    assert_eq!(bench.settled().await, (1, 1));
    let known = bench.vault.running().intake().log().state().notifications(None, 10, None).unwrap().items;
    let mut ended: Vec<_> = known.iter().map(|known| (known.reason.as_deref(), known.attempts)).collect();
    ended.sort_unstable();
    assert_eq!(ended, [(None, 1), (Some("expired"), 1)], "its second attempt gives it up");
}

/// As in a cluster, where one replica is restarted with another endpoint while the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn events_to_an_endpoint_that_only_others_know_yet_wait_for_the_next_start() {
    let (old, new) = (Receiver::start(), Receiver::start());
    let (old_endpoint, new_endpoint) = (endpoint("old", &old.url("/")), endpoint("new", &new.url("/")));
    let mut bench = Bench::start(|settings| settings.notify.endpoints = vec![old_endpoint.clone()]).await;
    let routes = vec![old_endpoint.route.clone(), new_endpoint.route.clone()];
    let event = Event::NotifyRoutes { routes };
    bench.vault.running().intake().log().record(event, Durability::Buffered).await.unwrap();
    bench.vault.callback(bench.video(1)).await;
    bench.vault.archived(&video_id(1)).await;
    events(&old, 1, SECRET).await;
    bench.vault.stop().await;
    bench.vault.settings.notify.endpoints = vec![old_endpoint, new_endpoint];
    bench.vault.start_again().await;
    events(&new, 1, SECRET).await;
    assert_eq!(bench.settled().await, (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_hangs_does_not_hold_up_others() {
    let (hanging, quick) = (Receiver::start(), Receiver::start());
    hanging.hang();
    let bench = Bench::start(|settings| {
        settings.notify.endpoints = vec![endpoint("hanging", &hanging.url("/")), endpoint("quick", &quick.url("/"))];
    })
    .await;
    for number in 1..=40 {
        bench.vault.callback(json!({"videoId": video_id(number), "status": 3})).await;
    }
    assert_eq!(events(&quick, 40, SECRET).await.len(), 40);
    assert!(hanging.got().len() <= 8, "its share");
}
