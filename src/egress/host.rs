use std::fmt;
use std::net::Ipv6Addr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use url::Host;

/// A host that may be spoken to: one exact host (`cdn.example.com`, `203.0.113.7`, `[2001:db8::1]`) or the subdomains
/// of any depth of a domain (`*.example.com`, which does not match `example.com` itself).
///
/// Held as URLs hold hosts by the WHATWG rules: lower-case, IDN in Punycode, IP literals in their one canonical form.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HostPattern(Pattern);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Pattern {
    Exact(Host<String>),
    SubdomainsOf(String),
}

/// The text is no [`HostPattern`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a host without scheme, port or path: cdn.example.com, *.example.com (its subdomains) or an IP address"
)]
pub struct HostPatternError;

impl HostPattern {
    /// Whether `host`, as a parsed URL has it, is meant.
    pub fn matches(&self, host: &Host<&str>) -> bool {
        match (&self.0, host) {
            (Pattern::Exact(Host::Domain(own)), Host::Domain(host)) => own == host,
            (Pattern::Exact(Host::Ipv4(own)), Host::Ipv4(host)) => own == host,
            (Pattern::Exact(Host::Ipv6(own)), Host::Ipv6(host)) => own == host,
            (Pattern::SubdomainsOf(domain), Host::Domain(host)) => host
                .strip_suffix(domain.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|labels| labels.split('.').all(|label| !label.is_empty())),
            _ => false,
        }
    }
}

impl std::str::FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Ok(Self(Pattern::Exact(Host::Ipv6(address))));
        }
        let (subdomains, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        // The parser below takes `*` as a letter, decodes percent signs and drops some white space: none of it is
        // ever meant in a list of hosts.
        if name.contains(|c: char| c == '*' || c == '%' || c.is_whitespace()) {
            return Err(HostPatternError);
        }
        match (Host::parse(name).map_err(|_| HostPatternError)?, subdomains) {
            // A trailing dot is an empty label too; the policy refuses such hosts, so the pattern would never match.
            (Host::Domain(name), _) if name.split('.').any(str::is_empty) => Err(HostPatternError),
            (Host::Domain(name), true) => Ok(Self(Pattern::SubdomainsOf(name))),
            (host, false) => Ok(Self(Pattern::Exact(host))),
            (_, true) => Err(HostPatternError),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pattern::Exact(host) => write!(f, "{host}"),
            Pattern::SubdomainsOf(domain) => write!(f, "*.{domain}"),
        }
    }
}

impl fmt::Debug for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, url: &str) -> bool {
        let url = url::Url::parse(url).unwrap();
        pattern.parse::<HostPattern>().unwrap().matches(&url.host().unwrap())
    }

    #[test]
    fn patterns_are_normalised_as_hosts_in_urls_are() {
        for (text, shown) in [
            ("CDN.Example.com", "cdn.example.com"),
            ("*.Example.COM", "*.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("*.bücher.example", "*.xn--bcher-kva.example"),
            ("127.1", "127.0.0.1"),
            ("0x7f000001", "127.0.0.1"),
            ("2001:DB8:0::1", "[2001:db8::1]"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("localhost", "localhost"),
        ] {
            let pattern: HostPattern = text.parse().unwrap();
            assert_eq!(pattern.to_string(), shown);
            assert_eq!(pattern.to_string().parse(), Ok(pattern), "{text}");
        }
    }

    #[test]
    fn an_invalid_host_is_refused() {
        for bad in [
            "",
            "*",
            "*.",
            ".",
            "*.*.example.com",
            "a*.example.com",
            "*example.com",
            "*.127.0.0.1",
            "*.0.1",
            "*.[::1]",
            "*.::1",
            "https://example.com",
            "example.com:443",
            "127.0.0.1:80",
            "[::1]:80",
            "example.com/",
            "user@example.com",
            "example.com.",
            "*.example.com.",
            ".example.com",
            "*..example.com",
            "a..example.com",
            "exa mple.com",
            " example.com",
            "example.com ",
            "ex%61mple.com",
            "1.2.3.4.5",
            "fe80::1%eth0",
        ] {
            assert_eq!(bad.parse::<HostPattern>(), Err(HostPatternError), "{bad:?}");
        }
    }

    #[test]
    fn subdomains_of_any_depth_but_never_the_bare_domain() {
        assert!(matches("*.example.com", "https://a.example.com/"));
        assert!(matches("*.example.com", "https://c.b.A.EXAMPLE.com/"));
        for url in ["https://example.com/", "https://evilexample.com/", "https://example.com.evil.net/", "https://com/"]
        {
            assert!(!matches("*.example.com", url), "{url}");
        }
        assert!(matches("example.com", "https://EXAMPLE.com:8443/x"));
        assert!(!matches("example.com", "https://a.example.com/"));
        assert!(matches("127.0.0.1", "http://2130706433/"));
        assert!(matches("::1", "http://[0:0::1]/"));
        assert!(!matches("127.0.0.1", "http://[::ffff:127.0.0.1]/"));
    }

    proptest! {
        #[test]
        fn a_wildcard_needs_the_dot(prefix in "[a-z0-9-]{0,20}[a-z0-9]", middle in "[a-z0-9]{1,10}") {
            let pattern: HostPattern = "*.example.com".parse().unwrap();
            let glued = format!("{prefix}example.com");
            let other = format!("{prefix}.example.com.{middle}");
            let below = format!("{prefix}.{middle}.example.com");
            prop_assert!(!pattern.matches(&Host::Domain(&glued)));
            prop_assert!(!pattern.matches(&Host::Domain(&other)));
            prop_assert!(pattern.matches(&Host::Domain(&below)));
        }

        #[test]
        fn reading_never_panics_and_round_trips(text in "\\PC{0,40}") {
            if let Ok(pattern) = text.parse::<HostPattern>() {
                prop_assert_eq!(pattern.to_string().parse(), Ok(pattern));
            }
        }
    }
}
