//! The settings, section by section, with their defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::network::{HttpUrl, Listen, Network};
use super::secret::Secret;
use super::units::{DurationSetting, Setting, Size, Speed, between, setting};
use crate::bucket::{KeyTemplate, KeyTemplateError, StorageUrl};
use crate::domain::{EventType, Kind};
use crate::egress::HostPattern;
use crate::intake::QuarantineLimits;

/// `[server]`: the HTTP service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Where it listens.
    pub listen: Listen,
    /// What minted reply URLs start with.
    pub public_url: HttpUrl,
    /// The largest callback taken.
    pub max_callback_size: Size,
    /// How long what is being done may go on after a signal to stop.
    pub shutdown_grace: DurationSetting,
    /// With [`Self::tls_key`]: serve HTTPS with this chain, in PEM.
    pub tls_certificate: Option<PathBuf>,
    /// The certificate's key, in PEM.
    pub tls_key: Option<PathBuf>,
    /// Proxies whose word on the client's address is taken.
    pub trusted_proxies: Vec<Network>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: constant("127.0.0.1:8080"),
            public_url: constant("http://127.0.0.1:8080"),
            max_callback_size: Size(32 << 20),
            shutdown_grace: DurationSetting(Duration::from_secs(30)),
            tls_certificate: None,
            tls_key: None,
            trusted_proxies: Vec::new(),
        }
    }
}

/// `[data]`: what is kept on this machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// The data directory.
    pub dir: PathBuf,
    /// How long a journal segment stays after its jobs have all ended.
    pub journal_retention: DurationSetting,
    /// How many bodies may be in quarantine.
    pub quarantine_items: u64,
    /// How many bytes they may have together.
    pub quarantine_size: Size,
    /// How long one stays there.
    pub quarantine_retention: DurationSetting,
}

impl Default for Data {
    fn default() -> Self {
        let quarantine = QuarantineLimits::default();
        Self {
            dir: "data".into(),
            journal_retention: DurationSetting(Duration::from_secs(31 * 86_400)),
            quarantine_items: quarantine.items,
            quarantine_size: Size(quarantine.bytes),
            quarantine_retention: DurationSetting(quarantine.age),
        }
    }
}

/// `[cluster]`: what replicas share.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// Where PostgreSQL is; without it there are no replicas.
    pub postgres: Option<Secret>,
}

/// `[auth]`: who may do what.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Bearer tokens for the API, all of them admin.
    pub api_tokens: Vec<Secret>,
    /// Keys of reply URLs: the first signs, all are accepted.
    pub reply_secrets: Vec<Secret>,
    /// What becomes of callbacks with a replyRef nobody registered.
    pub unknown_refs: UnknownRefs,
    /// Bearer tokens with names and scopes.
    pub tokens: Vec<Token>,
}

/// A bearer token of the API.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// What it is called in logs.
    pub name: String,
    /// The token.
    pub token: Secret,
    /// What it is good for.
    pub scope: Scope,
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Reading.
    Read,
    /// Everything.
    Admin,
}

/// What becomes of callbacks with a replyRef nobody registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownRefs {
    /// It becomes a ref.
    #[default]
    Adopt,
    /// The callback is quarantined.
    Reject,
}

