//! The outbound policy and the one HTTP client that obeys it.
//!
//! URLs come from callbacks, redirects and subscribers, none of whom is trusted: a URL is a way to make this process
//! send a request from inside the operator's network. So a request leaves only when its scheme and host are allowed
//! and every address its host resolves to is one that may be spoken to, and it goes to those very addresses. The rule
//! is enforced three times, each on its own: on the URL, in the resolver, and on every redirect.
//!
//! A [`Refusal`] is final: the same URL is refused again until the configuration changes.

mod address;
mod client;
mod cookies;
mod host;
mod policy;
mod refusal;
mod resolver;

pub use address::AddressClass;
pub use client::{Client, ClientConfig, ClientSetupError, EgressError, MAX_REDIRECTS, Response};
pub use host::{HostPattern, HostPatternError};
pub use policy::{AllowedHosts, Config, Policy};
pub use refusal::Refusal;
pub use reqwest::header;
pub use reqwest::{Body, Method, StatusCode, Upgraded};
