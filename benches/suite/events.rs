//! Telling of jobs: a quick endpoint beside a slow one, and many who wait for an answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use replyvault::domain::Timestamp;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::Plan;
use crate::callback::{Callback, ONE_REF, job_id};
use crate::failure::Failure;
use crate::figures::{Figure, Limit, Samples, Unit};
use crate::vault::{Settings, TOKEN, Vault};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Jobs that end a second: more than all of the provider's accounts of one caller together make.
const JOBS_PER_SECOND: u64 = 200;

/// Measures both.
pub(crate) async fn measure(plan: &Plan) -> Result<Vec<Figure>, Failure> {
    let mut figures = told(plan).await?;
    figures.extend(waiting(plan).await?);
    Ok(figures)
}

/// Jobs fail, one after the other, and two endpoints are told: one takes 5 ms for each, the other 5 s.
async fn told(plan: &Plan) -> Result<Vec<Figure>, Failure> {
    let jobs = plan.pick(200, 10_000);
    let dir = plan.fresh("events")?;
    let (quick, mut arrived) = receiver(Duration::from_millis(5)).await?;
    let (slow, _slow_arrived) = receiver(Duration::from_secs(5)).await?;
    let mut settings = Settings::new(&dir)?;
    let endpoint = |name: &str, url: &str| format!("{{ name = {name:?}, url = {url:?}, secret = {SECRET:?} }}");
    settings.set("NOTIFY__ENDPOINTS", format!("[{}, {}]", endpoint("quick", &quick), endpoint("slow", &slow)));
    let vault = settings.serve().await?;
    let path = vault.reply_path()?;
    let began = Instant::now();
    let sending = async {
        for number in 1..=jobs {
            vault.post_to(&path, failed(number)).await?;
            let due = Duration::from_secs_f64(number as f64 / JOBS_PER_SECOND as f64);
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
        }
        Ok::<_, Failure>(())
    };
    let hearing = async {
        let mut delays = Vec::new();
        while (delays.len() as u64) < jobs {
            let delay = tokio::time::timeout(Duration::from_secs(120), arrived.recv()).await;
            delays.push(delay.ok().flatten().ok_or_else(|| Failure("an event does not arrive".into()))?);
        }
        Ok::<_, Failure>(delays)
    };
    let (sent, delays) = tokio::join!(sending, hearing);
    sent?;
    let mut delays = delays?;
    delays.sort_by(f64::total_cmp);
    let p99 = delays[(delays.len() * 99 / 100).min(delays.len() - 1)];
    let memory = vault.process.peak_memory()? as f64 / f64::from(1 << 20);
    vault.process.stop()?;
    let of = format!("of {jobs} events, beside an endpoint that takes 5 s for each");
    Ok(vec![
        figure(format!("from a job's end to its delivery, 99 of 100 {of}"), Unit::Milliseconds, p99, Some(200.0)),
        figure(format!("most memory, {of}"), Unit::Mebibytes, memory, None),
    ])
}

/// Many wait, each for a job of its own, which then ends.
async fn waiting(plan: &Plan) -> Result<Vec<Figure>, Failure> {
    let waiters = plan.pick(100, 10_000);
    let dir = plan.fresh("waiting")?;
    let vault = Settings::new(&dir)?.serve().await?;
    let path = vault.reply_path()?;
    let running = Callback::progress(vault.address, &path, ONE_REF);
    for number in 1..=waiters {
        vault.post_to(&path, running.body(number)).await?;
    }
    let before = vault.process.memory()?;
    let answered = Arc::new(tokio::sync::Mutex::new(Vec::new()));
    let mut asking = Vec::new();
    for number in 1..=waiters {
        asking.push(tokio::spawn(ask(vault.address, number, answered.clone())));
    }
    until(&vault, waiters).await?;
    let more = vault.process.memory()?.saturating_sub(before) as f64 / f64::from(1 << 20);
    for number in 1..=waiters {
        vault.post_to(&path, failed(number)).await?;
    }
    for asked in asking {
        asked.await.map_err(|_| Failure("one who waits panicked".into()))??;
    }
    vault.process.stop()?;
    let mut delays = answered.lock().await.clone();
    delays.sort_by(f64::total_cmp);
    let slowest = delays.last().copied().unwrap_or(f64::NAN);
    Ok(vec![
        figure(format!("more memory while {waiters} wait for an answer"), Unit::Mebibytes, more, Some(60.0)),
        figure(
            format!("from a job's end to the answer, the slowest of {waiters} who wait"),
            Unit::Milliseconds,
            slowest,
            Some(100.0),
        ),
    ])
}

fn figure(what: String, unit: Unit, ours: f64, most: Option<f64>) -> Figure {
    Figure { what, unit, ours: Samples::from(ours), peer: None, limit: most.map_or(Limit::None, Limit::AtMost) }
}

fn failed(number: u64) -> Vec<u8> {
    format!(r#"{{"videoId":"{}","status":3,"statusLabel":"failed","statusFinal":true}}"#, job_id(number)).into_bytes()
}

async fn until(vault: &Vault, waiters: u64) -> Result<(), Failure> {
    let began = Instant::now();
    while vault.get("/api/v1/stats").await?["waiting"] != waiters {
        if began.elapsed() > Duration::from_secs(120) {
            return Err(Failure("not all of them come to wait".into()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Waits for a job, and notes how long after its end the answer came, in milliseconds.
async fn ask(
    address: std::net::SocketAddr,
    number: u64,
    answered: Arc<tokio::sync::Mutex<Vec<f64>>>,
) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!(
        "GET /api/v1/jobs/{}?wait=600s HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n",
        job_id(number)
    );
    stream.write_all(head.as_bytes()).await?;
    let body = message(&mut stream).await.ok_or_else(|| Failure("no answer".into()))?;
    let now = Timestamp::now();
    let job: Value = serde_json::from_slice(&body).map_err(|_| Failure("no job".into()))?;
    answered.lock().await.push(since(&job["updatedAt"], now)?);
    Ok(())
}

/// A receiver that takes so long for each request; its URL, and how long after the job's end each came, in milliseconds.
async fn receiver(takes: Duration) -> Result<(String, mpsc::UnboundedReceiver<f64>), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let (sender, arrived) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                while let Some(body) = message(&mut stream).await {
                    let now = Timestamp::now();
                    let event: Value = serde_json::from_slice(&body).unwrap_or_default();
                    if let Ok(delay) = since(&event["timestamp"], now) {
                        let _ = sender.send(delay);
                    }
                    tokio::time::sleep(takes).await;
                    if stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    Ok((url, arrived))
}

fn since(then: &Value, now: Timestamp) -> Result<f64, Failure> {
    let then = then.as_str().and_then(Timestamp::parse_rfc3339).ok_or_else(|| Failure("no time".into()))?;
    Ok(now.since(then).as_secs_f64() * 1e3)
}

/// The body of the next message that comes.
async fn message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
            let whole = end + 4 + length?;
            if bytes.len() >= whole {
                return Some(bytes[end + 4..whole].to_vec());
            }
        }
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&piece[..read]);
    }
}
