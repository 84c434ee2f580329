//! Paths to probe: to named peers, and to some peers with open connections to this host or its containers.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::join_all;
use opsctl_core::model::address::join;
use opsctl_core::model::has_own_network;
use opsctl_core::probe::docker::{Container, Network};
use opsctl_core::probe::names;
use opsctl_core::probe::network::path::{Peer, Protocol, protocol_of};
use opsctl_core::probe::network::{self, Connection, Interface, NetworkRoute, View};
use opsctl_core::probe::{ProbeCx, ProbeError};

use super::evidence::{Bridge, Stuck};

/// Limit of paths in one run.
const MAX_PATHS: usize = 16;

/// The source of a path.
#[derive(Debug, Clone)]
pub(super) struct ProbeSource {
    /// The container, or `None` for this host.
    pub(super) container: Option<String>,
    /// Its first process.
    pub(super) pid: Option<i32>,
    /// Its network.
    pub(super) network: Option<String>,
}

/// A path to probe.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) from: ProbeSource,
    pub(super) peer: Peer,
    pub(super) named: bool,
    pub(super) route: NetworkRoute,
}

/// The networks of this host, and the paths to probe.
#[derive(Debug, Default)]
pub(super) struct ProbePlan {
    pub(super) egress: Option<NetworkRoute>,
    pub(super) bridges: Vec<Bridge>,
    pub(super) plans: Vec<Plan>,
    pub(super) stuck: Vec<Stuck>,
    pub(super) gaps: Vec<String>,
}

/// The connections of one source.
struct SourceConnections {
    source: ProbeSource,
    connections: Vec<Connection>,
}

pub(super) async fn plan_probes(cx: &ProbeCx, max_peers: usize) -> Result<ProbePlan, ProbeError> {
    let mut planned = ProbePlan::default();
    let here = network::view(None, vec![network::EXTERNAL_ADDRESS]).await?;
    planned.egress = here.ways.first().cloned().flatten();
    let running = running(cx, &mut planned.gaps).await;
    let (bridges, sources) = bridges(cx, &here, &mut planned.gaps).await;
    planned.bridges = bridges;
    let seen = seen(&running, &sources, &mut planned.gaps).await;

    let named = named_peers(cx, &mut planned.gaps).await;
    let mut addresses: Vec<IpAddr> = named.iter().map(|(peer, _)| peer.address.ip()).collect();
    addresses.extend(seen.iter().flat_map(|s| &s.connections).map(|c| c.remote.ip()));
    addresses.sort_unstable();
    addresses.dedup();
    let routes: BTreeMap<IpAddr, NetworkRoute> = {
        let view = network::view(None, addresses.clone()).await?;
        addresses
            .into_iter()
            .zip(view.ways)
            .filter_map(|(ip, route)| Some((ip, route.filter(|w| leaves(w, &view.interfaces))?)))
            .collect()
    };
    planned.stuck = stuck(&seen, &routes);
    let host = ProbeSource { container: None, pid: None, network: None };
    for (peer, from) in named {
        let Some(route) = routes.get(&peer.address.ip()) else {
            planned.gaps.push(format!("{} is on this host or has no route: its path is not probed", peer.name));
            continue;
        };
        // probed from one container, or from this host and a container of every network
        let from: Vec<ProbeSource> = match &from {
            Some(name) => running.iter().filter(|c| c.name == *name).filter_map(|c| source_of(c, None)).collect(),
            None => std::iter::once(host.clone()).chain(sources.iter().cloned()).collect(),
        };
        planned.plans.extend(from.into_iter().map(|from| Plan { from, peer: peer.clone(), named: true, route: route.clone() }));
    }
    add_seen(&mut planned.plans, &seen, &routes, max_peers);
    planned.plans.truncate(MAX_PATHS);
    Ok(planned)
}

/// Peers of open connections, the first few of each network and of this host.
fn add_seen(plans: &mut Vec<Plan>, seen: &[SourceConnections], routes: &BTreeMap<IpAddr, NetworkRoute>, limit: usize) {
    for s in seen {
        let mut count = plans.iter().filter(|p| !p.named && p.from.network == s.source.network).count();
        // stalled connections first
        let mut connections: Vec<&Connection> = s.connections.iter().filter(|c| routes.contains_key(&c.remote.ip())).collect();
        connections.sort_by_key(|c| (!c.info.is_stuck(), c.remote));
        for c in connections {
            let speech = protocol_of(None, &c.remote.ip().to_string(), c.remote.port(), "/", false);
            let known = plans.iter().any(|p| p.peer.address == c.remote && p.from.network == s.source.network);
            if count >= limit || speech == Protocol::Silence || known {
                continue;
            }
            count += 1;
            let peer = Peer { address: c.remote, name: c.remote.to_string(), speech };
            let route = routes[&c.remote.ip()].clone();
            plans.push(Plan { from: s.source.clone(), peer, named: false, route });
        }
    }
}

/// Connections with undelivered full packets, by source and peer.
fn stuck(seen: &[SourceConnections], routes: &BTreeMap<IpAddr, NetworkRoute>) -> Vec<Stuck> {
    let mut all: Vec<Stuck> = Vec::new();
    for s in seen {
        for c in s.connections.iter().filter(|c| c.info.is_stuck()) {
            let Some(route) = routes.get(&c.remote.ip()) else { continue };
            let peer = c.remote.to_string();
            if let Some(known) = all.iter_mut().find(|k| k.peer == peer && k.from == s.source.container) {
                known.count += 1;
                known.backoff = known.backoff.max(c.info.backoff);
                continue;
            }
            let headers = if c.remote.is_ipv6() { 60 } else { 40 } + if c.info.timestamps { 12 } else { 0 };
            let full = c.info.send_mss + headers;
            all.push(Stuck {
                from: s.source.container.clone(),
                peer,
                count: 1,
                full,
                backoff: c.info.backoff,
                way: route.clone(),
            });
        }
    }
    all
}

