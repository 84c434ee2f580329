//! Alerts that Alertmanager receives and that lead to no notification: receivers without an integration, intervals, inhibition
//! rules and silences, evaluated for the alerts that it has and for the alert rules of the Prometheus servers of this host.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, Object, Product, Severity, quantity};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::alertmanager::strange;
use super::alerts::{Alert, CRITICAL, MAX_ALERTS, Rule, Silence, alerts_of, rules_for, silence};
use super::matchers::Labels;
use super::routing::{Config, Inhibition, Route};
use super::{Settings, some_of};
use crate::shared::servers::Server;

const SWALLOWED: Code = Code {
    id: "monitoring.alerts-swallowed",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "alerts lead to no notification: critical alerts go to a receiver without integration, or are inhibited by the always-firing alert (crit); other alerts do, a time interval mutes their route for ever, an inhibition rule compares labels that neither alert has, or a silence covers a whole severity or has no end (warn, info)",
    hint: "`amtool config routes test LABEL=VALUE…` prints the receiver of an alert, `amtool alert query --inhibited --silenced` lists suppressed alerts",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.alerts-swallowed",
    title: "Alerts lead to notifications",
    codes: &[SWALLOWED],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

/// Severities of alerts that are not meant to notify: `something-info` is the example of the maintainers
/// (<https://github.com/prometheus/alertmanager/issues/428>).
const UNIMPORTANT: &[&str] = &["none", "info", "informational", "information", "notice", "debug", "ok", "deadman", "heartbeat"];
/// Alerts that exist to be dropped or to inhibit others.
const TECHNICAL: &[&str] = &["watchdog", "deadmansswitch", "deadmanswitch", "infoinhibitor", "heartbeat", "alwaysfiring"];
/// Names of receivers that are without integration on purpose.
const NULL_NAMES: &[&str] = &[
    "null",
    "nil",
    "none",
    "noop",
    "blackhole",
    "devnull",
    "void",
    "trash",
    "discard",
    "drop",
    "dropped",
    "ignore",
    "ignored",
    "silent",
    "dummy",
    "mute",
    "muted",
    "nowhere",
    "nothing",
    "disabled",
    "suppress",
];

/// Limit of always-firing alert rules; one is usual.
const MAX_ALWAYS: usize = 20;

/// Remaining time of a silence that has no end (judgement: a year).
const ENDLESS: SignedDuration = SignedDuration::from_hours(365 * 24);

pub(super) struct Swallowed {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    config: Config,
    alerts: Vec<Alert>,
    /// Labels of the alerts that inhibit others, by fingerprint.
    sources: BTreeMap<String, BTreeMap<String, String>>,
    rules: Vec<Rule>,
    silences: Vec<Silence>,
    gaps: Vec<String>,
}

impl Check for Swallowed {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Alertmanager)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let mut e = Evidence { server: Server::of(cx, target)?, ..Evidence::default() };
        let (status, alerts, silences, rules) = tokio::join!(
            cx.json(target, "/api/v2/status"),
            cx.json(target, "/api/v2/alerts"),
            cx.json(target, "/api/v2/silences"),
            rules_for(cx, target)
        );
        let status = status?;
        let text = status.pointer("/config/original").and_then(Value::as_str);
        e.config = text.and_then(Config::parse).ok_or_else(|| strange("its configuration", target))?;
        match alerts {
            Ok(Value::Array(all)) => (e.alerts, e.sources) = alerts_of(&all),
            Ok(_) => e.gaps.push(strange("alerts", target).to_string()),
            Err(why) => e.gaps.push(why.to_string()),
        }
        match silences {
            Ok(Value::Array(all)) => e.silences = all.iter().filter_map(silence).take(MAX_ALERTS).collect(),
            Ok(_) => e.gaps.push(strange("silences", target).to_string()),
            Err(why) => e.gaps.push(why.to_string()),
        }
        match rules {
            Ok(rules) => e.rules = rules,
            // a Prometheus that does not answer has a check of its own
            Err(ProbeError::Skip(_)) => {}
            Err(why) => e.gaps.push(why.to_string()),
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut findings = Vec::new();
        let mut gaps = e.gaps.clone();
        match Route::tree(&e.config, judged.taken_at) {
            Some(tree) => findings.extend(self.undelivered(judged, e, &tree)),
            None => gaps.push(format!("{} has too many routes to evaluate", judged.target.name)),
        }
        findings.extend(self.inhibited(judged, e));
        findings.extend(e.silences.iter().filter_map(|s| self.silenced(judged, e, s)));
        Judgement { findings, gaps, ..Judgement::default() }
    }
}

