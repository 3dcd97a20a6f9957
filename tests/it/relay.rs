//! Callbacks over the URL of a ref whose caller has a receiver of its own are passed on to it.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use replyvault::app::Settings;
use replyvault::domain::{RefId, ReplyRef, Target};
use replyvault::egress::AllowedHosts;
use replyvault::intake::Intake;
use replyvault::journal::{Entry, Event};
use replyvault::repair::{Retention, open_event_log};
use replyvault::simulator::{self, Simulator};
use replyvault::state::Counters;
use serde_json::{Value, json};

use crate::support::child::{Program, reply_urls};
use crate::support::receiver::Receiver;
use crate::support::s3::config;
use crate::support::vault::{PATIENCE, Vault, video_id};

mod crash;

pub(crate) use crash::POINTS;

struct Bench {
    vault: Vault,
    receiver: Receiver,
}

impl Bench {
    async fn start() -> Self {
        Self::start_with(Receiver::start(), |_| {}).await
    }

    async fn start_with(receiver: Receiver, change: impl FnOnce(&mut Settings)) -> Self {
        Self { vault: Vault::start_with(change).await, receiver }
    }

    /// A ref of the gateway that passes on to `url`.
    async fn reference(&self, url: &str) -> RefId {
        let intake = self.vault.running().intake();
        intake.register_gateway(ReplyRef::new("same").ok(), Some(url.to_owned())).await.unwrap().id
    }

    async fn post(&self, id: &RefId, body: impl Into<reqwest::Body>) -> u16 {
        let url = self.vault.running().intake().urls().reply_url(&Target::Ref(id.clone()));
        self.vault.post(&url, body).await.0.as_u16()
    }

    /// Progress of a job, unlike any other; returns it as it was sent.
    async fn progress(&self, id: &RefId, number: u64, percent: u64) -> String {
        let body = progress(number, percent);
        assert_eq!(self.post(id, body.clone()).await, 200);
        body
    }

    fn counters(&self) -> Counters {
        self.vault.running().intake().log().state().counters().unwrap()
    }

    /// How many were passed on and how many given up, once none waits.
    async fn settled(&self) -> (u64, u64) {
        let settled = async {
            while self.counters().outbox > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, settled).await.expect("something still waits");
        let Counters { passed_on, not_passed_on, .. } = self.counters();
        (passed_on, not_passed_on)
    }

    /// Why callbacks were given up, in order.
    fn given_up(&self) -> Vec<String> {
        let entries = self.vault.running().intake().log().journal().replay(0).unwrap();
        let events = entries.filter_map(|entry| match entry.unwrap().1 {
            Entry::Event(Event::PassOnGivenUp { why, .. }) => Some(why),
            _ => None,
        });
        events.collect()
    }

    async fn restart_without_state(&mut self) {
        self.vault.stop().await;
        std::fs::remove_dir_all(self.vault.settings.data_dir.join("state")).unwrap();
        self.vault.start_again().await;
    }
}

