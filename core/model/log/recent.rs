//! Errors that a running object has begun to log.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::level::Level;
use super::{LogEntry, LogLine, ReasonKind, errors, template};

/// Time without an error of this kind before it counts as new.
const QUIET: SignedDuration = SignedDuration::from_hours(1);

/// Age of an object from which errors since its start are its ordinary behaviour (judgement: a day).
const SETTLED: SignedDuration = SignedDuration::from_hours(24);

/// Errors of a known reason that are no accident (judgement).
const MIN_KNOWN: usize = 3;

/// The same for errors without a known reason (judgement).
const MIN_UNKNOWN: usize = 5;

/// Bursts of one kind of error, separated by quiet hours, from which it is ordinary behaviour (judgement: a job that fails every night).
const MAX_BURSTS: usize = 2;

/// Errors that stopped are no fault now: time since the last one, in multiples of the mean interval.
const MISSED_INTERVALS: i32 = 3;

/// Bounds of that time.
const SHORTEST_PAUSE: SignedDuration = SignedDuration::from_secs(15);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(15);

/// Errors that clients of a server cause, in lower case.
const CAUSED_BY_CLIENTS: &[&str] = &[
    "broken pipe",
    "reset by peer",
    "client closed",
    "client disconnected",
    "closed connection",
    "unexpected eof",
    "could not receive data from client",
    "could not send data to client",
    "invalid length of startup packet",
    "unsupported frontend protocol",
    "canceling statement due to user request",
    "canceling statement due to statement timeout",
    "context canceled",
    "request canceled",
    "operation was canceled",
    "violates ",
    "duplicate key",
    "duplicate entry",
    "deadlock detected",
    "could not serialize access",
    "syntax error at or near",
    "tls handshake error",
    "ssl handshak",
    "remote error: tls",
    "bad request",
    "invalid request",
    "malformed",
    "not found: /",
    "404 ",
    " 404",
    "access forbidden by rule",
    "directory index of",
    "(2: no such file or directory), client:",
    "client intended to send",
    "kex_exchange_identification",
    "maximum authentication attempts",
    "invalid user ",
    "failed password for",
    "no matching key exchange",
    "no matching host key",
    "invalid csrf",
    "invalid token",
    "token expired",
    "jwt expired",
    "disallowedhost",
    "invalid http_host",
    "session expired",
    "rate limit",
    "too many requests",
    "favicon.ico",
    "robots.txt",
    "wp-login",
    "phpunit",
    ".env",
];

/// Errors that began after a quiet hour and continue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NewErrors {
    /// The most telling kind.
    pub entry: LogEntry,
    /// Its first occurrence after the quiet hour.
    pub since: Option<Timestamp>,
    /// Further kinds that began likewise.
    pub others: usize,
    /// Identity of the kind, for samples of earlier runs.
    pub kind: String,
}

/// A log of a running object.
#[derive(Debug, Clone, Copy)]
pub struct RunningLog<'l> {
    /// Lines with times, oldest first.
    pub lines: &'l [LogLine],
    /// Earlier lines were not read.
    pub cut: bool,
    /// Start of the object.
    pub started: Option<Timestamp>,
    /// Time of the read.
    pub now: Timestamp,
}

/// The errors that an object has begun to log; `is_known` tells whether earlier runs recorded a kind.
pub fn new_errors(log: RunningLog<'_>, is_known: impl Fn(&str) -> bool) -> Option<NewErrors> {
    let begin = match (log.cut, log.started) {
        (false, Some(started)) => started,
        _ => log.lines.iter().find_map(|l| l.at)?,
    };
    let young = log.started.is_some_and(|s| log.now.duration_since(s) < SETTLED);
    let lines: Vec<&LogLine> = log.lines.iter().collect();
    let candidates: Vec<LogEntry> = errors(&lines).into_iter().filter(is_candidate).collect();
    if candidates.is_empty() {
        return None;
    }
    let times = times_of(&candidates, &lines);
    let mut found: Vec<NewErrors> = Vec::new();
    for (entry, times) in candidates.into_iter().zip(times) {
        let (burst, bursts) = last_burst(&times)?;
        let (first, last) = (burst.first().copied()?, burst.last().copied()?);
        let minimum = if entry.reason().is_some() { MIN_KNOWN } else { MIN_UNKNOWN };
        // the log shows a quiet hour before, or everything since the start of a young object
        let since_start = !log.cut && young && bursts == 1;
        let after_quiet = first.duration_since(begin) >= QUIET || (bursts > 1 && bursts <= MAX_BURSTS) || since_start;
        let kind = kind_of(&entry.text);
        if burst.len() >= minimum && continues(burst, last, log.now) && after_quiet && bursts <= MAX_BURSTS && !is_known(&kind) {
            let entry = LogEntry { at: Some(first), last: Some(last), count: burst.len(), ..entry };
            found.push(NewErrors { entry, since: Some(first), others: 0, kind });
        }
    }
    found.sort_by_key(|e| std::cmp::Reverse((e.entry.reason().is_some(), e.entry.level, e.entry.count)));
    let others = found.len().saturating_sub(1);
    found.into_iter().next().map(|first| NewErrors { others, ..first })
}

