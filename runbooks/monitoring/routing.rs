//! Routes and inhibition rules of Alertmanager, evaluated for the labels of an alert.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::intervals::{Coverage, coverage};
use super::matchers::{self, Labels, Matcher, all_match};
use super::yaml::{self, list, texts};

/// Limits of a configuration.
const MAX_ROUTES: usize = 1000;
const MAX_INHIBITIONS: usize = 200;
const MAX_DEPTH: usize = 30;

/// The parts of a configuration that decide on delivery, without addresses and secrets.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub(super) route: Value,
    pub(super) inhibit_rules: Value,
    /// `time_intervals` and `mute_time_intervals`.
    pub(super) intervals: Value,
    /// Receivers, and whether they have an integration.
    pub(super) receivers: Vec<(String, bool)>,
}

impl Config {
    /// Parses the configuration as printed by the API.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let all = yaml::parse(text)?;
        let receivers = list(&all, "receivers").filter_map(|r| {
            let integrations = r.as_object()?.iter().filter(|(key, _)| key.ends_with("_configs"));
            let has_one = integrations.into_iter().any(|(_, v)| v.as_array().is_some_and(|all| !all.is_empty()));
            Some((r.get("name")?.as_str()?.to_owned(), has_one))
        });
        let intervals = ["time_intervals", "mute_time_intervals"].iter().flat_map(|key| list(&all, key)).cloned();
        let route = all.get("route").filter(|r| r.is_object())?;
        Some(Self {
            route: without_bulk(route, MAX_DEPTH),
            inhibit_rules: all.get("inhibit_rules").cloned().unwrap_or_default(),
            intervals: Value::Array(intervals.collect()),
            receivers: receivers.collect(),
        })
    }

    /// Whether a receiver has an integration; an unknown receiver counts as one.
    pub(super) fn delivers(&self, receiver: &str) -> bool {
        self.receivers.iter().find(|(name, _)| name == receiver).is_none_or(|(_, has)| *has)
    }
}

/// A route without the keys that do not decide on delivery.
fn without_bulk(route: &Value, depth: usize) -> Value {
    const KEYS: &[&str] =
        &["receiver", "continue", "matchers", "match", "match_re", "mute_time_intervals", "active_time_intervals"];
    let mut kept: serde_json::Map<String, Value> =
        KEYS.iter().filter_map(|key| Some(((*key).to_owned(), route.get(*key)?.clone()))).collect();
    if let Some(depth) = depth.checked_sub(1) {
        let routes: Vec<Value> = list(route, "routes").map(|r| without_bulk(r, depth)).collect();
        if !routes.is_empty() {
            kept.insert("routes".to_owned(), Value::Array(routes));
        }
    }
    Value::Object(kept)
}

/// One route.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) receiver: String,
    /// `None` if a matcher is unknown.
    matchers: Option<Vec<Matcher>>,
    goes_on: bool,
    is_root: bool,
    /// The interval that mutes it for ever.
    pub(super) muted: Option<String>,
    children: Vec<Route>,
}

impl Route {
    /// The tree of a configuration; `None` if it has too many routes.
    pub(super) fn tree(config: &Config, now: Timestamp) -> Option<Self> {
        let mut left = MAX_ROUTES;
        Self::new(&config.route, "", config, now, &mut left, MAX_DEPTH)
    }

    fn new(value: &Value, above: &str, config: &Config, now: Timestamp, left: &mut usize, depth: usize) -> Option<Self> {
        *left = left.checked_sub(1)?;
        let depth = depth.checked_sub(1)?;
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        let receiver = text("receiver").filter(|r| !r.is_empty()).unwrap_or(above).to_owned();
        let of = |name: &str| coverage(&config.intervals, name, now);
        let always = texts(value, "mute_time_intervals").find(|name| of(name) == Some(Coverage::Always));
        let active: Vec<&str> = texts(value, "active_time_intervals").collect();
        let never = active.iter().all(|name| of(name) == Some(Coverage::Never));
        let muted = match (always, active.first()) {
            (Some(name), _) => Some(format!("its mute time interval {name} always applies")),
            (None, Some(_)) if never => Some(format!("its active time interval {} does not occur again", active.join(", "))),
            _ => None,
        };
        let mut children = Vec::new();
        for child in list(value, "routes") {
            children.push(Self::new(child, &receiver, config, now, left, depth)?);
        }
        Some(Self {
            matchers: matchers::of(value, ""),
            goes_on: text("continue") == Some("true"),
            is_root: above.is_empty(),
            muted,
            children,
            receiver,
        })
    }

    /// The routes of an alert; `None` if that depends on an unknown label.
    pub(super) fn of(&self, labels: &Labels) -> Option<Vec<&Self>> {
        let mut found = Vec::new();
        for child in &self.children {
            if !all_match(child.matchers.as_ref()?, labels)? {
                continue;
            }
            found.extend(child.of(labels)?);
            if !child.goes_on {
                break;
            }
        }
        Some(if found.is_empty() { vec![self] } else { found })
    }

    /// Whether it selects no particular alerts.
    pub(super) fn is_broad(&self) -> bool {
        self.is_root || self.matchers.as_deref().is_some_and(matchers::are_broad)
    }

