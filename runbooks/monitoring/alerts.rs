//! The alerts and silences of an Alertmanager, and the alert rules of the Prometheus servers that send to it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use opsctl_core::model::{Object, Product};
use opsctl_core::probe::{ProbeCx, ProbeError};
use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::alertmanager::covers_all;
use super::loaded;
use super::matchers::{self, Labels};
use super::notify::{LIST, active, parse_url, server_at};

/// Limits of the evidence.
pub(super) const MAX_ALERTS: usize = 300;
const MAX_RULES: usize = 1000;

/// Severities of alerts that page.
pub(super) const CRITICAL: &[&str] =
    &["critical", "crit", "page", "pager", "paging", "emergency", "emerg", "fatal", "disaster", "p0", "p1", "sev0", "sev1"];

/// An alert that it has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Alert {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) receivers: Vec<String>,
    pub(super) inhibited_by: Vec<String>,
    pub(super) silenced_by: Vec<String>,
}

/// An alert rule of a Prometheus that sends to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Rule {
    pub(super) labels: BTreeMap<String, String>,
    /// Labels with a template.
    pub(super) unknown: BTreeSet<String>,
    /// Its expression is always true and has no labels.
    pub(super) always: bool,
}

/// An active silence.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Silence {
    pub(super) id: String,
    pub(super) author: String,
    pub(super) comment: String,
    pub(super) ends_at: Option<Timestamp>,
    pub(super) matchers: Vec<String>,
    /// It matches every alert; reported by `monitoring.alertmanager`.
    pub(super) covers_all: bool,
    /// It selects alerts by their severity only.
    pub(super) by_severity: bool,
}

/// The alerts, critical ones first, and the labels of those that inhibit them.
pub(super) fn alerts_of(all: &[Value]) -> (Vec<Alert>, BTreeMap<String, BTreeMap<String, String>>) {
    let words = |v: &Value, path: &str| -> Vec<String> {
        let list = v.pointer(path).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).take(20).map(str::to_owned).collect()
    };
    let mut alerts: Vec<Alert> = all
        .iter()
        .map(|a| Alert {
            labels: labels_of(a),
            receivers: a.get("receivers").and_then(Value::as_array).into_iter().flatten().filter_map(name).collect(),
            inhibited_by: words(a, "/status/inhibitedBy"),
            silenced_by: words(a, "/status/silencedBy"),
        })
        .collect();
    alerts.sort_by_key(|a| !a.labels.get("severity").is_some_and(|s| CRITICAL.contains(&s.to_ascii_lowercase().as_str())));
    alerts.truncate(MAX_ALERTS);
    let wanted: BTreeSet<&String> = alerts.iter().flat_map(|a| &a.inhibited_by).collect();
    let fingerprint = |a: &Value| a.get("fingerprint").and_then(Value::as_str).map(str::to_owned);
    let sources = all.iter().filter_map(|a| Some((fingerprint(a).filter(|f| wanted.contains(f))?, labels_of(a))));
    let sources = sources.collect();
    (alerts, sources)
}

fn name(value: &Value) -> Option<String> {
    value.get("name")?.as_str().map(str::to_owned)
}

fn labels_of(value: &Value) -> BTreeMap<String, String> {
    let labels = value.get("labels").and_then(Value::as_object).into_iter().flatten();
    labels.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}

pub(super) fn silence(value: &Value) -> Option<Silence> {
    if value.pointer("/status/state").and_then(Value::as_str) != Some("active") {
        return None;
    }
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().chars().take(100).collect::<String>();
    let matchers = matchers::of_silence(value);
    let by_severity = matchers.iter().any(|m| m.label == "severity") && matchers.iter().all(|m| m.label == "severity");
    let covers = |severity: &str| {
        let labels = Labels { known: BTreeMap::from([("severity".to_owned(), severity.to_owned())]), ..Labels::default() };
        matchers::all_match(&matchers, &labels) == Some(true)
    };
    Some(Silence {
        id: text("id"),
        author: text("createdBy"),
        comment: text("comment"),
        ends_at: value.get("endsAt").and_then(Value::as_str).and_then(|t| t.parse().ok()),
        covers_all: covers_all(value),
        by_severity: by_severity && (CRITICAL.iter().any(|c| covers(c)) || covers("warning")),
        matchers: matchers.iter().map(matchers::Matcher::shown).collect(),
    })
}