fn progress(number: u64, percent: u64) -> String {
    json!({"videoId": video_id(number), "status": 1, "percent": percent}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_over_a_refs_url_are_relayed_in_order_and_unchanged() {
    let bench = Bench::start().await;
    let one = bench.reference(&bench.receiver.url("/one?token=hidden")).await;
    let two = bench.reference(&bench.receiver.url("/two")).await;
    let silent = bench.vault.running().intake().register_gateway(None, None).await.unwrap();
    assert!(silent.made);
    bench.progress(&silent.id, 9, 1).await;
    let mut sent = Vec::new();
    for percent in 1..=30 {
        sent.push(bench.progress(&one, 1, percent).await);
        bench.progress(&two, 2, percent).await;
    }
    let odd = format!("{{ \"videoId\":\"{}\",\n\t\"status\":2, \"seed\": 12345678901234567890.10 }}", video_id(1));
    let other = json!({"videoId": video_id(3), "status": 1, "replyRef": "other"}).to_string();
    for (body, status) in [(odd, 200), (r#"{"what": "is this"}"#.to_owned(), 202), (other, 202)] {
        assert_eq!(bench.post(&one, body.clone()).await, status);
        sent.push(body);
    }
    // Once more, byte for byte: counted, and no more than that.
    assert_eq!(bench.post(&one, sent[29].clone()).await, 200);
    assert_eq!(bench.post(&one, "no JSON").await, 400);
    assert_eq!(bench.settled().await, (63, 0));
    let got = bench.receiver.got();
    let over = |path: &str| got.iter().filter(|got| got.0 == path).map(|got| got.2.clone()).collect::<Vec<_>>();
    assert_eq!(over("/one?token=hidden"), sent);
    assert_eq!(over("/two"), (1..=30).map(|percent| progress(2, percent)).collect::<Vec<_>>());
    assert!(got.len() == 63 && got.iter().all(|got| got.1 == "application/json"), "{got:#?}");
    // What was kept aside and is looked at again was passed on before.
    let kept = bench.vault.get("/api/v1/quarantine").await.1["items"][0]["quarantineId"].as_str().unwrap().to_owned();
    bench.vault.send("POST", &format!("/api/v1/quarantine/{kept}/replay"), &Value::Null).await;
    assert_eq!((bench.settled().await, bench.receiver.got().len()), ((63, 0), 63));
    assert_eq!(bench.vault.get("/api/v1/stats").await.1["outboxDepth"], 0);
    let metrics = bench.vault.client.get(bench.vault.url("/metrics")).send().await.unwrap().text().await.unwrap();
    for line in ["outbox_pending 0", "outbox_delivered_total 63", "outbox_given_up_total 0"] {
        assert!(metrics.contains(&format!("replyvault_{line}\n")), "{metrics}");
    }
    let shown = bench.vault.get("/api/v1/refs?replyRef=same").await.1;
    let shown: Vec<_> = shown["items"].as_array().unwrap().iter().map(|item| item["passOnTo"].clone()).collect();
    assert_eq!(shown, [bench.receiver.url("/two"), bench.receiver.url("/one?token=hidden")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn restoring_a_callback_changes_nothing_but_the_values_that_were_put_in() {
    let bench = Bench::start().await;
    let own = bench.receiver.url("/own?token=\"1\"");
    let intake = bench.vault.running().intake().clone();
    let urls = intake.urls().clone();
    let other = intake.register_gateway(None, Some("https://another.example/secret".to_owned())).await.unwrap();
    for made in [true, false] {
        let named = (!made).then(|| ReplyRef::new("mine").unwrap());
        let record = intake.register_gateway(named, Some(own.clone())).await.unwrap();
        let (url, name) = (urls.reply_url(&Target::Ref(record.id.clone())), record.reply_ref.as_str().to_owned());
        let signature = url.rsplit('/').next().unwrap().to_owned();
        let foreign = urls.reply_url(&Target::Ref(other.id.clone()));
        let foreign_signature = foreign.rsplit('/').next().unwrap().to_owned();
        let id = video_id(if made { 1 } else { 2 });
        let body = format!(
            "\u{feff}\n{{ \"videoId\":\"{id}\",\"status\":1, \"seed\": 1.50e+3, \"replyUrl\" : \"{}\" , \"replyRef\":\"{name}\",\n\
             \"request\":{{\"replyRef\":\"{name}\",\"replyUrl\":\"{url}\"}},\"desc\":\"see {url}.\",\"o\":\"{foreign}\",\"u\":\"\\u00e9\"}}\n ",
            url.replace('/', "\\/"),
        );
        assert_eq!(bench.post(&record.id, body.clone()).await, 200);
        let stars = "*".repeat(43);
        let mut expected = body.replace(&url.replace('/', "\\/"), &own.replace('"', "\\\""));
        expected = expected
            .replace(&format!("\"replyUrl\":\"{url}\""), &format!("\"replyUrl\":\"{}\"", own.replace('"', "\\\"")));
        expected = expected.replace(&signature, &stars).replace(&foreign_signature, &stars);
        if made {
            expected = expected
                .replace(&format!("\"replyRef\":\"{name}\",\n"), "")
                .replace(&format!("\"replyRef\":\"{name}\","), "");
        }
        assert_eq!(bench.settled().await.1, 0);
        let got = bench.receiver.got().pop().unwrap();
        assert_eq!(got.2, expected);
        assert!(!got.2.contains("another.example"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_of_a_caller_of_the_gateway_gets_what_the_provider_says() {
    let receiver = Receiver::start();
    let simulator = Simulator::start(simulator::Config::default()).await.unwrap();
    let vault = crate::gateway::provider::vault(&simulator.base_url()).await;
    let bench = Bench { vault, receiver };
    let body = json!({"prompt": "a boat", "replyUrl": bench.receiver.url("/own?token=1"), "replyRef": "mine"});
    let (status, created) = bench.vault.send("POST", "/v1/minimax/videos/create", &body).await;
    assert_eq!((status.as_u16(), &created["replyUrl"]), (200, &body["replyUrl"]), "{created}");
    bench.vault.archived(created["videoId"].as_str().unwrap()).await;
    simulator.idle().await;
    assert_eq!(bench.settled().await.1, 0);
    let got = bench.receiver.got();
    assert_eq!(got.len() as u64, bench.counters().passed_on);
    for (path, _, text) in &got {
        let callback: Value = serde_json::from_str(text).unwrap();
        assert_eq!((path.as_str(), &callback["videoId"]), ("/own?token=1", &created["videoId"]));
        assert_eq!(callback["replyRef"], body["replyRef"]);
    }
    assert!(got.last().unwrap().2.contains("\"statusFinal\":true"), "{got:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_was_down_gets_all_of_it_also_after_a_restart() {
    let mut bench = Bench::start_with(Receiver::start_down(), |_| {}).await;
    let id = bench.reference(&bench.receiver.url("/")).await;
    let mut sent = Vec::new();
    for percent in 1..=3 {
        sent.push(bench.progress(&id, 1, percent).await);
    }
    assert_eq!(bench.vault.get("/api/v1/stats").await.1["outboxDepth"], 3);
    bench.vault.stop().await;
    bench.vault.start_again().await;
    sent.push(bench.progress(&id, 1, 4).await);
    assert_eq!(bench.counters().outbox, 4);
    bench.receiver.up();
    assert_eq!(bench.receiver.bodies(4).await, sent);
    assert_eq!(bench.settled().await, (4, 0));
    // And again.
    bench.receiver.down().await;
    sent.push(bench.progress(&id, 1, 5).await);
    bench.receiver.up();
    assert_eq!(bench.receiver.bodies(5).await, sent);
    assert_eq!(bench.settled().await, (5, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_relay_is_retried_and_410_ends_it() {
    let bench = Bench::start().await;
    let id = bench.reference(&bench.receiver.url("/")).await;
    bench.receiver.answer(&[500, 302, 200, 410, 204]);
    let (first, second) = (bench.progress(&id, 1, 1).await, bench.progress(&id, 1, 2).await);
    let third = bench.progress(&id, 1, 3).await;
    assert_eq!(bench.receiver.bodies(5).await, [&first, &first, &first, &second, &third].map(Clone::clone));
    assert_eq!(bench.settled().await, (2, 1));
    assert_eq!(bench.given_up(), ["gone"]);
    assert!(bench.receiver.got().iter().all(|got| got.0 == "/"), "a redirect is not followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_asks_for_an_hour_keeps_no_other_at_its_host_waiting() {
    let bench = Bench::start().await;
    bench.receiver.refuse("/one", 429, 3600);
    let one = bench.reference(&bench.receiver.url("/one")).await;
    let two = bench.reference(&bench.receiver.url("/two")).await;
    bench.progress(&one, 1, 1).await;
    bench.receiver.hit("/one", 1).await;
    for percent in 1..=3 {
        bench.progress(&two, 2, percent).await;
    }
    bench.receiver.hit("/two", 3).await;
    assert_eq!(bench.receiver.hits("/one"), 1, "it asked for an hour");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_the_policy_forbids_is_given_up_at_once() {
    for allow_private in [false, true] {
        let bench = Bench::start_with(Receiver::start(), |settings| {
            settings.relay.egress.allow_private_addresses = allow_private;
            assert!(matches!(settings.relay.egress.allowed_hosts, AllowedHosts::Any));
        });
        let bench = bench.await;
        let metadata = bench.reference("http://169.254.169.254/latest/meta-data").await;
        let here = bench.reference(&bench.receiver.url("/")).await;
        let user = bench.reference("http://user:password@example.com/").await;
        let nowhere = bench.reference("not a URL").await;
        for (number, id) in (1..).zip([&metadata, &here, &user, &nowhere]) {
            bench.progress(id, number, 1).await;
            let done = u64::from(allow_private && number > 1);
            assert_eq!(bench.settled().await, (done, number - done));
        }
        let forbidden = if allow_private { 1 } else { 2 };
        let expected = [vec!["address_forbidden"; forbidden], vec!["userinfo", "invalid_url"]].concat();
        assert_eq!(bench.given_up(), expected);
        assert_eq!(bench.receiver.got().len(), 2 - forbidden);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_waits_too_long_or_for_a_deleted_ref_is_given_up() {
    let bench = Bench::start_with(Receiver::start_down(), |settings| settings.relay.patience = Duration::from_secs(3));
    let bench = bench.await;
    let [late, deleted] =
        [bench.reference(&bench.receiver.url("/")).await, bench.reference(&bench.receiver.url("/")).await];
    for percent in 1..=2 {
        bench.progress(&deleted, 1, percent).await;
    }
    assert_eq!(bench.vault.send("DELETE", &format!("/api/v1/refs/{deleted}"), &Value::Null).await.0, 204);
    bench.progress(&late, 2, 1).await;
    assert_eq!(bench.settled().await, (0, 3));
    assert_eq!(bench.given_up(), ["ref_removed", "ref_removed", "expired"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_looks_too_old_by_the_clock_is_tried_before_it_is_given_up() {
    let bench = Bench::start_with(Receiver::start(), |settings| settings.relay.patience = Duration::ZERO).await;
    let id = bench.reference(&bench.receiver.url("/")).await;
    let body = bench.progress(&id, 1, 1).await;
    assert_eq!(bench.receiver.bodies(1).await, [body]);
    assert_eq!(bench.settled().await, (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_knows_what_was_passed_on_and_what_waits() {
    let mut bench = Bench::start().await;
    let id = bench.reference(&bench.receiver.url("/")).await;
    let mut sent = vec![bench.progress(&id, 1, 1).await, bench.progress(&id, 1, 2).await];
    assert_eq!(bench.settled().await, (2, 0));
    bench.receiver.down().await;
    sent.extend([bench.progress(&id, 1, 3).await, bench.progress(&id, 1, 4).await]);
    bench.restart_without_state().await;
    assert_eq!((bench.counters().passed_on, bench.counters().outbox), (2, 2));
    bench.receiver.up();
    assert_eq!(bench.receiver.bodies(4).await, sent);
    assert_eq!(bench.settled().await, (4, 0));
    bench.restart_without_state().await;
    assert_eq!((bench.settled().await, bench.receiver.got().len()), ((4, 0), 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_relays_survive_the_loss_of_their_segments() {
    waiting_relays_survive(|archived| std::fs::remove_dir_all(archived).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_relays_survive_damage_to_their_archived_segments() {
    let damage = |archived: &Path| {
        for item in std::fs::read_dir(archived).unwrap() {
            let path = item.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            let place = bytes.len() * 2 / 3;
            bytes[place] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    };
    waiting_relays_survive(damage).await;
}

/// With their segments in the archive, which `lose` has the folder of.
async fn waiting_relays_survive(lose: impl FnOnce(&Path)) {
    let mut bench = Bench::start_with(Receiver::start_down(), |_| {}).await;
    let id = bench.reference(&bench.receiver.url("/")).await;
    let mut sent = vec![bench.progress(&id, 1, 1).await, bench.progress(&id, 1, 2).await];
    let unclear = r#"{"what": "is this"}"#;
    assert_eq!(bench.post(&id, unclear).await, 202);
    sent.push(unclear.to_owned());
    for _ in 0..2 {
        let log = bench.vault.running().intake().log().clone();
        assert!(Retention::new(log, Intake::parse_callback, Duration::ZERO).pass().await.unwrap() > 0);
        sent.push(bench.progress(&id, 1, 2 + sent.len() as u64).await);
    }
    bench.vault.stop().await;
    lose(&bench.vault.dir.path().join("bucket/_journal"));
    std::fs::remove_dir_all(bench.vault.settings.data_dir.join("state")).unwrap();
    bench.vault.start_again().await;
    assert_eq!((bench.counters().outbox, bench.counters().quarantined), (5, 1));
    bench.receiver.up();
    assert_eq!(bench.receiver.bodies(5).await, sent);
    assert_eq!(bench.settled().await, (5, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_does_not_hold_up_others() {
    let bench = Bench::start().await;
    let hanging = Receiver::start();
    hanging.hang();
    for number in 1..=40 {
        let id = bench.reference(&hanging.url("/")).await;
        bench.progress(&id, number, 1).await;
    }
    let id = bench.reference(&bench.receiver.url("/")).await;
    let body = bench.progress(&id, 41, 1).await;
    let taken = tokio::time::timeout(Duration::from_secs(10), bench.receiver.bodies(1)).await;
    assert_eq!(taken.expect("it waits for the others"), [body]);
    assert_eq!(hanging.got().len(), 1, "one that has never answered gets one request");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_receivers_that_hang_do_not_delay_another() {
    let bench = Bench::start().await;
    let id = bench.reference(&bench.receiver.url("/")).await;
    let first = bench.progress(&id, 1, 1).await;
    bench.settled().await;
    // Each address of it stands for a receiver. The system takes connections and requests, and nobody reads them.
    let hanging = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = hanging.local_addr().unwrap().port();
    for first in (1..=200).step_by(20) {
        let posts = (first..first + 20).map(|number| {
            let (bench, url) = (&bench, format!("http://127.0.1.{number}:{port}/"));
            async move { bench.progress(&bench.reference(&url).await, number + 1, 1).await }
        });
        join_all(posts).await;
    }
    let second = bench.progress(&id, 1, 2).await;
    let taken = tokio::time::timeout(Duration::from_secs(25), bench.receiver.bodies(2)).await;
    assert_eq!(taken.expect("it waits for the others"), [first, second]);
}
