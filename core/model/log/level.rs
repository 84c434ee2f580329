//! Severity of a log line, from the formats that programs and log libraries write.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

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
    pub(super) level: Level,
    pub(super) text: String,
}

/// Characters of a line in which a level is searched: behind them words belong to the message.
const HEAD: usize = 120;

/// Levels of Bunyan and pino, in JSON.
const NUMBERS: &[(i64, Level)] = &[(60, Level::Fatal), (50, Level::Error), (40, Level::Warning)];

#[expect(clippy::expect_used, reason = "constant patterns, compiled by a test")]
static PATTERNS: LazyLock<Vec<(Level, Regex)>> = LazyLock::new(|| {
    let patterns = [
        // words in upper case, as most libraries write them; not a part of a name such as ERROR_LOG=
        (Level::Fatal, r"(?:^|[^A-Za-z0-9_./=-])(?:PANIC|FATAL|CRITICAL|CRIT|EMERG|EMERGENCY|ALERT)(?:$|[^A-Za-z0-9_=-])"),
        (Level::Error, r"(?:^|[^A-Za-z0-9_./=-])(?:ERROR|SEVERE|ERR)(?:$|[^A-Za-z0-9_=-])"),
        (Level::Warning, r"(?:^|[^A-Za-z0-9_./=-])(?:WARNING|WARN)(?:$|[^A-Za-z0-9_=-])"),
        // nginx, RabbitMQ, PHP-FPM, HAProxy
        (Level::Fatal, r"\[(?:emerg|alert|crit|critical|fatal|panic)\]"),
        (Level::Error, r"\[(?:error|err|E)\]"),
        (Level::Warning, r"\[(?:warning|warn|W)\]"),
        // Go, Rust, Python, Java, .NET, Node.js, Perl, shells
        (
            Level::Fatal,
            r"^(?:panic:|fatal error:|thread '[^']*' (?:\(\d+\) )?panicked at|Exception in thread |Unhandled exception)",
        ),
        (Level::Fatal, r"(?:^|\s)(?:Segmentation fault|Illegal instruction|Bus error|Aborted|Killed)(?: \(core dumped\))?$"),
        (Level::Fatal, r"(?i)^(?:[\w./-]+: )?(?:fatal|panic|critical|uncaught exception|unhandled rejection)[:!]"),
        (Level::Error, r"(?i)^(?:[\w./-]+: )*(?:fatal )?error\b[:!]"),
        (Level::Error, r"^(?:[a-z_]\w*[.$])*[A-Z]\w*(?:Error|Exception)(?: \[\w+\])?(?::|$)"),
        (Level::Warning, r"(?i)^(?:[\w./-]+: )?warning: "),
        // klog of Go: E1130 12:00:00.000000 1 file.go:12] message
        (Level::Fatal, r"^F\d{4} \d\d:\d\d:\d\d"),
        (Level::Error, r"^E\d{4} \d\d:\d\d:\d\d"),
        (Level::Warning, r"^W\d{4} \d\d:\d\d:\d\d"),
        // zap and slog, separated by tabs
        (Level::Fatal, r"\t(?:fatal|panic|dpanic)\t"),
        (Level::Error, r"\terror\t"),
        (Level::Warning, r"\twarn\t"),
    ];
    patterns.into_iter().map(|(level, text)| (level, Regex::new(text).expect("constant pattern"))).collect()
});

#[expect(clippy::expect_used, reason = "constant patterns, compiled by a test")]
static LOGFMT: LazyLock<[Regex; 3]> = LazyLock::new(|| {
    let value = r#"(?:"((?:[^"\\]|\\.)*)"|(\S+))"#;
    ["(?:level|lvl|severity)", "(?:msg|message)", "(?:err|error)"]
        .map(|name| Regex::new(&format!("(?:^|\\s){name}={value}")).expect("constant pattern"))
});

