//! Log lines as evidence: the lines that give the reason of a failure, selected by severity and error text.
//!
//! The formats are those of the programs themselves, so the selection is independent of the source: container, journal or file.

#[cfg(test)]
mod corpus_tests;
mod level;
mod pattern;
mod reason;
mod recent;
mod record;
mod trigger;

use std::cmp::Reverse;
use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub use level::Level;
pub use reason::{Reason, ReasonKind, reason};
pub use recent::{NewErrors, RunningLog, current_errors, has_recent_errors, new_errors};
pub use trigger::may_contain_errors;

use record::{Record, clean, records};

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

/// Lines of other messages after an error that show that the program went on (judgement).
const WENT_ON: usize = 10;

/// Lines between a warning and the error that it explains (judgement).
const BEFORE_ERROR: usize = 20;

/// One kind of error with all its occurrences.
pub(super) struct Occurrences {
    pub(super) entry: LogEntry,
    /// Times of the lines that have one.
    pub(super) times: Vec<Timestamp>,
    /// Number of its first and of its last line.
    lines: (usize, usize),
    is_consequence: bool,
}

/// The lines of a failed run that give the reason of its end: those with a known reason, then the others by severity; of equal
/// severity the earliest, because later ones are its consequences. Without such lines the last ones.
#[must_use]
pub fn of_failure(lines: &[LogLine]) -> Vec<LogEntry> {
    let end = lines.iter().filter_map(|l| l.at).max();
    let late = |l: &&LogLine| end.zip(l.at).is_none_or(|(end, at)| end.duration_since(at) <= BEFORE_EXIT);
    let lines: Vec<&LogLine> = lines.iter().filter(late).collect();
    let mut found = occurrences(&lines);
    raise_warnings(&mut found);
    let last_errors: Vec<(usize, Level)> =
        found.iter().filter(|o| rank(o) <= Rank::Error).map(|o| (o.lines.1, o.entry.level)).collect();
    // the program went on after an error: it retried or did without
    let overcome =
        |o: &Occurrences| last_errors.iter().any(|(line, level)| *line > o.lines.1 + WENT_ON && *level >= o.entry.level);
    found.sort_by_cached_key(|o| {
        let rank = rank(o);
        (if rank < Rank::Overcome && overcome(o) { Rank::Overcome } else { rank }, Reverse(o.entry.level))
    });
    let mut found: Vec<LogEntry> = found.into_iter().map(|o| o.entry).take(MAX_ENTRIES).collect();
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

/// Order of the lines of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// An error with a known reason.
    Reason,
    /// Another error.
    Error,
    /// An error after which the program went on.
    Overcome,
    /// A message about the end of the program.
    Consequence,
    /// A warning.
    Warning,
}

fn rank(o: &Occurrences) -> Rank {
    if o.entry.level < Level::Error {
        Rank::Warning
    } else if o.is_consequence && !reason::is_error(&o.entry.text) {
        Rank::Consequence
    } else if o.entry.reason().is_some() {
        Rank::Reason
    } else {
        Rank::Error
    }
}

/// Some programs log the reason as a warning and its consequences as errors: without another reason, such a warning shortly before
/// the first error or after it is the error.
fn raise_warnings(found: &mut [Occurrences]) {
    if found.iter().any(|o| rank(o) == Rank::Reason) {
        return;
    }
    let first = found.iter().filter(|o| o.entry.level >= Level::Error).map(|o| o.lines.0).min().unwrap_or_default();
    for o in found.iter_mut().filter(|o| o.entry.level == Level::Warning && o.lines.1 + BEFORE_ERROR >= first) {
        if reason::is_error(&o.entry.text) {
            o.entry.level = Level::Error;
        }
    }
}

/// The error lines of a log, in order of their first occurrence, each kind once: stack traces reduced to their message, lines that
/// differ only in numbers counted.
#[must_use]
pub fn errors<'l>(lines: impl IntoIterator<Item = &'l &'l LogLine>) -> Vec<LogEntry> {
    occurrences(lines).into_iter().map(|o| o.entry).collect()
}

