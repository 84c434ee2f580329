//! Free subnets in the address pools of the engine, and free addresses in its networks.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, KeyKind, Object, Severity, quantity};
use opsctl_core::probe::network::routes::{MAIN_TABLE, Routing};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::{LocalNetwork, Subnet, local_networks, routing, subnets};
use crate::network::Settings;

const POOLS: Code = Code {
    id: "network.address-pools",
    severities: &[Severity::Info, Severity::Warn],
    when: "no subnet is left in the address pools of the engine, or no address in a network: the next network or container cannot be created (warn); at most {free_subnets_info} subnets or {free_addresses_info} addresses are left (info)",
    hint: "`docker network prune` removes unused networks; smaller subnets are set with default-address-pools in daemon.json, and apply to new networks after a restart of the engine",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "network.address-pools",
    title: "Address pools have free subnets and addresses",
    codes: &[POOLS],
    fixes: &[],
    timeout: Duration::from_secs(6),
};

/// Pools of an engine without `default-address-pools` (moby `libnetwork/ipamutils`: localScopeDefaultNetworks), with the prefix length
/// of a subnet.
const DEFAULT_POOLS: &[(&str, u8)] = &[
    ("172.17.0.0/16", 16),
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
    ("192.168.0.0/16", 20),
];

/// Networks with fewer addresses than this are small on purpose: a subnet of /30 has one address for a container.
const MIN_CAPACITY: usize = 3;

pub(in crate::network) struct AddressPools {
    pub(in crate::network) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::network) struct Evidence {
    engines: Vec<EnginePools>,
    networks: Vec<Usage>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct EnginePools {
    endpoint: String,
    /// Configured pools; empty for those of the engine.
    pools: Vec<(String, u8)>,
    /// Number of networks.
    networks: usize,
    /// Their subnets, and those of the routes to directly connected networks.
    used: Vec<Subnet>,
    /// Destinations of the other routes, which engines before 27.0 do not assign either (moby `libnetwork/netutils`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routed: Vec<Subnet>,
}

/// Addresses of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Usage {
    network: String,
    endpoint: String,
    subnet: String,
    /// Addresses for containers.
    capacity: usize,
    /// Running and paused containers.
    used: usize,
}

impl Check for AddressPools {
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
        // Podman has pools of its own, and 65 thousand subnets in them
        let docker: Vec<&LocalNetwork> = networks.iter().filter(|n| !n.is_podman).collect();
        let mut endpoints: Vec<&str> = docker.iter().map(|n| n.engine.as_str()).collect();
        endpoints.dedup();
        let routed: Vec<Subnet> = destinations(&routing, false).collect();
        let engine = |endpoint: &str| {
            let own: Vec<&LocalNetwork> = docker.iter().copied().filter(|n| n.engine == endpoint && is_local(n)).collect();
            let mut used: Vec<Subnet> = own.iter().flat_map(|n| subnets(&n.network)).collect();
            used.extend(destinations(&routing, true));
            used.sort_unstable();
            used.dedup();
            EnginePools {
                endpoint: endpoint.to_owned(),
                pools: own.first().map(|n| n.pools.clone()).unwrap_or_default(),
                networks: own.iter().filter(|n| n.network.driver != "null" && n.network.driver != "host").count(),
                used,
                routed: routed.clone(),
            }
        };
        let engines = endpoints.into_iter().map(engine).collect();
        Ok(Evidence { engines, networks: networks.iter().filter(|n| is_local(n)).filter_map(usage).collect() })
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut findings: Vec<Finding> = e.engines.iter().filter_map(|engine| self.pools(engine)).collect();
        findings.extend(e.networks.iter().filter_map(|usage| self.addresses(usage)));
        findings.into()
    }
}

/// Networks of a swarm have pools of their own.
fn is_local(n: &LocalNetwork) -> bool {
    n.network.driver != "overlay"
}

