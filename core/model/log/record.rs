//! Messages of a log with the lines that belong to them: exceptions with the line that announces them and with their causes,
//! without stack traces, and messages that go on in indented lines.

use std::sync::LazyLock;

use jiff::Timestamp;
use regex::Regex;

use super::level::{self, Level};
use super::pattern::pattern;
use super::reason::{self, reason};
use super::{LogLine, may_contain_errors};

/// Indented lines that are added to a message, and the same for a message that ends with a colon.
const MAX_CONTINUATION: usize = 3;
const MAX_ANNOUNCED: usize = 6;

/// Characters from which a message takes no further lines.
const LONG: usize = 300;

/// Length from which the end of a cause identifies it.
const TELLING: usize = 8;

/// Letters from which a line is a message, not a separator.
const MIN_LETTERS: usize = 3;

/// Messages about an attempt that is repeated, in lower case.
const RETRIES: &[&str] =
    &["retrying", "will retry", "retry in ", "trying again", "try again in", "waiting for", "reconnecting", "backing off"];

/// Messages about the end of a program or of a part of it, in lower case: consequences of an error that another line gives.
const CONSEQUENCES: &[&str] = &[
    "aborting",
    "aborted with error",
    "shutting down",
    "shutdown",
    "is shut down",
    "terminating",
    "terminated abnormally",
    "exiting",
    "exited",
    "exit status",
    "did not exit normally",
    "stopped background service",
    "gave up",
    "giving up",
    "error starting",
    "failed to start",
    "failed to boot",
    "failed to post process",
    "boot failed",
    "run failed",
    "startup failed",
    "start failed",
    "could not start",
    "initialization failed",
    "initialisation failed",
    "init function returned error",
    "registration as a ",
    "exception during startup",
    "exception in worker process",
    "checks failed",
    "check failed",
    "test failed",
    "errors found in",
    "error(s) found in",
    "could not read config",
    "unable to open logs",
    "crash dump",
    "is in recovery mode",
    "is shutting down",
    "npm err!",
];

static ESCAPES: LazyLock<Regex> = LazyLock::new(|| pattern(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|[@-Z\\-_])"));

/// Names that process managers and `docker compose` put before the lines of a program: `web_1  | `, `nginx.1    | `.
static MANAGER: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(?:[A-Za-z][\w.@-]*\s+\|(?: |$)){1,2}"));

/// The head of a syslog line: time, host and program; with a process id the host can be absent.
static SYSLOG: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:[A-Za-z]{3} [ \d]\d \d\d:\d\d:\d\d (?:[\w.-]+ [\w./@()-]+(?:\[[\w.]+\])?|[\w./@()-]+\[[\w.]+\])|\d{4}-\d\d-\d\dT\S+ (?:[\w.-]+ )?[\w./@()-]+\[[\w.]+\]):(?: |$)",
    )
});

/// A time at the begin of a line.
static TIME: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:\[?\d{4}[-/.]\d\d[-/.]\d\d[T_ ]{1,2}\d{1,2}:\d\d:\d\d(?:[.,]\d+)?(?: ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d))?\]?|\[?\d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d:\d\d(?:[.,]\d+)?(?: UTC)?\]?|\d{1,2} [A-Z][a-z]{2} \d\d:\d\d:\d\d -|\d{6} {1,2}\d{1,2}:\d\d:\d\d|\[?\d\d:\d\d:\d\d(?:[.,]\d+)?\]?)[:|]?(?:\s|$)",
    )
});

/// Frames of stack traces: Java, .NET, Node.js, Python, Ruby, PHP, Go, Rust, Erlang, C++.
static FRAME: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"^(?:\s+(?:at |from |File "|\^|~|\d+: |in |throw |Suppressed: |\w+:\S+/\d+, line \d+)|\s*\.\.\. \d+ |\s*#\d+\s|\s*goroutine \d+|\s*[\w./@-]+\.go:\d+(?: \+0x\w+.*)?$|\s*[\w./*{}\[\]@$<>:()-]+\(.*\)$|at [\w.$<>/@-]+\(|\s*created by |\s*note: run with|\s*stack backtrace|Stack trace:|\s*\S+:\d+:in |\s*--- End of |\s*\d+\. .* @ 0x|node:internal/|internal/modules/|Node\.js v\d|exit status \d|\[signal )"#,
    )
});

/// The first line of an exception: its class, and its message behind a colon.
static EXCEPTION: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:(?:[A-Za-z_]\w*(?:\.|::|\\|\$))*[A-Z]\w*(?:Error|Exception)(?: \[\w+\])?(?::|$)|Errno::[A-Z]+: |(?:[A-Z]\w*::)+[A-Z]\w*(?:Bad|NotFound|NotEstablished|Failed|Invalid|Missing): )",
    )
});

/// The name of a field, alone on its line: pydantic prints its errors below such lines.
static FIELD: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[A-Za-z_][\w.]*$"));

