//! Severity of a log line, from the formats that programs and log libraries write.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::pattern::pattern;

/// Severity of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Information, debug output, or unknown.
    #[default]
    Info,
    /// A warning.
    Warning,
    /// An error.
    Error,
    /// The program cannot continue.
    Fatal,
}

/// A line, reduced to its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parsed {
    /// `None` for a line that names no severity.
    pub(super) level: Option<Level>,
    pub(super) text: String,
}

/// Characters of a line in which a level is searched: behind them words belong to the message.
const HEAD: usize = 120;

/// Depth to which an error is searched in an object of a JSON line.
const MAX_DEPTH: usize = 3;

/// Messages about a setup that is discouraged but works: supervisord logs them as critical.
const ADVICE: &[&str] = &["running as root", "without any http authentication", "set uid to user"];

static PATTERNS: LazyLock<Vec<(Level, Regex)>> = LazyLock::new(|| {
    let patterns = [
        // words in upper case, as most libraries write them; not a part of a name such as ERROR_LOG=
        (
            Level::Fatal,
            r"(?:^|[^A-Za-z0-9_./=-])(?:PANIC|FATAL|FTL|CRITICAL|CRIT|EMERG|EMERGENCY|ALERT|URGENT)(?:$|[^A-Za-z0-9_=-])",
        ),
        (Level::Error, r"(?:^|[^A-Za-z0-9_./=-])(?:ERROR|SEVERE|ERR)(?:$|[^A-Za-z0-9_=-])"),
        (Level::Warning, r"(?:^|[^A-Za-z0-9_./=-])(?:WARNING|WARN|WRN)(?:$|[^A-Za-z0-9_=-])"),
        (Level::Info, r"(?:^|[^A-Za-z0-9_./=-])(?:INFO|INF|NOTICE|DEBUG|DBG|TRACE|VERBOSE)(?:$|[^A-Za-z0-9_=-])"),
        // Monolog: the channel precedes the level
        (Level::Fatal, r"^[\w-]+\.(?:EMERGENCY|ALERT|CRITICAL): "),
        (Level::Error, r"^[\w-]+\.ERROR: "),
        (Level::Warning, r"^[\w-]+\.WARNING: "),
        (Level::Info, r"^[\w-]+\.(?:INFO|NOTICE|DEBUG): "),
        // PostgreSQL
        (Level::Info, r"(?:^|\s)(?:LOG|HINT|STATEMENT|CONTEXT|QUERY|LOCATION):  "),
        // nginx, Apache, RabbitMQ, PHP-FPM, MySQL, HAProxy, Gitea
        (Level::Fatal, r"\[(?:[a-z_0-9]*:)?(?:emerg|alert|crit|critical|fatal|panic|F)\]"),
        (Level::Error, r"\[(?:[a-z_0-9]*:)?(?:[Ee]rror|err|E)\]"),
        (Level::Warning, r"\[(?:[a-z_0-9]*:)?(?:[Ww]arning|warn|W)\]"),
        (Level::Info, r"\[(?:[a-z_0-9]*:)?(?:[Ii]nfo|[Nn]otice|[Nn]ote|[Ss]ystem|[Dd]ebug|trace\d?|I|D|T)\]"),
        // ClickHouse
        (Level::Fatal, r"<(?:Fatal|Critical)> "),
        (Level::Error, r"<Error> "),
        (Level::Warning, r"<Warning> "),
        (Level::Info, r"<(?:Notice|Information|Debug|Trace)> "),
        // logrus and zerolog on a terminal
        (Level::Fatal, r"^(?:FATA|PANI)\["),
        (Level::Error, r"^ERRO\["),
        (Level::Info, r"^(?:DEBU|TRAC)\["),
        // Telegraf
        (Level::Error, r"(?:^|\s)E! "),
        (Level::Warning, r"(?:^|\s)W! "),
        (Level::Info, r"(?:^|\s)[ID]! "),
        // etcd before 3.4
        (Level::Fatal, r"^C \| "),
        (Level::Error, r"^E \| "),
        (Level::Warning, r"^W \| "),
        (Level::Info, r"^[NID] \| "),
        // MongoDB before 4.4
        (Level::Fatal, r"^F +[A-Z-]+ +\["),
        (Level::Error, r"^E +[A-Z-]+ +\["),
        (Level::Warning, r"^W +[A-Z-]+ +\["),
        (Level::Info, r"^[ID]\d? +[A-Z-]+ +\["),
        // Redis: `#` is its highest level, also of ordinary messages
        (Level::Info, r"^\d+:[MSCX] [^#*]{8,30} [*.-] "),
        // .NET
        (Level::Fatal, r"^crit: [A-Z]"),
        (Level::Error, r"^fail: [A-Z]"),
        (Level::Warning, r"^warn: [A-Z]"),
        (Level::Info, r"^(?:info|dbug|trce): [A-Z]"),
        // Go, Rust, Python, Java, .NET, Node.js, Perl, shells
        (
            Level::Fatal,
            r"^(?:panic:|fatal error:|thread '[^']*' (?:\(\d+\) )?panicked at|Exception in thread |Unhandled [Ee]xception)",
        ),
        (Level::Fatal, r"(?:^|\s)(?:Segmentation fault|Illegal instruction|Bus error|Aborted|Killed)(?: \(core dumped\))?$"),
        (Level::Fatal, r"(?i)^(?:[\w./-]+: )?(?:fatal|panic|critical|uncaught exception|unhandled rejection)[:!]"),
        (Level::Fatal, r"(?:[|#>\])] |PHP )[Ff]atal error\b"),
        (Level::Fatal, r"(?i)^(?:==> )?(?:[\w./-]+: )*fatal error\b[:!]"),
        (Level::Error, r"(?i)^(?:==> )?(?:[\w./-]+: )*error\b[:!]"),
        (Level::Error, r"^(?:==> )?(?:[\w./-]+: )*Error \w+ing "),
        (Level::Error, r"[\])] error: "),
        (Level::Error, r"^(?:[A-Za-z_]\w*(?:\.|::|\\|\$))*(?:[A-Z]\w*)?(?:Error|Exception)(?: \[\w+\])?(?::|$)"),
        (Level::Error, r"^(?:Errno::[A-Z]+|(?:[A-Z]\w*::)+[A-Z]\w*(?:Bad|NotFound|NotEstablished|Failed|Invalid|Missing)): "),
        (Level::Warning, r"(?i)^(?:[\w./-]+: )?warning: "),
        // klog of Go: E1130 12:00:00.000000 1 file.go:12] message
        (Level::Fatal, r"^F\d{4} \d\d:\d\d:\d\d"),
        (Level::Error, r"^E\d{4} \d\d:\d\d:\d\d"),
        (Level::Warning, r"^W\d{4} \d\d:\d\d:\d\d"),
        (Level::Info, r"^I\d{4} \d\d:\d\d:\d\d"),
        // zap and slog, separated by tabs
        (Level::Fatal, r"(?:^|\t)(?:fatal|panic|dpanic)\t"),
        (Level::Error, r"(?:^|\t)error\t"),
        (Level::Warning, r"(?:^|\t)warn\t"),
        (Level::Info, r"(?:^|\t)(?:info|debug)\t"),
    ];
    patterns.into_iter().map(|(level, text)| (level, pattern(text))).collect()
});

