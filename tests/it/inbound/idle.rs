//! Connections that do nothing, at a service that is a process of its own.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Client;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::child::{Process, Program, TOKEN};
use crate::support::media::{MediaServer, mp4};
use crate::support::vault::{PATIENCE, Vault, completed, video_id};

/// How many there are; `REPLYVAULT_TEST_IDLE` says otherwise.
const IDLE: usize = 2000;
/// How many descriptors of the service are no connection's.
const OTHERS: usize = 1024;
/// How long an honest client may wait meanwhile; a busy machine is forgiven a little.
const SOON: Duration = Duration::from_secs(3);
/// The memory that one may cost, in bytes: two buffers of 8 KiB, and what belongs to them.
const EACH: u64 = 48 << 10;

/// A connection over which one request was answered, as a browser or a pool of connections would leave it.
async fn connect(process: &Process) -> TcpStream {
    let mut socket = TcpStream::connect(process.base.strip_prefix("http://").unwrap()).await.unwrap();
    socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: vault\r\n\r\n").await.unwrap();
    socket
}

async fn answered(socket: &mut TcpStream) {
    let mut start = [0; 13];
    timeout(PATIENCE, socket.read_exact(&mut start)).await.expect("no answer").unwrap();
    assert_eq!(&start, b"HTTP/1.1 200 ");
    // It may come in two pieces; what is left of it then does no harm.
    let _ = timeout(PATIENCE, socket.read(&mut [0; 4096])).await.expect("no end").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_idle_connections_are_nothing() {
    let idle = std::env::var("REPLYVAULT_TEST_IDLE").map_or(IDLE, |number| number.parse().unwrap());
    let own = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: own.maximum, ..own }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::new(dir.path());
    // The documented need: one for each, and some for everybody else.
    program.open_files = Some(idle + 100 + OTHERS);
    let process = program.start().await;
    let honest = Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    let url = process.channel_url();
    let (before, _) = process.holds();
    let started = Instant::now();
    let mut sockets = Vec::new();
    while sockets.len() < idle {
        let some = (idle - sockets.len()).min(100);
        let mut more = join_all((0..some).map(|_| connect(&process))).await;
        join_all(more.iter_mut().map(answered)).await;
        sockets.extend(more);
    }
    let opened = started.elapsed();
    let (mut worst_health, mut worst_callback) = (Duration::ZERO, Duration::ZERO);
    for number in 0..20 {
        let started = Instant::now();
        assert_eq!(honest.get(format!("{}/healthz", process.base)).send().await.unwrap().status(), 200);
        worst_health = worst_health.max(started.elapsed());
        let started = Instant::now();
        let body = completed(number, "http://127.0.0.1:9/x.mp4").to_string();
        assert_eq!(honest.post(&url).body(body).send().await.unwrap().status(), 200);
        worst_callback = worst_callback.max(started.elapsed());
    }
    let (after, open) = process.holds();
    let each = after.saturating_sub(before) / idle as u64;
    println!(
        "{idle} idle connections, opened in {opened:?}: {each} bytes of memory each, {open} files open; \
         worst /healthz {worst_health:?}, worst callback {worst_callback:?}"
    );
    assert!(worst_health < SOON && worst_callback < SOON, "{worst_health:?} {worst_callback:?}");
    assert!(each < EACH, "{each} bytes each");
    let closed = sockets
        .iter()
        .filter(|socket| !socket.try_read(&mut [0; 1]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
    assert_eq!(closed.count(), 0, "idle connections were closed");
    process.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_never_more_connections_than_descriptors_for_them() {
    const LIMIT: usize = 512;
    const CLIENTS: usize = 400;
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::new(dir.path());
    program.open_files = Some(LIMIT);
    let process = program.start().await;
    let sockets = join_all((0..CLIENTS).map(|_| connect(&process))).await;
    let served = join_all(sockets.into_iter().map(|socket| async {
        let begun = timeout(Duration::from_secs(2), socket.peek(&mut [0; 1])).await.is_ok();
        (socket, begun)
    }));
    let (served, waiting): (Vec<_>, Vec<_>) = served.await.into_iter().partition(|(_, begun)| *begun);
    let (_, open) = process.holds();
    println!("{} served, {} wait, {open} files open", served.len(), waiting.len());
    // Half of the descriptors are for others.
    assert!(served.len() <= LIMIT / 2 + 16 && open < LIMIT, "{} served, {open} files are open", served.len());
    // Whoever waited is served as others go.
    drop(served);
    join_all(waiting.into_iter().map(|(mut socket, _)| async move { answered(&mut socket).await })).await;
    assert_eq!(process.post(&completed(1, "http://127.0.0.1:9/x.mp4")).await, Some(200));
    assert!(!process.log().contains("Too many open files"), "{}", process.log());
    process.kill();
}

/// Sends a request, and reads nothing of the answer.
async fn leave_unread(process: &Process, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(process.base.strip_prefix("http://").unwrap()).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: vault\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_nobody_reads_leave_descriptors_for_everything_else() {
    const LIMIT: usize = 512;
    const READERS: usize = 240;
    /// Fewer than one token may have open.
    const OPEN: usize = 80;
    let (dir, media) = (tempfile::tempdir().unwrap(), MediaServer::start());
    let mut program = Program::new(dir.path());
    program.open_files = Some(LIMIT);
    program.set("STORAGE__PART_SIZE", "8MiB".to_owned());
    let process = program.start().await;
    // More than sockets take in.
    let large = media.put("/large.mp4", mp4(1, 8 << 20), "video/mp4");
    process.post_until_accepted(&completed(1, &large)).await;
    let job = process.job_in(&video_id(1), "archived").await;
    let path = format!("/api/v1/media/{}/content", job["assets"][0]["sha256"].as_str().unwrap());
    let (_, before) = process.holds();
    let sockets = join_all((0..READERS).map(|_| leave_unread(&process, &path))).await;
    let are_open = async {
        while process.holds().1 < before + READERS + OPEN {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, are_open)
        .await
        .unwrap_or_else(|_| panic!("{} of {before}\n{}", process.holds().1, process.log()));
    let small = media.put("/small.mp4", mp4(2, 300), "video/mp4");
    process.post_until_accepted(&completed(2, &small)).await;
    process.job_in(&video_id(2), "archived").await;
    assert!(process.holds().1 < LIMIT, "{} files are open", process.holds().1);
    assert!(!process.log().contains("Too many open files"), "{}", process.log());
    drop(sockets);
    process.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_connections_without_a_request() {
    let mut vault = Vault::start_with(|settings| settings.shutdown_grace = PATIENCE * 2).await;
    let address = vault.running().address();
    let mut half = TcpStream::connect(address).await.unwrap();
    let head = b"GET /healthz HTTP/1.1\r\nhost: vault\r\n\r\n";
    half.write_all(head).await.unwrap();
    answered(&mut half).await;
    half.write_all(b"GET /hea").await.unwrap();
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(head).await.unwrap();
    answered(&mut idle).await;
    timeout(PATIENCE, vault.stop()).await.expect("it waits for them");
    assert!(!matches!(idle.read(&mut [0; 1]).await, Ok(1..)));
}
