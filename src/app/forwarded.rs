//! Whose word on the client counts.

use std::net::{IpAddr, SocketAddr};

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{
    FORWARDED, HeaderName, HeaderValue, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO,
};
use actix_web::web::Data;

use super::idle_timeout;
use crate::config::Network;

/// Proxies in front of the service.
#[derive(Clone, Debug, Default)]
pub(super) struct TrustedProxies(Vec<Network>);

impl TrustedProxies {
    pub(super) fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// The last address in `said` that is no trusted proxy's: everything before it may be the client's own invention.
    fn client<'a>(&self, said: impl DoubleEndedIterator<Item = &'a str>) -> Option<IpAddr> {
        let mut nearest = None;
        for address in said.rev().map(address) {
            nearest = Some(address?);
            if !self.contain(address?) {
                break;
            }
        }
        nearest
    }
}

/// Proxies write ports too, some of them.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    text.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))
}

/// What is said about a request's way here.
const FORWARDED_HEADERS: [HeaderName; 4] = [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO];

/// Leaves of what a request says about its way only what a trusted proxy said, so that `connection_info` is right for
/// everybody behind this.
pub(super) fn apply_forwarded_headers(request: &mut ServiceRequest) {
    let https = idle_timeout::is_https(request).then_some("https");
    let (client, scheme) = if request.headers().keys().any(|name| FORWARDED_HEADERS.contains(name)) {
        forwarded_info(request)
    } else {
        (None, None)
    };
    let headers = request.headers_mut();
    if let Some(value) = client.and_then(|client| HeaderValue::from_str(&client.to_string()).ok()) {
        headers.insert(X_FORWARDED_FOR, value);
    }
    match scheme.as_deref().filter(|scheme| ["http", "https"].contains(scheme)).or(https) {
        Some("https") => headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https")),
        Some("http") => headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http")),
        _ => return,
    };
}

/// The client and the scheme as far as a trusted proxy tells of them. Takes what is said out of the request.
fn forwarded_info(request: &mut ServiceRequest) -> (Option<IpAddr>, Option<String>) {
    let proxies = request.app_data::<Data<TrustedProxies>>();
    let proxies = proxies.filter(|proxies| request.peer_addr().is_some_and(|peer| proxies.contain(peer.ip())));
    let said = |name: HeaderName| {
        let values = request.headers().get_all(name).filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).map(str::to_owned).collect::<Vec<_>>()
    };
    let forwarded_info = match proxies {
        Some(proxies) => {
            let client = proxies.client(said(X_FORWARDED_FOR).iter().map(String::as_str));
            (client, said(X_FORWARDED_PROTO).pop().map(|scheme| scheme.trim().to_ascii_lowercase()))
        }
        None => (None, None),
    };
    for name in FORWARDED_HEADERS {
        request.headers_mut().remove(name);
    }
    forwarded_info
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Setting;

    #[test]
    fn the_client_is_the_last_that_no_proxy_of_ours_vouches_for() {
        let proxies = TrustedProxies::new(vec![Network::read("10.0.0.0/8").unwrap()]);
        for (said, client) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("6.6.6.6, 192.0.2.1, 10.0.0.2", Some("192.0.2.1")),
            ("6.6.6.6,192.0.2.1:4711", Some("192.0.2.1")),
            ("10.0.0.3, 10.0.0.2", Some("10.0.0.3")),
            ("[2001:db8::1]:80", Some("2001:db8::1")),
            ("192.0.2.1, unknown", None),
            ("", None),
        ] {
            let found = proxies.client(said.split(',')).map(|client| client.to_string());
            assert_eq!(found.as_deref(), client, "{said}");
        }
    }
}
