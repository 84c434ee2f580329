//! Parsing of alert payloads: Alertmanager webhook (version 4), Grafana (unified and legacy), and lists of alerts as in the APIs
//! of Prometheus and Alertmanager.

use std::collections::BTreeMap;

use jiff::Timestamp;
use opsctl_core::model::quantity;
use opsctl_core::probe::Redactor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Maximum number of alerts in a payload; groups of Alertmanager are far smaller.
const MAX_ALERTS: usize = 500;

/// Maximum number of labels and annotations of one alert, and of their characters.
const MAX_LABELS: usize = 64;
const MAX_CHARS: usize = 1000;

/// An alert from any sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Alert {
    /// The label `alertname`, or the name of the rule.
    pub name: String,
    /// Whether the alert is resolved.
    pub resolved: bool,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The annotations of its rule.
    pub annotations: BTreeMap<String, String>,
    /// Start of the alert.
    pub starts_at: Option<Timestamp>,
}

/// Reason why a payload is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// Not JSON.
    #[error("the payload is not JSON: {0}")]
    NotJson(String),
    /// Unknown JSON document.
    #[error(
        "the payload is not one of Alertmanager (version 4), Grafana or a list of alerts: it has neither `alerts` nor `ruleName`, and is no list"
    )]
    Unknown,
    /// An alert without a name.
    #[error("alert {0} of the payload has no name: neither the label `alertname` nor `ruleName`")]
    Nameless(usize),
    /// Too many alerts.
    #[error("the payload holds {0} alerts, more than 500")]
    TooMany(usize),
}

impl Alert {
    /// Identity of an alert: its labels and start time. The same alert sent again has the same key; an alert that fires again has
    /// another.
    #[must_use]
    pub fn key(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.name.as_bytes());
        for (name, value) in &self.labels {
            for part in [name, value] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part.as_bytes());
            }
        }
        hash.update(self.starts_at.map_or_else(String::new, |at| at.to_string()));
        quantity::hex(&hash.finalize()[..12])
    }
}

/// Reads a payload.
pub fn parse(text: &[u8]) -> Result<Vec<Alert>, PayloadError> {
    let value: Value = serde_json::from_slice(text).map_err(|e| PayloadError::NotJson(e.to_string()))?;
    let list = value
        .as_array()
        .or_else(|| value.get("alerts").and_then(Value::as_array))
        .or_else(|| value.pointer("/data/alerts").and_then(Value::as_array));
    if let Some(list) = list {
        if list.len() > MAX_ALERTS {
            return Err(PayloadError::TooMany(list.len()));
        }
        return list.iter().enumerate().map(|(i, v)| one(v, &value).ok_or(PayloadError::Nameless(i + 1))).collect();
    }
    if value.get("ruleName").is_some() {
        return legacy(&value).map(|alert| vec![alert]).ok_or(PayloadError::Nameless(1));
    }
    Err(PayloadError::Unknown)
}

/// An alert of a list; values shared by the group may be in the group.
fn one(value: &Value, group: &Value) -> Option<Alert> {
    let mut labels = texts(group.get("commonLabels"));
    labels.extend(texts(value.get("labels")));
    let mut annotations = texts(group.get("commonAnnotations"));
    annotations.extend(texts(value.get("annotations")));
    let name = labels.get("alertname").filter(|n| !n.is_empty())?.clone();
    // a string in webhooks, `{"state": …}` in the API of Alertmanager, `state` in that of Prometheus
    let status = value.get("status");
    let status =
        status.and_then(Value::as_str).or_else(|| status?.get("state")?.as_str()).or_else(|| value.get("state")?.as_str());
    let ended = moment(value.get("endsAt")).is_some_and(|end| end <= opsctl_core::probe::io::clock::now());
    let resolved = match status {
        Some(word) => matches!(word.to_lowercase().as_str(), "resolved" | "inactive" | "normal" | "ok"),
        None => ended,
    };
    let starts_at = moment(value.get("startsAt")).or_else(|| moment(value.get("activeAt")));
    Some(Alert { name, resolved, labels, annotations, starts_at })
}

/// Payload of Grafana before version 9.
fn legacy(value: &Value) -> Option<Alert> {
    let name = value.get("ruleName")?.as_str().filter(|n| !n.is_empty())?;
    let mut labels = texts(value.get("tags"));
    // each of several matches has its own tags; the first names the object
    for found in value.get("evalMatches").and_then(Value::as_array).into_iter().flatten().take(1) {
        labels.extend(texts(found.get("tags")));
    }
    labels.insert("alertname".to_owned(), name.to_owned());
    if let Some(id) = value.get("ruleId").and_then(Value::as_i64) {
        labels.insert("rule_id".to_owned(), id.to_string());
    }
    let annotations =
        ["title", "message"].iter().filter_map(|key| Some(((*key).to_owned(), bounded(value.get(*key)?.as_str()?))));
    let resolved = value.get("state").and_then(Value::as_str).is_some_and(|s| matches!(s, "ok" | "paused"));
    Some(Alert { name: bounded(name), resolved, labels, annotations: annotations.collect(), starts_at: None })
}