/// Whether the route leaves this host: not loopback, and not a container or machine behind one of its bridges.
fn leaves(route: &NetworkRoute, interfaces: &[Interface]) -> bool {
    let interface = interfaces.iter().find(|i| i.name == route.interface);
    route.interface != "lo" && (route.gateway.is_some() || interface.is_some_and(|i| i.kind != "bridge"))
}

async fn running(cx: &ProbeCx, gaps: &mut Vec<String>) -> Vec<Arc<Container>> {
    match cx.docker() {
        Ok(_) | Err(ProbeError::Skip(_)) => {}
        Err(e) => gaps.push(e.to_string()),
    }
    cx.inspected(cx.inventory.running()).await.into_iter().filter(|c| c.is_up()).collect()
}

/// The container as a source; `None` without a network namespace of its own.
fn source_of(container: &Container, network: Option<&str>) -> Option<ProbeSource> {
    let pid = container.pid()?;
    let network = network.map(str::to_owned).or_else(|| container.networks.keys().next().cloned());
    has_own_network(&container.network_mode).then(|| ProbeSource {
        container: Some(container.name.clone()),
        pid: Some(pid),
        network,
    })
}

/// The bridges of the engine, and for each a container to probe from.
async fn bridges(cx: &ProbeCx, here: &View, gaps: &mut Vec<String>) -> (Vec<Bridge>, Vec<ProbeSource>) {
    if cx.docker().is_err() {
        return (Vec::new(), Vec::new());
    }
    let networks = match cx.routed_networks().await {
        Ok(networks) => networks,
        Err(e) => {
            gaps.push(e.to_string());
            return (Vec::new(), Vec::new());
        }
    };
    let (mut bridges, mut sources) = (Vec::new(), Vec::new());
    for (network, members) in networks {
        let Some(interface) = network.interface.as_deref().and_then(|name| here.interface(name)) else { continue };
        let first = members.iter().find_map(|c| source_of(c, Some(&network.name)));
        bridges.push(Bridge {
            network: network.name.clone(),
            interface: interface.name.clone(),
            index: interface.index,
            mtu: interface.mtu,
            containers: members.iter().map(|c| c.name.clone()).collect(),
            inside: match &first {
                Some(source) => inside(source, &network, &members).await,
                None => None,
            },
        });
        sources.extend(first);
    }
    (bridges, sources)
}

/// The MTU of a container's interface in that network.
async fn inside(source: &ProbeSource, network: &Network, members: &[Arc<Container>]) -> Option<u32> {
    let container = members.iter().find(|c| Some(&c.name) == source.container.as_ref())?;
    let ip: IpAddr = container.networks.get(&network.name)?.parse().ok()?;
    let view = network::view(source.pid, Vec::new()).await.ok()?;
    view.interfaces.iter().find(|i| i.addresses.iter().any(|(a, _)| *a == ip)).map(|i| i.mtu)
}

/// Open connections of this host, and of all its containers.
async fn seen(running: &[Arc<Container>], sources: &[ProbeSource], gaps: &mut Vec<String>) -> Vec<SourceConnections> {
    let host = ProbeSource { container: None, pid: None, network: None };
    // the sources of a network first: paths are probed from them anyway
    let mut all = vec![host];
    all.extend(sources.iter().cloned());
    for container in running {
        if !all.iter().any(|p| p.container.as_ref() == Some(&container.name)) {
            all.extend(source_of(container, None));
        }
    }
    let read = join_all(all.iter().map(|p| network::connections(p.pid))).await;
    let mut seen = Vec::new();
    let mut reported = false;
    for (source, connections) in all.into_iter().zip(read) {
        match connections {
            Ok(mut connections) => {
                let port = |c: &Connection| c.remote.port();
                connections.retain(|c| !c.remote.ip().is_loopback() && port(c) != 0);
                seen.push(SourceConnections { source, connections });
            }
            Err(ProbeError::Skip(_)) => {}
            Err(e) if !reported => {
                reported = true;
                gaps.push(e.to_string());
            }
            Err(_) => {}
        }
    }
    seen
}

/// Peers from the command line or the configuration, each with its source container.
async fn named_peers(cx: &ProbeCx, gaps: &mut Vec<String>) -> Vec<(Peer, Option<String>)> {
    let mut peers: Vec<(Peer, Option<String>)> = Vec::new();
    for e in cx.endpoints() {
        let pid = match &e.from {
            Some(container) => cx.pid_of(container).await.ok(),
            None => None,
        };
        let name = join(&e.host, e.port);
        let address: SocketAddr = match names::first_address(pid, &e.host, e.port).await {
            Ok(Ok(address)) => address,
            Ok(Err(why)) => {
                gaps.push(format!("{name}: {why}"));
                continue;
            }
            Err(e) => {
                gaps.push(e.to_string());
                continue;
            }
        };
        let speech = protocol_of(Some(e.scheme.as_str()), &e.host, e.port, &e.path, true);
        if !address.ip().is_loopback() && !peers.iter().any(|(p, from)| p.address == address && *from == e.from) {
            peers.push((Peer { address, name, speech }, e.from.clone()));
        }
    }
    peers
}
