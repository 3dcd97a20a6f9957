use std::net::IpAddr;

use url::Host;

use super::address::classify;
use super::{HostPattern, Refusal};
use crate::domain::MediaUrl;

/// Whom requests may go to.
#[derive(Debug, Clone)]
pub enum AllowedHosts {
    /// Any host at a permitted address.
    Any,
    /// Hosts that match one of these. An empty list allows none.
    Only(Vec<HostPattern>),
}

/// What the operator allows.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whom requests may go to. An IP literal must be on the list like any other host, and be permitted as an address.
    pub allowed_hosts: AllowedHosts,
    /// Whether `http` URLs are taken besides `https`.
    pub allow_http: bool,
    /// Whether loopback, private, carrier-grade NAT and unique local addresses are taken besides public ones. Link-local
    /// and metadata addresses are forbidden all the same.
    pub allow_private_addresses: bool,
}

/// The outbound policy: pure decisions, no I/O.
#[derive(Debug, Clone)]
pub struct Policy {
    config: Config,
}

impl Policy {
    /// The policy of this configuration.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Judges all that can be judged before the host is resolved.
    ///
    /// # Errors
    /// With the first reason found.
    pub fn check_url(&self, url: &MediaUrl) -> Result<(), Refusal> {
        let exposed = url.expose();
        if exposed.scheme() != "https" && !self.config.allow_http {
            return Err(Refusal::Scheme);
        }
        if !exposed.username().is_empty() || exposed.password().is_some() {
            return Err(Refusal::Userinfo);
        }
        match exposed.host() {
            Some(host) => self.check_host(&host),
            None => Err(Refusal::HostNotAllowed { host: String::new() }),
        }
    }

    /// Judges a redirect that the server at `from` sends to `to`.
    ///
    /// # Errors
    /// When it leads from https to http, and as for [`Self::check_url`].
    pub fn check_redirect(&self, from: &MediaUrl, to: &MediaUrl) -> Result<(), Refusal> {
        if from.expose().scheme() == "https" && to.expose().scheme() == "http" {
            return Err(Refusal::Downgrade);
        }
        self.check_url(to)
    }

    /// Judges a host; if it is an IP literal, as an address too, since those never reach the resolver.
    pub(super) fn check_host(&self, host: &Host<&str>) -> Result<(), Refusal> {
        if let Host::Domain(name) = host
            && name.ends_with('.')
        {
            return Err(Refusal::TrailingDot { host: host.to_string() });
        }
        let allowed = match &self.config.allowed_hosts {
            AllowedHosts::Any => true,
            AllowedHosts::Only(patterns) => patterns.iter().any(|pattern| pattern.matches(host)),
        };
        if !allowed {
            return Err(Refusal::HostNotAllowed { host: host.to_string() });
        }
        match host {
            Host::Domain(_) => Ok(()),
            Host::Ipv4(address) => self.check_address(&host.to_string(), (*address).into()),
            Host::Ipv6(address) => self.check_address(&host.to_string(), (*address).into()),
        }
    }

    /// Judges one address of `host`.
    ///
    /// # Errors
    /// When it is not public, nor of a class that the configuration opens.
    pub fn check_address(&self, host: &str, address: IpAddr) -> Result<(), Refusal> {
        match classify(address) {
            None => Ok(()),
            Some(class) if class.is_private() && self.config.allow_private_addresses => Ok(()),
            Some(class) => Err(Refusal::AddressForbidden { host: host.to_owned(), address, class }),
        }
    }
}

#[cfg(test)]
mod tests;
