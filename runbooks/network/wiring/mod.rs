//! The wiring of container networks on this host: address translation, bridges, veths, subnets and tracked connections.

pub(super) mod address_pools;
pub(super) mod bridge_address;
pub(super) mod endpoint_detached;
mod nat;
pub(super) mod stale_conntrack;
pub(super) mod stale_dnat;
pub(super) mod subnet_collision;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use opsctl_core::model::has_own_network;
use opsctl_core::probe::docker::{Container, Docker, Network, daemon};
use opsctl_core::probe::network::routes::{Routing, RoutingCache};
use opsctl_core::probe::{Memo, ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

/// Time between two samples of a suspicious state, for containers that are starting or stopping.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(300);

/// The networks of the engines in this network namespace.
#[derive(Debug, Clone)]
struct LocalNetwork {
    network: Network,
    /// Containers with an address in it: running and paused ones.
    members: Vec<Arc<Container>>,
    /// Endpoint of its engine.
    engine: String,
    is_podman: bool,
    /// Address pools of its engine ([`opsctl_core::probe::docker::EngineSettings::address_pools`]).
    pools: Vec<(String, u8)>,
}

/// The networks, read once per run for all checks.
#[derive(Default)]
struct LocalNetworks(Memo<(), Result<Arc<Vec<LocalNetwork>>, ProbeError>>);

/// All networks of the engines with interfaces and rules in this network namespace.
async fn local_networks(cx: &ProbeCx) -> Result<Arc<Vec<LocalNetwork>>, ProbeError> {
    cx.shared.get::<LocalNetworks>().0.get((), || async { read(cx).await.map(Arc::new) }).await
}

/// Interfaces and routes of this host.
async fn routing(cx: &ProbeCx) -> Result<Arc<Routing>, ProbeError> {
    cx.shared.get::<RoutingCache>().get().await
}

async fn read(cx: &ProbeCx) -> Result<Vec<LocalNetwork>, ProbeError> {
    let docker = cx.docker()?;
    let routing = routing(cx).await?;
    let mut all = Vec::new();
    let up = cx.inventory.containers.iter().filter(|c| matches!(c.state.as_str(), "running" | "paused"));
    let up = cx.inspected(up).await;
    for engine in docker.engines().filter(|engine| engine.is_local()) {
        // a socket proxy may deny them
        let settings = engine.settings().await.unwrap_or_default();
        let networks = engine.own_networks().await?;
        let has_interface = |n: &Network| n.interface.as_deref().is_some_and(|name| routing.interface(name).is_some());
        if settings.rootless || !(networks.iter().any(has_interface) || is_here(cx, engine).await) {
            continue;
        }
        for network in networks.iter() {
            let member = |c: &&Arc<Container>| {
                std::ptr::eq(docker.of(&c.id), engine)
                    && has_own_network(&c.network_mode)
                    && c.networks.get(&network.name).is_some_and(|address| !address.is_empty())
            };
            all.push(LocalNetwork {
                network: network.clone(),
                members: up.iter().filter(member).cloned().collect(),
                engine: engine.endpoint().to_string(),
                is_podman: engine.is_podman(),
                pools: settings.address_pools.clone(),
            });
        }
    }
    if all.is_empty() {
        return Err(ProbeError::Skip("no container engine has its networks in the network namespace of this process".to_owned()));
    }
    Ok(all)
}

/// Whether the engine's process is in the network namespace of this process. Podman has no process: its networks are those of its
/// user, and only root's are here.
async fn is_here(cx: &ProbeCx, engine: &Docker) -> bool {
    engine.is_podman() || daemon(Some(engine), cx.systemd.as_deref()).await.is_some_and(|d| !d.elsewhere)
}

/// An IPv4 network: `172.18.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Subnet {
    base: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    fn new(base: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(32);
        Self { base: Ipv4Addr::from_bits(base.to_bits() & mask(prefix)), prefix }
    }

    fn parse(text: &str) -> Option<Self> {
        let (base, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
        Some(Self::new(base.parse().ok()?, prefix))
    }

    fn has(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.base.to_bits()
    }

    /// Whether one contains the other.
    fn overlaps(self, other: Self) -> bool {
        self.has(other.base) && self.prefix <= other.prefix || other.has(self.base) && other.prefix <= self.prefix
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

/// The IPv4 subnets of a network.
fn subnets(network: &Network) -> impl Iterator<Item = Subnet> {
    network.subnets.iter().filter_map(|text| Subnet::parse(text))
}

/// The addresses of a container.
fn addresses(container: &Container) -> Vec<IpAddr> {
    container.networks.values().filter_map(|ip| ip.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn overlap_is_containment() {
        let subnet = |text| Subnet::parse(text).unwrap();
        assert!(subnet("172.18.0.0/16").overlaps(subnet("172.18.5.0/24")));
        assert!(subnet("172.18.5.0/24").overlaps(subnet("172.16.0.0/12")));
        assert!(!subnet("172.18.0.0/16").overlaps(subnet("172.19.0.0/16")));
        assert!(subnet("0.0.0.0/0").has(Ipv4Addr::new(9, 9, 9, 9)) && subnet("10.0.0.9/24") == subnet("10.0.0.0/24"));
        assert_eq!((Subnet::parse("fd00::/64"), Subnet::parse("10.0.0.0/33"), Subnet::parse("")), (None, None, None));
        assert_eq!(subnet("10.0.0.1").to_string(), "10.0.0.1/32");
    }
}
