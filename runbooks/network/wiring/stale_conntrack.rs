//! Tracked UDP flows that are still translated to the address of an earlier container.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, KeyKind, Object, Severity, quantity};
use opsctl_core::probe::kernel::setup::Tree;
use opsctl_core::probe::network::conntrack::{UdpFlow, udp_flows};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::nat::{Fate, Packet, fate, leads_to, relevant};
use super::stale_dnat::uplinks;
use super::{Subnet, addresses, local_networks, routing, subnets};
use crate::shared::servers::READ_TIMEOUT;

const STALE: Code = Code {
    id: "network.stale-conntrack",
    severities: &[Severity::Warn],
    when: "UDP flows to a published port are tracked with a translation to an address that the container no longer has, or without one from before the container was started: clients that send continuously do not reach it",
    hint: "`conntrack -D -p udp --dport PORT` removes the entries; the next packet of each client is translated again",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "network.stale-conntrack",
    title: "Tracked UDP flows lead to the present container",
    codes: &[STALE],
    fixes: &[],
    timeout: Duration::from_secs(6),
};

const TIMEOUT: &str = "net.netfilter.nf_conntrack_udp_timeout_stream";

/// Seconds after the last packet after which the entry of a flow with replies expires: the default until Linux 5.8.
const DEFAULT_TIMEOUT_S: i64 = 180;

/// Number of compared flows without a translation.
const MAX_DIRECT: usize = 20;

pub(in crate::network) struct StaleConntrack;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::network) struct Evidence {
    published: Vec<Published>,
    /// Flows to one of the ports that are translated into a network of the engines.
    flows: Vec<UdpFlow>,
    /// Flows of other machines that are not translated although the rules do so: their first packet arrived while no container
    /// published the port (moby#53384, containernetworking/plugins#123).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    direct: Vec<UdpFlow>,
    /// Lifetime of an entry without packets, in seconds.
    timeout_s: Option<i64>,
}

/// A published UDP port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Published {
    subject: Object,
    /// Full id.
    id: String,
    started_at: Option<Timestamp>,
    addresses: Vec<IpAddr>,
    /// Address of this host; `None` for all.
    on: Option<Ipv4Addr>,
    port: u16,
}

impl Check for StaleConntrack {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.engine_targets()
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let networks = local_networks(cx).await?;
        let mut published: Vec<Published> = Vec::new();
        for c in networks.iter().flat_map(|n| &n.members) {
            for port in &c.udp_ports {
                let on = match port.host_ip.parse::<IpAddr>() {
                    Ok(IpAddr::V6(_)) => continue,
                    Ok(IpAddr::V4(ip)) => Some(ip).filter(|ip| !ip.is_unspecified()),
                    Err(_) => None,
                };
                let own = Published {
                    subject: c.subject(),
                    id: c.id.clone(),
                    started_at: c.state.started_at,
                    addresses: addresses(c),
                    on,
                    port: port.host,
                };
                // a container in several networks is a member of each
                if !published.contains(&own) {
                    published.push(own);
                }
            }
        }
        if published.is_empty() {
            return Err(ProbeError::Skip("no container publishes a UDP port".to_owned()));
        }
        let subnets: Vec<Subnet> = networks.iter().flat_map(|n| subnets(&n.network)).collect();
        let flows = udp_flows(published.iter().map(|p| p.port).collect()).await?;
        // clients on this host and in its networks are served by docker-proxy
        let outside = |ip: Ipv4Addr| !ip.is_loopback() && !subnets.iter().any(|s| s.has(ip));
        let (mut direct, mut flows): (Vec<UdpFlow>, Vec<UdpFlow>) = flows.into_iter().partition(|f| f.server == f.to);
        flows.retain(|f| !outside(f.server));
        direct.retain(|f| outside(f.client) && outside(f.to));
        if !direct.is_empty() {
            direct = untranslated(cx, &published, direct).await?;
        }
        let timeout = |io: &Io| Tree::default().sysctls(io, &[TIMEOUT]).get(TIMEOUT).and_then(|text| text.parse().ok());
        let timeout_s = blocking::run("the timeout of UDP flows", "/proc/sys/net/netfilter", READ_TIMEOUT, timeout).await?;
        Ok(Evidence { published, flows, direct, timeout_s })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let lifetime = SignedDuration::from_secs(e.timeout_s.unwrap_or(DEFAULT_TIMEOUT_S));
        // an entry from before the start that is alive after its lifetime is refreshed by its client
        let is_old = |p: &&Published| p.started_at.is_some_and(|at| judged.taken_at.duration_since(at) > lifetime);
        let old = e.published.iter().filter(is_old);
        old.flat_map(|p| [p.finding(&e.flows), p.direct(&e.direct)]).flatten().collect::<Vec<_>>().into()
    }
}

