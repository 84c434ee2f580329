//! Hosts without `up`: only scraped targets have it, so an alert on `up` misses hosts that push.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Check, CheckSpec, Code, Inventory, Judged, Judgement, Object, Product, Severity};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::status::{fresh_since, prometheus_server};
use super::{Settings, some_of};
use crate::shared::servers::Server;

const UP_MISSING: Code = Code {
    id: "monitoring.up-missing",
    severities: &[Severity::Warn],
    when: "hosts have data but no `up`: their data is pushed, so an alert like HostDown can never fire for them; or alert rules name a job without series",
    hint: "let Prometheus scrape them (Alloy: /api/v0/component/prometheus.exporter.unix.localhost/metrics), or alert on absent() for each of them; correct the job in rules; list jobs that may be missing in jobs_ok",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.up-missing",
    title: "Hosts with data have `up`, and alert rules name existing jobs",
    codes: &[UP_MISSING],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

/// Hosts with node metrics and no `up` of the same instance.
const PUSHED: &str = "group by (instance, job) (node_uname_info or windows_os_info or node_boot_time_seconds) unless on (instance) group by (instance) (up)";

/// Limit of jobs to query.
const MAX_JOBS: usize = 20;

pub(super) struct UpMissing {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    /// Time of its start or of its last configuration load.
    fresh_since: Option<Timestamp>,
    /// Instance and job.
    pushed: Vec<(String, String)>,
    /// Alerts with a job without series.
    dead: Vec<(String, String)>,
    /// Jobs that have `up`.
    jobs: Vec<String>,
}

impl Check for UpMissing {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Prometheus)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = prometheus_server(cx, target, "which stores no samples").await?;
        let fresh_since = fresh_since(cx, target, server.get().and_then(|s| s.process)).await;
        let pushed = cx.query(target, PUSHED).await?;
        let jobs = cx.query(target, "group by (job) (up)").await?;
        let mut e = Evidence {
            server,
            fresh_since,
            pushed: pushed.iter().map(|s| (s.label("instance").to_owned(), s.label("job").to_owned())).collect(),
            jobs: jobs.iter().map(|s| s.label("job").to_owned()).collect(),
            ..Evidence::default()
        };
        let rules = cx.json(target, "/api/v1/rules?type=alert").await?;
        let groups = rules.pointer("/data/groups").and_then(|g| g.as_array()).into_iter().flatten();
        let rules = groups.filter_map(|g| g.get("rules")?.as_array()).flatten();
        let named: Vec<(String, String)> = rules
            .filter_map(|r| Some((r.get("name")?.as_str()?, r.get("query")?.as_str()?)))
            // a rule with absent() fires without series
            .filter(|(_, query)| !query.contains("absent"))
            .flat_map(|(name, query)| jobs_of(query).into_iter().map(move |job| (name.to_owned(), job)))
            .filter(|(_, job)| !e.jobs.contains(job))
            .collect();
        let absent_jobs: BTreeSet<&String> = named.iter().map(|(_, job)| job).collect();
        for job in absent_jobs.into_iter().take(MAX_JOBS) {
            // recorded and pushed series have a job but no up
            let found = cx.query(target, &format!("count({{job=\"{job}\"}})")).await?;
            if found.is_empty() {
                e.dead.extend(named.iter().filter(|(_, j)| j == job).cloned());
            }
        }
        e.dead.sort();
        e.dead.dedup();
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let name = &judged.target.name;
        let mut findings = Vec::new();
        if !e.pushed.is_empty() {
            let mut hosts: Vec<String> = e.pushed.iter().map(|(instance, _)| instance.clone()).collect();
            hosts.sort();
            hosts.dedup();
            let message = format!(
                "{name} has data of {} but no `up`: it is pushed and not scraped, so an alert like HostDown can never fire for {}",
                some_of(&hosts),
                if hosts.len() == 1 { "it" } else { "them" }
            );
            let with_jobs: Vec<String> = e.pushed.iter().map(|(i, j)| format!("{i} (job {j})")).collect();
            let f = e.server.finding(&UP_MISSING, Severity::Warn, judged.target, message);
            findings.push(f.cite("pushed", some_of(&with_jobs)).cite("query", PUSHED));
        }
        let young = SignedDuration::from_secs(self.settings.starting_s.max(1) * 2);
        let dead: Vec<&(String, String)> = e.dead.iter().filter(|(_, job)| !self.settings.jobs_ok.contains(job)).collect();
        let is_young = e.fresh_since.is_some_and(|t| judged.taken_at.duration_since(t) < young);
        if !dead.is_empty() && !is_young {
            let alerts: Vec<String> = dead.iter().map(|(alert, job)| format!("{alert} (job=\"{job}\")")).collect();
            let message = format!(
                "{name}: {} can never fire: the job in {} has no series",
                some_of(&alerts),
                if dead.len() == 1 { "its expression" } else { "each expression" }
            );
            let f = e.server.finding(&UP_MISSING, Severity::Warn, judged.target, message);
            findings.push(
                f.cite("jobs with `up`", e.jobs.join(", ")).hint("correct the job in the rule: it was renamed, or has no target"),
            );
        }
        findings.into()
    }
}

/// The jobs that a query wants by name: `job="node"`. A match inside a string is harmless: it causes one more query.
pub(super) fn jobs_of(query: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(at) = rest.find("job") {
        let before = rest[..at].chars().next_back();
        let behind = rest[at + 3..].trim_start();
        rest = &rest[at + 3..];
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let value = behind.strip_prefix('=').map(str::trim_start).and_then(|v| v.strip_prefix('"'));
        if let Some((job, _)) = value.and_then(|v| v.split_once('"'))
            && !job.is_empty()
            && !job.contains(['\\', '{'])
        {
            found.push(job.to_owned());
        }
    }
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::jobs_of;

    #[test]
    fn jobs_in_promql() {
        assert_eq!(jobs_of("up{job=\"node_exporter\"} == 0"), ["node_exporter"]);
        assert_eq!(jobs_of("a{x=\"1\", job = \"b\"} / on(job) c{job=\"d\"}"), ["b", "d"]);
        assert!(jobs_of("up{job=~\"a.*\"} or up{kube_job=\"x\"} or sum by (job) (up)").is_empty());
    }
}
