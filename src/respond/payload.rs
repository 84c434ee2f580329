//! Parsing of alert payloads: Alertmanager webhook (version 4), Grafana (unified and legacy), lists of alerts as in the APIs of
//! Prometheus and Alertmanager, and single events such as those of Uptime Kuma and Netdata.
//!
//! An alert without a name, or one that is no object, costs only itself: the others of its group are answered.

use std::collections::BTreeMap;

use jiff::Timestamp;
use opsctl_core::model::quantity;
use opsctl_core::probe::Redactor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Maximum number of alerts of a payload that are answered; groups of Alertmanager are far smaller.
const MAX_ALERTS: usize = 500;

/// Maximum number of labels and annotations of one alert, and of their characters.
const MAX_LABELS: usize = 64;
const MAX_CHARS: usize = 1000;

/// Name of an alert without one.
const UNNAMED: &str = "unnamed alert";

/// Labels with the name of an alert, and fields with it, the most common first.
const NAME_LABELS: &[&str] = &["alertname", "alert_name", "alertName", "rulename", "rule_name", "rule"];
const NAME_FIELDS: &[&str] = &[
    "alertname",
    "alert_name",
    "alertName",
    "alert",
    "ruleName",
    "rule_name",
    "name",
    "event_name",
    "check",
    "title",
    "subject",
];

/// Fields with the state of an alert, and the words for a resolved one: those of Alertmanager, Grafana, Prometheus, Netdata,
/// Zabbix, Icinga and Datadog.
const STATE_FIELDS: &[&str] = &["status", "state", "event_status", "severity"];
const RESOLVED: &[&str] = &[
    "resolved",
    "inactive",
    "normal",
    "ok",
    "clear",
    "cleared",
    "recovered",
    "recovery",
    "up",
    "closed",
    "removed",
    "paused",
    "healthy",
    "reachable",
];

/// Fields of a single event that become labels. The others may be secrets: Uptime Kuma sends the passwords of its monitors.
const LABEL_FIELDS: &[&str] = &[
    "chart",
    "container",
    "context",
    "domain",
    "family",
    "host",
    "instance",
    "job",
    "mountpoint",
    "name",
    "node",
    "owner",
    "port",
    "service",
    "severity",
    "team",
    "type",
    "unit",
    "url",
];

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

/// The alerts of a payload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payload {
    /// The alerts, in the order of the payload.
    pub alerts: Vec<Alert>,
    /// Items that are not answered, as sentences.
    pub left_out: Vec<String>,
}

/// Reason why a payload is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// Not JSON.
    #[error("the payload is not JSON: {0}")]
    NotJson(String),
    /// Unknown JSON document.
    #[error(
        "the payload is not one of Alertmanager (version 4), Grafana or a list of alerts, nor a single event with a name and a state"
    )]
    Unknown,
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
pub fn parse(text: &[u8]) -> Result<Payload, PayloadError> {
    // a byte order mark, and bytes of another encoding in one text, do not lose the others
    let text = String::from_utf8_lossy(text);
    let value: Value =
        serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|e| PayloadError::NotJson(e.to_string()))?;
    let list = value
        .as_array()
        .or_else(|| value.get("alerts").and_then(Value::as_array))
        .or_else(|| value.pointer("/data/alerts").and_then(Value::as_array))
        .or_else(|| value.get("data").and_then(Value::as_array));
    if let Some(list) = list {
        return Ok(group(list, &value));
    }
    // Alertmanager's group without its list, as Go writes an empty one
    if value.get("alerts").is_some_and(Value::is_null) && value.get("groupKey").is_some() {
        return Ok(Payload::default());
    }
    let alert = if value.get("ruleName").is_some() { Some(legacy(&value)) } else { event(&value) };
    alert.map(|alert| Payload { alerts: vec![alert], left_out: Vec::new() }).ok_or(PayloadError::Unknown)
}

/// The alerts of a list. Surplus alerts are left out, resolved ones first.
fn group(list: &[Value], whole: &Value) -> Payload {
    let mut payload = Payload::default();
    for (i, value) in list.iter().enumerate() {
        if value.is_object() {
            payload.alerts.push(one(value, whole));
        } else {
            payload.left_out.push(format!("item {} of the payload is no alert", i + 1));
        }
    }
    let surplus = payload.alerts.len().saturating_sub(MAX_ALERTS);
    if surplus > 0 {
        // the sort keeps the order of equals
        payload.alerts.sort_by_key(|alert| alert.resolved);
        payload.alerts.truncate(MAX_ALERTS);
        payload.left_out.push(format!("{surplus} alerts of the payload beyond {MAX_ALERTS} are not answered"));
    }
    // Alertmanager's `max_alerts`
    if let Some(n) = whole.get("truncatedAlerts").and_then(Value::as_u64).filter(|n| *n > 0) {
        payload.left_out.push(format!("{n} alerts were left out by the sender (max_alerts)"));
    }
    payload
}

