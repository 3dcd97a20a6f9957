//! URLs, host patterns, addresses, and what the outbound policy makes of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use replyvault::domain::MediaUrl;
use replyvault::egress::{AllowedHosts, Config, HostPattern, Policy};
use url::{Host, Url};

const ALLOWED: [&str; 4] = ["*.hailuoai.video", "minimax-public-cdn.com", "8.8.8.8", "127.0.0.1"];

fn policy(allowed_hosts: AllowedHosts, allow_http: bool, allow_private_addresses: bool) -> Policy {
    Policy::new(Config { allowed_hosts, allow_http, allow_private_addresses })
}

/// The input as a URL, as a host pattern, and as addresses.
pub(crate) fn check(input: &[u8]) {
    if let Some(bytes) = input.first_chunk::<16>() {
        address(Ipv6Addr::from(*bytes).into());
    }
    if let Some(bytes) = input.first_chunk::<4>() {
        address(Ipv4Addr::from(*bytes).into());
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    pattern(text);
    for text in [text.to_owned(), format!("https://{text}"), format!("https://cdn.hailuoai.video{text}")] {
        if let Ok(url) = MediaUrl::parse(&text) {
            media_url(&url);
        }
    }
}

fn media_url(url: &MediaUrl) {
    let exposed = url.expose();
    assert_eq!(MediaUrl::parse(exposed.as_str()).as_ref(), Ok(url), "it is read another way the second time");
    let text = url.to_string();
    let text = text.trim_end_matches("?…");
    let shown = Url::parse(text).expect("what is shown is a URL");
    assert_eq!((shown.scheme(), shown.host()), (exposed.scheme(), exposed.host()));
    assert!(shown.path() == exposed.path() || text.contains('…'), "{text}");
    assert!(shown.query().is_none() && shown.fragment().is_none());
    assert!(shown.username().is_empty() && shown.password().is_none());

    let allowed = || AllowedHosts::Only(ALLOWED.map(|host| host.parse().unwrap()).into());
    let strict = policy(allowed(), false, false);
    let host = exposed.host().expect("a URL of a file has a host");
    if strict.check_url(url).is_ok() {
        assert_eq!(exposed.scheme(), "https");
        assert!(exposed.username().is_empty() && exposed.password().is_none());
        // Once more in other words than the policy's own.
        let listed = match &host {
            Host::Domain(name) => {
                let whole_labels = || name.split('.').all(|label| !label.is_empty());
                *name == "minimax-public-cdn.com" || (name.ends_with(".hailuoai.video") && whole_labels())
            }
            Host::Ipv4(address) => *address == Ipv4Addr::new(8, 8, 8, 8),
            Host::Ipv6(_) => false,
        };
        assert!(listed, "{exposed}");
        assert!(policy(allowed(), true, true).check_url(url).is_ok(), "less is allowed where more is");
        assert!(policy(AllowedHosts::Any, false, false).check_url(url).is_ok(), "less is allowed where more is");
    }
    if policy(AllowedHosts::Any, true, true).check_url(url).is_ok() {
        assert!(!url.host().ends_with('.') && exposed.username().is_empty());
        if let Host::Ipv4(address) = host {
            assert!(!address.is_link_local() && !address.is_unspecified() && !address.is_multicast());
        }
    }
    assert!(policy(AllowedHosts::Only(Vec::new()), true, true).check_url(url).is_err());
    let secure = MediaUrl::parse("https://8.8.8.8/").unwrap();
    let redirect = policy(AllowedHosts::Any, true, true).check_redirect(&secure, url);
    assert!(exposed.scheme() == "https" || redirect.is_err(), "a redirect from https to http");
}

fn pattern(text: &str) {
    let Ok(pattern) = text.parse::<HostPattern>() else { return };
    let shown = pattern.to_string();
    assert_eq!(shown.parse().as_ref(), Ok(&pattern), "it is read another way the second time");
    match shown.strip_prefix("*.") {
        Some(domain) => {
            assert!(!pattern.matches(&Host::Domain(domain)), "the bare domain");
            assert!(pattern.matches(&Host::Domain(&format!("a.{domain}"))));
            assert!(!pattern.matches(&Host::Domain(&format!("a{domain}"))), "half a label");
        }
        None => {
            let url = Url::parse(&format!("https://{shown}/")).expect("a host makes a URL");
            assert!(pattern.matches(&url.host().unwrap()));
            assert!(!pattern.matches(&Host::Domain(&format!("a.{shown}"))));
        }
    }
}

fn address(address: IpAddr) {
    let (strict, open) = (policy(AllowedHosts::Any, false, false), policy(AllowedHosts::Any, false, true));
    let is_public = strict.check_address("h", address).is_ok();
    let is_open = open.check_address("h", address).is_ok();
    assert!(is_open || !is_public, "less is allowed where more is");
    let (special, never) = match address {
        IpAddr::V4(address) => {
            let never = address.is_link_local() || address.is_unspecified() || address.is_multicast();
            (address.is_loopback() || address.is_private() || address.is_documentation(), never)
        }
        IpAddr::V6(address) => {
            let never = address.is_unicast_link_local() || address.is_unspecified() || address.is_multicast();
            let global = address.segments()[0] & 0xe000 == 0x2000;
            let embedded = address.to_ipv4().is_some() && !address.is_loopback();
            (address.is_unique_local() || address.is_loopback() || !global, never || embedded)
        }
    };
    assert!(!(is_public && (special || never)), "{address} is not public");
    assert!(!(is_open && never), "{address} is never allowed");
}
