//! Failed requests.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{
    Check, CheckSpec, Code, DependsOn, Inventory, Judged, Judgement, KeyKind, Object, Product, Role, Severity, Table, quantity,
};
use opsctl_core::probe::nginx::{self, Requests};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::{Settings, behind};
use crate::shared::dependencies::{NEEDED_SERVERS, UNRESPONSIVE, running};
use crate::shared::needed_servers::tied_to_needs;
use crate::shared::nginx_context::{Upstream, upstreams_of};
use crate::shared::servers::Server;

const FAILED: Code = Code {
    id: "nginx.5xx-rate",
    severities: &[Severity::Warn, Severity::Crit],
    when: "of at least {min_requests} requests in {window_s}, {failed_warn_percent} (warn) or {failed_crit_percent} (crit) got a 5xx response, or half of fewer and at least {few_failed_crit} (crit), or nearly all of at least 3 (warn); one level lower after recovery in the last minute",
    hint: "read the log of the upstream; if all upstreams fail, check their shared services: the database, the cache",
    depends_on: &[
        &running("the upstream's"),
        UNRESPONSIVE,
        &[DependsOn::likely(Role::Starved, KeyKind::Container, "the upstream's")],
        NEEDED_SERVERS,
    ],
    ..Code::BASE
};

static SPEC: CheckSpec =
    CheckSpec { id: "nginx.traffic", title: "Requests succeed", codes: &[FAILED], fixes: &[], timeout: Duration::from_secs(8) };

/// Failures that are significant if no other request succeeds.
const MIN_FAILURES: u64 = 3;

/// Requests of the last minute required to detect recovery.
const MIN_RECENT_REQUESTS: u64 = 20;

pub(super) struct Traffic {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    window_s: u32,
    traffic: nginx::Traffic,
    /// Upstreams: containers by address, and the servers in their environment. Only if requests fail.
    behind: Vec<Upstream>,
    /// All requests in the logs, if requested, and the size of the logs in bytes.
    all: Option<(nginx::Traffic, u64)>,
}

impl Check for Traffic {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Nginx)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        let nginx = cx.nginx(target)?;
        let Some(known) = server.get() else { return Ok(Evidence::default()) };
        let window = SignedDuration::from_secs(i64::from(self.settings.window_s));
        let traffic = nginx.traffic(cx, known, window).await?;
        let behind = if traffic.requests.failures() > 0 { upstreams_of(cx, known, &nginx).await } else { Vec::new() };
        let all = if cx.options.usage { Some(nginx.all_traffic().await?) } else { None };
        Ok(Evidence { window_s: self.settings.window_s, traffic, behind, all, server })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let tables = e.all.iter().map(|(all, size)| table(&judged.target.name, all, *size)).collect();
        let t = &e.traffic;
        let mut judgement = Judgement { tables, ..Judgement::default() };
        if t.read.is_empty() && t.unread.is_empty() {
            judgement.skip = Some("it writes no complete access log".to_owned());
            return judgement;
        }
        judgement.gaps.clone_from(&t.unread);
        let Some(severity) = self.severity(&t.requests, &t.recent) else { return judgement };
        let name = &judged.target.name;
        let r = &t.requests;
        let share = quantity::percent(percent(r));
        let message = format!(
            "{share} of the requests to {name} failed in the last {}: {} of {}{}",
            quantity::duration(SignedDuration::from_secs(i64::from(e.window_s))),
            quantity::count_of(r.failures()),
            quantity::count_of(r.all),
            if self.is_over(&t.recent) { ", almost none in the last minute" } else { "" },
        );
        let by_status: Vec<String> = r.failed.iter().map(|(s, n)| format!("{n} × {s} ({})", meaning(*s))).collect();
        let mut f = opsctl_core::model::Finding::new(&FAILED, severity, e.server.subject(judged.target), message)
            .cite("responses", by_status.join(", "))
            .cite("closed by the client (499)", if r.gave_up > 0 { quantity::count_of(r.gave_up) } else { String::new() })
            .cite("upstreams", most(&r.by_upstream, 3))
            .cite("hosts", most(&r.by_host, 3))
            .cite("paths", most(&r.by_path, 3))
            .cite("read", format!("{}{}", t.read.join(", "), if t.cut { ", not the complete window" } else { "" }));
        // 502 and 504 concern the connection to an upstream; 500 and 503 come from the upstream itself
        let gateway: u64 = [502, 504].iter().filter_map(|s| r.failed.get(s)).sum();
        f = if gateway.saturating_mul(2) >= r.failures() {
            behind(&e.server, f)
        } else {
            f.key(KeyKind::Server, e.server.get().map_or("", |s| &s.id))
        };
        let blamed = |b: &&Upstream| {
            r.by_upstream.is_empty() || b.addresses.iter().any(|a| r.by_upstream.keys().any(|u| u == a)) || e.behind.len() == 1
        };
        for b in e.behind.iter().filter(blamed) {
            if !b.container.is_empty() {
                f = f.key(KeyKind::Container, &b.container);
            }
            f = b.units.iter().fold(f, |f, unit| f.key(KeyKind::Unit, unit));
            f = tied_to_needs(f, &b.needs);
        }
        judgement.findings.push(f);
        judgement
    }
}