/// The alert rules of the Prometheus servers of this host that send to this Alertmanager.
pub(super) async fn rules_for(cx: &ProbeCx, target: &Object) -> Result<Vec<Rule>, ProbeError> {
    let mut found = Vec::new();
    let servers = cx.inventory.server_targets(Product::Prometheus);
    if servers.is_empty() {
        return Ok(found);
    }
    let needs = cx.needs().await?;
    let only = cx.inventory.server_targets(Product::Alertmanager).len() == 1;
    for prometheus in servers {
        if cx.flags(&prometheus).await.is_agent() {
            continue;
        }
        let own = cx.inventory.server(&prometheus.id).and_then(|s| s.container.as_deref());
        let Ok(list) = cx.json(&prometheus, LIST).await else { continue };
        let sends = active(&list).iter().filter_map(|url| parse_url(url)).any(|(host, ..)| {
            let (container, server) = server_at(cx, &needs.neighbours, own, &host);
            server.as_deref() == Some(&target.id) || (only && server.is_none() && container.is_none() && own.is_some())
        });
        if !sends {
            continue;
        }
        let config = loaded::config(cx, &prometheus).await?;
        // relabelling can change every label
        let Some(dropped) = &config.dropped_labels else { continue };
        let json = cx.json(&prometheus, "/api/v1/rules?type=alert").await?;
        found.extend(rules_of(&json, dropped));
    }
    found.truncate(MAX_RULES);
    Ok(found)
}

/// The labels of alert rules that are known before an alert fires.
fn rules_of(json: &Value, dropped: &[String]) -> Vec<Rule> {
    let dropped: Vec<Regex> = dropped.iter().filter_map(|d| Regex::new(&format!("^(?:{d})$")).ok()).collect();
    let groups = json.pointer("/data/groups").and_then(Value::as_array).into_iter().flatten();
    let rules = groups.filter_map(|g| g.get("rules")?.as_array()).flatten();
    rules
        .filter_map(|r| {
            let mut labels = labels_of(r);
            labels.insert("alertname".to_owned(), r.get("name")?.as_str()?.to_owned());
            let is_open = |k: &str, v: &str| v.contains("{{") || dropped.iter().any(|d| d.is_match(k));
            let unknown: BTreeSet<String> = labels.iter().filter(|(k, v)| is_open(k, v)).map(|(k, _)| k.clone()).collect();
            labels.retain(|k, _| !unknown.contains(k));
            let query: String = r.get("query").and_then(Value::as_str).unwrap_or_default().split_whitespace().collect();
            let always = matches!(query.as_str(), "vector(1)" | "1" | "1>0" | "1==1" | "vector(1)>0" | "vector(1)==1");
            Some(Rule { labels, unknown, always })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_of_rules_before_they_fire() {
        let rules = json!({"data": {"groups": [{"rules": [
            {"name": "Watchdog", "query": "vector(1)", "labels": {"severity": "none"}},
            {"name": "Down", "query": "up == 0", "labels": {"severity": "critical", "team": "{{ $labels.team }}", "replica": "a"}},
        ]}]}});
        let found = rules_of(&rules, &["replica|shard".to_owned()]);
        assert!(found[0].always && !found[1].always);
        assert_eq!(found[1].unknown.iter().map(String::as_str).collect::<Vec<_>>(), ["replica", "team"]);
        assert_eq!(found[1].labels.get("severity").map(String::as_str), Some("critical"));
    }

    #[test]
    fn silences_of_a_whole_severity() {
        let of = |matchers: Value| {
            silence(&json!({"id": "s", "status": {"state": "active"}, "matchers": matchers})).unwrap().by_severity
        };
        assert!(of(json!([{"name": "severity", "value": "critical", "isRegex": false, "isEqual": true}])));
        assert!(of(json!([{"name": "severity", "value": "warning|info", "isRegex": true, "isEqual": true}])));
        assert!(!of(json!([{"name": "severity", "value": "info", "isRegex": false, "isEqual": true}])));
        assert!(!of(json!([
            {"name": "severity", "value": "critical", "isRegex": false, "isEqual": true},
            {"name": "instance", "value": "a", "isRegex": false, "isEqual": true},
        ])));
    }
}
