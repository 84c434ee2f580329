//! Failed requests.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join;
use jiff::SignedDuration;
use opsctl_core::model::log::template;
use opsctl_core::model::{
    Check, CheckSpec, Code, DependsOn, Finding, Inventory, Judged, Judgement, KeyKind, Object, Product, Role, Severity, Table,
    quantity,
};
use opsctl_core::probe::nginx::{self, CONFIGURATION_SIGNALS, Requests};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::errors::{hint_of_line, key_of_log};
use super::meanings::{self, Tie, hint_of_reason};
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
    /// The error log of the same window. Only if requests fail.
    errors: Option<nginx::Errors>,
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
        let (behind, errors) = if traffic.requests.failures() > 0 {
            // an unreadable error log is a gap of nginx.errors
            let errors = async { nginx.errors(cx, known, window).await.ok().map(|(errors, _)| errors) };
            join(upstreams_of(cx, known, &nginx), errors).await
        } else {
            (Vec::new(), None)
        };
        let all = if cx.options.usage { Some(nginx.all_traffic().await?) } else { None };
        Ok(Evidence { window_s: self.settings.window_s, traffic, behind, errors, all, server })
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
        let gateway = is_gateway(r);
        let reason = e.errors.as_ref().and_then(|errors| self.reason(&e.server, errors, r));
        let mut f = Finding::new(&FAILED, severity, e.server.subject(judged.target), message)
            .cite("error log", reason.as_ref().map_or_else(String::new, LogReason::shown))
            .cite("responses", by_status.join(", "))
            .cite("closed by the client (499)", if r.gave_up > 0 { quantity::count_of(r.gave_up) } else { String::new() })
            .cite("upstreams", most(&r.by_upstream, 3))
            .cite("hosts", most(&r.by_host, 3))
            .cite("paths", most(&r.by_path, 3))
            .cite("read", format!("{}{}", t.read.join(", "), if t.cut { ", not the complete window" } else { "" }));
        if let Some(reason) = reason.filter(|reason| reason.count.saturating_mul(MIN_SHARE_OF_LINES) >= r.failures()) {
            f = f.hint(reason.hint);
        }
        f = tied_to_log(f, &e.server, e.errors.as_ref(), r);
        f = if gateway { behind(&e.server, f) } else { f.key(KeyKind::Server, e.server.get().map_or("", |s| &s.id)) };
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

/// Lines of the error log per failed request from which they are its reason: one in ten (judgement).
const MIN_SHARE_OF_LINES: u64 = 10;

/// A line of the error log that gives the reason of failed requests.
struct LogReason {
    text: String,
    count: u64,
    hint: String,
}

impl LogReason {
    fn shown(&self) -> String {
        if self.count > 1 { format!("{} ({} times)", self.text, quantity::count_of(self.count)) } else { self.text.clone() }
    }
}

/// Whether most failures concern the connection to an upstream (502, 504); 500 and 503 come from the upstream or from nginx
/// itself.
fn is_gateway(r: &Requests) -> bool {
    let gateway: u64 = [502, 504].iter().filter_map(|s| r.failed.get(s)).sum();
    gateway.saturating_mul(2) >= r.failures()
}

/// Whether a kind of line can be the reason of these failures, by their status.
fn fits(kind: &str, r: &Requests) -> bool {
    match meanings::meaning(kind) {
        // a running nginx keeps its configuration
        _ if CONFIGURATION_SIGNALS.contains(&kind) => false,
        Some(meaning) => meaning.tie != Tie::Upstream || is_gateway(r),
        None if kind == "limited" => r.failed.get(&503).is_some_and(|n| n.saturating_mul(2) >= r.failures()),
        None => hint_of_reason(kind).is_some(),
    }
}

/// Ties the failures to the lines that at least half of them caused.
fn tied_to_log(finding: Finding, server: &Server, errors: Option<&nginx::Errors>, r: &Requests) -> Finding {
    let Some(errors) = errors else { return finding };
    let many = |count: u64| count.saturating_mul(2) >= r.failures();
    let signals = errors.signals.iter().filter(|s| many(s.count) && fits(&s.kind, r)).map(|s| s.kind.clone());
    let lines = errors.lines.iter().filter(|l| many(l.count)).map(|l| template(&l.text));
    signals.chain(lines).fold(finding, |f, kind| key_of_log(f, server, &kind))
}