/// `[storage]`: where the media go.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// The bucket.
    pub url: BucketUrl,
    /// Where the S3 API is, for stores other than AWS.
    pub endpoint: Option<HttpUrl>,
    /// The region.
    pub region: Option<String>,
    /// With [`Self::secret_access_key`]; without both the usual AWS environment, files and roles are asked.
    pub access_key_id: Option<Secret>,
    /// See [`Self::access_key_id`].
    pub secret_access_key: Option<Secret>,
    /// Whether the endpoint may be an `http` one.
    pub allow_http: bool,
    /// Whether the bucket's name goes into the host rather than the path.
    pub virtual_hosted_style: bool,
    /// Where in the bucket a job's files go.
    pub key: Template,
    /// Bytes of each part of a multipart upload.
    pub part_size: Size,
    /// Whether posters, thumbnails and subtitles are kept too.
    pub sidecars: bool,
    /// What stands before a key where the world sees the bucket.
    pub public_url: Option<HttpUrl>,
    /// How long presigned links in API answers and events are good for.
    pub presign_expiry: DurationSetting,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            url: constant("file:data/bucket"),
            endpoint: None,
            region: None,
            access_key_id: None,
            secret_access_key: None,
            allow_http: false,
            virtual_hosted_style: false,
            key: constant(KeyTemplate::DEFAULT),
            part_size: Size(8 << 20),
            sidecars: false,
            public_url: None,
            presign_expiry: DurationSetting(Duration::from_secs(3600)),
        }
    }
}

/// `[fetch]`: how media are downloaded.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fetch {
    /// Whom downloads may come from.
    pub allowed_hosts: Vec<HostPattern>,
    /// Whether `http` URLs are taken.
    pub allow_http: bool,
    /// Whether private and loopback addresses may be spoken to.
    pub allow_private_addresses: bool,
    /// The most bytes of one file.
    pub max_size: Size,
    /// How many downloads run at a time.
    #[serde(deserialize_with = "between::<_, _, 1, 10_000>")]
    pub concurrency: usize,
    /// How many of them from one host.
    #[serde(deserialize_with = "between::<_, _, 1, 10_000>")]
    pub per_host: usize,
    /// How long a server may keep silent.
    pub idle_timeout: DurationSetting,
    /// Slower over a minute counts as a stall.
    pub min_speed: Speed,
    /// How many attempts a file gets.
    #[serde(deserialize_with = "between::<_, _, 1, 1000>")]
    pub max_attempts: u16,
    /// What becomes of files not known to be without watermark.
    pub watermark: Watermark,
}

/// What becomes of files not known to be without watermark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watermark {
    /// They are taken where there is nothing better.
    #[default]
    PreferClean,
    /// They are left.
    CleanOnly,
}

impl Default for Fetch {
    fn default() -> Self {
        let mut allowed_hosts = Vec::new();
        for host in crate::provider::media_hosts().filter_map(|host| host.parse().ok()) {
            if !allowed_hosts.contains(&host) {
                allowed_hosts.push(host);
            }
        }
        Self {
            allowed_hosts,
            allow_http: false,
            allow_private_addresses: false,
            max_size: Size(4 << 30),
            concurrency: 16,
            per_host: 8,
            idle_timeout: DurationSetting(Duration::from_secs(30)),
            min_speed: Speed(16 << 10),
            max_attempts: 12,
            watermark: Watermark::PreferClean,
        }
    }
}

/// `[provider]`: its API.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Provider {
    /// What its URLs start with.
    pub base_url: HttpUrl,
    /// Our token there.
    pub api_token: Option<Secret>,
    /// Whether it is asked before a final callback is believed.
    pub confirm: bool,
}

impl Default for Provider {
    fn default() -> Self {
        Self { base_url: constant("https://api.useapi.net"), api_token: None, confirm: false }
    }
}

/// `[gateway]`: the proxy in front of the provider's API.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    /// Whether there is one.
    pub enabled: bool,
    /// Callers' own provider tokens that may pass.
    pub provider_tokens: Vec<Secret>,
    /// Whether what lists show and nobody registered is archived too.
    pub adopt_listed: bool,
}

/// `[notify]`: whom to tell what became of jobs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Notify {
    /// What signs events to the `notifyUrl` of a ref.
    pub secret: Option<Secrets>,
    /// Whom to tell besides.
    pub endpoints: Vec<Endpoint>,
}

