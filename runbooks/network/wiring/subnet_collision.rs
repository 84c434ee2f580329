//! Subnets of networks that hide addresses outside of the engine.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, ContainerRef, Finding, Impact, Inventory, Judged, Judgement, KeyKind, Object, Role, Severity,
    quantity,
};
use opsctl_core::probe::names;
use opsctl_core::probe::network::Interface;
use opsctl_core::probe::network::routes::{MAIN_TABLE, RouteEntry, Routing};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::{LocalNetwork, Subnet, addresses, local_networks, routing, subnets};
use crate::network::triage::hosts_key;

const COLLISION: Code = Code {
    id: "network.subnet-collision",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "a name server, gateway, endpoint or needed address is in the subnet of a container network and no container has it (crit; warn if a stopped container of the network may have had it); a route of another interface takes the packets of running containers (crit), overlaps with the subnet (warn), or is a large aggregate that contains it (info)",
    hint: "recreate the network with a free subnet (`docker network create --subnet`), and set default-address-pools in daemon.json to networks that are not in use",
    impacts: &[Impact::confirmed(Role::PacketsDropped, KeyKind::Address, "its address is in the subnet of a container network")],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "network.subnet-collision",
    title: "Subnets of container networks hide no other address",
    codes: &[COLLISION],
    fixes: &[],
    timeout: Duration::from_secs(8),
};

/// Prefix length up to which a route is an aggregate: `10.0.0.0/8` and `172.16.0.0/12` of a company or a VPN, of which a part is
/// often free (judgement).
const AGGREGATE_PREFIX: u8 = 12;

/// Need of a name server.
const NAME_SERVER: &str = "a name server of this host";

pub(in crate::network) struct SubnetCollision;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::network) struct Evidence {
    /// Needed addresses in a subnet that no running container has.
    hidden: Vec<Hidden>,
    overlaps: Vec<Overlap>,
    gaps: Vec<String>,
}

/// A needed address that is routed to the bridge of a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Hidden {
    address: Ipv4Addr,
    /// `a name server of this host`, `web (DB_URL)`.
    by: String,
    /// Full id of the container that needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    consumer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    network: String,
    subnet: Subnet,
    interface: String,
    /// Stopped containers of the network: one of them may have had the address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    stopped: Vec<String>,
}

/// A route of another interface that overlaps with a subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Overlap {
    network: String,
    subnet: Subnet,
    route: RouteEntry,
    /// Running containers with an address in the route, which is more specific: name and full id.
    taken: Vec<(String, String)>,
}

impl Check for SubnetCollision {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.engine_targets()
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let networks = local_networks(cx).await?;
        let routing = routing(cx).await?;
        let mut e = Evidence { overlaps: overlaps(&networks, &routing), ..Evidence::default() };
        if routing.is_truncated {
            e.gaps.push("routes of this host: there are too many to compare".to_owned());
        }
        match needed(cx, &routing).await {
            Ok(needed) => e.hidden = hidden(&networks, &routing, needed),
            Err(why) => e.gaps.push(why.to_string()),
        }
        if !e.hidden.is_empty() {
            let stopped = |c: &&ContainerRef| !matches!(c.state.as_str(), "running" | "paused");
            let stopped = cx.inspected(cx.inventory.containers.iter().filter(stopped)).await;
            for hidden in &mut e.hidden {
                let of_network = stopped.iter().filter(|c| c.networks.contains_key(&hidden.network));
                hidden.stopped = of_network.map(|c| c.name.clone()).collect();
            }
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut findings: Vec<Finding> = e.hidden.iter().map(Hidden::finding).collect();
        findings.extend(e.overlaps.iter().map(|o| o.finding(judged.target)));
        Judgement { findings, gaps: e.gaps.clone(), ..Judgement::default() }
    }
}

/// A needed address, before it is compared with the subnets.
struct Needed {
    address: Ipv4Addr,
    by: String,
    consumer: Option<String>,
    port: Option<u16>,
}

