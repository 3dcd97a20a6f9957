use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;

use super::*;

const REFS: &str = "/api/v1/refs";

async fn refused(vault: &Vault, body: impl Into<reqwest::Body>) -> (u16, String, String) {
    let response = vault.request(Method::POST, REFS).bearer_auth(ADMIN).body(body).send().await.unwrap();
    let (status, body) = answer(response).await;
    let text = |field: &str| body["error"][field].as_str().unwrap().to_owned();
    (status, text("code"), text("message"))
}

#[tokio::test]
async fn a_ref_is_registered_once_and_its_url_works() {
    let vault = Vault::start().await;
    let body = json!({"replyRef": "boat-0017", "notifyUrl": "https://n.example/x", "labels": {"team": "film"}});
    let response = vault.request(Method::POST, REFS).bearer_auth(ADMIN).body(body.to_string()).send().await.unwrap();
    let location = header(&response, "location").to_owned();
    let (status, made) = answer(response).await;
    assert_eq!(status, 201);
    let names: Vec<&str> = made.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = ["createdAt", "labels", "notifyUrl", "origin", "refId", "replyRef", "replyUrl", "state"];
    assert_eq!(names, expected);
    assert_eq!(
        (&made["replyRef"], &made["labels"], &made["notifyUrl"]),
        (&body["replyRef"], &body["labels"], &body["notifyUrl"])
    );
    assert_eq!((&made["origin"], &made["state"]), (&json!("registered"), &json!("active")));
    assert!(Timestamp::parse_rfc3339(made["createdAt"].as_str().unwrap()).is_some());
    assert_eq!(location, format!("{REFS}/{}", made["refId"].as_str().unwrap()));

    assert_eq!(vault.post(REFS, body.to_string()).await, (200, made.clone()));
    let other = json!({"replyRef": "boat-0017", "labels": {"team": "other"}});
    assert_eq!(refused(&vault, other.to_string()).await.1, "conflict");

    let url = made["replyUrl"].as_str().unwrap();
    assert!(url.len() < 1024);
    let path = url.strip_prefix("http://vault.example.com").unwrap();
    let callback = json!({"videoId": id(1), "status": 1, "percent": 40}).to_string();
    let response = vault.request(Method::POST, path).body(callback.clone()).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let mut shown = vault.get(&location).await;
    let jobs = shown.as_object_mut().unwrap().remove("jobs").unwrap();
    assert_eq!(shown.as_object_mut().unwrap().remove("ended"), Some(json!(false)));
    assert_eq!(shown, made);
    assert_eq!(
        (&jobs[0]["jobId"], &jobs[0]["replyRef"], &jobs[0]["percent"]),
        (&json!(id(1)), &json!("boat-0017"), &json!(40))
    );

    assert_eq!(vault.send(Method::DELETE, &location).await.status(), 204);
    assert_eq!(refusal(vault.send(Method::DELETE, &location).await).await.0, 404);
    assert_eq!(refusal(vault.send(Method::GET, &location).await).await.0, 404);
    let response = vault.request(Method::POST, path).body(callback).send().await.unwrap();
    assert_eq!(refusal(response).await, (401, "bad_signature".to_owned()));
    assert_eq!(vault.get(&format!("/api/v1/jobs/{}", id(1))).await["percent"], 40, "its jobs stay");
}

