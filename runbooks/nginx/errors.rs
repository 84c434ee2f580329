//! Repeated messages in the error log.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::log::{Level, reason, template};
use opsctl_core::model::{
    Check, CheckSpec, Code, DependsOn, Finding, Inventory, Judged, Judgement, KeyKind, Object, Product, Role, Severity, quantity,
};
use opsctl_core::probe::nginx::{
    self, CONFIGURATION_SIGNALS, ConfigTest, DeniedSocket, ErrorLine, Nginx, Signal, denied_socket, user_of_worker,
};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::meanings::{Meaning, Tie, meaning};
use super::{Settings, behind};
use crate::shared::servers::{READ_TIMEOUT, Server, filesystem_at};

const SIGNALS: Code = Code {
    id: "nginx.error-signals",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the error log reports within {window_s} that connections, local ports, open files, memory or disk space run out, or that nginx cannot write its temporary files (crit); that a worker crashed, or {errors_warn} times that an upstream fails or refuses connections, that requests fail in nginx itself, or another line of level crit or alert (warn)",
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
    timeout: Duration::from_secs(9),
};

/// Limit of findings about lines without a known meaning.
const MAX_LINES: usize = 3;

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
    /// The user of the workers. Only if access is denied to them.
    user: Option<String>,
    /// Unix sockets of upstreams to which the workers may not connect now.
    denied: Vec<DeniedSocket>,
    /// `nginx -t`. Only if the log has lines about the configuration.
    tested: Option<ConfigTest>,
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
        let of = |kinds: &[&str]| errors.signals.iter().find(|s| kinds.contains(&s.kind.as_str()));
        let full = match of(&["no-space", "read-only"]) {
            Some(signal) => {
                let directory = signal.object.as_deref().unwrap_or("/var");
                filesystem_at(cx, &server, directory).await.map(|f| f.dev)
            }
            None => None,
        };
        let tested = match of(CONFIGURATION_SIGNALS) {
            Some(_) => Some(nginx::test(cx, known, &nginx).await),
            None => None,
        };
        let (user, denied) = access(&nginx, &errors).await;
        Ok(Evidence { window_s: self.settings.window_s, errors, unread, full, user, denied, tested, server })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let signals = e.errors.signals.iter().filter_map(|s| self.finding(judged, e, s));
        let lines = e.errors.lines.iter().filter(|l| self.is_reported(l)).take(MAX_LINES);
        let findings = signals.chain(lines.map(|l| finding_of_line(judged, e, l))).collect();
        Judgement { findings, gaps: e.unread.clone(), ..Judgement::default() }
    }
}

/// The user of the workers and the sockets that deny access to them, if the log reports a denied access.
async fn access(nginx: &Nginx, errors: &nginx::Errors) -> (Option<String>, Vec<DeniedSocket>) {
    let denied = |s: &Signal| matches!(s.kind.as_str(), "socket-denied" | "temp-denied" | "files-denied");
    let worker = nginx.serving().next().map(|w| w.pid);
    let Some(worker) = worker.filter(|_| errors.signals.iter().any(denied)) else { return (None, Vec::new()) };
    let sockets: Vec<String> =
        errors.signals.iter().filter(|s| s.kind == "socket-denied").filter_map(|s| s.object.clone()).collect();
    let read = move |io: &Io| {
        let denied: Vec<DeniedSocket> = sockets.iter().filter_map(|path| denied_socket(io, worker, path)).collect();
        (user_of_worker(io, worker), denied)
    };
    blocking::run("the user of nginx", &format!("/proc/{worker}/status"), READ_TIMEOUT, read).await.unwrap_or_default()
}

