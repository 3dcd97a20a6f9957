use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is not a public one.
///
/// After the IANA special-purpose address registries (RFC 6890 and its successors), with what cloud providers put
/// elsewhere. Where a range is globally reachable by the registry but serves no web site (relay anycast, protocol
/// assignments), it is refused all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressClass {
    /// `0.0.0.0/8`, `::`: on many systems a way to say this host.
    Unspecified,
    /// `127.0.0.0/8`, `::1`.
    Loopback,
    /// RFC 1918.
    Private,
    /// `100.64.0.0/10`, RFC 6598: between a carrier and its customers, or an overlay network.
    CarrierNat,
    /// `fc00::/7`, RFC 4193.
    UniqueLocal,
    /// `169.254.0.0/16`, `fe80::/10`: among them most metadata services.
    LinkLocal,
    /// A cloud provider's metadata or host service outside the link-local ranges.
    Metadata,
    /// `fec0::/10`, deprecated by RFC 3879.
    SiteLocal,
    /// `224.0.0.0/4`, `ff00::/8`.
    Multicast,
    /// RFC 5737, RFC 3849, RFC 9637.
    Documentation,
    /// `198.18.0.0/15`, `2001:2::/48`.
    Benchmarking,
    /// An IPv4 address inside an IPv6 one: mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP. Whether and
    /// where it leads is for some translator to decide, so none is taken, whatever the inner address.
    EmbeddedIpv4,
    /// Anything else that is not global unicast space.
    Reserved,
}

impl AddressClass {
    /// Whether an operator can open this class with `allow_private_addresses`.
    ///
    /// Link-local and metadata addresses are not among them: what answers there hands out credentials.
    pub const fn is_private(self) -> bool {
        matches!(self, Self::Loopback | Self::Private | Self::CarrierNat | Self::UniqueLocal)
    }
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::CarrierNat => "carrier-grade NAT",
            Self::UniqueLocal => "unique local",
            Self::LinkLocal => "link-local",
            Self::Metadata => "cloud metadata",
            Self::SiteLocal => "site-local",
            Self::Multicast => "multicast",
            Self::Documentation => "documentation",
            Self::Benchmarking => "benchmarking",
            Self::EmbeddedIpv4 => "IPv4-in-IPv6",
            Self::Reserved => "reserved",
        })
    }
}

/// `None` for a public address.
pub(super) fn classify(address: IpAddr) -> Option<AddressClass> {
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => classify_v6(address),
    }
}

fn classify_v4(address: Ipv4Addr) -> Option<AddressClass> {
    use AddressClass::*;
    Some(match address.octets() {
        // Alibaba Cloud's metadata service, inside the carrier range.
        [100, 100, 100, 200] => Metadata,
        // Azure's host service ("WireServer"), inside public space.
        [168, 63, 129, 16] => Metadata,
        [0, ..] => Unspecified,
        [127, ..] => Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Private,
        [100, 64..=127, ..] => CarrierNat,
        [169, 254, ..] => LinkLocal,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Documentation,
        [198, 18..=19, ..] => Benchmarking,
        // Protocol assignments (RFC 6890); the retired 6to4 relay anycast (RFC 7526).
        [192, 0, 0, _] | [192, 88, 99, _] => Reserved,
        [224..=239, ..] => Multicast,
        [240..=255, ..] => Reserved,
        _ => return None,
    })
}

fn classify_v6(address: Ipv6Addr) -> Option<AddressClass> {
    use AddressClass::*;
    Some(match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Loopback,
        // Compatible, mapped and translated (RFC 4291, RFC 2765).
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => EmbeddedIpv4,
        // NAT64: the well-known and the local-use prefix (RFC 6052, RFC 8215).
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] => EmbeddedIpv4,
        // Teredo and 6to4.
        [0x2001, 0, ..] | [0x2002, ..] => EmbeddedIpv4,
        [0xff00..=0xffff, ..] => Multicast,
        [0xfe80..=0xfebf, ..] => LinkLocal,
        [0xfec0..=0xfeff, ..] => SiteLocal,
        // AWS (metadata, pod identity, DNS, time), Google, Oracle, Scaleway, Linode, Alibaba: all inside fc00::/7.
        [0xfd00, 0xec2, ..]
        | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]
        | [0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe]
        | [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42]
        | [0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1]
        | [0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200] => Metadata,
        // ISATAP's interface identifier under any prefix (RFC 5214).
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => EmbeddedIpv4,
        [0xfc00..=0xfdff, ..] => UniqueLocal,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Documentation,
        [0x2001, 2, 0, ..] => Benchmarking,
        // The rest of the protocol assignments, 2001::/23; 6bone, given back by RFC 3701.
        [0x2001, 0..=0x1ff, ..] | [0x3ffe, ..] => Reserved,
        [0x2000..=0x3fff, ..] => return None,
        _ => Reserved,
    })
}

#[cfg(test)]
mod tests;
