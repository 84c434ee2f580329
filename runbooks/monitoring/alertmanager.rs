//! Alertmanager: readiness, loaded configuration, failed notifications, default receiver and silences.

use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Impact, Inventory, Judged, Judgement, KeyKind, Object, Plan, Product, Refusal, Role,
    Severity,
};
use opsctl_core::probe::servers::metrics::sum;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::counters::Counters;
use super::status::ServerState;
use super::{Settings, some_of};
use crate::shared::dependencies::{DESCRIPTORS, NO_ROOM, running};
use crate::shared::restart_container::RESTART;

pub(super) const ALERTMANAGER: Code = Code {
    id: "monitoring.alertmanager",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "it does not run, refuses connections or does not answer, could not load its configuration, or over {notifications_failed_percent} of its notifications failed since the last run (crit); its default receiver has no integration, or a silence covers every alert (warn); notifications failed earlier since its start (info)",
    hint: "check its log; `amtool check-config FILE` validates its configuration, `amtool silence query` lists silences",
    impacts: &[Impact::likely(Role::Unresponsive, KeyKind::Container, "server does not respond as it should")],
    depends_on: &[&running("its"), DESCRIPTORS, NO_ROOM],
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.alertmanager",
    title: "Alertmanager is ready and delivers notifications",
    codes: &[ALERTMANAGER],
    fixes: &[RESTART],
    timeout: Duration::from_secs(9),
};

const COUNTERS: &[&str] = &["alertmanager_notifications_failed_total", "alertmanager_notifications_total"];
const LOADED: &str = "alertmanager_config_last_reload_successful";

pub(super) struct Alertmanager {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    standing: ServerState,
    reload_ok: Option<bool>,
    counters: Counters,
    /// The receiver of the root route, and whether it has an integration.
    default_receiver: Option<(String, bool)>,
    /// Comments of active silences that cover every alert.
    mute: Vec<String>,
    gap: Option<String>,
}

impl Check for Alertmanager {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Alertmanager)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let state = ServerState::of(cx, target, "/-/ready").await?;
        let mut e = Evidence { standing: state, ..Evidence::default() };
        if e.standing.status != 200 {
            return Ok(e);
        }
        let object = e.standing.server.object(target);
        // each by itself: a reply in the format of another version costs its own facts
        let loaded = async { Ok::<_, ProbeError>(sum(&cx.metrics(target, &[LOADED]).await?, LOADED).map(|n| n > 0.0)) };
        let counters = Counters::read(cx, target, &object, COUNTERS, "integration");
        // at the same time: each may take its whole timeout
        let (loaded, counters, receiver, mute) = tokio::join!(loaded, counters, receiver_of(cx, target), silences_of(cx, target));
        let mut gaps: Vec<String> = Vec::new();
        let mut gap = |why: ProbeError| gaps.push(why.to_string());
        e.reload_ok = loaded.unwrap_or_else(|why| {
            gap(why);
            None
        });
        match counters {
            Ok((counters, _)) => e.counters = counters,
            Err(why) => gap(why),
        }
        match receiver {
            Ok(receiver) => e.default_receiver = receiver,
            Err(why) => gap(why),
        }
        match mute {
            Ok(mute) => e.mute = mute,
            Err(why) => gap(why),
        }
        // one reply is the source of several facts
        gaps.dedup();
        e.gap = (!gaps.is_empty()).then(|| gaps.join("; "));
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        if e.standing.silence.is_silent() {
            return e.standing.judge_silence(&ALERTMANAGER, judged, "Alertmanager", true);
        }
        let name = &judged.target.name;
        let finding = |severity, text: String| e.standing.server.finding(&ALERTMANAGER, severity, judged.target, text);
        let mut findings: Vec<Finding> = Vec::new();
        if e.standing.status != 200 {
            let text = format!("{name} is not ready: status {}", e.standing.status);
            findings.push(e.standing.silent(finding(Severity::Crit, text)).cite("reply", &e.standing.says));
        }
        if e.reload_ok == Some(false) {
            let text =
                format!("{name} could not load its configuration: it still runs with the previous one, and its next start fails");
            findings.push(
                finding(Severity::Crit, text).hint("`amtool check-config FILE` reports the error; then reload it (SIGHUP)"),
            );
        }
        let sent: Vec<(&str, f64, f64)> = e.counters.of(COUNTERS[1]).collect();
        for (integration, all, failed) in e.counters.of(COUNTERS[0]).filter(|(_, all, _)| *all > 0.0) {
            let (total, since) =
                sent.iter().find(|(w, ..)| *w == integration).map_or((0.0, 0.0), |(_, all, grown)| (*all, *grown));
            let percent = failed * 100.0 / since.max(failed).max(1.0);
            if failed > 0.0 && percent > self.settings.notifications_failed_percent {
                let text = format!(
                    "{name}: {failed:.0} of {:.0} notifications by {integration} failed since the last run, limit {} %",
                    since.max(failed),
                    self.settings.notifications_failed_percent
                );
                findings.push(finding(Severity::Crit, text).hint("its log contains the error of the receiver"));
            } else {
                let text = format!(
                    "{name}: {all:.0} of {total:.0} notifications by {integration} failed since its start, none since the last run"
                );
                findings.push(finding(Severity::Info, text));
            }
        }
        if let Some((receiver, false)) = &e.default_receiver {
            let text = format!("{name}: alerts without a matching route go to the receiver {receiver}, which has no integration");
            findings.push(
                finding(Severity::Warn, text)
                    .hint("give the default receiver an integration, or verify that every alert matches a route"),
            );
        }
        if !e.mute.is_empty() {
            let text = format!("{name}: a silence covers every alert: {}", some_of(&e.mute));
            findings.push(finding(Severity::Warn, text).hint("`amtool silence expire ID` ends it"));
        }
        let samples = e.counters.samples(&e.standing.server.object(judged.target), judged.taken_at);
        Judgement { findings, samples, gaps: e.gap.iter().cloned().collect(), ..Judgement::default() }
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        e.standing.plan(&SPEC, finding, judged)
    }
}

