//! Service discovery of Prometheus: target files that it cannot read, and refreshes that fail. The targets stay those of the last
//! success, and `up` of a target that is missing does not exist.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, KeyKind, Object, Product, Severity, quantity,
};
use opsctl_core::probe::proc::files::{file_of, files_of, modified_of};
use opsctl_core::probe::servers::metrics::{MetricSample, sum};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::counters::Counters;
use super::loaded::{self, TargetFiles};
use super::some_of;
use crate::shared::servers::{READ_TIMEOUT, Server, working_directory};

const DISCOVERY: Code = Code {
    id: "monitoring.discovery",
    severities: &[Severity::Warn],
    when: "a target file is invalid or not readable, so that its job keeps the targets of its last valid version, or has none; refreshes of a service discovery fail, or it could not be created",
    hint: "its log names the error of each refresh; `promtool check config FILE` reports invalid target files, and a reload is not needed",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.discovery",
    title: "Service discovery reads its targets",
    codes: &[DISCOVERY],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

const READ_ERRORS: &str = "prometheus_sd_file_read_errors_total";
const REFRESH_FAILURES: &str = "prometheus_sd_refresh_failures_total";
/// Failures of mechanisms that do not refresh as a whole.
const OTHERS: &[(&str, &str)] = &[
    ("prometheus_sd_dns_lookup_failures_total", "dns"),
    ("prometheus_sd_consul_rpc_failures_total", "consul"),
    ("prometheus_sd_kubernetes_failures_total", "kubernetes"),
    ("prometheus_sd_nomad_failures_total", "nomad"),
    ("prometheus_treecache_zookeeper_failures_total", "zookeeper"),
];
const COUNTERS: &[&str] = &[READ_ERRORS, REFRESH_FAILURES, OTHERS[0].0, OTHERS[1].0, OTHERS[2].0, OTHERS[3].0, OTHERS[4].0];
const MTIME: &str = "prometheus_sd_file_mtime_seconds";
const REFRESHES: &str = "prometheus_sd_refresh_duration_seconds_count";
const NOT_CREATED: &str = "prometheus_sd_failed_configs";

/// Limit of files that are examined.
const MAX_FILES: usize = 500;

/// A change is read at once, or with the next refresh; this time comes on top of it.
const READ_GRACE_S: i64 = 15;

pub(super) struct Discovery;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    counters: Counters,
    /// Target files that were changed and not read.
    unread: Vec<Unread>,
    /// By mechanism: refreshes since its start.
    refreshes: BTreeMap<String, f64>,
    /// By mechanism: jobs with failed refreshes, if its version counts them by job.
    jobs: BTreeMap<String, Vec<String>>,
    /// Service discoveries that could not be created: of targets (`scrape`) and of Alertmanagers (`notify`).
    not_created: BTreeMap<String, f64>,
    gap: Option<String>,
}

/// A target file with content that Prometheus does not use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Unread {
    path: String,
    job: Option<String>,
    changed_at: Option<Timestamp>,
    refresh_s: i64,
    /// An earlier version was read.
    read_before: bool,
    why: String,
}

impl Check for Discovery {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Prometheus)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        let (counters, numbers) = Counters::read(cx, target, &server.object(target), COUNTERS, "mechanism").await?;
        let mut e = Evidence { counters, ..Evidence::default() };
        for failed in numbers.iter().filter(|n| n.name == REFRESH_FAILURES && n.value > 0.0 && !n.label("config").is_empty()) {
            e.jobs.entry(failed.label("mechanism").to_owned()).or_default().push(failed.label("config").to_owned());
        }
        let gauges = cx.metrics(target, &[MTIME, REFRESHES, NOT_CREATED]).await?;
        for n in gauges.iter().filter(|n| n.value > 0.0) {
            match n.name.as_str() {
                REFRESHES => *e.refreshes.entry(n.label("mechanism").to_owned()).or_default() += n.value,
                NOT_CREATED => *e.not_created.entry(n.label("name").to_owned()).or_default() += n.value,
                _ => {}
            }
        }
        if sum(&numbers, READ_ERRORS).is_some_and(|n| n > 0.0) {
            match unread(cx, target, &server, gauges).await {
                Ok(unread) => e.unread = unread,
                Err(why) => e.gap = Some(why.to_string()),
            }
        }
        e.server = server;
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let (name, now) = (&judged.target.name, judged.taken_at);
        let mut findings = Vec::new();
        let is_late = |u: &&Unread| {
            u.changed_at
                .is_some_and(|t| now.duration_since(t) > SignedDuration::from_secs(u.refresh_s.saturating_add(READ_GRACE_S)))
        };
        let mut named = false;
        for u in e.unread.iter().filter(is_late) {
            named = true;
            findings.push(unread_file(judged, e, u));
        }
        let finding = |text: String| {
            let mut f = e.server.finding(&DISCOVERY, Severity::Warn, judged.target, text);
            f.keys.retain(|k| k.kind != KeyKind::Server);
            f
        };
        let grown = e.counters.of(READ_ERRORS).map(|(_, _, grown)| grown).sum::<f64>();
        if grown > 0.0 && !named && e.unread.is_empty() {
            findings.push(finding(format!("{name} could not read target files: {grown:.0} errors since the last run")));
        }
        for (mechanism, all, grown) in e.counters.of(REFRESH_FAILURES).filter(|(_, all, _)| *all > 0.0) {
            // one failure of each refresh so far, after at least three of them
            let none_succeeded = all >= 3.0 && e.refreshes.get(mechanism).is_some_and(|n| all >= *n);
            let jobs = e.jobs.get(mechanism).map(Vec::as_slice).unwrap_or_default();
            let of = if jobs.is_empty() { String::new() } else { format!(" of {}", some_of(jobs)) };
            let text = match () {
                () if none_succeeded => format!(
                    "{name}: no refresh of the {mechanism} service discovery{of} has succeeded since its start, {all:.0} failed"
                ),
                () if grown > 0.0 => format!(
                    "{name}: {grown:.0} refreshes of the {mechanism} service discovery{of} failed since the last run: it keeps the targets of the last success"
                ),
                () => continue,
            };
            let server = e.server.get().map(|s| s.id.as_str()).unwrap_or_default();
            findings.push(jobs.iter().fold(finding(text), |f, job| f.key(KeyKind::Server, job_key(server, job))));
        }
        for (metric, mechanism) in OTHERS {
            let grown = e.counters.of(metric).map(|(_, _, grown)| grown).sum::<f64>();
            if grown > 0.0 {
                let text = format!("{name}: {grown:.0} requests of the {mechanism} service discovery failed since the last run");
                findings.push(finding(text));
            }
        }
        for (part, n) in &e.not_created {
            let (of, effect) = if part == "notify" {
                ("Alertmanagers", "alerts are not sent to them")
            } else {
                ("targets", "their jobs have no targets")
            };
            let text = format!("{name} could not create {n:.0} service discoveries of {of}: {effect}");
            findings.push(finding(text).hint("its log names the option or the file that is missing"));
        }
        Judgement {
            findings,
            gaps: e.gap.iter().cloned().collect(),
            samples: e.counters.samples(&e.server.object(judged.target), now),
            ..Judgement::default()
        }
    }
}

