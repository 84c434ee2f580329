//! Network attachment of a container, also to the networks of its clients and to the network namespace of another container.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, DependsOn, Finding, Impact, Inventory, Judged, Judgement, KeyKind, Object, Role, Severity,
    has_own_network,
};
use opsctl_core::probe::names::Lookup;
use opsctl_core::probe::needs::DependencySource;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::shared_network::{self, LostNetwork};

const DETACHED: Code = Code {
    id: "container.network-detached",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the container runs and is attached to none of its networks (warn); another container connects to it by name and shares no network with it, or it shares the network of a container that was restarted, recreated, stopped or removed since (crit)",
    hint: "attach it: docker network connect NETWORK CONTAINER",
    impacts: &[Impact::confirmed(Role::Detached, KeyKind::Container, "container is detached from the common network")],
    depends_on: &[&[DependsOn::confirmed(Role::Down, KeyKind::Requirement, "its network is that of another container: that")]],
};

static SPEC: CheckSpec = CheckSpec {
    id: "container.network",
    title: "containers are attached to a network, and to those of their clients",
    codes: &[DETACHED],
    fixes: &[],
    timeout: Duration::from_secs(8),
};

pub(super) struct Network;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Evidence {
    id: String,
    subject: Object,
    mode: String,
    networks: Vec<String>,
    /// Clients that connect to it by name, share no network with it, and cannot resolve the name.
    #[serde(default)]
    missed_by: Vec<Caller>,
    /// Clients that could not be checked, with the reason.
    #[serde(default)]
    gaps: Vec<String>,
    /// It was created in the network of another container, which has another one now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lost: Option<LostNetwork>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Caller {
    by: String,
    host: String,
    networks: Vec<String>,
}

impl Check for Network {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.container_targets(|c| c.state == "running")
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let container = cx.docker()?.inspect(&target.id).await?;
        let mut e = Evidence {
            id: container.id.clone(),
            subject: container.subject(),
            mode: container.network_mode.clone(),
            networks: container.networks.keys().cloned().collect(),
            missed_by: Vec::new(),
            gaps: Vec::new(),
            lost: None,
        };
        if let Some(owner) = container.network_mode.strip_prefix("container:")
            && container.is_up()
        {
            match shared_network::lost(cx, &container, owner).await {
                Ok(lost) => e.lost = lost,
                Err(why) => e.gaps.push(why.to_string()),
            }
        }
        let known = cx.needs().await?;
        let all = &known.neighbours;
        let mut checked = BTreeSet::new();
        for need in known.list.iter().filter(|n| n.target.as_deref() == Some(container.id.as_str())) {
            // nginx reports unresolved upstreams itself
            let named = matches!(need.how, DependencySource::Scrape { .. } | DependencySource::Environment { .. })
                && need.host.parse::<IpAddr>().is_err();
            let Some(from) = need.consumer.container.as_deref().and_then(|id| all.get(id)) else { continue };
            let networks: Vec<String> = all.holder(from).networks.keys().cloned().collect();
            // a client without any network has a finding of its own; a name that resolves all the same is no finding
            let apart = !all.on_host(Some(from)) && !networks.is_empty() && all.shared(Some(from), &container).is_empty();
            if !named || !apart || !checked.insert((from.id.clone(), need.host.clone())) {
                continue;
            }
            match cx.lookup_as(need.consumer.pid, &need.host).await {
                Ok(Lookup::Up(_)) => {}
                Ok(Lookup::NoSuchName | Lookup::NoAnswer(_)) => {
                    e.missed_by.push(Caller { by: need.label(), host: need.host.clone(), networks });
                }
                Err(why) => e.gaps.push(format!("whether {} resolves {}: {why}", need.consumer.name, need.host)),
            }
        }
        e.missed_by.sort();
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut judgement = Judgement { gaps: e.gaps.clone(), ..Judgement::default() };
        if let Some(lost) = &e.lost {
            let finding =
                Finding::new(&DETACHED, lost.severity(), e.subject.clone(), lost.message(&e.subject.name, judged.taken_at))
                    .key(KeyKind::Container, &e.id)
                    .key(KeyKind::Names, &e.id)
                    .hint(lost.hint(&e.subject.name))
                    .since(lost.at)
                    .cite("its interfaces", lost.interfaces.join(", "));
            judgement.findings.push(if lost.owner.is_empty() { finding } else { finding.needs(&lost.owner) });
            return judgement;
        }
        // slirp4netns and pasta are Podman network modes without a network object
        let detached = has_own_network(&e.mode) && e.networks.is_empty() && !matches!(e.mode.as_str(), "slirp4netns" | "pasta");
        let name = &e.subject.name;
        let (severity, message) = match e.missed_by.first() {
            Some(caller) => {
                let own_networks = if e.networks.is_empty() { "none".to_owned() } else { e.networks.join(", ") };
                let client_networks = caller.networks.join(", ");
                let clients = match e.missed_by.len() {
                    1 => format!("{} connects", caller.by),
                    n => format!("{} and {} more connect", caller.by, n - 1),
                };
                let message = format!(
                    "{name} is in network {own_networks}, and {clients} to it as {} from {client_networks}: they share no network",
                    caller.host
                );
                (Severity::Crit, message)
            }
            None if detached => (Severity::Warn, format!("{name} was created in network {} and is attached to none", e.mode)),
            None => return judgement,
        };
        let callers: Vec<String> = e.missed_by.iter().map(|c| format!("{} in {}", c.by, c.networks.join(", "))).collect();
        let finding = Finding::new(&DETACHED, severity, e.subject.clone(), message)
            .key(KeyKind::Container, &e.id)
            .cite("needed by", callers.join("; "));
        // without a network no name can be resolved
        judgement.findings.push(if detached { finding.key(KeyKind::Names, &e.id) } else { finding });
        judgement
    }
}
