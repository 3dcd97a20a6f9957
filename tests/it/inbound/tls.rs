//! HTTPS, its certificate and the commands that speak with the service.

use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use replyvault::app::TlsFiles;
use reqwest::{Certificate, Client};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::address;
use crate::cli::Place;
use crate::support::child::Program;
use crate::support::vault::{PATIENCE, TOKEN, Vault};

/// A new certificate in `dir`, with its key; in PEM.
fn certify(dir: &Path, name: &str) -> String {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), signing_key.serialize_pem()).unwrap();
    cert.pem()
}

fn files(dir: &Path) -> TlsFiles {
    TlsFiles { certificate: dir.join("cert.pem"), key: dir.join("key.pem") }
}

/// A client that believes one certificate only, and keeps no connection.
fn believer(certificate: &str) -> Client {
    let certificate = Certificate::from_pem(certificate.as_bytes()).unwrap();
    let client = Client::builder().no_proxy().tls_certs_only([certificate]).pool_max_idle_per_host(0);
    client.timeout(PATIENCE).build().unwrap()
}

async fn https() -> (TempDir, String, Vault) {
    let dir = tempfile::tempdir().unwrap();
    let certificate = certify(dir.path(), "localhost");
    let files = files(dir.path());
    let vault = Vault::start_with(|settings| settings.tls = Some(files)).await;
    (dir, certificate, vault)
}

fn url(vault: &Vault, path: &str) -> String {
    format!("https://localhost:{}{path}", vault.running().address().port())
}