fn unread_file(judged: &Judged<'_>, e: &Evidence, u: &Unread) -> Finding {
    let name = &judged.target.name;
    let of = u.job.as_ref().map_or_else(|| "its Alertmanagers".to_owned(), |job| format!("the job {job}"));
    let effect = if u.read_before {
        format!("{of} keeps the targets of the last valid version")
    } else {
        format!("{of} has no targets from it")
    };
    let changed = u.changed_at.map(|t| format!(", changed {}", quantity::ago(judged.taken_at, t))).unwrap_or_default();
    let text = format!("{name} cannot read the target file {}{changed} ({}): {effect}", u.path, u.why);
    let mut f = e.server.finding(&DISCOVERY, Severity::Warn, judged.target, text).since(u.changed_at);
    // it explains an empty pool of its job only
    f.keys.retain(|k| k.kind != KeyKind::Server);
    if let (Some(server), Some(job)) = (e.server.get(), &u.job) {
        f = f.key(KeyKind::Server, job_key(&server.id, job));
    }
    f
}

/// The key of one job of a Prometheus.
pub(super) fn job_key(server: &str, job: &str) -> String {
    format!("{server} job {job}")
}

/// Target files with an unread present version.
async fn unread(cx: &ProbeCx, target: &Object, server: &Server, read: Vec<MetricSample>) -> Result<Vec<Unread>, ProbeError> {
    let Some(process) = server.get().and_then(|s| s.process) else { return Ok(Vec::new()) };
    let entries = loaded::config(cx, target).await?.target_files;
    let directory = working_directory(process.pid).await.unwrap_or_default();
    let find = move |io: &Io| {
        let times: BTreeMap<&str, f64> =
            read.iter().filter(|n| n.name == MTIME).map(|n| (n.label("filename"), n.value)).collect();
        let mut found: Vec<Unread> = Vec::new();
        for (entry, pattern) in entries.iter().flat_map(|e| e.patterns.iter().map(move |p| (e, p))).take(MAX_FILES) {
            let base = if pattern.starts_with('/') { String::new() } else { format!("{}/", directory.trim_end_matches('/')) };
            for path in files_of(io, process.pid, &format!("{base}{pattern}")).into_iter().take(MAX_FILES) {
                // the metric has the path as in the configuration
                let shown = path.strip_prefix(&base).unwrap_or(&path);
                let at = times.get(shown).copied();
                found.extend(unread_one(io, process.pid, entry, &path, at));
            }
        }
        found.truncate(MAX_FILES);
        found
    };
    blocking::run("target files", "the files of Prometheus", READ_TIMEOUT, find).await
}

fn is_json(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|e| e.eq_ignore_ascii_case("json"))
}

/// A file with another modification time than the version that was read.
fn unread_one(io: &Io, pid: i32, entry: &TargetFiles, path: &str, read: Option<f64>) -> Option<Unread> {
    let changed_at = modified_of(io, pid, path)?;
    #[expect(clippy::cast_possible_truncation, reason = "seconds since the epoch")]
    if read.is_some_and(|at| at as i64 == changed_at.as_second()) {
        return None;
    }
    let why = match file_of(io, pid, path) {
        None => "it is not readable for the server".to_owned(),
        Some(text) if is_json(path) => match serde_json::from_str::<serde_json::Value>(&text) {
            // the error without the text
            Err(why) => format!("invalid JSON at line {}", why.line()),
            Ok(_) => "not a list of target groups".to_owned(),
        },
        Some(_) => "invalid YAML or not a list of target groups".to_owned(),
    };
    let job = entry.job.clone();
    let path = path.to_owned();
    Some(Unread { path, job, changed_at: Some(changed_at), refresh_s: entry.refresh_s, read_before: read.is_some(), why })
}
