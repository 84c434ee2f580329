//! Repeated messages in the error log.

use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{
    Check, CheckSpec, Code, DependsOn, Finding, Inventory, Judged, Judgement, KeyKind, Object, Product, Role, Severity, quantity,
};
use opsctl_core::probe::nginx::{self, Signal};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::{Settings, behind};
use crate::shared::servers::{Server, filesystem_at};

const SIGNALS: Code = Code {
    id: "nginx.error-signals",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the error log reports within {window_s} that connections, open files or disk space run out (crit), or {errors_warn} times that an upstream fails or refuses connections (warn)",
    hint: "the line names the upstream; see the log of the upstream for the cause",
    depends_on: &[&[
        DependsOn::likely(Role::NoRoom, KeyKind::Filesystem, "its"),
        DependsOn::confirmed(Role::NoDescriptors, KeyKind::Descriptors, "its"),
    ]],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "nginx.errors",
    title: "The error log has no repeated errors",
    codes: &[SIGNALS],
    fixes: &[],
    timeout: Duration::from_secs(8),
};

pub(super) struct Errors {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    window_s: u32,
    errors: nginx::Errors,
    unread: Vec<String>,
    /// The filesystem of request bodies, if it is full: `major:minor`.
    full: Option<String>,
}

impl Check for Errors {
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
        let (errors, unread) = nginx.errors(cx, known, window).await?;
        let full = if errors.signals.iter().any(|s| s.kind == "no-space") {
            filesystem_at(cx, &server, "/var").await.map(|f| f.dev)
        } else {
            None
        };
        Ok(Evidence { window_s: self.settings.window_s, errors, unread, full, server })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let findings = e.errors.signals.iter().filter_map(|s| self.finding(judged, e, s)).collect();
        Judgement { findings, gaps: e.unread.clone(), ..Judgement::default() }
    }
}

impl Errors {
    fn finding(&self, judged: &Judged<'_>, e: &Evidence, signal: &Signal) -> Option<Finding> {
        let (severity, problem, hint, upstream) = meaning(&signal.kind)?;
        let least = if severity == Severity::Crit { 1 } else { self.settings.errors_warn };
        if signal.count < least {
            return None;
        }
        let message = format!(
            "{} {problem}, {} in {}",
            judged.target.name,
            if signal.count == 1 { "once".to_owned() } else { format!("{} times", quantity::count_of(signal.count)) },
            quantity::duration(SignedDuration::from_secs(i64::from(e.window_s)))
        );
        let mut finding =
            Finding::new(&SIGNALS, severity, e.server.subject(judged.target), message).cite("error log", &signal.last).hint(hint);
        finding = if upstream { behind(&e.server, finding) } else { e.server.tied(finding) };
        if signal.kind == "files-exhausted"
            && let Some(server) = e.server.get()
        {
            finding = server.container.iter().chain(&server.unit).fold(finding, |f, home| f.key(KeyKind::Descriptors, home));
        }
        if signal.kind == "no-space"
            && let Some(dev) = &e.full
        {
            finding = finding.key(KeyKind::Filesystem, dev);
        }
        Some(finding)
    }
}

/// Severity, meaning and remedy of a kind of line, and whether it concerns an upstream. Errors of clients
/// (bodies too large, broken handshakes) are not counted.
fn meaning(kind: &str) -> Option<(Severity, &'static str, &'static str, bool)> {
    Some(match kind {
        "connections-exhausted" => {
            (Severity::Crit, "ran out of connections", "raise worker_connections; a proxied request uses two", false)
        }
        "files-exhausted" => {
            (Severity::Crit, "ran out of open files", "raise worker_rlimit_nofile, or its unit's LimitNOFILE", false)
        }
        "no-space" => (Severity::Crit, "found no space left on the device", "see `opsctl disk`", false),
        "no-live-upstreams" => {
            (Severity::Warn, "had no live upstreams", "all servers of the group failed; see nginx.upstream-unreachable", true)
        }
        "refused" => {
            (Severity::Warn, "was refused by an upstream", "the port has no listener; see nginx.upstream-unreachable", true)
        }
        "unreachable" => {
            (Severity::Warn, "found no route to an upstream", "its address no longer exists; see nginx.upstream-stale-ip", true)
        }
        "timed-out" => (
            Severity::Warn,
            "timed out waiting for an upstream",
            "it is slow, or its address no longer exists: see nginx.upstream-stale-ip",
            true,
        ),
        "closed-early" | "reset" => (
            Severity::Warn,
            "lost the connection to an upstream during a response",
            "the application closes its connections: it crashes, or its keep-alive timeout is shorter than that of nginx",
            true,
        ),
        "header-too-big" => (
            Severity::Warn,
            "received response headers larger than its buffer",
            "raise proxy_buffer_size, or find the cause of the large cookies of the application",
            true,
        ),
        "upstream-tls" => (
            Severity::Warn,
            "failed the TLS handshake with an upstream",
            "check the certificate and the TLS versions of the upstream; proxy_ssl_server_name is often missing",
            true,
        ),
        _ => return None,
    })
}