impl Errors {
    fn finding(&self, judged: &Judged<'_>, e: &Evidence, signal: &Signal) -> Option<Finding> {
        let meaning = meaning(&signal.kind)?;
        if signal.count < meaning.least(&self.settings) {
            return None;
        }
        // `nginx -t` shows whether the configuration still has the fault
        if CONFIGURATION_SIGNALS.contains(&signal.kind.as_str()) && e.tested.as_ref().is_none_or(|t| t.not_run.is_none()) {
            return None;
        }
        let object = signal.object.as_ref().map(|o| format!(" ({o})")).unwrap_or_default();
        let message = format!("{} {}{object}, {}", judged.target.name, meaning.problem, frequency(signal.count, e.window_s));
        let mut finding = Finding::new(&SIGNALS, meaning.severity, e.server.subject(judged.target), message)
            .cite("error log", &signal.last)
            .cite_opt("occurrences", occurrences(judged.taken_at, signal.first_at, signal.last_at))
            .hint(hint(meaning, e, signal));
        finding = match meaning.tie {
            Tie::Upstream => behind(&e.server, finding),
            Tie::Own => e.server.tied(finding),
            Tie::Neither => finding.key(KeyKind::Server, e.server.get().map_or("", |s| &s.id)),
        };
        finding = key_of_log(finding, &e.server, &signal.kind);
        if signal.kind == "files-exhausted"
            && let Some(server) = e.server.get()
        {
            finding = server.container.iter().chain(&server.unit).fold(finding, |f, home| f.key(KeyKind::Descriptors, home));
        }
        if matches!(signal.kind.as_str(), "no-space" | "read-only")
            && let Some(dev) = &e.full
        {
            finding = finding.key(KeyKind::Filesystem, dev);
        }
        Some(finding)
    }

    /// A line of level `crit` or `alert` that repeats. Lines of level `error` without a known meaning are caused by requests of
    /// any kind.
    fn is_reported(&self, line: &ErrorLine) -> bool {
        line.level >= Level::Fatal && line.count >= self.settings.errors_warn
    }
}

fn finding_of_line(judged: &Judged<'_>, e: &Evidence, line: &ErrorLine) -> Finding {
    let message = format!("{} logs {}, {}", judged.target.name, line.text, frequency(line.count, e.window_s));
    let finding = Finding::new(&SIGNALS, Severity::Warn, e.server.subject(judged.target), message)
        .cite("error log", &line.text)
        .cite_opt("occurrences", occurrences(judged.taken_at, line.first_at, line.last_at))
        .hint(hint_of_line(&e.server, &e.errors, line));
    key_of_log(e.server.tied(finding), &e.server, &template(&line.text))
}

/// Ties a finding to a kind of line in the error log of this nginx.
pub(super) fn key_of_log(finding: Finding, server: &Server, kind: &str) -> Finding {
    match server.get() {
        Some(server) => finding.key(KeyKind::ErrorLog, format!("{}:{kind}", server.id)),
        None => finding,
    }
}

/// The remedy for a line without a known meaning: that of its reason, or the command that prints the complete line.
pub(super) fn hint_of_line(server: &Server, errors: &nginx::Errors, line: &ErrorLine) -> String {
    if let Some(reason) = reason(&line.text) {
        return reason.hint().to_owned();
    }
    let level = line.text.split_once(']').map_or("error", |(level, _)| level.trim_start_matches('['));
    let container = server.get().filter(|s| s.container.is_some()).map(|s| s.name.as_str());
    match (container, errors.read.iter().find(|log| log.starts_with('/'))) {
        (Some(name), None) => {
            format!(
                "`docker logs --since 5m {name} 2>&1 | grep '\\[{level}\\]'` prints the complete line, which gives the reason"
            )
        }
        (Some(name), Some(log)) => {
            format!("`docker exec {name} grep '\\[{level}\\]' {log} | tail` prints the complete line, which gives the reason")
        }
        (None, Some(log)) => format!("`grep '\\[{level}\\]' {log} | tail` prints the complete line, which gives the reason"),
        (None, None) => "the complete line in the error log gives the reason".to_owned(),
    }
}

/// The remedy for a signal, with the user of the workers, the object of the line and its present state.
fn hint(meaning: &Meaning, e: &Evidence, signal: &Signal) -> String {
    const WORKERS: &str = "the user of the workers";
    let mut hint = meaning.hint.to_owned();
    if let Some(user) = &e.user {
        hint = hint.replacen(WORKERS, &format!("{user}, {WORKERS},"), 1);
    }
    let Some(object) = &signal.object else { return hint };
    let denied = e.denied.iter().find(|d| object.starts_with(d.path.as_str()));
    match (signal.kind.as_str(), denied) {
        ("socket-denied", Some(denied)) => format!("{denied}: {hint}"),
        ("temp-denied", _) => hint.replacen("PATH", object, 1),
        _ => hint,
    }
}

