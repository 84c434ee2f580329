//! Servers of this host behind the addresses that another server reports: the Loki of a Promtail, the MinIO of a Tempo.

use opsctl_core::model::address::split_port;
use opsctl_core::model::{Finding, KeyKind};
use opsctl_core::probe::ProbeCx;
use opsctl_core::probe::product::spec;
use serde::{Deserialize, Serialize};

use crate::shared::servers::Server;

/// Limit of addresses that are resolved for one server.
const MAX_PEERS: usize = 5;

/// A container and a server of this host at an address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Peer {
    /// `host:port` as reported.
    pub(super) address: String,
    /// Full id of the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) container: Option<String>,
    /// Id of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server: Option<String>,
}

impl Peer {
    /// Ties a finding to this peer.
    pub(super) fn tie(&self, finding: Finding) -> Finding {
        let finding = match &self.container {
            Some(id) => finding.key(KeyKind::Container, id),
            None => finding,
        };
        match &self.server {
            Some(id) => finding.key(KeyKind::Server, id).key(KeyKind::Silent, id),
            None => finding,
        }
    }
}

/// The peers at these addresses (`host:port` or `host`) as `server` reaches them. Only for servers with a fault: the names of all
/// containers are compared.
pub(super) async fn resolve(cx: &ProbeCx, server: &Server, addresses: impl IntoIterator<Item = String>) -> Vec<Peer> {
    let mut addresses: Vec<String> = addresses.into_iter().filter(|a| !a.is_empty()).collect();
    addresses.sort();
    addresses.dedup();
    addresses.truncate(MAX_PEERS);
    let Ok(needs) = cx.needs().await else { return Vec::new() };
    let neighbours = &needs.neighbours;
    let own = server.get().and_then(|s| s.container.as_deref()).and_then(|id| neighbours.get(id));
    let on_host = neighbours.on_host(own);
    let peer = |address: String| {
        let (host, port) = split_port(&address);
        let container = neighbours.resolve(own, host).map(|r| r.container.id.clone());
        let loopback = host.eq_ignore_ascii_case("localhost") || host.starts_with("127.") || host == "::1";
        let at_host = (on_host && loopback) || host == "host.docker.internal";
        let published = || neighbours.all().iter().find(|c| port.is_some_and(|port| c.publishes(port))).map(|c| c.id.clone());
        let container = container.or_else(|| if at_host { published() } else { None });
        let servers = cx.inventory.servers.iter().filter(|s| Some(&s.id) != server.get().map(|own| &own.id));
        let server = servers
            .filter(|s| match &container {
                Some(id) => s.container.as_ref() == Some(id),
                None => at_host && s.container.is_none() && port == Some(spec(s.product).port),
            })
            .map(|s| s.id.clone())
            .next();
        Peer { address, container, server }
    };
    addresses.into_iter().map(peer).collect()
}

/// Ties a finding to all of these peers, and cites their addresses.
pub(super) fn tie_all(peers: &[Peer], finding: Finding) -> Finding {
    let addresses: Vec<&str> = peers.iter().map(|p| p.address.as_str()).collect();
    let finding = if addresses.is_empty() { finding } else { finding.cite("peers", addresses.join(", ")) };
    peers.iter().fold(finding, |f, peer| peer.tie(f))
}
