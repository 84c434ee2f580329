//! Alert rules of a Prometheus that has an Alertmanager: without one no alert can fire.

use std::time::Duration;

use jiff::Timestamp;
use opsctl_core::model::{Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, Object, Product, Severity, quantity};
use opsctl_core::probe::proc::files::{files_of, modified_of};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::notify::{LIST, active, parse_url};
use super::status::prometheus_server;
use super::{loaded, some_of};
use crate::shared::servers::{READ_TIMEOUT, Server, working_directory};

const MISSING: Code = Code {
    id: "monitoring.rules-missing",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "an Alertmanager is configured, and no alert can fire: the patterns in rule_files match no file (crit; warn if a remote store or another ruler may evaluate rules), or no loaded file has an alert rule (warn, or info); a rule file that is named without a wildcard does not exist (warn)",
    hint: "Prometheus ignores patterns without a match: compare rule_files with the files at the place where Prometheus runs, in its container; then `promtool check config FILE` and reload",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.rules-missing",
    title: "Prometheus has alert rules for its Alertmanager",
    codes: &[MISSING],
    fixes: &[],
    timeout: Duration::from_secs(8),
};

/// Programs and images that evaluate rules for a Prometheus.
const RULERS: &[&str] = &["thanos", "mimir", "cortex", "vmalert"];

pub(super) struct RulesMissing;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    /// Patterns of rule files, and the number of files; `None` if its files are not visible.
    files: Vec<(String, Option<usize>)>,
    /// Files that changed after the configuration was loaded.
    newer: Vec<String>,
    alerts: usize,
    recordings: usize,
    /// An Alertmanager is on this host, or at an address of another host.
    has_alertmanager: bool,
    /// Other places that may evaluate rules.
    rulers: Vec<String>,
    /// Grafana is on this host, and may have alert rules of its own.
    grafana: bool,
}

impl Check for RulesMissing {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Prometheus)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = prometheus_server(cx, target, "which has no rules").await?;
        let config = loaded::config(cx, target).await?;
        if config.alertmanagers == 0 {
            return Err(ProbeError::Skip("its configuration has no Alertmanager".to_owned()));
        }
        let mut e = Evidence::default();
        let rules = cx.json(target, "/api/v1/rules").await?;
        let groups = rules.pointer("/data/groups").and_then(|g| g.as_array()).into_iter().flatten();
        for rule in groups.filter_map(|g| g.get("rules")?.as_array()).flatten() {
            let is_alert = rule.get("type").and_then(|t| t.as_str()) == Some("alerting");
            *(if is_alert { &mut e.alerts } else { &mut e.recordings }) += 1;
        }
        let loaded_at = cx.json(target, "/api/v1/status/runtimeinfo").await.ok();
        let loaded_at = loaded_at.and_then(|j| j.pointer("/data/lastConfigTime")?.as_str()?.parse::<Timestamp>().ok());
        (e.files, e.newer) = rule_files(&server, config.rule_files, loaded_at).await?;
        if e.alerts == 0 {
            let known = cx.inventory.servers.iter().any(|s| s.product == Product::Alertmanager);
            let urls = active(&cx.json(target, LIST).await?);
            let elsewhere = urls.iter().filter_map(|url| parse_url(url)).any(|(host, ..)| !is_loopback(&host));
            e.has_alertmanager = known || elsewhere;
            e.grafana = cx.inventory.servers.iter().any(|s| s.product == Product::Grafana);
            if config.remote_write {
                e.rulers.push("remote_write".to_owned());
            }
            e.rulers.extend(rulers(cx).await);
        }
        e.server = server;
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let name = &judged.target.name;
        let absent: Vec<String> =
            e.files.iter().filter(|(f, n)| *n == Some(0) && !is_pattern(f)).map(|(f, _)| f.clone()).collect();
        if e.alerts > 0 {
            if absent.is_empty() {
                return Judgement::default();
            }
            let verb = if absent.len() == 1 { "does not exist" } else { "do not exist" };
            let text = format!("{name}: the rule {} {verb}: no rule of {} is evaluated", file(&absent), them(&absent));
            return vec![self.finding(judged, e, Severity::Warn, text)].into();
        }
        let patterns: Vec<String> = e.files.iter().map(|(f, _)| f.clone()).collect();
        let total: Option<usize> = e.files.iter().map(|(_, n)| *n).sum();
        let elsewhere = !e.rulers.is_empty();
        let (severity, why) = match total {
            // the packaged configuration: an Alertmanager on the loopback address that is not installed
            _ if patterns.is_empty() && !e.has_alertmanager => {
                return Judgement::skip("it has no rule files, and its Alertmanager is not on this host");
            }
            _ if patterns.is_empty() => {
                let severity = if elsewhere || e.grafana { Severity::Info } else { Severity::Warn };
                (severity, "rule_files is empty".to_owned())
            }
            Some(0) => {
                let severity = if elsewhere || !e.has_alertmanager { Severity::Warn } else { Severity::Crit };
                (severity, format!("no file matches {}", some_of(&patterns)))
            }
            _ if !e.newer.is_empty() => {
                (Severity::Warn, format!("{} changed after the configuration was loaded", some_of(&e.newer)))
            }
            _ => {
                let severity = if elsewhere || e.grafana { Severity::Info } else { Severity::Warn };
                let recordings = match e.recordings {
                    0 => "contain no rule".to_owned(),
                    n => format!("contain only {}", quantity::count(n, "recording rule")),
                };
                (severity, format!("the files of {} {recordings}", some_of(&patterns)))
            }
        };
        let text = format!("{name} has an Alertmanager and no alert rule, so no alert can fire: {why}");
        let mut f = self.finding(judged, e, severity, text);
        if !e.newer.is_empty() {
            f = f.hint("`promtool check config FILE` validates them; then reload Prometheus");
        }
        vec![f].into()
    }
}

