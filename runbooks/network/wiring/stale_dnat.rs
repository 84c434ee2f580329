//! Translation of published ports: the first matching rule leads to the container that publishes the port.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Impact, Inventory, Judged, Judgement, KeyKind, Object, Role, Severity,
};
use opsctl_core::probe::docker::{Container, PortMap};
use opsctl_core::probe::network::firewall::{self, Backend, Firewall};
use opsctl_core::probe::network::routes::{MAIN_TABLE, Routing};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::nat::{Fate, NatRule, Packet, fate, leads_to, relevant};
use super::{LocalNetwork, SAMPLE_INTERVAL, Subnet, addresses, local_networks, routing, subnets};

const STALE: Code = Code {
    id: "network.stale-dnat",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the first rule of table nat that matches a published port leads to an address that is not the container's: of no container, or in a chain of the engine (crit); to another container or machine by a rule of another program (warn)",
    hint: "delete the rule by its number in the chain; if it comes back, find its source: a script, /etc/iptables, or a firewall that restores saved rules of Docker",
    impacts: &[Impact::likely(Role::PacketsDropped, KeyKind::Address, "packets to it are translated to another address")],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "network.stale-dnat",
    title: "Published ports are translated to their container",
    codes: &[STALE],
    fixes: &[],
    timeout: Duration::from_secs(8),
};

pub(in crate::network) struct StaleDnat;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::network) struct Evidence {
    published: Vec<Published>,
    /// The rules of table nat that may match a published port.
    rules: Vec<NatRule>,
    /// The backend with the rules of the engine.
    of_engine: Option<Backend>,
    /// Interfaces with a default route, each with its addresses.
    uplinks: Vec<(String, Vec<Ipv4Addr>)>,
    /// Addresses of running and paused containers, with their names.
    containers: Vec<(IpAddr, String)>,
    /// Subnets of the networks of the engines.
    subnets: Vec<Subnet>,
    /// Why the rules may be incomplete.
    gaps: Vec<String>,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Published {
    subject: Object,
    /// Full id.
    id: String,
    addresses: Vec<IpAddr>,
    protocol: String,
    port: PortMap,
}

impl Check for StaleDnat {
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
        let e = evidence(&members(&networks), &networks, &routing, &*cx.firewall().await?);
        if e.published.is_empty() {
            return Err(ProbeError::Skip("no container publishes a port".to_owned()));
        }
        if e.wrong().next().is_none() {
            return Ok(e);
        }
        // a container may have been recreated since it was inspected
        tokio::time::sleep(SAMPLE_INTERVAL).await;
        let docker = cx.docker()?;
        let again = futures_util::future::join_all(members(&networks).into_iter().map(|c| async move {
            docker.inspect_now(&c.id).await.ok().filter(|now| now.state.started_at == c.state.started_at)
        }));
        let again: Vec<Arc<Container>> = again.await.into_iter().flatten().collect();
        Ok(evidence(&again, &networks, &routing, &firewall::read().await?))
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let findings = e.wrong().map(|wrong| wrong.finding(e)).collect();
        Judgement { findings, gaps: e.gaps.clone(), ..Judgement::default() }
    }
}

fn members(networks: &[LocalNetwork]) -> Vec<Arc<Container>> {
    let mut all: Vec<Arc<Container>> = networks.iter().flat_map(|n| n.members.iter().cloned()).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.id.cmp(&b.id)));
    all.dedup_by(|a, b| a.id == b.id);
    all
}

fn evidence(containers: &[Arc<Container>], networks: &[LocalNetwork], routing: &Routing, firewall: &Firewall) -> Evidence {
    let mut e = Evidence { of_engine: firewall.of_engine(), gaps: firewall.gaps.clone(), ..Evidence::default() };
    e.uplinks = uplinks(routing);
    e.subnets = networks.iter().filter(|n| n.network.driver == "bridge").flat_map(|n| subnets(&n.network)).collect();
    for c in containers {
        let own = addresses(c);
        e.containers.extend(own.iter().map(|ip| (*ip, c.name.clone())));
        for (protocol, ports) in [("tcp", &c.ports), ("udp", &c.udp_ports)] {
            // the rules of IPv6 are not read
            let v4 =
                ports.iter().filter(|p| p.host_ip.is_empty() || p.host_ip.parse::<Ipv4Addr>().is_ok_and(|ip| !ip.is_loopback()));
            e.published.extend(v4.map(|port| Published {
                subject: c.subject(),
                id: c.id.clone(),
                addresses: own.clone(),
                protocol: protocol.to_owned(),
                port: port.clone(),
            }));
        }
    }
    let packets: Vec<Packet<'_>> = e.published.iter().flat_map(|p| p.packets(&e)).collect();
    e.rules = relevant(firewall, &packets);
    e
}