async fn needed(cx: &ProbeCx, routing: &Routing) -> Result<Vec<Needed>, ProbeError> {
    let of_host = |address: IpAddr, by: &str, port| {
        let IpAddr::V4(address) = address else { return None };
        Some(Needed { address, by: by.to_owned(), consumer: None, port })
    };
    let mut all = Vec::new();
    if let Ok(conf) = names::upstreams().await {
        let servers = conf.servers.iter().filter(|s| !s.is_loopback());
        all.extend(servers.filter_map(|s| of_host(s.address, NAME_SERVER, None)));
    }
    let gateways = routing.routes.iter().filter(|r| r.table == MAIN_TABLE && r.to.1 == 0).filter_map(|r| r.gateway);
    all.extend(gateways.filter_map(|g| of_host(g, "the default gateway of this host", None)));
    for endpoint in cx.endpoints() {
        let host = endpoint.address.as_deref().unwrap_or(&endpoint.host);
        let found = host.parse().ok().and_then(|ip| of_host(ip, "an endpoint of the configuration", Some(endpoint.port)));
        all.extend(found);
    }
    for need in cx.needs().await?.list.iter().filter(|n| n.target.is_none()) {
        if let Ok(address) = need.host.parse() {
            let (by, consumer) = (need.label(), need.consumer.container.clone());
            all.push(Needed { address, by, consumer, port: Some(need.port) });
        }
    }
    Ok(all)
}

/// The interface of a network on this host. That of Podman is not reported, and has the gateway address.
fn interface_of<'a>(n: &LocalNetwork, routing: &'a Routing) -> Option<&'a Interface> {
    if let Some(name) = &n.network.interface {
        return routing.interface(name);
    }
    let is_gateway = |ip: &IpAddr| n.network.gateways.iter().any(|g| g.parse() == Ok(*ip));
    routing.interfaces.iter().find(|i| i.kind == "bridge" && i.addresses.iter().any(|(ip, _)| is_gateway(ip)))
}

/// The route of the longest prefix, and of the smallest metric among those.
fn best(routing: &Routing, address: Ipv4Addr) -> Option<&RouteEntry> {
    let has = |r: &&RouteEntry| r.table == MAIN_TABLE && subnet_of(r).is_some_and(|subnet| subnet.has(address));
    routing.routes.iter().filter(has).max_by_key(|r| (r.to.1, std::cmp::Reverse(r.metric)))
}

fn subnet_of(route: &RouteEntry) -> Option<Subnet> {
    match route.to {
        (IpAddr::V4(base), prefix) => Some(Subnet::new(base, prefix)),
        (IpAddr::V6(_), _) => None,
    }
}

fn hidden(networks: &[LocalNetwork], routing: &Routing, needed: Vec<Needed>) -> Vec<Hidden> {
    let mut known: BTreeSet<IpAddr> = networks.iter().flat_map(|n| &n.members).flat_map(|c| addresses(c)).collect();
    known.extend(networks.iter().flat_map(|n| &n.network.gateways).filter_map(|g| g.parse::<IpAddr>().ok()));
    known.extend(routing.interfaces.iter().flat_map(|i| &i.addresses).map(|(ip, _)| *ip));
    let mut found = BTreeSet::new();
    for n in needed.into_iter().filter(|n| !known.contains(&IpAddr::V4(n.address))) {
        let Some(route) = best(routing, n.address) else { continue };
        for network in networks.iter().filter(|network| network.network.driver == "bridge") {
            let to_bridge = interface_of(network, routing).is_some_and(|i| i.name == route.interface);
            if let Some(subnet) = subnets(&network.network).find(|s| s.has(n.address)).filter(|_| to_bridge) {
                found.insert(Hidden {
                    address: n.address,
                    by: n.by.clone(),
                    consumer: n.consumer.clone(),
                    port: n.port,
                    network: network.network.name.clone(),
                    subnet,
                    interface: route.interface.clone(),
                    stopped: Vec::new(),
                });
            }
        }
    }
    found.into_iter().collect()
}

