//! Which hosts a result link may lead to. Links come from outside: one that leads into our own network would make
//! klingd fetch, and keep as a "video", what only this machine can reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// A host that must not be fetched from.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not on the public internet (download.allow_private would permit it)")]
pub(super) struct NotPublic(String);

/// Checks the host as the URL has it: literals in every spelling (the URL parser turns `2130706433` and `0x7f.1` into
/// addresses), and names that never leave a machine or a site. Other names are checked as they are resolved.
pub(super) fn check(url: &Url) -> Result<(), NotPublic> {
    let public = match url.host() {
        Some(Host::Ipv4(ip)) => is_public_v4(ip),
        Some(Host::Ipv6(ip)) => is_public_v6(ip),
        Some(Host::Domain(name)) => !is_local_name(name),
        None => false,
    };
    if public { Ok(()) } else { Err(NotPublic(url.host_str().unwrap_or("a link without host").to_owned())) }
}

/// A resolver that gives out public addresses only: what was checked is what is connected to, whatever the name means
/// a moment later.
#[derive(Debug)]
pub(super) struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(NotPublic(name.as_str().to_owned()).into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

fn is_local_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    ["localhost", "local", "internal", "home.arpa"]
        .iter()
        .any(|local| name.strip_suffix(local).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local() // the cloud's metadata address lives there
        || ip.is_broadcast()
        || ip.is_documentation()
        || ip.is_multicast()
        || a == 0
        || a >= 240 // reserved
        || (a == 100 && b & 0xc0 == 64) // carrier-grade NAT; another cloud's metadata
        || (a == 192 && b == 0 && c == 0) // protocol assignments
        || (a == 198 && b & 0xfe == 18) // benchmarks
        || ip == Ipv4Addr::new(168, 63, 129, 16); // a third cloud's metadata
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, ..] = ip.segments();
    let [.., w, x, y, z] = ip.octets();
    let embedded = Ipv4Addr::new(w, x, y, z);
    match (a, b) {
        // Mapped and translated addresses are what they embed.
        (0, 0) if [c, d, e, f] == [0, 0, 0, 0xffff] => is_public_v4(embedded),
        (0x64, 0xff9b) if [c, d, e, f] == [0, 0, 0, 0] => is_public_v4(embedded),
        // 6to4 embeds its address further in front; Teredo hides one.
        (0x2002, _) => is_public_v4(Ipv4Addr::from((u32::from(b) << 16) | u32::from(c))),
        (0x2001, 0 | 0xdb8) => false,
        // Everything else that is routed at all: 2000::/3. Unique local, link-local, multicast … are not in it.
        (0x2000..=0x3fff, _) => true,
        (_, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(url: &str) -> bool {
        check(&Url::parse(url).unwrap()).is_ok()
    }

    #[test]
    fn private_hosts_in_every_spelling() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "0",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.100.100.200",
            "192.0.0.1",
            "198.19.0.1",
            "168.63.129.16",
            "203.0.113.7",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "[::]",
            "[::1]",
            "[::ffff:10.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[64:ff9b::10.0.0.1]",
            "[64:ff9b:1::1]",
            "[2002:7f00:1::]",
            "[2001::1]",
            "[2001:db8::1]",
            "[fc00::1]",
            "[fd00:ec2::254]",
            "[fe80::1]",
            "[fec0::1]",
            "[ff02::1]",
            "localhost",
            "LOCALHOST.",
            "cdn.localhost",
            "printer.local",
            "metadata.google.internal",
            "nas.home.arpa",
        ] {
            assert!(!allowed(&format!("https://{host}/v.mp4")), "{host}");
        }
        for host in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "198.20.0.1",
            "192.0.1.1",
            "[2606:4700::1111]",
            "[::ffff:1.1.1.1]",
            "[64:ff9b::1.1.1.1]",
            "[2002:101:101::1]",
            "cdn.example.com",
            "notlocalhost",
            "internal.example.com",
        ] {
            assert!(allowed(&format!("https://{host}/v.mp4")), "{host}");
        }
        assert!(!allowed("data:text/plain,x"));
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_this_machine_resolves_to_nothing() {
        let Err(refused) = PublicOnly.resolve("localhost".parse().unwrap()).await else { unreachable!() };
        assert!(refused.downcast_ref::<NotPublic>().is_some(), "{refused}");
    }
}
