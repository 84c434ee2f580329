//! Log evidence in findings: the line that gives the reason, its hint, and the objects it names.

use opsctl_core::model::{Cited, Finding, KeyKind, ends};
use opsctl_core::probe::logs::LogEvidence;

/// Characters of a log line in a message.
const MAX_QUOTE: usize = 180;

/// Lines cited as evidence.
const MAX_CITED: usize = 3;

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
    log.needed.iter().fold(finding, |f, object| f.needs(object).key(KeyKind::Server, object).key(KeyKind::Writes, object))
}
