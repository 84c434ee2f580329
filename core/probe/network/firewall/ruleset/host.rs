//! Addresses and routes of a host, for the evaluation of its packet filter.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The main routing table (`RT_TABLE_MAIN`).
const MAIN_TABLE: u32 = 254;

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostInterface {
    /// Name.
    pub name: String,
    /// Addresses with prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// It is a bridge: its ports exchange packets without routing.
    pub is_bridge: bool,
}

/// A unicast route over one interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRoute {
    /// Destination network; its prefix length is 0 for a default route.
    pub to: (IpAddr, u8),
    /// Outgoing interface.
    pub interface: String,
    /// Routing table; 254 is the main one.
    pub table: u32,
    /// Metric: the smallest one is used.
    pub metric: u32,
}

/// Result of a route lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routed<'a> {
    /// To this host.
    Local,
    /// Over one of these interfaces: several if tables of policy routing differ.
    Via(Vec<&'a str>),
    /// There is no route.
    None,
}

/// The host: addresses, routes and settings of its network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostView {
    /// All interfaces.
    pub interfaces: Vec<HostInterface>,
    /// Unicast routes of all tables but the local one.
    pub routes: Vec<HostRoute>,
    /// IPv4 packets are forwarded.
    pub forwards: bool,
    /// IPv6 packets are forwarded.
    pub forwards_ipv6: bool,
    /// Packets between ports of a bridge traverse iptables (`net.bridge.bridge-nf-call-iptables`).
    pub filters_bridges: bool,
    /// Interfaces that accept packets to loopback addresses (`net.ipv4.conf.*.route_localnet`).
    pub routes_loopback: Vec<String>,
}

/// Kind of an address, with its number in the kernel (`RTN_*`, linux/rtnetlink.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressType {
    /// Another host.
    Unicast = 1,
    /// This host.
    Local = 2,
    /// All hosts of a link.
    Broadcast = 3,
    /// A group of hosts.
    Multicast = 5,
}

impl HostView {
    /// Interface of this name.
    #[must_use]
    pub fn interface(&self, name: &str) -> Option<&HostInterface> {
        self.interfaces.iter().find(|i| i.name == name)
    }

    /// Kind of an address, as the local routing table has it.
    #[must_use]
    pub fn address_type(&self, ip: IpAddr) -> AddressType {
        let own = |(address, length): &(IpAddr, u8)| match (address, ip) {
            (IpAddr::V4(own), IpAddr::V4(ip)) if *length < 31 => {
                let host_bits = u32::MAX.checked_shr(u32::from(*length)).unwrap_or(0);
                *own != ip && own.to_bits() | host_bits == ip.to_bits()
            }
            _ => false,
        };
        let mut addresses = self.interfaces.iter().flat_map(|i| &i.addresses);
        match ip {
            IpAddr::V4(v4) if v4.is_broadcast() || v4.octets()[0] == 0 => AddressType::Broadcast,
            _ if ip.is_multicast() => AddressType::Multicast,
            _ if ip.is_loopback() => AddressType::Local,
            _ if addresses.clone().any(|(address, _)| *address == ip) => AddressType::Local,
            _ if addresses.any(own) => AddressType::Broadcast,
            _ => AddressType::Unicast,
        }
    }

    /// The route to an address.
    #[must_use]
    pub fn route(&self, to: IpAddr) -> Routed<'_> {
        match self.address_type(to) {
            AddressType::Local | AddressType::Broadcast => return Routed::Local,
            AddressType::Multicast | AddressType::Unicast => {}
        }
        let mut tables: Vec<u32> = self.routes.iter().map(|r| r.table).collect();
        tables.sort_unstable();
        tables.dedup();
        let mut found: Vec<&str> = Vec::new();
        // which rule of policy routing applies is not known: the main table comes first
        tables.sort_unstable_by_key(|table| *table != MAIN_TABLE);
        for table in tables {
            let fitting = self.routes.iter().filter(|r| r.table == table && contains(r.to, to));
            let best = fitting.min_by_key(|r| (std::cmp::Reverse(r.to.1), r.metric));
            if let Some(route) = best.filter(|r| !found.contains(&r.interface.as_str())) {
                found.push(&route.interface);
            }
        }
        if found.is_empty() { Routed::None } else { Routed::Via(found) }
    }

    /// The source address of packets that this host sends over an interface to `to`: of the same network, else its first one, else
    /// the first one of any interface (`inet_select_addr`, `net/ipv4/devinet.c`).
    #[must_use]
    pub fn source_for(&self, interface: &str, to: IpAddr) -> Option<IpAddr> {
        let global = |i: &'_ HostInterface| {
            let own = i.addresses.iter().filter(|(a, _)| a.is_ipv4() == to.is_ipv4() && !a.is_loopback()).copied();
            own.collect::<Vec<_>>()
        };
        let own = self.interface(interface).map(global).unwrap_or_default();
        let near = own.iter().find(|network| contains(**network, to)).or(own.first());
        near.copied().or_else(|| self.interfaces.iter().flat_map(global).next()).map(|(address, _)| address)
    }

    /// Whether both addresses belong to the network of this bridge, so that packets between them are not routed.
    #[must_use]
    pub fn is_bridged(&self, bridge: &str, one: IpAddr, other: IpAddr) -> bool {
        let Some(interface) = self.interface(bridge).filter(|i| i.is_bridge) else { return false };
        self.address_type(other) == AddressType::Unicast
            && interface.addresses.iter().any(|network| contains(*network, one) && contains(*network, other))
    }
}

/// Whether a network contains an address.
pub(super) fn contains((network, length): (IpAddr, u8), ip: IpAddr) -> bool {
    match (network, ip) {
        (IpAddr::V4(network), IpAddr::V4(ip)) => {
            (network.to_bits() ^ ip.to_bits()).checked_shr(32_u32.saturating_sub(length.into())).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(ip)) => {
            (network.to_bits() ^ ip.to_bits()).checked_shr(128_u32.saturating_sub(length.into())).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn longest_prefix_and_smallest_metric_win() {
        let route = |to: &str, length, interface: &str, table, metric| HostRoute {
            to: (ip(to), length),
            interface: interface.to_owned(),
            table,
            metric,
        };
        let mut host = HostView {
            interfaces: vec![HostInterface { name: "eth0".into(), addresses: vec![(ip("10.0.0.2"), 24)], is_bridge: false }],
            routes: vec![
                route("0.0.0.0", 0, "eth1", 254, 200),
                route("0.0.0.0", 0, "eth0", 254, 100),
                route("10.8.0.0", 16, "wg0", 254, 0),
            ],
            ..HostView::default()
        };
        assert_eq!(host.route(ip("192.0.2.1")), Routed::Via(vec!["eth0"]));
        assert_eq!(host.route(ip("10.8.3.4")), Routed::Via(vec!["wg0"]));
        assert_eq!(host.route(ip("10.0.0.2")), Routed::Local);
        assert_eq!(host.address_type(ip("10.0.0.255")), AddressType::Broadcast);
        assert_eq!(host.route(ip("2001:db8::1")), Routed::None);
        host.routes.push(route("0.0.0.0", 0, "tailscale0", 52, 0));
        assert_eq!(host.route(ip("192.0.2.1")), Routed::Via(vec!["eth0", "tailscale0"]));
    }
}
