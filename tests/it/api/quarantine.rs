use replyvault::intake::QuarantineLimits;
use reqwest::Method;

use super::*;

const QUARANTINE: &str = "/api/v1/quarantine";

#[tokio::test]
async fn a_quarantined_body_is_shown_without_secrets() {
    let vault = Vault::start().await;
    let reply_url = vault.intake.urls().reply_url(&Target::Channel);
    let signature = reply_url.rsplit('/').next().unwrap();
    let body = format!(r#"{{"hello": 1.50, "replyUrl": "{reply_url}", "file": "https://h/v.mp4?sig=cdn-secret"}}"#);
    let (status, kept) = vault.callback_over(&Target::Channel, body.clone()).await;
    assert_eq!((status, &kept["reason"]), (202, &json!("unknown_shape")));
    let path = format!("{QUARANTINE}/{}", kept["quarantineId"].as_str().unwrap());
    let text = vault.send(Method::GET, &path).await.text().await.unwrap();
    let hidden = body.replace(signature, "…").replace("sig=cdn-secret", "…");
    assert!(text.ends_with(&format!("\"body\":{hidden}}}")), "{text}");
    let mut shown: Value = serde_json::from_str(&text).unwrap();
    shown.as_object_mut().unwrap().remove("body");
    let expected = json!({
        "quarantineId": kept["quarantineId"], "at": shown["at"], "target": "minimax", "reason": "unknown_shape",
        "jobId": null, "bytes": body.len(),
    });
    assert_eq!(shown, expected);
    assert!(Timestamp::parse_rfc3339(shown["at"].as_str().unwrap()).is_some());
    assert_eq!(vault.get(QUARANTINE).await["items"], json!([expected]));
}

#[tokio::test]
async fn it_is_looked_at_again_on_demand() {
    let vault = Vault::with(Options { adopt: false, ..Options::new(storage("memory:")) }).await;
    let body = json!({"videoId": id(1), "status": 1, "replyRef": "later"});
    let (status, kept) = vault.callback(body).await;
    assert_eq!((status, &kept["reason"]), (202, &json!("unknown_reply_ref")));
    let path = format!("{QUARANTINE}/{}", kept["quarantineId"].as_str().unwrap());
    assert_eq!(vault.get(&path).await["jobId"], id(1));

    let replay = format!("{path}/replay");
    assert_eq!(vault.post(&replay, "").await, (202, kept));
    assert_eq!(vault.post("/api/v1/refs", json!({"replyRef": "later"}).to_string()).await.0, 201);
    let (status, accepted) = vault.post(&replay, "").await;
    let expected = json!({"accepted": true, "jobId": id(1), "replyRef": "later", "state": "running", "final": false});
    assert_eq!((status, accepted), (200, expected));

    assert_eq!(refusal(vault.send(Method::POST, &replay).await).await, (404, "not_found".to_owned()));
    assert_eq!(refusal(vault.send(Method::GET, &path).await).await, (404, "not_found".to_owned()));
    assert_eq!(vault.get(QUARANTINE).await, json!({"items": [], "nextCursor": null}));
}

#[tokio::test]
async fn it_is_listed_to_the_end() {
    let vault = Vault::start().await;
    let mut kept = Vec::new();
    for number in 0..5 {
        kept.insert(0, vault.callback(json!({"odd": number})).await.1["quarantineId"].clone());
    }
    let (mut listed, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = vault.get(&format!("{QUARANTINE}?limit=2&cursor={cursor}")).await;
        listed.extend(page["items"].as_array().unwrap().iter().map(|item| item["quarantineId"].clone()));
        match page["nextCursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(listed, kept);
    assert_eq!(vault.get("/api/v1/stats").await["quarantined"], 5);
}

#[tokio::test]
async fn missing_objects_are_not_found() {
    let vault = Vault::start().await;
    vault.completed(1).await;
    let ids: Vec<String> =
        (0..200).map(intake::quarantine_id).chain(["x".to_owned(), "q_+000000000000001".to_owned()]).collect();
    for id in ids {
        let response = vault.send(Method::GET, &format!("{QUARANTINE}/{id}")).await;
        assert_eq!(refusal(response).await, (404, "not_found".to_owned()), "{id}");
    }
    let response = vault.send(Method::POST, &format!("{QUARANTINE}/q_0000000000000040/replay")).await;
    assert_eq!(refusal(response).await, (404, "not_found".to_owned()));
}

#[tokio::test]
async fn one_is_deleted_or_all_that_match_and_they_stay_deleted() {
    let vault = Vault::with(Options { adopt: false, ..Options::new(storage("memory:")) }).await;
    let mut kept = Vec::new();
    for number in 0..6 {
        let body = if number < 4 { json!({"odd": number}) } else { json!({"videoId": id(number), "status": 1}) };
        kept.push(vault.callback(body).await.1["quarantineId"].as_str().unwrap().to_owned());
    }
    let deleted = async |query: &str| {
        let response = vault.send(Method::DELETE, &format!("{QUARANTINE}{query}")).await;
        (response.status().as_u16(), response.json::<Value>().await.unwrap_or_default()["deleted"].clone())
    };
    assert_eq!(deleted(&format!("/{}", kept[0])).await, (204, Value::Null));
    assert_eq!(deleted(&format!("/{}", kept[0])).await.0, 404);
    assert_eq!(refusal(vault.send(Method::GET, &format!("{QUARANTINE}/{}", kept[0])).await).await.0, 404);
    for early in ["2020-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "0001-01-01T00:00:00Z"] {
        assert_eq!(deleted(&format!("?before={early}")).await, (200, json!(0)), "{early}");
    }
    assert_eq!(deleted("?reason=unknown_reply_ref").await, (200, json!(2)));
    for refused in ["?reason=whatever", "?before=yesterday", "?after=2020-01-01T00:00:00Z"] {
        assert_eq!(deleted(refused).await.0, 400);
    }
    assert_eq!(vault.get("/api/v1/stats").await["quarantined"], 3);
    // A repeat of what is kept is answered from its record; of what was deleted there is none.
    assert_eq!(vault.callback(json!({"odd": 1})).await.1["quarantineId"], json!(kept[1]));
    let again = vault.callback(json!({"odd": 0})).await;
    assert_eq!(again.0, 202);
    assert_ne!(again.1["quarantineId"], json!(kept[0]));
    assert_eq!(deleted("").await, (200, json!(4)));
    assert_eq!(vault.get(QUARANTINE).await["items"], json!([]));
    let state = vault.intake.log().state().clone();
    assert_eq!(state.counters().unwrap().quarantined_bytes, 0);
    vault.intake.log().close();
    let journal = Journal::open(&vault.dir.path().join("journal")).unwrap();
    for name in ["state", "anew"] {
        let log = EventLog::open(journal.clone(), &vault.dir.path().join(name), Intake::parse_callback).unwrap();
        log.recovered().await.unwrap();
        assert_eq!(log.state().quarantine(9, None).unwrap().items, []);
        log.close();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_quarantine_loses_the_oldest_of_who_sent_most_and_nothing_of_others() {
    let limits = QuarantineLimits { items: 32, ..QuarantineLimits::default() };
    let vault = crate::support::vault::Vault::start_with(|settings| settings.intake.quarantine = limits).await;
    let (_, reference) = vault.send("POST", "/api/v1/refs", &json!({"replyRef": "quiet"})).await;
    let quiet = reference["replyUrl"].as_str().unwrap().rsplit_once("/reply/").unwrap().1.to_owned();
    for number in 0..4 {
        vault.post(&vault.url(&format!("/reply/{quiet}")), json!({"quiet": number}).to_string()).await;
    }
    for number in 0..200 {
        let (status, _) = vault.post(&vault.channel_url(), json!({"loud": number}).to_string()).await;
        assert_eq!(status, 202);
    }
    let listed = async || vault.get("/api/v1/quarantine?limit=200").await.1["items"].as_array().unwrap().clone();
    let wait = async {
        while listed().await.len() > 32 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(crate::support::vault::PATIENCE, wait).await.expect("it stays too full");
    let items = listed().await;
    assert_eq!(items.iter().filter(|item| item["target"] != "minimax").count(), 4);
    let (_, newest) = vault.get(&format!("/api/v1/quarantine/{}", items[0]["quarantineId"].as_str().unwrap())).await;
    assert_eq!(newest["body"], json!({"loud": 199}));
}
