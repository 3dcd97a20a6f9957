//! Links: those that die before the file is stored, and those that the store signs.

use super::*;
use crate::support::s3::S3Server;

#[tokio::test(flavor = "multi_thread")]
async fn links_that_die_within_the_hour_are_told_of_once_while_their_file_cannot_be_had() {
    let receiver = Receiver::start();
    let bench = Bench::start(|settings| settings.notify.endpoints = vec![endpoint("a", &receiver.url("/"))]).await;
    let own = Receiver::start();
    let url = bench.reference("boat", &own.url("/")).await;
    let now = replyvault::domain::Timestamp::now().millis() / 1000;
    let links = [(1, now + 600), (2, now + 7200)];
    for (number, expires) in links {
        let path = format!("/{number}.mp4");
        let file = bench.media.put_after(&path, &[503, 503], mp4(number, 3000), "video/mp4");
        let mut video = completed(number, &format!("{file}?Expires={expires}"));
        video["replyRef"] = "boat".into();
        assert_eq!(bench.vault.post(&url, video.to_string()).await.0, 200);
    }
    for (number, _) in links {
        bench.vault.archived(&video_id(number)).await;
        assert_eq!(bench.media.hits(&format!("/{number}.mp4")), 3);
    }
    assert_eq!(bench.settled().await, (6, 0));
    for (receiver, secret) in [(&receiver, SECRET), (&own, NOTIFY_SECRET)] {
        let told = events(receiver, 3, secret).await;
        let of = |number: u64| {
            let told = told.iter().filter(|(_, event)| event["data"]["jobId"] == video_id(number));
            told.map(|(_, event)| event["type"].as_str().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!((of(1), of(2)), (vec!["job.expiring", "job.archived"], vec!["job.archived"]));
        let (_, expiring) = told.iter().find(|(_, event)| event["type"] == "job.expiring").unwrap();
        assert_eq!((&expiring["data"]["state"], &expiring["data"]["archivedAt"]), (&json!("archiving"), &Value::Null));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_the_store_signs_give_the_file_to_whoever_has_them() {
    let s3 = S3Server::start().await;
    let (with, without) = (Receiver::start(), Receiver::start());
    let bench = Bench::start(|settings| {
        settings.bucket = s3.config("films");
        settings.links.presign_expiry = Duration::from_secs(1800);
        settings.notify.endpoints = vec![endpoint("with", &with.url("/")), endpoint("without", &without.url("/"))];
        settings.notify.endpoints[0].presigned = true;
    })
    .await;
    bench.vault.callback(bench.video(1)).await;
    let job = bench.vault.archived(&video_id(1)).await;
    let links = |job: &Value| job["assets"][0]["links"].clone();
    assert_eq!((&links(&job)["presigned"], &links(&job)["expiresAt"]), (&Value::Null, &Value::Null));
    let told = events(&without, 1, SECRET).await;
    assert_eq!(links(&told[0].1["data"]), links(&job));

    let told = events(&with, 1, SECRET).await;
    let path = format!("/api/v1/jobs/{}", video_id(1));
    let shown = bench.vault.get(&format!("{path}?links=presigned")).await.1;
    let listed = bench.vault.get("/api/v1/jobs?links=presigned").await.1["items"][0].clone();
    for signed in [links(&told[0].1["data"]), links(&shown), links(&listed)] {
        let link = signed["presigned"].as_str().unwrap();
        assert!(link.starts_with(&format!("{}/media/films/", s3.endpoint)), "{link}");
        let expires = replyvault::domain::Timestamp::parse_rfc3339(signed["expiresAt"].as_str().unwrap()).unwrap();
        let left = expires.since(replyvault::domain::Timestamp::now()).as_secs();
        assert!((1000..=1800).contains(&left), "{left}");
        let file = bench.vault.client.get(link).send().await.unwrap();
        assert_eq!((file.status().as_u16(), file.bytes().await.unwrap()), (200, mp4(1, 3000).into()));
        let another = link.replace("Signature=", "Signature=0");
        assert!(bench.vault.client.get(another).send().await.unwrap().status().is_client_error());
    }
}
