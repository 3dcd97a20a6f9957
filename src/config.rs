//! Reads the settings: built-in defaults, then a TOML file, then the environment.
//!
//! A [`Config`] that exists has been checked: every value is of its type and within its bounds, and fits the others.
//! What can only be known by trying (a directory that can be written to, an address that is free) is said when it is
//! tried; [`Config::error`] then names the key and where it was set. No room below `app` knows this module: each has a
//! `Config` of its own, which the methods here make.
//!
//! [`Credentials`] are what is configured or, where nothing is, what the first start made and keeps in `secrets.toml`.

mod checks;
mod credentials;
mod data_dir;
mod environment;
mod error;
mod keys;
mod network;
mod secret;
mod secrets;
mod sections;
mod show;
mod source;
mod units;

use std::ffi::OsString;
use std::path::Path;

use serde::{Deserialize, Serialize};
use url::Host;

pub use credentials::{ApiToken, Credentials};
pub use data_dir::{DataDir, DataDirError};
pub use error::Error;
pub use network::{HttpUrl, Listen, Network};
pub use secret::Secret;
pub use secrets::{Secrets, SecretsError, Wanted};
pub use sections::{
    Auth, BucketUrl, Cluster, Data, Endpoint, EventName, Fetch, Gateway, KindName, Notify, Provider, Scope, Server,
    Storage, Template, Token, UnknownRefs, Watermark,
};
pub use units::{DurationSetting, Setting, Size, Speed};

use self::source::Sources;
use crate::bucket::{Bucket, LinkConfig, OpenError, StorageUrl};
use crate::cluster::PostgresUrl;
use crate::domain::{MediaUrl, Route};
use crate::egress::AllowedHosts;
use crate::{bucket, egress, fetch, gateway, intake, notify, provider, relay};

/// The file that is read when none is named.
const DEFAULT_FILE: &str = "config.toml";

/// All settings. Relative paths are resolved against the configuration file's directory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The HTTP service.
    pub server: Server,
    /// What is kept on this machine.
    pub data: Data,
    /// Who may do what.
    pub auth: Auth,
    /// Where the media go.
    pub storage: Storage,
    /// How media are downloaded.
    pub fetch: Fetch,
    /// The provider's API.
    pub provider: Provider,
    /// The proxy in front of the provider's API.
    pub gateway: Gateway,
    /// Whom to tell what became of jobs.
    pub notify: Notify,
    /// What replicas share.
    pub cluster: Cluster,
    #[serde(skip)]
    sources: Sources,
}

