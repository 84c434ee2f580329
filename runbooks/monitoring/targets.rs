//! Scrape targets of Prometheus: targets that are down, and jobs without targets.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::address::join;
use opsctl_core::model::{
    Check, CheckSpec, Code, DependsOn, Finding, Inventory, Judged, Judgement, KeyKind, Object, Product, Role, Severity, quantity,
};
use opsctl_core::probe::proc::files::{files_of, modified_of};
use opsctl_core::probe::servers::metrics::{MetricSample, sum};
use opsctl_core::probe::servers::prometheus::{Health, ScrapeTarget};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::discovery::job_key;
use super::loaded;
use super::status::{engine_of_names, fresh_since, prometheus_server};
use super::{Settings, some_of};
use crate::shared::dependencies::{ENGINE, PACKETS_DROPPED, PORT_CLOSED, UNRESPONSIVE, running};
use crate::shared::servers::{READ_TIMEOUT, Server};
use crate::tls::served_key;

const DOWN: Code = Code {
    id: "monitoring.targets-down",
    severities: &[Severity::Warn, Severity::Crit],
    when: "targets of a pool are down: all of them (crit) or some (warn); one finding for each reason",
    hint: "`opsctl network` checks targets on this host from the network of Prometheus; query the others from where Prometheus runs",
    depends_on: &[
        &running("the target's"),
        PACKETS_DROPPED,
        PORT_CLOSED,
        UNRESPONSIVE,
        ENGINE,
        &[
            DependsOn::likely(Role::NamesBroken, KeyKind::Names, ""),
            DependsOn::likely(Role::Starved, KeyKind::Host, ""),
            DependsOn::confirmed(Role::CertificateRejected, KeyKind::Certificate, "the target's"),
            DependsOn::confirmed(Role::Unresponsive, KeyKind::Certificate, "the target's"),
            DependsOn::confirmed(Role::Detached, KeyKind::Container, "the target's"),
            DependsOn::likely(Role::NoDescriptors, KeyKind::Container, "the target's"),
        ],
    ],
    ..Code::BASE
};
const EMPTY: Code = Code {
    id: "monitoring.pool-empty",
    severities: &[Severity::Warn],
    when: "a job of the configuration has no targets: it has no `up` series, so no alert can fire",
    hint: "check its service discovery: a missing or unreadable file, a relabel rule that drops every target; list jobs that may be empty in empty_ok",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.targets",
    title: "Targets are up",
    codes: &[DOWN, EMPTY],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

const DISCOVERED: &str = "prometheus_sd_discovered_targets";
const POOLS_FAILED: &str = "prometheus_target_scrape_pools_failed_total";

/// Further down targets are counted, but not listed.
const MAX_TARGETS: usize = 200;

pub(super) struct Targets {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    /// Time of its start or of its last configuration load.
    fresh_since: Option<Timestamp>,
    /// By pool: number of targets, and number of down targets.
    pools: BTreeMap<String, (usize, usize)>,
    down: Vec<Lost>,
    /// Jobs without a target.
    empty: Vec<Empty>,
    gap: Option<String>,
    /// The engine behind its DNS resolver, if a target is down.
    names_by: Option<String>,
}

/// A target that is down.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Lost {
    pool: String,
    url: String,
    host: String,
    port: u16,
    error: String,
    /// Full id of its container, if on this host.
    container: Option<String>,
    /// The units that serve its port, if on this host and not in a container.
    #[serde(default)]
    units: Vec<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Empty {
    job: String,
    /// Patterns of its files, and the number of matching files.
    files: Vec<(String, usize)>,
    /// Targets dropped by its relabel rules.
    dropped: usize,
    /// It has discovered targets and no scrape pool: its client could not be created.
    no_pool: bool,
}

impl Check for Targets {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Prometheus)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = prometheus_server(cx, target, "which does not report its targets").await?;
        let scraped = cx.scraped(target).await?;
        let process = server.get().and_then(|s| s.process);
        let mut e = Evidence { fresh_since: fresh_since(cx, target, process).await, ..Evidence::default() };
        for s in &scraped {
            let pool = e.pools.entry(s.pool.clone()).or_default();
            pool.0 += 1;
            pool.1 += usize::from(s.health == Health::Down);
        }
        let lost: Vec<&ScrapeTarget> = scraped.iter().filter(|s| s.health == Health::Down).take(MAX_TARGETS).collect();
        if !lost.is_empty() {
            e.names_by = engine_of_names(cx, process).await;
            let needs = cx.needs().await?;
            let own = server.get().and_then(|s| s.container.as_deref()).and_then(|id| needs.neighbours.get(id));
            e.down = lost
                .into_iter()
                .map(|s| Lost {
                    pool: s.pool.clone(),
                    url: s.url.clone(),
                    host: s.host.clone(),
                    port: s.port,
                    error: s.error.clone(),
                    container: needs.neighbours.resolve(own, &s.host).map(|m| needs.neighbours.holder(m.container).id.clone()),
                    units: Vec::new(),
                })
                .collect();
            // a container has its own loopback address
            for lost in e.down.iter_mut().filter(|l| l.container.is_none() && own.is_none()) {
                lost.units = cx.units_of(&lost.host, lost.port).await;
            }
        }
        match loaded::jobs(cx, target).await {
            Ok(jobs) => {
                for job in jobs.into_iter().filter(|j| !e.pools.contains_key(&j.name)) {
                    let read = move |io: &Io| {
                        // a name without a wildcard is listed also if it does not exist
                        let exists = |pid: i32, f: &String| modified_of(io, pid, f).is_some();
                        let number = |f: &String| {
                            process.map_or(0, |p| files_of(io, p.pid, f).iter().filter(|f| exists(p.pid, f)).count())
                        };
                        job.files.into_iter().map(|f| (number(&f), f)).map(|(n, f)| (f, n)).collect::<Vec<_>>()
                    };
                    let files = blocking::run("target files", "the files of Prometheus", READ_TIMEOUT, read).await?;
                    e.empty.push(Empty { files, job: job.name, ..Empty::default() });
                }
            }
            Err(why) => e.gap = Some(why.to_string()),
        }
        if !e.empty.is_empty()
            && let Ok(json) = cx.json(target, "/api/v1/targets?state=dropped").await
        {
            let dropped = json.pointer("/data/droppedTargets").and_then(|d| d.as_array()).into_iter().flatten();
            for job in dropped.filter_map(|d| d.pointer("/discoveredLabels/job")?.as_str()) {
                if let Some(empty) = e.empty.iter_mut().find(|x| x.job == job) {
                    empty.dropped += 1;
                }
            }
            // the list can be limited (keep_dropped_targets), the counts of each pool are not
            let counts = json.pointer("/data/droppedTargetCounts").and_then(|d| d.as_object());
            for empty in &mut e.empty {
                let count = counts.and_then(|c| c.get(&empty.job)?.as_u64()).and_then(|n| usize::try_from(n).ok());
                empty.dropped = empty.dropped.max(count.unwrap_or_default());
            }
            // a pool that could not be created leaves its targets in neither list (prometheus/prometheus#19321)
            let metrics = cx.metrics(target, &[DISCOVERED, POOLS_FAILED]).await.unwrap_or_default();
            if sum(&metrics, POOLS_FAILED).is_some_and(|n| n > 0.0) {
                for empty in e.empty.iter_mut().filter(|x| x.dropped == 0) {
                    let of_job = |n: &&MetricSample| n.label("name") == "scrape" && n.label("config") == empty.job;
                    empty.no_pool = metrics.iter().filter(of_job).any(|n| n.value > 0.0);
                }
            }
        }
        e.server = server;
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let young = SignedDuration::from_secs(self.settings.starting_s);
        if let Some(age) = e.fresh_since.map(|t| judged.taken_at.duration_since(t)).filter(|a| *a < young) {
            let why = format!(
                "it started or loaded its configuration {} ago: its lists are incomplete for {}",
                quantity::duration(age),
                quantity::duration(young)
            );
            return Judgement { pending: vec![format!("{} to scrape", judged.target.name)], ..Judgement::skip(why) };
        }
        let mut findings = Vec::new();
        let mut groups: BTreeMap<(&str, &'static str, Option<&str>), Vec<&Lost>> = BTreeMap::new();
        for lost in &e.down {
            groups.entry((&lost.pool, reason(&lost.error).0, lost.container.as_deref())).or_default().push(lost);
        }
        for ((pool, ..), lost) in groups {
            findings.push(down(judged, e, pool, &lost));
        }
        findings.extend(e.empty.iter().filter(|x| !self.settings.empty_ok.contains(&x.job)).map(|x| empty(judged, e, x)));
        Judgement { findings, gaps: e.gap.iter().cloned().collect(), ..Judgement::default() }
    }
}

