//! Log lines as evidence: the lines that give the reason of a failure, selected by severity and error text.
//!
//! The formats are those of the programs themselves, so the selection is independent of the source: container, journal or file.

mod level;
mod reason;
mod recent;

use std::collections::HashMap;
use std::sync::LazyLock;

use jiff::{SignedDuration, Timestamp};
use regex::Regex;
use serde::{Deserialize, Serialize};

pub use level::Level;
pub use reason::{Reason, ReasonKind, reason};
pub use recent::{NewErrors, RunningLog, new_errors};

/// One line of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogLine {
    /// Time, if the source has one.
    pub at: Option<Timestamp>,
    /// The line without its end.
    pub text: String,
}

/// A selected line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogEntry {
    /// Time of its first occurrence.
    pub at: Option<Timestamp>,
    /// Time of its last occurrence.
    pub last: Option<Timestamp>,
    /// The message, at most [`MAX_TEXT`] characters.
    pub text: String,
    /// Severity.
    pub level: Level,
    /// Number of lines that differ only in numbers and identifiers.
    pub count: usize,
}

impl LogEntry {
    /// Its reason, if the text is a known one.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        reason(&self.text)
    }

    /// The line with the number of its occurrences.
    #[must_use]
    pub fn shown(&self) -> String {
        if self.count > 1 { format!("{} ({} times)", self.text, self.count) } else { self.text.clone() }
    }
}

/// Limit of the characters of one line.
pub const MAX_TEXT: usize = 400;

/// Lines selected for one failure.
const MAX_ENTRIES: usize = 5;

/// Lines before the end of a run that can give the reason of the exit (judgement: 5 min).
const BEFORE_EXIT: SignedDuration = SignedDuration::from_mins(5);

#[expect(clippy::expect_used, reason = "constant patterns, compiled by a test")]
static ESCAPES: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|[@-Z\\-_])").expect("constant pattern"));

/// Frames of stack traces: Java, .NET, Node.js, Python, Ruby, PHP, Go, Rust.
#[expect(clippy::expect_used, reason = "constant patterns, compiled by a test")]
static FRAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"^(?:\s+(?:at |from |\.\.\. |File "|\^|~|\d+: |in )|\s*#\d+\s|\s*goroutine \d+|\s*\S+\.go:\d+|\s*\S+\(.*\)$|\s*created by |\s*note: run with|\s*stack backtrace|Stack trace:|\s+\S+:\d+:in |Node\.js v\d|exit status \d|\[signal )"#)
        .expect("constant pattern")
});

/// The lines of a failed run that give the reason of its end: the most severe first, of equal severity the earliest, because later ones are its
/// consequences. Without such lines the last ones.
#[must_use]
pub fn of_failure(lines: &[LogLine]) -> Vec<LogEntry> {
    let end = lines.iter().filter_map(|l| l.at).max();
    let late = |l: &&LogLine| end.zip(l.at).is_none_or(|(end, at)| end.duration_since(at) <= BEFORE_EXIT);
    let lines: Vec<&LogLine> = lines.iter().filter(late).collect();
    let mut found = errors(&lines);
    // a known reason outranks an error without one, and both outrank warnings
    found.sort_by_key(|e| std::cmp::Reverse((e.level, e.reason().is_some())));
    if let Some(known) = found.iter().position(|e| e.level >= Level::Error && e.reason().is_some()) {
        let first = found.remove(known);
        found.insert(0, first);
    }
    found.truncate(MAX_ENTRIES);
    if found.iter().all(|e| e.level < Level::Error) {
        let tail = lines.iter().rev().map(|l| (l.at, shorten(&clean(&l.text)))).filter(|(_, text)| !text.trim().is_empty());
        let mut tail: Vec<LogEntry> =
            tail.take(MAX_ENTRIES).map(|(at, text)| LogEntry { at, last: at, text, level: Level::Info, count: 1 }).collect();
        tail.reverse();
        tail.retain(|t| found.iter().all(|f| f.text != t.text));
        found.extend(tail);
    }
    found
}

/// The error lines of a log, in order of their first occurrence, each kind once: stack traces reduced to their message, lines that differ only
/// in numbers counted.
#[must_use]
pub fn errors<'l>(lines: impl IntoIterator<Item = &'l &'l LogLine>) -> Vec<LogEntry> {
    let mut found: Vec<LogEntry> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut trace = Trace::default();
    for line in lines {
        let text = clean(&line.text);
        let Some(parsed) = trace.next(&text, &mut found) else { continue };
        let level = match (parsed.level, reason(&parsed.text)) {
            // an error text without a level: shells, runtimes, tools
            (Level::Info, Some(reason)) if reason.is_error_without_level() => Level::Error,
            (level, _) => level,
        };
        if level < Level::Warning {
            continue;
        }
        let text = shorten(parsed.text.trim());
        let at = *known.entry(template(&text)).or_insert_with(|| {
            found.push(LogEntry { at: line.at, last: line.at, text, level, count: 0 });
            found.len() - 1
        });
        if let Some(entry) = found.get_mut(at) {
            (entry.count, entry.last) = (entry.count + 1, line.at.or(entry.last));
        }
    }
    found
}

/// Reduces stack traces to the line that names the exception.
#[derive(Default)]
struct Trace {
    /// Inside a Python traceback: its message follows its frames.
    python: bool,
    /// The next line is the message of a Rust panic.
    panicked: bool,
}

