//! Surroundings of an nginx: the containers it can resolve by name, its upstreams, and the dependencies of those upstreams.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use opsctl_core::model::address::join;
use opsctl_core::model::{ContainerRef, Inventory, Product, ServerRef};
use opsctl_core::probe::docker::Container;
use opsctl_core::probe::network::listeners::environment_names;
use opsctl_core::probe::nginx::Nginx;
use opsctl_core::probe::servers::{default_port, tcp_port};
use opsctl_core::probe::{Io, ProbeCx, blocking};
use serde::{Deserialize, Serialize};

use crate::shared::needed_servers::needs_of;
use crate::shared::servers::READ_TIMEOUT;

/// The container with this name or Compose service name, running or not.
pub(crate) fn called<'a>(inventory: &'a Inventory, host: &str) -> Option<&'a ContainerRef> {
    let by_name = inventory.containers.iter().find(|c| c.name.eq_ignore_ascii_case(host));
    by_name.or_else(|| inventory.containers.iter().find(|c| c.service.as_deref() == Some(host)))
}

/// All containers, and the networks in which an nginx can resolve them by name.
pub(crate) struct ProxyContext {
    pub(crate) containers: Vec<Arc<Container>>,
    /// Its networks with name resolution; empty for an nginx on the host.
    pub(crate) networks: Vec<String>,
    /// Its own addresses.
    pub(crate) own: Vec<IpAddr>,
}

impl ProxyContext {
    pub(crate) async fn of(cx: &ProbeCx, server: &ServerRef) -> Self {
        let containers = cx.inspected(&cx.inventory.containers).await;
        let mut context = Self { containers, networks: Vec::new(), own: Vec::new() };
        let find = |id: &str| context.containers.iter().find(|c| c.id == id);
        let mut own = server.container.as_deref().and_then(find);
        // it may share the network namespace of another container
        while let Some(other) = own.and_then(|c| c.network_mode.strip_prefix("container:")).and_then(find) {
            if own.is_some_and(|c| c.id == other.id) {
                break;
            }
            own = Some(other);
        }
        if let Some(own) = own {
            // the default bridge has no names (https://docs.docker.com/engine/network/drivers/bridge/)
            context.networks =
                own.networks.keys().filter(|n| !matches!(n.as_str(), "bridge" | "host" | "none")).cloned().collect();
            context.own = own.networks.values().filter_map(|ip| ip.parse().ok()).collect();
        }
        context
    }

    /// Addresses of the running containers that have this name or alias in a network of this nginx.
    pub(crate) fn called(&self, host: &str) -> Vec<(&Container, IpAddr)> {
        let answers = |c: &Container, network: &String| {
            let aliases = c.aliases.get(network).map(Vec::as_slice).unwrap_or_default();
            c.name.eq_ignore_ascii_case(host) || aliases.iter().any(|a| a.eq_ignore_ascii_case(host))
        };
        let mut found = Vec::new();
        for c in self.containers.iter().filter(|c| c.state.running && !c.state.restarting) {
            for network in self.networks.iter().filter(|n| answers(c, n)) {
                found.extend(c.networks.get(network).and_then(|ip| ip.parse().ok()).map(|ip| (&**c, ip)));
            }
        }
        found
    }

    pub(crate) fn owner(&self, address: IpAddr) -> Option<&Container> {
        self.containers.iter().find(|c| c.networks.values().any(|ip| ip.parse() == Ok(address))).map(|c| &**c)
    }

    pub(crate) fn named(&self, host: &str) -> Option<&Container> {
        let alias = |c: &&Arc<Container>| c.aliases.values().flatten().any(|a| a.eq_ignore_ascii_case(host));
        self.containers
            .iter()
            .find(|c| c.name.eq_ignore_ascii_case(host))
            .or_else(|| self.containers.iter().find(alias))
            .map(|c| &**c)
    }

