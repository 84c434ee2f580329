//! The engine's networks.

use serde::{Deserialize, Serialize};

/// A network, as far as checks use it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// `bridge`, `macvlan`, `host`, …
    pub driver: String,
    /// Containers in it have addresses of IPv6.
    pub ipv6: bool,
    /// It has no way out on purpose.
    pub internal: bool,
}

pub(super) fn facts(network: bollard::models::Network) -> Option<Network> {
    Some(Network {
        name: network.name?,
        driver: network.driver.unwrap_or_default(),
        ipv6: network.enable_ipv6.unwrap_or(false),
        internal: network.internal.unwrap_or(false),
    })
}
