//! What holds for every path.

use std::collections::BTreeSet;

use reqwest::Method;

use super::*;

#[tokio::test]
async fn every_endpoint_is_described() {
    let vault = Vault::start().await;
    let response = vault.send(Method::GET, "/api/v1/openapi.json").await;
    assert!(header(&response, "content-type").starts_with("application/json"));
    let document: Value = response.json().await.unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let (mut described, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            described.insert(format!("{} {path}", method.to_uppercase()));
            assert!(ids.insert(operation["operationId"].to_string()), "{} is used twice", operation["operationId"]);
            let guarded = path.starts_with("/api/");
            assert_eq!(operation["security"].is_array(), guarded, "{method} {path}");
            assert_eq!(operation["responses"]["401"].is_object(), guarded || path.starts_with("/reply"), "{path}");
        }
    }
    let expected = [
        "POST /reply/{target}/{signature}",
        "GET /api/v1/refs",
        "POST /api/v1/refs",
        "GET /api/v1/refs/{refId}",
        "DELETE /api/v1/refs/{refId}",
        "GET /api/v1/jobs",
        "GET /api/v1/jobs/days",
        "GET /api/v1/jobs/zip",
        "GET /api/v1/jobs/{jobId}",
        "GET /api/v1/jobs/{jobId}/manifest",
        "POST /api/v1/jobs/{jobId}/retry",
        "GET /api/v1/media",
        "GET /api/v1/media/{sha256}",
        "GET /api/v1/media/{sha256}/content",
        "HEAD /api/v1/media/{sha256}/content",
        "GET /api/v1/media/{sha256}/thumbnail",
        "POST /api/v1/media/{sha256}/thumbnail",
        "DELETE /api/v1/quarantine",
        "DELETE /api/v1/quarantine/{id}",
        "GET /api/v1/quarantine",
        "GET /api/v1/quarantine/{id}",
        "POST /api/v1/quarantine/{id}/replay",
        "GET /api/v1/notifications",
        "POST /api/v1/notifications/{id}/retry",
        "GET /api/v1/events",
        "GET /api/v1/stats",
        "POST /api/v1/tasks/verify",
        "POST /api/v1/tasks/reconcile",
        "POST /api/v1/tasks/backfill",
        "GET /api/v1/tasks",
        "GET /api/v1/tasks/{taskId}",
        "GET /api/v1/session",
        "POST /api/v1/session",
        "DELETE /api/v1/session",
        "GET /api/v1/openapi.json",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
    ];
    assert_eq!(described, expected.map(str::to_owned).into());
    let text = document.to_string();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("#/components/schemas/") {
        rest = &rest[at + "#/components/schemas/".len()..];
        let name = &rest[..rest.find('"').unwrap()];
        assert!(document["components"]["schemas"][name].is_object(), "{name} is referred to and not there");
    }
}

#[tokio::test]
async fn unknown_paths_and_other_methods_are_errors_like_any_other() {
    let vault = Vault::start().await;
    for path in ["/nope", "/api", "/api/", "/api/v1", "/api/v2/jobs", "/api/v1/jobs/", "/healthz/x", "/apix"] {
        assert_eq!(refusal(vault.send(Method::GET, path).await).await, (404, "not_found".to_owned()), "{path}");
    }
    for (method, path, allow) in [
        (Method::PUT, "/api/v1/refs", "GET, HEAD, POST"),
        (Method::POST, "/api/v1/refs/ref_01jd0000000000000000000000", "DELETE, GET, HEAD"),
        (Method::DELETE, "/api/v1/jobs", "GET, HEAD"),
        (Method::GET, "/api/v1/jobs/x/retry", "POST"),
        (Method::PUT, "/api/v1/session", "DELETE, GET, HEAD, POST"),
        (Method::OPTIONS, "/api/v1/media/x/content", "GET, HEAD"),
        (Method::POST, "/", "GET, HEAD"),
        (Method::POST, "/metrics", "GET, HEAD"),
        (Method::DELETE, "/readyz", "GET, HEAD"),
    ] {
        let response = vault.send(method, path).await;
        assert_eq!(header(&response, "allow"), allow, "{path}");
        assert_eq!(refusal(response).await, (405, "method_not_allowed".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn the_gallery_loads_from_here_alone_and_what_it_loads_may_be_kept() {
    let vault = Vault::start().await;
    let response = vault.request(Method::GET, "/").send().await.unwrap();
    assert!(header(&response, "content-type").starts_with("text/html"));
    let policy = header(&response, "content-security-policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let text = response.text().await.unwrap();
    assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("<style"));
    let mut waiting: Vec<String> =
        text.split('"').filter(|part| part.starts_with("ui/")).map(|part| format!("/{part}")).collect();
    assert_eq!(waiting.len(), 2, "{waiting:?}");
    let mut seen = BTreeSet::new();
    while let Some(path) = waiting.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let response = vault.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(header(&response, "cache-control"), "public, max-age=31536000, immutable");
        let text = response.text().await.unwrap();
        let folder = path.rsplit_once('/').unwrap().0;
        for import in text.split(" from './").chain(text.split("from\"./")).skip(1) {
            let name = import.split(['\'', '"']).next().unwrap();
            if name.ends_with(".js") {
                waiting.push(format!("{folder}/{name}"));
            }
        }
    }
    assert!(seen.len() > 15, "{seen:?}");
    for path in ["/ui/0000000000000000/app.js", "/ui/x", "/ui/0/../page.rs"] {
        assert_eq!(refusal(vault.send(Method::GET, path).await).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn headers_that_browsers_heed_are_everywhere() {
    let vault = Vault::start().await;
    for path in ["/", "/healthz", "/readyz", "/metrics", "/nope", "/api/v1/jobs", "/api/v1/nope", "/reply/a/b"] {
        for token in [ADMIN, "wrong"] {
            let response = vault.request(Method::GET, path).bearer_auth(token).send().await.unwrap();
            assert_eq!(header(&response, "x-content-type-options"), "nosniff", "{path}");
            assert_eq!(header(&response, "referrer-policy"), "no-referrer", "{path}");
            if path.starts_with("/api") {
                assert_eq!(header(&response, "cache-control"), "no-store", "{path}");
            }
        }
    }
}