fn overlaps(networks: &[LocalNetwork], routing: &Routing) -> Vec<Overlap> {
    let mut found = Vec::new();
    for n in networks.iter().filter(|n| n.network.driver == "bridge") {
        let Some(own) = interface_of(n, routing) else { continue };
        for subnet in subnets(&n.network) {
            for route in routing.routes.iter().filter(|r| r.table == MAIN_TABLE && r.to.1 > 0 && r.interface != own.name) {
                let Some(to) = subnet_of(route).filter(|to| to.overlaps(subnet)) else { continue };
                // the route of an interface without a link leads nowhere
                if !routing.interface(&route.interface).is_some_and(|i| i.up && i.carrier) {
                    continue;
                }
                let in_route = |ip: &IpAddr| matches!(ip, IpAddr::V4(ip) if to.has(*ip));
                let is_taken = to.prefix > subnet.prefix;
                let members = n.members.iter().filter(|c| is_taken && addresses(c).iter().any(in_route));
                let taken: Vec<_> = members.map(|c| (c.name.clone(), c.id.clone())).collect();
                // the route of a single address is one to that machine, or to a container
                if to.prefix == 32 && taken.is_empty() {
                    continue;
                }
                found.push(Overlap { network: n.network.name.clone(), subnet, route: route.clone(), taken });
            }
        }
    }
    found
}

impl Hidden {
    fn finding(&self) -> Finding {
        let Self { address, by, network, subnet, interface, .. } = self;
        let severity = if self.stopped.is_empty() { Severity::Crit } else { Severity::Warn };
        let message = format!(
            "{address} (needed: {by}) is in subnet {subnet} of network {network} and belongs to no container: packets to it go to {interface}"
        );
        let subject = Object::new(opsctl_core::model::Kind::Host, "host", format!("{address}@{network}"));
        let mut finding = Finding::new(&COLLISION, severity, subject, message)
            .cite("stopped containers of the network", quantity::some_of(&self.stopped, 3))
            .hint(format!(
                "if it is a machine outside of this host: `docker network rm {network}` and create it with `--subnet` outside of the networks that this host reaches; else correct the address"
            ));
        if let Some(consumer) = &self.consumer {
            finding = finding.key(KeyKind::Address, hosts_key(consumer, &address.to_string()));
        }
        if self.by == NAME_SERVER {
            finding = finding.key(KeyKind::Names, "host");
        }
        if let Some(port) = self.port {
            finding = finding.key(KeyKind::Address, format!("{address}:{port}"));
        }
        // a variable may be unused
        if self.consumer.is_some() || severity == Severity::Warn { finding.likely() } else { finding }
    }
}

