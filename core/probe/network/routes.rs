//! The routing tables of a network namespace, the counters of its interfaces, and its neighbour table.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use netlink_sys::protocols::NETLINK_ROUTE;
use serde::{Deserialize, Serialize};

use super::links::{self, Interface};
use super::netlink::query;
use super::{READ_TIMEOUT, inside};
use crate::probe::{Io, Memo, ProbeError, blocking};

/// Number of kept routes: a router with a full BGP table has more than a million, and no container engine.
const MAX_ROUTES: usize = 2048;

/// The table without a name in commands (`RT_TABLE_MAIN`, linux/rtnetlink.h).
pub const MAIN_TABLE: u32 = 254;

/// Own and broadcast addresses (`RT_TABLE_LOCAL`).
const LOCAL_TABLE: u32 = 255;

/// A unicast route over one interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteEntry {
    /// Destination network; its prefix length is 0 for a default route.
    pub to: (IpAddr, u8),
    /// Outgoing interface.
    pub interface: String,
    /// Next hop, or `None` on the same link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Routing table; [`MAIN_TABLE`] by default.
    pub table: u32,
    /// Metric: the smallest one is used.
    pub metric: u32,
}

/// Interfaces and routes of one namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Routing {
    /// All interfaces.
    pub interfaces: Vec<Interface>,
    /// IPv4 unicast routes of all tables except that of the own addresses.
    pub routes: Vec<RouteEntry>,
    /// There are more routes than are kept.
    pub is_truncated: bool,
}

impl Routing {
    /// Interface of this name.
    #[must_use]
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|i| i.name == name)
    }
}

/// Interfaces and routes of this process's namespace, read once per run.
#[derive(Debug, Default)]
pub struct RoutingCache(Memo<(), Result<std::sync::Arc<Routing>, ProbeError>>);

impl RoutingCache {
    /// The cached state, read at the first use.
    pub async fn get(&self) -> Result<std::sync::Arc<Routing>, ProbeError> {
        self.0.get((), || async { routing().await.map(std::sync::Arc::new) }).await
    }
}

/// Interfaces and routes of this process's namespace.
pub async fn routing() -> Result<Routing, ProbeError> {
    inside(None, "interfaces and routes", |_| {
        let mut interfaces = links::interfaces()?;
        links::add_addresses(&mut interfaces)?;
        let mut routing = Routing { interfaces, ..Routing::default() };
        add_routes(&mut routing)?;
        Ok(routing)
    })
    .await
}

/// The route to `to` of packets from each of these own addresses (`ip route get TO from ADDRESS`): the reverse path of packets that
/// arrive at the address. Sends nothing.
pub async fn reverse_paths(to: IpAddr, own: Vec<IpAddr>) -> Result<Vec<Option<links::NetworkRoute>>, ProbeError> {
    inside(None, "reverse paths", move |_| {
        let interfaces = links::interfaces()?;
        Ok(own.into_iter().map(|from| links::route_from(to, Some(from), &interfaces)).collect())
    })
    .await
}

fn add_routes(routing: &mut Routing) -> io::Result<()> {
    let mut request = RouteMessage::default();
    request.header.address_family = AddressFamily::Inet;
    let (interfaces, mut kept, mut more) = (&routing.interfaces, 0, false);
    let routes = query(NETLINK_ROUTE, RouteNetlinkMessage::GetRoute(request), true, |answer| {
        let RouteNetlinkMessage::NewRoute(message) = answer else { return None };
        let route = entry(&message, interfaces)?;
        kept += 1;
        more |= kept > MAX_ROUTES;
        (kept <= MAX_ROUTES).then_some(route)
    })?;
    (routing.routes, routing.is_truncated) = (routes, more);
    Ok(())
}

/// A route over several interfaces has no single one, and is left out.
fn entry(message: &RouteMessage, interfaces: &[Interface]) -> Option<RouteEntry> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let mut route = RouteEntry {
        to: (IpAddr::V4(Ipv4Addr::UNSPECIFIED), message.header.destination_prefix_length),
        interface: String::new(),
        gateway: None,
        table: table_of(&message.header),
        metric: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => route.to.0 = links::ip(to)?,
            RouteAttribute::Oif(index) => {
                route.interface.clone_from(&interfaces.iter().find(|i| i.index == *index)?.name);
            }
            RouteAttribute::Gateway(gateway) => route.gateway = links::ip(gateway),
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Priority(metric) => route.metric = *metric,
            _ => {}
        }
    }
    (!route.interface.is_empty() && route.table != LOCAL_TABLE).then_some(route)
}

fn table_of(header: &RouteHeader) -> u32 {
    u32::from(header.table)
}