    /// The container that publishes a port of the host.
    pub(crate) fn publishes(&self, port: u16) -> Option<(&Container, u16)> {
        self.containers
            .iter()
            .filter(|c| c.is_up())
            .find_map(|c| Some((&**c, c.ports.iter().find(|p| p.host == port)?.container)))
    }
}

/// An upstream of an nginx, for other checks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Upstream {
    /// Full id of its container; empty for a process of the host.
    pub(crate) container: String,
    /// `address:port`.
    pub(crate) addresses: Vec<String>,
    /// Ids of the databases, caches and brokers that its environment names.
    pub(crate) needs: Vec<String>,
    /// The units that serve its port, for a process of the host.
    pub(crate) units: Vec<String>,
}

/// The upstreams of an nginx and their dependencies, for the check of failed requests.
pub(crate) async fn upstreams_of(cx: &ProbeCx, server: &ServerRef, nginx: &Nginx) -> Vec<Upstream> {
    let context = ProxyContext::of(cx, server).await;
    let Some(docker) = &cx.docker else { return processes(cx, server, nginx).await };
    let mut found: BTreeMap<String, Upstream> = BTreeMap::new();
    for backend in nginx.config.backends.iter().filter(|b| b.unix.is_none()) {
        // as nginx writes it: an IPv6 address in brackets
        let address = |ip: IpAddr| join(&ip.to_string(), backend.port);
        let mut owners: Vec<(&Container, String)> =
            context.called(&backend.host).into_iter().map(|(c, ip)| (c, address(ip))).collect();
        if let Ok(ip) = backend.host.parse::<IpAddr>() {
            owners.extend(context.owner(ip).map(|c| (c, address(ip))));
            if ip.is_loopback() && server.container.is_none() {
                owners.extend(context.publishes(backend.port).map(|(c, _)| (c, address(ip))));
            }
        }
        if owners.is_empty() {
            owners.extend(context.named(&backend.host).map(|c| (c, String::new())));
        }
        for (c, address) in owners {
            let behind = found.entry(c.id.clone()).or_insert_with(|| Upstream { container: c.id.clone(), ..Upstream::default() });
            behind.addresses.push(address);
        }
    }
    for behind in found.values_mut() {
        behind.needs = needs_of(cx, docker, &behind.container).await;
    }
    found.into_values().chain(processes(cx, server, nginx).await).collect()
}

/// Upstreams that are processes of the host.
async fn processes(cx: &ProbeCx, server: &ServerRef, nginx: &Nginx) -> Vec<Upstream> {
    let mut found = Vec::new();
    if server.container.is_some() {
        return found;
    }
    for backend in nginx.config.backends.iter().filter(|b| b.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())) {
        let owner = cx.owner_of_tcp_port(backend.port).await;
        let units = cx.units_behind(owner.as_ref(), backend.port).await;
        let addresses = vec![backend.label()];
        let Some(owner) = owner else {
            found.push(Upstream { addresses, units, ..Upstream::default() });
            continue;
        };
        let servers = cx.inventory.servers.iter().filter(|s| s.product != Product::Nginx);
        let servers: Vec<(String, u16, &'static [&'static str])> = servers
            .map(|s| {
                let (port, variables): (u16, &'static [&'static str]) = match s.product {
                    Product::Postgres => (5432, &["PGHOST", "PGSERVICE"]),
                    product => (default_port(product), &[]),
                };
                let target = s.object();
                let port = cx.servers().known(&target).ok().and_then(|k| tcp_port(&k.sockets)).unwrap_or(port);
                (s.id.clone(), port, variables)
            })
            .collect();
        let read = move |io: &Io| {
            let named = servers.into_iter().filter(|(_, port, variables)| environment_names(io, owner.pid, *port, variables));
            named.map(|(id, ..)| id).collect()
        };
        let from = format!("/proc/{}/environ", owner.pid);
        let needs = blocking::run("the environment of a process", &from, READ_TIMEOUT, read).await.unwrap_or_default();
        found.push(Upstream { container: String::new(), addresses, needs, units });
    }
    found
}
