//! What passes through the gateway, and who may send it.

use actix_web::HttpResponse;
use serde_json::json;

use super::provider::{Asked, CALLERS_TOKEN, PROVIDER_TOKEN, Provider, vault};
use crate::support::vault::{TOKEN, Vault};

fn echo(asked: &Asked) -> HttpResponse {
    HttpResponse::Accepted()
        .append_header(("X-Two", "1"))
        .append_header(("X-Two", "2"))
        .append_header(("Keep-Alive", "timeout=5"))
        .content_type("application/octet-stream")
        .body(asked.body.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn method_query_headers_status_and_body_pass_as_they_are() {
    let provider = Provider::start(echo);
    let vault = vault(&provider.base_url).await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let url = vault.url("/v1/minimax/videos/user:1-minimax:2-video:3/?a=1&b=%20+%2F&a=2");
        let request = vault.client.request(method.parse().unwrap(), url).bearer_auth(TOKEN);
        let request = request.header("X-Mine", "mine").header("Cookie", "a=1; replyvault_session=x; b=2");
        let response = request.header("Content-Type", "image/png").body("\0\u{1}bytes").send().await.unwrap();
        assert_eq!(response.status(), 202, "{method}");
        let two: Vec<_> = response.headers().get_all("x-two").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(two, ["1", "2"]);
        assert!(response.headers().get("keep-alive").is_none());
        assert_eq!(response.bytes().await.unwrap(), "\0\u{1}bytes");
        let asked = provider.last();
        assert_eq!(asked.method, method);
        assert_eq!(asked.target, "/v1/minimax/videos/user:1-minimax:2-video:3/?a=1&b=%20+%2F&a=2");
        assert_eq!(asked.header("x-mine"), Some("mine"));
        assert_eq!(asked.header("cookie"), Some("a=1; b=2"));
        assert_eq!(asked.header("content-length"), Some("7"));
        assert_eq!(asked.header("host").unwrap(), provider.base_url.trim_start_matches("http://"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_token_becomes_the_providers_and_its_own_stays() {
    let provider = Provider::start(|_| HttpResponse::Ok().json(json!({})));
    let vault = vault(&provider.base_url).await;
    for (token, seen) in [(TOKEN, PROVIDER_TOKEN), (CALLERS_TOKEN, CALLERS_TOKEN)] {
        let url = vault.url("/v1/minimax/accounts");
        assert_eq!(vault.client.get(url).bearer_auth(token).send().await.unwrap().status(), 200);
        assert_eq!(provider.last().header("authorization").unwrap(), format!("Bearer {seen}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_gets_anything_forwarded() {
    let provider = Provider::start(|_| HttpResponse::Ok().json(json!({})));
    let vault = vault(&provider.base_url).await;
    let url = vault.url("/v1/minimax/videos/create");
    let refused = async |request: reqwest::RequestBuilder| {
        let response = request.body("{}").send().await.unwrap();
        assert_eq!(response.status(), 401);
        let body: serde_json::Value = response.json().await.unwrap();
        assert_eq!(body["error"]["code"], "unauthorized");
    };
    refused(vault.client.post(&url)).await;
    // The vault's own token for the provider is nobody's to use.
    for token in ["", "x", PROVIDER_TOKEN, "test-token-012345678"] {
        refused(vault.client.post(&url).bearer_auth(token)).await;
    }
    refused(vault.client.post(&url).basic_auth(TOKEN, Some(TOKEN))).await;
    refused(vault.client.post(&url).bearer_auth(TOKEN).header("Authorization", "Bearer x")).await;
    refused(vault.client.get(vault.url("/v1/minimax/audio/wss?token=x"))).await;
    assert!(provider.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_none_until_it_is_configured() {
    let vault = Vault::start().await;
    let url = vault.url("/v1/minimax/videos");
    assert_eq!(vault.client.get(url).bearer_auth(TOKEN).send().await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_cannot_lead_out_of_the_api() {
    let provider = Provider::start(|_| HttpResponse::Ok().finish());
    let vault = vault(&provider.base_url).await;
    let address = vault.running().address();
    for path in
        ["/v1/minimax/../other", "/v1/minimax/%2e%2e/other", "/v1/minimax/a/..%2f..%2f/b", "/v1/minimax/.%2E\\x"]
    {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: vault\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n");
        let answer = tokio::task::spawn_blocking(move || {
            use std::io::{Read, Write};
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        let answer = answer.await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{path}: {answer}");
    }
    assert!(provider.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_out_of_reach_is_said_to_be() {
    let closed = crate::support::free_address();
    let vault = vault(&format!("http://{closed}")).await;
    let response = vault.client.get(vault.url("/v1/minimax/accounts")).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(response.status(), 502);
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body["error"]["code"], "provider_unreachable");
}
