//! Lines of an error log: `2026/11/21 13:00:00 [error] 12#12: *34 connect() failed (111: Connection refused) while connecting to upstream, …`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};

use super::error_shapes::{Configured, Found, HARMLESS, Record};
use crate::model::log::{Level, template};

/// Limit of kinds of lines without a known shape.
const MAX_LINES: usize = 64;

/// Limit of different upstream addresses.
const MAX_UPSTREAMS: usize = 200;

/// Lengths in bytes at which nginx and OpenResty cut a message, with its line breaks (`NGX_MAX_ERROR_STR`).
const CUT_BYTES: [usize; 2] = [2048, 4096];

/// Limit of the bytes of one message with line breaks.
const MAX_RECORD_BYTES: usize = 4096;

/// Line breaks in a request, which nginx decodes in the path.
static LINE_BREAKS: LazyLock<[Finder<'static>; 2]> = LazyLock::new(|| [Finder::new(b"%0a"), Finder::new(b"%0A")]);

/// One kind of message of an error log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Signal {
    /// Name of the signal.
    pub kind: String,
    /// The object that the lines name, if it is in the configuration: a path of a socket, a directory, a host name, a name
    /// server.
    pub object: Option<String>,
    /// Number of lines.
    pub count: u64,
    /// Last line, without client data.
    pub last: String,
    /// Time of the first line.
    pub first_at: Option<Timestamp>,
    /// Time of the last line.
    pub last_at: Option<Timestamp>,
}

/// Lines of level `error` or above without a known shape, which differ only in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorLine {
    /// The first line: level and text of nginx, without client data.
    pub text: String,
    /// Severity: [`Level::Fatal`] for `crit` and `alert`.
    pub level: Level,
    /// Number of lines.
    pub count: u64,
    /// Time of the first line.
    pub first_at: Option<Timestamp>,
    /// Time of the last line.
    pub last_at: Option<Timestamp>,
}

/// Signals and other errors of the last minutes of an error log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Errors {
    /// By kind, the most frequent first.
    pub signals: Vec<Signal>,
    /// Upstream addresses with failed connections, and their number.
    pub upstreams: BTreeMap<String, u64>,
    /// Lines without a known shape, the most frequent first.
    pub lines: Vec<ErrorLine>,
    /// Number of lines of further kinds.
    pub further: u64,
    /// Logs that were read.
    pub read: Vec<String>,
}

impl Errors {
    fn add(&mut self, found: &Found, record: &Record<'_>, at: Option<Timestamp>, configured: &Configured) {
        let known = self.signals.iter().position(|s| s.kind == found.kind && s.object == found.object);
        let index = known.unwrap_or_else(|| {
            let (kind, object) = (found.kind.to_owned(), found.object.clone());
            self.signals.push(Signal { kind, object, first_at: at, ..Signal::default() });
            self.signals.len() - 1
        });
        let Some(signal) = self.signals.get_mut(index) else { return };
        signal.count += 1;
        signal.last = record.quoted(found, configured);
        signal.last_at = at.or(signal.last_at);
        if let (_, Some(upstream)) = record.context(configured)
            && (self.upstreams.len() < MAX_UPSTREAMS || self.upstreams.contains_key(upstream))
        {
            *self.upstreams.entry(upstream.to_owned()).or_default() += 1;
        }
    }

    fn sort(&mut self) {
        self.signals.sort_by(|a, b| b.count.cmp(&a.count).then(a.kind.cmp(&b.kind)).then(a.object.cmp(&b.object)));
        self.lines.sort_by(|a, b| b.count.cmp(&a.count).then(a.text.cmp(&b.text)));
    }
}

/// Time of a line, in the time zone of the process that wrote it.
pub(super) fn time(line: &[u8], zone: &TimeZone) -> Option<Timestamp> {
    let text = std::str::from_utf8(line.get(..19)?).ok()?;
    let number = |range: Range<usize>| text.get(range)?.parse::<i8>().ok();
    if text.as_bytes()[4] != b'/' || text.as_bytes()[13] != b':' {
        return None;
    }
    let local = DateTime::new(
        text.get(..4)?.parse().ok()?,
        number(5..7)?,
        number(8..10)?,
        number(11..13)?,
        number(14..16)?,
        number(17..19)?,
        0,
    )
    .ok()?;
    Some(local.to_zoned(zone.clone()).ok()?.timestamp())
}

