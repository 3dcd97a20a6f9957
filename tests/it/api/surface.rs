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
        "GET /api/v1/jobs/{jobId}",
        "POST /api/v1/jobs/{jobId}/retry",
        "GET /api/v1/media",
        "GET /api/v1/media/{sha256}",
        "GET /api/v1/media/{sha256}/content",
        "HEAD /api/v1/media/{sha256}/content",
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
        (Method::GET, "/api/v1/session", "DELETE, POST"),
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
async fn the_page_needs_nothing_from_elsewhere() {
    let vault = Vault::start().await;
    let response = vault.request(Method::GET, "/").send().await.unwrap();
    assert!(header(&response, "content-type").starts_with("text/html"));
    let policy = header(&response, "content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'unsafe-inline'"), "{policy}");
    let text = response.text().await.unwrap();
    assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("<script"));
    let links: Vec<&str> = text.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(links.len() >= 4, "{links:?}");
    for link in links {
        assert_eq!(vault.send(Method::GET, &format!("/{link}")).await.status(), 200, "{link}");
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
