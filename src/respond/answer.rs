//! What is said to an alert: of everything found on the host, what concerns it, and why.

use jiff::Timestamp;
use opsctl_core::model::{Finding, Report, Severity};
use schemars::JsonSchema;
use serde::Serialize;

use super::payload::Alert;
use super::route::{Route, route};
use crate::catalog::Catalog;
use crate::config::Config;
use crate::state::Store;

/// Findings of the past that are shown at most.
const SIMILAR: u32 = 3;

/// Version of the shape of [`Response`].
const SCHEMA_VERSION: u32 = 1;

/// The answer to a payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Response {
    /// Version of this shape.
    pub schema_version: u32,
    /// Name of this host.
    pub host: String,
    /// When it was looked at.
    pub at: Timestamp,
    /// One answer for each alert, in the order of the payload.
    pub answers: Vec<Answer>,
    /// Why no fix is applied at all: the kill switch is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixes_switched_off: Option<String>,
    /// Everything that was found on this host.
    pub report: Report,
}

/// An alert, as it came.
pub type Alerted = Alert;

/// The answer to one alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Answer {
    /// The alert.
    pub alert: Alerted,
    /// Its name is known to a runbook or to the configuration.
    pub known: bool,
    /// The runbooks that answer it; none is all of them.
    pub runbooks: Vec<String>,
    /// What of this host it is about, as `kind:name`.
    pub subjects: Vec<String>,
    /// `crit`, `warn`, `unknown` or `ok`: what those runbooks say.
    pub verdict: String,
    /// Ids (in `report`) of the findings that concern it, root causes first.
    pub findings: Vec<String>,
    /// Ids of root causes that are open beside them.
    pub also_open: Vec<String>,
    /// What could not be looked at.
    pub unknown: Vec<String>,
    /// What was like it in the past.
    pub similar: Vec<Likeness>,
    /// What the first of the runbooks says to do by hand.
    pub by_hand: String,
    /// Who owns what it is about.
    pub owner: Option<String>,
    /// What was done without a person.
    pub applied: Vec<Applied>,
}

/// Something of the past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Likeness {
    /// Its code.
    pub code: String,
    /// Its subject.
    pub subject: String,
    /// What was said of it.
    pub message: String,
    /// When it was seen first.
    pub first_seen: Timestamp,
    /// When it was seen last.
    pub last_seen: Timestamp,
}

/// A fix that was tried without a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Applied {
    /// Fix.
    pub fix: String,
    /// What it was applied to.
    pub subject: String,
    /// The exit code that `opsctl fix` has for how it ended; 0 is well.
    pub exit: u8,
    /// What the guard said.
    pub said: Vec<String>,
}

