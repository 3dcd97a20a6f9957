//! One host, one caller, or one receiver that is slow keeps no other waiting.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use replyvault::app::Settings;
use replyvault::domain::{RefId, ReplyRef, Target};
use replyvault::egress::AllowedHosts;
use replyvault::intake::NewRef;
use serde_json::json;

use crate::support::media::{MediaServer, mp4};
use crate::support::slow::SlowServer;
use crate::support::vault::{Vault, completed, video_id};

/// Both hosts are allowed, and what hangs does so for longer than any test waits.
fn two_hosts(settings: &mut Settings) {
    let hosts = ["127.0.0.1", "127.0.0.2"].map(|host| host.parse().unwrap());
    settings.fetch.egress.allowed_hosts = AllowedHosts::Only(hosts.to_vec());
    settings.fetch.idle_timeout = Duration::from_secs(600);
    settings.bucket.part_size = 8 << 20;
    settings.shutdown_grace = Duration::ZERO;
}

/// Posts callbacks about so many jobs, from number `from` on, whose files never come.
async fn hang(vault: &Vault, slow: &SlowServer, from: u64, count: u64) {
    let url = vault.channel_url();
    let posted = stream::iter(from..from + count).for_each_concurrent(32, async |number| {
        let body = completed(number, &slow.url(&format!("/hang/{number}"))).to_string();
        let answer = vault.client.post(&url).body(body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    });
    posted.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_thousands_of_due_jobs_does_not_delay_another() {
    let (media, slow) = (MediaServer::start(), SlowServer::start());
    let vault = Vault::start_with(two_hosts).await;
    hang(&vault, &slow, 1000, 2500).await;
    slow.asked(8).await;
    let bytes = mp4(1, 4096);
    vault.callback(completed(1, &media.put("/v.mp4", bytes.clone(), "video/mp4"))).await;
    vault.assert_stored(&vault.archived(&video_id(1)).await, &bytes).await;
    assert_eq!(slow.requests(), 8, "no more than its share");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_refs_due_jobs_leave_places_for_anothers() {
    let slow = SlowServer::start();
    let vault = Vault::start_with(two_hosts).await;
    let intake = vault.running().intake();
    let mut urls = Vec::new();
    for name in ["greedy", "modest"] {
        let new = NewRef { reply_ref: Some(ReplyRef::new(name).unwrap()), ..NewRef::default() };
        let id: RefId = intake.register(new).await.unwrap().0.id;
        urls.push(intake.urls().reply_url(&Target::Ref(id)));
    }
    for number in 1..=300 {
        let body = json!({"videoId": video_id(number), "status": 2, "videoURL": slow.url(&format!("/hang/{number}"))});
        assert_eq!(vault.post(&urls[0], body.to_string()).await.0, 200);
    }
    slow.asked(6).await;
    // The same host, which has two places left.
    let url = slow.url("/crumbs/1000");
    let body = json!({"videoId": video_id(1000), "status": 2, "videoURL": url});
    assert_eq!(vault.post(&urls[1], body.to_string()).await.0, 200);
    vault.archived(&video_id(1000)).await;
    assert_eq!(slow.requests(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_downloads_of_one_host_leave_memory_for_others() {
    let (media, slow) = (MediaServer::start(), SlowServer::start());
    let vault = Vault::start_with(two_hosts).await;
    for number in 1..=8 {
        vault.callback(completed(number, &slow.url(&format!("/drip/20480/{number}")))).await;
    }
    slow.asked(8).await;
    for (number, size) in [(11, 4096), (12, 20 << 20)] {
        let bytes = mp4(number, size);
        vault.callback(completed(number, &media.put(&format!("/{number}"), bytes.clone(), "video/mp4"))).await;
        vault.assert_stored(&vault.archived(&video_id(number)).await, &bytes).await;
    }
    assert_eq!(vault.get("/api/v1/stats").await.1["fetching"], 8, "the slow ones go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_of_one_byte_are_taken_at_a_pace_and_stored_whole() {
    let slow = SlowServer::start();
    let vault = Vault::start_with(two_hosts).await;
    let began = Instant::now();
    vault.callback(completed(1, &slow.url("/crumbs/30000"))).await;
    let job = vault.archived(&video_id(1)).await;
    vault.assert_stored(&job, &mp4(1, 30_000)).await;
    assert!(began.elapsed() > Duration::from_secs(1), "a core would be busy with them: {:?}", began.elapsed());
}