    /// Its matchers.
    pub(super) fn shown(&self) -> String {
        if self.is_root {
            return "the default route".to_owned();
        }
        let all: Vec<String> = self.matchers.iter().flatten().map(Matcher::shown).collect();
        if all.is_empty() { "a route without matchers".to_owned() } else { format!("the route {}", all.join(", ")) }
    }
}

/// An inhibition rule.
pub(super) struct Inhibition {
    source: Vec<Matcher>,
    target: Vec<Matcher>,
    pub(super) equal: Vec<String>,
}

impl Inhibition {
    /// The inhibition rules with known matchers.
    pub(super) fn all(config: &Config) -> Vec<Self> {
        let rules = config.inhibit_rules.as_array().into_iter().flatten().take(MAX_INHIBITIONS);
        let rule = |v: &Value| {
            Some(Self {
                source: matchers::of(v, "source_")?,
                target: matchers::of(v, "target_")?,
                equal: texts(v, "equal").map(str::to_owned).collect(),
            })
        };
        rules.filter_map(rule).collect()
    }

    /// Whether a firing `source` inhibits `target`; `None` if that depends on an unknown label.
    pub(super) fn applies(&self, source: &Labels, target: &Labels) -> Option<bool> {
        if !all_match(&self.source, source)? || !all_match(&self.target, target)? {
            return Some(false);
        }
        // an alert that matches both sides is not inhibited by others that do
        if all_match(&self.source, target)? && all_match(&self.target, source)? {
            return Some(false);
        }
        for label in &self.equal {
            if source.get(label)? != target.get(label)? {
                return Some(false);
            }
        }
        Some(true)
    }

    /// Whether it requires equal labels, and neither alert has one of them: missing labels are equal
    /// (<https://github.com/prometheus/alertmanager/issues/1727>).
    pub(super) fn compares_nothing(&self, source: &Labels, target: &Labels) -> bool {
        let absent = |label: &String| source.get(label) == Some("") && target.get(label) == Some("");
        !self.equal.is_empty() && self.equal.iter().all(absent)
    }

    /// Its matchers.
    pub(super) fn shown(&self) -> String {
        let side = |all: &[Matcher]| all.iter().map(Matcher::shown).collect::<Vec<_>>().join(", ");
        format!("source {} target {} equal [{}]", side(&self.source), side(&self.target), self.equal.join(", "))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const YAML: &str = "route:\n  receiver: ops\n  routes:\n  - receiver: audit\n    matchers:\n    - severity=~\".+\"\n    continue: true\n\
                        \x20 - matchers:\n    - team=\"db\"\n    routes:\n    - receiver: empty\n      matchers:\n      - severity=\"critical\"\n    continue: false\n\
                        \x20 - receiver: \"null\"\n    match:\n      alertname: Watchdog\n    active_time_intervals:\n    - past\n\
                        inhibit_rules:\n- source_matchers:\n  - severity=\"critical\"\n  target_matchers:\n  - severity=~\"critical|warning\"\n  equal:\n  - zone\n\
                        receivers:\n- name: ops\n  webhook_configs:\n  - url: <secret>\n- name: audit\n  email_configs:\n  - to: x\n- name: empty\n- name: \"null\"\n\
                        time_intervals:\n- name: past\n  time_intervals:\n  - years: ['2020']\n";

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let known = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Labels { known, complete: true, ..Labels::default() }
    }

    #[test]
    fn routes_of_an_alert() {
        let config = Config::parse(YAML).unwrap();
        let tree = Route::tree(&config, "2026-11-21T12:00:00Z".parse().unwrap()).unwrap();
        let to = |pairs: &[(&str, &str)]| tree.of(&labels(pairs)).unwrap().iter().map(|r| r.receiver.clone()).collect::<Vec<_>>();
        assert_eq!(to(&[("team", "db"), ("severity", "critical")]), ["audit", "empty"]);
        assert_eq!(to(&[("team", "db")]), ["ops"]);
        assert_eq!(to(&[("alertname", "Watchdog")]), ["null"]);
        assert_eq!(to(&[("alertname", "X")]), ["ops"]);
        let watchdog = tree.of(&labels(&[("alertname", "Watchdog")])).unwrap()[0].muted.clone();
        assert_eq!(watchdog.as_deref(), Some("its active time interval past does not occur again"));
        assert_eq!(["ops", "empty", "elsewhere"].map(|r| config.delivers(r)), [true, false, true]);
        // a rule with other labels that are unknown
        let rule = Labels { complete: false, ..labels(&[("severity", "critical")]) };
        assert!(tree.of(&rule).is_none());
    }

    #[test]
    fn inhibition_with_labels_that_are_missing_on_both_sides() {
        let rule = &Inhibition::all(&Config::parse(YAML).unwrap())[0];
        let (critical, warning) = (labels(&[("severity", "critical")]), labels(&[("severity", "warning")]));
        assert_eq!((rule.applies(&critical, &warning), rule.compares_nothing(&critical, &warning)), (Some(true), true));
        assert_eq!(rule.applies(&critical, &labels(&[("severity", "critical"), ("a", "b")])), Some(false));
        assert_eq!(rule.applies(&critical, &labels(&[("severity", "warning"), ("zone", "a")])), Some(false));
        let zoned = labels(&[("severity", "critical"), ("zone", "a")]);
        assert!(!rule.compares_nothing(&zoned, &warning));
    }
}