/// The death of a process by a signal and an exception that ends it: some programs log them as information (PostgreSQL) or as a
/// warning (Elasticsearch).
static DEATH: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)\b(?:crashed by|terminated by|terminated due to|killed by|exited on|got|caught|received) signal:? (?:4|6|7|8|9|11|SIG(?:ILL|ABRT|BUS|FPE|KILL|SEGV))\b|\b(?:uncaught|unhandled) exception(?:$|[:.!]| in | has | of )|\bunhandled (?:promise )?rejection\b",
    )
});

static LOGFMT: LazyLock<[Regex; 3]> = LazyLock::new(|| {
    let value = r#"(?:"((?:[^"\\]|\\.)*)"|(\S+))"#;
    ["(?:level|lvl|severity)", "(?:msg|message)", "(?:err|error|reason|cause)"]
        .map(|name| pattern(&format!("(?:^|\\s){name}={value}")))
});

/// Level and message of a JSON object that goes on in the next lines.
static PARTIAL_JSON: LazyLock<[Regex; 2]> =
    LazyLock::new(|| [r#""level": ?"(\w+)""#, r#""(?:message|msg)": ?"((?:[^"\\]|\\.)*)""#].map(pattern));

/// The trace behind a message in one line: of PHP in the log of its server or of Monolog, of Go in an error with its stack.
static EMBEDDED_TRACE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r#"(?s)(?:(?:\n|\\n)(?:Stack trace|#\d|\t|\\t|\s+at |goroutine |error initiali[sz]ing module)| \{"exception":").*$"#)
});

