//! The way of the packets of a container to its name servers, layer by layer: interface, address, route, gateway, forwarding, packet
//! filter, translation, listener. Read only if no external name resolves in it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use opsctl_core::model::KeyKind;
use opsctl_core::probe::docker::{Container, Network};
use opsctl_core::probe::kernel::setup::Tree;
use opsctl_core::probe::names::{Answers, NameServer, QueryLimits, query_all, questions};
use opsctl_core::probe::network::firewall::{Effect, Firewall};
use opsctl_core::probe::network::{self, Interface, NetworkRoute, View, listeners};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::container::ThisHost;
use super::status::{ServerStatus, status_of};
use crate::shared::packet_filter::{self, Request};
use crate::shared::servers::READ_TIMEOUT;

/// `net.ipv4.ip_forward`.
const FORWARD: &str = "net.ipv4.ip_forward";

/// The way to the name servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Egress {
    /// Interfaces of the container besides lo.
    interfaces: Vec<Interface>,
    /// Its name servers that are queried from its network, with the route to each.
    servers: Vec<(NameServer, Option<NetworkRoute>)>,
    /// Its bridge networks with egress.
    bridges: Vec<Bridge>,
    /// The first server is this host.
    to_host: bool,
    /// A socket of this host receives packets for that address on UDP port 53; `None` if it is not this host, or unknown.
    has_listener: Option<bool>,
    /// Settings of the kernel that are 0: `net.ipv4.ip_forward`.
    forwarding_off: Vec<String>,
    /// The rule or policy that drops its packets or the replies.
    filter: Option<String>,
    /// No rule translates its address; `None` if unknown.
    is_masqueraded: Option<bool>,
    /// Its servers, queried from this host.
    from_host: Vec<Answers>,
    /// The servers of this host that respond, queried from the container.
    reference: Vec<Answers>,
}

/// A bridge network of the container, on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Bridge {
    network: String,
    interface: String,
    gateways: Vec<IpAddr>,
    subnets: Vec<String>,
    masquerade: bool,
    /// State and addresses on this host; `None` if it does not exist.
    state: Option<(bool, Vec<IpAddr>)>,
}

/// The first layer that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    /// For the message: `it has no default route`.
    pub(super) words: String,
    /// The next command.
    pub(super) hint: String,
    /// Object of the layer besides the container.
    pub(super) key: Option<(KeyKind, &'static str)>,
}

/// Evidence about a container of which no name server responds as it should.
pub(super) struct Subject<'a> {
    pub(super) pid: i32,
    pub(super) container: &'a Container,
    /// Its servers that are queried from its own network.
    pub(super) servers: &'a [NameServer],
    pub(super) host: Option<&'a ThisHost>,
    pub(super) limits: QueryLimits,
}

/// Whether it is in a bridge network with a gateway on this host: then it has egress by default.
pub(super) async fn expects_egress(cx: &ProbeCx, container: &Container) -> bool {
    networks(cx, container).await.is_ok_and(|all| !all.is_empty())
}

/// Its bridge networks with egress.
async fn networks(cx: &ProbeCx, container: &Container) -> Result<Vec<Network>, ProbeError> {
    let engine = cx.docker()?.of(&container.id);
    if !engine.is_local() {
        return Ok(Vec::new());
    }
    let all = engine.own_networks().await?;
    let own = |n: &&Network| container.networks.contains_key(&n.name) && n.is_routed() && !n.unaddressed;
    Ok(all.iter().filter(own).cloned().collect())
}