impl Trace {
    /// The line with its level, or `None` for a part of a stack trace.
    fn next(&mut self, text: &str, found: &mut [LogEntry]) -> Option<level::Parsed> {
        let bare = text.trim_start();
        if bare.starts_with("Traceback (most recent call last)") {
            self.python = true;
            return None;
        }
        if self.python {
            if text.starts_with([' ', '\t']) || bare.is_empty() {
                return None;
            }
            self.python = false;
            return Some(level::Parsed { level: Level::Error, text: text.to_owned() });
        }
        if std::mem::take(&mut self.panicked) {
            return Some(level::Parsed { level: Level::Fatal, text: format!("panicked: {text}") });
        }
        if bare.starts_with("thread '") && bare.contains("panicked at") && bare.ends_with(':') {
            self.panicked = true;
            return None;
        }
        // the cause of an exception, and the detail of a PostgreSQL message, belong to the line before
        let detail = bare.strip_prefix("Caused by: ").or_else(|| text.split_once("DETAIL:  ").map(|(_, detail)| detail));
        if let (Some(detail), Some(last)) = (detail, found.last_mut())
            && last.level >= Level::Error
        {
            last.text = shorten(&format!("{}: {}", last.text.trim_end_matches(':'), detail.trim()));
            return None;
        }
        if FRAME.is_match(text) || bare.starts_with("During handling of the above exception") {
            return None;
        }
        Some(level::parse(text))
    }
}

/// A line without escape sequences and control characters.
fn clean(text: &str) -> String {
    let text = if text.contains('\u{1b}') { ESCAPES.replace_all(text, "").into_owned() } else { text.to_owned() };
    text.trim_end().chars().filter(|c| !c.is_control() || *c == '\t').collect()
}

fn shorten(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// The line with every word that contains a digit replaced, so that lines about different requests are one kind.
#[must_use]
pub fn template(text: &str) -> String {
    let word = |word: &str| if word.chars().any(|c| c.is_ascii_digit()) { "#".to_owned() } else { word.to_owned() };
    text.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<LogLine> {
        texts.iter().map(|t| LogLine { at: None, text: (*t).to_owned() }).collect()
    }

    fn first(texts: &[&str]) -> String {
        of_failure(&lines(texts)).first().map(|e| e.text.clone()).unwrap_or_default()
    }

    #[test]
    fn error_before_a_long_tail() {
        let mut texts = vec!["INFO starting", "FATAL: password authentication failed for user \"app\""];
        texts.extend(["closing pool", "closing listener", "stopping", "stopped", "bye", "exit"]);
        assert_eq!(first(&texts), "FATAL: password authentication failed for user \"app\"");
    }

    #[test]
    fn python_traceback() {
        let texts = [
            "INFO start",
            "Traceback (most recent call last):",
            "  File \"/app/main.py\", line 3, in <module>",
            "    connect()",
            "redis.exceptions.ConnectionError: Error 111 connecting to cache:6379. Connection refused.",
        ];
        assert_eq!(first(&texts), texts[4]);
    }

    #[test]
    fn java_cause() {
        let texts = [
            "Exception in thread \"main\" org.app.StartError: no pool",
            "\tat org.app.Main.main(Main.java:10)",
            "Caused by: java.net.UnknownHostException: db",
            "\t... 12 more",
        ];
        assert!(first(&texts).ends_with("no pool: java.net.UnknownHostException: db"), "{}", first(&texts));
    }

    #[test]
    fn go_panic() {
        let texts =
            ["panic: open /data/x: permission denied", "", "goroutine 1 [running]:", "main.main()", "\t/src/main.go:7 +0x1d"];
        let found = of_failure(&lines(&texts));
        assert_eq!((found.len(), found[0].text.as_str()), (1, texts[0]));
    }

    #[test]
    fn rust_panic() {
        let texts =
            ["thread 'main' panicked at src/main.rs:3:5:", "DATABASE_URL must be set", "note: run with `RUST_BACKTRACE=1`"];
        assert_eq!(first(&texts), "panicked: DATABASE_URL must be set");
    }

    #[test]
    fn shell_error_without_level() {
        assert_eq!(
            first(&["starting", "/x.sh: line 3: dig: command not found", "done"]),
            "/x.sh: line 3: dig: command not found"
        );
    }

    #[test]
    fn detail_of_a_postgresql_message() {
        let texts = [
            "2026-11-30 UTC [1] FATAL:  database files are incompatible with server",
            "2026-11-30 UTC [1] DETAIL:  The data directory was initialized by PostgreSQL version 13.",
        ];
        assert!(first(&texts).contains("incompatible with server: The data directory was initialized"), "{}", first(&texts));
    }

    #[test]
    fn tail_without_an_error() {
        let found = of_failure(&lines(&["a", "b", "c", "d", "e", "f"]));
        assert_eq!(found.iter().map(|e| e.text.as_str()).collect::<Vec<_>>(), ["b", "c", "d", "e", "f"]);
    }

    #[test]
    fn repeated_lines_are_counted() {
        let texts = ["ERROR request 1 failed", "ERROR request 2 failed"];
        let found = of_failure(&lines(&texts));
        assert_eq!(found[0].shown(), "ERROR request 1 failed (2 times)");
    }
}
