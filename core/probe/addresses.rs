//! The addresses of this host itself, and whether it passes IPv6 on.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

/// The IPv4 addresses that the network namespace of `pid` has itself, from the kernel's own routes; without IPv6, for which nothing
/// asks yet.
#[must_use]
pub fn addresses_of(pid: u32) -> Vec<IpAddr> {
    fs::read_to_string(format!("/proc/{pid}/net/fib_trie")).map(|t| local(&t)).unwrap_or_default()
}

/// Whether this host passes packets of IPv6 on (`net.ipv6.conf.all.forwarding`); none without IPv6.
#[must_use]
pub fn ipv6_forwarding() -> Option<bool> {
    fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding").ok().map(|t| t.trim() == "1")
}

/// `|-- 10.0.0.1` with `/32 host LOCAL` on the next line.
fn local(trie: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut last: Option<Ipv4Addr> = None;
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = last.take()
        {
            found.push(IpAddr::V4(address));
        }
    }
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_host_s_own_addresses_count() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 172.17.0.0\n        /16 link UNICAST\n     |-- 172.17.0.1\n        /32 host LOCAL\n     |-- 172.17.255.255\n        /32 link BROADCAST\n";
        assert_eq!(local(trie), ["172.17.0.1".parse::<IpAddr>().unwrap_or(Ipv4Addr::UNSPECIFIED.into())]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text in "(\\PC|\n| )*") {
            let _ = local(&text);
        }
    }
}