/// Interfaces that lead to clients, with their addresses: those of the default routes, or without one every interface that is not
/// one of containers.
pub(super) fn uplinks(routing: &Routing) -> Vec<(String, Vec<Ipv4Addr>)> {
    let mut names: Vec<&str> =
        routing.routes.iter().filter(|r| r.table == MAIN_TABLE && r.to.1 == 0).map(|r| r.interface.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        let outer = routing.interfaces.iter().filter(|i| i.up && i.name != "lo" && i.kind != "bridge" && i.master.is_none());
        names = outer.map(|i| i.name.as_str()).collect();
    }
    let v4 = |name: &str| {
        let all = routing.interface(name).map(|i| i.addresses.as_slice()).unwrap_or_default();
        all.iter().filter_map(|(ip, _)| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None }).collect()
    };
    names.into_iter().map(|name| (name.to_owned(), v4(name))).collect()
}

impl Published {
    /// Packets of clients on each uplink, to each address on which the port is published.
    fn packets<'a>(&'a self, e: &'a Evidence) -> Vec<Packet<'a>> {
        let only = self.port.host_ip.parse::<Ipv4Addr>().ok().filter(|ip| !ip.is_unspecified());
        let to = |own: &[Ipv4Addr]| only.map_or_else(|| own.to_vec(), |ip| vec![ip]);
        let of_uplink = |(input, own): &'a (String, Vec<Ipv4Addr>)| {
            to(own).into_iter().map(move |to| Packet { input, protocol: &self.protocol, to, port: self.port.host })
        };
        e.uplinks.iter().flat_map(of_uplink).collect()
    }
}

/// A published port with packets that go elsewhere.
struct Wrong<'a> {
    published: &'a Published,
    rule: &'a NatRule,
    to: Ipv4Addr,
    port: Option<u16>,
}

impl Evidence {
    /// Published ports of which no packet reaches the container by the rules.
    fn wrong(&self) -> impl Iterator<Item = Wrong<'_>> {
        self.published.iter().filter_map(|published| {
            let packets = published.packets(self);
            let mut all = packets.iter().map(|packet| self.misled(published, packet)).collect::<Option<Vec<_>>>()?;
            // one right address is enough: a host with several ones may forward one of them on purpose
            (!all.is_empty()).then(|| all.swap_remove(0))
        })
    }

    fn misled<'a>(&'a self, published: &'a Published, packet: &Packet<'_>) -> Option<Wrong<'a>> {
        // the chains of Podman do not identify an engine
        let backend = self.of_engine.or_else(|| Some(self.rules.first()?.backend)).filter(|b| *b != Backend::Native)?;
        let Fate::Translated { rule, first, last, port } = fate(&self.rules, backend, packet) else { return None };
        // the order of both variants of iptables is that of their first use since boot
        let other = if backend == Backend::Nft { Backend::Legacy } else { Backend::Nft };
        let alone = fate(&self.rules, other, packet) == Fate::Kept;
        // services of a swarm and of Kubernetes precede the containers on purpose
        let by_cluster = rule.chain == "DOCKER-INGRESS" || rule.chain.starts_with("KUBE-");
        let right = leads_to(first, last, &published.addresses);
        (alone && !by_cluster && !right).then_some(Wrong { published, rule, to: first, port })
    }
}

impl Wrong<'_> {
    fn finding(&self, e: &Evidence) -> Finding {
        let Published { subject, id, port, protocol, .. } = self.published;
        let owner = e.containers.iter().find(|(ip, _)| *ip == IpAddr::V4(self.to)).map(|(_, name)| name.as_str());
        let of_engine =
            self.rule.chain == "DOCKER" || ["CNI-", "NETAVARK-"].iter().any(|start| self.rule.chain.starts_with(start));
        let in_network = e.subnets.iter().any(|subnet| subnet.has(self.to));
        let severity = if of_engine || owner.is_none() && in_network { Severity::Crit } else { Severity::Warn };
        let to = self.port.map_or_else(|| self.to.to_string(), |port| format!("{}:{port}", self.to));
        let leads = match owner {
            Some(other) => format!("which is {other}"),
            None if in_network => "which belongs to no container: clients of other machines time out".to_owned(),
            None => "which is in no network of the engine".to_owned(),
        };
        let rule = self.rule;
        let message = format!("port {}/{protocol} of {} is translated to {to}, {leads}", port.host, subject.name);
        let program = rule.backend.program();
        let mut finding = Finding::new(&STALE, severity, subject.clone(), message)
            .key(KeyKind::Container, id)
            .cite("rule", format!("table nat, chain {}, number {} ({program}): {}", rule.chain, rule.position, rule.text))
            .cite("the container has", self.published.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
            .hint(format!(
                "`{program} -t nat -D {} {}`, after `{program} -t nat -L {0} -n --line-numbers` shows the rule at this number; then find the program that adds it",
                rule.chain, rule.position
            ));
        let addresses = e.uplinks.iter().flat_map(|(_, own)| own);
        for address in addresses {
            finding = finding.key(KeyKind::Address, format!("{address}:{}", port.host));
        }
        if severity == Severity::Crit { finding } else { finding.likely() }
    }
}