/// Reads the layers, and queries other servers to separate the server from the way to it.
pub(super) async fn read(cx: &ProbeCx, of: &Subject<'_>) -> Result<Egress, ProbeError> {
    let mut egress = Egress::default();
    let addresses: Vec<IpAddr> = of.servers.iter().map(|s| s.address).collect();
    let (own, host) = tokio::join!(network::view(Some(of.pid), addresses.clone()), network::view(None, addresses));
    let (own, host) = (own?, host?);
    egress.servers = of.servers.iter().cloned().zip(own.ways).collect();
    egress.interfaces = own.interfaces.into_iter().filter(|i| i.name != "lo").collect();
    egress.bridges = networks(cx, of.container).await?.iter().filter_map(|n| bridge(n, &host)).collect();
    let first = of.servers.first().map(|s| s.address);
    egress.to_host = first.is_some_and(|ip| host.has(ip));
    if egress.to_host {
        egress.has_listener = listens(first).await;
    }
    egress.forwarding_off = forwarding_off(&egress.bridges).await;
    if let (Some(first), Some(through)) = (first, egress.through()) {
        let source = of.container.networks.get(&through.network).and_then(|ip| ip.parse().ok());
        let output = host.ways.first().and_then(Option::as_ref).map_or("", |r| r.interface.as_str()).to_owned();
        let request = Request {
            bridge: Some(&through.interface),
            source,
            destination: first,
            to_host: egress.to_host,
            output: &output,
            protocol: "udp",
        };
        let filter = packet_filter::discarded(cx, &request).await;
        let translated = match cx.firewall().await {
            Ok(firewall) if through.masquerade && !egress.to_host => masqueraded(&firewall, &through.subnets),
            _ => None,
        };
        (egress.filter, egress.is_masqueraded) = (filter, translated);
    }
    let good = |h: &ThisHost| -> Vec<NameServer> {
        h.servers.iter().filter(|s| status_of(s) == ServerStatus::Good).map(|s| s.server.clone()).collect()
    };
    // a loopback address is another machine inside the container
    let mut reference: Vec<NameServer> = of.host.map(good).unwrap_or_default();
    reference.retain(|s| !s.is_loopback() && !of.servers.contains(s));
    let unknown: Vec<NameServer> = of
        .servers
        .iter()
        .filter(|s| !s.is_loopback() && !of.host.is_some_and(|h| h.servers.iter().any(|a| a.server == **s)))
        .cloned()
        .collect();
    let once = QueryLimits { tries: 1, ..of.limits };
    let questions = questions(&[]);
    let (reference, from_host) = tokio::join!(
        Box::pin(query_all(Some(of.pid), &reference, &questions, false, once)),
        Box::pin(query_all(None, &unknown, &questions, false, once)),
    );
    (egress.reference, egress.from_host) = (reference?, from_host?);
    Ok(egress)
}

fn bridge(network: &Network, host: &View) -> Option<Bridge> {
    let interface = network.interface.clone()?;
    let state = host.interface(&interface).map(|i| (i.up, i.addresses.iter().map(|(ip, _)| *ip).collect()));
    Some(Bridge {
        network: network.name.clone(),
        interface,
        gateways: network.gateways.iter().filter_map(|g| g.split('/').next()?.parse().ok()).collect(),
        subnets: network.subnets.clone(),
        masquerade: network.masquerade,
        state,
    })
}

/// Whether a socket of this host receives packets for `address` on UDP port 53.
async fn listens(address: Option<IpAddr>) -> Option<bool> {
    let address = address?;
    let read = |io: &Io| listeners::udp_addresses_of(io, i64::from(std::process::id()), 53);
    let open = blocking::run("listening sockets", "/proc/self/net/udp", READ_TIMEOUT, read).await.ok()??;
    Some(open.iter().any(|o| *o == address || (o.is_unspecified() && (o.is_ipv6() || address.is_ipv4()))))
}

