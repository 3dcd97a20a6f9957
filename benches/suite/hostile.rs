//! One sender that does its worst, and what others feel of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::Client;

use crate::Plan;
use crate::callback::{Callback, ONE_REF, job_id};
use crate::failure::Failure;
use crate::figures::{Figure, Limit, Samples, Unit};
use crate::media;
use crate::vault::{Settings, Vault};

/// How much the hostile sender sends, in bytes a second.
const HOSTILE_RATE: f64 = 5e6;
/// Over so many connections.
const HOSTILE_CONNECTIONS: usize = 16;
/// Between two callbacks of the honest sender.
const HONEST_PAUSE: Duration = Duration::from_millis(50);
/// Of these, each so many-th is followed until it is archived.
const FOLLOWED: u64 = 10;
/// What a job may take to be archived before it counts as never.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures an honest sender's callbacks while another sends as much as it can, of the most expensive kind.
pub(crate) async fn measure(plan: &Plan, seconds: Option<u64>) -> Result<Vec<Figure>, Failure> {
    let seconds = seconds.unwrap_or_else(|| plan.pick(4, 120));
    let dir = plan.fresh("hostile")?;
    media::noise(&dir.join("file.mp4"), 1, 20_000)?;
    let files = serve(std::fs::read(dir.join("file.mp4"))?)?;
    let vault = Settings::new(&dir)?.serve().await?;
    let (hostile, honest) = (vault.register("hostile").await?, vault.register(ONE_REF).await?);
    let over = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let senders = (0..HOSTILE_CONNECTIONS).map(|sender| {
        let (over, url, file) = (over.clone(), vault.url(&hostile), format!("http://{files}/file.mp4"));
        tokio::spawn(async move { send_the_worst(sender, &url, &file, &over, began).await })
    });
    let senders: Vec<_> = senders.collect();
    let honest = Callback::completed(vault.address, &honest, ONE_REF, &format!("http://{files}/file.mp4"));
    let sent = send_honestly(&vault, &honest, Duration::from_secs(seconds)).await;
    over.store(true, Ordering::Relaxed);
    let mut bytes = 0;
    for sender in senders {
        bytes += sender.await.map_err(|_| Failure("a sender panicked".into()))??;
    }
    let (mut answered, archived) = sent?;
    let rate = bytes as f64 / 1e6 / began.elapsed().as_secs_f64();
    let memory = vault.process.peak_memory()? as f64 / f64::from(1 << 20);
    vault.process.stop()?;

    answered.sort_by(f64::total_cmp);
    let p99 = answered[(answered.len() * 99 / 100).min(answered.len() - 1)];
    let slowest = archived.iter().copied().fold(0.0, f64::max);
    let beside = format!("beside a sender of {rate:.1} MB/s for {seconds} s");
    let figure = |what: String, unit, ours: f64, most| Figure {
        what,
        unit,
        ours: Samples::from(ours),
        peer: None,
        limit: Limit::AtMost(most),
    };
    Ok(vec![
        figure(format!("an honest callback, 99 of 100, {beside}"), Unit::Milliseconds, p99, 250.0),
        figure(format!("an honest job until it is archived, the slowest, {beside}"), Unit::Seconds, slowest, 5.0),
        figure(format!("most memory {beside}"), Unit::Mebibytes, memory, 400.0),
    ])
}

/// Sends its share of the rate until `over`; what cannot be sent in time is not made up for. Returns how many bytes it sent.
async fn send_the_worst(
    sender: usize,
    url: &str,
    file: &str,
    over: &AtomicBool,
    began: Instant,
) -> Result<u64, Failure> {
    let client = Client::builder().no_proxy().build()?;
    let (mut sent, mut number) = (0u64, 0u64);
    while !over.load(Ordering::Relaxed) {
        // By turns as many files as a callback has room for, and as many as a job has.
        let files = if number % 4 == 0 { 4096 } else { 256 };
        let job = number * HOSTILE_CONNECTIONS as u64 + sender as u64 + 1;
        let body = worst_callback(job, files, file);
        number += 1;
        sent += body.len() as u64;
        // Whatever it is answered.
        let _ = client.post(url).body(body).send().await;
        let due = sent as f64 / (HOSTILE_RATE / HOSTILE_CONNECTIONS as f64);
        tokio::time::sleep(Duration::from_secs_f64(due).saturating_sub(began.elapsed())).await;
    }
    Ok(sent)
}

/// An agent's job with so many files, each of a URL of its own.
fn worst_callback(job: u64, files: usize, file: &str) -> Vec<u8> {
    let filler = "x".repeat(100);
    let mut body = format!(r#"{{"jobId":"p{job}-u2-a3-bot:minimax","status":"completed","response":{{"attachments":["#);
    for place in 0..files {
        let comma = if place == 0 { "" } else { "," };
        body += &format!(
            r#"{comma}{{"attachmentID":"a{place}","file":{{"fileName":"f.mp4","fileUrl":"{file}?{job}-{place}-{filler}"}}}}"#
        );
    }
    body += "]}}";
    body.into_bytes()
}

/// Sends callbacks for as long, and follows some until they are archived. Returns the milliseconds each took to be answered,
/// and the seconds until the followed ones were archived.
async fn send_honestly(vault: &Vault, callback: &Callback, time: Duration) -> Result<(Vec<f64>, Vec<f64>), Failure> {
    let (mut answered, mut archived) = (Vec::new(), Vec::new());
    let mut followed: Vec<(String, Instant)> = Vec::new();
    let (began, mut number) = (Instant::now(), 0);
    while began.elapsed() < time || !followed.is_empty() {
        if began.elapsed() < time {
            let sent = Instant::now();
            vault.post_to(callback.path(), callback.body(number)).await?;
            answered.push(sent.elapsed().as_secs_f64() * 1000.0);
            if number % FOLLOWED == 0 {
                followed.push((job_id(number), sent));
            }
            number += 1;
        }
        let mut waiting = Vec::new();
        for (job, sent) in followed {
            let state = vault.get(&format!("/api/v1/jobs/{job}")).await?["state"].clone();
            if state == "archived" || sent.elapsed() > PATIENCE {
                archived.push(sent.elapsed().as_secs_f64());
            } else {
                waiting.push((job, sent));
            }
        }
        followed = waiting;
        tokio::time::sleep(HONEST_PAUSE).await;
    }
    Ok((answered, archived))
}

/// Serves one file under every path.
fn serve(file: Vec<u8>) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let file: Arc<[u8]> = file.into();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let file = file.clone();
            thread::spawn(move || answer(stream, &file));
        }
    });
    Ok(address)
}

/// Answers requests, one after the other, until the connection ends.
fn answer(mut stream: TcpStream, file: &[u8]) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: {}\r\n\r\n", file.len());
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut piece) {
                Ok(read) if read > 0 => request.extend_from_slice(&piece[..read]),
                _ => return,
            }
        }
        request.clear();
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(file)).is_err() {
            return;
        }
    }
}
