//! The answer to an alert: the findings that concern it, and their causes.

use jiff::Timestamp;
use opsctl_core::model::{Finding, Report, Reported};
use schemars::JsonSchema;
use serde::Serialize;

use super::payload::Alert;
use super::route::{Route, route};
use crate::catalog::Catalog;
use crate::config::Config;
use crate::state::Store;

/// Maximum number of earlier findings shown.
const MAX_SIMILAR: u32 = 3;

/// Version of the schema of [`Response`].
const SCHEMA_VERSION: u32 = 1;

/// The answer to a payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Response {
    /// Version of this schema.
    pub schema_version: u32,
    /// Name of this host.
    pub host: String,
    /// Time of the run.
    pub at: Timestamp,
    /// One answer for each alert, in the order of the payload.
    pub answers: Vec<AlertReport>,
    /// The reason why no fix is applied: the kill switch is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixes_switched_off: Option<String>,
    /// All findings of this host.
    pub report: Report,
}

/// An alert as received.
pub type Alerted = Alert;

/// The answer to one alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AlertReport {
    /// The alert.
    pub alert: Alerted,
    /// Whether a runbook or the configuration handles this alert name.
    pub known: bool,
    /// The runbooks for the alert; empty for all.
    pub runbooks: Vec<String>,
    /// Subject of the alert if opsctl does not check it, and its check by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_of_scope: Option<String>,
    /// The objects of this host that the alert names, as `kind:name`.
    pub subjects: Vec<String>,
    /// `crit`, `warn`, `unknown` or `ok`: the verdict of those runbooks.
    pub verdict: String,
    /// Ids (in `report`) of the findings that concern the alert, root causes first.
    pub findings: Vec<String>,
    /// Ids of other open root causes.
    pub also_open: Vec<String>,
    /// Checks without a result.
    pub unknown: Vec<String>,
    /// Similar findings of the past.
    pub similar: Vec<SimilarFinding>,
    /// The manual steps of the first of the runbooks.
    pub by_hand: String,
    /// Owner of the findings or of the named object.
    pub owner: Option<String>,
    /// Fixes applied without confirmation.
    pub applied: Vec<Applied>,
}

/// An earlier finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SimilarFinding {
    /// Its code.
    pub code: String,
    /// Its subject.
    pub subject: String,
    /// Last message of the finding.
    pub message: String,
    /// First observation.
    pub first_seen: Timestamp,
    /// Last observation.
    pub last_seen: Timestamp,
}

/// A fix attempted without confirmation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Applied {
    /// Id of the fix.
    pub fix: String,
    /// Subject of the fix.
    pub subject: String,
    /// Exit code of `opsctl fix`; 0 is success.
    pub exit: u8,
    /// Output of the guard.
    pub said: Vec<String>,
}

/// Answers alerts from one run.
#[must_use]
pub fn respond(alerts: Vec<Alert>, report: &Report, catalog: &Catalog, config: &Config, store: Option<&Store>) -> Response {
    let answers = alerts.into_iter().map(|alert| {
        let matched = route(&alert, catalog, &config.alerts);
        answer(alert, matched, report, catalog, config, store)
    });
    Response {
        schema_version: SCHEMA_VERSION,
        host: report.host.hostname.clone(),
        at: report.started_at,
        answers: answers.collect(),
        fixes_switched_off: None,
        report: report.clone(),
    }
}

