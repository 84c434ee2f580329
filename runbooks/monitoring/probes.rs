//! Probes of the blackbox exporter that fail: `up` is that of the exporter, and stays 1.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::address::Address;
use opsctl_core::model::{
    Check, CheckSpec, Code, DependsOn, Finding, Inventory, Judged, Judgement, KeyKind, Object, Product, Role, Severity, quantity,
};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::status::prometheus_server;
use crate::shared::dependencies::{PACKETS_DROPPED, PORT_CLOSED, UNRESPONSIVE, running_container};
use crate::shared::processes::of_host;
use crate::shared::servers::Server;

const FAILED: Code = Code {
    id: "monitoring.probe-failed",
    severities: &[Severity::Info, Severity::Warn],
    when: "a probe of the blackbox exporter fails (`probe_success` is 0) for over a minute (warn) or since its last scrape (info), while `up` of the exporter is 1; the certificate that a probe saw expires within a day (warn)",
    hint: "add `&debug=true` to the URL of the probe: the exporter prints each step and the reason",
    depends_on: &[
        &running_container("the target's"),
        PACKETS_DROPPED,
        PORT_CLOSED,
        UNRESPONSIVE,
        &[DependsOn::likely(Role::Starved, KeyKind::Host, "")],
    ],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.probes",
    title: "Blackbox probes succeed",
    codes: &[FAILED],
    fixes: &[],
    timeout: Duration::from_secs(8),
};

/// Failing probes.
const FAILING: &str = "probe_success == 0";
/// Time of the last success of each probe within an hour.
const SUCCEEDED: &str = "max_over_time(timestamp(probe_success == 1)[1h:30s])";
/// Remaining lifetime of certificates, if less than a day.
const EXPIRING: &str = "probe_ssl_earliest_cert_expiry - time() < 86400";

/// A probe that failed once can succeed with the next scrape (judgement).
const BRIEF: SignedDuration = SignedDuration::from_secs(60);

/// Further probes are counted.
const MAX_PROBES: usize = 50;

pub(super) struct Probes {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    failing: Vec<Failing>,
    /// Failing probes that are not listed.
    more: usize,
    /// Instance, job, and remaining seconds.
    expiring: Vec<(String, String, f64)>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Failing {
    instance: String,
    job: String,
    module: String,
    /// Time of its last success within an hour.
    succeeded_at: Option<Timestamp>,
    /// Full id of its container, if on this host.
    container: Option<String>,
}

impl Check for Probes {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Prometheus)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = prometheus_server(cx, target, "which stores no samples").await?;
        let failing = cx.query(target, FAILING).await?;
        let expiring = cx.query(target, EXPIRING).await?;
        let mut e = Evidence { more: failing.len().saturating_sub(MAX_PROBES), ..Evidence::default() };
        e.expiring = expiring
            .iter()
            .take(MAX_PROBES)
            .map(|s| (s.label("instance").to_owned(), s.label("job").to_owned(), s.value))
            .collect();
        if !failing.is_empty() {
            let succeeded = cx.query(target, SUCCEEDED).await?;
            let needs = cx.needs().await?;
            let own = server.get().and_then(|s| s.container.as_deref()).and_then(|id| needs.neighbours.get(id));
            let scraped = cx.scraped(target).await.unwrap_or_default();
            for s in failing.iter().take(MAX_PROBES) {
                let last = succeeded.iter().find(|x| same_series(&x.labels, &s.labels)).map(|x| x.value);
                let probe = scraped
                    .iter()
                    .find(|t| ["job", "instance"].iter().all(|l| t.labels.get(*l).map_or("", String::as_str) == s.label(l)));
                let host = Address::parse(s.label("instance")).host().to_owned();
                e.failing.push(Failing {
                    instance: opsctl_core::probe::servers::prometheus::without_secrets(s.label("instance")),
                    job: s.label("job").to_owned(),
                    module: match s.label("module") {
                        "" => probe.map(|p| parameter(&p.path, "module")).unwrap_or_default(),
                        module => module.to_owned(),
                    },
                    succeeded_at: last.and_then(|at| Timestamp::from_millisecond(milliseconds(at)).ok()),
                    container: needs.neighbours.resolve(own, &host).map(|m| needs.neighbours.holder(m.container).id.clone()),
                });
            }
        }
        e.server = server;
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let wanted = |job: &String| !self.settings.probes_ok.contains(job);
        let mut findings: Vec<Finding> = e.failing.iter().filter(|f| wanted(&f.job)).map(|f| failing(judged, e, f)).collect();
        let name = &judged.target.name;
        if e.more > 0 {
            let text = format!("{name}: {} more blackbox probes fail", e.more);
            findings.push(e.server.finding(&FAILED, Severity::Warn, judged.target, text).cite("query", FAILING));
        }
        for (instance, job, left) in e.expiring.iter().filter(|(_, job, _)| wanted(job)) {
            let when = if *left < 0.0 {
                format!("expired {} ago", quantity::seconds(-left))
            } else {
                format!("expires in {}", quantity::seconds(*left))
            };
            let text = format!("{name}: a certificate at {instance}, as seen by the probe of job {job}, {when}");
            let f = e.server.finding(&FAILED, Severity::Warn, judged.target, text).cite("query", EXPIRING);
            findings.push(f.hint(
                "`opsctl tls` checks the certificates of this host; probe_ssl_earliest_cert_expiry is the earliest of the chain",
            ));
        }
        findings.into()
    }
}

