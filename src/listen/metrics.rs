//! Counters of the listener.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use opsctl_core::probe::io::clock;

/// Time after which an alert in progress counts as hung: a run and its fixes have their own, shorter limits.
const HUNG_AFTER: Duration = Duration::from_secs(30 * 60);

/// Reason why a request was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RejectReason {
    /// Neither token nor signature nor an allowed user.
    Caller,
    /// Too many connections.
    Connections,
    /// For another host.
    Host,
    /// From a web page.
    Origin,
    /// No room for alerts.
    Queue,
    /// Signed, but already accepted or impossible to store.
    Replay,
}

impl RejectReason {
    const ALL: [Self; 6] = [Self::Caller, Self::Connections, Self::Host, Self::Origin, Self::Queue, Self::Replay];

    fn word(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Connections => "connections",
            Self::Host => "host",
            Self::Origin => "origin",
            Self::Queue => "queue",
            Self::Replay => "replay",
        }
    }
}

#[derive(Default)]
struct Inner {
    requests: BTreeMap<u16, u64>,
    refused: BTreeMap<RejectReason, u64>,
    alerts: BTreeMap<&'static str, u64>,
    runs: u64,
    fixes: BTreeMap<(String, u8), u64>,
    last_answer: Option<Timestamp>,
    in_work_since: Option<Instant>,
}

/// Counters since the start.
#[derive(Default)]
pub(super) struct Metrics(Mutex<Inner>);

impl Metrics {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn request(&self, status: u16) {
        *self.lock().requests.entry(status).or_default() += 1;
    }

    pub(super) fn refused(&self, why: RejectReason) {
        *self.lock().refused.entry(why).or_default() += 1;
    }

    pub(super) fn alerts(&self, outcome: &'static str, n: usize) {
        *self.lock().alerts.entry(outcome).or_default() += n as u64;
    }

    pub(super) fn fix(&self, fix: &str, exit: u8) {
        *self.lock().fixes.entry((fix.to_owned(), exit)).or_default() += 1;
    }

    pub(super) fn begins(&self) {
        let mut inner = self.lock();
        inner.runs += 1;
        inner.in_work_since = Some(Instant::now());
    }

    pub(super) fn ends(&self) {
        let mut inner = self.lock();
        inner.in_work_since = None;
        inner.last_answer = Some(clock::now());
    }

    /// Whether an alert has been in progress for too long.
    pub(super) fn is_stuck(&self) -> bool {
        self.lock().in_work_since.is_some_and(|since| since.elapsed() > HUNG_AFTER)
    }

    /// All counters in the Prometheus text format.
    pub(super) fn text(&self, waiting: usize, switched_off: bool) -> String {
        let inner = self.lock();
        let mut out = String::new();
        let mut family = |name: &str, kind: &str, help: &str, rows: Vec<(String, String)>| {
            // writing to a String cannot fail
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in rows {
                let _ = writeln!(out, "{name}{labels} {value}");
            }
        };
        let requests = inner.requests.iter().map(|(s, n)| (format!("{{status=\"{s}\"}}"), n.to_string())).collect();
        family("opsctl_listen_requests_total", "counter", "Requests by status.", requests);
        let refused = RejectReason::ALL.iter();
        let refused =
            refused.map(|w| (format!("{{reason=\"{}\"}}", w.word()), inner.refused.get(w).copied().unwrap_or(0).to_string()));
        family("opsctl_listen_refusals_total", "counter", "Rejected requests by reason.", refused.collect());
        let alerts = ["accepted", "answered", "duplicate", "resolved"].iter();
        let alerts = alerts.map(|w| (format!("{{result=\"{w}\"}}"), inner.alerts.get(w).copied().unwrap_or(0).to_string()));
        family("opsctl_listen_alerts_total", "counter", "Alerts by result.", alerts.collect());
        let fixes = inner.fixes.iter().map(|((f, e), n)| (format!("{{fix=\"{f}\",exit=\"{e}\"}}"), n.to_string())).collect();
        family(
            "opsctl_listen_fixes_total",
            "counter",
            "Fixes attempted without confirmation, by exit code (0 is success).",
            fixes,
        );
        let one = |value: String| vec![(String::new(), value)];
        family("opsctl_listen_waiting_alerts", "gauge", "Queued alerts.", one(waiting.to_string()));
        family("opsctl_listen_runs_total", "counter", "Runs of the checks for alerts.", one(inner.runs.to_string()));
        let off = u8::from(switched_off).to_string();
        family(
            "opsctl_listen_fixes_switched_off",
            "gauge",
            "1 while /etc/opsctl/no-fixes exists and no fix is applied.",
            one(off),
        );
        let last = inner.last_answer.map_or(0, Timestamp::as_second);
        family("opsctl_listen_last_answer_timestamp_seconds", "gauge", "Time of the last answered alert.", one(last.to_string()));
        let version = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
        family("opsctl_listen_build_info", "gauge", "Version of opsctl.", vec![(version, "1".to_owned())]);
        out
    }
}