/// An alert of a list; values shared by the group may be in the group.
fn one(value: &Value, group: &Value) -> Alert {
    let mut labels = texts(group.get("commonLabels"));
    labels.extend(texts(value.get("labels")));
    let mut annotations = texts(group.get("commonAnnotations"));
    annotations.extend(texts(value.get("annotations")));
    let by_label = |labels: Option<&Value>| NAME_LABELS.iter().find_map(|name| text_of(labels?.get(*name)?));
    let name = by_label(value.get("labels"))
        .or_else(|| by_label(group.get("commonLabels")))
        .or_else(|| by_label(group.get("groupLabels")))
        .or_else(|| NAME_FIELDS.iter().find_map(|field| text_of(value.get(*field)?)));
    // a string in webhooks, `{"state": …}` in the API of Alertmanager, `state` in that of Prometheus
    let state = ["status", "state"].iter().find_map(|field| state_of(value.get(*field)?));
    let ended = moment(value.get("endsAt")).map(|end| end <= opsctl_core::probe::io::clock::now());
    let of_group = || state_of(group.get("status")?).map(|word| is_resolved(&word));
    let resolved = state.map(|word| is_resolved(&word)).or(ended).or_else(of_group).unwrap_or(false);
    let starts_at = moment(value.get("startsAt")).or_else(|| moment(value.get("activeAt")));
    let name = name.map_or_else(|| UNNAMED.to_owned(), |name| bounded(&name));
    Alert { name, resolved, labels, annotations, starts_at }
}

/// Payload of Grafana before version 9.
fn legacy(value: &Value) -> Alert {
    let name = value.get("ruleName").and_then(text_of).map_or_else(|| UNNAMED.to_owned(), |name| bounded(&name));
    let mut labels = texts(value.get("tags"));
    // each of several matches has its own tags; the first names the object
    for found in value.get("evalMatches").and_then(Value::as_array).into_iter().flatten().take(1) {
        labels.extend(texts(found.get("tags")));
    }
    labels.insert("alertname".to_owned(), name.clone());
    if let Some(id) = value.get("ruleId").and_then(text_of) {
        labels.insert("rule_id".to_owned(), bounded(&id));
    }
    let annotations =
        ["title", "message"].iter().filter_map(|key| Some(((*key).to_owned(), bounded(&text_of(value.get(*key)?)?))));
    let resolved = value.get("state").and_then(state_of).is_some_and(|word| is_resolved(&word));
    Alert { name, resolved, labels, annotations: annotations.collect(), starts_at: None }
}

/// A single event: that of Uptime Kuma (`heartbeat` and `monitor`), or an object with a name and a state.
fn event(value: &Value) -> Option<Alert> {
    let fields = value.as_object()?;
    let part = |name: &str| fields.get(name).filter(|v| v.is_object());
    // the objects that senders put their fields into
    let (monitor, heartbeat, inner) = (part("monitor"), part("heartbeat"), part("alert").or_else(|| part("event")));
    let places: Vec<&Value> = [monitor, inner, Some(value)].into_iter().flatten().collect();
    let find = |names: &[&str]| names.iter().find_map(|name| places.iter().find_map(|place| text_of(place.get(*name)?)));
    let message = find(&["msg", "message", "info", "description", "summary", "text"]);
    let state = match heartbeat.and_then(|h| h.get("status")) {
        // 0 down, 1 up, 2 pending, 3 maintenance
        Some(Value::Number(n)) => {
            let word = if n.as_i64() == Some(1) { "up" } else { "down" };
            Some(word.to_owned())
        }
        Some(other) => state_of(other),
        None => STATE_FIELDS.iter().find_map(|name| places.iter().find_map(|place| state_of(place.get(*name)?))),
    };
    // the test of a sender has neither a monitor nor a state
    let is_test = fields.contains_key("heartbeat") && message.is_some();
    let name = find(NAME_FIELDS).or_else(|| message.clone().filter(|_| is_test || state.is_some()))?;
    if state.is_none() && !is_test {
        return None;
    }
    let mut labels = BTreeMap::new();
    for field in LABEL_FIELDS {
        if let Some(text) = find(&[*field]) {
            labels.insert((*field).to_owned(), bounded(&text));
        }
    }
    labels.extend(texts(value.get("labels")).into_iter().chain(texts(value.get("tags"))).take(MAX_LABELS));
    for (name, fields) in [("host", ["hostname", "host_name"]), ("container", ["docker_container", "container_name"])] {
        if let Some(text) = find(&fields) {
            labels.entry(name.to_owned()).or_insert_with(|| bounded(&text));
        }
    }
    let name = bounded(&name);
    labels.insert("alertname".to_owned(), name.clone());
    let annotations = message.map(|text| ("message".to_owned(), bounded(&text))).into_iter().collect();
    let begin = ["startsAt", "started_at", "when", "date", "time", "timestamp"];
    let starts_at = begin.iter().find_map(|field| moment(value.get(*field)));
    Some(Alert { name, resolved: state.is_some_and(|word| is_resolved(&word)), labels, annotations, starts_at })
}