/// An error of the object itself or of what it needs, not of its clients.
fn is_candidate(entry: &LogEntry) -> bool {
    use ReasonKind::{ConfigurationInvalid, Locked, SettingMissing};
    let lower = entry.text.to_lowercase();
    if CAUSED_BY_CLIENTS.iter().any(|text| lower.contains(text)) {
        return false;
    }
    match entry.reason().map(|r| r.kind) {
        Some(ConfigurationInvalid | SettingMissing | Locked) | None => entry.level >= Level::Error,
        // a retry is often logged as a warning
        Some(_) => entry.level >= Level::Warning,
    }
}

fn times_of(candidates: &[LogEntry], lines: &[&LogLine]) -> Vec<Vec<Timestamp>> {
    let at: HashMap<String, usize> = candidates.iter().enumerate().map(|(n, e)| (template(&e.text), n)).collect();
    let mut times = vec![Vec::new(); candidates.len()];
    for line in lines {
        let one = [*line];
        for entry in errors(&one) {
            if let (Some(n), Some(time)) = (at.get(&template(&entry.text)), entry.at) {
                times[*n].push(time);
            }
        }
    }
    // a stack trace is an entry only together with its lines: its first and last time are known
    for (entry, times) in candidates.iter().zip(&mut times) {
        if times.len() < entry.count.min(2) {
            *times = [entry.at, entry.last].into_iter().flatten().collect();
        }
    }
    times
}

/// The occurrences after the last quiet hour, and the number of bursts.
fn last_burst(times: &[Timestamp]) -> Option<(&[Timestamp], usize)> {
    let gaps: Vec<usize> = (1..times.len()).filter(|n| times[*n].duration_since(times[*n - 1]) >= QUIET).collect();
    let begin = gaps.last().copied().unwrap_or(0);
    (!times.is_empty()).then(|| (&times[begin..], gaps.len() + 1))
}

fn continues(burst: &[Timestamp], last: Timestamp, now: Timestamp) -> bool {
    let Some(first) = burst.first() else { return false };
    let intervals = i32::try_from(burst.len().saturating_sub(1).max(1)).unwrap_or(i32::MAX);
    let mean = last.duration_since(*first) / intervals;
    now.duration_since(last) <= (mean * MISSED_INTERVALS).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

/// A short identity of a kind of line (FNV-1a, <http://www.isthe.com/chongo/tech/comp/fnv/>).
fn kind_of(text: &str) -> String {
    let hash = template(text).bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + s).unwrap_or_default()
    }

    fn lines(texts: &[(i64, &str)]) -> Vec<LogLine> {
        texts.iter().map(|(s, t)| LogLine { at: Some(at(*s)), text: (*t).to_owned() }).collect()
    }

    fn found(texts: &[(i64, &str)], cut: bool, started: i64, now: i64) -> Option<NewErrors> {
        let lines = lines(texts);
        new_errors(RunningLog { lines: &lines, cut, started: Some(at(started)), now: at(now) }, |_| false)
    }

    const DENIED: &str = "open /run/key: permission denied";

    #[test]
    fn errors_since_the_start_of_a_young_object() {
        let log = [(0, "start"), (10, DENIED), (20, DENIED), (30, DENIED)];
        let found = found(&log, false, 0, 35).map(|e| (e.entry.text, e.entry.count, e.since));
        assert_eq!(found, Some((DENIED.to_owned(), 3, Some(at(10)))));
    }

    #[test]
    fn errors_after_a_quiet_hour() {
        let log = [(0, "ok"), (2 * HOUR, DENIED), (2 * HOUR + 10, DENIED), (2 * HOUR + 20, DENIED)];
        assert!(found(&log, true, -90 * HOUR, 2 * HOUR + 25).is_some());
    }

    #[test]
    fn steady_noise_is_silent() {
        let log: Vec<(i64, &str)> = (0..400).map(|n| (n * 30, DENIED)).collect();
        assert_eq!(found(&log, true, -90 * HOUR, 400 * 30), None);
    }

    #[test]
    fn errors_that_stopped_are_silent() {
        let log = [(0, "start"), (1, DENIED), (2, DENIED), (3, DENIED), (9, "connected")];
        assert_eq!(found(&log, false, 0, 60), None);
    }

    #[test]
    fn errors_of_clients_are_silent() {
        let text = "ERROR:  duplicate key value violates unique constraint \"a\"";
        let log: Vec<(i64, &str)> = (0..20).map(|n| (n * 10, text)).collect();
        assert_eq!(found(&log, false, 0, 200), None);
    }

    #[test]
    fn nightly_errors_are_silent() {
        let log: Vec<(i64, &str)> =
            (0..3).flat_map(|night| (0..5).map(move |n| (night * 8 * HOUR + n * 10, DENIED))).collect();
        assert_eq!(found(&log, false, -HOUR, 16 * HOUR + 45), None);
    }

    #[test]
    fn kind_of_an_earlier_run_is_silent() {
        let lines = lines(&[(10, DENIED), (20, DENIED), (30, DENIED)]);
        let log = RunningLog { lines: &lines, cut: false, started: Some(at(0)), now: at(35) };
        assert_eq!(new_errors(log, |_| true), None);
    }
}
