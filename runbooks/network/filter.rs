//! The packet filter of this host on the way of needed connections and of their replies.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Finding, Impact, Judged, Judgement, KeyKind, Object, Role, Severity};
use opsctl_core::probe::docker::{Container, Network};
use opsctl_core::probe::needs::Dependency;
use opsctl_core::probe::network::firewall::HostViewCache;
use opsctl_core::probe::network::firewall::ruleset::{
    AddressType, ConnectionFate, Decision, Flow, HostView, Leg, Routed, Ruleset, Verdict,
};
use opsctl_core::probe::network::routes::RoutingCache;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::triage::hosts_key;

const DROP: Code = Code {
    id: "network.filter-drop",
    severities: &[Severity::Warn, Severity::Crit],
    when: "a rule or policy of the packet filter drops the replies to connections of this host, of its containers or to a published port (crit), or a connection that a container is known to need from this host (crit; warn if its port is assumed)",
    hint: "accept RELATED,ESTABLISHED before rules that drop; a rule that restricts new connections does not have to match replies",
    // a connection of one container explains no failure of others: a link of its own
    impacts: &[Impact::likely(Role::PacketsDropped, KeyKind::Host, "the packet filter drops replies")],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "network.filter",
    title: "The packet filter passes needed connections and their replies",
    codes: &[DROP],
    fixes: &[],
    timeout: Duration::from_secs(6),
};

/// Peers of evaluated connections: public name servers, which no list of reserved networks contains, and private addresses (RFC 1918),
/// which rules of an isolated host permit. Nothing is sent to them. A rule for some addresses does not concern all of them.
const PEERS: [Ipv4Addr; 6] = [
    Ipv4Addr::new(1, 1, 1, 1),
    Ipv4Addr::new(8, 8, 8, 8),
    Ipv4Addr::new(9, 9, 9, 9),
    Ipv4Addr::new(10, 255, 0, 1),
    Ipv4Addr::new(172, 31, 255, 1),
    Ipv4Addr::new(192, 168, 255, 1),
];

/// Limit of published ports that are evaluated.
const MAX_PORTS: usize = 64;

/// Limit of dependencies that are evaluated.
const MAX_NEEDS: usize = 100;

pub(super) struct Filter;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    /// Connections that are discarded.
    dropped: Vec<Dropped>,
    /// Number of evaluated connections.
    evaluated: usize,
    gaps: Vec<String>,
}

/// A connection that does not work because of the rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Dropped {
    purpose: Purpose,
    verdict: Verdict,
    leg: Leg,
    decision: Decision,
}

/// Purpose of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
enum Purpose {
    /// From this host to other networks.
    HostEgress,
    /// From the containers of a network to other networks.
    ContainerEgress { network: String },
    /// From other networks to a published port.
    Published { subject: Object, id: String, port: u16 },
    /// From a container to this host.
    Need { subject: Object, id: String, label: String, host: String, address: Ipv4Addr, port: u16, assumed: bool },
}

/// The rules, the host and its uplink.
struct Scene {
    rules: Arc<Ruleset>,
    host: Arc<HostView>,
    uplink: String,
    own: Ipv4Addr,
}

impl Check for Filter {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let firewall = cx.firewall().await?;
        let mut e = Evidence { gaps: firewall.gaps.clone(), ..Evidence::default() };
        e.gaps.extend(firewall.ruleset.gaps().iter().cloned());
        if firewall.ruleset.is_empty() {
            return Ok(e);
        }
        let routing = cx.shared.get::<RoutingCache>().get().await?;
        let host = cx.shared.get::<HostViewCache>().get(&routing).await?;
        let Some((uplink, own)) = uplink(&host) else {
            return Err(ProbeError::Skip("this host has no IPv4 route to other networks".to_owned()));
        };
        let scene = Scene { rules: firewall.ruleset.clone(), host, uplink, own };
        let networks = cx.routed_networks().await.unwrap_or_default();
        e.egress(&scene, &networks);
        e.published(&scene, &networks);
        let needs = cx.needs().await.map(|graph| graph.list.clone()).unwrap_or_default();
        for need in needs.iter().filter(|n| n.target.is_none()).take(MAX_NEEDS) {
            e.need(cx, &scene, &networks, need).await;
        }
        Ok(e)
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        Judgement { findings: e.dropped.iter().map(Dropped::finding).collect(), gaps: e.gaps.clone(), ..Judgement::default() }
    }
}

