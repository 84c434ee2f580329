//! Errors that a running object has begun to log.
//!
//! A kind of error is reported if the object itself causes it, if there is evidence that it is no accident ([`Evidence`]), if
//! it continues, and if it began after an hour without it or with the start of the object. `tests/logs/noise` has a day of the
//! logs of healthy programs, for which nothing is reported, and `tests/logs/faults` logs with a fault, which is reported as
//! long as it continues.

use std::cmp::Reverse;
use std::sync::LazyLock;

use jiff::{SignedDuration, Timestamp};
use regex::Regex;
use serde::{Deserialize, Serialize};

use super::level::Level;
use super::pattern::pattern;
use super::record::clean;
use super::{LogEntry, LogLine, MAX_ENTRIES, Reason, ReasonKind, may_contain_errors, occurrences, template};

/// Time without an error of this kind before it counts as new (judgement: longer than the pauses of retries and than the
/// intervals of most periodic jobs).
const QUIET: SignedDuration = SignedDuration::from_hours(1);

/// Age from which errors are ordinary behaviour of an object, and age of an object from which errors since its start are
/// (judgement: a day).
const SETTLED: SignedDuration = SignedDuration::from_hours(24);

/// The least evidence of a fault: a number of errors, and the time between the first and the last of them. One start, one
/// request and one retry of a library print several lines within seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Evidence {
    count: usize,
    span: SignedDuration,
}

/// For reasons that no retry changes, such as permissions, space and rejected logins (judgement).
const STATE: Evidence = Evidence { count: 3, span: SignedDuration::from_secs(20) };

/// For a peer without a listener, route or name: it restarts within a minute. The engine stops a container within 10 s
/// (<https://docs.docker.com/reference/cli/docker/container/stop/>), and most servers start within half a minute (judgement).
const PEER: Evidence = Evidence { count: 3, span: SignedDuration::from_mins(1) };

/// For warnings, and for missing files, which a request can name (judgement).
const MILD: Evidence = Evidence { count: 5, span: SignedDuration::from_mins(1) };

/// For errors without a known reason, for those of input (of a setting or a text that cannot be parsed), of time-outs and
/// locks, which are ordinary under load, and for warnings about a peer (judgement: ten requests of one user take less than two
/// minutes).
const WEAK: Evidence = Evidence { count: 10, span: SignedDuration::from_mins(2) };

/// Longest mean interval of the errors of a fault: clients retry at least every five minutes, to which most back-offs are
/// limited (for example that of Kubernetes, <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy>,
/// and `minimal_backoff_time` of Postfix), with a reserve for the time of the attempt itself. Rarer errors are single events.
const MAX_INTERVAL: SignedDuration = SignedDuration::from_mins(6);

/// Errors that stopped are no fault now: time since the last one, in multiples of the interval: the mean, or the longest of the
/// last ones, because retries become rarer.
const MISSED_INTERVALS: i32 = 3;
const RECENT_INTERVALS: usize = 3;

/// Bounds of that time (judgement).
const SHORTEST_PAUSE: SignedDuration = SignedDuration::from_secs(15);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(15);

/// The engine notes the start of a container after its program runs: the first lines can be this much older (judgement).
const START_DELAY: SignedDuration = SignedDuration::from_secs(5);

/// Errors that occur again and again at random leave a quiet hour by chance. Their rate is usual unless it is this many times
/// the mean rate before (simulation of random errors, 0.5 to 16 in an hour: a false alarm on 1 % of the days, without this
/// limit on up to 18 %).
const MIN_RATE_INCREASE: f64 = 5.0;

/// Earlier bursts, separated by quiet hours, from which a burst is ordinary behaviour unless it lasts twice as long (judgement:
/// a job that fails every night).
const MAX_BURSTS_BEFORE: usize = 2;

