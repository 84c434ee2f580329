//! Reachability of needed services from the client's side, step by step, up to the first failing step.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use opsctl_core::model::address::join;
use opsctl_core::model::{
    Check, CheckSpec, Code, DependsOn, Finding, Inventory, Judged, Judgement, KeyKind, Kind, Object, Role, Severity,
};
use opsctl_core::probe::names::Lookup;
use opsctl_core::probe::needs::{ConnectResult, Dependency, DependencySource, Health};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::climb::climb;
use super::ladder::{Ladder, STEPS, Stop};
use super::{Settings, is_young, port_key};
use crate::shared::dependencies::{FORWARDED, PORT_CLOSED, running_container};
use crate::shared::processes::of_host;

const TRIAGE: Code = Code {
    id: "network.triage",
    severities: &[Severity::Warn, Severity::Crit],
    when: "a container, or a Prometheus of this host, does not reach a service on this host that it needs: the first failing one of eight steps (crit; warn if the container in a variable is not running)",
    hint: "start with the failing step: the steps before it pass",
    depends_on: &[
        &running_container("its"),
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
        // needs of a proxy and of an endpoint have their own findings
        let dependencies: Vec<&Dependency> = known
            .list
            .iter()
            .filter(|n| {
                of_target(&n.consumer.container)
                    && matches!(n.how, DependencySource::Scrape { .. } | DependencySource::Environment { .. })
            })
            .filter(|n| seen.insert((n.host.clone(), n.port)))
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
        // a process of the host has its own name
        let subject = match dependencies.first().filter(|_| id.is_empty()) {
            Some(n) => Object::new(Kind::Process, n.consumer.name.clone(), n.consumer.pid.to_string()),
            None => subject,
        };
        Ok(Evidence { subject, id, ladders, looked_at: dependencies.len(), gaps })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut judgement = Judgement { gaps: e.gaps.clone(), ..Judgement::default() };
        for ladder in &e.ladders {
            let Some(stop) = ladder.stop() else {
                if let Some(Lookup::NoAnswer(why)) = &ladder.looked {
                    judgement.gaps.push(format!("the address of {} for {}: {why}", ladder.host, e.subject.name));
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

impl Evidence {
    fn finding(&self, ladder: &Ladder, stop: &Stop) -> Finding {
        let name = &self.subject.name;
        // whether the variable is used is not known; its target was stopped on purpose
        let by_variable = matches!(ladder.how, Some(DependencySource::Environment { .. }));
        let severity = if stop.step == 0 && by_variable { Severity::Warn } else { Severity::Crit };
        let message = match stop.step {
            0 => format!("{name} cannot reach {}: {}", ladder.endpoint(), stop.why),
            n => format!("{name} cannot reach {}: step {n} of {STEPS}, {}", ladder.endpoint(), stop.why),
        };
        let mut finding = Finding::new(&TRIAGE, severity, self.subject.clone(), message);
        finding = match &ladder.how {
            Some(DependencySource::Environment { variable }) => {
                finding.cite("needed for", format!("{variable} in its environment"))
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
        if stop.step == 8 {
            finding =
                finding.hint("the path is open: check the response of the service; for truncated responses run `opsctl mtu`");
        }
        // packets are dropped although the listener exists: packet filter rules of the host
        if stop.step == 6 && ladder.reached == Some(ConnectResult::Timeout) {
            finding = of_host(finding);
        }
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