/// Parts of a line that are no message.
static TAGS: LazyLock<Regex> = LazyLock::new(|| pattern(r"\[[^\]]*\]|<[^>]*>|\d"));

/// A line of Ruby's logger without a message: Rails logs some before and behind each exception.
static RUBY_EMPTY: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[DIWEFA], \[[^\]]*\]\s+[A-Z]+ -- [^:]*:(?:\s*\[[^\]]*\])*\s*$"));

/// A request with its status.
static ACCESS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#""(?:GET|POST|HEAD|PUT|DELETE|PATCH|OPTIONS|CONNECT|PROPFIND|PRI) [^"]*" \d{3}\b"#));

/// A message of severity warning or above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) at: Option<Timestamp>,
    /// Number of its first line.
    pub(super) line: usize,
    pub(super) level: Level,
    pub(super) text: String,
    /// Its message, or the exception that it announces, is about the end of a program.
    pub(super) is_consequence: bool,
}

/// The messages of severity warning or above, and the lines without a severity that have the text of an error.
pub(super) fn records<'l>(lines: impl IntoIterator<Item = &'l &'l LogLine>) -> Vec<Record> {
    let mut reader = Reader::default();
    for (number, line) in lines.into_iter().enumerate() {
        reader.read(number, line.at, &clean(&line.text));
    }
    reader.found.into_iter().map(Message::into_record).collect()
}

/// A line without escape sequences, control characters and the names of process managers.
pub(super) fn clean(text: &str) -> String {
    let text = if text.contains('\u{1b}') { ESCAPES.replace_all(text, "").into_owned() } else { text.to_owned() };
    let text: String = text.trim_end().chars().filter(|c| !c.is_control() || *c == '\t').collect();
    let text = MANAGER.find(&text).map_or(text.as_str(), |name| &text[name.end()..]);
    SYSLOG.find(text).map_or(text, |head| &text[head.end()..]).to_owned()
}

/// A line without the times before it, with its indentation.
fn without_time(line: &str) -> &str {
    fn without(line: &str) -> &str {
        TIME.find(line).map_or(line, |time| &line[time.end()..])
    }
    without(without(line))
}

/// The content of an array of JSON with lines as elements.
fn unquoted(line: &str) -> &str {
    let bare = line.trim_start();
    let element = bare.strip_prefix("\"stacktrace\": [").unwrap_or(bare);
    match element.strip_prefix('"') {
        Some(rest) => rest.trim_end_matches([',', '"', ' ']),
        None => line,
    }
}

/// A message that is being read line by line.
#[derive(Debug, Clone, Default)]
struct Message {
    at: Option<Timestamp>,
    line: usize,
    level: Level,
    /// The line that announces an exception.
    header: String,
    text: String,
    cause: String,
    is_exception: bool,
    /// The names of fields belong to it.
    has_fields: bool,
}

impl Message {
    fn into_record(self) -> Record {
        let parts = [&self.header, &self.text, &self.cause].map(|part| part.trim().trim_end_matches(':'));
        let text = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
        let own = format!("{} {}", self.text, self.cause).to_lowercase();
        let is_consequence = CONSEQUENCES.iter().any(|text| own.contains(text));
        Record { at: self.at, line: self.line, level: self.level, text, is_consequence }
    }

    /// The exception that a message announces.
    fn announces(&mut self, exception: &str) {
        self.header = std::mem::replace(&mut self.text, exception.to_owned());
        self.is_exception = true;
    }

    /// A cause, of several the last: it is the first to have failed. One with a known reason outranks one without.
    fn caused_by(&mut self, cause: &str) {
        let tail = cause.rsplit(": ").next().unwrap_or(cause).trim_end_matches('.').to_lowercase();
        let is_known = self.text.contains(cause) || tail.len() >= TELLING && self.text.to_lowercase().contains(&tail);
        if !is_known && (reason(&self.cause).is_none() || reason(cause).is_some()) {
            cause.clone_into(&mut self.cause);
        }
    }
}

/// The meaning of the next line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Next {
    #[default]
    Line,
    /// A frame of a Python traceback, or its message.
    Traceback,
    /// The message of a Rust panic.
    Panic,
}

/// Reads the lines of a log.
#[derive(Default)]
struct Reader {
    found: Vec<Message>,
    next: Next,
    /// Since the last message only its own lines followed.
    is_open: bool,
    /// The same, or lines without a severity: those of a message with several lines.
    is_traced: bool,
    /// Indented lines that the message can take.
    continuation: usize,
    /// The next exception was raised while that before was handled.
    is_chained: bool,
}

