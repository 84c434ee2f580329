//! The virtual cable of each container: its interface is up, and the other end is up and in the bridge of its network.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Impact, Inventory, Judged, Judgement, KeyKind, Object, Role, Severity,
};
use opsctl_core::probe::docker::Container;
use opsctl_core::probe::network::routes::{self, Routing};
use opsctl_core::probe::network::{self, Interface, View};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::{LocalNetwork, SAMPLE_INTERVAL, local_networks, routing};

const DETACHED: Code = Code {
    id: "network.endpoint-detached",
    severities: &[Severity::Crit],
    when: "the interface of a running container in a bridge network is down or missing, or its veth on this host is down or not in the bridge of the network",
    hint: "`docker network disconnect NETWORK CONTAINER`, then `docker network connect` with the same aliases and address, creates a new veth; a program that manages interfaces (NetworkManager, systemd-networkd) must leave veth* alone",
    impacts: &[Impact::confirmed(Role::Detached, KeyKind::Container, "interface is not connected to its network")],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "network.endpoint-detached",
    title: "Interfaces of containers are connected to their bridge",
    codes: &[DETACHED],
    fixes: &[],
    timeout: Duration::from_secs(8),
};

pub(in crate::network) struct EndpointDetached;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::network) struct Evidence {
    /// Endpoints that do not have the expected state in two samples.
    endpoints: Vec<Endpoint>,
    /// Number of inspected endpoints.
    inspected: usize,
    gaps: Vec<String>,
}

/// The connection of a container to a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Endpoint {
    subject: Object,
    /// Full id.
    id: String,
    network: String,
    address: String,
    /// The bridge of the network, if it is known.
    bridge: Option<String>,
    /// The interface with the address; `None` if the container has no interface besides the loopback one.
    inner: Option<Inner>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Inner {
    name: String,
    up: bool,
    outer: Outer,
}

/// The other end, on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Outer {
    name: String,
    up: bool,
    /// The interface that it is a part of, and its kind.
    master: Option<(String, String)>,
}

impl Check for EndpointDetached {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.engine_targets()
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let networks = local_networks(cx).await?;
        let bridged: Vec<&LocalNetwork> = networks.iter().filter(|n| n.network.driver == "bridge").collect();
        let mut e = endpoints(&bridged, &*routing(cx).await?).await;
        if e.inspected == 0 && e.gaps.is_empty() {
            return Err(ProbeError::Skip("no container runs in a bridge network".to_owned()));
        }
        if e.endpoints.is_empty() {
            return Ok(e);
        }
        // a container may be starting, stopping or being connected
        tokio::time::sleep(SAMPLE_INTERVAL).await;
        let docker = cx.docker()?;
        let mut again: Vec<LocalNetwork> = bridged.into_iter().cloned().collect();
        for n in &mut again {
            n.members.retain(|c| e.endpoints.iter().any(|found| found.id == c.id && found.network == n.network.name));
            let now = join_all(n.members.iter().map(|c| docker.inspect_now(&c.id))).await;
            n.members = now.into_iter().flatten().filter(|c| c.networks.contains_key(&n.network.name)).collect();
        }
        let second = endpoints(&again.iter().collect::<Vec<_>>(), &routes::routing().await?).await;
        e.endpoints.retain(|found| second.endpoints.contains(found));
        Ok(e)
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let findings = e.endpoints.iter().filter_map(Endpoint::finding).collect();
        Judgement { findings, gaps: e.gaps.clone(), ..Judgement::default() }
    }
}

/// The endpoints in these networks with a fault.
async fn endpoints(networks: &[&LocalNetwork], routing: &Routing) -> Evidence {
    let mut members: Vec<Arc<Container>> =
        networks.iter().flat_map(|n| n.members.iter().filter(|c| c.is_up()).cloned()).collect();
    members.sort_by(|a, b| a.id.cmp(&b.id));
    members.dedup_by(|a, b| a.id == b.id);
    let views = join_all(members.iter().map(|c| async {
        let pid = c.process()?;
        network::view(Some(pid), Vec::new()).await
    }));
    let mut e = Evidence::default();
    for (container, view) in members.iter().zip(views.await) {
        match view {
            Ok(view) => {
                for n in networks.iter().filter(|n| n.members.iter().any(|c| c.id == container.id)) {
                    e.inspected += 1;
                    let found = endpoint(n, container, &view, routing);
                    e.endpoints.extend(found.filter(|endpoint| endpoint.fault().is_some()));
                }
            }
            Err(ProbeError::Skip(_)) => {}
            // one line: without permission it is the same for all
            Err(why) if e.gaps.is_empty() => e.gaps.push(why.to_string()),
            Err(_) => {}
        }
    }
    e
}

