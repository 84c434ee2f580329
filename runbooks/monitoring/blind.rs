//! Whether alerts would fire at all: every Prometheus and Alertmanager of this host is in service.

use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, KeyKind, Object, Product, Severity};
use opsctl_core::probe::servers::SessionError;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::alertmanager::ALERTMANAGER;
use super::prometheus::PROMETHEUS;
use super::status::ServerState;

const BLIND: Code = Code {
    id: "monitoring.blind",
    severities: &[Severity::Crit],
    when: "a Prometheus or an Alertmanager of this host is out of service: no alerts will fire, or no notifications will be sent",
    hint: "until the monitoring is back no alert fires: run `opsctl diagnose` by hand",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.blind",
    title: "Alerting is in service",
    codes: &[BLIND],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

pub(super) struct Blind;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    /// The state of every Prometheus and Alertmanager of this host.
    servers: Vec<(Object, ServerState)>,
    gaps: Vec<String>,
}

fn watched(inventory: &Inventory) -> Vec<Object> {
    [Product::Prometheus, Product::Alertmanager].into_iter().flat_map(|p| inventory.server_targets(p)).collect()
}

impl Check for Blind {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        if watched(inventory).is_empty() { Vec::new() } else { vec![Object::host()] }
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let mut e = Evidence::default();
        for target in watched(&cx.inventory) {
            match ServerState::of(cx, &target, "/-/ready").await {
                Ok(state) => e.servers.push((target, state)),
                Err(why) => e.gaps.push(why.to_string()),
            }
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut findings = Vec::new();
        for (target, state) in &e.servers {
            let down = Judged { target, ..*judged };
            // an unknown state, and a server that nothing refers to, are reported by their own checks
            let (code, word, effect) = match target.kind.to_string().as_str() {
                "prometheus" => (&PROMETHEUS, "Prometheus", "no alerts will fire"),
                _ => (&ALERTMANAGER, "Alertmanager", "no notifications will be sent"),
            };
            let silent = !state.judge_silence(code, &down, word, false).findings.is_empty();
            if !silent {
                continue;
            }
            let why = match state.silence.why() {
                Some(SessionError::NotRunning) => "does not run",
                Some(SessionError::Hung { .. }) => "does not answer",
                _ => "is out of service",
            };
            let text = format!("{effect}: {} {why}", target.name);
            findings.push(state.silent(Finding::new(&BLIND, Severity::Crit, Object::host(), text)));
        }
        Judgement { findings: merged(findings), gaps: e.gaps.clone(), ..Judgement::default() }
    }
}

/// One finding, also for several servers.
fn merged(findings: Vec<Finding>) -> Vec<Finding> {
    let mut all = findings.into_iter();
    let Some(mut first) = all.next() else { return Vec::new() };
    for other in all {
        first.message = format!("{}; {}", first.message, other.message);
        first.keys.extend(other.keys.into_iter().filter(|k| k.kind == KeyKind::Silent));
    }
    vec![first]
}