fn frequency(count: u64, window_s: u32) -> String {
    let times = if count == 1 { "once".to_owned() } else { format!("{} times", quantity::count_of(count)) };
    format!("{times} in {}", quantity::duration(SignedDuration::from_secs(i64::from(window_s))))
}

fn occurrences(now: Timestamp, first: Option<Timestamp>, last: Option<Timestamp>) -> Option<String> {
    let (first, last) = first.zip(last)?;
    Some(format!("first {}, last {}", quantity::ago(now, first), quantity::ago(now, last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(container: bool) -> Server {
        let container = if container { "\"aaaa\"" } else { "null" };
        let text = format!(
            r#"{{"product": "nginx", "name": "edge", "id": "nginx:aaaa", "found_by": "", "process": null, "container": {container}, "unit": null, "address": null}}"#
        );
        serde_json::from_str(&text).unwrap_or_default()
    }

    fn judged(e: &Evidence) -> Vec<Finding> {
        let target = Object::new(opsctl_core::model::Kind::Nginx, "edge", "nginx:aaaa");
        let judged = Judged { target: &target, taken_at: Timestamp::default() };
        Errors { settings: Settings::default() }.judge(&judged, e).findings
    }

    fn evidence(kind: &str, object: Option<&str>) -> Evidence {
        let signal = Signal { kind: kind.to_owned(), object: object.map(str::to_owned), count: 20, ..Signal::default() };
        let errors = nginx::Errors { signals: vec![signal], ..nginx::Errors::default() };
        Evidence { server: server(false), window_s: 300, errors, ..Evidence::default() }
    }

    #[test]
    fn hint_for_a_denied_socket_names_user_and_mode() {
        let mut e = evidence("socket-denied", Some("/run/app.sock"));
        e.user = Some("www-data".to_owned());
        e.denied = vec![DeniedSocket {
            path: "/run/app.sock".to_owned(),
            mode: 0o600,
            owner: "root".to_owned(),
            group: "root".to_owned(),
            ..DeniedSocket::default()
        }];
        let hint = judged(&e).remove(0).hint;
        assert!(
            hint.contains("www-data, the user of the workers, needs") && hint.contains("/run/app.sock has mode 0600, owner root"),
            "{hint}"
        );
    }

    #[test]
    fn local_ports_are_no_fault_of_the_upstream() {
        let keys = judged(&evidence("ports-exhausted", None)).remove(0).keys;
        assert!(keys.iter().all(|k| k.kind != KeyKind::Upstream), "{keys:?}");
        assert!(keys.iter().any(|k| k.kind == KeyKind::ErrorLog && k.value == "nginx:aaaa:ports-exhausted"), "{keys:?}");
    }

    #[test]
    fn configuration_that_was_tested_is_reported_by_its_test() {
        let mut e = evidence("names-hash", None);
        assert!(judged(&e).is_empty());
        e.tested = Some(ConfigTest { passes: true, ..ConfigTest::default() });
        assert!(judged(&e).is_empty());
        e.tested = Some(ConfigTest { not_run: Some("no program".to_owned()), ..ConfigTest::default() });
        assert_eq!(judged(&e).len(), 1);
    }

    #[test]
    fn command_that_prints_the_line_fits_the_place_of_the_log() {
        let line = ErrorLine { text: "[alert] header already sent".to_owned(), ..ErrorLine::default() };
        let read = nginx::Errors { read: vec!["/var/log/nginx/error.log".to_owned()], ..nginx::Errors::default() };
        let on_host = hint_of_line(&server(false), &read, &line);
        assert!(on_host.starts_with("`grep '\\[alert\\]' /var/log/nginx/error.log | tail`"), "{on_host}");
        let output = hint_of_line(&server(true), &nginx::Errors::default(), &line);
        assert!(output.starts_with("`docker logs --since 5m edge 2>&1 | grep '\\[alert\\]'`"), "{output}");
    }
}