impl Overlap {
    fn finding(&self, engine: &Object) -> Finding {
        let Self { network, subnet, route, taken } = self;
        let to = format!("{}/{}", route.to.0, route.to.1);
        let via = route.gateway.map(|g| format!(" via {g}")).unwrap_or_default();
        let names: Vec<String> = taken.iter().map(|(name, _)| name.clone()).collect();
        let route_text = format!("route {to}{via} of {}", route.interface);
        let (severity, message) = if !names.is_empty() {
            let message = format!(
                "{route_text} takes the packets of this host to {} in network {network} ({subnet})",
                quantity::some_of(&names, 3)
            );
            (Severity::Crit, message)
        } else if route.to.1 <= AGGREGATE_PREFIX && route.to.1 < subnet.prefix {
            (Severity::Info, format!("network {network} ({subnet}) hides a part of {route_text}"))
        } else if route.to.1 <= subnet.prefix {
            (Severity::Warn, format!("network {network} ({subnet}) hides addresses of {route_text}"))
        } else {
            (
                Severity::Warn,
                format!("network {network} ({subnet}) contains {route_text}: containers with an address in it are unreachable"),
            )
        };
        let subject = Object::new(engine.kind, engine.name.clone(), format!("{}#{network}#{to}#{}", engine.id, route.interface));
        taken.iter().fold(Finding::new(&COLLISION, severity, subject, message), |f, (_, id)| f.key(KeyKind::Container, id))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::sync::Arc;

    use opsctl_core::probe::docker::{Container, Network};

    use super::*;

    fn route(to: &str, interface: &str) -> RouteEntry {
        let to = Subnet::parse(to).unwrap();
        RouteEntry {
            to: (IpAddr::V4(to.base), to.prefix),
            interface: interface.into(),
            gateway: None,
            table: MAIN_TABLE,
            metric: 0,
        }
    }

    /// Network app (172.19.0.0/16, one container 172.19.0.2) on a host with these routes.
    fn host(routes: &[(&str, &str)]) -> (Vec<LocalNetwork>, Routing) {
        let container = Container {
            name: "web".into(),
            id: "aa".into(),
            networks: [("app".to_owned(), "172.19.0.2".to_owned())].into(),
            ..Container::default()
        };
        let network = Network {
            name: "app".into(),
            driver: "bridge".into(),
            interface: Some("br-1".into()),
            subnets: vec!["172.19.0.0/16".into()],
            gateways: vec!["172.19.0.1".into()],
            ..Network::default()
        };
        let n = LocalNetwork { network, members: vec![Arc::new(container)], engine: "e".into(), is_podman: false, pools: vec![] };
        let up = |name: &str| Interface { name: name.into(), up: true, carrier: true, ..Interface::default() };
        let mut all: Vec<RouteEntry> = routes.iter().map(|(to, interface)| route(to, interface)).collect();
        all.push(route("172.19.0.0/16", "br-1"));
        let interfaces = ["br-1", "eth0", "tun0"].map(up).to_vec();
        (vec![n], Routing { interfaces, routes: all, is_truncated: false })
    }

    fn severities(routes: &[(&str, &str)]) -> Vec<String> {
        let (networks, routing) = host(routes);
        let engine = Object::named(opsctl_core::model::Kind::Engine, "docker");
        overlaps(&networks, &routing).iter().map(|o| o.finding(&engine).severity.to_string()).collect()
    }

    #[test]
    fn overlapping_routes_are_graded() {
        assert_eq!(severities(&[("172.19.0.0/24", "eth0")]), ["crit"], "takes the packets of web");
        assert_eq!(severities(&[("172.19.7.0/24", "eth0")]), ["warn"]);
        assert_eq!(severities(&[("172.19.0.0/16", "tun0")]), ["warn"]);
        assert_eq!(severities(&[("172.16.0.0/12", "tun0")]), ["info"]);
        for healthy in
            [&[("10.0.0.0/8", "tun0")][..], &[("0.0.0.0/0", "eth0")], &[("172.19.0.9/32", "eth0")], &[("172.20.0.0/16", "eth0")]]
        {
            assert!(severities(healthy).is_empty(), "{healthy:?}");
        }
    }

    fn needs(address: [u8; 4], routes: &[(&str, &str)]) -> usize {
        let (networks, routing) = host(routes);
        let needed = Needed { address: address.into(), by: "web (DB_URL)".into(), consumer: Some("aa".into()), port: Some(80) };
        hidden(&networks, &routing, vec![needed]).len()
    }

    #[test]
    fn needed_address_is_hidden_by_the_route_of_the_bridge() {
        assert_eq!(needs([172, 19, 5, 5], &[("0.0.0.0/0", "eth0")]), 1);
        assert_eq!(needs([172, 19, 5, 5], &[("172.19.5.0/24", "eth0")]), 0, "a more specific route");
        assert_eq!(needs([172, 19, 0, 2], &[]), 0, "a container");
        assert_eq!(needs([172, 19, 0, 1], &[]), 0, "the gateway");
        assert_eq!(needs([10, 0, 0, 9], &[("0.0.0.0/0", "eth0")]), 0, "elsewhere");
    }
}