/// Cause of a failed scrape, and the next step.
fn reason(error: &str) -> (&'static str, &'static str) {
    const REASONS: &[(&[&str], &str, &str)] = &[
        (
            &["connection refused"],
            "connection refused",
            "the port has no listener, or one on the loopback address of its container only: see `opsctl network`",
        ),
        (
            &["no such host", "server misbehaving"],
            "name not resolved",
            "the target no longer exists or is in another network, or the DNS server fails: see `opsctl dns`",
        ),
        (&["no route to host", "network is unreachable"], "no route", "check routes and firewalls from where Prometheus runs"),
        (
            &["deadline exceeded", "i/o timeout", "Client.Timeout"],
            "timeout",
            "a firewall drops the packets, or the target is too slow for scrape_timeout",
        ),
        (&["x509:", "tls:", "certificate"], "TLS", "check its certificate: `opsctl tls`"),
        (&["HTTP status 401", "HTTP status 403"], "authentication required", "add the credentials of the target to the job"),
        (&["HTTP status 404"], "HTTP 404", "check metrics_path of the job"),
        (&["HTTP status"], "HTTP error", "check its log"),
        (
            &["is not a valid start token", "unsupported Content-Type", "expected a valid", "Content-Type"],
            "response is not metrics",
            "a web page is at this path: check metrics_path and the port",
        ),
        (&["sample limit exceeded"], "sample limit exceeded", "find the cause of the growth before raising sample_limit"),
        (
            &["target_limit exceeded"],
            "target_limit exceeded",
            "the job has more targets than target_limit: all of them fail; find the cause before raising it",
        ),
        (
            &["body size limit exceeded"],
            "body size limit exceeded",
            "find the cause of the growth before raising body_size_limit",
        ),
        (
            &["label_limit exceeded", "label_name_length_limit exceeded", "label_value_length_limit exceeded"],
            "label limit exceeded",
            "drop the labels of its metrics, or raise the label limits of the job",
        ),
        (
            &["unable to read authorization credentials", "unable to read basic auth password", "no such file or directory"],
            "credentials file missing",
            "the file with the credentials of the job is not readable where Prometheus runs",
        ),
        (&["connection reset", "EOF"], "connection closed", "check its log"),
    ];
    let known = REASONS.iter().find(|(words, ..)| words.iter().any(|w| error.contains(w)));
    known.map_or(("other error", ""), |(_, reason, hint)| (reason, hint))
}