/// Texts of errors that the clients and users of a program cause, in lower case.
const CAUSED_BY_CLIENTS: &[&str] = &[
    // connections that a client closes or does not use, requests that it cancels
    "broken pipe",
    "reset by peer",
    "econnreset",
    "connection reset",
    "client closed",
    "client disconnected",
    "closed connection",
    "closed network connection",
    "closed tcp connection",
    "closed fifo",
    "unexpected eof",
    "closing handshake",
    "could not receive data from client",
    "could not send data to client",
    "connection to client lost",
    "aborted connection",
    "missed heartbeats from client",
    "context canceled",
    "request canceled",
    "operation was canceled",
    "request aborted",
    // handshakes and requests that are none: scanners, and clients of another protocol
    "startup packet",
    "frontend protocol",
    "handshake_timeout",
    "bad_header",
    "bad handshake",
    "tls handshake error from",
    "ssl handshake failure",
    "ssl_accept",
    "client hello",
    "peeking first byte",
    "kex_exchange_identification",
    "banner exchange",
    "unable to negotiate",
    "[preauth]",
    "before authentication",
    "ssh_dispatch_run_fatal",
    "bad request",
    "invalid request",
    "malformed",
    "csrf",
    "http_host",
    "disallowedhost",
    "access forbidden by rule",
    "directory index of",
    // paths that do not exist, forms of an older deployment: Rails, Symfony and Laravel, Spring, Express, Next.js, ASP.NET
    "no route matches [",
    "actioncontroller::badrequest",
    "actioncontroller::unknownformat",
    "invalidauthenticitytoken",
    "notfoundhttpexception",
    "methodnotallowedhttpexception",
    "no static resource",
    "nohandlerfoundexception",
    "notfounderror: not found",
    "failed to find server action",
    "antiforgery token",
    "limiting requests",
    "rate limit",
    "too many requests",
    // logins of users, and the ends of their sessions
    "failed login",
    "failed password",
    "invalid user",
    "illegal user",
    "incorrect username",
    "invalid username or password",
    "username or password is incorrect",
    "login refused: user",
    "authentication failure for",
    "sasl login authentication failed",
    "sasl plain authentication failed",
    "[server] access denied for user",
    "[warning] access denied for user",
    "token expired",
    "token has expired",
    "session expired",
    "jwt expired",
    "jsonwebtokenerror",
    // statements, messages and commands
    "violates ",
    "duplicate key",
    "duplicate entry",
    "deadlock detected",
    "could not serialize access",
    "transaction is aborted",
    "canceling statement due to",
    "canceling authentication due to",
    "terminating connection due to administrator command",
    "syntax error at or near",
    "does not exist at character",
    "permission denied for ",
    "amqp connection",
    "channel error on connection",
    "channel exception",
    "handler for ",
    "error running exec",
    // names of clients, names that they look up, and the mail servers of recipients
    "reverse mapping",
    "reverse dns",
    "does not resolve to address",
    "could not be resolved",
    "corresponding ip address",
    "server returned error nxdomain",
    "resolving '",
    "]:25: ",
    "status=bounced",
    "status=deferred",
    "noqueue: ",
    "reject=",
];

/// Parts of lines about a connection that the program itself opens, in lower case: a client in the same line only waits for it.
const OUTGOING: &[&str] =
    &["connect to ", "connecting to", "connection to server at", "to upstream", "dial tcp", "url: http", "url\":\"http"];

/// Places in a line in lower case that name a client, its request or its session: of web servers and of structured logs; the
/// address behind `from`, `via` and `ip`; `name[address]` of Postfix; sessions in the logs of PostgreSQL and `MongoDB`: their own
/// errors have other reasons.
static NAMES_A_CLIENT: LazyLock<Regex> = LazyLock::new(|| {
    let ip = r"(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9a-f]*:[0-9a-f:]*:[0-9a-f]+)";
    let places = [
        format!("client[:=]? ?\"?{ip}"),
        r"client @0x".to_owned(),
        r"\[(?:client|remote) ".to_owned(),
        r"client[_-]?(?:ip|addr)|remote[_-]?(?:addr|ip|host)|peer_ip|ipaddress=|rhost=|user-?agent".to_owned(),
        r#""remote":""#.to_owned(),
        r#""(?:get|post|put|head|delete|patch|options) /|method"?[:=]"?(?:get|post|put|head|delete|patch)\b"#.to_owned(),
        r"\bfrom (?:unknown|localhost|[\w.-]+)\[".to_owned(),
        format!(r"\b(?:from|via|ip|from ip|ip[ -]address):? ?[\[(]?{ip}"),
        format!(r"@{ip}\)"),
        format!(r"[\w-]\[{ip}\]"),
        r"\[\d+\]:?(?: \S+){0,3}? ?(?:error|fatal|warning):  ".to_owned(),
        // the same with an empty `log_line_prefix`, which was the default before PostgreSQL 10
        "^(?:error|fatal):  ".to_owned(),
        r#""ctx":"conn"#.to_owned(),
    ];
    pattern(&places.join("|"))
});

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
    /// Time from which the lines are complete; `None` for the time of the first one, if earlier ones were not read or are
    /// removed by rotation.
    pub from: Option<Timestamp>,
    /// Start of the object.
    pub started: Option<Timestamp>,
    /// Time of the read.
    pub now: Timestamp,
}