impl Config {
    /// Reads the settings. Without `file` it is `config.toml` in the working directory, if there is one.
    ///
    /// # Errors
    /// With the first thing that is wrong.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Error> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        let place = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &place, path.parent().unwrap_or(Path::new("")), environment),
            Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                Self::read(toml::Table::new(), Sources::default(), Path::new(""), environment)
            }
            Err(error) => {
                let problem = format!("expected a configuration file that can be read: {error}");
                Err(Error { place, key: None, problem })
            }
        }
    }

    /// Reads the text of a configuration file called `name`, with relative paths below `base`.
    ///
    /// # Errors
    /// With the first thing that is wrong.
    pub fn parse(
        text: &str,
        name: &str,
        base: &Path,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Error> {
        let table: toml::Table = text.parse().map_err(|error| source::syntax_error(name, text, &error))?;
        let sources = Sources::of_file(name, &table);
        Self::read(table, sources, base, environment)
    }

    fn read(
        mut table: toml::Table,
        mut sources: Sources,
        base: &Path,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Error> {
        source::check_keys(&table, &sources)?;
        environment::overlay(&mut table, &mut sources, environment)?;
        let mut config: Self = serde_path_to_error::deserialize(toml::Value::Table(table))
            .map_err(|error| sources.error(&error.path().to_string(), error.inner().message()))?;
        config.sources = sources;
        config.resolve(base)?;
        checks::check(&config)?;
        Ok(config)
    }

    fn resolve(&mut self, base: &Path) -> Result<(), Error> {
        self.data.dir = base.join(&self.data.dir);
        for path in [&mut self.server.tls_certificate, &mut self.server.tls_key].into_iter().flatten() {
            *path = base.join(&path);
        }
        let url = StorageUrl::parse(&self.storage.url.to_string(), base);
        self.storage.url = BucketUrl(url.map_err(|error| self.error("storage.url", error))?);
        Ok(())
    }

    /// What is wrong with the setting at `key`, with the place where it was made.
    pub fn error(&self, key: &str, problem: impl std::fmt::Display) -> Error {
        self.sources.error(key, &problem.to_string())
    }

    /// The file that was read.
    pub fn file(&self) -> Option<&str> {
        self.sources.file()
    }

    /// The settings that are in force, as TOML, each with the place it comes from unless that is the default. Secrets
    /// are masked.
    pub fn show(&self) -> String {
        show::show(self, &self.sources)
    }

    /// What is allowed and yet hardly meant, a line for each.
    pub fn warnings(&self) -> Vec<String> {
        checks::warnings(self)
    }

    /// The service's base URL for a client on this machine.
    pub fn local_url(&self) -> String {
        self.server.listen.local_url(self.server.tls_certificate.is_some())
    }

    /// How callbacks are taken.
    pub fn intake(&self) -> intake::Config {
        intake::Config {
            // At most 64 MiB.
            max_callback_size: self.server.max_callback_size.0 as usize,
            body_time: intake::Config::BODY_TIME,
            adopt_unknown_refs: self.auth.unknown_refs == UnknownRefs::Adopt,
            sidecars: self.storage.sidecars,
            confirm: self.provider.confirm,
            quarantine: intake::QuarantineLimits {
                items: self.data.quarantine_items,
                bytes: self.data.quarantine_size.0,
                age: self.data.quarantine_retention.0,
            },
        }
    }

    /// How media are downloaded.
    pub fn fetch(&self) -> fetch::Config {
        fetch::Config {
            egress: egress::Config {
                allowed_hosts: AllowedHosts::Only(self.fetch.allowed_hosts.clone()),
                allow_http: self.fetch.allow_http,
                allow_private_addresses: self.fetch.allow_private_addresses,
            },
            max_size: self.fetch.max_size.0,
            idle_timeout: self.fetch.idle_timeout.0,
            min_speed: self.fetch.min_speed.0,
        }
    }

    /// How the provider is asked; `None` without a token for it.
    pub fn provider(&self) -> Option<provider::ClientConfig> {
        Some(provider::ClientConfig {
            base_url: self.provider.base_url.url().clone(),
            api_token: self.provider.api_token.as_ref()?.0.clone(),
            egress: self.provider_egress(),
        })
    }

    /// How calls pass through to the provider; `None` unless they may.
    pub fn gateway(&self, credentials: &Credentials) -> Option<gateway::Config> {
        let may_all = credentials.api_tokens.iter().filter(|token| token.scope == Scope::Admin);
        self.gateway.enabled.then(|| gateway::Config {
            base_url: self.provider.base_url.url().clone(),
            egress: self.provider_egress(),
            api_tokens: may_all.map(|token| token.token.clone()).collect(),
            provider_token: self.provider.api_token.as_ref().map(|token| token.0.clone()),
            provider_tokens: self.gateway.provider_tokens.iter().map(|token| token.0.clone()).collect(),
            adopt_listed: self.gateway.adopt_listed,
        })
    }

    /// To the provider and nobody else.
    fn provider_egress(&self) -> egress::Config {
        let base_url = self.provider.base_url.url();
        let host = base_url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse().ok());
        // An address, or this machine, is meant where it is written; a name could lead anywhere.
        let is_meant = self.provider.base_url.is_loopback() || !matches!(base_url.host(), Some(Host::Domain(_)));
        egress::Config {
            allowed_hosts: AllowedHosts::Only(host.into_iter().collect()),
            allow_http: base_url.scheme() == "http",
            allow_private_addresses: is_meant || self.fetch.allow_private_addresses,
        }
    }

    /// How callbacks are passed on to receivers of callers' own.
    pub fn relay(&self) -> relay::Config {
        relay::Config { egress: self.receivers_egress(), patience: relay::Config::PATIENCE }
    }

    /// Where replicas meet; `None` where there is one machine.
    ///
    /// # Errors
    /// When the URL cannot be used.
    pub fn postgres(&self) -> Result<Option<PostgresUrl>, Error> {
        let Some(url) = &self.cluster.postgres else { return Ok(None) };
        let variable = |name: &str| std::env::var(name).ok();
        PostgresUrl::parse(&url.0, variable).map(Some).map_err(|error| self.error("cluster.postgres", error))
    }

    /// Any host that the policy lets requests go to.
    fn receivers_egress(&self) -> egress::Config {
        egress::Config {
            allowed_hosts: AllowedHosts::Any,
            allow_http: self.fetch.allow_http,
            allow_private_addresses: self.fetch.allow_private_addresses,
        }
    }

    /// How events are sent; `ref_keys` sign those to the `notifyUrl` of a ref.
    ///
    /// # Errors
    /// When an endpoint cannot be used; what was read is checked, so it can.
    pub fn notify(&self, ref_keys: notify::SigningKeys) -> Result<notify::Config, Error> {
        let endpoints = self.notify.endpoints.iter().enumerate().map(|(place, endpoint)| {
            let fail = |name: &str, error: &dyn std::fmt::Display| {
                self.error(&format!("notify.endpoints[{place}].{name}"), error)
            };
            let secrets = endpoint.secret.0.iter().map(|secret| &secret.0);
            Ok(notify::Endpoint {
                route: Route {
                    endpoint: endpoint.name.clone(),
                    events: endpoint.events.iter().map(|event| event.0).collect(),
                    providers: endpoint.provider.clone(),
                    kinds: endpoint.kind.iter().map(|kind| kind.0).collect(),
                    labels: endpoint.labels.clone(),
                },
                url: MediaUrl::from_url(endpoint.url.url().clone()).map_err(|error| fail("url", &error))?,
                keys: notify::SigningKeys::read(secrets).map_err(|error| fail("secret", &error))?,
                presigned: endpoint.presigned,
            })
        });
        Ok(notify::Config {
            egress: self.receivers_egress(),
            endpoints: endpoints.collect::<Result<_, Error>>()?,
            ref_keys,
            patience: notify::Config::PATIENCE,
        })
    }

    /// How links to stored files are made.
    pub fn links(&self) -> LinkConfig {
        LinkConfig {
            public_url: self.storage.public_url.as_ref().map(|url| url.as_str().to_owned()),
            presign_expiry: self.storage.presign_expiry.0,
        }
    }

    /// How the store is reached.
    pub fn bucket(&self) -> bucket::Config {
        let secret = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.0.clone());
        let storage = &self.storage;
        bucket::Config {
            url: storage.url.0.clone(),
            endpoint: storage.endpoint.as_ref().map(|url| url.url().to_string()),
            region: storage.region.clone(),
            access_key_id: secret(&storage.access_key_id),
            secret_access_key: secret(&storage.secret_access_key),
            allow_http: storage.allow_http,
            virtual_hosted_style: storage.virtual_hosted_style,
            part_size: storage.part_size.0,
            limits: bucket::Limits::default(),
        }
    }

    /// Opens the store; an error names the key.
    ///
    /// # Errors
    /// As for [`Bucket::open`].
    pub fn open_bucket(&self) -> Result<Bucket, Error> {
        let opened = Bucket::open_for_vault(&self.bucket(), &self.data.dir.join("bucket.json"));
        opened.map_err(|error| match &error {
            OpenError::Endpoint(expected) => self.error("storage.endpoint", format!("expected {expected}")),
            OpenError::PartSize => self.error("storage.part_size", "expected 1 byte to 5 GiB"),
            _ => self.error("storage.url", error),
        })
    }
}

#[cfg(test)]
mod tests;
