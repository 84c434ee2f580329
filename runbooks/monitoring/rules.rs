//! Rule evaluation of Prometheus, and the always-firing alert.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Check, CheckSpec, Code, Inventory, Judged, Judgement, Object, Product, Severity, quantity};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::status::{prometheus_server, started};
use crate::shared::servers::Server;

const RULES: Code = Code {
    id: "monitoring.rules",
    severities: &[Severity::Info, Severity::Warn],
    when: "a rule cannot be evaluated, or the always-firing alert does not fire (warn); there are alert rules but no always-firing one (info)",
    hint: "see the error of the rule at /rules in its web UI; an alert `vector(1)` named Watchdog with a receiver that expects it (dead man's switch) detects an outage of the alerting",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.rules",
    title: "Rules are evaluated",
    codes: &[RULES],
    fixes: &[],
    timeout: Duration::from_secs(8),
};

pub(super) struct Rules {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    started_at: Option<Timestamp>,
    alerts: usize,
    /// Name and error.
    broken: Vec<(String, String)>,
    /// State of the alert that always fires: `firing`, `pending`, `inactive`.
    watchdog: Option<String>,
}

impl Check for Rules {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Prometheus)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = prometheus_server(cx, target, "which has no rules").await?;
        let json = cx.json(target, "/api/v1/rules").await?;
        let mut e =
            Evidence { started_at: server.get().and_then(|s| s.process).and_then(started), server, ..Evidence::default() };
        let groups = json.pointer("/data/groups").and_then(|g| g.as_array()).into_iter().flatten();
        let mut rules = 0;
        for rule in groups.filter_map(|g| g.get("rules")?.as_array()).flatten() {
            rules += 1;
            let text = |name: &str| rule.get(name).and_then(|v| v.as_str()).unwrap_or_default();
            if text("type") == "alerting" {
                e.alerts += 1;
                if text("name").eq_ignore_ascii_case(&self.settings.watchdog) {
                    e.watchdog = Some(text("state").to_owned());
                }
            }
            if text("health") == "err" {
                e.broken.push((text("name").to_owned(), text("lastError").chars().take(200).collect()));
            }
        }
        if rules == 0 {
            return Err(ProbeError::Skip("it has no rules".to_owned()));
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let name = &judged.target.name;
        let finding = |severity, text: String| e.server.finding(&RULES, severity, judged.target, text);
        let mut findings = Vec::new();
        if let Some((_, error)) = e.broken.first() {
            let rules: Vec<&str> = e.broken.iter().map(|(rule, _)| rule.as_str()).collect();
            let rules = quantity::some_of(&rules, 1);
            let verb = if e.broken.len() > 1 { "are" } else { "is" };
            let mut f = finding(Severity::Warn, format!("{name}: the rule {rules} {verb} not evaluated: {error}"));
            for (rule, error) in e.broken.iter().take(5) {
                f = f.cite(rule, error);
            }
            findings.push(f);
        }
        let young = e.started_at.is_some_and(|t| judged.taken_at.duration_since(t) < SignedDuration::from_mins(5));
        let watchdog = &self.settings.watchdog;
        match e.watchdog.as_deref() {
            Some("firing") => {}
            Some(_) if young => {}
            Some(state) => {
                findings.push(finding(Severity::Warn, format!("{name}: {watchdog} should always fire and is {state}")));
            }
            None if e.alerts > 0 => {
                let text = format!(
                    "{name} has {} but no always-firing one: an outage of the alerting is not detected",
                    quantity::count(e.alerts, "alert rule")
                );
                findings.push(finding(Severity::Info, text));
            }
            None => {}
        }
        findings.into()
    }
}
