//! Whose word on the client counts.

use replyvault::config::{Network, Setting};

use crate::support::vault::{TOKEN, Vault};

/// Whether the session's cookie is for HTTPS only, after these headers.
async fn secure(vault: &Vault, headers: &[(&str, &str)]) -> bool {
    let mut request = vault.client.post(vault.url("/api/v1/session")).bearer_auth(TOKEN);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.headers()["set-cookie"].to_str().unwrap().ends_with("; Secure")
}

#[tokio::test(flavor = "multi_thread")]
async fn https_before_the_service_is_believed_of_a_trusted_proxy_only() {
    let trusts = |networks: &'static [&str]| async move {
        let networks = networks.iter().map(|network| Network::read(network).unwrap()).collect();
        Vault::start_with(|settings| settings.trusted_proxies = networks).await
    };
    let trusting = trusts(&["10.0.0.0/8", "127.0.0.0/8"]).await;
    let (https, http) = (("x-forwarded-proto", "https"), ("x-forwarded-proto", "http"));
    assert!(secure(&trusting, &[https]).await);
    assert!(secure(&trusting, &[http, https]).await, "the last word is the nearest proxy's");
    assert!(!secure(&trusting, &[https, http]).await);
    assert!(!secure(&trusting, &[]).await);
    // Proxies that set the one header pass the other on as the client wrote it.
    assert!(!secure(&trusting, &[("forwarded", "proto=https")]).await);
    for vault in [trusts(&[]).await, trusts(&["10.0.0.0/8"]).await] {
        assert!(!secure(&vault, &[https]).await);
        assert!(!secure(&vault, &[("forwarded", "proto=https")]).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_names_the_client_that_a_trusted_proxy_names() {
    let said = ["6.6.6.6", "192.0.2.7, 127.0.0.1"];
    for (trusted, expected) in [("[]", "127.0.0.1"), (r#"["127.0.0.1"]"#, "192.0.2.7")] {
        let dir = tempfile::tempdir().unwrap();
        let mut program = crate::support::child::Program::new(dir.path());
        program.settings.push(("REPLYVAULT_SERVER__TRUSTED_PROXIES".to_owned(), trusted.to_owned()));
        program.settings.push(("REPLYVAULT_LOG".to_owned(), "info,replyvault::app=debug".to_owned()));
        let process = program.start().await;
        // Whose answer may wait loses its headers before the line is written.
        let paths = [("/healthz", 200), ("/api/v1/jobs/user:1-minimax:2-video:1?wait=1s", 404)];
        for (path, status) in paths {
            let mut request = process.client.get(format!("{}{path}", process.base));
            request = request.bearer_auth(crate::support::child::TOKEN);
            for value in said {
                request = request.header("x-forwarded-for", value);
            }
            assert_eq!(request.send().await.unwrap().status(), status, "{path}");
        }
        let expected = format!("\"client\":\"{expected}\"");
        let written = async {
            while process.log().matches(&expected).count() < paths.len() {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        let written = tokio::time::timeout(std::time::Duration::from_secs(5), written).await;
        assert!(written.is_ok(), "{expected}:\n{}", process.log());
        assert!(!process.log().contains("6.6.6.6"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_names_routes_and_never_what_a_caller_wrote_into_a_path() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = crate::support::child::Program::new(dir.path());
    program.settings.push(("REPLYVAULT_LOG".to_owned(), "debug,h2=off,hyper=off".to_owned()));
    let process = program.start().await;
    let get =
        |path: &str| process.client.get(format!("{}{path}", process.base)).bearer_auth(crate::support::child::TOKEN);
    for path in [
        "/api/v1/jobs/not-for-the-log",
        "/api/v1/nowhere/not-for-the-log",
        "/not-for-the-log",
        "/reply/not-for-the-log/x",
    ] {
        assert!(get(path).send().await.unwrap().status().is_client_error());
    }
    let post = process.client.post(format!("{}/api/v1/jobs/not-for-the-log/retry", process.base));
    let post = post.bearer_auth(crate::support::child::TOKEN);
    assert_eq!(post.send().await.unwrap().status(), 404);
    let written = async {
        while !process.log().contains("/api/v1/jobs/{jobId}/retry") {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let written = tokio::time::timeout(crate::support::vault::PATIENCE, written).await;
    assert!(written.is_ok(), "{}", process.log());
    assert!(!process.log().contains("not-for-the-log"), "{}", process.log());
}