/// Answers alerts from one look at the host.
#[must_use]
pub fn respond(alerts: Vec<Alert>, report: &Report, catalog: &Catalog, config: &Config, store: Option<&Store>) -> Response {
    let answers = alerts.into_iter().map(|alert| {
        let way = route(&alert, catalog, &config.alerts);
        answer(alert, way, report, catalog, config, store)
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

fn counts(finding: &Finding) -> bool {
    finding.severity > Severity::Info && finding.waived.is_none()
}

fn answer(alert: Alert, way: Route, report: &Report, catalog: &Catalog, config: &Config, store: Option<&Store>) -> Answer {
    let in_runbook = |runbook: &str| way.runbooks.is_empty() || way.runbooks.iter().any(|r| r == runbook);
    let named = |name: &str| {
        let bare = name.split_once(':').map_or(name, |(_, bare)| bare);
        way.words.iter().any(|w| w == bare || w == name || bare.strip_suffix(".service") == Some(w.as_str()))
    };
    let mut subjects: Vec<String> =
        report.checks.iter().filter(|c| in_runbook(&c.runbook) && named(&c.target)).map(|c| c.target.clone()).collect();
    subjects.sort();
    subjects.dedup();
    let about = |f: &Finding| subjects.is_empty() || subjects.contains(&f.subject.to_string()) || named(&f.subject.name);
    let of_runbooks: Vec<&Finding> = report.findings.iter().filter(|f| counts(f) && in_runbook(&f.runbook)).collect();
    let mut concerned: Vec<&Finding> = of_runbooks.iter().copied().filter(|f| about(f)).collect();
    if concerned.is_empty() {
        // nothing is wrong with what it names: what else those runbooks found may be why it fired
        concerned = of_runbooks;
    }
    // what stands behind them, whichever runbook found it
    let mut findings: Vec<&Finding> = Vec::new();
    for finding in &concerned {
        let mut chain = vec![*finding];
        while let Some(cause) = chain.last().and_then(|f| cause_of(report, f)).filter(|c| !chain.contains(c)) {
            chain.push(cause);
        }
        for f in chain.into_iter().rev().filter(|f| counts(f)) {
            if !findings.contains(&f) {
                findings.push(f);
            }
        }
    }
    findings.sort_by_key(|f| f.explained_by.is_some());
    let also_open: Vec<&Finding> =
        report.findings.iter().filter(|f| counts(f) && f.explained_by.is_none() && !findings.contains(f)).collect();
    let unknown: Vec<String> = report
        .checks
        .iter()
        .filter(|c| c.verdict == "unknown" && (in_runbook(&c.runbook) || c.runbook == "discovery"))
        .map(|c| format!("{} {}: {}", c.check, c.target, c.reason.as_deref().unwrap_or_default()))
        .collect();
    let verdict = match findings.iter().map(|f| f.severity).max() {
        Some(severity) => severity.to_string(),
        None if unknown.is_empty() => "ok".to_owned(),
        None => "unknown".to_owned(),
    };
    let similar = findings.first().zip(store).map(|(f, store)| likeness(store, f)).unwrap_or_default();
    let owner = findings.iter().find_map(|f| f.owner.clone()).or_else(|| {
        let configured = way.words.iter().find_map(|w| config.owner_of(w).map(str::to_owned));
        configured.or_else(|| ["owner", "team", "maintainers"].iter().find_map(|label| alert.labels.get(*label).cloned()))
    });
    let first = way.runbooks.first().cloned().or_else(|| findings.first().map(|f| f.runbook.clone()));
    let by_hand =
        first.and_then(|id| catalog.runbooks().find(|(r, _)| r.id == id).map(|(_, page)| page.section("By hand").to_owned()));
    let ids = |list: &[&Finding]| list.iter().map(|f| f.id.clone()).collect();
    Answer {
        known: way.known,
        runbooks: way.runbooks,
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

fn cause_of<'a>(report: &'a Report, finding: &Finding) -> Option<&'a Finding> {
    let id = finding.explained_by.as_ref()?;
    report.findings.iter().find(|f| f.id == *id)
}

fn likeness(store: &Store, finding: &Finding) -> Vec<Likeness> {
    let past = store.like(&finding.code, &finding.subject.to_string(), SIMILAR).into_iter();
    past.map(|e| Likeness { code: e.code, subject: e.subject, message: e.message, first_seen: e.first, last_seen: e.last })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::config::Loaded;
    use crate::report::fixtures::report;

    fn of(labels: &[(&str, &str)], report: &Report) -> Answer {
        let labels: serde_json::Map<String, serde_json::Value> =
            labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
        let alerts = super::super::parse(serde_json::json!([{ "labels": labels }]).to_string().as_bytes()).unwrap();
        respond(alerts, report, &Catalog::new(), &Loaded::defaults().config, None).answers.remove(0)
    }

    #[test]
    fn the_answer_is_about_what_the_alert_names_and_what_causes_it() {
        let mut both = report(&[("web", Severity::Crit), ("db", Severity::Crit)]);
        let answer = of(&[("alertname", "ContainerDown"), ("name", "web")], &both);
        assert_eq!(
            (answer.findings.join(" "), answer.also_open.join(" "), answer.verdict.as_str()),
            ("f0".into(), "f1".into(), "crit")
        );
        assert_eq!(answer.subjects, ["container:web"]);
        assert!(answer.by_hand.contains("docker"), "{}", answer.by_hand);
        // the database is why
        both.findings[0].explained_by = Some("f1".into());
        let answer = of(&[("alertname", "ContainerDown"), ("name", "web")], &both);
        assert_eq!((answer.findings.join(" "), answer.also_open.len()), ("f1 f0".into(), 0));
    }

    #[test]
    fn an_unknown_alert_says_so_and_gets_everything() {
        let answer = of(&[("alertname", "Strange")], &report(&[("web", Severity::Warn)]));
        assert_eq!((answer.known, answer.findings.len(), answer.verdict.as_str()), (false, 1, "warn"));
    }

    #[test]
    fn another_runbooks_trouble_is_only_mentioned() {
        let answer = of(&[("alertname", "DiskSpaceLow")], &report(&[("web", Severity::Crit)]));
        assert_eq!((answer.findings.len(), answer.also_open.len(), answer.verdict.as_str()), (0, 1, "ok"));
    }
}