/// The interface of the default route in the main table, and the address of this host on it.
fn uplink(host: &HostView) -> Option<(String, Ipv4Addr)> {
    let peer = IpAddr::V4(PEERS[0]);
    let Routed::Via(interfaces) = host.route(peer) else { return None };
    // over several tables the verdict may depend on rules of policy routing
    let [interface] = interfaces.as_slice() else { return None };
    match host.source_for(interface, peer)? {
        IpAddr::V4(own) => Some(((*interface).to_owned(), own)),
        IpAddr::V6(_) => None,
    }
}

impl Evidence {
    /// Keeps the fate if the connections to all peers are discarded, after a first packet that passes: a rule for new connections is
    /// intended, one for replies is not.
    fn replies(&mut self, scene: &Scene, purpose: &Purpose, flow: impl Fn(IpAddr) -> Flow) {
        let mut fates = Vec::new();
        for peer in PEERS.map(IpAddr::V4) {
            if scene.host.route(peer) != Routed::Via(vec![&scene.uplink]) {
                continue;
            }
            self.evaluated += 1;
            let fate = scene.rules.connection(&flow(peer), &scene.host);
            if !fate.is_discarded() || fate.leg == Leg::First {
                return;
            }
            fates.push(fate);
        }
        self.keep(purpose, fates);
    }

    fn keep(&mut self, purpose: &Purpose, fates: Vec<ConnectionFate>) {
        let Some(ConnectionFate { verdict, leg, decision: Some(decision), .. }) = fates.into_iter().next() else { return };
        self.dropped.push(Dropped { purpose: purpose.clone(), verdict, leg, decision });
    }

    fn egress(&mut self, scene: &Scene, networks: &[(Network, Vec<Arc<Container>>)]) {
        let own = IpAddr::V4(scene.own);
        self.replies(scene, &Purpose::HostEgress, |peer| Flow::tcp(None, own, peer, 443));
        for (network, members) in networks {
            let Some(bridge) = network.interface.as_deref().filter(|name| scene.host.interface(name).is_some()) else { continue };
            // one container stands for its network
            let Some(source) = members.iter().find_map(|c| c.networks.get(&network.name)?.parse().ok()) else { continue };
            let purpose = Purpose::ContainerEgress { network: network.name.clone() };
            self.replies(scene, &purpose, |peer| Flow::tcp(Some(bridge), source, peer, 443));
        }
    }

    fn published(&mut self, scene: &Scene, networks: &[(Network, Vec<Arc<Container>>)]) {
        let mut containers: Vec<&Arc<Container>> = networks.iter().flat_map(|(_, members)| members).collect();
        containers.sort_by(|a, b| a.id.cmp(&b.id));
        containers.dedup_by(|a, b| a.id == b.id);
        let ports = containers.into_iter().flat_map(|c| c.ports.iter().map(move |port| (c, port)));
        let ports = ports.filter(|(_, p)| p.host_ip.is_empty() || p.host_ip == "0.0.0.0" || p.host_ip == scene.own.to_string());
        for (container, port) in ports.take(MAX_PORTS) {
            let (to, port) = (IpAddr::V4(scene.own), port.host);
            let purpose = Purpose::Published { subject: container.subject(), id: container.id.clone(), port };
            self.replies(scene, &purpose, |peer| Flow::tcp(Some(&scene.uplink), peer, to, port));
        }
    }