/// One kind of error that the object itself causes.
#[derive(Debug)]
struct Kind {
    entry: LogEntry,
    times: Vec<Timestamp>,
    evidence: Evidence,
    id: String,
}

/// The time that a log shows.
#[derive(Debug, Clone, Copy)]
struct Window {
    begin: Timestamp,
    /// It shows the whole run.
    is_whole: bool,
    started: Option<Timestamp>,
    now: Timestamp,
}

/// The errors of one kind since the last quiet hour.
#[derive(Debug)]
struct Burst<'t> {
    times: &'t [Timestamp],
    first: Timestamp,
    last: Timestamp,
    /// Earlier bursts, separated by quiet hours.
    earlier: Vec<&'t [Timestamp]>,
}

/// The errors that an object has begun to log. `recorded` returns the time of the first run that reported a kind: within a day
/// its errors are still new, although a log with many lines no longer contains the quiet hour; later they are ordinary.
pub fn new_errors(log: RunningLog<'_>, recorded: impl Fn(&str) -> Option<Timestamp>) -> Option<NewErrors> {
    let window = Window::of(log)?;
    let kinds = kinds(log.lines);
    judge(kinds.iter().map(|kind| (kind, kind.times.as_slice())), window, recorded)
}

/// The errors of a running object in these lines, without those that its clients cause: known reasons first, of equal severity
/// the latest.
#[must_use]
pub fn current_errors(lines: &[LogLine]) -> Vec<LogEntry> {
    let mut found: Vec<LogEntry> = kinds(lines).into_iter().map(|kind| kind.entry).collect();
    found.sort_by_key(|e| Reverse((e.level >= Level::Error, e.reason().is_some(), e.level, e.last)));
    found.truncate(MAX_ENTRIES);
    found
}

/// Whether a running object has logged errors in the last minutes: without them, an earlier part of its log contains no fault
/// that continues.
#[must_use]
pub fn has_recent_errors(lines: &[LogLine], now: Timestamp) -> bool {
    let is_recent = |at: &Timestamp| now.duration_since(*at) <= LONGEST_PAUSE;
    kinds(lines).iter().any(|kind| kind.times.last().is_some_and(is_recent))
}

fn judge<'k>(
    kinds: impl IntoIterator<Item = (&'k Kind, &'k [Timestamp])>,
    window: Window,
    recorded: impl Fn(&str) -> Option<Timestamp>,
) -> Option<NewErrors> {
    let mut found: Vec<(bool, NewErrors)> = Vec::new();
    for (kind, times) in kinds {
        let Some(burst) = Burst::last(times) else { continue };
        if !burst.is_evidence(kind.evidence) || !burst.continues(window.now) || burst.is_ordinary(window.begin, kind.evidence) {
            continue;
        }
        let is_new = match recorded(&kind.id) {
            Some(at) => window.now.duration_since(at) < SETTLED,
            None => window.shows_begin(&burst, kind.evidence),
        };
        if is_new && window.now.duration_since(burst.first) < SETTLED {
            let (at, last, count) = (Some(burst.first), Some(burst.last), burst.times.len());
            let entry = LogEntry { at, last, count, ..kind.entry.clone() };
            let errors = NewErrors { entry, since: at, others: 0, kind: kind.id.clone() };
            found.push((kind.evidence != WEAK, errors));
        }
    }
    found.sort_by_key(|(is_known, e)| Reverse((*is_known, e.entry.level, e.entry.count)));
    let others = found.len().saturating_sub(1);
    found.into_iter().next().map(|(_, first)| NewErrors { others, ..first })
}