fn of_word(word: &str) -> Option<Level> {
    Some(match word.to_ascii_lowercase().as_str() {
        "panic" | "dpanic" | "fatal" | "critical" | "crit" | "alert" | "emerg" | "emergency" | "f" => Level::Fatal,
        "error" | "err" | "eror" | "severe" | "e" => Level::Error,
        "warning" | "warn" | "w" => Level::Warning,
        "info" | "information" | "informational" | "notice" | "debug" | "dbug" | "trace" | "i" | "d" | "verbose" => Level::Info,
        _ => return None,
    })
}

/// Levels of Bunyan and pino; those of syslog and of PHP programs where both agree.
fn of_number(number: i64) -> Option<Level> {
    Some(match number {
        60.. => Level::Fatal,
        50..60 | 3 => Level::Error,
        40..50 | 4 => Level::Warning,
        10..40 | 5..=7 => Level::Info,
        _ => return None,
    })
}

/// The severity of a line, and its message without the frame of JSON or logfmt. `body` is the line without its time.
pub(super) fn parse(line: &str, body: &str) -> Parsed {
    let parsed = json(body).or_else(|| logfmt(body));
    let parsed = parsed.unwrap_or_else(|| Parsed { level: of_format(body), text: line.to_owned() });
    let text = EMBEDDED_TRACE.replace(&parsed.text, "").replace(['\n', '\r'], " ");
    let level = if DEATH.is_match(&text) { Some(Level::Fatal) } else { parsed.level };
    Parsed { level: level.map(|level| without_advice(level, &text)), text }
}

/// Of several words of levels the first is that of the line; the others belong to its message.
fn of_format(body: &str) -> Option<Level> {
    let head: String = body.chars().take(HEAD).collect();
    let found = PATTERNS.iter().filter_map(|(level, pattern)| {
        let at = pattern.find(&head)?.start();
        (!is_setting(&head, at)).then_some((at, std::cmp::Reverse(*level)))
    });
    found.min().map(|(_, std::cmp::Reverse(level))| level)
}

/// Whether the word at a place is the value of a setting: `log level: ERROR`.
fn is_setting(head: &str, at: usize) -> bool {
    let before = head[..at].to_ascii_lowercase();
    let words = before.rsplit([' ', ':', '=', '\'', '"']).filter(|word| !word.is_empty());
    words.take(3).any(|word| matches!(word, "level" | "loglevel" | "log_level"))
}

fn without_advice(level: Level, text: &str) -> Level {
    let lower = text.to_lowercase();
    if level > Level::Warning && ADVICE.iter().any(|advice| lower.contains(advice)) { Level::Warning } else { level }
}