/// The texts of an object, numbers and booleans too; nested values in JSON notation. `null` is no value.
fn texts(value: Option<&Value>) -> BTreeMap<String, String> {
    let object = value.and_then(Value::as_object);
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let present = object.into_iter().flatten().filter(|(_, v)| !v.is_null());
    present.take(MAX_LABELS).map(|(k, v)| (bounded(k), bounded(&text(v)))).collect()
}

/// A text that is not empty; numbers and booleans as text.
fn text_of(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(n) => n.to_string(),
        Value::Bool(yes) => yes.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    Some(text).filter(|text| !text.is_empty())
}

/// The word for a state: a text, or an object with one.
fn state_of(value: &Value) -> Option<String> {
    text_of(value).or_else(|| ["state", "status", "text"].iter().find_map(|name| text_of(value.get(*name)?)))
}

fn is_resolved(word: &str) -> bool {
    RESOLVED.iter().any(|resolved| word.eq_ignore_ascii_case(resolved))
}

/// Truncated, and without secrets: rules put URLs into annotations.
fn bounded(text: &str) -> String {
    let short: String = text.chars().take(MAX_CHARS).collect();
    Redactor::default().scrub(&short)
}

/// A time in RFC 3339 or in seconds since the epoch, also as text. `0001-01-01T00:00:00Z` means never.
fn moment(value: Option<&Value>) -> Option<Timestamp> {
    let text = text_of(value?)?;
    let epoch = || text.parse::<f64>().ok().filter(|s| s.is_finite()).and_then(|s| Timestamp::from_second(seconds(s)).ok());
    text.parse().ok().or_else(epoch).filter(|at: &Timestamp| *at > Timestamp::UNIX_EPOCH)
}