fn down(judged: &Judged<'_>, e: &Evidence, pool: &str, lost: &[&Lost]) -> Finding {
    let (all, down) = e.pools.get(pool).copied().unwrap_or_default();
    let severity = if down >= all { Severity::Crit } else { Severity::Warn };
    let (why, hint) = reason(&lost[0].error);
    let addresses: Vec<String> = lost.iter().map(|l| join(&l.host, l.port)).collect();
    let how_many = if down >= all { format!("all {all}") } else { format!("{down} of {all}") };
    let targets = if all == 1 { "the only target".to_owned() } else { format!("{how_many} targets") };
    let message = format!(
        "{} cannot scrape {} ({why}): {targets} of {pool} {} down",
        judged.target.name,
        some_of(&addresses),
        if down == 1 || all == 1 { "is" } else { "are" }
    );
    let mut f = e.server.finding(&DOWN, severity, judged.target, message);
    // a fault of Prometheus' own container is not the cause
    f.keys.clear();
    for l in lost.iter().take(5) {
        f = f.cite(&l.url, &l.error);
    }
    for l in lost {
        f = f.key(KeyKind::Address, join(&l.host, l.port));
        if let Some(id) = &l.container {
            f = f.key(KeyKind::Container, id).key(KeyKind::Port, format!("{id}:{}", l.port));
        }
        f = l.units.iter().fold(f, |f, unit| f.key(KeyKind::Unit, unit));
    }
    // the timeout may be that of the DNS server
    if let (Some(endpoint), "name not resolved" | "timeout") = (&e.names_by, why) {
        f = f.key(KeyKind::Engine, endpoint);
    }
    f = match why {
        "name not resolved" => f.key(KeyKind::Names, e.resolver_owner()),
        "TLS" => lost.iter().fold(f, |f, l| f.key(KeyKind::Certificate, served_key(&join(&l.host, l.port)))),
        "timeout" | "no route" => f.key(KeyKind::Host, "host"),
        _ => f,
    };
    if hint.is_empty() { f } else { f.hint(hint) }
}