/// Counters of a physical interface since its driver was loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NicCounters {
    /// Interface name.
    pub name: String,
    /// Received packets.
    pub received: u64,
    /// Sent packets.
    pub sent: u64,
    /// Received packets with errors: checksum, length, frame.
    pub receive_errors: u64,
    /// Packets that could not be sent: carrier, FIFO.
    pub send_errors: u64,
    /// Packets that the interface could not store because its receive ring was full (`rx_missed_errors`, `rx_fifo_errors`,
    /// `rx_over_errors`). `rx_dropped` also counts packets of unknown protocols, which are no fault.
    pub missed: u64,
    /// Packets that were dropped instead of sent.
    pub send_drops: u64,
}

/// Counters of all interfaces with a driver of their own: no bridges, veths, tunnels, bonds or VLANs.
pub async fn nic_counters() -> Result<Vec<NicCounters>, ProbeError> {
    inside(None, "counters of interfaces", |_| {
        query(NETLINK_ROUTE, RouteNetlinkMessage::GetLink(LinkMessage::default()), true, |answer| match answer {
            RouteNetlinkMessage::NewLink(link) => counters_of(link),
            _ => None,
        })
    })
    .await
}

fn counters_of(link: LinkMessage) -> Option<NicCounters> {
    let mut counters = NicCounters::default();
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => counters.name = name,
            LinkAttribute::LinkInfo(infos) if infos.iter().any(is_virtual) => return None,
            LinkAttribute::Stats64(s) => {
                counters.received = s.rx_packets;
                counters.sent = s.tx_packets;
                counters.receive_errors = s.rx_errors;
                counters.send_errors = s.tx_errors;
                // drivers count a full ring in one or several of them
                counters.missed = s.rx_missed_errors.max(s.rx_fifo_errors).max(s.rx_over_errors);
                counters.send_drops = s.tx_dropped;
            }
            _ => {}
        }
    }
    (!counters.name.is_empty() && counters.name != "lo").then_some(counters)
}

fn is_virtual(info: &LinkInfo) -> bool {
    matches!(info, LinkInfo::Kind(kind) if !matches!(kind, InfoKind::Other(other) if other.is_empty()))
}

/// Usage of the kernel's IPv4 neighbour table (arp(7)), which all network namespaces share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NeighbourTable {
    /// Entries, including permanent ones, which the limit does not count.
    pub entries: u64,
    /// `net.ipv4.neigh.default.gc_thresh3`: no entry is added beyond it.
    pub limit: u64,
    /// Entries that were not added because the table was full, since boot.
    pub overflows: u64,
}

/// `None` in a network namespace that does not show the limit.
pub async fn neighbour_table() -> Result<Option<NeighbourTable>, ProbeError> {
    const STATISTICS: &str = "/proc/net/stat/arp_cache";
    let read = |io: &Io| {
        let limit = io.read_lossy("/proc/sys/net/ipv4/neigh/default/gc_thresh3").ok()?.trim().parse().ok()?;
        let (entries, overflows) = statistics(&io.read_lossy(STATISTICS).ok()?)?;
        Some(NeighbourTable { entries, limit, overflows })
    };
    blocking::run("the neighbour table", STATISTICS, READ_TIMEOUT, read).await
}

/// Parses `/proc/net/stat/arp_cache`: a header, and one line per processor, in hexadecimal. The entries are those of the table in every
/// line; overflows (`table_fulls`, Linux 4.19 and later) are counted per processor.
pub(super) fn statistics(text: &str) -> Option<(u64, u64)> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next()?.split_ascii_whitespace().collect();
    let column = |name: &str| header.iter().position(|h| *h == name);
    let (entries, overflows) = (column("entries")?, column("table_fulls"));
    let (mut found, mut sum) = (None, 0_u64);
    for line in lines {
        let values: Vec<&str> = line.split_ascii_whitespace().collect();
        let value = |at: usize| u64::from_str_radix(values.get(at)?, 16).ok();
        found = found.or_else(|| value(entries));
        sum = sum.saturating_add(overflows.and_then(value).unwrap_or(0));
    }
    Some((found?, sum))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn neighbour_statistics_are_hexadecimal() {
        let text = "entries  allocs   destroys hash_grows lookups  hits     res_failed rcv_probes_mcast rcv_probes_ucast periodic_gc_runs forced_gc_runs unresolved_discards table_fulls\n\
            000003f0  00000001 00000001 00000003 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000010\n\
            000003f0  00000001 00000001 00000003 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000002\n";
        assert_eq!(statistics(text), Some((1008, 18)));
        assert_eq!(statistics("entries  allocs\n0000000a  00000001\n"), Some((10, 0)));
        assert_eq!((statistics(""), statistics("entries\n"), statistics("entries\nx\n")), (None, None, None));
    }

    #[tokio::test]
    async fn own_namespace_has_a_loopback_interface_and_no_local_table() {
        let routing = routing().await.unwrap();
        assert!(routing.interfaces.iter().any(|i| i.name == "lo"), "{routing:?}");
        assert!(routing.routes.iter().all(|r| r.table != LOCAL_TABLE && !r.interface.is_empty()), "{routing:?}");
        assert!(nic_counters().await.unwrap().iter().all(|c| c.name != "lo"));
    }
}