fn failing(judged: &Judged<'_>, e: &Evidence, f: &Failing) -> Finding {
    let name = &judged.target.name;
    let module = if f.module.is_empty() { String::new() } else { format!(" (module {})", f.module) };
    let (severity, since) = match f.succeeded_at {
        Some(at) if judged.taken_at.duration_since(at) < BRIEF => (Severity::Info, "since its last scrape".to_owned()),
        Some(at) => (Severity::Warn, format!("since {}", quantity::ago(judged.taken_at, at))),
        None => (Severity::Warn, "without a success within the last hour".to_owned()),
    };
    let text = format!("{name}: the blackbox probe of {}{module} fails {since}", f.instance);
    let mut found = e.server.finding(&FAILED, severity, judged.target, text).since(f.succeeded_at).cite("job", &f.job);
    // a fault of Prometheus' own container is not the cause
    found.keys.clear();
    let address = Address::parse(&f.instance);
    if let Some(at) = address.host_port() {
        found = found.key(KeyKind::Address, opsctl_core::model::address::join(&at.host, at.port));
        if let Some(id) = &f.container {
            found = found.key(KeyKind::Port, format!("{id}:{}", at.port));
        }
    }
    match &f.container {
        Some(id) => of_host(found.key(KeyKind::Container, id)),
        None => found,
    }
}

/// Whether two series have the same labels, except for the name.
fn same_series(a: &std::collections::BTreeMap<String, String>, b: &std::collections::BTreeMap<String, String>) -> bool {
    let labels = |all: &std::collections::BTreeMap<String, String>| {
        all.iter().filter(|(k, _)| *k != "__name__").map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>()
    };
    labels(a) == labels(b)
}

/// The value of a parameter of a request path.
fn parameter(path: &str, name: &str) -> String {
    let query = path.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_default().chars().filter(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c)).take(60).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "a time; the cast saturates")]
fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0) as i64
}

#[cfg(test)]
mod tests {
    use super::parameter;

    #[test]
    fn module_of_a_probe() {
        assert_eq!(parameter("/probe?module=http_2xx&target=https%3A%2F%2Fa", "module"), "http_2xx");
        assert_eq!((parameter("/probe", "module"), parameter("/probe?x=1", "module")), (String::new(), String::new()));
    }
}