/// The same with the times of all occurrences.
pub(super) fn occurrences<'l>(lines: impl IntoIterator<Item = &'l &'l LogLine>) -> Vec<Occurrences> {
    let mut found: Vec<Occurrences> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for Record { at, line, level, text, is_consequence } in records(lines) {
        let text = shorten(text.trim());
        let place = *known.entry(template(&text)).or_insert_with(|| {
            let entry = LogEntry { at, last: at, text, level, count: 0 };
            found.push(Occurrences { entry, times: Vec::new(), lines: (line, line), is_consequence });
            found.len() - 1
        });
        if let Some(o) = found.get_mut(place) {
            (o.entry.count, o.entry.last, o.lines.1) = (o.entry.count + 1, at.or(o.entry.last), line);
            o.times.extend(at);
        }
    }
    found
}

/// At most [`MAX_TEXT`] characters: of a longer text the begin and the part around its reason, which in wrapped errors is at the
/// end.
fn shorten(text: &str) -> String {
    /// Characters of the begin, and of the text behind the reason.
    const BEGIN: usize = 120;
    const BEHIND: usize = 160;
    let length = text.chars().count();
    if length <= MAX_TEXT {
        return text.to_owned();
    }
    let end = reason::position(text).map_or(length, |at| (at + BEHIND).clamp(MAX_TEXT, length));
    if end == MAX_TEXT {
        return text.chars().take(MAX_TEXT).collect();
    }
    let rest = MAX_TEXT - BEGIN - 3;
    let begin: String = text.chars().take(BEGIN).collect();
    let behind: String = text.chars().skip(end - rest).take(rest).collect();
    format!("{begin} … {behind}")
}

/// The line with every word that contains a digit replaced, so that lines about different requests are one kind.
#[must_use]
pub fn template(text: &str) -> String {
    let word = |word| if str::contains(word, |c: char| c.is_ascii_digit()) { "#" } else { word };
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

    #[test]
    fn consequence_ranks_behind_its_cause() {
        let texts = ["[ERROR] Cannot read the header", "[ERROR] Aborting", "FATAL: worker failed to start"];
        assert_eq!(first(&texts), texts[0]);
    }

    #[test]
    fn warning_with_a_reason_before_an_error_without_one() {
        let texts = ["WARN open /run/key: permission denied", "ERROR Failed to obtain a session"];
        let found = of_failure(&lines(&texts));
        assert_eq!((found[0].text.as_str(), found[0].level), (texts[0], Level::Error));
    }

    #[test]
    fn error_after_which_the_program_went_on() {
        let mut texts = vec!["ERROR dial tcp 10.0.0.3:5432: connect: connection refused"];
        texts.extend(["connected", "ready", "a", "b", "c", "d", "e", "f", "g", "h", "i"]);
        texts.push("FATAL the ledger is inconsistent");
        assert_eq!(first(&texts), "FATAL the ledger is inconsistent");
    }

    #[test]
    fn repeated_stack_trace_is_one_entry() {
        let run = ["ERROR start", "app.StartException: no pool", "\tat app.Main.main(Main.java:10)", "Caused by: app.Error: x"];
        let found = of_failure(&lines(&[run, run].concat()));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].shown(), "ERROR start: app.StartException: no pool: app.Error: x (2 times)");
    }

    #[test]
    fn long_message_keeps_its_reason() {
        let text = format!("ERROR {} open /data/x: permission denied {}", "wrapped: ".repeat(60), "frame ".repeat(60));
        let found = first(&[&text]);
        assert!(found.contains("open /data/x: permission denied") && found.chars().count() <= MAX_TEXT, "{found}");
    }

    #[test]
    fn names_of_process_managers_are_removed() {
        assert_eq!(first(&["web_1  | Error: no such host"]), "Error: no such host");
        assert_eq!(first(&["Nov 30 10:00:00 web1 app[7]: Error: no such host"]), "Error: no such host");
    }
}
