//! Servers of the product that a need expects: where else they listen, and the objects that would serve a port of this host.

use std::net::IpAddr;

use opsctl_core::model::{Finding, KeyKind, ServerRef};
use opsctl_core::probe::ProbeCx;
use opsctl_core::probe::docker::Container;
use opsctl_core::probe::needs;
use opsctl_core::probe::needs::{DependencyGraph, Listening};
use opsctl_core::probe::product::{default_port, product_of_unit};
use serde::{Deserialize, Serialize};

/// Limit of the named servers.
const MAX_SHOWN: usize = 3;

/// The objects that would serve a port of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Providers {
    /// Ids of servers of the product on this host.
    pub(super) servers: Vec<String>,
    /// Units of the product.
    pub(super) units: Vec<String>,
    /// Full ids of containers that publish the port while they run.
    pub(super) containers: Vec<String>,
}

impl Providers {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The servers, units and containers for a port of this host without a listener.
    pub(super) fn of(cx: &ProbeCx, known: &DependencyGraph, port: u16) -> Self {
        let is_product = |s: &&ServerRef| s.container.is_none() && (default_port(s.product) == port || has_port(s, port));
        let servers: Vec<&ServerRef> = cx.inventory.servers.iter().filter(is_product).collect();
        let mut units: Vec<String> = servers.iter().filter_map(|s| s.unit.clone()).collect();
        let listed = cx.inventory.systemd.iter().flat_map(|s| &s.units);
        let of_product = |name: &str| product_of_unit(name).is_some_and(|product| default_port(product) == port);
        units.extend(listed.filter(|u| u.active != "active" && of_product(&u.name)).map(|u| u.name.clone()));
        units.sort();
        units.dedup();
        let stopped = known.neighbours.all().iter().filter(|c| !c.is_up() && c.configured_ports.contains(&port));
        Self {
            servers: servers.iter().map(|s| s.id.clone()).collect(),
            units,
            containers: stopped.map(|c| c.id.clone()).collect(),
        }
    }

    /// Ties a finding to them.
    pub(super) fn tie(&self, finding: Finding) -> Finding {
        let finding = self.servers.iter().fold(finding, |f, id| f.key(KeyKind::Server, id));
        let finding = self.units.iter().fold(finding, |f, unit| f.key(KeyKind::Unit, unit));
        self.containers.iter().fold(finding, |f, id| f.key(KeyKind::Container, id))
    }
}

fn has_port(server: &ServerRef, port: u16) -> bool {
    server.address.as_ref().is_some_and(|(_, own)| *own == port)
}

/// Running servers of the product of `port` other than `own`, each with its listeners: `container db (port 5432)`.
pub(super) async fn same_product(cx: &ProbeCx, known: &DependencyGraph, port: u16, own: Option<&Container>) -> Vec<String> {
    let all = &known.neighbours;
    let own_id = own.map(|c| all.holder(c).id.clone());
    let mut found = Vec::new();
    for c in all.all().iter().filter(|c| Some(&all.holder(c).id) != own_id.as_ref()) {
        let is_server =
            cx.inventory.servers.iter().any(|s| s.container.as_ref() == Some(&c.id) && default_port(s.product) == port);
        let Some(pid) = c.pid().filter(|_| is_server || c.exposed.contains(&port)) else { continue };
        let open = needs::listening(cx, pid, false).await.unwrap_or_default();
        let ports: Vec<u16> = ports(open.iter().filter(|l| !l.address.is_loopback()));
        let wanted: Vec<u16> = if ports.contains(&port) { vec![port] } else { ports };
        if !wanted.is_empty() {
            found.push(format!("container {} ({})", c.name, words(&wanted)));
        }
    }
    for server in cx.inventory.servers.iter().filter(|s| s.container.is_none() && default_port(s.product) == port) {
        let Some(process) = server.process.filter(|_| own.is_some() || !found.is_empty() || !has_port(server, port)) else {
            continue;
        };
        let open = needs::listening(cx, process.pid, true).await.unwrap_or_default();
        let mark = format!("(pid {})", process.pid);
        let its = open.iter().filter(|l| l.process.as_ref().is_some_and(|p| p.contains(&mark)));
        let addresses: Vec<String> = its.map(Listening::socket_address).collect();
        if !addresses.is_empty() {
            found.push(format!("{} on this host ({})", server.name, addresses.join(", ")));
        }
    }
    found.truncate(MAX_SHOWN);
    found
}

fn ports<'l>(listening: impl Iterator<Item = &'l Listening>) -> Vec<u16> {
    let mut ports: Vec<u16> = listening.map(|l| l.port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn words(ports: &[u16]) -> String {
    let listed: Vec<String> = ports.iter().map(ToString::to_string).collect();
    format!("port{} {}", if ports.len() == 1 { "" } else { "s" }, listed.join(", "))
}

/// Whether a listener serves an address.
pub(super) fn serves(listener: &Listening, address: IpAddr, port: u16) -> bool {
    listener.port == port && (listener.address.is_unspecified() || listener.address == address)
}