fn json(line: &str) -> Option<Parsed> {
    let line = line.trim_start();
    if !line.starts_with('{') {
        return None;
    }
    let Ok(serde_json::Value::Object(fields)) = serde_json::from_str(line) else { return partial_json(line) };
    // the file of the engine's driver json-file
    if let (Some(serde_json::Value::String(inner)), true) = (fields.get("log"), fields.contains_key("stream")) {
        return Some(parse(inner.trim_end(), inner.trim_end()));
    }
    let of_names = |names: &[&str]| names.iter().find_map(|name| fields.get(*name));
    let word = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => of_word(text),
        serde_json::Value::Number(n) => n.as_i64().and_then(of_number),
        serde_json::Value::Object(inner) => inner.get("level").and_then(|l| l.as_str()).and_then(of_word),
        _ => None,
    };
    let level = of_names(&[
        "level",
        "severity",
        "lvl",
        "levelname",
        "log.level",
        "@level",
        "@l",
        "s",
        "Level",
        "LogLevel",
        "loglevel",
        "log",
    ]);
    let names = ["msg", "message", "@message", "@m", "@mt", "Message", "short_message", "event", "text"];
    let message = of_names(&names).and_then(|value| text_of(value, MAX_DEPTH)).unwrap_or_default();
    // MongoDB keeps the error among its attributes
    let names = ["err", "error", "error.message", "exception", "Exception", "@x", "attr", "exc_info", "reason", "thrown"];
    let detail = of_names(&names).and_then(|value| text_of(value, MAX_DEPTH)).filter(|d| !message.contains(d.as_str()));
    let text = match (message.is_empty(), detail) {
        (true, None) => return None,
        (false, None) => message,
        (true, Some(detail)) => detail,
        (false, Some(detail)) => format!("{message}: {detail}"),
    };
    Some(Parsed { level: level.and_then(word), text })
}

/// The text of a value, or of the field of an object that holds the message.
fn text_of(value: &serde_json::Value, depth: usize) -> Option<String> {
    match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Object(inner) if depth > 0 => ["message", "Message", "msg", "errmsg", "error", "reason"]
            .iter()
            .find_map(|name| inner.get(*name).and_then(|value| text_of(value, depth - 1))),
        _ => None,
    }
}

fn partial_json(line: &str) -> Option<Parsed> {
    let of = |pattern: &Regex| pattern.captures(line).and_then(|found| found.get(1)).map(|m| m.as_str().to_owned());
    let level = of_word(&of(&PARTIAL_JSON[0])?);
    let text = of(&PARTIAL_JSON[1])?;
    Some(Parsed { level: of_format(&text).max(level), text })
}