/// Importance of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Unimportant,
    Normal,
    Critical,
}

/// A reason for which alerts lead to no notification, and the alerts.
#[derive(Default)]
struct Lost {
    severity: Option<Severity>,
    firing: BTreeSet<String>,
    rules: BTreeSet<String>,
    routes: BTreeSet<String>,
}

impl Swallowed {
    fn class(&self, labels: &BTreeMap<String, String>) -> Class {
        let label = |name: &str| labels.get(name).map(|v| v.to_ascii_lowercase()).unwrap_or_default();
        let (name, severity) = (label("alertname"), label("severity"));
        match severity.as_str() {
            _ if self.is_technical(&name) => Class::Unimportant,
            s if UNIMPORTANT.contains(&s) => Class::Unimportant,
            s if CRITICAL.contains(&s) => Class::Critical,
            _ => Class::Normal,
        }
    }

    fn is_technical(&self, name: &str) -> bool {
        TECHNICAL.contains(&name.to_ascii_lowercase().as_str()) || name.eq_ignore_ascii_case(&self.settings.watchdog)
    }

    /// Alerts with routes that all end without a notification.
    fn undelivered(&self, judged: &Judged<'_>, e: &Evidence, tree: &Route) -> Vec<Finding> {
        let mut lost: BTreeMap<String, Lost> = BTreeMap::new();
        let firing = e.alerts.iter().filter(|a| a.silenced_by.is_empty()).map(|a| {
            let labels = Labels { known: a.labels.clone(), complete: true, ..Labels::default() };
            (labels, Some(&a.receivers))
        });
        let rules = e.rules.iter().map(|r| {
            let labels = Labels { known: r.labels.clone(), unknown: r.unknown.clone(), complete: r.always };
            (labels, None)
        });
        for (labels, receivers) in firing.chain(rules) {
            let class = self.class(&labels.known);
            let Some(routes) = tree.of(&labels).filter(|_| class > Class::Unimportant) else { continue };
            // another version may route differently
            let differs = |r: &&Route| receivers.is_some_and(|all| !all.is_empty() && !all.contains(&r.receiver));
            if routes.iter().any(differs) {
                continue;
            }
            let reasons: Option<Vec<(String, Option<Severity>)>> = routes.iter().map(|r| dead(&e.config, r, class)).collect();
            let worst = reasons.and_then(|all| all.into_iter().max_by_key(|(_, s)| *s));
            let Some((reason, Some(severity))) = worst else { continue };
            let lost = lost.entry(reason).or_default();
            lost.severity = lost.severity.max(Some(severity));
            lost.routes.extend(routes.iter().map(|r| r.shown()));
            let name = labels.known.get("alertname").cloned().unwrap_or_else(|| "an alert without a name".to_owned());
            if receivers.is_some() {
                lost.firing.insert(name)
            } else {
                lost.rules.insert(name)
            };
        }
        lost.into_iter().filter_map(|(reason, l)| undelivered(judged, e, &reason, &l)).collect()
    }