/// Destinations of the routes that are directly connected, or of those with a gateway. The engine assigns none of the former.
fn destinations(routing: &Routing, connected: bool) -> impl Iterator<Item = Subnet> {
    let routes = routing.routes.iter().filter(move |r| r.table == MAIN_TABLE && r.gateway.is_none() == connected && r.to.1 > 0);
    routes.filter_map(|r| if let IpAddr::V4(base) = r.to.0 { Some(Subnet::new(base, r.to.1)) } else { None })
}

/// Addresses of the first subnet that the engine assigns to containers.
fn usage(n: &LocalNetwork) -> Option<Usage> {
    let network = &n.network;
    let subnet = subnets(network).next()?;
    let range = network.ranges.first().and_then(|range| Subnet::parse(range)).unwrap_or(subnet);
    let mut own: Vec<Ipv4Addr> = network.gateways.iter().filter_map(|g| g.parse().ok()).collect();
    // without a reported gateway it is the first address
    if own.is_empty() {
        own.push(Ipv4Addr::from_bits(subnet.base.to_bits().saturating_add(1)));
    }
    own.push(subnet.base);
    own.push(subnet.last());
    own.sort_unstable();
    own.dedup();
    let excluded = own.iter().filter(|ip| range.has(**ip)).count() + network.reserved;
    let size = 1_usize.checked_shl(32 - u32::from(range.prefix)).unwrap_or(usize::MAX);
    let has_v4 = n.members.iter().filter(|c| c.networks.get(&network.name).is_some_and(|ip| ip.contains('.')));
    Some(Usage {
        network: network.name.clone(),
        endpoint: n.engine.clone(),
        subnet: range.to_string(),
        capacity: size.saturating_sub(excluded),
        used: has_v4.count(),
    })
}

impl EnginePools {
    /// The free subnets of the pools, at most `limit`, and the number of all subnets.
    fn free(&self, limit: usize, used: &[Subnet]) -> (usize, u64) {
        let of_engine = || DEFAULT_POOLS.iter().map(|(base, size)| ((*base).to_owned(), *size)).collect();
        let pools: Vec<(String, u8)> = if self.pools.is_empty() { of_engine() } else { self.pools.clone() };
        let (mut free, mut all) = (0, 0_u64);
        for (base, size) in &pools {
            let Some(pool) = Subnet::parse(base).filter(|pool| pool.prefix <= *size && *size <= 32) else { continue };
            let count = 1_u64 << (size - pool.prefix);
            all += count;
            let step = 32 - u32::from(*size);
            for number in 0..count {
                if free >= limit {
                    break;
                }
                let Ok(offset) = u32::try_from(number << step) else { break };
                let subnet = Subnet::new(Ipv4Addr::from_bits(pool.base.to_bits() | offset), *size);
                free += usize::from(!used.iter().any(|used| used.overlaps(subnet)));
            }
        }
        (free, all)
    }
}

/// A VPN that is the default route by `0.0.0.0/1` and `128.0.0.0/1` leaves no subnet for an engine before 27.0 (compose#6153).
fn by_routes(engine: &EnginePools, subject: Object) -> Option<Finding> {
    let both = [engine.used.as_slice(), engine.routed.as_slice()].concat();
    if engine.routed.is_empty() || engine.free(1, &both).0 > 0 {
        return None;
    }
    let routes: Vec<String> = engine.routed.iter().map(ToString::to_string).collect();
    let message = format!(
        "routes over gateways overlap with all address pools: Docker before 27.0 cannot create a network ({})",
        quantity::some_of(&routes, 3)
    );
    Some(Finding::new(&POOLS, Severity::Info, subject, message).key(KeyKind::Engine, &engine.endpoint).likely())
}

