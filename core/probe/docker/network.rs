//! Networks of the engine.

use bollard::query_parameters::ListNetworksOptions;
use serde::{Deserialize, Serialize};

use super::Docker;
use crate::probe::ProbeError;

/// An entry of the network list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Name.
    pub name: String,
    /// 64 hex digits.
    pub id: String,
    /// `bridge`, `overlay`, `macvlan`, `ipvlan`, `host`, `null`.
    pub driver: String,
    /// Its interface on the host; only bridges have one.
    pub interface: Option<String>,
    /// Its subnets: `172.18.0.0/16`.
    pub subnets: Vec<String>,
    /// No egress (`--internal`).
    pub internal: bool,
    /// It has IPv6.
    pub ipv6: bool,
    /// Egress is masqueraded with an address of this host.
    pub masquerade: bool,
    /// MTU set at creation (`com.docker.network.driver.mtu`).
    pub mtu: Option<u32>,
}

impl Network {
    /// Whether egress uses the routes and rules of this host.
    #[must_use]
    pub fn is_routed(&self) -> bool {
        self.driver == "bridge" && !self.internal
    }
}

pub(super) async fn list(docker: &Docker) -> Result<Vec<Network>, ProbeError> {
    let listed = docker.request("networks", || docker.client.list_networks(None::<ListNetworksOptions>)).await?;
    let mut networks: Vec<Network> = listed.into_iter().map(network).collect();
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(networks)
}

pub(super) fn network(listed: bollard::models::Network) -> Network {
    let options = listed.options.unwrap_or_default();
    let (id, driver) = (listed.id.unwrap_or_default(), listed.driver.unwrap_or_default());
    // moby libnetwork/drivers/bridge: the default name of a bridge is br- and 12 digits of the id
    let default_name = || id.get(..12).map(|short| format!("br-{short}"));
    let interface =
        (driver == "bridge").then(|| options.get("com.docker.network.bridge.name").cloned().or_else(default_name)).flatten();
    let config = listed.ipam.and_then(|i| i.config).unwrap_or_default();
    Network {
        name: listed.name.unwrap_or_default(),
        interface,
        subnets: config.into_iter().filter_map(|c| c.subnet).collect(),
        internal: listed.internal.unwrap_or(false),
        ipv6: listed.enable_ipv6.unwrap_or(false),
        masquerade: options.get("com.docker.network.bridge.enable_ip_masquerade").is_none_or(|v| v != "false"),
        mtu: options.get("com.docker.network.driver.mtu").and_then(|m| m.parse().ok()),
        id,
        driver,
    }
}
