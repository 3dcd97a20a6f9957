use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

const ALLOWED: [&str; 4] = ["*.hailuoai.video", "*.hailuoai.com", "minimax-public-cdn.com", "bücher.example"];

fn policy(allowed_hosts: AllowedHosts, allow_http: bool, allow_private_addresses: bool) -> Policy {
    Policy::new(Config { allowed_hosts, allow_http, allow_private_addresses })
}

/// As shipped.
fn strict() -> Policy {
    policy(AllowedHosts::Only(ALLOWED.map(|host| host.parse().unwrap()).into()), false, false)
}

fn verdict(policy: &Policy, url: &str) -> &'static str {
    match policy.check_url(&MediaUrl::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))) {
        Ok(()) => "allowed",
        Err(refusal) => {
            assert!(!refusal.to_string().contains("secret"), "{refusal}");
            refusal.name()
        }
    }
}

const LEGITIMATE: &[&str] = &[
    "https://cdn.hailuoai.video/moss/prod/a.mp4?Expires=1&Signature=secret",
    "https://cdn.hailuoai.com/a.png",
    "https://minimax-public-cdn.com/a",
    "https://a.b.c.hailuoai.video/a",
    "HTTPS://CDN.HAILUOAI.VIDEO/a",
    "https://cdn.hailuoai.video:443/a",
    "https://cdn.hailuoai.video:8443/a",
    "https:\\\\cdn.hailuoai.video\\a",
    "https:cdn.hailuoai.video/a",
    "  https://cdn.hailuoai.video/a  ",
    "https://cdn.hail\tuoai.video/a",
    "https://ｃｄｎ.hailuoai.video/a",
    "https://cdn。hailuoai。video/a",
    "https://cdn.hailuoai%2Evideo/a",
    "https://xn--bcher-kva.example/a",
    "https://BÜCHER.example/a",
    "https://cdn.hailuoai.video/@169.254.169.254/",
    "https://cdn.hailuoai.video/?u=http://169.254.169.254/",
    "https://cdn.hailuoai.video\\@evil.com/a",
    "https://cdn.hailuoai.video#@evil.com/",
];

#[test]
fn legitimate_urls_pass() {
    for url in LEGITIMATE {
        assert_eq!(verdict(&strict(), url), "allowed", "{url}");
    }
}

const HOSTILE_URLS: &[(&str, &str)] = &[
    // Scheme.
    ("http://cdn.hailuoai.video/a", "scheme"),
    ("HTTP://minimax-public-cdn.com/a", "scheme"),
    ("http://cdn.hailuoai.video:443/a", "scheme"),
    ("http://169.254.169.254/latest/meta-data/?secret", "scheme"),
    // Credentials.
    ("https://user@cdn.hailuoai.video/a", "userinfo"),
    ("https://user:secret@cdn.hailuoai.video/a", "userinfo"),
    ("https://:secret@cdn.hailuoai.video/a", "userinfo"),
    ("https://cdn.hailuoai.video@evil.com/", "userinfo"),
    ("https://cdn.hailuoai.video:443@evil.com/", "userinfo"),
    ("https://cdn.hailuoai.video%2F@evil.com/", "userinfo"),
    ("https://evil.com:80@cdn.hailuoai.video/", "userinfo"),
    ("https://a@b@cdn.hailuoai.video/", "userinfo"),
    ("https://%40@cdn.hailuoai.video/", "userinfo"),
    // Trailing dots.
    ("https://cdn.hailuoai.video./a", "trailing_dot"),
    ("https://minimax-public-cdn.com./a", "trailing_dot"),
    ("https://evil.com./a", "trailing_dot"),
    ("https://localhost./a", "trailing_dot"),
    ("https://cdn.hailuoai.video。/a", "trailing_dot"),
    ("https://cdn.hailuoai.video%2E/a", "trailing_dot"),
    // Look-alikes.
    ("https://hailuoai.video/a", "host_not_allowed"),
    ("https://hailuoai.com/a", "host_not_allowed"),
    ("https://evilhailuoai.video/a", "host_not_allowed"),
    ("https://cdn-hailuoai.video/a", "host_not_allowed"),
    ("https://cdn.hailuoai.video.evil.com/a", "host_not_allowed"),
    ("https://cdn.hailuoai.video.evil.com:443/a", "host_not_allowed"),
    ("https://hailuoai.video.evil.com/a", "host_not_allowed"),
    ("https://a.minimax-public-cdn.com/a", "host_not_allowed"),
    ("https://minimax-public-cdn.com.evil.com/a", "host_not_allowed"),
    ("https://evil.com/cdn.hailuoai.video", "host_not_allowed"),
    ("https://evil.com#.hailuoai.video/", "host_not_allowed"),
    ("https://evil.com?.hailuoai.video/", "host_not_allowed"),
    ("https://evil.com\\.hailuoai.video/", "host_not_allowed"),
    ("https://evil.com\\@cdn.hailuoai.video/", "host_not_allowed"),
    ("https:/evil.com/a", "host_not_allowed"),
    ("https:\\evil.com/a", "host_not_allowed"),
    ("https:///evil.com/a", "host_not_allowed"),
    ("https://cdn.hаiluoai.video/a", "host_not_allowed"), // Cyrillic а
    ("https://cdn.hailuoaı.video/a", "host_not_allowed"), // dotless ı
    ("https://xn--80ak6aa92e.com/a", "host_not_allowed"),
    ("https://cdn.hailuoai.vide0/a", "host_not_allowed"),
    ("https://cdn_hailuoai.video/a", "host_not_allowed"),
    ("https://.hailuoai.video/a", "host_not_allowed"),
    ("https://..hailuoai.video/a", "host_not_allowed"),
    ("https://a..hailuoai.video/a", "host_not_allowed"),
    ("https://.a.hailuoai.video/a", "host_not_allowed"),
    ("https://localhost/a", "host_not_allowed"),
    ("https://localhost:6379/", "host_not_allowed"),
    ("https://metadata.google.internal/", "host_not_allowed"),
    ("https://metadata/", "host_not_allowed"),
    ("https://kubernetes.default.svc/", "host_not_allowed"),
    ("https://127.0.0.1.nip.io/", "host_not_allowed"),
    ("https://169.254.169.254.nip.io/", "host_not_allowed"),
    // Addresses that nobody allowed.
    ("https://127.0.0.1/a", "host_not_allowed"),
    ("https://2130706433/a", "host_not_allowed"),
    ("https://[::1]/a", "host_not_allowed"),
    ("https://8.8.8.8/a", "host_not_allowed"),
    ("https://[2606:4700::1111]/a", "host_not_allowed"),
];