/// The kinds of errors that the object itself causes. Each line is read once; most logs contain no error.
fn kinds(lines: &[LogLine]) -> Vec<Kind> {
    if !lines.iter().any(|line| may_contain_errors(&line.text)) {
        return Vec::new();
    }
    let all: Vec<&LogLine> = lines.iter().collect();
    let mut kinds = Vec::new();
    for found in occurrences(&all) {
        let reason = found.entry.reason();
        let line = lines.get(found.lines.0).map(|l| clean(&l.text)).unwrap_or_default();
        if is_severe(&found.entry, reason.as_ref()) && !is_caused_by_a_client(&line, reason.as_ref()) {
            let evidence = evidence(found.entry.level, reason.as_ref());
            kinds.push(Kind { evidence, id: kind_of(&found.entry.text), entry: found.entry, times: found.times });
        }
    }
    kinds
}

/// A retry is often logged as a warning. Warnings without a reason, and those about input and locks, are ordinary.
fn is_severe(entry: &LogEntry, reason: Option<&Reason>) -> bool {
    use ReasonKind::{ConfigurationInvalid, Locked, SettingMissing};
    match reason.map(|r| r.kind) {
        Some(ConfigurationInvalid | SettingMissing | Locked) | None => entry.level >= Level::Error,
        Some(_) => entry.level >= Level::Warning,
    }
}

fn evidence(level: Level, reason: Option<&Reason>) -> Evidence {
    use ReasonKind::{ConfigurationInvalid, FileMissing, Locked, NameNotFound, Refused, SettingMissing, TimedOut, Unreachable};
    let (of_error, of_warning) = match reason.map(|r| r.kind) {
        None | Some(ConfigurationInvalid | SettingMissing | TimedOut | Locked) => (WEAK, WEAK),
        Some(Refused | Unreachable | NameNotFound) => (PEER, WEAK),
        Some(FileMissing) => (MILD, MILD),
        Some(_) => (STATE, MILD),
    };
    if level < Level::Error { of_warning } else { of_error }
}

/// Whether a client or user causes an error: by its text, or because the line names a client and no reason of the object
/// itself.
fn is_caused_by_a_client(line: &str, reason: Option<&Reason>) -> bool {
    use ReasonKind::{
        CertificateRejected, Damaged, DeviceError, InotifyLimit, NameNotFound, NoSpace, OutOfMemory, PermissionDenied, ReadOnly,
        Refused, TimedOut, TooManyFiles, TooManyProcesses, Unreachable,
    };
    let line = line.to_lowercase();
    let contains = |texts: &[&str]| texts.iter().any(|text| line.contains(text));
    if contains(CAUSED_BY_CLIENTS) {
        return true;
    }
    if contains(OUTGOING) || !NAMES_A_CLIENT.is_match(&line) {
        return false;
    }
    match reason.map(|r| r.kind) {
        Some(
            NoSpace | ReadOnly | DeviceError | Damaged | OutOfMemory | TooManyFiles | TooManyProcesses | InotifyLimit | Refused
            | TimedOut | Unreachable | NameNotFound | CertificateRejected,
        ) => false,
        // a file, not a right of the client
        Some(PermissionDenied) => !reason.and_then(|r| r.object.as_deref()).is_some_and(|object| object.contains('/')),
        _ => true,
    }
}

impl Window {
    fn of(log: RunningLog<'_>) -> Option<Self> {
        let first = log.lines.iter().find_map(|l| l.at)?;
        let is_whole = log.from.zip(log.started).is_some_and(|(from, started)| from <= started);
        let is_late = |started: Timestamp| started > first && started.duration_since(first) <= START_DELAY;
        let started = log.started.map(|started| if is_late(started) { first } else { started });
        Some(Self { begin: log.from.map_or(first, |from| from.min(first)), is_whole, started, now: log.now })
    }

