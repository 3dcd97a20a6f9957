//! The provider's API through replyvault, and through nginx.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use reqwest::{Body, Client};

use crate::Plan;
use crate::failure::Failure;
use crate::figures::{Figure, Limit, Samples, Unit};
use crate::process::{Process, find, free_address};
use crate::servers::nginx;
use crate::vault::{Settings, TOKEN};

const MIB: usize = 1 << 20;

/// What passes through one way or another.
struct Way {
    base: String,
    client: Client,
    mebibytes: usize,
}

/// Measures what the gateway costs. Without nginx there is nothing to hold it against.
pub(crate) async fn measure(plan: &Plan) -> Result<Vec<Figure>, Failure> {
    let provider = free_address()?;
    let program = find("provider").ok_or_else(|| Failure("the peer `provider` is not built".into()))?;
    let mut command = Command::new(program);
    command.arg(provider.port().to_string());
    let _provider = Process::start(&mut command, &plan.fresh("provider")?)?.listening(provider)?;
    let proxy = free_address()?;
    let server = format!(
        "server {{ listen {proxy}; client_max_body_size 0; location / {{ proxy_pass http://{provider}; \
         proxy_http_version 1.1; proxy_buffering off; proxy_request_buffering off; }} }}"
    );
    let Some(nginx) = nginx(&plan.fresh("proxy")?, proxy, &server)? else { return Ok(Vec::new()) };
    let mut settings = Settings::new(&plan.fresh("gateway")?)?;
    settings.set("GATEWAY__ENABLED", true);
    settings.set("PROVIDER__BASE_URL", format!("http://{provider}"));
    settings.set("PROVIDER__API_TOKEN", "provider-token-0123456789");
    let vault = settings.serve().await?;

    let mebibytes = plan.pick(64, 2048);
    let way = |address| Way::through(address, mebibytes);
    let (ours, theirs, direct) = (way(vault.address)?, way(proxy)?, way(provider)?);
    let runs = plan.pick(1, 3);
    let mut figures = Vec::new();
    for (what, is_upload) in [("upload", true), ("download", false)] {
        let mut rates = [Samples::default(), Samples::default()];
        for _ in 0..runs {
            for (rate, way) in rates.iter_mut().zip([&ours, &theirs]) {
                rate.push(if is_upload { way.upload().await? } else { way.download().await? });
            }
        }
        let [ours, theirs] = rates;
        figures.push(Figure {
            what: format!("{what} of {mebibytes} MiB through the gateway"),
            unit: Unit::MegabytesPerSecond,
            ours,
            peer: Some(("nginx proxy_pass", theirs)),
            limit: Limit::TimesAtLeast(0.8),
        });
    }
    let memory = |bytes: u64| Samples::from(bytes as f64 / MIB as f64);
    figures.push(Figure {
        what: "most memory meanwhile".to_owned(),
        unit: Unit::Mebibytes,
        ours: memory(vault.process.peak_memory()?),
        peer: Some(("nginx proxy_pass", memory(nginx.peak_memory()?))),
        limit: Limit::AtMost(40.0),
    });
    let (mut later, mut at_once) = (Samples::default(), Samples::default());
    for _ in 0..plan.pick(3, 20) {
        later.push(ours.first_event().await?);
        at_once.push(direct.first_event().await?);
    }
    figures.push(Figure {
        what: "first event of a stream".to_owned(),
        unit: Unit::Milliseconds,
        limit: Limit::AtMost(at_once.median() + 10.0),
        ours: later,
        peer: Some(("without a gateway", at_once)),
    });
    vault.process.stop()?;
    Ok(figures)
}

impl Way {
    fn through(address: SocketAddr, mebibytes: usize) -> Result<Self, Failure> {
        Ok(Self {
            base: format!("http://{address}/v1/minimax"),
            client: Client::builder().no_proxy().build()?,
            mebibytes,
        })
    }

    /// Megabytes a second.
    async fn upload(&self) -> Result<f64, Failure> {
        const CHUNK: &[u8] = &[b'x'; 64 << 10];
        let bytes = self.mebibytes * MIB;
        let chunks = stream::iter((0..bytes / CHUNK.len()).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(CHUNK))));
        let began = Instant::now();
        let sending = self.client.post(format!("{}/files", self.base)).bearer_auth(TOKEN);
        let sending = sending.header("Content-Type", "image/png").header("Content-Length", bytes);
        let answer = sending.body(Body::wrap_stream(chunks)).send().await?.error_for_status()?.text().await?;
        if answer != bytes.to_string() {
            return Err(Failure(format!("{bytes} bytes were sent, and {answer} arrived")));
        }
        Ok(rate(bytes, began.elapsed()))
    }

    /// Megabytes a second.
    async fn download(&self) -> Result<f64, Failure> {
        let began = Instant::now();
        let url = format!("{}/files?mebibytes={}", self.base, self.mebibytes);
        let mut answer = self.client.get(url).bearer_auth(TOKEN).send().await?.error_for_status()?;
        let mut bytes = 0;
        while let Some(chunk) = answer.chunk().await? {
            bytes += chunk.len();
        }
        if bytes != self.mebibytes * MIB {
            return Err(Failure(format!("{bytes} bytes arrived of {} MiB", self.mebibytes)));
        }
        Ok(rate(bytes, began.elapsed()))
    }

    /// Milliseconds from the request to the first event.
    async fn first_event(&self) -> Result<f64, Failure> {
        let began = Instant::now();
        let calling = self.client.post(format!("{}/videos/agent-create", self.base)).bearer_auth(TOKEN);
        let mut answer = calling.json(&serde_json::json!({"templateId": "1"})).send().await?.error_for_status()?;
        answer.chunk().await?.ok_or_else(|| Failure("a stream without events".into()))?;
        let taken = began.elapsed();
        while answer.chunk().await?.is_some() {}
        Ok(taken.as_secs_f64() * 1000.0)
    }
}

fn rate(bytes: usize, elapsed: Duration) -> f64 {
    bytes as f64 / 1e6 / elapsed.as_secs_f64()
}