impl Traffic {
    fn severity(&self, r: &Requests, recent: &Requests) -> Option<Severity> {
        let s = &self.settings;
        let share = percent(r);
        let severity = if r.all >= s.min_requests {
            s.failed().exceeded(share)?.0
        } else if r.failures() >= s.few_failed_crit && share >= 50.0 {
            Severity::Crit
        } else if r.failures() >= MIN_FAILURES && share >= 90.0 {
            Severity::Warn
        } else {
            return None;
        };
        match (severity, self.is_over(recent)) {
            (severity, false) => Some(severity),
            (Severity::Crit, true) => Some(Severity::Warn),
            _ => None,
        }
    }

    fn is_over(&self, recent: &Requests) -> bool {
        recent.all >= MIN_RECENT_REQUESTS && percent(recent) < self.settings.failed_warn_percent
    }
}

fn percent(r: &Requests) -> f64 {
    if r.all == 0 { 0.0 } else { r.failures() as f64 * 100.0 / r.all as f64 }
}

fn meaning(status: u16) -> &'static str {
    match status {
        500 => "internal server error",
        502 => "bad gateway",
        503 => "service unavailable",
        504 => "gateway timeout",
        507 => "insufficient storage",
        _ => "failed",
    }
}

/// The most frequent names with their counts.
fn most(map: &BTreeMap<String, u64>, n: usize) -> String {
    let mut all: Vec<(&String, &u64)> = map.iter().collect();
    all.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    all.iter().take(n).map(|(name, count)| format!("{name} ({count})")).collect::<Vec<_>>().join(", ")
}

fn table(name: &str, all: &nginx::Traffic, size: u64) -> Table {
    let r = &all.requests;
    let mut rows: Vec<(u64, Vec<String>)> = Vec::new();
    let groups = [("upstream", &r.by_upstream), ("host", &r.by_host), ("path", &r.by_path)];
    for (status, n) in &r.failed {
        rows.push((*n, vec![format!("status {status}: {}", meaning(*status)), n.to_string()]));
    }
    for (group, map) in groups {
        let mut best: Vec<(&String, &u64)> = map.iter().collect();
        best.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        rows.extend(best.into_iter().take(10).map(|(key, n)| (*n, vec![format!("{group} {key}"), n.to_string()])));
    }
    rows.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
    let mut note = format!(
        "{} of {} requests failed ({}); {} of {}",
        quantity::count_of(r.failures()),
        quantity::count_of(r.all),
        quantity::percent(percent(r)),
        quantity::bytes(size),
        quantity::count(all.read.len(), "log"),
    );
    if !all.unread.is_empty() {
        note = format!("{note}; not read: {}", all.unread.join("; "));
    }
    Table {
        title: format!("failed requests in the logs of {name}"),
        columns: vec!["group".to_owned(), "requests".to_owned()],
        rows: rows.into_iter().map(|(_, row)| row).take(30).collect(),
        note: Some(note),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(all: u64, failed: u64) -> Requests {
        Requests { all, failed: BTreeMap::from([(502, failed)]), ..Requests::default() }
    }

    #[test]
    fn severity_depends_on_request_count() {
        let check = Traffic { settings: Settings::default() };
        let severity = |all, failed| check.severity(&requests(all, failed), &Requests::default());
        assert_eq!(severity(59, 9), None);
        assert_eq!(severity(59, 30), Some(Severity::Crit));
        assert_eq!((severity(20, 9), severity(20, 10)), (None, Some(Severity::Crit)));
        assert_eq!((severity(2, 2), severity(3, 3), severity(4, 3)), (None, Some(Severity::Warn), None));
        assert_eq!(
            (severity(1000, 19), severity(1000, 20), severity(1000, 50)),
            (None, Some(Severity::Warn), Some(Severity::Crit))
        );
        assert_eq!(check.severity(&requests(1000, 500), &requests(100, 0)), Some(Severity::Warn));
        assert_eq!(check.severity(&requests(1000, 20), &requests(100, 0)), None);
    }
}