    /// Whether the log shows the begin of a burst: a quiet hour before it in which the object ran, or all errors since the
    /// start of a young object.
    fn shows_begin(&self, burst: &Burst<'_>, evidence: Evidence) -> bool {
        let before = burst.earlier.last().and_then(|times| times.last()).copied();
        let started = self.started.filter(|started| *started <= burst.first);
        let quiet_from = before.unwrap_or(self.begin);
        let quiet_from = started.map_or(quiet_from, |started| started.max(quiet_from));
        // a program that starts without an optional file goes on without it
        let since_start = evidence != MILD
            && self.is_whole
            && before.is_none()
            && started.is_some_and(|s| self.now.duration_since(s) < SETTLED);
        since_start || burst.first.duration_since(quiet_from) >= QUIET
    }
}

impl<'t> Burst<'t> {
    fn last(times: &'t [Timestamp]) -> Option<Self> {
        let mut earlier: Vec<&[Timestamp]> = times.chunk_by(|a, b| b.duration_since(*a) < QUIET).collect();
        let times = earlier.pop()?;
        Some(Self { times, first: *times.first()?, last: *times.last()?, earlier })
    }

    fn span(&self) -> SignedDuration {
        self.last.duration_since(self.first)
    }

    fn mean_interval(&self) -> SignedDuration {
        let intervals = self.times.len().saturating_sub(1).max(1);
        self.span() / i32::try_from(intervals).unwrap_or(i32::MAX)
    }

    fn is_evidence(&self, least: Evidence) -> bool {
        self.times.len() >= least.count && self.span() >= least.span && self.mean_interval() <= MAX_INTERVAL
    }

    fn continues(&self, now: Timestamp) -> bool {
        let intervals = self.times.windows(2).rev().take(RECENT_INTERVALS).map(|pair| pair[1].duration_since(pair[0]));
        let interval = intervals.max().unwrap_or_default().max(self.mean_interval());
        now.duration_since(self.last) <= (interval * MISSED_INTERVALS).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
    }

    /// Whether the log contains such errors before, at a similar rate or in bursts as long as this one.
    fn is_ordinary(&self, begin: Timestamp, least: Evidence) -> bool {
        let before: usize = self.earlier.iter().map(|times| times.len()).sum();
        let time_before = self.first.duration_since(begin).as_secs_f64().max(1.0);
        let usual = before as f64 * self.span().as_secs_f64() / time_before;
        let length = |times: &&[Timestamp]| Some(times.last()?.duration_since(*times.first()?));
        let longest = self.earlier.iter().filter_map(length).max().unwrap_or_default();
        (self.times.len() as f64) < least.count as f64 + MIN_RATE_INCREASE * usual
            || (self.earlier.len() >= MAX_BURSTS_BEFORE && self.span() <= longest * 2)
    }
}