    /// Alerts that an inhibition rule suppresses although it was hardly meant to.
    fn inhibited(&self, judged: &Judged<'_>, e: &Evidence) -> Vec<Finding> {
        let rules = Inhibition::all(&e.config);
        // by inhibiting alert and reason
        let mut by_source: BTreeMap<(String, bool), (Severity, BTreeSet<String>, String)> = BTreeMap::new();
        let mut note = |source: &str, always: bool, severity: Severity, target: &Labels, rule: String| {
            let entry = by_source.entry((source.to_owned(), always)).or_insert((severity, BTreeSet::new(), rule));
            entry.0 = entry.0.max(severity);
            entry.1.extend(target.known.get("alertname").cloned());
        };
        let always_fires = |name: &str| {
            self.is_technical(name) && !name.eq_ignore_ascii_case("InfoInhibitor")
                || e.rules.iter().any(|r| r.always && r.labels.get("alertname").is_some_and(|n| n == name))
        };
        let name_of = |labels: &BTreeMap<String, String>| labels.get("alertname").cloned().unwrap_or_default();
        for alert in e.alerts.iter().filter(|a| a.silenced_by.is_empty()) {
            let class = self.class(&alert.labels);
            let target = Labels { known: alert.labels.clone(), complete: true, ..Labels::default() };
            for labels in alert.inhibited_by.iter().filter_map(|f| e.sources.get(f)) {
                let source = Labels { known: labels.clone(), complete: true, ..Labels::default() };
                let applied: Vec<&Inhibition> = rules.iter().filter(|r| r.applies(&source, &target) == Some(true)).collect();
                let Some(first) = applied.first() else { continue };
                let name = name_of(labels);
                if always_fires(&name) && class > Class::Unimportant {
                    let severity = if class == Class::Critical { Severity::Crit } else { Severity::Warn };
                    note(&name, true, severity, &target, first.shown());
                } else if class > Class::Unimportant && applied.iter().all(|r| r.compares_nothing(&source, &target)) {
                    note(&name, false, Severity::Warn, &target, first.shown());
                }
            }
        }
        // before such an alert fires
        for source in e.rules.iter().filter(|r| r.always).take(MAX_ALWAYS) {
            let from = Labels { known: source.labels.clone(), unknown: source.unknown.clone(), complete: true };
            for target in e.rules.iter().filter(|r| self.class(&r.labels) == Class::Critical && !r.always) {
                let to = Labels { known: target.labels.clone(), unknown: target.unknown.clone(), complete: false };
                if let Some(rule) = rules.iter().find(|r| r.applies(&from, &to) == Some(true)) {
                    note(&name_of(&source.labels), true, Severity::Crit, &to, rule.shown());
                }
            }
        }
        let finding = |((source, always), (severity, targets, rule)): ((String, bool), (Severity, BTreeSet<String>, String))| {
            let name = &judged.target.name;
            let targets: Vec<String> = targets.into_iter().collect();
            let text = if always {
                format!(
                    "{name}: {source} always fires and inhibits {}: no notification is sent for {}",
                    some_of(&targets),
                    them(&targets)
                )
            } else {
                format!("{name}: {source} inhibits {}, though the labels to compare exist on neither alert", some_of(&targets))
            };
            let f = e.server.finding(&SWALLOWED, severity, judged.target, text).cite("inhibition rule", rule);
            f.hint(if always {
                "exclude the always-firing alert from the source matchers of the inhibition rule"
            } else {
                "missing labels are equal: compare a label that every such alert has, or require it in the matchers (`zone!=\"\"`)"
            })
        };
        by_source.into_iter().map(finding).collect()
    }