impl RulesMissing {
    #[expect(clippy::unused_self, reason = "a method like those of the other checks")]
    fn finding(&self, judged: &Judged<'_>, e: &Evidence, severity: Severity, text: String) -> Finding {
        let counted = e.files.iter().map(|(f, n)| format!("{f} ({})", n.map_or_else(|| "unknown".to_owned(), |n| n.to_string())));
        let f = e.server.finding(&MISSING, severity, judged.target, text);
        f.cite("rule files", counted.collect::<Vec<_>>().join(", ")).cite("may evaluate rules", e.rulers.join(", "))
    }
}

fn is_pattern(file: &str) -> bool {
    file.contains(['*', '?', '['])
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn file(names: &[String]) -> String {
    format!("{} {}", if names.len() == 1 { "file" } else { "files" }, some_of(names))
}

fn them(names: &[String]) -> &'static str {
    if names.len() == 1 { "it" } else { "them" }
}

/// The number of files of each pattern as the server sees them, and the files that changed after `loaded_at`.
async fn rule_files(
    server: &Server,
    patterns: Vec<String>,
    loaded_at: Option<Timestamp>,
) -> Result<(Vec<(String, Option<usize>)>, Vec<String>), ProbeError> {
    let Some(process) = server.get().and_then(|s| s.process) else {
        return Ok((patterns.into_iter().map(|p| (p, None)).collect(), Vec::new()));
    };
    let directory = working_directory(process.pid).await.unwrap_or_default();
    let read = move |io: &Io| {
        let (mut files, mut newer) = (Vec::new(), Vec::new());
        for pattern in patterns {
            let path =
                if pattern.starts_with('/') { pattern.clone() } else { format!("{}/{pattern}", directory.trim_end_matches('/')) };
            // a name without a wildcard is listed also if it does not exist
            let found: Vec<(String, Timestamp)> = files_of(io, process.pid, &path)
                .into_iter()
                .filter_map(|f| Some((modified_of(io, process.pid, &f)?, f)))
                .map(|(at, f)| (f, at))
                .collect();
            files.push((pattern, Some(found.len())));
            newer.extend(found.into_iter().filter(|(_, at)| loaded_at.is_some_and(|t| *at > t)).map(|(f, _)| f));
        }
        newer.truncate(20);
        (files, newer)
    };
    blocking::run("rule files", "the files of Prometheus", READ_TIMEOUT, read).await
}

/// Other rulers of this host.
async fn rulers(cx: &ProbeCx) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    if let Ok(table) = cx.processes().await {
        found.extend(table.services(RULERS).await.into_iter().map(|p| p.comm.clone()));
    }
    let images = cx.inventory.running().filter(|c| RULERS.iter().any(|r| c.image.contains(r)));
    found.extend(images.map(|c| c.name.clone()));
    found.sort();
    found.dedup();
    found
}