/// Another version may use another format: an unknown format is an error, not an OK.
pub(super) fn strange(part: &str, target: &Object) -> ProbeError {
    ProbeError::failed(part, target.to_string(), "the reply is not in the format of Alertmanager")
}

async fn receiver_of(cx: &ProbeCx, target: &Object) -> Result<Option<(String, bool)>, ProbeError> {
    let status = cx.json(target, "/api/v2/status").await?;
    let config = status.pointer("/config/original").and_then(|y| y.as_str());
    Ok(default_receiver(config.ok_or_else(|| strange("its configuration", target))?))
}

/// Comments of the active silences that cover every alert.
async fn silences_of(cx: &ProbeCx, target: &Object) -> Result<Vec<String>, ProbeError> {
    let silences = cx.json(target, "/api/v2/silences").await?;
    let all = silences.as_array().ok_or_else(|| strange("silences", target))?;
    let active = |s: &&serde_json::Value| s.pointer("/status/state").and_then(|s| s.as_str()) == Some("active");
    let comment =
        |s: &serde_json::Value| s.get("comment").and_then(|c| c.as_str()).unwrap_or_default().chars().take(100).collect();
    Ok(all.iter().filter(active).filter(|s| covers_all(s)).map(comment).collect())
}

/// The receiver of the root route, and whether it has an integration. Alertmanager prints its configuration in a fixed layout.
pub(super) fn default_receiver(yaml: &str) -> Option<(String, bool)> {
    let unquoted = |s: &str| s.trim().trim_matches(['"', '\'']).to_owned();
    let mut section = "";
    let mut default = None;
    let mut receivers: Vec<(String, bool)> = Vec::new();
    for line in yaml.lines() {
        if !line.starts_with([' ', '-']) {
            section = line.trim_end();
        } else if section == "route:" && default.is_none() {
            default = line.strip_prefix("  receiver:").map(unquoted);
        } else if section == "receivers:" {
            if let Some(name) = line.trim_start_matches("  ").strip_prefix("- name:") {
                receivers.push((unquoted(name), false));
            } else if line.trim_end().ends_with("_configs:")
                && !line.trim_start().starts_with('-')
                && let Some(last) = receivers.last_mut()
            {
                last.1 = true;
            }
        }
    }
    let default = default?;
    let has_integration = receivers.iter().find(|(name, _)| *name == default)?.1;
    Some((default, has_integration))
}

/// Whether the matchers of a silence match every alert: `alertname=~".+"`, `severity=~".*"`.
pub(super) fn covers_all(silence: &serde_json::Value) -> bool {
    let matchers = silence.get("matchers").and_then(|m| m.as_array());
    matchers.is_some_and(|m| {
        !m.is_empty()
            && m.iter().all(|m| {
                let text = |name: &str| m.get(name).and_then(|v| v.as_str()).unwrap_or_default();
                let flag = |name: &str| m.get(name).and_then(serde_json::Value::as_bool);
                let any = matches!(text("value"), ".*" | ".+" | "^.*$" | "^.+$");
                // every alert has the label alertname
                let on_every_alert = text("name") == "alertname" || matches!(text("value"), ".*" | "^.*$");
                flag("isRegex") == Some(true) && flag("isEqual") != Some(false) && any && on_every_alert
            })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use opsctl_core::corpus;

    use super::*;

    #[test]
    fn corpus_of_configurations() {
        corpus::check("alertmanager-config", 5, |text| {
            let receiver = default_receiver(text);
            let shown = receiver.map(|(name, has)| format!("{name} has {}", if has { "one" } else { "none" }));
            vec![("receiver", shown.unwrap_or_default())]
        });
    }

    #[test]
    fn corpus_of_silences() {
        corpus::check("alertmanager-silences", 5, |text| {
            let covers = covers_all(&serde_json::from_str(text).unwrap());
            vec![("covers", if covers { "all".to_owned() } else { String::new() })]
        });
    }

    #[test]
    fn default_receiver_of_root_route() {
        let yaml = "global:\n  resolve_timeout: 5m\nroute:\n  receiver: \"null\"\n  routes:\n  - receiver: ops\nreceivers:\n- name: \"null\"\n- name: ops\n  webhook_configs:\n  - url: <secret>\n";
        assert_eq!(default_receiver(yaml), Some(("null".to_owned(), false)));
        assert_eq!(default_receiver(&yaml.replacen("\"null\"", "ops", 1)), Some(("ops".to_owned(), true)));
        assert_eq!(default_receiver("x"), None);
    }

    #[test]
    fn silence_that_covers_every_alert() {
        let silence = |name: &str, value: &str, regex: bool| serde_json::json!({"matchers": [{"name": name, "value": value, "isRegex": regex, "isEqual": true}]});
        assert!(covers_all(&silence("alertname", ".+", true)) && covers_all(&silence("severity", ".*", true)));
        assert!(!covers_all(&silence("alertname", "HostDown", false)) && !covers_all(&silence("team", ".+", true)));
    }
}