    /// A dependency of a container on an address of this host.
    async fn need(&mut self, cx: &ProbeCx, scene: &Scene, networks: &[(Network, Vec<Arc<Container>>)], need: &Dependency) {
        let Some(id) = need.consumer.container.as_deref() else { return };
        let addresses = match need.host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => cx.in_hosts_file(need.consumer.pid, &need.host).await,
        };
        let is_own = |ip: &&IpAddr| ip.is_ipv4() && !ip.is_loopback() && scene.host.address_type(**ip) == AddressType::Local;
        let Some(IpAddr::V4(address)) = addresses.iter().find(is_own).copied() else { return };
        let mut fates = Vec::new();
        let mut subject = None;
        for (network, members) in networks {
            let Some(bridge) = network.interface.as_deref() else { continue };
            let Some(container) = members.iter().find(|c| c.id == id) else { continue };
            let Some(source) = container.networks.get(&network.name).and_then(|ip| ip.parse().ok()) else { continue };
            self.evaluated += 1;
            subject = Some(container.subject());
            fates.push(scene.rules.connection(&Flow::tcp(Some(bridge), source, address.into(), need.port), &scene.host));
        }
        // over which network it connects is not known
        if let Some(subject) = subject.filter(|_| fates.iter().all(ConnectionFate::is_discarded)) {
            let purpose = Purpose::Need {
                subject,
                id: id.to_owned(),
                label: need.label(),
                host: need.host.clone(),
                address,
                port: need.port,
                assumed: need.is_assumed(),
            };
            self.keep(&purpose, fates);
        }
    }
}

impl Dropped {
    fn finding(&self) -> Finding {
        let decision = &self.decision;
        let verb = if self.verdict == Verdict::Reject { "rejects" } else { "drops" };
        let packets = if self.leg == Leg::Following { "later packets" } else { "the replies" };
        let place = format!("chain {} of table {} ({})", decision.chain, decision.table, decision.backend.program());
        let finding = match &self.purpose {
            Purpose::HostEgress => {
                let message = format!("{place} {verb} {packets} of connections from this host to other networks");
                Finding::new(&DROP, Severity::Crit, Object::host(), message).key(KeyKind::Host, "host")
            }
            Purpose::ContainerEgress { network } => {
                let message = format!("{place} {verb} {packets} of connections from containers in {network} to other networks");
                Finding::new(&DROP, Severity::Crit, Object::host(), message).key(KeyKind::Host, "host")
            }
            Purpose::Published { subject, id, port } => {
                let message = format!("{place} {verb} {packets} of connections to published port {port} of {}", subject.name);
                Finding::new(&DROP, Severity::Crit, subject.clone(), message).key(KeyKind::Container, id)
            }
            Purpose::Need { subject, id, label, host, address, port, assumed } => {
                let severity = if *assumed { Severity::Warn } else { Severity::Crit };
                let packets = if self.leg == Leg::First { "connections" } else { packets };
                let message = format!("{place} {verb} {packets} of {label} to {host}:{port} on this host");
                let finding = Finding::new(&DROP, severity, subject.clone(), message).key(KeyKind::Container, id);
                let finding = finding.cite("address", address.to_string()).key(KeyKind::Address, hosts_key(id, host));
                if *assumed { finding.likely() } else { finding }
            }
        };
        finding.cite("rule", decision.to_string()).cite("written by", decision.writer.to_string()).hint(self.hint())
    }

    fn hint(&self) -> String {
        use opsctl_core::probe::network::firewall::ruleset::Writer;
        match (&self.purpose, self.leg, self.decision.writer) {
            (Purpose::Need { port, .. }, Leg::First, Writer::Ufw) => {
                format!("`ufw allow from SUBNET to any port {port} proto tcp` with the subnet of the container network")
            }
            (Purpose::Need { port, .. }, Leg::First, Writer::Firewalld) => {
                format!("put the bridge into a zone that accepts port {port}: `firewall-cmd --zone=docker --list-all`")
            }
            (Purpose::Need { port, .. }, Leg::First, _) => {
                format!("accept tcp port {port} from the bridge of the container network before this rule or policy")
            }
            _ => DROP.hint.to_owned(),
        }
    }
}
