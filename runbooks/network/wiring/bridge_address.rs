//! Bridges of container networks: up, and with the gateway address of the network.

use std::net::IpAddr;
use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Impact, Inventory, Judged, Judgement, KeyKind, Kind, Object, Role, Severity, quantity,
};
use opsctl_core::probe::network::routes::Routing;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::{LocalNetwork, Subnet, local_networks, routing};

const ADDRESS: Code = Code {
    id: "network.bridge-address",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the bridge of a network with running containers does not exist, is down, or lacks the gateway address of the network: the containers have no egress (crit; warn for the IPv6 gateway of a network that also has IPv4)",
    hint: "restore the address with `ip addr add GATEWAY/PREFIX dev BRIDGE`, or restart the engine, which sets it at its start; a restart of the containers does not help",
    impacts: &[Impact::likely(Role::Detached, KeyKind::Container, "network has no gateway on this host")],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "network.bridge-address",
    title: "Bridges of networks have their gateway address",
    codes: &[ADDRESS],
    fixes: &[],
    timeout: Duration::from_secs(6),
};

pub(in crate::network) struct BridgeAddress;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::network) struct Evidence {
    bridges: Vec<Bridge>,
}

/// The bridge of a network with running containers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Bridge {
    network: String,
    interface: String,
    gateways: Vec<IpAddr>,
    subnets: Vec<String>,
    /// `None` if the interface does not exist.
    state: Option<BridgeState>,
    /// Running containers: name and full id.
    members: Vec<(String, String)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct BridgeState {
    up: bool,
    addresses: Vec<(IpAddr, u8)>,
    /// Interfaces in it that are not those of containers: the gateway may be another machine behind them.
    uplinks: Vec<String>,
}

impl Check for BridgeAddress {
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
        let bridges: Vec<Bridge> = networks.iter().filter_map(|n| bridge(n, &routing)).collect();
        if bridges.is_empty() {
            return Err(ProbeError::Skip("no bridge network with a known bridge has running containers".to_owned()));
        }
        Ok(Evidence { bridges })
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        e.bridges.iter().filter_map(Bridge::finding).collect::<Vec<_>>().into()
    }
}

/// A network with an address of its bridge as the gateway of its containers.
fn bridge(n: &LocalNetwork, routing: &Routing) -> Option<Bridge> {
    let network = &n.network;
    if !network.is_routed() || network.unaddressed || n.members.is_empty() {
        return None;
    }
    let interface = network.interface.clone()?;
    let state = routing.interface(&interface).map(|bridge| BridgeState {
        up: bridge.up,
        addresses: bridge.addresses.clone(),
        uplinks: routing
            .interfaces
            .iter()
            .filter(|i| i.master == Some(bridge.index) && i.kind != "veth")
            .map(|i| i.name.clone())
            .collect(),
    });
    Some(Bridge {
        network: network.name.clone(),
        interface,
        // old engines append the prefix length
        gateways: network.gateways.iter().filter_map(|g| g.split('/').next()?.parse().ok()).collect(),
        subnets: network.subnets.clone(),
        state,
        members: n.members.iter().map(|c| (c.name.clone(), c.id.clone())).collect(),
    })
}

impl Bridge {
    fn finding(&self) -> Option<Finding> {
        let (severity, why, hint) = self.fault()?;
        let names: Vec<String> = self.members.iter().map(|(name, _)| name.clone()).collect();
        let message = format!(
            "bridge {} of network {} {why}: {} without egress: {}",
            self.interface,
            self.network,
            quantity::count(names.len(), "container"),
            quantity::some_of(&names, 3)
        );
        let addresses = self.state.iter().flat_map(|s| &s.addresses).map(|(ip, prefix)| format!("{ip}/{prefix}"));
        let mut finding = Finding::new(&ADDRESS, severity, Object::named(Kind::Interface, &self.interface), message)
            .cite("gateway of the network", self.gateways.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
            .cite("addresses of the bridge", addresses.collect::<Vec<_>>().join(", "))
            .hint(hint);
        for (_, id) in &self.members {
            finding = finding.key(KeyKind::Container, id).key(KeyKind::Names, id);
        }
        Some(finding)
    }

    /// Severity, clause of the message, and hint.
    fn fault(&self) -> Option<(Severity, String, String)> {
        let name = &self.interface;
        let restart = "a restart of its containers does not help";
        let Some(state) = &self.state else {
            let hint = format!("restart the engine, which creates the bridge at its start; {restart}");
            return Some((Severity::Crit, "does not exist".to_owned(), hint));
        };
        if !state.up {
            return Some((Severity::Crit, "is down".to_owned(), format!("`ip link set {name} up`; {restart}")));
        }
        if !state.uplinks.is_empty() {
            return None;
        }
        let has = |ip: &IpAddr| state.addresses.iter().any(|(own, _)| own == ip);
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = self.gateways.iter().partition(|ip| ip.is_ipv4());
        let own_v4 = || state.addresses.iter().filter_map(|(ip, _)| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None });
        let subnets: Vec<Subnet> = self.subnets.iter().filter_map(|text| Subnet::parse(text)).collect();
        let only_v6 = subnets.is_empty();
        let lost = v4.iter().find(|ip| !has(ip)).map(|ip| (Severity::Crit, *ip));
        let severity_v6 = if only_v6 { Severity::Crit } else { Severity::Warn };
        let lost = lost.or_else(|| v6.iter().find(|ip| !has(ip)).map(|ip| (severity_v6, *ip)));
        if let Some((severity, gateway)) = lost {
            let why = format!("does not have the gateway address {gateway}");
            let hint = format!(
                "`ip addr add {gateway}/{} dev {name}`, or restart the engine, which sets it at its start; {restart}",
                self.prefix(gateway)
            );
            return Some((severity, why, hint));
        }
        // the gateway of the default bridge is not reported by every version
        let bare = v4.is_empty().then(|| subnets.iter().find(|subnet| !own_v4().any(|ip| subnet.has(ip)))).flatten()?;
        let why = format!("has no address in {bare}");
        Some((Severity::Crit, why, format!("restart the engine, which sets the address at its start; {restart}")))
    }

    /// Prefix length of the subnet of a gateway.
    fn prefix(&self, gateway: IpAddr) -> String {
        let of = |subnet: &&String| match gateway {
            IpAddr::V4(ip) => Subnet::parse(subnet).is_some_and(|s| s.has(ip)),
            IpAddr::V6(_) => subnet.contains(':'),
        };
        let length = self.subnets.iter().find(of).and_then(|subnet| subnet.split_once('/'));
        length.map_or_else(|| "PREFIX".to_owned(), |(_, length)| length.to_owned())
    }
}