fn of_word(word: &str) -> Option<Level> {
    Some(match word.to_ascii_lowercase().as_str() {
        "panic" | "dpanic" | "fatal" | "critical" | "crit" | "alert" | "emerg" | "emergency" | "f" => Level::Fatal,
        "error" | "err" | "severe" | "e" => Level::Error,
        "warning" | "warn" | "w" => Level::Warning,
        "info" | "information" | "notice" | "debug" | "trace" | "i" | "d" | "verbose" => Level::Info,
        _ => return None,
    })
}

/// The severity of a line, and its message without the frame of JSON or logfmt.
pub(super) fn parse(line: &str) -> Parsed {
    if let Some(parsed) = json(line).or_else(|| logfmt(line)) {
        return parsed;
    }
    let head: String = line.chars().take(HEAD).collect();
    let level = PATTERNS.iter().filter(|(_, p)| p.is_match(&head)).map(|(level, _)| *level).max().unwrap_or_default();
    Parsed { level, text: line.to_owned() }
}

fn json(line: &str) -> Option<Parsed> {
    let serde_json::Value::Object(fields) = serde_json::from_str(line.trim_start().strip_prefix('{').map(|_| line)?).ok()? else {
        return None;
    };
    let of_names = |names: &[&str]| names.iter().find_map(|name| fields.get(*name));
    let word = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => of_word(text),
        serde_json::Value::Number(n) => {
            NUMBERS.iter().find(|(from, _)| n.as_i64().is_some_and(|n| n >= *from)).map(|(_, level)| *level)
        }
        serde_json::Value::Object(inner) => inner.get("level").and_then(|l| l.as_str()).and_then(of_word),
        _ => None,
    };
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Object(inner) => {
            ["message", "msg", "error"].iter().find_map(|name| inner.get(*name)?.as_str()).map(str::to_owned)
        }
        _ => None,
    };
    let level = of_names(&["level", "severity", "lvl", "levelname", "log.level", "@level", "s", "Level", "LogLevel", "log"]);
    let message = of_names(&["msg", "message", "@message", "Message", "event", "text"]).and_then(text)?;
    // MongoDB keeps the error among its attributes
    let detail = of_names(&["err", "error", "exception", "Exception", "attr", "exc_info"]).and_then(text);
    let text = match detail {
        Some(detail) if !message.contains(detail.as_str()) => format!("{message}: {detail}"),
        _ => message,
    };
    Some(Parsed { level: level.and_then(word).unwrap_or_default(), text })
}

fn logfmt(line: &str) -> Option<Parsed> {
    let value = |pattern: &Regex| {
        let found = pattern.captures(line)?;
        Some(found.get(1).or_else(|| found.get(2))?.as_str().replace("\\\"", "\""))
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
    Some(Parsed { level, text })
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("E1130 10:00:00.000000       1 main.go:12] failed to list", Level::Error),
            ("{\"level\":\"error\",\"msg\":\"cannot open\",\"err\":\"EACCES\"}", Level::Error),
            ("{\"level\":60,\"msg\":\"down\"}", Level::Fatal),
            ("ts=2026-11-30 level=error msg=\"send failed\" err=\"no such host\"", Level::Error),
            ("2026-11-30 10:00:00 WARNING disk nearly full", Level::Warning),
            ("./run.sh: line 3: 12 Segmentation fault      (core dumped) ./app", Level::Info),
            ("Segmentation fault (core dumped)", Level::Fatal),
            ("INFO starting 1", Level::Info),
            ("loaded 0 errors, ERROR_LOG=/var/log/x", Level::Info),
            ("GET /error 200", Level::Info),
        ] {
            assert_eq!(parse(line).level, expected, "{line}");
        }
    }

    #[test]
    fn message_of_structured_lines() {
        assert_eq!(parse("{\"level\":\"error\",\"msg\":\"cannot open\",\"err\":\"EACCES\"}").text, "cannot open: EACCES");
        assert_eq!(parse("level=error msg=\"send failed\" err=\"no such host\"").text, "send failed: no such host");
    }
}
