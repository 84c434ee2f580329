//! The wiring of container networks on this host: address translation, bridges, veths, subnets and tracked connections.

pub(super) mod address_pools;
pub(super) mod bridge_address;
pub(super) mod endpoint_detached;
mod nat;
pub(super) mod stale_conntrack;
pub(super) mod stale_dnat;
pub(super) mod subnet_collision;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use opsctl_core::model::{Subnet, has_own_network};
use opsctl_core::probe::docker::{Container, Docker, Network, daemon};
use opsctl_core::probe::network::routes::{Routing, RoutingCache};
use opsctl_core::probe::{Memo, ProbeCx, ProbeError};

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

/// The IPv4 subnets of a network.
fn subnets(network: &Network) -> impl Iterator<Item = Subnet> {
    network.subnets.iter().filter_map(|text| Subnet::parse(text))
}

/// The addresses of a container.
fn addresses(container: &Container) -> Vec<IpAddr> {
    container.networks.values().filter_map(|ip| ip.parse().ok()).collect()
}