/// Adds the signals and the other errors of these lines, which are of one log.
pub(super) fn count(lines: &[u8], zone: &TimeZone, configured: &Configured, errors: &mut Errors) {
    let mut collector = Collector::new(errors);
    let mut end = 0;
    for line in lines.split_inclusive(|b| *b == b'\n') {
        let span = end..end + line.len();
        end = span.end;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let text = String::from_utf8_lossy(line);
        let cut = collector.advance(&span, errors);
        let Some(record) = Record::parse(&text) else {
            if !line.is_empty() {
                collector.continues();
            }
            continue;
        };
        let is_proven = !cut && collector.observe(&span, line, &record);
        if !record.is_logged_fault() {
            continue;
        }
        if let Some(found) = record.signal(configured) {
            if !HARMLESS.contains(&found.kind) {
                errors.add(&found, &record, record.time(zone), configured);
            }
        } else if let Some(text) = record.unclassified() {
            let level = if record.level == "error" { Level::Error } else { Level::Fatal };
            let at = record.time(zone);
            collector.collect(&span, ErrorLine { text, level, count: 1, first_at: at, last_at: at }, is_proven);
        }
    }
    collector.finish(errors);
    errors.sort();
}

/// Lines without a known shape; their text is quoted.
///
/// A path of a client can contain line breaks, which nginx writes to the log as they are, so that a line can be the middle of
/// another message. The end of such a message shows the request with its encoded line break, unless nginx has cut the message.
/// Both disprove the lines before, up to the longest message. Output of scripts and applications can contain line breaks as
/// well: the lines after it count only if their kind is known from elsewhere.
struct Collector {
    /// Lines that a later one can still disprove, by their offset.
    pending: VecDeque<(usize, String, ErrorLine)>,
    /// Offsets of lines with quoted text in their message.
    quoting: VecDeque<usize>,
    /// Offset before which a line can be a part of an earlier message.
    unproven_until: usize,
    /// Index of a kind in [`Errors::lines`].
    known: HashMap<String, usize>,
}

impl Collector {
    fn new(errors: &Errors) -> Self {
        let known = errors.lines.iter().enumerate().map(|(at, line)| (template(&line.text), at)).collect();
        Self { pending: VecDeque::new(), quoting: VecDeque::new(), unproven_until: 0, known }
    }

    /// Continues with the line at `span`; returns whether it ends a message that nginx has cut.
    fn advance(&mut self, span: &Range<usize>, errors: &mut Errors) -> bool {
        let reach = span.end.saturating_sub(MAX_RECORD_BYTES);
        while self.pending.front().is_some_and(|(at, ..)| *at < reach) {
            if let Some((_, kind, line)) = self.pending.pop_front() {
                self.add(kind, line, errors);
            }
        }
        while self.quoting.front().is_some_and(|at| *at < reach) {
            self.quoting.pop_front();
        }
        let begin = self.quoting.iter().copied().find(|at| CUT_BYTES.contains(&(span.end - at)));
        if let Some(begin) = begin {
            self.disprove_from(begin);
        }
        begin.is_some()
    }

    fn disprove_from(&mut self, begin: usize) {
        self.pending.retain(|(at, ..)| *at < begin);
    }

    /// A line without a time is the continuation of a message.
    fn continues(&mut self) {
        if let Some(begin) = self.quoting.front().copied() {
            self.disprove_from(begin);
        }
    }

    /// Looks for line breaks in a message; returns whether the line is a message of its own.
    fn observe(&mut self, span: &Range<usize>, line: &[u8], record: &Record<'_>) -> bool {
        let mut is_proven = span.start >= self.unproven_until;
        if LINE_BREAKS.iter().any(|finder| finder.find(line).is_some()) {
            self.pending.clear();
            self.unproven_until = span.end + MAX_RECORD_BYTES;
            is_proven = false;
        }
        if record.has_quoted_text() {
            self.quoting.push_back(span.start);
        }
        if record.has_foreign_output() {
            self.unproven_until = self.unproven_until.max(span.start + MAX_RECORD_BYTES);
        }
        is_proven
    }

    fn collect(&mut self, span: &Range<usize>, line: ErrorLine, is_proven: bool) {
        let kind = template(&line.text);
        if is_proven || self.known.contains_key(&kind) || self.pending.iter().any(|(_, k, _)| *k == kind) {
            self.pending.push_back((span.start, kind, line));
        }
    }

