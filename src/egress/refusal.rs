use std::net::IpAddr;

use super::AddressClass;
use super::client::MAX_REDIRECTS;

/// Why the policy lets no request go out. Trying the same again gives the same answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `http` where only `https` is allowed.
    #[error("the URL is http, expected https")]
    Scheme,
    /// `user:password@` in the URL.
    #[error("the URL has a user name or password, expected none")]
    Userinfo,
    /// `example.com.`: the same site under a name that matches no allow-list and no certificate.
    #[error("host {host} ends in a dot")]
    TrailingDot {
        /// As in the URL.
        host: String,
    },
    /// Not on the allow-list.
    #[error("host {host} is not an allowed host: add \"{host}\" to fetch.allowed_hosts, and retry")]
    HostNotAllowed {
        /// As in the URL.
        host: String,
    },
    /// The host is, or resolves to, at least one address that is not to be spoken to.
    #[error("host {host} has the {class} address {address}, expected public addresses only")]
    AddressForbidden {
        /// As in the URL.
        host: String,
        /// The first such address.
        address: IpAddr,
        /// What it is.
        class: AddressClass,
    },
    /// A redirect from `https` to `http`.
    #[error("a redirect leads from https to http")]
    Downgrade,
    /// A redirect whose `Location` is missing or no http or https URL.
    #[error("a redirect without a usable Location, expected an http or https URL")]
    RedirectInvalid,
    /// More than [`MAX_REDIRECTS`] redirects in a row.
    #[error("more than {MAX_REDIRECTS} redirects")]
    TooManyRedirects,
}

impl Refusal {
    /// The stable name, for records and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Scheme => "scheme",
            Self::Userinfo => "userinfo",
            Self::TrailingDot { .. } => "trailing_dot",
            Self::HostNotAllowed { .. } => "host_not_allowed",
            Self::AddressForbidden { .. } => "address_forbidden",
            Self::Downgrade => "downgrade",
            Self::RedirectInvalid => "redirect_invalid",
            Self::TooManyRedirects => "too_many_redirects",
        }
    }
}
