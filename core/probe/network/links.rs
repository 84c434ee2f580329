//! Interfaces and routes.

use std::io;
use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric};
use netlink_sys::protocols::NETLINK_ROUTE;
use serde::{Deserialize, Serialize};

use super::netlink::query;

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Index in its namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// `bridge`, `veth`, `vxlan`, …; empty for a physical device.
    pub kind: String,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Link state; a bridge without members has no carrier.
    pub carrier: bool,
    /// Index of its bridge or bond.
    pub master: Option<u32>,
    /// Index of the other end of a veth, in the namespace of that end; of the lower interface of a VLAN or macvlan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<u32>,
    /// Addresses with prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// Route of packets to an address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkRoute {
    /// Outgoing interface.
    pub interface: String,
    /// MTU of the interface.
    pub mtu: u32,
    /// A smaller MTU of this destination: set on the route, or learned by path MTU discovery.
    pub route_mtu: Option<u32>,
    /// Next hop, or `None` on the same link.
    pub gateway: Option<IpAddr>,
    /// Source address.
    pub source: Option<IpAddr>,
}

impl NetworkRoute {
    /// Largest packet that this host sends to the destination.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.route_mtu.map_or(self.mtu, |m| m.min(self.mtu))
    }
}

pub(super) fn interfaces() -> io::Result<Vec<Interface>> {
    query(NETLINK_ROUTE, RouteNetlinkMessage::GetLink(LinkMessage::default()), true, |answer| match answer {
        RouteNetlinkMessage::NewLink(link) => Some(interface(link)),
        _ => None,
    })
}

fn interface(link: LinkMessage) -> Interface {
    let mut i = Interface { index: link.header.index, up: link.header.flags.contains(LinkFlags::Up), ..Interface::default() };
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => i.name = name,
            LinkAttribute::Mtu(mtu) => i.mtu = mtu,
            LinkAttribute::Carrier(carrier) => i.carrier = carrier == 1,
            LinkAttribute::Controller(master) => i.master = Some(master),
            LinkAttribute::Link(peer) => i.peer = Some(peer).filter(|peer| *peer != 0),
            LinkAttribute::LinkInfo(infos) => i.kind = infos.iter().find_map(kind).unwrap_or_default(),
            _ => {}
        }
    }
    i
}

fn kind(info: &LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(InfoKind::Other(other)) => Some(other.clone()),
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    }
}

pub(super) fn add_addresses(interfaces: &mut [Interface]) -> io::Result<()> {
    query(NETLINK_ROUTE, RouteNetlinkMessage::GetAddress(AddressMessage::default()), true, |answer| {
        let RouteNetlinkMessage::NewAddress(message) = answer else { return None::<()> };
        // the own address of a point-to-point link is `Local`; its `Address` is that of the peer
        let of = |local: bool| {
            message.attributes.iter().find_map(|a| match a {
                AddressAttribute::Local(ip) if local => Some(*ip),
                AddressAttribute::Address(ip) if !local => Some(*ip),
                _ => None,
            })
        };
        if let Some(ip) = of(true).or_else(|| of(false))
            && let Some(interface) = interfaces.iter_mut().find(|i| i.index == message.header.index)
        {
            interface.addresses.push((ip, message.header.prefix_len));
        }
        None
    })?;
    Ok(())
}

/// `ip route get`. A missing route is a result, not an error.
pub(super) fn route(to: IpAddr, interfaces: &[Interface]) -> Option<NetworkRoute> {
    route_from(to, None, interfaces)
}

/// `ip route get TO from FROM`: rules for source addresses apply (ip-rule(8)).
pub(super) fn route_from(to: IpAddr, from: Option<IpAddr>, interfaces: &[Interface]) -> Option<NetworkRoute> {
    let mut question = RouteMessage::default();
    let family_of = |ip| match ip {
        IpAddr::V4(ip) => (AddressFamily::Inet, 32, RouteAddress::Inet(ip)),
        IpAddr::V6(ip) => (AddressFamily::Inet6, 128, RouteAddress::Inet6(ip)),
    };
    let (family, length, address) = family_of(to);
    question.header.address_family = family;
    question.header.destination_prefix_length = length;
    question.attributes.push(RouteAttribute::Destination(address));
    if let Some((_, length, address)) = from.map(family_of) {
        question.header.source_prefix_length = length;
        question.attributes.push(RouteAttribute::Source(address));
    }
    let select = |answer| if let RouteNetlinkMessage::NewRoute(route) = answer { Some(route) } else { None };
    let answers = query(NETLINK_ROUTE, RouteNetlinkMessage::GetRoute(question), false, select).ok()?;
    let message = answers.into_iter().next()?;
    let mut route = NetworkRoute::default();
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => {
                let interface = interfaces.iter().find(|i| i.index == index)?;
                (route.interface, route.mtu) = (interface.name.clone(), interface.mtu);
            }
            RouteAttribute::Gateway(gateway) => route.gateway = ip(&gateway),
            RouteAttribute::PrefSource(source) => route.source = ip(&source),
            RouteAttribute::Metrics(metrics) => {
                route.route_mtu = metrics.iter().find_map(|m| if let RouteMetric::Mtu(mtu) = m { Some(*mtu) } else { None });
            }
            _ => {}
        }
    }
    (!route.interface.is_empty()).then_some(route)
}

pub(super) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}