impl Traffic {
    /// The most frequent line that can be the reason of these failures, unless it is a finding of its own with a meaning.
    fn reason(&self, server: &Server, errors: &nginx::Errors, r: &Requests) -> Option<LogReason> {
        let signal = errors.signals.iter().filter(|s| fits(&s.kind, r)).max_by_key(|s| s.count);
        let line = errors.lines.iter().max_by_key(|l| l.count);
        match (signal, line) {
            (Some(s), line) if line.is_none_or(|l| l.count <= s.count) => {
                let hint = match meanings::meaning(&s.kind) {
                    Some(meaning) if s.count >= meaning.least(&self.settings) => return None,
                    Some(meaning) => meaning.hint,
                    None => hint_of_reason(&s.kind)?,
                };
                Some(LogReason { text: s.last.clone(), count: s.count, hint: hint.to_owned() })
            }
            (_, line) => {
                let l = line?;
                Some(LogReason { text: l.text.clone(), count: l.count, hint: hint_of_line(server, errors, l) })
            }
        }
    }

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

    fn failed(status: u16, lines: &[(&str, u64)], signals: &[(&str, u64)]) -> Finding {
        let requests = Requests { all: 100, failed: BTreeMap::from([(status, 40)]), ..Requests::default() };
        let line =
            |(text, count): &(&str, u64)| nginx::ErrorLine { text: (*text).to_owned(), count: *count, ..Default::default() };
        let signal = |(kind, count): &(&str, u64)| nginx::Signal {
            kind: (*kind).to_owned(),
            last: (*kind).to_owned(),
            count: *count,
            ..Default::default()
        };
        let errors = nginx::Errors {
            lines: lines.iter().map(line).collect(),
            signals: signals.iter().map(signal).collect(),
            ..nginx::Errors::default()
        };
        let server = r#"{"product": "nginx", "name": "edge", "id": "nginx:aaaa", "found_by": "", "process": null, "container": null, "unit": null, "address": null}"#;
        let traffic = nginx::Traffic { requests, read: vec!["a".to_owned()], ..nginx::Traffic::default() };
        let server = serde_json::from_str(server).unwrap_or_default();
        let e = Evidence { server, window_s: 300, traffic, errors: Some(errors), ..Evidence::default() };
        let target = Object::new(opsctl_core::model::Kind::Nginx, "edge", "nginx:aaaa");
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::default() };
        Traffic { settings: Settings::default() }.judge(&judged, &e).findings.remove(0)
    }

    fn log_keys(f: &Finding) -> Vec<&str> {
        f.keys.iter().filter(|k| k.kind == KeyKind::ErrorLog).map(|k| k.value.as_str()).collect()
    }

    #[test]
    fn unclassified_line_is_the_first_evidence_and_the_hint() {
        let f = failed(500, &[("[error] auth request unexpected status: 403", 40), ("[error] other", 3)], &[]);
        assert_eq!(f.evidence[0].label, "error log");
        assert_eq!(f.evidence[0].value, "[error] auth request unexpected status: 403 (40 times)");
        assert_ne!(f.hint, FAILED.hint);
        assert_eq!(log_keys(&f), ["nginx:aaaa:[error] auth request unexpected status: #"]);
    }

    #[test]
    fn rare_line_does_not_replace_the_hint() {
        let f = failed(500, &[("[error] other", 3)], &[]);
        assert_eq!((f.evidence[0].value.as_str(), f.hint.as_str()), ("[error] other (3 times)", FAILED.hint));
        assert!(log_keys(&f).is_empty());
    }

    #[test]
    fn signal_with_a_finding_of_its_own_is_a_cause() {
        let f = failed(500, &[("[error] other", 3)], &[("rewrite-cycle", 40)]);
        assert_eq!((f.evidence[0].label.as_str(), log_keys(&f)), ("responses", vec!["nginx:aaaa:rewrite-cycle"]));
    }

    #[test]
    fn limited_requests_are_the_reason_of_503_only() {
        let limited = [("limited", 40)];
        assert!(failed(503, &[], &limited).hint.contains("limit_req"));
        assert_eq!(failed(500, &[], &limited).hint, FAILED.hint);
    }

    #[test]
    fn upstream_signal_is_no_reason_of_500() {
        assert!(log_keys(&failed(500, &[], &[("timed-out", 40)])).is_empty());
        assert_eq!(log_keys(&failed(504, &[], &[("timed-out", 40)])), ["nginx:aaaa:timed-out"]);
    }
}