/// The settings that keep this host from forwarding packets of these bridges.
async fn forwarding_off(bridges: &[Bridge]) -> Vec<String> {
    // a dot in the name of an interface is not a separator of the setting
    let own = bridges.iter().filter(|b| !b.interface.contains('.'));
    let keys: Vec<String> =
        std::iter::once(FORWARD.to_owned()).chain(own.map(|b| format!("net.ipv4.conf.{}.forwarding", b.interface))).collect();
    let read = move |io: &Io| -> BTreeMap<String, String> {
        Tree::default().sysctls(io, &keys.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let values = blocking::run("forwarding", "/proc/sys/net", READ_TIMEOUT, read).await.unwrap_or_default();
    let off: Vec<String> = values.into_iter().filter(|(_, value)| value == "0").map(|(key, _)| key).collect();
    if off.iter().any(|key| key == FORWARD) { vec![FORWARD.to_owned()] } else { off }
}

/// Whether a rule translates the source of packets of these subnets; `None` if a rule with unknown conditions may do it.
fn masqueraded(firewall: &Firewall, subnets: &[String]) -> Option<bool> {
    if firewall.programs.is_empty() || !firewall.gaps.is_empty() {
        return None;
    }
    let translates = |text: &str| ["SNAT", "snat", "MASQUERADE", "masquerade"].iter().any(|word| text.contains(word));
    let mut rules = firewall.rules.iter().filter(|r| r.effect == Effect::Masquerade || translates(&r.text)).peekable();
    if rules.peek().is_none() {
        return Some(false);
    }
    let own = |source: &Option<String>| source.as_ref().is_none_or(|s| subnets.iter().any(|subnet| subnet == s));
    if rules.any(|r| own(&r.source) && !r.conditional) { Some(true) } else { None }
}

impl Egress {
    /// The bridge by which the packets to its first server leave.
    fn through(&self) -> Option<&Bridge> {
        let gateway = self.servers.first().and_then(|(_, route)| route.as_ref()).and_then(|r| r.gateway);
        let by_gateway = self.bridges.iter().find(|b| gateway.is_some_and(|g| b.gateways.contains(&g)));
        by_gateway.or_else(|| self.bridges.first().filter(|_| self.bridges.len() == 1))
    }

    /// Another name server responds: its packets leave the host, and replies arrive.
    pub(super) fn works(&self) -> Option<&NameServer> {
        self.reference.iter().find(|s| s.answers()).map(|s| &s.server)
    }

    /// The layers were read.
    pub(super) fn is_known(&self) -> bool {
        !self.servers.is_empty()
    }

    /// The layer between the container and its name servers that fails; `None` if none is found.
    pub(super) fn layer(&self, name: &str) -> Option<Layer> {
        if !self.is_known() || self.works().is_some() {
            return None;
        }
        self.of_container(name).or_else(|| self.gateway()).or_else(|| self.of_host())
    }

    /// Interfaces, addresses and routes in the container.
    fn of_container(&self, name: &str) -> Option<Layer> {
        let again = format!("docker restart {name}: the engine sets interfaces, addresses and routes at container start");
        let layer = |words: String| Some(Layer { words, hint: again.clone(), key: None });
        if self.bridges.is_empty() {
            return None;
        }
        if self.interfaces.is_empty() {
            return layer("it has no network interface besides lo".to_owned());
        }
        if let Some(down) = self.interfaces.first().filter(|_| self.interfaces.iter().all(|i| !i.up)) {
            return layer(format!("its interface {} is down", down.name));
        }
        let has_address = |i: &&Interface| i.addresses.iter().any(|(ip, _)| !is_link_local(*ip));
        if !self.interfaces.iter().filter(|i| i.up).any(|i| has_address(&i)) {
            return layer(format!("its interface {} has no address", self.interfaces[0].name));
        }
        if self.servers.iter().any(|(_, route)| route.is_some()) {
            return None;
        }
        let (server, _) = self.servers.first()?;
        let only_v6 = self.servers.iter().all(|(s, _)| s.address.is_ipv6());
        if only_v6 {
            let hint =
                "enable IPv6 for its network, or list an IPv4 name server: `dns` in /etc/docker/daemon.json, docker run --dns";
            return Some(Layer {
                words: format!("it has no IPv6 route, and lists IPv6 name servers only: {server}"),
                hint: hint.into(),
                key: None,
            });
        }
        layer(format!("it has no route to {server}: its default route is missing"))
    }

    /// The gateway of its route, an address of the bridge on this host.
    fn gateway(&self) -> Option<Layer> {
        let bridge = self.through()?;
        let name = &bridge.interface;
        let restart = "restart the engine, which sets it at its start; a restart of the container does not help";
        let layer = |words: String, hint: String| Some(Layer { words, hint, key: None });
        let Some((up, addresses)) = &bridge.state else {
            return layer(format!("the bridge {name} of its network {} does not exist", bridge.network), restart.to_owned());
        };
        if !up {
            return layer(
                format!("the bridge {name} of its network {} is down", bridge.network),
                format!("ip link set {name} up"),
            );
        }
        let gateway = self.servers.iter().find_map(|(_, route)| route.as_ref()?.gateway)?;
        let lost = bridge.gateways.contains(&gateway) && !addresses.contains(&gateway);
        lost.then_some(())?;
        layer(
            format!("its gateway {gateway} is no address of the bridge {name} (network {})", bridge.network),
            format!("ip addr add {gateway}/PREFIX dev {name}, or {restart}"),
        )
    }

    /// This host: listener, forwarding, rules.
    fn of_host(&self) -> Option<Layer> {
        let (server, route) = self.servers.first()?;
        let of_host =
            |words: String, hint: &str| Some(Layer { words, hint: hint.to_owned(), key: Some((KeyKind::Host, "host")) });
        if let Some(rule) = &self.filter {
            return of_host(
                rule.clone(),
                "correct the rule: iptables -S; nft list ruleset. A restart of the container does not help",
            );
        }
        if self.to_host {
            let silent = self.has_listener == Some(false);
            return silent.then(|| Layer {
                words: format!("no process of this host listens on UDP port 53 at {server}"),
                hint: format!(
                    "start the name server at {server} (ss -lunp 'sport = :53'), or set other servers: docker run --dns"
                ),
                key: None,
            });
        }
        route.as_ref()?;
        if let Some(key) = self.forwarding_off.first() {
            return of_host(
                format!("{key} is 0, so this host forwards none of its packets"),
                "sysctl -w net.ipv4.ip_forward=1; a restart of the container does not help",
            );
        }
        if self.is_masqueraded == Some(false) {
            return of_host(
                "no rule masquerades its address on this host".to_owned(),
                "restart the engine, which adds its rules at its start; a restart of the container does not help",
            );
        }
        None
    }

    /// How its servers respond to this host, for the evidence.
    pub(super) fn queried_from_host(&self) -> &[Answers] {
        &self.from_host
    }

    /// As [`Self::queried_from_host`], for the servers of this host that the container was made to query.
    pub(super) fn reference(&self) -> &[Answers] {
        &self.reference
    }

    /// The route to its first server: `eth0 through 172.18.0.1`.
    pub(super) fn route(&self) -> String {
        let Some((server, Some(route))) = self.servers.first() else { return String::new() };
        let through = route.gateway.map(|g| format!(" through {g}")).unwrap_or_default();
        format!("{server} by {}{through}", route.interface)
    }

    /// The bridge on which its packets are visible.
    pub(super) fn bridge(&self) -> Option<&str> {
        self.through().map(|b| b.interface.as_str())
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use opsctl_core::probe::network::firewall::recorded;

    use super::*;

    fn masquerade(rules: &str) -> Option<bool> {
        let mut firewall = recorded(&format!("*nat\n:POSTROUTING ACCEPT [0:0]\n{rules}\nCOMMIT\n"));
        firewall.programs = vec![(opsctl_core::probe::network::firewall::Backend::Nft, "iptables".to_owned())];
        masqueraded(&firewall, &["172.18.0.0/16".to_owned()])
    }

    #[test]
    fn missing_masquerade_rule_is_certain_without_any() {
        assert_eq!(masquerade(""), Some(false));
        assert_eq!(masquerade("-A POSTROUTING -s 172.18.0.0/16 ! -o br-app -j MASQUERADE"), Some(true));
        assert_eq!(masquerade("-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE"), None);
        assert_eq!(masquerade("-A POSTROUTING -o eth0 -j SNAT --to-source 192.0.2.1"), Some(true));
    }
}
