//! Reachability of needed services from the client's side, step by step, up to the first failing step.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use opsctl_core::model::address::join;
use opsctl_core::model::{
    Check, CheckSpec, Code, DependsOn, Finding, Inventory, Judged, Judgement, KeyKind, Kind, Object, Role, Severity,
};
use opsctl_core::probe::names::Lookup;
use opsctl_core::probe::needs::{ConnectResult, Dependency, DependencySource, HOST_NAMES, Health};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::climb::climb;
use super::ladder::{Ladder, STEPS, Stop};
use super::{Settings, is_young, port_key};
use crate::shared::dependencies::{FORWARDED, PORT_CLOSED, SERVES, running};
use crate::shared::processes::of_host;

const TRIAGE: Code = Code {
    id: "network.triage",
    severities: &[Severity::Warn, Severity::Crit],
    when: "a container, or a unit or process of this host, does not reach a service on this host that it needs: the first failing one of eight steps (crit; warn if the container in a variable is not running, if other servers of an upstream remain, and if a variable names no container: its name does not exist, or its port of this host or of the container itself has no listener)",
    hint: "start with the failing step: the steps before it pass",
    depends_on: &[
        &running("its"),
        SERVES,
        FORWARDED,
        PORT_CLOSED,
        &[DependsOn::confirmed(Role::Detached, KeyKind::Container, "its")],
    ],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "network.triage",
    title: "Needed services on this host are reachable",
    codes: &[TRIAGE],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

pub(super) struct Triage {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Evidence {
    subject: Object,
    /// Full id of its container; empty for a process of this host.
    #[serde(default)]
    id: String,
    /// Only failing paths.
    ladders: Vec<Ladder>,
    /// Number of checked needs.
    #[serde(default)]
    looked_at: usize,
    /// Parts that could not be checked, and why.
    #[serde(default)]
    gaps: Vec<String>,
}

impl Check for Triage {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        // the host is the target for its own processes
        let mut targets = vec![Object::host()];
        targets.extend(inventory.container_targets(|c| c.state == "running"));
        targets
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let (subject, id) = match target.kind {
            Kind::Host => (Object::host(), String::new()),
            _ => (cx.running(target).await?.subject(), target.id.clone()),
        };
        let known = cx.needs().await?;
        let of_target = |container: &Option<String>| container.as_deref().unwrap_or_default() == id;
        let mut seen = BTreeSet::new();
        // needs of nginx and of an endpoint have their own findings
        let dependencies: Vec<&Dependency> = known
            .list
            .iter()
            .filter(|n| {
                of_target(&n.consumer.container) && !matches!(n.how, DependencySource::Endpoint | DependencySource::Nginx)
            })
            .filter(|n| seen.insert((n.consumer.name.clone(), n.host.clone(), n.port, group_of(n))))
            .collect();
        let mut gaps: Vec<String> =
            known.blind.iter().filter(|(c, _)| of_target(&c.container)).map(|(_, why)| why.clone()).collect();
        gaps.extend(
            known
                .more
                .iter()
                .filter(|(c, _)| of_target(&c.container))
                .map(|(c, n)| format!("{n} more targets of {} were not checked", c.name)),
        );
        if dependencies.is_empty() && gaps.is_empty() {
            return Err(ProbeError::Skip("it needs no known service on this host".to_owned()));
        }
        let climbed = join_all(dependencies.iter().map(|n| Box::pin(climb(cx, &known, n)))).await;
        let mut ladders = Vec::new();
        for (need, climbed) in dependencies.iter().zip(climbed) {
            match climbed {
                Ok(ladder) => ladders.extend(ladder),
                Err(ProbeError::Skip(_)) => {}
                Err(why) => gaps.push(format!("whether {} reaches {}: {why}", need.consumer.name, join(&need.host, need.port))),
            }
        }
        Ok(Evidence { subject, id, ladders, looked_at: dependencies.len(), gaps })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut judgement = Judgement { gaps: e.gaps.clone(), ..Judgement::default() };
        for ladder in &e.ladders {
            let subject = e.subject_of(ladder);
            let Some(stop) = ladder.stop() else {
                if let Some(Lookup::NoAnswer(why)) = &ladder.looked {
                    judgement.gaps.push(format!("the address of {} for {}: {why}", ladder.host, subject.name));
                }
                continue;
            };
            let started = ladder.target.as_ref().and_then(|t| t.started_at);
            if stop.step == 5 && ladder.is_silent() && is_young(started, judged.taken_at, &self.settings) {
                judgement.pending.push(format!("{} to have a listener", ladder.endpoint()));
                continue;
            }
            judgement.findings.push(e.finding(ladder, &stop));
        }
        judgement
    }
}

/// Group of an upstream: two groups with one server have a finding each.
fn group_of(need: &Dependency) -> String {
    match &need.how {
        DependencySource::Upstream { group, .. } => group.clone(),
        _ => String::new(),
    }
}

impl Evidence {
    /// The container, or the unit or process of this host.
    fn subject_of<'e>(&'e self, ladder: &'e Ladder) -> &'e Object {
        ladder.consumer.as_ref().unwrap_or(&self.subject)
    }

    fn severity(&self, ladder: &Ladder, stop: &Stop) -> Severity {
        match &ladder.how {
            // whether the variable is used is not known; its target was stopped on purpose
            Some(DependencySource::Environment { .. }) if stop.step == 0 || ladder.uncertain => Severity::Warn,
            // a proxy sends requests to the other servers of the group; one that is stopped or unknown may be decommissioned
            Some(DependencySource::Upstream { .. }) if stop.step <= 1 || !self.is_whole_group(ladder) => Severity::Warn,
            _ => Severity::Crit,
        }
    }

    /// Whether every server of the group of an upstream fails.
    fn is_whole_group(&self, ladder: &Ladder) -> bool {
        let Some(DependencySource::Upstream { group, servers, .. }) = &ladder.how else { return false };
        let same = |l: &&Ladder| {
            let of_group = matches!(&l.how, Some(DependencySource::Upstream { group: other, .. }) if other == group);
            of_group && l.consumer == ladder.consumer && l.stop().is_some()
        };
        self.ladders.iter().filter(same).count() >= usize::try_from(*servers).unwrap_or(usize::MAX)
    }

    fn finding(&self, ladder: &Ladder, stop: &Stop) -> Finding {
        let subject = self.subject_of(ladder);
        let name = &subject.name;
        let severity = self.severity(ladder, stop);
        let message = match stop.step {
            0 => format!("{name} cannot reach {}: {}", ladder.endpoint(), stop.why),
            n => format!("{name} cannot reach {}: step {n} of {STEPS}, {}", ladder.endpoint(), stop.why),
        };
        let mut finding = Finding::new(&TRIAGE, severity, subject.clone(), message);
        finding = match &ladder.how {
            Some(DependencySource::Environment { variable, place, assumed }) => {
                let place = if place.is_empty() { "its environment" } else { place };
                let port = if *assumed { ", with the default port of the product" } else { "" };
                finding.cite("needed for", format!("{variable} in {place}{port}"))
            }
            Some(DependencySource::Upstream { product, place, group, .. }) => {
                finding.cite("needed for", format!("{product}, {group}")).cite("configured in", place)
            }
            Some(DependencySource::Scrape { url, health, error, .. }) => {
                let reported = if error.is_empty() { String::new() } else { format!(": {error}") };
                let health = if *health == Health::Down { "down" } else { "not scraped yet" };
                finding.cite("needed for", format!("it scrapes {url}")).cite("Prometheus reports", format!("{health}{reported}"))
            }
            _ => finding,
        };
        for (title, words) in ladder.seen() {
            finding = finding.cite(title, words);
        }
        if ladder.from_host.is_some() || ladder.inside_own.is_some() {
            finding = finding.cite("7 elsewhere", ladder.elsewhere());
        }
        if let Some(hint) = hint(ladder, stop) {
            finding = finding.hint(hint);
        }
        if ladder.uncertain {
            finding = finding.likely();
        }
        // packets are dropped although the listener exists: packet filter rules of the host
        if stop.step == 6 && ladder.reached == Some(ConnectResult::Timeout) {
            finding = of_host(finding);
        }
        // an address outside of this host may be hidden by the subnet of a network
        let is_external = ladder.target.is_none() && ladder.host.parse::<std::net::IpAddr>().is_ok();
        if ladder.hosts_file || is_external {
            finding = finding.key(KeyKind::Address, hosts_key(&self.id, &ladder.host));
        }
        finding = ladder.providers.tie(finding);
        match &ladder.target {
            // a client without any network is itself disconnected
            Some(_) if ladder.networks.is_empty() && !ladder.on_host => finding.key(KeyKind::Container, &self.id),
            Some(t) if !t.id.is_empty() => {
                finding.key(KeyKind::Container, &t.id).key(KeyKind::Port, port_key(&t.id, ladder.port))
            }
            _ => finding,
        }
    }
}

/// Key of a name in the hosts file of a container, or of this host.
pub(super) fn hosts_key(container: &str, host: &str) -> String {
    format!("{container}@{}", host.to_ascii_lowercase())
}

/// A hint for the place in which the failing step is corrected.
fn hint(ladder: &Ladder, stop: &Stop) -> Option<String> {
    let host = &ladder.host;
    let on_this_host = ladder.target.as_ref().is_some_and(|t| t.id.is_empty());
    match stop.step {
        1 if HOST_NAMES.contains(&host.as_str()) => Some(format!(
            "Docker on Linux defines this name on request only: recreate the container with `--add-host {host}:host-gateway` (compose: extra_hosts)"
        )),
        1 if !ladder.aliases.is_empty() => {
            let known: Vec<String> = ladder.aliases.iter().map(|(c, network)| format!("{c} in network {network}")).collect();
            let (_, network) = &ladder.aliases[0];
            Some(format!(
                "{host} is an alias of {}: attach the client to that network with `docker network connect {network} CONTAINER`, or correct the name",
                known.join(", ")
            ))
        }
        1 if ladder.uncertain && ladder.consumer.is_none() => Some(format!(
            "correct the name, or start a container with the name or alias {host} in a network of the client ({}); not if the program does not use the setting",
            ladder.networks.join(", ")
        )),
        1 if ladder.uncertain => Some(format!("`getent hosts {host}`; correct the name, or add it to DNS or /etc/hosts")),
        2 if ladder.hosts_file => Some(format!(
            "remove the entry of {host} from its /etc/hosts (`--add-host`, extra_hosts) and recreate it: Docker's DNS has the current address"
        )),
        5 if !ladder.instead.is_empty() => Some("use the address of the running server, or start one at this address".to_owned()),
        5 if on_this_host && !ladder.on_host => Some(format!(
            "let the service of this host listen on {} or 0.0.0.0: its loopback address cannot be reached from containers; not without a packet filter rule that excludes other networks",
            ladder.address.map_or_else(|| host.clone(), |a| a.to_string())
        )),
        5 if on_this_host => Some(match ladder.providers.units.first() {
            Some(unit) => format!("`systemctl status {unit}`"),
            None => format!("start the service of port {}, or correct the setting: `ss -ltnp`", ladder.port),
        }),
        8 => Some("the path is open: check the response of the service; for truncated responses run `opsctl mtu`".to_owned()),
        _ => None,
    }
}