/// Seconds since the epoch, from seconds or milliseconds: 1e11 s are in the year 5138.
#[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
fn seconds(time: f64) -> i64 {
    (if time > 1e11 { time / 1000.0 } else { time }) as i64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn corpus_of_webhooks() {
        opsctl_core::corpus::check("alert-payload", 37, |text| match parse(text.as_bytes()) {
            Ok(payload) => {
                let alert = |a: &Alert| format!("{} {}", a.name, if a.resolved { "resolved" } else { "firing" });
                let alerts: Vec<String> = payload.alerts.iter().map(alert).collect();
                vec![("alerts", alerts.join("; ")), ("left_out", payload.left_out.join("; "))]
            }
            Err(_) => vec![("alerts", "error".to_owned())],
        });
    }

    #[test]
    fn alertmanager_and_grafana_payloads_are_equivalent() {
        let text = r#"{"version":"4","groupKey":"{}:{}","status":"firing","receiver":"opsctl","commonLabels":{"severity":"critical"},
            "alerts":[{"status":"firing","labels":{"alertname":"ContainerDown","name":"web"},"annotations":{"summary":"password=canary-1"},
            "startsAt":"2026-11-21T10:00:00.5Z","endsAt":"0001-01-01T00:00:00Z","fingerprint":"x"},
            {"status":"resolved","labels":{"alertname":"DiskSpaceLow"},"startsAt":"2026-11-21T10:00:00Z"}]}"#;
        let found = parse(text.as_bytes()).unwrap().alerts;
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
        assert!(parse(prometheus.as_bytes()).unwrap().alerts[0].starts_at.is_some());
        let sent = r#"[{"labels":{"alertname":"A"},"endsAt":"2020-01-01T00:00:00Z"},{"labels":{"alertname":"B"},"status":{"state":"active"}}]"#;
        let found = parse(sent.as_bytes()).unwrap().alerts;
        assert_eq!((found[0].resolved, found[1].resolved), (true, false));
    }

    #[test]
    fn legacy_grafana_payload_is_parsed() {
        let text = r#"{"dashboardId":1,"evalMatches":[{"value":1,"metric":"Count","tags":{"name":"meter"}}],"ruleId":7,"ruleName":"No data from the meter",
            "state":"alerting","title":"[Alerting] No data","message":"look"}"#;
        let [alert] = parse(text.as_bytes()).unwrap().alerts.try_into().unwrap();
        assert_eq!(
            (alert.name.as_str(), alert.labels["name"].as_str(), alert.resolved),
            ("No data from the meter", "meter", false)
        );
        assert!(parse(text.replace("alerting", "ok").as_bytes()).unwrap().alerts[0].resolved);
    }

    #[test]
    fn invalid_payload_is_rejected() {
        assert!(matches!(parse(b"{"), Err(PayloadError::NotJson(_))));
        assert_eq!(parse(b"{}"), Err(PayloadError::Unknown));
        assert_eq!(parse(b"\"text\""), Err(PayloadError::Unknown));
        assert_eq!(parse(b"[]"), Ok(Payload::default()));
        // settings of a program, not an event
        assert_eq!(parse(br#"{"name":"web","version":1}"#), Err(PayloadError::Unknown));
    }

    #[test]
    fn nameless_alert_costs_only_itself() {
        let text =
            r#"{"alerts":[{"labels":{}},null,{"labels":{"alertname":"A","shard":3,"x":null}},"odd",{"labels":null,"name":"B"}]}"#;
        let payload = parse(text.as_bytes()).unwrap();
        let names: Vec<&str> = payload.alerts.iter().map(|a| a.name.as_str()).collect();
        assert_eq!(names, [UNNAMED, "A", "B"]);
        assert_eq!(payload.alerts[1].labels.keys().collect::<Vec<_>>(), ["alertname", "shard"]);
        assert_eq!(payload.left_out, ["item 2 of the payload is no alert", "item 4 of the payload is no alert"]);
    }

    #[test]
    fn surplus_alerts_are_left_out_resolved_ones_first() {
        let mut alerts = vec![r#"{"status":"resolved","labels":{"alertname":"old"}}"#];
        alerts.resize(501, r#"{"status":"firing","labels":{"alertname":"A"}}"#);
        let payload = parse(format!("[{}]", alerts.join(",")).as_bytes()).unwrap();
        assert!(payload.alerts.len() == MAX_ALERTS && payload.alerts.iter().all(|a| !a.resolved));
        assert_eq!(payload.left_out, ["1 alerts of the payload beyond 500 are not answered"]);
    }

    #[test]
    fn single_event_is_an_alert() {
        let text = r#"{"heartbeat":{"monitorID":10,"status":0,"msg":"timeout","time":"2026-11-21 10:00:00"},
            "monitor":{"id":10,"name":"shop","hostname":"web-1","docker_container":"shop"},"msg":"[shop] Down"}"#;
        let [alert] = parse(text.as_bytes()).unwrap().alerts.try_into().unwrap();
        assert_eq!((alert.name.as_str(), alert.resolved, alert.labels["container"].as_str()), ("shop", false, "shop"));
        assert!(parse(text.replace(r#""status":0"#, r#""status":1"#).as_bytes()).unwrap().alerts[0].resolved);
        let trial = parse(br#"{"heartbeat":null,"monitor":null,"msg":"Webhook Testing"}"#).unwrap();
        assert_eq!(trial.alerts[0].name, "Webhook Testing");
    }

    #[test]
    fn alert_key_changes_when_the_alert_fires_again() {
        let alert = |at: &str| {
            parse(format!(r#"[{{"labels":{{"alertname":"A","x":"1"}},"startsAt":"{at}"}}]"#).as_bytes()).unwrap().alerts.remove(0)
        };
        assert_eq!(alert("2026-11-21T10:00:00Z").key(), alert("2026-11-21T10:00:00Z").key());
        assert_ne!(alert("2026-11-21T10:00:00Z").key(), alert("2026-11-21T10:00:01Z").key());
    }
}