    fn add(&mut self, kind: String, line: ErrorLine, errors: &mut Errors) {
        if let Some(known) = self.known.get(&kind).and_then(|at| errors.lines.get_mut(*at)) {
            known.count += line.count;
            known.last_at = line.last_at.or(known.last_at);
        } else if errors.lines.len() < MAX_LINES {
            self.known.insert(kind, errors.lines.len());
            errors.lines.push(line);
        } else {
            errors.further += line.count;
        }
    }

    fn finish(mut self, errors: &mut Errors) {
        while let Some((_, kind, line)) = self.pending.pop_front() {
            self.add(kind, line, errors);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const REFUSED: &str = "2026/11/21 13:00:00 [error] 12#12: *34 connect() failed (111: Connection refused) while connecting to upstream, client: 10.0.0.1, server: a.org, request: \"GET /x?token=canary HTTP/1.1\", upstream: \"http://172.18.0.3:8080/x?token=canary\", host: \"a.org\"";

    fn counted(text: &str) -> Errors {
        let mut errors = Errors::default();
        count(text.as_bytes(), &TimeZone::UTC, &Configured::default(), &mut errors);
        errors
    }

    fn kinds(errors: &Errors) -> Vec<(&str, u64)> {
        errors.signals.iter().map(|s| (s.kind.as_str(), s.count)).collect()
    }

    fn texts(errors: &Errors) -> Vec<(&str, u64)> {
        errors.lines.iter().map(|l| (l.text.as_str(), l.count)).collect()
    }

    fn line(level: &str, message: &str) -> String {
        format!("2026/11/21 13:00:00 [{level}] 12#12: *3 {message}, client: 10.0.0.1, server: a.org")
    }

    #[test]
    fn error_kinds_are_counted_without_client_data() {
        let text = [
            REFUSED,
            REFUSED,
            "2026/11/21 13:00:01 [alert] 12#12: 64 worker_connections are not enough",
            "2026/11/21 13:00:02 [error] 12#12: *35 upstream timed out (110: Connection timed out) while connecting to upstream, client: 1.2.3.4, upstream: \"http://172.18.0.9:80/\"",
            "2026/11/21 13:00:02 [crit] 12#12: *36 SSL_do_handshake() failed (SSL: error:0A00006C:bad key share) while SSL handshaking, client: 1.2.3.4",
            "2026/11/21 13:00:03 [notice] 1#1: signal process started",
        ]
        .join("\n");
        let e = counted(&text);
        assert_eq!(kinds(&e), [("refused", 2), ("connections-exhausted", 1), ("timed-out", 1)]);
        assert!(e.lines.is_empty(), "{:?}", e.lines);
        assert_eq!(e.upstreams, BTreeMap::from([("172.18.0.3:8080".to_owned(), 2), ("172.18.0.9:80".to_owned(), 1)]));
        let json = serde_json::to_string(&e).unwrap();
        assert!(!json.contains("canary") && !json.contains("10.0.0.1"), "{json}");
        assert!(e.signals[0].last.ends_with("server: a.org, upstream: 172.18.0.3:8080"), "{}", e.signals[0].last);
        assert_eq!(e.signals[1].first_at.unwrap().to_string(), "2026-11-21T13:00:01Z");
    }

    #[test]
    fn text_of_clients_is_no_signal() {
        let missing = |path: &str| line("error", &format!("open() \"/srv/{path}\" failed (2: No such file or directory)"));
        let text = [
            missing("1024 worker_connections are not enough"),
            missing("x (28: No space left on device)"),
            missing("x (24: Too many open files)"),
            missing("x (111: y while connecting to upstream"),
            missing("x\" failed (24: Too many open files), client: 1.1.1.1"),
            line("error", "access forbidden by rule") + ", referrer: \"[emerg] upstream timed out (110: \"",
            line("crit", "SSL_write() failed (SSL: error:0A000126) while sending to client")
                + ", request: \"GET / HTTP/1.1\", referrer: \"(28: No space left on device)\"",
        ];
        assert_eq!(counted(&text.join("\n")), Errors::default());
    }

    #[test]
    fn shortages_are_counted_by_their_level() {
        let text = "2026/11/21 13:00:00 [crit] 12#12: *3 pwrite() \"/srv/cache/0000000001\" failed (28: No space left on device), client: 10.0.0.1, server: a.org
2026/11/21 13:00:00 [alert] 12#12: accept4() failed (24: Too many open files)
2026/11/21 13:00:00 [emerg] 1#1: bind() to 0.0.0.0:80 failed (98: Address already in use)";
        let e = counted(text);
        assert_eq!(kinds(&e), [("emergency", 1), ("files-exhausted", 1), ("no-space", 1)]);
        let quote = "pwrite() \"…\" failed (28: No space left on device), server: a.org";
        assert!(e.signals[2].last.ends_with(quote), "{}", e.signals[2].last);
    }

    #[test]
    fn lines_that_differ_in_numbers_are_one_kind() {
        let of =
            |n: u8, text: &str| format!("2026/11/21 13:00:0{n} [alert] 12#12: *{n} {text}, client: 10.0.0.{n}, server: a.org");
        let text = [
            of(1, "http file cache: exists 1 too small"),
            of(2, "http file cache: exists 2 too small"),
            of(3, "header already sent"),
        ];
        let e = counted(&text.join("\n"));
        assert_eq!(texts(&e), [("[alert] http file cache: exists 1 too small", 2), ("[alert] header already sent", 1)]);
        let times = [e.lines[0].first_at, e.lines[0].last_at].map(|t| t.unwrap().to_string());
        assert_eq!(times, ["2026-11-21T13:00:01Z", "2026-11-21T13:00:02Z"]);
        assert_eq!(e.lines[0].level, Level::Fatal);
    }

    #[test]
    fn kinds_of_lines_are_limited() {
        let word = |n: usize| ["a", "b", "c", "d"].map(|c| c.repeat(n)).concat();
        let text: Vec<String> = (1..=MAX_LINES + 5).map(|n| line("crit", &format!("failure {}", word(n)))).collect();
        let e = counted(&text.join("\n"));
        assert_eq!((e.lines.len(), e.further), (MAX_LINES, 5));
    }

    #[test]
    fn line_inside_a_path_is_not_quoted() {
        let begin = "2026/11/21 13:00:00 [error] 12#12: *18 open() \"/srv/none";
        let forged = "2026/11/21 13:00:00 [crit] 12#12: *1 evil, client: 1.1.1.1, server: a.org";
        let request = "client: 10.0.0.1, server: a.org, request: \"GET /none%0Ax HTTP/1.1\", host: \"a.org\"";
        let last = format!("2026/11/21 13:00:00 [crit] 1#1: evil\" failed (2: No such file or directory), {request}");
        let own = line("crit", "own failure");
        let far = format!("{}\n", line("error", "access forbidden by rule")).repeat(60);
        let e = counted(&format!("{own}\n{far}{begin}\n{forged}\n{last}\n{far}{own}\n"));
        assert_eq!(texts(&e), [("[crit] own failure", 2)]);
        // the message without its end
        let start = format!("{begin}\n{forged}\n2026/11/21 13:00:00 [crit] 12#12: *2 evil, client: 1.1.1.1, server: ");
        let cut = format!("{start}{}\n", "x".repeat(2047 - start.len()));
        assert_eq!(texts(&counted(&format!("{cut}{own}\n"))), [("[crit] own failure", 1)]);
        // a line without a time
        let e = counted(&format!("{begin}\n{forged}\n\" failed (2: No such file or directory)\n"));
        assert!(e.lines.is_empty(), "{:?}", e.lines);
    }

    #[test]
    fn line_inside_the_output_of_an_application_is_not_quoted() {
        let stderr = line("error", "FastCGI sent in stderr: \"PHP message: a");
        let forged = line("crit", "evil");
        let end = line("crit", "evil\" while reading response header from upstream");
        let e = counted(&format!("{stderr}\n{forged}\n{end}\n{stderr}\n"));
        assert_eq!(texts(&e), [("[error] FastCGI sent in stderr: \"…\"", 2)]);
    }

    #[test]
    fn times_use_the_time_zone_of_the_process() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(time(REFUSED.as_bytes(), &zone).unwrap().to_string(), "2026-11-21T11:00:00Z");
        assert_eq!(time(b"[error] nothing of the kind", &zone), None);
    }
}