/// The flows with packets that the present rules translate to the container that publishes the port.
async fn untranslated(cx: &ProbeCx, published: &[Published], flows: Vec<UdpFlow>) -> Result<Vec<UdpFlow>, ProbeError> {
    let routing = routing(cx).await?;
    let firewall = cx.firewall().await?;
    let Some(backend) = firewall.of_engine() else { return Ok(Vec::new()) };
    let own = |ip: Ipv4Addr| routing.interfaces.iter().any(|i| i.addresses.iter().any(|(a, _)| *a == IpAddr::V4(ip)));
    let is_translated = |flow: &UdpFlow| {
        let inputs = uplinks(&routing);
        let leads = |input: &str| {
            let packet = Packet { input, protocol: "udp", to: flow.to, port: flow.port };
            let rules = relevant(&firewall, &[packet]);
            match fate(&rules, backend, &packet) {
                Fate::Translated { first, last, .. } => published.iter().any(|p| leads_to(first, last, &p.addresses)),
                _ => false,
            }
        };
        !own(flow.client) && own(flow.to) && !inputs.is_empty() && inputs.iter().all(|(input, _)| leads(input))
    };
    Ok(flows.into_iter().take(MAX_DIRECT).filter(is_translated).collect())
}

impl Published {
    /// Flows that docker-proxy receives, or no process without it.
    fn direct(&self, flows: &[UdpFlow]) -> Option<Finding> {
        let own = |f: &&UdpFlow| f.port == self.port && self.on.is_none_or(|on| on == f.to);
        let mut clients: Vec<String> = flows.iter().filter(own).map(|f| f.client.to_string()).collect();
        clients.sort();
        clients.dedup();
        clients.first()?;
        let message = format!(
            "UDP flows of {} to port {}/udp of {} are tracked without the translation to the container: its packets have the address of the bridge as their source, or are lost without docker-proxy",
            quantity::count(clients.len(), "client"),
            self.port,
            self.subject.name
        );
        Some(
            Finding::new(&STALE, Severity::Warn, self.subject.clone(), message)
                .key(KeyKind::Container, &self.id)
                .cite("clients", quantity::some_of(&clients, 5))
                .hint(format!(
                    "`conntrack -D -p udp --dport {}` removes the entries; the next packet of each client is translated",
                    self.port
                )),
        )
    }

    fn finding(&self, flows: &[UdpFlow]) -> Option<Finding> {
        let own = |f: &&UdpFlow| f.port == self.port && self.on.is_none_or(|on| on == f.to);
        let mut by_server: BTreeMap<Ipv4Addr, Vec<String>> = BTreeMap::new();
        for flow in flows.iter().filter(own).filter(|f| !self.addresses.contains(&IpAddr::V4(f.server))) {
            by_server.entry(flow.server).or_default().push(flow.client.to_string());
        }
        let mut clients: Vec<String> = by_server.values().flatten().cloned().collect();
        let count = clients.len();
        clients.sort();
        clients.dedup();
        let first = by_server.keys().next()?;
        let servers: Vec<String> = by_server.keys().map(ToString::to_string).collect();
        let message = format!(
            "{} to port {}/udp of {} {} translated to {}, which is not its address: these clients get no response",
            quantity::count(count, "UDP flow"),
            self.port,
            self.subject.name,
            if count == 1 { "is" } else { "are" },
            quantity::some_of(&servers, 2)
        );
        Some(
            Finding::new(&STALE, Severity::Warn, self.subject.clone(), message)
                .key(KeyKind::Container, &self.id)
                .cite("clients", quantity::some_of(&clients, 5))
                .cite("the container has", self.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
                .hint(format!(
                    "`conntrack -D -p udp --dport {} --reply-src {first}` removes the entries; the next packet of each client is translated again",
                    self.port
                )),
        )
    }
}