fn answer(
    alert: Alert,
    matched: Route,
    report: &Report,
    catalog: &Catalog,
    config: &Config,
    store: Option<&Store>,
) -> AlertReport {
    let in_runbook = |runbook: &str| matched.runbooks.is_empty() || matched.runbooks.iter().any(|r| r == runbook);
    let named = |name: &str| {
        let bare = name.split_once(':').map_or(name, |(_, bare)| bare);
        matched.words.iter().any(|w| w == bare || w == name || bare.strip_suffix(".service") == Some(w.as_str()))
    };
    let mut subjects: Vec<String> =
        report.checks.iter().filter(|c| in_runbook(&c.runbook) && named(&c.target)).map(|c| c.target.clone()).collect();
    subjects.sort();
    subjects.dedup();
    // a label narrows only the runbooks that have an object of its name
    let narrows = |runbook: &str| report.checks.iter().any(|c| c.runbook == runbook && subjects.contains(&c.target));
    let about = |f: &Reported| !narrows(&f.runbook) || subjects.contains(&f.subject.to_string()) || named(&f.subject.name);
    let in_scope = |f: &&Reported| f.is_open() && in_runbook(&f.runbook) && matched.out_of_scope.is_none();
    let of_runbooks: Vec<&Reported> = report.findings.iter().filter(in_scope).collect();
    let of_code: Vec<&Reported> = of_runbooks.iter().copied().filter(|f| matched.codes.contains(&f.code)).collect();
    // without a finding of the code about the named object, another one of those runbooks may be the cause of the alert
    let candidates = [
        of_code.iter().copied().filter(|f| about(f)).collect(),
        of_runbooks.iter().copied().filter(|f| about(f)).collect(),
        of_code,
        of_runbooks.clone(),
    ];
    let concerned: Vec<&Reported> = candidates.into_iter().find(|list: &Vec<&Reported>| !list.is_empty()).unwrap_or_default();
    // their causes, from any runbook
    let mut findings: Vec<&Reported> = Vec::new();
    for finding in &concerned {
        let mut chain = vec![*finding];
        while let Some(cause) = chain.last().and_then(|f| cause_of(report, f)).filter(|c| !chain.contains(c)) {
            chain.push(cause);
        }
        for f in chain.into_iter().rev().filter(|f| f.is_open()) {
            if !findings.contains(&f) {
                findings.push(f);
            }
        }
    }
    findings.sort_by_key(|f| f.explained_by.is_some());
    let also_open: Vec<&Reported> =
        report.findings.iter().filter(|f| f.is_open() && f.explained_by.is_none() && !findings.contains(f)).collect();
    let unknown: Vec<String> = report
        .checks
        .iter()
        .filter(|c| {
            c.verdict == "unknown" && matched.out_of_scope.is_none() && (in_runbook(&c.runbook) || c.runbook == "discovery")
        })
        .map(|c| format!("{} {}: {}", c.check, c.target, c.reason.as_deref().unwrap_or_default()))
        .collect();
    let verdict = match findings.iter().map(|f| f.severity).max() {
        Some(severity) => severity.to_string(),
        None if unknown.is_empty() && matched.out_of_scope.is_none() => "ok".to_owned(),
        None => "unknown".to_owned(),
    };
    let similar = findings.first().zip(store).map(|(f, store)| likeness(store, f)).unwrap_or_default();
    let owner = findings.iter().find_map(|f| f.owner.clone()).or_else(|| {
        let configured = matched.words.iter().find_map(|w| config.owner_of(w).map(str::to_owned));
        configured.or_else(|| ["owner", "team", "maintainers"].iter().find_map(|label| alert.labels.get(*label).cloned()))
    });
    let first = matched.runbooks.first().cloned().or_else(|| findings.first().map(|f| f.runbook.clone()));
    let by_hand = first
        .and_then(|id| catalog.runbooks().find(|(r, _)| r.id == id).map(|(_, document)| document.section("By hand").to_owned()));
    let ids = |list: &[&Reported]| list.iter().map(|f| f.id.clone()).collect();
    AlertReport {
        known: matched.known,
        runbooks: matched.runbooks,
        out_of_scope: matched.out_of_scope,
        subjects,
        verdict,
        findings: ids(&findings),
        also_open: ids(&also_open),
        unknown,
        similar,
        by_hand: by_hand.unwrap_or_default(),
        owner,
        applied: Vec::new(),
        alert,
    }
}

fn cause_of<'a>(report: &'a Report, finding: &Reported) -> Option<&'a Reported> {
    let id = finding.explained_by.as_ref()?;
    report.findings.iter().find(|f| f.id == *id)
}

fn likeness(store: &Store, finding: &Finding) -> Vec<SimilarFinding> {
    let past = store.like(&finding.code, &finding.subject.to_string(), MAX_SIMILAR).into_iter();
    past.map(|e| SimilarFinding { code: e.code, subject: e.subject, message: e.message, first_seen: e.first, last_seen: e.last })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use opsctl_core::model::Severity;

    use super::*;
    use crate::config::Loaded;
    use crate::report::fixtures::report;

    fn of(labels: &[(&str, &str)], report: &Report) -> AlertReport {
        let labels: serde_json::Map<String, serde_json::Value> =
            labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
        let alerts = super::super::parse(serde_json::json!([{ "labels": labels }]).to_string().as_bytes()).unwrap().alerts;
        respond(alerts, report, &Catalog::new(), &Loaded::defaults().config, None).answers.remove(0)
    }

    #[test]
    fn answer_contains_findings_of_named_objects_and_their_causes() {
        let mut both = report(&[("web", Severity::Crit), ("db", Severity::Crit)]);
        let answer = of(&[("alertname", "ContainerDown"), ("name", "web")], &both);
        assert_eq!(
            (answer.findings.join(" "), answer.also_open.join(" "), answer.verdict.as_str()),
            ("f0".into(), "f1".into(), "crit")
        );
        assert_eq!(answer.subjects, ["container:web"]);
        assert!(answer.by_hand.contains("docker"), "{}", answer.by_hand);
        // the database is the cause
        both.findings[0].explained_by = Some("f1".into());
        let answer = of(&[("alertname", "ContainerDown"), ("name", "web")], &both);
        assert_eq!((answer.findings.join(" "), answer.also_open.len()), ("f1 f0".into(), 0));
    }

    #[test]
    fn unknown_alert_is_answered_with_all_findings() {
        let answer = of(&[("alertname", "Strange")], &report(&[("web", Severity::Warn)]));
        assert_eq!((answer.known, answer.findings.len(), answer.verdict.as_str()), (false, 1, "warn"));
    }

    #[test]
    fn alert_out_of_scope_is_not_ok() {
        let answer = of(&[("alertname", "NodeRAIDDegraded")], &report(&[("web", Severity::Warn)]));
        assert_eq!((answer.known, answer.findings.len(), answer.verdict.as_str()), (true, 0, "unknown"));
        assert!(answer.out_of_scope.is_some_and(|r| r.contains("mdadm")));
    }

    #[test]
    fn finding_of_another_runbook_is_only_mentioned() {
        let answer = of(&[("alertname", "DiskSpaceLow")], &report(&[("web", Severity::Crit)]));
        assert_eq!((answer.findings.len(), answer.also_open.len(), answer.verdict.as_str()), (0, 1, "ok"));
    }
}