/// `[[notify.endpoints]]`: one that is told what becomes of jobs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// What it is called in lists and logs.
    pub name: String,
    /// Where it is.
    pub url: HttpUrl,
    /// What signs.
    pub secret: Secrets,
    /// What it is told of.
    #[serde(default = "default_events")]
    pub events: Vec<EventName>,
    /// Of these providers alone.
    #[serde(default)]
    pub provider: Vec<String>,
    /// Of jobs of these kinds alone.
    #[serde(default)]
    pub kind: Vec<KindName>,
    /// Of jobs whose ref has all of these labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether events have presigned links.
    #[serde(default)]
    pub presigned: bool,
}

fn default_events() -> Vec<EventName> {
    EventType::DEFAULT.map(EventName).to_vec()
}

/// A secret, or several while one takes the place of another.
#[derive(Clone, Debug, Serialize)]
pub struct Secrets(pub Vec<Secret>);

impl<'de> Deserialize<'de> for Secrets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let secrets = match toml::Value::deserialize(deserializer)? {
            // As the environment has it.
            toml::Value::String(text) if text.starts_with('[') => text.parse().map(toml::Value::try_into),
            list @ toml::Value::Array(_) => Ok(list.try_into()),
            one => Ok(toml::Value::Array(vec![one]).try_into()),
        };
        secrets
            .unwrap_or_else(Err)
            .map(Self)
            .map_err(|_| D::Error::custom("expected a text in quotes, or a list of such"))
    }
}

/// One word of `events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventName(pub EventType);

impl Setting for EventName {
    fn read(text: &str) -> Result<Self, String> {
        let found = EventType::ALL.into_iter().find(|event| event.as_str() == text);
        let names = || EventType::ALL.map(EventType::as_str).join(", ");
        found.map(Self).ok_or_else(|| format!("expected one of {}", names()))
    }
}

impl std::fmt::Display for EventName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_str())
    }
}

setting!(EventName, shown);

/// One word of `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindName(pub Kind);

impl Setting for KindName {
    fn read(text: &str) -> Result<Self, String> {
        let found = Kind::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.map(Self).ok_or_else(|| format!("expected one of {}", Kind::ALL.map(Kind::as_str).join(", ")))
    }
}

impl std::fmt::Display for KindName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_str())
    }
}

setting!(KindName, shown);

/// The setting `storage.url`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketUrl(pub StorageUrl);

impl BucketUrl {
    /// The directory of a `file:` bucket.
    pub fn directory(&self) -> Option<PathBuf> {
        // The text form escapes percent signs and nothing else.
        self.0.to_string().strip_prefix("file:").map(|path| path.replace("%25", "%").into())
    }

    /// Whether it is a store that is reached over the network.
    pub fn is_remote(&self) -> bool {
        let text = self.0.to_string();
        text.starts_with("s3:") || text.starts_with("gs:")
    }
}

impl Setting for BucketUrl {
    fn read(text: &str) -> Result<Self, String> {
        StorageUrl::parse(text, std::path::Path::new("")).map(Self).map_err(|error| error.to_string())
    }
}

impl std::fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

setting!(BucketUrl, shown);

/// The setting `storage.key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(pub KeyTemplate);

impl Setting for Template {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error: KeyTemplateError| error.to_string())
    }
}

impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

setting!(Template, shown);

/// One word out of a few.
macro_rules! choice {
    ($type:ty, $expected:literal, $($word:literal => $value:path),+) => {
        impl Setting for $type {
            fn read(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok($value),)+
                    _ => Err($expected.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $($value => $word),+ })
            }
        }

        setting!($type, shown);
    };
}

choice!(Scope, "expected \"read\" or \"admin\"", "read" => Self::Read, "admin" => Self::Admin);
choice!(UnknownRefs, "expected \"adopt\" or \"reject\"", "adopt" => Self::Adopt, "reject" => Self::Reject);
choice!(
    Watermark, "expected \"prefer-clean\" or \"clean-only\"",
    "prefer-clean" => Self::PreferClean, "clean-only" => Self::CleanOnly
);

/// A default; a test reads them all.
fn constant<T: Setting>(text: &str) -> T {
    T::read(text).unwrap_or_else(|error| unreachable!("{text}: {error}"))
}