/// A short identity of a kind of line (FNV-1a, <http://www.isthe.com/chongo/tech/comp/fnv/>).
fn kind_of(text: &str) -> String {
    let hash = template(text).bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod replay_tests;

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
        let from = (!cut).then(|| at(started));
        new_errors(RunningLog { lines: &lines, from, started: Some(at(started)), now: at(now) }, |_| None)
    }

    /// `count` lines at an interval in seconds.
    fn every(interval: i64, from: i64, count: i64, text: &str) -> Vec<(i64, &str)> {
        (0..count).map(|n| (from + n * interval, text)).collect()
    }

    const DENIED: &str = "open /run/key: permission denied";
    const REFUSED: &str = "dial tcp 172.18.0.3:5432: connect: connection refused";

    #[test]
    fn first_error_before_the_noted_start() {
        let errors: Vec<(i64, &str)> = (0..40).map(|i| (i, "ERROR open /run/secrets/key.pem: permission denied")).collect();
        assert!(found(&errors, false, 1, 40).is_some());
    }

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
    fn first_lines_of_a_silent_object() {
        let log = every(10, 0, 6, DENIED);
        assert!(found(&log, false, -90 * HOUR, 55).is_some());
        assert_eq!(found(&log, true, -90 * HOUR, 55), None);
    }

    #[test]
    fn steady_noise_is_silent() {
        let log = every(30, 0, 400, DENIED);
        assert_eq!(found(&log, true, -90 * HOUR, 400 * 30), None);
    }

    /// The log contains the runs before a restart.
    #[test]
    fn steady_noise_of_a_restarted_object_is_silent() {
        let log = every(30, 0, 400, DENIED);
        assert_eq!(found(&log, false, 390 * 30, 400 * 30), None);
        let paused = [every(30, 0, 100, DENIED), every(30, 5 * HOUR, 100, DENIED)].concat();
        assert_eq!(found(&paused, false, 5 * HOUR - 10, 5 * HOUR + 100 * 30), None);
    }

    #[test]
    fn errors_that_stopped_are_silent() {
        let log = [(0, "start"), (1, DENIED), (2, DENIED), (3, DENIED), (9, "connected")];
        assert_eq!(found(&log, false, 0, 60), None);
    }

    #[test]
    fn lines_of_one_attempt_are_silent() {
        let log = every(1, 10, 15, DENIED);
        assert_eq!(found(&log, false, 0, 26), None);
    }

    #[test]
    fn restart_of_a_peer_is_silent() {
        let log = every(2, 10, 25, REFUSED);
        assert_eq!(found(&log, false, 0, 60), None);
        let log = every(2, 10, 35, REFUSED);
        assert!(found(&log, false, 0, 80).is_some());
    }

    #[test]
    fn rare_errors_are_silent() {
        let log = every(900, 2 * HOUR, 8, DENIED);
        assert_eq!(found(&log, false, 0, 2 * HOUR + 7 * 900 + 1), None);
    }

    #[test]
    fn retries_that_become_rarer_continue() {
        let times = [0, 1, 3, 7, 15, 31, 63, 127, 255, 511];
        let log: Vec<(i64, &str)> = times.iter().map(|t| (2 * HOUR + t, REFUSED)).collect();
        assert!(found(&log, false, 0, 2 * HOUR + 900).is_some());
    }

    #[test]
    fn random_errors_at_their_usual_rate_are_silent() {
        let before: Vec<(i64, &str)> = (0..60).map(|n| (n * 1400, DENIED)).collect();
        let now = 60 * 1400 + 4000;
        let log = [before, every(240, now, 4, DENIED)].concat();
        assert_eq!(found(&log, true, -90 * HOUR, now + 800), None);
        // a fault
        let before: Vec<(i64, &str)> = (0..60).map(|n| (n * 1400, DENIED)).collect();
        let log = [before, every(10, now, 30, DENIED)].concat();
        assert!(found(&log, true, -90 * HOUR, now + 300).is_some());
    }

    #[test]
    fn errors_of_clients_are_silent() {
        let text = "ERROR:  duplicate key value violates unique constraint \"a\"";
        let log = every(10, 0, 20, text);
        assert_eq!(found(&log, false, 0, 200), None);
    }

    #[test]
    fn nightly_errors_are_silent() {
        let log: Vec<(i64, &str)> = (0..3).flat_map(|night| every(10, night * 8 * HOUR, 5, DENIED)).collect();
        assert_eq!(found(&log, false, -HOUR, 16 * HOUR + 45), None);
        // unless they last longer than before
        let log = [log, every(10, 16 * HOUR + 50, 6, DENIED)].concat();
        assert!(found(&log, false, -HOUR, 16 * HOUR + 105).is_some());
    }

    #[test]
    fn current_errors_begin_with_a_known_reason() {
        let log = [(1, DENIED), (2, "ERROR something failed"), (3, "ERROR write: broken pipe"), (4, "WARN slow"), (5, "ready")];
        let found = current_errors(&lines(&log));
        assert_eq!(found.iter().map(|e| e.text.as_str()).collect::<Vec<_>>(), [DENIED, "ERROR something failed"]);
    }

    #[test]
    fn kind_of_an_earlier_run() {
        let lines = lines(&every(10, 0, 600, DENIED));
        let log = RunningLog { lines: &lines, from: None, started: Some(at(-90 * HOUR)), now: at(5995) };
        assert_eq!(new_errors(log, |_| None), None);
        // reported an hour ago: still new
        assert!(new_errors(log, |_| Some(at(5995 - HOUR))).is_some());
        // reported on the day before: ordinary
        assert_eq!(new_errors(log, |_| Some(at(5995 - 25 * HOUR))), None);
    }

    #[test]
    fn recent_errors() {
        let log = lines(&[(0, DENIED), (10, "ready"), (20, "ERROR write: broken pipe")]);
        assert!(has_recent_errors(&log, at(60)));
        assert!(!has_recent_errors(&log, at(HOUR)));
        assert!(!has_recent_errors(&log[1..], at(60)));
    }

    #[test]
    fn causes_of_errors() {
        let is_client = |line: &str| is_caused_by_a_client(line, super::super::reason(line).as_ref());
        let mut wrong = Vec::new();
        for (line, expected) in [
            ("2026-11-30 10:00:00.118 UTC [812] FATAL:  password authentication failed for user \"postgres\"", true),
            ("2026-11-30 10:00:00.118 UTC [812] ERROR:  relation \"order\" does not exist at character 15", true),
            (
                "2026-11-30 10:00:00.118 UTC [812] ERROR:  could not extend file \"base/16384/24601\": No space left on device",
                false,
            ),
            ("2026-11-30 10:00:00.118 UTC [812] ERROR:  could not open file \"base/16384/24601\": Permission denied", false),
            (
                "2026-11-30 10:00:00.118 UTC [812] FATAL:  could not connect to the primary server: connection to server at \"db1\" (172.18.0.3), port 5432 failed: FATAL:  password authentication failed for user \"replicator\"",
                false,
            ),
            ("failed to connect to `host=db user=shop`: FATAL: password authentication failed for user \"shop\"", false),
            ("SQLSTATE[HY000] [1045] Access denied for user 'shop'@'172.18.0.5' (using password: YES)", false),
            (
                "2026-11-30T05:20:00.118000Z 812 [Warning] [MY-010926] [Server] Access denied for user 'admin'@'203.0.113.44'",
                true,
            ),
            (
                "2026/11/30 10:00:00 [error] 29#29: *5 open() \"/srv/www/.env\" failed (2: No such file or directory), client: 203.0.113.5, server: _, request: \"GET /.env HTTP/1.1\"",
                true,
            ),
            (
                "2026/11/30 10:00:00 [error] 29#29: *5 open() \"/srv/www/index.html\" failed (13: Permission denied), client: 203.0.113.5, server: _, request: \"GET / HTTP/1.1\"",
                false,
            ),
            (
                "2026/11/30 10:00:00 [crit] 29#29: *5 connect() to unix:/run/php.sock failed (2: No such file or directory) while connecting to upstream, client: 203.0.113.5",
                false,
            ),
            ("[Mon Nov 30 10:00:00 2026] [authz_core:error] [pid 7] [client 203.0.113.5:40000] AH01630: client denied", true),
            ("fatal: Timeout before authentication for 203.0.113.5 port 40000", true),
            ("[auth][ERROR] Username or password is incorrect. Try again. IP: 203.0.113.5", true),
            ("Failed authentication attempt for test from 203.0.113.5:39522: user does not exist", true),
            ("{\"level\":50,\"req\":{\"remoteAddress\":\"203.0.113.5\"},\"msg\":\"\\\"email\\\" must be valid\"}", true),
            (
                "{\"level\":50,\"req\":{\"remoteAddress\":\"203.0.113.5\"},\"msg\":\"connect ECONNREFUSED 172.18.0.3:5432\"}",
                false,
            ),
            ("S3 client: AccessDenied: Access Denied", false),
            ("requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: https://api.example.org/v2", false),
            ("Server returned error NXDOMAIN, mitigating potential DNS violation DVE-2018-0001", true),
            ("Error: getaddrinfo ENOTFOUND api.example.org", false),
        ] {
            if is_client(line) != expected {
                wrong.push(line);
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