impl Reader {
    fn read(&mut self, number: usize, at: Option<Timestamp>, line: &str) {
        // most lines of most logs: no error, and no part of one
        if matches!(self.next, Next::Line) && !self.is_open && !may_contain_errors(line) {
            return;
        }
        let body = unquoted(without_time(line));
        let bare = body.trim_start();
        if bare.is_empty() {
            let is_announced = self.found.last().is_some_and(|m| m.text.ends_with(':'));
            self.continuation = if is_announced { self.continuation } else { 0 };
            return;
        }
        let is_indented = body.len() > bare.len();
        match std::mem::take(&mut self.next) {
            Next::Traceback if is_indented => {
                self.next = Next::Traceback;
                return;
            }
            Next::Traceback if EXCEPTION.is_match(body) || level::parse(line, body).level.is_none() => {
                self.exception(number, at, body);
                return;
            }
            Next::Panic => {
                self.push(number, at, Level::Fatal, &format!("panicked: {bare}"));
                return;
            }
            Next::Line | Next::Traceback => {}
        }
        if bare.ends_with("Traceback (most recent call last):") {
            self.next = Next::Traceback;
            return;
        }
        if bare.starts_with("thread '") && bare.contains("panicked at") && bare.ends_with(':') {
            self.next = Next::Panic;
            return;
        }
        if bare.starts_with("During handling of the above exception")
            || bare.starts_with("The above exception was the direct cause")
        {
            self.is_chained = true;
            return;
        }
        if self.belongs_to_the_last(body, bare, is_indented) {
            return;
        }
        if self.is_open
            && EXCEPTION.is_match(body)
            && let Some(last) = self.found.last_mut().filter(|m| !m.is_exception)
        {
            last.announces(body);
            self.continuation = MAX_CONTINUATION;
            return;
        }
        let parsed = level::parse(line, body);
        if let Some(level) = level_of(&parsed, body) {
            self.push(number, at, level, &parsed.text);
            if let Some(last) = self.found.last_mut() {
                last.is_exception = EXCEPTION.is_match(body);
            }
        } else {
            (self.is_open, self.continuation) = (false, 0);
            self.is_traced &= parsed.level.is_none();
        }
    }

    /// Causes, details, frames and further lines of the last message.
    fn belongs_to_the_last(&mut self, body: &str, bare: &str, is_indented: bool) -> bool {
        let cause = bare.strip_prefix("Caused by:").or_else(|| bare.strip_prefix("---> "));
        let detail = body.split_once("DETAIL:  ").map(|(_, detail)| detail);
        if cause.is_some() || detail.is_some() {
            let minimum = if detail.is_some() { Level::Error } else { Level::Warning };
            let text = cause.or(detail).unwrap_or_default().trim();
            if !text.is_empty()
                && let Some(last) = self.found.last_mut().filter(|m| self.is_traced && m.level >= minimum)
            {
                last.caused_by(text);
            }
            self.continuation = 0;
            return true;
        }
        if FRAME.is_match(body) {
            self.continuation = 0;
            return true;
        }
        let Some(last) = self.found.last_mut().filter(|_| self.is_open && self.continuation > 0) else { return false };
        if !(is_indented || last.has_fields && FIELD.is_match(body)) {
            return false;
        }
        if last.text.len() < LONG {
            last.text = format!("{} {bare}", last.text);
        }
        self.continuation -= 1;
        true
    }

    /// The message of a traceback.
    fn exception(&mut self, number: usize, at: Option<Timestamp>, text: &str) {
        let is_chained = std::mem::take(&mut self.is_chained);
        match self.found.last_mut().filter(|_| self.is_open) {
            Some(last) if is_chained && last.is_exception => {
                // an exception that names no reason keeps that of the one before
                let is_reason_before = reason(text).is_none() && reason(&last.text).is_some();
                last.text = if is_reason_before { format!("{text}: {}", last.text) } else { text.to_owned() };
            }
            Some(last) if !last.is_exception => last.announces(text),
            _ => self.push(number, at, Level::Error, text),
        }
        if let Some(last) = self.found.last_mut() {
            (last.is_exception, last.has_fields) = (true, true);
        }
        self.continuation = MAX_ANNOUNCED;
    }

    fn push(&mut self, line: usize, at: Option<Timestamp>, level: Level, text: &str) {
        self.continuation = if text.ends_with(':') { MAX_ANNOUNCED } else { MAX_CONTINUATION };
        (self.is_open, self.is_traced, self.is_chained) = (true, true, false);
        self.found.push(Message { at, line, level, text: text.to_owned(), ..Message::default() });
    }
}

/// The severity of a line, if it is a warning or above.
fn level_of(parsed: &level::Parsed, body: &str) -> Option<Level> {
    let letters = TAGS.replace_all(body, "").chars().filter(|c| c.is_alphabetic()).count();
    if letters < MIN_LETTERS || ACCESS.is_match(body) || RUBY_EMPTY.is_match(body) {
        return None;
    }
    match parsed.level {
        Some(level) => (level >= Level::Warning).then_some(level),
        // an error text without a level: shells, runtimes, tools
        None if reason::is_error(&parsed.text) => {
            let lower = parsed.text.to_lowercase();
            Some(if RETRIES.iter().any(|text| lower.contains(text)) { Level::Warning } else { Level::Error })
        }
        None => None,
    }
}
