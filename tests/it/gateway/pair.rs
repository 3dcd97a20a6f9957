//! The same calls to the provider and to a gateway in front of a provider like it. Both providers have one seed and one
//! clock, so that whatever differs between the answers is the gateway's doing.

use std::net::SocketAddr;
use std::time::Duration;

use replyvault::domain::{Digest, Timestamp};
use replyvault::simulator::{Config, Outcome, Simulator};
use serde_json::Value;

use super::provider::vault;
use crate::support::raw::{self, Raw};
use crate::support::vault::{PATIENCE, TOKEN, Vault};

/// So slow that nothing moves during a test.
pub(crate) const STILL: Duration = Duration::from_secs(3600);
/// So fast that a test can wait for the end.
pub(crate) const QUICK: Duration = Duration::from_millis(50);

/// What the vault adds to every answer of its own accord.
pub(crate) const OWN_HEADERS: [&str; 2] = ["referrer-policy", "x-content-type-options"];

pub(crate) struct Pair {
    pub(crate) direct: Simulator,
    /// The one behind the gateway.
    pub(crate) behind: Simulator,
    pub(crate) vault: Vault,
}

/// One call, without its token.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) method: &'a str,
    /// Without what all paths begin with.
    pub(crate) path: &'a str,
    pub(crate) content_type: &'a str,
    pub(crate) body: &'a [u8],
}

impl Pair {
    pub(crate) async fn start(faults: &str, pace: Duration) -> Self {
        let clock = Timestamp::from_millis(1_795_000_000_000);
        let config = Config { faults: faults.parse().unwrap(), pace, clock, ..Config::default() };
        let behind = Simulator::start(config.clone()).await.unwrap();
        let direct = Simulator::start(Config { public_url: Some(behind.base_url()), ..config }).await.unwrap();
        let vault = vault(&behind.base_url()).await;
        Self { direct, behind, vault }
    }

    fn gateway(&self) -> SocketAddr {
        self.vault.running().address()
    }

    /// What both answer, the same down to the headers.
    pub(crate) async fn both(&self, call: Call<'_>) -> Raw {
        let direct = ask(self.direct.addr(), call).await;
        let mut through = ask(self.gateway(), call).await.without_date(&direct);
        OWN_HEADERS.iter().for_each(|name| drop(through.headers.remove(*name)));
        let what = format!("{} {}", call.method, call.path);
        assert_eq!((through.status, through.text()), (direct.status, direct.text()), "{what}");
        assert_eq!(through, direct, "{what}");
        direct
    }

    pub(crate) async fn get(&self, path: &str) -> Raw {
        self.both(Call { method: "GET", path, content_type: "application/json", body: b"" }).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Raw {
        self.both(Call { method: "DELETE", path, content_type: "application/json", body: b"" }).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Raw {
        let body = body.to_string();
        self.both(Call { method: "POST", path, content_type: "application/json", body: body.as_bytes() }).await
    }

    /// A multipart call with text fields, and files where a name has an `@` in front.
    pub(crate) async fn form(&self, path: &str, fields: &[(&str, &str)]) -> Raw {
        let part = |(name, value): &(&str, &str)| match name.strip_prefix('@') {
            Some(name) => format!(
                "--b-1\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a.txt\"\r\n\
                 Content-Type: text/plain\r\n\r\n{value}\r\n"
            ),
            None => format!("--b-1\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"),
        };
        let body = fields.iter().map(part).collect::<String>() + "--b-1--\r\n";
        let content_type = "multipart/form-data; boundary=b-1";
        self.both(Call { method: "POST", path, content_type, body: body.as_bytes() }).await
    }

    /// What both answer for a job once both say that it is over.
    pub(crate) async fn ended(&self, path: &str) -> Raw {
        let call = Call { method: "GET", path, content_type: "application/json", body: b"" };
        for address in [self.direct.addr(), self.behind.addr()] {
            let wait = async {
                loop {
                    let job = ask(address, call).await.json();
                    if job["statusFinal"] == true || ["completed", "failed"].iter().any(|end| job["status"] == *end) {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(PATIENCE, wait).await.unwrap();
        }
        self.get(path).await
    }

    /// Waits until everything that was made through the gateway is in the bucket, byte for byte.
    pub(crate) async fn assert_archived(&self) {
        let truth = self.behind.truth();
        assert!(!truth.is_empty(), "nothing was made");
        for expected in truth {
            let end = if expected.outcome == Outcome::Completed { "archived" } else { "failed" };
            let job = self.vault.job_in(expected.job_id.as_str(), &[end]).await;
            let mut found = Vec::new();
            for asset in job["assets"].as_array().unwrap() {
                found.push(Digest::of(&self.vault.object(asset["key"].as_str().unwrap()).await));
            }
            let wanted: Vec<_> = expected.files.iter().map(|file| file.sha256).collect();
            let sorted = |mut digests: Vec<Digest>| {
                digests.sort_by_key(|digest| *digest.as_bytes());
                digests
            };
            assert_eq!(sorted(found), sorted(wanted), "{job:#}");
        }
    }
}

async fn ask(address: SocketAddr, call: Call<'_>) -> Raw {
    let authorization = format!("Bearer {TOKEN}");
    let mut headers = vec![("Authorization", authorization.as_str()), ("Accept", "*/*")];
    if !call.body.is_empty() {
        headers.push(("Content-Type", call.content_type));
    }
    raw::call(address, call.method, &format!("/v1/minimax/{}", call.path), &headers, call.body).await
}
