//! Settings that name places on the network.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::{Host, Url};

use super::units::{Setting, setting};

/// Where to listen: an address or a name of this machine, and a port; port 0 takes a free one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    host: Host<String>,
    port: u16,
}

impl Listen {
    /// The addresses to listen on; a name may have several.
    ///
    /// # Errors
    /// When the name does not resolve.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        match &self.host {
            Host::Domain(name) => Ok((name.as_str(), self.port).to_socket_addrs()?.collect()),
            Host::Ipv4(address) => Ok(vec![(*address, self.port).into()]),
            Host::Ipv6(address) => Ok(vec![(*address, self.port).into()]),
        }
    }

    /// The service's base URL for a client on this machine.
    pub fn local_url(&self, https: bool) -> String {
        let scheme = if https { "https" } else { "http" };
        let host = match &self.host {
            Host::Ipv4(address) if address.is_unspecified() => Host::Ipv4(Ipv4Addr::LOCALHOST),
            Host::Ipv6(address) if address.is_unspecified() => Host::Ipv6(Ipv6Addr::LOCALHOST),
            host => host.clone(),
        };
        format!("{scheme}://{}", Self { host, port: self.port })
    }

    /// Whether only this machine can connect.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

fn is_loopback<S: AsRef<str>>(host: &Host<S>) -> bool {
    match host {
        Host::Domain(name) => name.as_ref() == "localhost" || name.as_ref().ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

impl Setting for Listen {
    fn read(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once(':').and_then(|(host, port)| {
            let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            let plain = !host.contains(|char: char| char == '%' || char.is_whitespace());
            let host = Host::parse(host).ok().filter(|_| digits && plain)?;
            Some(Self { host, port: port.parse().ok()? })
        });
        parts.ok_or_else(|| "expected an address and a port such as \"127.0.0.1:8080\" or \"[::]:8080\"".to_owned())
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

setting!(Listen, shown);

/// An absolute `http` or `https` URL without user, password and fragment.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl(Url);

impl HttpUrl {
    /// The URL.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// The URL without a slash at its end, its query as it is.
    pub fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    /// Whether only this machine finds itself there.
    pub fn is_loopback(&self) -> bool {
        self.0.host().is_some_and(|host| is_loopback(&host))
    }
}

impl Setting for HttpUrl {
    fn read(text: &str) -> Result<Self, String> {
        let plain = |url: &Url| {
            matches!(url.scheme(), "http" | "https")
                && url.host_str().is_some_and(|host| !host.is_empty())
                && url.username().is_empty()
                && url.password().is_none()
                && url.fragment().is_none()
        };
        let url = Url::parse(text).ok().filter(plain);
        // The parser drops tabs and line ends, and adds slashes that are missing.
        let strict = !text.contains(|char: char| char.is_control() || char.is_whitespace()) && text.contains("://");
        url.filter(|_| strict)
            .map(Self)
            .ok_or_else(|| "expected an http or https URL such as \"https://vault.example.com\"".to_owned())
    }
}

/// The query hidden: it may hold a key.
impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_str().split_once('?') {
            Some((before, _)) => write!(f, "{before}?…"),
            None => f.write_str(self.as_str()),
        }
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

setting!(HttpUrl, shown);

/// An address, or all that share its first bits: `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// Whether `address` is one of them; an IPv4 address inside IPv6 counts as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl Setting for Network {
    fn read(text: &str) -> Result<Self, String> {
        let network: IpNet = text
            .parse()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| "expected an address or network such as \"10.0.0.0/8\"".to_owned())?;
        let network = canonical(network).ok_or_else(|| {
            "expected 96 to 128 bits behind an IPv4 address inside IPv6, or a network such as \"10.0.0.0/8\"".to_owned()
        })?;
        Ok(Self(network))
    }
}

/// An IPv4 network inside IPv6 as what it is; `None` where its bits end before the IPv4 address begins.
fn canonical(network: IpNet) -> Option<IpNet> {
    let IpAddr::V4(address) = network.addr().to_canonical() else { return Some(network) };
    let within = network.max_prefix_len() - network.prefix_len();
    Some(Ipv4Net::new(address, 32_u8.checked_sub(within)?).ok()?.into())
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

setting!(Network, shown);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_takes_addresses_and_names() {
        for (text, shown, local) in [
            ("127.0.0.1:8080", "127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("0.0.0.0:80", "0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:8080", "[::]:8080", "http://[::1]:8080"),
            ("[2001:DB8::1]:0", "[2001:db8::1]:0", "http://[2001:db8::1]:0"),
            ("localhost:8080", "localhost:8080", "http://localhost:8080"),
        ] {
            let listen = Listen::read(text).unwrap();
            assert_eq!((listen.to_string().as_str(), listen.local_url(false).as_str()), (shown, local), "{text}");
            assert!(!listen.addresses().unwrap().is_empty());
        }
        for bad in [
            "",
            "8080",
            ":8080",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:65536",
            "::1:80",
            "a b:80",
            "h:+80",
            "http://h:80",
        ] {
            assert!(Listen::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_are_absolute_plain_and_hide_their_query() {
        for (text, shown) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("https://Vault.example.com/in/", "https://vault.example.com/in"),
            ("https://h.example/hook?key=hidden", "https://h.example/hook?…"),
        ] {
            assert_eq!(HttpUrl::read(text).unwrap().to_string(), shown);
        }
        for bad in
            ["", "vault.example.com", "ftp://h", "http:h", "http://", "https://me:pw@h", "https://h/#x", "https://h/\n"]
        {
            assert!(HttpUrl::read(bad).is_err(), "{bad}");
        }
        assert!(HttpUrl::read("http://localhost/").unwrap().is_loopback());
        assert!(!HttpUrl::read("http://10.0.0.1").unwrap().is_loopback());
    }

    #[test]
    fn networks_contain_what_shares_their_bits() {
        let contains =
            |network: &str, address: &str| Network::read(network).unwrap().contains(address.parse().unwrap());
        assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.0"));
        assert!(contains("10.0.0.0/8", "::ffff:10.0.0.1") && contains("0.0.0.0/0", "1.2.3.4"));
        assert!(contains("192.0.2.1", "192.0.2.1") && !contains("192.0.2.1", "192.0.2.2"));
        assert!(contains("2001:db8::/32", "2001:db8:1::1") && !contains("::/0", "1.2.3.4"));
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/", "host", "::/129", "10.0.0.0/-1"] {
            assert!(Network::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_ipv4_network_inside_ipv6_is_what_it_is() {
        for (text, shown) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.0.0.1", "10.0.0.1/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(Network::read(text).unwrap().to_string(), shown, "{text}");
        }
        assert!(Network::read("::ffff:10.0.0.0/104").unwrap().contains("10.1.2.3".parse().unwrap()));
        let refused = Network::read("::ffff:10.0.0.0/95").unwrap_err();
        assert!(refused.starts_with("expected 96 to 128 bits"), "{refused}");
    }
}