    fn silenced(&self, judged: &Judged<'_>, e: &Evidence, silence: &Silence) -> Option<Finding> {
        if silence.covers_all {
            return None;
        }
        let name = &judged.target.name;
        let alerts: Vec<&Alert> = e.alerts.iter().filter(|a| a.silenced_by.contains(&silence.id)).collect();
        let critical = alerts.iter().any(|a| self.class(&a.labels) == Class::Critical);
        let names: BTreeSet<String> = alerts.iter().filter_map(|a| a.labels.get("alertname").cloned()).collect();
        let names: Vec<String> = names.into_iter().collect();
        let endless = silence.ends_at.is_some_and(|end| end.duration_since(judged.taken_at) > ENDLESS);
        let shown = silence.matchers.join(", ");
        let (severity, text) = match () {
            () if silence.by_severity => {
                let ends = silence.ends_at.map(|t| format!(" until {}", quantity::minute(t))).unwrap_or_default();
                (Severity::Warn, format!("{name}: the silence {shown} covers every alert of this severity{ends}"))
            }
            () if endless && !names.is_empty() => {
                let severity = if critical { Severity::Warn } else { Severity::Info };
                (severity, format!("{name}: the silence {shown} lasts over a year and suppresses {}", some_of(&names)))
            }
            () => return None,
        };
        let f = e.server.finding(&SWALLOWED, severity, judged.target, text);
        let f = f.cite("silence", &silence.id).cite("created by", &silence.author).cite("comment", &silence.comment);
        Some(f.hint("`amtool silence expire ID` ends it; change the rule of an alert that is not wanted"))
    }
}

/// Why a route sends no notification for an alert of this class, with a severity unless it is on purpose. `None` if it sends one.
fn dead(config: &Config, route: &Route, class: Class) -> Option<(String, Option<Severity>)> {
    if let Some(why) = &route.muted {
        let severity = if class == Class::Critical { Severity::Warn } else { Severity::Info };
        return Some((format!("a route that sends no notification ({why})"), Some(severity)));
    }
    if config.delivers(&route.receiver) {
        return None;
    }
    let severity = match (is_null(&route.receiver), class) {
        (true, Class::Critical) if route.is_broad() => Some(Severity::Warn),
        (true, _) => None,
        (false, Class::Critical) => Some(Severity::Crit),
        (false, _) if route.is_broad() => Some(Severity::Warn),
        (false, _) => Some(Severity::Info),
    };
    Some((format!("the receiver {}, which has no integration", route.receiver), severity))
}

/// Whether a receiver is named as one that drops alerts: `null`, `dev-null`, `blackhole`.
fn is_null(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let joined: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    NULL_NAMES.contains(&joined.as_str())
        || name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| NULL_NAMES.contains(&word))
}

fn undelivered(judged: &Judged<'_>, e: &Evidence, reason: &str, lost: &Lost) -> Option<Finding> {
    let name = &judged.target.name;
    let firing: Vec<String> = lost.firing.iter().cloned().collect();
    let rules: Vec<String> = lost.rules.difference(&lost.firing).cloned().collect();
    let text = if firing.is_empty() {
        format!("{name} would route {} to {reason}: no notification would be sent for {}", some_of(&rules), them(&rules))
    } else {
        format!("{name} routes {} to {reason}: no notification is sent for {}", some_of(&firing), them(&firing))
    };
    let f = e.server.finding(&SWALLOWED, lost.severity?, judged.target, text);
    let routes: Vec<String> = lost.routes.iter().cloned().collect();
    let f = f.cite("through", some_of(&routes)).cite("firing", some_of(&firing)).cite("alert rules", some_of(&rules));
    Some(f.hint("`amtool config routes test LABEL=VALUE…` prints the receiver of an alert; give the receiver an integration, or name it null"))
}

fn them(names: &[String]) -> &'static str {
    if names.len() == 1 { "it" } else { "them" }
}

#[cfg(test)]
mod tests {
    use super::is_null;

    #[test]
    fn receivers_that_drop_alerts_by_name() {
        for name in ["null", "dev-null", "devnull", "/dev/null", "blackhole", "team-null", "Black-Hole", "drop_alerts"] {
            assert!(is_null(name), "{name}");
        }
        for name in ["ops", "default", "web.hook", "team-X-mails", "critical", "nullable-team"] {
            assert!(!is_null(name), "{name}");
        }
    }
}