#[tokio::test(flavor = "multi_thread")]
async fn https_serves_callbacks_and_marks_its_cookie() {
    let (_dir, certificate, vault) = https().await;
    let client = believer(&certificate);
    assert!(vault.channel_url().starts_with("https://"), "{}", vault.channel_url());
    let callback = url(&vault, super::path(&vault.channel_url()));
    let response = client.post(callback).body("[]").send().await.unwrap();
    assert_eq!(response.status(), 202);
    let response = client.post(url(&vault, "/api/v1/session")).bearer_auth(TOKEN).send().await.unwrap();
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.ends_with("; Secure"), "{cookie}");
    assert!(believer(&certify(_dir.path(), "localhost")).get(url(&vault, "/healthz")).send().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_served_without_a_restart_and_a_broken_one_is_not() {
    let (dir, old, vault) = https().await;
    let reaches = async |certificate: &str| believer(certificate).get(url(&vault, "/healthz")).send().await.is_ok();
    assert!(reaches(&old).await);
    std::fs::write(dir.path().join("cert.pem"), "-----BEGIN CERTIFICATE-----\nnothing\n").unwrap();
    sleep(Duration::from_secs(5)).await;
    assert!(reaches(&old).await, "a broken file ended the old certificate");
    let new = certify(dir.path(), "localhost");
    let served = async {
        while !reaches(&new).await {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(10), served).await.expect("the new certificate is not served");
    assert!(!reaches(&old).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_to_the_https_port_ends_without_an_answer_and_does_no_harm() {
    let (_dir, certificate, vault) = https().await;
    let mut socket = TcpStream::connect(address(&vault)).await.unwrap();
    socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: vault\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(5), socket.read_to_end(&mut answer)).await.expect("it hangs");
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    // Nor does one who says nothing for long.
    let mut silent = TcpStream::connect(address(&vault)).await.unwrap();
    let ended = timeout(Duration::from_secs(10), silent.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "a handshake is waited for without end");
    assert!(believer(&certificate).get(url(&vault, "/healthz")).send().await.unwrap().status().is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_handshakes_keep_nobody_waiting() {
    let (_dir, certificate, vault) = https().await;
    let mut silent = Vec::new();
    for _ in 0..1500 {
        silent.push(TcpStream::connect(address(&vault)).await.unwrap());
    }
    for _ in 0..5 {
        let started = Instant::now();
        let answer = believer(&certificate).get(url(&vault, "/healthz")).send().await.unwrap();
        assert!(answer.status().is_success());
        assert!(started.elapsed() < Duration::from_secs(3), "it waited {:?}", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_is_too_long_is_not_read_to_its_end() {
    let (_dir, _, vault) = https().await;
    let mut socket = TcpStream::connect(address(&vault)).await.unwrap();
    // A hello that says it has 16 MiB: more than the sockets' buffers hold when nobody reads.
    let mut hello = vec![1, 0xFF, 0xFF, 0xFF];
    hello.resize(4 + 0x00FF_FFFF, 0);
    let mut is_refused = false;
    for record in hello.chunks(10_000) {
        let head = [22, 3, 1, (record.len() >> 8) as u8, record.len() as u8];
        if socket.write_all(&[&head, record].concat()).await.is_err() {
            is_refused = true;
            break;
        }
    }
    assert!(is_refused, "all of it was taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_find_the_service_by_its_certificate_whatever_name_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    certify(dir.path(), "vault.example.com");
    let port = crate::support::free_address().port();
    let mut program = Program::new(dir.path());
    let mut set = |key: &str, value: String| {
        let key = format!("REPLYVAULT_SERVER__{key}");
        program.settings.retain(|(other, _)| *other != key);
        program.settings.push((key, value));
    };
    set("LISTEN", format!("127.0.0.1:{port}"));
    set("TLS_CERTIFICATE", dir.path().join("cert.pem").display().to_string());
    set("TLS_KEY", dir.path().join("key.pem").display().to_string());
    let process = program.start().await;
    let settings: Vec<(&str, &str)> = program.settings.iter().map(|(key, value)| (&**key, &**value)).collect();
    let place = Place::new("");
    // It may still be getting ready.
    let ready = async {
        while place.run_with(&settings, &["health"]).code != 0 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, ready).await.expect("no good health");
    let added = place.run_with(&settings, &["refs", "add", "--reply-ref", "boat"]);
    assert!(added.result().contains("\"replyRef\": \"boat\""), "{added:?}");
    // Another certificate in the file than the one that is served: whoever answers there is somebody else.
    let other = tempfile::tempdir().unwrap();
    certify(other.path(), "vault.example.com");
    let certificate = other.path().join("cert.pem").display().to_string();
    let settings = [&settings[..], &[("REPLYVAULT_SERVER__TLS_CERTIFICATE", &certificate)]].concat();
    let ended = place.run_with(&settings, &["health"]);
    assert!(ended.line(1).contains("no answer"), "{ended:?}");
    assert_eq!(process.terminate().await, Some(0));
}

#[test]
fn files_that_are_no_certificate_and_key_are_named() {
    let place = Place::new("[server]\nlisten = \"127.0.0.1:0\"\ntls_certificate = \"cert.pem\"\ntls_key = \"key.pem\"");
    let (certificate, key) = ("config.toml: server.tls_certificate: ", "config.toml: server.tls_key: ");
    let says = |expected: &str| {
        for command in [&["serve"][..], &["config", "check"]] {
            let ended = place.run(command);
            let line = ended.stderr.lines().last().unwrap_or_default();
            assert!(ended.code == 2 && line.contains(expected), "{command:?}: {ended:?}");
        }
    };
    says(certificate);
    certify(place.dir.path(), "localhost");
    std::fs::write(place.path("key.pem"), "no key").unwrap();
    says(key);
    std::fs::write(place.path("key.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    says(key);
    certify(place.dir.path(), "localhost");
    std::fs::write(place.path("cert.pem"), "").unwrap();
    says(certificate);
    certify(place.dir.path(), "localhost");
    assert!(place.run(&["config", "check"]).result().starts_with("ok config.toml"));
}

/// A connection that believes one certificate, for threads.
fn connect(certificate: &str, vault: &Vault) -> StreamOwned<ClientConnection, std::net::TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let socket = std::net::TcpStream::connect(address(vault)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    socket.set_write_timeout(Some(Duration::from_secs(15))).unwrap();
    StreamOwned::new(client, socket)
}

#[tokio::test(flavor = "multi_thread")]
async fn over_https_too_bodies_nobody_reads_and_half_heads_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, files) = (certify(dir.path(), "localhost"), files(dir.path()));
    let longest = Duration::from_secs(2);
    let vault = Vault::start_with(|settings| (settings.tls, settings.idle_timeout) = (Some(files), longest)).await;

    let mut stream = connect(&certificate, &vault);
    let sent = tokio::task::block_in_place(|| {
        let (started, mut sent) = (Instant::now(), 0);
        stream.write_all(b"POST /nowhere HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        while stream.write_all(&[b"10000\r\n".as_slice(), &[b'x'; 65536], b"\r\n"].concat()).is_ok() {
            sent += 65536;
            assert!(started.elapsed() < Duration::from_secs(5), "it was not cut after {sent} bytes");
        }
        sent
    });
    assert!(sent < 16 << 20, "{sent}");

    let mut stream = connect(&certificate, &vault);
    let answer = tokio::task::block_in_place(|| {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\nGET /heal").unwrap();
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("it was not cut"),
            _ => String::from_utf8(answer).unwrap(),
        }
    });
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