impl Evidence {
    /// Owner of the DNS servers it uses: its container or this host.
    fn resolver_owner(&self) -> &str {
        self.server.get().and_then(|s| s.container.as_deref()).unwrap_or("host")
    }
}

fn empty(judged: &Judged<'_>, e: &Evidence, x: &Empty) -> Finding {
    let missing: Vec<String> = x.files.iter().filter(|(_, n)| *n == 0).map(|(f, _)| f.clone()).collect();
    let why = match () {
        () if x.dropped > 0 => format!(": its relabel rules drop all {} discovered targets", x.dropped),
        () if x.no_pool => {
            ": its scrape pool could not be created, a TLS or credentials file of the job is missing or invalid".to_owned()
        }
        () if !missing.is_empty() => format!(": file {} does not exist", some_of(&missing)),
        () => String::new(),
    };
    let message = format!("{}: the job {} has no target{why}; no alert fires when its service fails", judged.target.name, x.job);
    let mut f = e.server.finding(&EMPTY, Severity::Warn, judged.target, message);
    if let Some(server) = e.server.get() {
        f = f.key(KeyKind::Server, job_key(&server.id, &x.job));
    }
    f.cite("files of its targets", x.files.iter().map(|(f, n)| format!("{f} ({n})")).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn scrape_errors_map_to_causes() {
        for (error, why) in [
            ("dial tcp 172.18.0.2:8080: connect: connection refused", "connection refused"),
            ("dial tcp: lookup b1 on 127.0.0.11:53: no such host", "name not resolved"),
            ("context deadline exceeded", "timeout"),
            ("dial tcp 10.0.0.1:1: connect: no route to host", "no route"),
            ("server returned HTTP status 401 Unauthorized", "authentication required"),
            ("server returned HTTP status 404 Not Found", "HTTP 404"),
            ("\"INVALID\" is not a valid start token", "response is not metrics"),
            ("x509: certificate signed by unknown authority", "TLS"),
            ("sample limit exceeded", "sample limit exceeded"),
            ("target_limit exceeded (number of targets: 3, limit: 2)", "target_limit exceeded"),
            ("body size limit exceeded", "body size limit exceeded"),
            ("label_value_length_limit exceeded (metric: a, label: b)", "label limit exceeded"),
            ("unable to read authorization credentials file /t: open /t: no such file or directory", "credentials file missing"),
            ("strange", "other error"),
        ] {
            assert_eq!(reason(error).0, why, "{error}");
        }
    }
}