#[tokio::test]
async fn a_reference_is_made_where_none_is_given() {
    let vault = Vault::start().await;
    for body in ["", "{}", " \n", r#"{"replyRef": null, "notifyUrl": null, "labels": null}"#] {
        let (status, made) = vault.post(REFS, body).await;
        assert_eq!((status, made["replyRef"].as_str().unwrap().len()), (201, 26), "{body:?}");
        assert_eq!((&made["notifyUrl"], &made["labels"]), (&Value::Null, &json!({})));
    }
    assert_eq!(vault.get(REFS).await["items"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn references_are_any_text_of_1_to_1024_characters() {
    let vault = Vault::start().await;
    for name in ["👩‍👩‍👧‍👦".repeat(146) + "ab", "é".repeat(1024), "a/b?c#d&e=%20+\u{1}\"\\".to_owned(), " ".to_owned()]
    {
        let (status, made) = vault.post(REFS, json!({"replyRef": name}).to_string()).await;
        assert_eq!((status, made["replyRef"].as_str()), (201, Some(&*name)));
        let query = utf8_percent_encode(&name, NON_ALPHANUMERIC);
        let found = vault.get(&format!("{REFS}?replyRef={query}")).await;
        assert_eq!(found["items"][0], made);
        assert_eq!((found["items"].as_array().unwrap().len(), &found["nextCursor"]), (1, &Value::Null));
    }
    for name in ["é".repeat(1025), String::new()] {
        let (status, code, message) = refused(&vault, json!({"replyRef": name}).to_string()).await;
        assert_eq!((status, &*code, message.starts_with("replyRef: ")), (422, "invalid_request", true), "{message}");
    }
    assert_eq!(vault.get(&format!("{REFS}?replyRef=nobody")).await, json!({"items": [], "nextCursor": null}));
    let long = format!("{REFS}?replyRef={}", "a".repeat(1025));
    assert_eq!(refusal(vault.send(Method::GET, &long).await).await.0, 400);
}

#[tokio::test]
async fn invalid_json_is_400_and_an_invalid_ref_422() {
    let vault = Vault::start().await;
    for body in ["{", "nope", "{\"a\":1,}", "{\"replyRef\": 5", "\"\\ud800", "{\"labels\":{\"a\":\"\u{1}\"}}", "{} {}"]
    {
        let (status, code, _) = refused(&vault, body).await;
        assert_eq!((status, &*code), (400, "invalid_json"), "{body}");
    }
    let not_text = refused(&vault, b"{\"replyRef\":\"\xff\"}".to_vec()).await;
    assert_eq!((not_text.0, &*not_text.1), (400, "invalid_json"));
    let labels = |count: usize| (0..count).map(|n| (n.to_string(), json!("x"))).collect::<serde_json::Map<_, _>>();
    for (body, names) in [
        (json!([]), "object"),
        (json!(null), "object"),
        (json!(["boat", null, {}]), "object"),
        (json!({"replyRef": 5}), "replyRef"),
        (json!({"reply_ref": "a"}), "replyRef"),
        (json!({"replyref": "a"}), "`replyref`"),
        (json!({"notifyUrl": "ftp://a/b"}), "notifyUrl"),
        (json!({"notifyUrl": "/in"}), "notifyUrl"),
        (json!({"notifyUrl": "http://a.example/b"}), "notifyUrl: the URL is http, expected https"),
        (json!({"notifyUrl": "https://me:it@a.example/b"}), "notifyUrl: the URL has a user name or password"),
        (json!({"notifyUrl": "https://127.0.0.1/b"}), "notifyUrl: host 127.0.0.1 has the loopback address"),
        (json!({"notifyUrl": "https://a/b c"}), "notifyUrl"),
        (json!({"notifyUrl": ""}), "notifyUrl"),
        (json!({"notifyUrl": format!("https://a.example/{}", "a".repeat(1007))}), "notifyUrl"),
        (json!({"labels": {"a": 5}}), "labels.a"),
        (json!({"labels": ["a"]}), "labels"),
        (json!({"labels": labels(33)}), "labels"),
        (json!({"labels": {"": "x"}}), "labels"),
        (json!({"labels": {"a".repeat(65): "x"}}), "labels"),
        (json!({"labels": {"a": "é".repeat(257)}}), "labels.a"),
    ] {
        let (status, code, message) = refused(&vault, body.to_string()).await;
        assert_eq!((status, &*code), (422, "invalid_request"), "{body}");
        assert!(message.contains(names) && message.contains("expected") && message.len() < 500, "{message}");
    }
    let most = json!({
        "notifyUrl": format!("https://a.example/{}", "a".repeat(1006)),
        "labels": labels(31).into_iter().chain([("é".repeat(64), json!("é".repeat(256)))]).collect::<serde_json::Map<_, _>>(),
    });
    assert_eq!(vault.post(REFS, most.to_string()).await.0, 201);
    assert_eq!(vault.get(REFS).await["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn bodies_are_bounded() {
    let vault = Vault::start().await;
    let padded = |length: usize| format!("{{}}{}", " ".repeat(length - 2));
    assert_eq!(vault.post(REFS, padded(64 << 10)).await.0, 201);
    let (status, code, _) = refused(&vault, padded((64 << 10) + 1)).await;
    assert_eq!((status, &*code), (413, "too_large"));
}

#[tokio::test]
async fn refs_are_listed_to_the_end_newest_first() {
    let vault = Vault::start().await;
    let mut made = Vec::new();
    for number in 0..7 {
        let (_, one) = vault.post(REFS, json!({"replyRef": format!("r{number}")}).to_string()).await;
        made.insert(0, one);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let (mut listed, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = vault.get(&format!("{REFS}?limit=3&cursor={cursor}")).await;
        listed.extend(page["items"].as_array().unwrap().clone());
        pages += 1;
        match page["nextCursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!((listed, pages), (made, 3));
    for query in
        ["limit=0", "limit=201", "limit=-1", "limit=+5", "limit=x", "cursor=x", "colour=red", "limit=1&limit=2"]
    {
        let response = vault.send(Method::GET, &format!("{REFS}?{query}")).await;
        assert_eq!(refusal(response).await, (400, "invalid_request".to_owned()), "{query}");
    }
    vault.get(&format!("{REFS}?limit=200&replyRef=&cursor=")).await;
}

#[tokio::test]
async fn a_ref_shows_its_newest_jobs_and_no_other_s() {
    let vault = Vault::start().await;
    vault.completed(5000).await;
    let adopted = vault.get(&format!("{REFS}?replyRef=boat")).await["items"][0].clone();
    assert_eq!(adopted["origin"], "adopted");
    let old = format!("{REFS}/{}", adopted["refId"].as_str().unwrap());
    assert_eq!(vault.get(&old).await["jobs"].as_array().unwrap().len(), 1);
    vault.send(Method::DELETE, &old).await;
    let (_, made) = vault.post(REFS, json!({"replyRef": "boat"}).to_string()).await;
    let path = format!("{REFS}/{}", made["refId"].as_str().unwrap());
    assert_eq!(vault.get(&path).await["jobs"], json!([]), "the deleted ref's job is not this one's");
    for number in 0..103 {
        vault.completed(number).await;
    }
    let shown = vault.get(&path).await;
    let shown: Vec<&str> = shown["jobs"].as_array().unwrap().iter().map(|job| job["jobId"].as_str().unwrap()).collect();
    assert_eq!(shown, (3..103).rev().map(id).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_ref_that_a_callback_made_can_be_registered() {
    let vault = Vault::start().await;
    vault.completed(1).await;
    let adopted = vault.get(&format!("{REFS}?replyRef=boat")).await["items"][0].clone();
    assert_eq!(adopted["origin"], "adopted");
    let wanted = json!({"replyRef": "boat", "labels": {"project": "harbour"}});
    let (status, registered) = vault.post(REFS, wanted.to_string()).await;
    assert_eq!((status, &registered["origin"]), (200, &json!("registered")), "{registered}");
    assert_eq!((&registered["refId"], &registered["labels"]), (&adopted["refId"], &wanted["labels"]));
    let (status, _) = vault.post(REFS, json!({"replyRef": "boat"}).to_string()).await;
    assert_eq!(status, 409, "by now somebody has said what it is");
}

#[tokio::test]
async fn a_reply_url_given_as_a_reference_shows_no_signature() {
    let vault = Vault::start().await;
    let url = vault.intake.urls().reply_url(&Target::UseApi);
    let (place, signature) = url.rsplit_once('/').unwrap();
    let (status, made) = vault.post(REFS, json!({"replyRef": url}).to_string()).await;
    assert_eq!((status, &made["replyRef"]), (201, &json!(format!("{place}/…"))));
    assert_eq!(vault.callback(json!({"videoId": id(1), "status": 1, "replyRef": url})).await.0, 200);
    for path in [REFS, "/api/v1/jobs", &format!("{REFS}/{}", made["refId"].as_str().unwrap())] {
        let text = vault.send(Method::GET, path).await.text().await.unwrap();
        assert!(text.contains(place) && !text.contains(signature), "{path}: {text}");
    }
    let named = utf8_percent_encode(&url, NON_ALPHANUMERIC);
    assert_eq!(vault.get(&format!("/api/v1/jobs?replyRef={named}")).await["items"][0]["jobId"], id(1));
}

#[tokio::test]
async fn an_unknown_ref_is_not_found() {
    let vault = Vault::start().await;
    for path in ["x", "ref_", "ref_01jd0000000000000000000000", "ref_01JD0000000000000000000000", "%ff", "%2e%2e"] {
        let response = vault.send(Method::GET, &format!("{REFS}/{path}")).await;
        assert_eq!(refusal(response).await, (404, "not_found".to_owned()), "{path}");
    }
}