impl AddressPools {
    fn pools(&self, engine: &EnginePools) -> Option<Finding> {
        let limit = self.settings.free_subnets_info;
        let (free, all) = engine.free(limit + 1, &engine.used);
        // only IPv6, or a pool that cannot be read
        if all == 0 || engine.networks == 0 {
            return None;
        }
        let subject = Object::new(opsctl_core::model::Kind::Engine, "docker", engine.endpoint.clone());
        if free > limit {
            return by_routes(engine, subject);
        }
        let pools = if engine.pools.is_empty() { "default address pools" } else { "configured address pools" };
        let of = format!(
            "of {all} in the {pools}, {} and the routes of this host use the others",
            quantity::count(engine.networks, "network")
        );
        let (severity, message) = match free {
            0 => (Severity::Warn, format!("no free subnet {of}: the next network cannot be created")),
            _ => (Severity::Info, format!("{} left {of}", quantity::count(free, "free subnet"))),
        };
        Some(Finding::new(&POOLS, severity, subject, message).key(KeyKind::Engine, &engine.endpoint))
    }

    fn addresses(&self, usage: &Usage) -> Option<Finding> {
        let Usage { network, endpoint, subnet, capacity, used } = usage;
        let left = capacity.saturating_sub(*used);
        let few = self.settings.free_addresses_info;
        // few addresses of a small network are its normal state
        if *capacity < MIN_CAPACITY || left > few || left > 0 && *capacity <= 4 * few {
            return None;
        }
        let severity = if left == 0 { Severity::Warn } else { Severity::Info };
        let state = match left {
            0 => "no address left: the next container cannot start".to_owned(),
            1 => "1 address left".to_owned(),
            _ => format!("{left} addresses left"),
        };
        let message = format!("network {network} ({subnet}) has {used} of {capacity} addresses in use, {state}");
        let subject = Object::new(opsctl_core::model::Kind::Engine, "docker", format!("{endpoint}#{network}"));
        let hint = format!("stop unused containers of {network}, or recreate it with a larger `--subnet` or `--ip-range`");
        Some(Finding::new(&POOLS, severity, subject, message).key(KeyKind::Engine, endpoint).hint(hint))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn subnet(text: &str) -> Subnet {
        Subnet::parse(text).unwrap()
    }

    #[test]
    fn default_pools_have_31_subnets() {
        let engine = EnginePools { used: vec![subnet("172.17.0.0/16")], networks: 1, ..EnginePools::default() };
        assert_eq!(engine.free(100, &engine.used), (30, 31));
        let vpn = EnginePools { used: vec![subnet("172.16.0.0/12"), subnet("192.168.0.0/16")], ..engine };
        assert_eq!(vpn.free(100, &vpn.used), (0, 31));
    }

    #[test]
    fn vpn_as_default_route_concerns_old_engines() {
        let target = Object::named(opsctl_core::model::Kind::Engine, "docker");
        let routed = vec![subnet("0.0.0.0/1"), subnet("128.0.0.0/1")];
        let engine = EnginePools { networks: 1, routed, ..EnginePools::default() };
        assert!(by_routes(&engine, target.clone()).is_some_and(|f| f.severity == Severity::Info));
        let routed = vec![subnet("10.0.0.0/8")];
        assert!(by_routes(&EnginePools { routed, ..engine.clone() }, target.clone()).is_none());
        assert!(by_routes(&EnginePools { routed: vec![], ..engine }, target).is_none());
    }

    #[test]
    fn configured_pools_replace_the_default() {
        let pools = vec![("10.200.0.0/16".to_owned(), 24), ("odd".to_owned(), 24), ("10.1.0.0/24".to_owned(), 16)];
        let engine = EnginePools { pools, used: vec![subnet("10.200.7.0/24")], networks: 1, ..EnginePools::default() };
        assert_eq!((engine.free(1000, &engine.used), engine.free(5, &engine.used)), ((255, 256), (5, 256)));
        let whole = EnginePools { pools: vec![("0.0.0.0/0".to_owned(), 32)], ..EnginePools::default() };
        assert_eq!(whole.free(3, &[]).0, 3);
    }
}