/// The strings of an object; other values in JSON notation.
fn texts(value: Option<&Value>) -> BTreeMap<String, String> {
    let object = value.and_then(Value::as_object);
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    object.into_iter().flatten().take(MAX_LABELS).map(|(k, v)| (bounded(k), bounded(&text(v)))).collect()
}

/// Truncated, and without secrets: rules put URLs into annotations.
fn bounded(text: &str) -> String {
    let short: String = text.chars().take(MAX_CHARS).collect();
    Redactor::default().scrub(&short)
}

/// `0001-01-01T00:00:00Z` means never.
fn moment(value: Option<&Value>) -> Option<Timestamp> {
    value?.as_str()?.parse().ok().filter(|at: &Timestamp| *at > Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn alertmanager_and_grafana_payloads_are_equivalent() {
        let text = r#"{"version":"4","groupKey":"{}:{}","status":"firing","receiver":"opsctl","commonLabels":{"severity":"critical"},
            "alerts":[{"status":"firing","labels":{"alertname":"ContainerDown","name":"web"},"annotations":{"summary":"password=canary-1"},
            "startsAt":"2026-11-21T10:00:00.5Z","endsAt":"0001-01-01T00:00:00Z","fingerprint":"x"},
            {"status":"resolved","labels":{"alertname":"DiskSpaceLow"},"startsAt":"2026-11-21T10:00:00Z"}]}"#;
        let found = parse(text.as_bytes()).unwrap();
        assert_eq!(
            (found[0].name.as_str(), found[0].labels["severity"].as_str(), found[0].resolved),
            ("ContainerDown", "critical", false)
        );
        assert_eq!(found[0].starts_at, Some("2026-11-21T10:00:00.5Z".parse().unwrap()));
        assert!(found[1].resolved && !found[0].annotations["summary"].contains("canary"));
    }

    #[test]
    fn api_alert_lists_are_parsed() {
        let prometheus = r#"{"status":"success","data":{"alerts":[{"labels":{"alertname":"A"},"state":"firing","activeAt":"2026-11-21T10:00:00Z","value":"1"}]}}"#;
        assert!(parse(prometheus.as_bytes()).unwrap()[0].starts_at.is_some());
        let sent = r#"[{"labels":{"alertname":"A"},"endsAt":"2020-01-01T00:00:00Z"},{"labels":{"alertname":"B"},"status":{"state":"active"}}]"#;
        let found = parse(sent.as_bytes()).unwrap();
        assert_eq!((found[0].resolved, found[1].resolved), (true, false));
    }

    #[test]
    fn legacy_grafana_payload_is_parsed() {
        let text = r#"{"dashboardId":1,"evalMatches":[{"value":1,"metric":"Count","tags":{"name":"meter"}}],"ruleId":7,"ruleName":"No data from the meter",
            "state":"alerting","title":"[Alerting] No data","message":"look"}"#;
        let [alert] = parse(text.as_bytes()).unwrap().try_into().unwrap();
        assert_eq!(
            (alert.name.as_str(), alert.labels["name"].as_str(), alert.resolved),
            ("No data from the meter", "meter", false)
        );
        assert!(parse(text.replace("alerting", "ok").as_bytes()).unwrap()[0].resolved);
    }

    #[test]
    fn invalid_payload_is_rejected() {
        assert!(matches!(parse(b"{"), Err(PayloadError::NotJson(_))));
        assert_eq!(parse(b"{}"), Err(PayloadError::Unknown));
        assert_eq!(parse(b"\"text\""), Err(PayloadError::Unknown));
        assert_eq!(parse(br#"{"alerts":[{"labels":{}}]}"#), Err(PayloadError::Nameless(1)));
        let many = format!("[{}]", vec![r#"{"labels":{"alertname":"A"}}"#; 501].join(","));
        assert_eq!(parse(many.as_bytes()), Err(PayloadError::TooMany(501)));
        assert_eq!(parse(b"[]"), Ok(vec![]));
    }

    #[test]
    fn alert_key_changes_when_the_alert_fires_again() {
        let alert = |at: &str| {
            parse(format!(r#"[{{"labels":{{"alertname":"A","x":"1"}},"startsAt":"{at}"}}]"#).as_bytes()).unwrap().remove(0)
        };
        assert_eq!(alert("2026-11-21T10:00:00Z").key(), alert("2026-11-21T10:00:00Z").key());
        assert_ne!(alert("2026-11-21T10:00:00Z").key(), alert("2026-11-21T10:00:01Z").key());
    }
}
