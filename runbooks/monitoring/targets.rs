//! Does it get what it is to scrape, and has it anything to scrape at all?

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, KeyKind, Product, Severity, Target, quantity,
};
use opsctl_core::probe::prometheus::{Health, Scraped};
use opsctl_core::probe::servers::files_of;
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::loaded;
use super::standing::{engine_of_names, fresh_since};
use super::{Settings, some_of};
use crate::servers::{READ_TIMEOUT, Server};
use crate::tls::served_key;

const DOWN: Code = Code {
    id: "monitoring.targets-down",
    severities: &[Severity::Warn, Severity::Crit],
    when: "targets of a pool are down: all of them (crit) or some (warn); one finding for each reason",
    hint: "`opsctl network` looks from Prometheus' own side for those on this host; the others: ask them from where Prometheus runs",
};
const EMPTY: Code = Code {
    id: "monitoring.pool-empty",
    severities: &[Severity::Warn],
    when: "a job of the configuration has no targets: it raises no `up`, so no alert can tell",
    hint: "look at its discovery: a file that is not there or not readable, a label that drops everything; jobs meant to be empty go into empty_ok",
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.targets",
    title: "it gets what it is to scrape",
    codes: &[DOWN, EMPTY],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

/// More targets that are down are counted and not told.
const MOST: usize = 200;

pub(super) struct Targets {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    /// When it began, or loaded its configuration last.
    fresh_since: Option<Timestamp>,
    /// Pools: how many targets, and how many of them are down.
    pools: BTreeMap<String, (usize, usize)>,
    down: Vec<Lost>,
    /// Jobs without a target.
    empty: Vec<Empty>,
    gap: Option<String>,
    /// The engine that answers what it looks up, when something is down.
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
    /// Full id of its container, if it is one of this host.
    container: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Empty {
    job: String,
    /// Patterns of its files, and how many files there are.
    files: Vec<(String, usize)>,
    /// Targets that its rules drop.
    dropped: usize,
}

impl Check for Targets {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Target> {
        inventory.server_targets(Product::Prometheus)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Target) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        if cx.flags(target).await.is_agent() {
            return Err(ProbeError::Skip("it is an agent, which does not tell what it scrapes".to_owned()));
        }
        let scraped = cx.scraped(target).await?;
        let process = server.get().and_then(|s| s.process);
        let mut e = Evidence { fresh_since: fresh_since(cx, target, process).await, ..Evidence::default() };
        for s in &scraped {
            let pool = e.pools.entry(s.pool.clone()).or_default();
            pool.0 += 1;
            pool.1 += usize::from(s.health == Health::Down);
        }
        let lost: Vec<&Scraped> = scraped.iter().filter(|s| s.health == Health::Down).take(MOST).collect();
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
                    container: needs.neighbours.meant(own, &s.host).map(|m| needs.neighbours.holder(m.container).id.clone()),
                })
                .collect();
        }
        match loaded::jobs(cx, target).await {
            Ok(jobs) => {
                for job in jobs.into_iter().filter(|j| !e.pools.contains_key(&j.name)) {
                    let read = move |io: &Io| {
                        let number = |f: &String| process.map_or(0, |p| files_of(io, p.pid, f).len());
                        job.files.into_iter().map(|f| (number(&f), f)).map(|(n, f)| (f, n)).collect::<Vec<_>>()
                    };
                    let files = blocking::run("lists of targets", "the files of Prometheus", READ_TIMEOUT, read).await?;
                    e.empty.push(Empty { files, dropped: 0, job: job.name });
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
        }
        e.server = server;
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let young = SignedDuration::from_secs(self.settings.starting_s);
        if let Some(age) = e.fresh_since.map(|t| judged.taken_at.duration_since(t)).filter(|a| *a < young) {
            let why = format!(
                "it was started, or loaded its configuration, {} ago: its lists are not complete before {}",
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

/// Why a scrape failed, by its error, and what to look at.
fn reason(error: &str) -> (&'static str, &'static str) {
    const REASONS: &[(&[&str], &str, &str)] = &[
        (
            &["connection refused"],
            "connection refused",
            "nothing listens there, or only inside its own container: see `opsctl network`",
        ),
        (
            &["no such host", "server misbehaving"],
            "its name is not known there",
            "it is gone, in another network, or the name server is: see `opsctl dns`",
        ),
        (
            &["no route to host", "network is unreachable"],
            "no way there",
            "look at routes and firewalls from where Prometheus runs",
        ),
        (
            &["deadline exceeded", "i/o timeout", "Client.Timeout"],
            "no answer in time",
            "a firewall drops it, or it is too slow for scrape_timeout",
        ),
        (&["x509:", "tls:", "certificate"], "TLS", "look at its certificate: `opsctl tls`"),
        (&["HTTP status 401", "HTTP status 403"], "it wants a login", "give the job the login of the target"),
        (&["HTTP status 404"], "no such page", "look at metrics_path of the job"),
        (&["HTTP status"], "it answers with an error", "look at its log"),
        (
            &["is not a valid start token", "unsupported Content-Type", "expected a valid", "Content-Type"],
            "it answers something else than metrics",
            "a page for people is at this path: look at metrics_path and the port",
        ),
        (
            &["sample limit exceeded"],
            "it has more samples than the limit",
            "look at what made it grow before raising sample_limit",
        ),
        (&["connection reset", "EOF"], "it closes the connection", "look at its log"),
    ];
    let known = REASONS.iter().find(|(words, ..)| words.iter().any(|w| error.contains(w)));
    known.map_or(("another reason", ""), |(_, reason, hint)| (reason, hint))
}

fn down(judged: &Judged<'_>, e: &Evidence, pool: &str, lost: &[&Lost]) -> Finding {
    let (all, down) = e.pools.get(pool).copied().unwrap_or_default();
    let severity = if down >= all { Severity::Crit } else { Severity::Warn };
    let (why, hint) = reason(&lost[0].error);
    let places: Vec<String> = lost.iter().map(|l| format!("{}:{}", l.host, l.port)).collect();
    let how_many = if down >= all { format!("all {all}") } else { format!("{down} of {all}") };
    let targets = if all == 1 { "the only target".to_owned() } else { format!("{how_many} targets") };
    let message = format!(
        "{} does not get {} ({why}): {targets} of {pool} {} down",
        judged.target.name,
        some_of(&places),
        if down == 1 || all == 1 { "is" } else { "are" }
    );
    let mut f = e.server.finding(&DOWN, severity, judged.target, message);
    // what is wrong with Prometheus' own container is no reason for that
    f.keys.clear();
    for l in lost.iter().take(5) {
        f = f.cite(&l.url, &l.error);
    }
    for l in lost {
        f = f.key(KeyKind::Address, format!("{}:{}", l.host, l.port));
        if let Some(id) = &l.container {
            f = f.key(KeyKind::Container, id).key(KeyKind::Port, format!("{id}:{}", l.port));
        }
    }
    // who does not answer in time may be who was asked for its name
    if let (Some(endpoint), "its name is not known there" | "no answer in time") = (&e.names_by, why) {
        f = f.key(KeyKind::Engine, endpoint);
    }
    f = match why {
        "its name is not known there" => f.key(KeyKind::Names, e.asks_names_as()),
        "TLS" => lost.iter().fold(f, |f, l| f.key(KeyKind::Certificate, served_key(&format!("{}:{}", l.host, l.port)))),
        "no answer in time" | "no way there" => f.key(KeyKind::Host, "host"),
        _ => f,
    };
    if hint.is_empty() { f } else { f.hint(hint) }
}

impl Evidence {
    /// Whose name servers its names are looked up with: those of its container, or of this host.
    fn asks_names_as(&self) -> &str {
        self.server.get().and_then(|s| s.container.as_deref()).unwrap_or("host")
    }
}

fn empty(judged: &Judged<'_>, e: &Evidence, x: &Empty) -> Finding {
    let missing: Vec<String> = x.files.iter().filter(|(_, n)| *n == 0).map(|(f, _)| f.clone()).collect();
    let why = match () {
        () if x.dropped > 0 => format!(": its rules drop all {} that were found", x.dropped),
        () if !missing.is_empty() => format!(": there is no file {}", some_of(&missing)),
        () => String::new(),
    };
    let message =
        format!("{}: the job {} has no target{why}; nothing tells when what it is about fails", judged.target.name, x.job);
    let f = e.server.finding(&EMPTY, Severity::Warn, judged.target, message);
    f.cite("files of its targets", x.files.iter().map(|(f, n)| format!("{f} ({n})")).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn errors_of_scrapes_are_told_apart() {
        for (error, why) in [
            ("dial tcp 172.18.0.2:8080: connect: connection refused", "connection refused"),
            ("dial tcp: lookup b1 on 127.0.0.11:53: no such host", "its name is not known there"),
            ("context deadline exceeded", "no answer in time"),
            ("dial tcp 10.0.0.1:1: connect: no route to host", "no way there"),
            ("server returned HTTP status 401 Unauthorized", "it wants a login"),
            ("server returned HTTP status 404 Not Found", "no such page"),
            ("\"INVALID\" is not a valid start token", "it answers something else than metrics"),
            ("x509: certificate signed by unknown authority", "TLS"),
            ("sample limit exceeded", "it has more samples than the limit"),
            ("strange", "another reason"),
        ] {
            assert_eq!(reason(error).0, why, "{error}");
        }
    }
}