fn logfmt(line: &str) -> Option<Parsed> {
    let value = |pattern: &Regex| {
        let found = pattern.captures(line)?;
        let text = found.get(1).or_else(|| found.get(2))?.as_str();
        Some(text.replace("\\\"", "\"").replace("\\n", "\n").replace("\\t", "\t"))
    };
    let level = of_word(&value(&LOGFMT[0])?)?;
    let message = value(&LOGFMT[1]).unwrap_or_default();
    let error = value(&LOGFMT[2]).filter(|e| !message.contains(e.as_str())).unwrap_or_default();
    let text = match (message.is_empty(), error.is_empty()) {
        (true, true) => line.to_owned(),
        (true, false) => error,
        (false, true) => message,
        (false, false) => format!("{message}: {error}"),
    };
    Some(Parsed { level: Some(level), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(line: &str) -> Level {
        parse(line, line).level.unwrap_or_default()
    }

    #[test]
    fn levels_of_common_formats() {
        for (line, expected) in [
            ("2026-11-30 10:00:00 UTC [12] FATAL:  password authentication failed for user \"app\"", Level::Fatal),
            ("2026/11/30 10:00:00 [emerg] 1#1: unknown directive \"servr\" in /etc/nginx/nginx.conf:3", Level::Fatal),
            ("nginx: [emerg] host not found in upstream \"app\"", Level::Fatal),
            ("panic: runtime error: invalid memory address or nil pointer dereference", Level::Fatal),
            ("thread 'main' panicked at src/main.rs:3:5:", Level::Fatal),
            ("Exception in thread \"main\" java.lang.IllegalStateException: no datasource", Level::Fatal),
            ("Unhandled exception. System.IO.FileNotFoundException: Could not find file '/app/a.json'", Level::Fatal),
            ("[2026-11-30 10:00:00,000][ERROR][o.e.b.Bootstrap] [node] bootstrap check failure", Level::Error),
            ("2026-11-30T10:00:00.000000Z 0 [ERROR] [MY-010119] [Server] Aborting", Level::Error),
            ("ConnectionRefusedError: [Errno 111] Connection refused", Level::Error),
            ("redis.exceptions.ConnectionError: Error 111 connecting to cache:6379. Connection refused.", Level::Error),
            ("Error: connect ECONNREFUSED 127.0.0.1:6379", Level::Error),
            ("Error [ERR_MODULE_NOT_FOUND]: Cannot find module '/app/a.js'", Level::Error),
            ("PG::ConnectionBad: could not connect to server: Connection refused", Level::Error),
            ("Doctrine\\DBAL\\Exception: Failed to connect to the database", Level::Error),
            ("E1130 10:00:00.000000       1 main.go:12] failed to list", Level::Error),
            ("{\"level\":\"error\",\"msg\":\"cannot open\",\"err\":\"EACCES\"}", Level::Error),
            ("{\"level\":60,\"msg\":\"down\"}", Level::Fatal),
            ("{\"level\":30,\"msg\":\"up\"}", Level::Info),
            ("ts=2026-11-30 level=error msg=\"send failed\" err=\"no such host\"", Level::Error),
            ("FATA[0000] no such host", Level::Fatal),
            ("ERRO[0001] no such host", Level::Error),
            ("2026-11-30T10:00:00Z E! [agent] Error writing", Level::Error),
            ("2026.11.30 10:00:00.1 [ 1 ] {} <Error> Application: DB::Exception: Cannot lock file", Level::Error),
            ("fail: Microsoft.Extensions.Hosting.Internal.Host[11]", Level::Error),
            ("2026-11-30 10:00:00 WARNING disk nearly full", Level::Warning),
            ("2026-11-30 10:00:00,695 CRIT Supervisor running as root (no user in config file)", Level::Warning),
            ("2026-11-30 10:00:00,695 INFO gave up: web entered FATAL state", Level::Info),
            ("LOG:  server process (PID 62) was terminated by signal 9: Killed", Level::Fatal),
            ("LOG:  received smart shutdown request", Level::Info),
            ("./run.sh: line 3: 12 Segmentation fault      (core dumped) ./app", Level::Info),
            ("Segmentation fault (core dumped)", Level::Fatal),
            ("INFO starting 1", Level::Info),
            ("log level set to ERROR", Level::Info),
            ("loaded 0 errors, ERROR_LOG=/var/log/x", Level::Info),
            ("GET /error 200", Level::Info),
        ] {
            assert_eq!(level(line), expected, "{line}");
        }
    }

    #[test]
    fn message_of_structured_lines() {
        let text = |line: &str| parse(line, line).text;
        assert_eq!(text("{\"level\":\"error\",\"msg\":\"cannot open\",\"err\":\"EACCES\"}"), "cannot open: EACCES");
        assert_eq!(text("{\"level\":\"FATAL\",\"error\":{\"message\":\"no disk\"}}"), "no disk");
        assert_eq!(text("level=error msg=\"send failed\" err=\"no such host\""), "send failed: no such host");
        assert_eq!(text("lvl=eror msg=\"Server shutdown\" reason=\"no space\""), "Server shutdown: no space");
    }

    #[test]
    fn embedded_trace_is_removed() {
        let line = r#"level=error msg="error running loki" err="mkdir /loki: permission denied\nerror initialising module: x\n\tmain.go:1""#;
        assert_eq!(parse(line, line).text, "error running loki: mkdir /loki: permission denied");
    }
}
