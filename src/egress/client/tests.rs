use std::net::{IpAddr, TcpListener};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::egress::{AllowedHosts, Config};

const PATIENT: ClientConfig = ClientConfig::new(Duration::from_secs(5), Duration::from_secs(5));

fn policy(allow_private_addresses: bool) -> Policy {
    Policy::new(Config { allowed_hosts: AllowedHosts::Any, allow_http: true, allow_private_addresses })
}

fn url(text: &str) -> MediaUrl {
    MediaUrl::parse(text).unwrap()
}

/// A resolver that gives these answers in turn, the last one for good, and counts the questions.
fn scripted(answers: &[&[&str]]) -> (Lookup, Arc<AtomicUsize>) {
    let answers: Vec<Vec<IpAddr>> =
        answers.iter().map(|answer| answer.iter().map(|address| address.parse().unwrap()).collect()).collect();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let lookup: Lookup = Arc::new(move |_| {
        let turn = count.fetch_add(1, Ordering::SeqCst);
        let answer = answers[turn.min(answers.len() - 1)].clone();
        Box::pin(async move { Ok(answer) })
    });
    (lookup, asked)
}

fn no_lookup() -> Lookup {
    Arc::new(|name| panic!("{name} was looked up"))
}

/// Answers each connection's first request with the next of `answers`; returns the port and the requests seen.
async fn serve(ip: &str, answers: Vec<String>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind((ip, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&seen);
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            requests.lock().unwrap().push(String::from_utf8(head).unwrap().to_lowercase());
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    (port, seen)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

fn redirect(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
}

/// Fails if anybody connected to it.
struct Canary(TcpListener);

impl Canary {
    fn new(ip: &str, port: u16) -> Self {
        let listener = TcpListener::bind((ip, port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    fn assert_untouched(&self, context: &str) {
        assert_eq!(self.0.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "{context}");
    }
}

#[tokio::test]
async fn no_packet_leaves_for_what_is_refused() {
    let canary = Canary::new("127.0.0.1", 0);
    let port = canary.port();
    let client = Client::with_lookup(policy(false), PATIENT, no_lookup()).unwrap();
    for host in ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0", "0", "[::ffff:127.0.0.1]"] {
        let error = client.get(&url(&format!("http://{host}:{port}/")), HeaderMap::new()).await.unwrap_err();
        assert_eq!(error.name(), "address_forbidden", "{host}");
        canary.assert_untouched(host);
    }
    // The canary is alive: a client that may speak to it does.
    let open =
        Client::new(policy(true), ClientConfig::new(PATIENT.connect_timeout, Duration::from_millis(200))).unwrap();
    let _ = open.get(&url(&format!("http://127.0.0.1:{port}/")), HeaderMap::new()).await;
    assert!(canary.0.accept().is_ok());
}

#[tokio::test]
async fn one_forbidden_address_spoils_the_whole_answer() {
    let canary = Canary::new("127.0.0.1", 0);
    for answer in [
        &["127.0.0.1"][..],
        &["93.184.215.14", "127.0.0.1"],
        &["127.0.0.1", "93.184.215.14"],
        &["::ffff:127.0.0.1"],
        &["2606:4700::1111", "fe80::1"],
        &["64:ff9b::7f00:1"],
    ] {
        let (lookup, asked) = scripted(&[answer]);
        let client = Client::with_lookup(policy(false), PATIENT, lookup).unwrap();
        let target = url(&format!("http://rebind.example:{}/?Signature=secret", canary.port()));
        let error = client.get(&target, HeaderMap::new()).await.unwrap_err();
        let EgressError::Refused(Refusal::AddressForbidden { host, .. }) = &error else { panic!("{error:?}") };
        assert_eq!((host.as_str(), asked.load(Ordering::SeqCst)), ("rebind.example", 1));
        canary.assert_untouched(&format!("{answer:?}"));
    }
}

#[tokio::test]
async fn a_resolver_that_changes_its_answer_gains_nothing() {
    let (port, seen) = serve("127.0.0.1", vec![OK.replace("OK\r\n", "OK\r\nConnection: close\r\n"); 1]).await;
    let canary = Canary::new("127.0.0.2", port);
    let (lookup, asked) = scripted(&[&["127.0.0.1"], &["127.0.0.2", "169.254.169.254"]]);
    let client = Client::with_lookup(policy(true), PATIENT, lookup).unwrap();
    let target = url(&format!("http://rebind.example:{port}/"));
    let mut response = client.get(&target, HeaderMap::new()).await.unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "hi");
    assert_eq!(asked.load(Ordering::SeqCst), 1, "one lookup for one connection");
    assert_eq!(seen.lock().unwrap().len(), 1);
    let error = client.get(&target, HeaderMap::new()).await.unwrap_err();
    assert_eq!(error.name(), "address_forbidden");
    canary.assert_untouched("the second answer was used");
}

#[tokio::test]
async fn the_resolver_knows_the_allow_list_too() {
    use reqwest::dns::Resolve as _;
    let allowed_hosts = AllowedHosts::Only(vec!["good.example".parse().unwrap()]);
    let policy = Policy::new(Config { allowed_hosts, allow_http: true, allow_private_addresses: true });
    let resolver = VettingResolver { policy: Arc::new(policy), lookup: no_lookup() };
    let Err(error) = resolver.resolve("evil.example".parse().unwrap()).await else { panic!("resolved") };
    assert_eq!(error.downcast_ref::<Refusal>().unwrap().name(), "host_not_allowed");
}

#[tokio::test]
async fn redirects_are_followed_and_each_is_checked() {
    let (port, seen) = serve("127.0.0.1", vec![redirect("/b?x=1"), redirect("c"), OK.into()]).await;
    let client = Client::new(policy(true), PATIENT).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, "Bearer secret".parse().unwrap());
    let mut response = client.get(&url(&format!("http://127.0.0.1:{port}/a")), headers).await.unwrap();
    assert_eq!(response.url().expose().path(), "/c");
    assert_eq!(response.chunk().await.unwrap().unwrap(), "hi");
    assert_eq!(response.chunk().await.unwrap(), None);
    let seen = seen.lock().unwrap().clone();
    assert!(seen[0].starts_with("get /a http/1.1") && seen[1].starts_with("get /b?x=1 "), "{seen:?}");
    for request in &seen {
        assert!(request.contains("user-agent: replyvault/") && request.contains("authorization"), "{request}");
        for absent in ["referer", "cookie", "accept-encoding"] {
            assert!(!request.contains(absent), "{absent} in {request}");
        }
    }
}

#[tokio::test]
async fn forbidden_redirects_are_refused_by_name() {
    let canary = Canary::new("127.0.0.3", 0);
    let elsewhere = format!("http://127.0.0.3:{}/", canary.port());
    let listed = |hosts: &[&str]| {
        let allowed_hosts = AllowedHosts::Only(hosts.iter().map(|host| host.parse().unwrap()).collect());
        Policy::new(Config { allowed_hosts, allow_http: true, allow_private_addresses: true })
    };
    for (location, expected) in [
        (elsewhere.as_str(), "host_not_allowed"),
        ("http://169.254.169.254/latest/meta-data/", "address_forbidden"),
        ("http://[::ffff:169.254.169.254]/", "host_not_allowed"),
        ("//evil.example/", "host_not_allowed"),
        ("http://user:pw@127.0.0.1/", "userinfo"),
        ("file:///etc/passwd", "redirect_invalid"),
        ("gopher://127.0.0.1/", "redirect_invalid"),
        ("http://", "redirect_invalid"),
    ] {
        let (port, _) = serve("127.0.0.1", vec![redirect(location)]).await;
        let client = Client::new(listed(&["127.0.0.1", "169.254.169.254"]), PATIENT).unwrap();
        let error = client.get(&url(&format!("http://127.0.0.1:{port}/")), HeaderMap::new()).await.unwrap_err();
        assert_eq!(error.name(), expected, "{location}: {error}");
        canary.assert_untouched(location);
    }
    let (port, _) = serve("127.0.0.1", vec!["HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n".into()]).await;
    let client = Client::new(policy(true), PATIENT).unwrap();
    let error = client.get(&url(&format!("http://127.0.0.1:{port}/")), HeaderMap::new()).await.unwrap_err();
    assert_eq!(error.name(), "redirect_invalid");
}

#[tokio::test]
async fn redirects_end_and_credentials_stay_with_their_origin() {
    let (port, seen) = serve("127.0.0.1", vec![redirect("/again"); MAX_REDIRECTS + 5]).await;
    let client = Client::new(policy(true), PATIENT).unwrap();
    let error = client.get(&url(&format!("http://127.0.0.1:{port}/")), HeaderMap::new()).await.unwrap_err();
    assert_eq!(error.name(), "too_many_redirects");
    assert_eq!(seen.lock().unwrap().len(), MAX_REDIRECTS + 1);

    let (other, received) = serve("127.0.0.4", vec![OK.into()]).await;
    let (port, _) = serve("127.0.0.1", vec![redirect(&format!("http://127.0.0.4:{other}/"))]).await;
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, "Bearer secret".parse().unwrap());
    headers.insert(header::RANGE, "bytes=1-".parse().unwrap());
    client.get(&url(&format!("http://127.0.0.1:{port}/")), headers).await.unwrap();
    let received = received.lock().unwrap()[0].clone();
    assert!(!received.contains("authorization") && received.contains("range: bytes=1-"), "{received}");
}

#[tokio::test]
async fn send_follows_nothing_and_carries_a_body() {
    let (port, seen) = serve("127.0.0.1", vec![redirect("http://169.254.169.254/")]).await;
    let client = Client::new(policy(true), PATIENT).unwrap();
    let target = url(&format!("http://127.0.0.1:{port}/hook"));
    let response = client.send(Method::POST, &target, HeaderMap::new(), Some(Body::from("{}"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::FOUND);
    assert!(seen.lock().unwrap()[0].contains("content-length: 2"));
}

#[tokio::test]
async fn failures_of_the_network_have_names_and_keep_the_query_to_themselves() {
    let closed = Canary::new("127.0.0.1", 0).port();
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let silent = silent.local_addr().map(|address| (address.port(), silent)).unwrap();
    let (garbage, _) = serve("127.0.0.1", vec!["220 mail.example ESMTP\r\n".into()]).await;
    let short = ClientConfig::new(PATIENT.connect_timeout, Duration::from_millis(400));
    let client = Client::new(policy(true), short).unwrap();
    for (target, expected) in [
        (format!("http://127.0.0.1:{closed}/?Signature=secret"), "unreachable"),
        (format!("https://127.0.0.1:{closed}/?Signature=secret"), "unreachable"),
        (format!("http://127.0.0.1:{}/?Signature=secret", silent.0), "timed_out"),
        (format!("https://127.0.0.1:{}/?Signature=secret", silent.0), "timed_out"),
        (format!("http://127.0.0.1:{garbage}/?Signature=secret"), "broken"),
    ] {
        let error = client.get(&url(&target), HeaderMap::new()).await.unwrap_err();
        assert_eq!(error.name(), expected, "{error}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
    let failing: Lookup = Arc::new(|_| Box::pin(async { Err(std::io::Error::other("no such name")) }));
    let client = Client::with_lookup(policy(true), PATIENT, failing).unwrap();
    let error = client.get(&url("http://absent.example/?Signature=secret"), HeaderMap::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "no connection: no such name");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_may_do_so_later() {
    let (port, _) = serve("127.0.0.1", vec!["HTTP/1.1 204 No Content\r\n\r\n".to_owned()]).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let lookup: Lookup = Arc::new(move |_| {
        let answer = match asked.fetch_add(1, Ordering::SeqCst) {
            0 => Err(std::io::Error::other("no answer from the name server")),
            1 => Ok(Vec::new()),
            _ => Ok(vec!["127.0.0.1".parse().unwrap()]),
        };
        Box::pin(async move { answer })
    });
    let client = Client::with_lookup(policy(true), PATIENT, lookup).unwrap();
    let url = url(&format!("http://cdn.example:{port}/a.mp4?Signature=secret"));
    for _ in 0..2 {
        let error = client.get(&url, HeaderMap::new()).await.err().unwrap();
        assert_eq!(error.name(), "unreachable");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    assert_eq!(client.get(&url, HeaderMap::new()).await.unwrap().status(), 204);
}

#[tokio::test]
async fn a_slow_consumer_is_no_silent_server() {
    let (port, _) = serve("127.0.0.1", vec![OK.into()]).await;
    let client =
        Client::new(policy(true), ClientConfig::new(PATIENT.connect_timeout, Duration::from_millis(400))).unwrap();
    let mut response = client.get(&url(&format!("http://127.0.0.1:{port}/")), HeaderMap::new()).await.unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "hi");
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(response.chunk().await.unwrap(), None);
}

const PROXIED_TARGET: &str = "REPLYVAULT_TEST_PROXIED_TARGET";

/// Runs itself once more, since a proxy can only be set for a process that has not started yet.
#[tokio::test]
async fn proxies_of_the_environment_are_ignored() {
    if let Ok(target) = std::env::var(PROXIED_TARGET) {
        let client = Client::new(policy(true), PATIENT).unwrap();
        assert_eq!(client.get(&url(&target), HeaderMap::new()).await.unwrap().status(), StatusCode::OK);
        return;
    }
    let canary = Canary::new("127.0.0.1", 0);
    let proxy = format!("http://127.0.0.1:{}", canary.port());
    let (port, seen) = serve("127.0.0.1", vec![OK.into()]).await;
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "egress::client::tests::proxies_of_the_environment_are_ignored"]);
    child.env(PROXIED_TARGET, format!("http://127.0.0.1:{port}/")).env_remove("NO_PROXY").env_remove("no_proxy");
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, &proxy);
    }
    let output = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(seen.lock().unwrap().len(), 1, "the child went to the server itself");
    canary.assert_untouched("the proxy");
}