#[test]
fn hostile_urls_are_refused_by_name() {
    for (url, expected) in HOSTILE_URLS {
        assert_eq!(verdict(&strict(), url), *expected, "{url}");
    }
}

/// IP literals in every spelling that the URL parser takes for one.
const SPELLED_ADDRESSES: &[&str] = &[
    "http://127.0.0.1/",
    "http://127.0.0.1./",
    "http://127.1/",
    "http://127.0.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7F.0x0.0x0.0x1/",
    "http://0x7f.1/",
    "http://017700000001/",
    "http://0177.0.0.01/",
    "http://0177.0x0.1/",
    "http://00000177.0.0.1/",
    "http://127。0。0。1/",
    "http://１２７.0.0.1/",
    "http://①②⑦.0.0.1/",
    "http://%31%32%37.0.0.1/",
    "http://127.0.0.1:80/",
    "http://0/",
    "http://0.0.0.0/",
    "http://0x0/",
    "http://00/",
    "http://10.0.0.1/",
    "http://167772161/",
    "http://192.168.0.1/",
    "http://0xc0a80001/",
    "http://172.16.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/latest/meta-data/",
    "http://0xa9fea9fe/",
    "http://0xa9.0xfe.0xa9.0xfe/",
    "http://0251.0376.0251.0376/",
    "http://169.254.43518/",
    "http://169.16689662/",
    "http://100.100.100.200/",
    "http://168.63.129.16/",
    "http://255.255.255.255/",
    "http://4294967295/",
    "http://[::]/",
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[0000::0001]/",
    "http://[::127.0.0.1]/",
    "http://[::7f00:1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::FFFF:169.254.169.254]/",
    "http://[::ffff:8.8.8.8]/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[64:ff9b::8.8.8.8]/",
    "http://[64:ff9b:1::10.0.0.1]/",
    "http://[2002:7f00:1::]/",
    "http://[2001:0:4136:e378:8000:63bf:80ff:fffe]/",
    "http://[fe80::1]/",
    "http://[fe80::a9fe:a9fe]/",
    "http://[fec0::1]/",
    "http://[fc00::1]/",
    "http://[fd00:ec2::254]/",
    "http://[FD00:EC2:0:0:0:0:0:254]/",
    "http://[ff02::1]/",
    "http://[2001:db8::1]/",
    "http://[100::1]/",
    "http://[4000::1]/",
];

#[test]
fn forbidden_addresses_are_found_in_every_spelling() {
    let any = policy(AllowedHosts::Any, true, false);
    for url in SPELLED_ADDRESSES {
        assert_eq!(verdict(&any, url), "address_forbidden", "{url}");
        assert_eq!(verdict(&strict(), &url.replace("http:", "https:")), "host_not_allowed", "{url}");
    }
    for url in ["http://8.8.8.8/", "http://134744072/", "http://[2606:4700::1111]/", "http://example.com/"] {
        assert_eq!(verdict(&any, url), "allowed", "{url}");
    }
}

