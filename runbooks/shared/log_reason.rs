//! Log evidence in findings: the line that gives the reason, its hint, and the objects it names.

use jiff::Timestamp;
use opsctl_core::model::log::{LogEntry, NewErrors, ReasonKind};
use opsctl_core::model::{Cited, Code, Finding, KeyKind, Object, Sample, Severity, ends, quantity};
use opsctl_core::probe::logs::LogEvidence;

/// Characters of a log line in a message.
const MAX_QUOTE: usize = 180;

/// Lines cited as evidence.
const MAX_CITED: usize = 3;

/// Value of [`KeyKind::Host`] for inotify instances and watches.
pub(crate) const INOTIFY: &str = "inotify";

/// Value of [`KeyKind::Host`] for the processes of a user.
pub(crate) const PROCESSES: &str = "processes";

/// The line that gives the reason of a failure, for the end of a message.
pub(crate) fn because(log: &LogEvidence) -> Option<String> {
    log.line().map(|line| ends(line.text.trim(), MAX_QUOTE))
}

/// Adds the line that gives the reason to a message.
pub(crate) fn with_reason(message: String, log: &LogEvidence) -> String {
    match because(log) {
        Some(line) => format!("{message}; its log: {line}"),
        None => message,
    }
}

/// Cites the log first, because few items are shown; sets the hint of a known reason, and ties the finding to the objects that the lines name.
pub(crate) fn with_log(mut finding: Finding, log: &LogEvidence) -> Finding {
    let lines: Vec<String> = log.entries.iter().take(MAX_CITED).map(|e| ends(&e.shown(), 300)).collect();
    if !lines.is_empty() {
        finding.evidence.insert(0, Cited { label: "log".to_owned(), value: lines.join("\n") });
    }
    finding = finding.cite_opt("log", log.gap.clone());
    if let Some(reason) = log.reason() {
        finding = finding.cite("reason", reason.clause()).hint(reason.hint());
    }
    let finding = log.filesystems.iter().fold(finding, |f, device| f.key(KeyKind::Filesystem, device));
    let finding = log.binds.iter().fold(finding, |f, path| {
        let bind = bind_mount(f.subject.lasting_id(), path);
        f.key(KeyKind::BindMount, bind)
    });
    let finding = log.entries.iter().filter_map(user_limit).fold(finding, |f, limit| f.key(KeyKind::Host, limit));
    log.needed.iter().fold(finding, |f, object| f.needs(object).key(KeyKind::Server, object).key(KeyKind::Writes, object))
}

/// The key of a bind mount: the full id of its container, and its path there.
pub(crate) fn bind_mount(container: &str, destination: &str) -> String {
    format!("{container}:{destination}")
}

/// The limit of a user that a line reports as reached.
fn user_limit(entry: &LogEntry) -> Option<&'static str> {
    match entry.reason()?.kind {
        ReasonKind::InotifyLimit => Some(INOTIFY),
        ReasonKind::TooManyProcesses => Some(PROCESSES),
        _ => None,
    }
}

/// The finding about an object that has begun to log errors, and the sample that makes them known to later runs.
pub(crate) fn new_errors(
    code: &'static Code,
    object: Object,
    errors: &NewErrors,
    log: &LogEvidence,
    now: Timestamp,
) -> (Finding, Sample) {
    let name = &object.name;
    let since = errors.since.map(|t| format!(" since {}", quantity::ago(now, t))).unwrap_or_default();
    let others =
        if errors.others > 0 { format!(" (and {})", quantity::count(errors.others, "other kind")) } else { String::new() };
    let line = ends(&errors.entry.text, MAX_QUOTE);
    let message = format!("{name} logs errors{since}, {} times{others}: {line}", errors.entry.count);
    let sample = Sample { object: format!("log:{name}"), metric: errors.kind.clone(), at: now, value: errors.entry.count as f64 };
    (with_log(Finding::new(code, Severity::Warn, object, message).since(errors.since), log), sample)
}