/// `None` if its interface is none of the engine's: a container with the right to do so may move its address.
fn endpoint(n: &LocalNetwork, container: &Container, view: &View, routing: &Routing) -> Option<Endpoint> {
    let address = container.networks.get(&n.network.name)?;
    let ip: IpAddr = address.parse().ok()?;
    let inner = view.interfaces.iter().find(|i| i.addresses.iter().any(|(own, _)| *own == ip));
    let inner = match inner {
        Some(inner) => Some(connected(inner, routing)?),
        None if view.interfaces.iter().all(is_of_kernel) && view.interfaces.iter().any(|i| i.name == "lo") => None,
        None => return None,
    };
    Some(Endpoint {
        subject: container.subject(),
        id: container.id.clone(),
        network: n.network.name.clone(),
        address: address.clone(),
        bridge: n.network.interface.clone(),
        inner,
    })
}

/// Interfaces that the kernel creates in every namespace: the loopback interface, and the fallback devices of tunnel modules.
fn is_of_kernel(interface: &Interface) -> bool {
    interface.name == "lo"
        || !interface.up
            && ["tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"]
                .contains(&interface.name.as_str())
}

fn connected(inner: &Interface, routing: &Routing) -> Option<Inner> {
    // the same index may be that of another interface in a third namespace: both ends name each other
    let is_peer = |i: &&Interface| i.kind == "veth" && Some(i.index) == inner.peer && i.peer == Some(inner.index);
    let outer = routing.interfaces.iter().find(is_peer)?;
    let master = outer.master.and_then(|index| routing.interfaces.iter().find(|i| i.index == index));
    Some(Inner {
        name: inner.name.clone(),
        up: inner.up,
        outer: Outer { name: outer.name.clone(), up: outer.up, master: master.map(|m| (m.name.clone(), m.kind.clone())) },
    })
}

impl Endpoint {
    fn finding(&self) -> Option<Finding> {
        let (why, command) = self.fault()?;
        let Self { subject, id, network, address, .. } = self;
        let message = format!("{} is not connected to network {network}: {why}", subject.name);
        let finding = Finding::new(&DETACHED, Severity::Crit, subject.clone(), message)
            .key(KeyKind::Container, id)
            .key(KeyKind::Names, id)
            .cite("address in the network", address)
            .cite_opt("veth on this host", self.inner.as_ref().map(|i| i.outer.name.clone()));
        Some(match command {
            Some(command) => finding.hint(format!(
                "`{command}`; then find the program that changed it: NetworkManager and systemd-networkd must leave veth* alone"
            )),
            None => finding.hint(format!(
                "`docker network disconnect {network} {0}`, then `docker network connect` with its aliases and address, or restart {0}",
                subject.name
            )),
        })
    }

    /// Clause of the message, and the command that repairs it.
    fn fault(&self) -> Option<(String, Option<String>)> {
        let Some(inner) = &self.inner else {
            return Some(("it has no interface besides the loopback one".to_owned(), None));
        };
        let Outer { name, up, master } = &inner.outer;
        let bridge = self.bridge.as_deref();
        let command = |bridge: &str| Some(format!("ip link set {name} master {bridge}"));
        match master {
            None => {
                let place = bridge.map_or_else(|| "is in no bridge".to_owned(), |bridge| format!("is not in bridge {bridge}"));
                return Some((format!("its veth {name} on this host {place}"), bridge.and_then(command)));
            }
            Some((other, kind)) if kind == "bridge" && bridge.is_some_and(|bridge| bridge != other) => {
                return Some((
                    format!("its veth {name} on this host is in bridge {other} instead of {}", bridge.unwrap_or_default()),
                    bridge.and_then(command),
                ));
            }
            Some(_) => {}
        }
        if !up {
            return Some((format!("its veth {name} on this host is down"), Some(format!("ip link set {name} up"))));
        }
        if !inner.up {
            let pid = format!("nsenter -t $(docker inspect -f '{{{{.State.Pid}}}}' {}) -n", self.subject.name);
            return Some((format!("its interface {} is down", inner.name), Some(format!("{pid} ip link set {} up", inner.name))));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn interface(index: u32, name: &str, kind: &str, peer: Option<u32>) -> Interface {
        Interface { index, name: name.into(), kind: kind.into(), up: true, peer, ..Interface::default() }
    }

    #[test]
    fn ends_name_each_other() {
        let inner = interface(2, "eth0", "veth", Some(7));
        let outer = Interface { master: Some(3), ..interface(7, "veth1", "veth", Some(2)) };
        let routing = Routing { interfaces: vec![interface(3, "br-1", "bridge", None), outer.clone()], ..Routing::default() };
        assert_eq!(connected(&inner, &routing).unwrap().outer.master, Some(("br-1".into(), "bridge".into())));
        let other = Routing { interfaces: vec![Interface { peer: Some(9), ..outer }], ..Routing::default() };
        assert_eq!(connected(&inner, &other), None);
    }

    #[test]
    fn fallback_devices_of_tunnels_are_no_interface() {
        let idle = Interface { up: false, ..interface(3, "tunl0", "ipip", None) };
        assert!(is_of_kernel(&idle) && !is_of_kernel(&Interface { up: true, ..idle }));
        assert!(!is_of_kernel(&interface(2, "eth0", "veth", Some(7))));
    }
}