#[test]
fn being_on_the_list_does_not_make_an_address_permitted() {
    let listed = |private| {
        let hosts = ["127.0.0.1", "::1", "169.254.169.254", "8.8.8.8"].map(|host| host.parse().unwrap());
        policy(AllowedHosts::Only(hosts.into()), true, private)
    };
    for (url, public_only, with_private) in [
        ("http://127.0.0.1:9/", "address_forbidden", "allowed"),
        ("http://[::1]:9/", "address_forbidden", "allowed"),
        ("http://169.254.169.254/", "address_forbidden", "address_forbidden"),
        ("http://127.0.0.2/", "host_not_allowed", "host_not_allowed"),
        ("http://[::ffff:127.0.0.1]/", "host_not_allowed", "host_not_allowed"),
        ("http://8.8.8.8/", "allowed", "allowed"),
    ] {
        assert_eq!(verdict(&listed(false), url), public_only, "{url}");
        assert_eq!(verdict(&listed(true), url), with_private, "{url}");
    }
}

#[test]
fn redirects_never_lead_from_https_to_http() {
    let parse = |url| MediaUrl::parse(url).unwrap();
    let (secure, plain) = (parse("https://example.com/a"), parse("http://example.com/b"));
    for allow_http in [false, true] {
        let policy = policy(AllowedHosts::Any, allow_http, false);
        assert_eq!(policy.check_redirect(&secure, &plain), Err(Refusal::Downgrade));
        assert_eq!(policy.check_redirect(&plain, &secure), Ok(()));
    }
    assert_eq!(policy(AllowedHosts::Any, true, false).check_redirect(&plain, &plain), Ok(()));
    assert_eq!(strict().check_redirect(&secure, &secure).unwrap_err().name(), "host_not_allowed");
}

#[test]
fn an_empty_list_allows_nobody() {
    let nobody = policy(AllowedHosts::Only(Vec::new()), true, true);
    assert_eq!(verdict(&nobody, "https://cdn.hailuoai.video/"), "host_not_allowed");
}

/// The IPv6 addresses that stand for `inner`.
fn embeddings(inner: Ipv4Addr) -> Vec<Ipv6Addr> {
    let bits = u128::from(u32::from(inner));
    let prefixes = ["::", "::ffff:0:0", "::ffff:0:0:0", "64:ff9b::", "64:ff9b:1::", "64:ff9b:1:ab::", "2001:0:1:2::"];
    let mut found: Vec<Ipv6Addr> =
        prefixes.iter().map(|prefix| Ipv6Addr::from(u128::from(prefix.parse::<Ipv6Addr>().unwrap()) | bits)).collect();
    let (sixtofour, teredo) = (0x2002_u128 << 112, 0x2001_u128 << 112);
    // NAT64's local-use prefix also takes the /48 layout, with the address around bits 64 to 71.
    let local_nat64 = 0x0064_ff9b_0001_u128 << 80 | (bits >> 16) << 64 | (bits & 0xffff) << 40;
    let isatap = 0x2606_4700_u128 << 96 | 0x5efe_u128 << 32 | bits;
    found.extend([sixtofour | bits << 80, teredo | (bits ^ 0xffff_ffff), local_nat64, isatap].map(Ipv6Addr::from));
    found
}

proptest! {
    #[test]
    fn an_embedded_ipv4_address_is_judged_no_milder_than_the_bare_one(inner in any::<u32>(), private: bool) {
        let policy = policy(AllowedHosts::Any, true, private);
        let inner = Ipv4Addr::from(inner);
        for outer in embeddings(inner) {
            // `::1` is IPv6's own loopback before it is 0.0.0.1.
            if outer != Ipv6Addr::LOCALHOST {
                prop_assert!(policy.check_address("h", outer.into()).is_err(), "{outer} holds {inner}");
                let url = MediaUrl::parse(&format!("http://[{outer}]/")).unwrap();
                prop_assert!(policy.check_url(&url).is_err(), "{url}");
            }
        }
    }

    #[test]
    fn link_local_stays_closed(low: u16, bits: u64) {
        let policy = policy(AllowedHosts::Any, true, true);
        let [third, fourth] = low.to_be_bytes();
        prop_assert!(policy.check_address("h", Ipv4Addr::new(169, 254, third, fourth).into()).is_err());
        let v6 = Ipv6Addr::from(0xfe80_u128 << 112 | u128::from(low & 0x3f) << 112 | u128::from(bits));
        prop_assert!(policy.check_address("h", v6.into()).is_err(), "{v6}");
    }

    #[test]
    fn every_spelling_of_an_ipv4_address_is_judged_alike(address: u32) {
        let policy = policy(AllowedHosts::Any, true, false);
        let expected = policy.check_address("h", Ipv4Addr::from(address).into()).is_ok();
        let [a, b, c, d] = address.to_be_bytes();
        for host in [
            format!("{address}"), format!("{address:#x}"), format!("0{address:o}"), format!("{a}.{b}.{c}.{d}."),
            format!("{a:#x}.0{b:o}.{}", u16::from_be_bytes([c, d])),
        ] {
            let url = MediaUrl::parse(&format!("http://{host}/")).unwrap();
            prop_assert_eq!(policy.check_url(&url).is_ok(), expected, "{}", host);
        }
    }
}
