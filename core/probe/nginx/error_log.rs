//! Lines of an error log: `2026/11/21 13:00:00 [error] 12#12: *34 connect() failed (111: Connection refused) while connecting to upstream, …`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// Signals of an error log: the name, and the beginning of the message. The texts are those of nginx 1.18 to 1.28
/// (`ngx_http_upstream.c`, `ngx_event_accept.c`, `ngx_connection.c`).
///
/// A client chooses parts of a message: the path in `open() "/srv/PATH" failed (2: …)`, the request and the referrer behind it. No pattern
/// reaches them.
const SIGNALS: &[(&str, &str)] = &[
    ("connections-exhausted", r"^\d+ worker_connections are not enough"),
    ("no-live-upstreams", r"^no live upstreams while connecting to upstream"),
    ("refused", r"^connect\(\) (?:to unix:[^ ]+ )?failed \(111: [^)]*\) while connecting to upstream"),
    ("unreachable", r"^connect\(\) (?:to unix:[^ ]+ )?failed \(113: [^)]*\) while connecting to upstream"),
    ("timed-out", r"^upstream timed out \(110: "),
    ("closed-early", r"^upstream prematurely closed connection"),
    ("reset", r"^(?:recv|send|readv|writev|sendfile)\(\) failed \(104: [^)]*\) while [a-z ]* upstream"),
    ("header-too-big", r"^upstream sent too big header"),
    ("body-too-large", r"^client intended to send too large body"),
    ("upstream-tls", r#"^SSL_do_handshake\(\) failed [^"]* while SSL handshaking to upstream"#),
];

/// Signals of a shortage: the error of a system call. nginx logs a missing file, whose path the client chooses, at level `error`; these are
/// logged at `crit` or `alert`.
const SHORTAGES: &[(&str, &str)] =
    &[("files-exhausted", "(24: Too many open files)"), ("no-space", "(28: No space left on device)")];

#[expect(clippy::expect_used, reason = "constant patterns, compiled by a test")]
static PATTERNS: LazyLock<Vec<(&str, Regex)>> =
    LazyLock::new(|| SIGNALS.iter().map(|(kind, pattern)| (*kind, Regex::new(pattern).expect("constant pattern"))).collect());

/// `2026/11/21 13:00:00 [error] 12#12: *34 MESSAGE`: level and message.
#[expect(clippy::expect_used, reason = "constant pattern, compiled by a test")]
static LINE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[([a-z]+)\] \d+#\d+: (?:\*\d+ )?(.*)$").expect("constant pattern")
});

/// The signal of a line.
fn signal_of(level: &str, message: &str) -> Option<&'static str> {
    if let Some((kind, _)) = PATTERNS.iter().find(|(_, pattern)| pattern.is_match(message)) {
        return Some(kind);
    }
    let head = message.split(", client: ").next().unwrap_or_default();
    let severe = matches!(level, "crit" | "alert" | "emerg");
    let shortage = SHORTAGES.iter().find(|(_, text)| severe && head.contains(text)).map(|(kind, _)| *kind);
    shortage.or((level == "emerg").then_some("emergency"))
}

/// One kind of message of an error log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Signal {
    /// Name of the signal.
    pub kind: String,
    /// Number of lines.
    pub count: u64,
    /// Last line, without client data.
    pub last: String,
}

/// Signals of the last minutes of an error log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Errors {
    /// By kind, the most frequent first.
    pub signals: Vec<Signal>,
    /// Upstream addresses with failed connections, and their number.
    pub upstreams: BTreeMap<String, u64>,
}

#[expect(clippy::expect_used, reason = "constant pattern, compiled by a test")]
static UPSTREAM: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"upstream: "(?:[a-z]+://)?([0-9.]+:\d+|\[[0-9a-f:]+\]:\d+|unix:[^:"]+)"#).expect("constant pattern")
});

/// Time of a line, in the time zone of the process that wrote it.
pub(super) fn time(line: &[u8], zone: &TimeZone) -> Option<Timestamp> {
    let text = std::str::from_utf8(line.get(..19)?).ok()?;
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i8>().ok();
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

/// Adds the signals of these lines.
pub(super) fn count(lines: &[u8], errors: &mut Errors) {
    for line in lines.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
        let text = String::from_utf8_lossy(line);
        let Some(parts) = LINE.captures(&text) else { continue };
        let Some(kind) = signal_of(&parts[1], &parts[2]) else { continue };
        let known = errors.signals.iter().position(|s| s.kind == kind);
        let at = known.unwrap_or_else(|| {
            errors.signals.push(Signal { kind: kind.to_owned(), ..Signal::default() });
            errors.signals.len() - 1
        });
        let signal = &mut errors.signals[at];
        signal.count += 1;
        signal.last = without_client(&text);
        if let Some(upstream) = UPSTREAM.captures(&text).and_then(|c| c.get(1))
            && (errors.upstreams.len() < 200 || errors.upstreams.contains_key(upstream.as_str()))
        {
            *errors.upstreams.entry(upstream.as_str().to_owned()).or_default() += 1;
        }
    }
    errors.signals.sort_by(|a, b| b.count.cmp(&a.count).then(a.kind.cmp(&b.kind)));
}

/// The line without client data: addresses, requests with their queries, referrers, and quoted paths.
fn without_client(text: &str) -> String {
    let (head, rest) = text.split_once(", client: ").unwrap_or((text, ""));
    let head: String = match head.split_once('"') {
        Some((before, _)) => format!("{before}\"…\""),
        None => head.to_owned(),
    };
    let server = rest.split(", ").find(|part| part.starts_with("server: ")).map(|s| format!(", {s}")).unwrap_or_default();
    // `upstream: "http://10.0.0.3:80/path?token"`: only the address is kept
    let upstream = UPSTREAM.captures(rest).map(|c| format!(", upstream: {}", &c[1])).unwrap_or_default();
    format!("{}{server}{upstream}", head.chars().take(300).collect::<String>())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const REFUSED: &str = "2026/11/21 13:00:00 [error] 12#12: *34 connect() failed (111: Connection refused) while connecting to upstream, client: 10.0.0.1, server: a.org, request: \"GET /x?token=canary HTTP/1.1\", upstream: \"http://172.18.0.3:8080/x?token=canary\", host: \"a.org\"";

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
        let mut e = Errors::default();
        count(text.as_bytes(), &mut e);
        let kinds: Vec<(&str, u64)> = e.signals.iter().map(|s| (s.kind.as_str(), s.count)).collect();
        assert_eq!(kinds, [("refused", 2), ("connections-exhausted", 1), ("timed-out", 1)]);
        assert_eq!(e.upstreams, BTreeMap::from([("172.18.0.3:8080".to_owned(), 2), ("172.18.0.9:80".to_owned(), 1)]));
        let json = serde_json::to_string(&e).unwrap();
        assert!(!json.contains("canary") && !json.contains("10.0.0.1"), "{json}");
        assert!(e.signals[0].last.ends_with("server: a.org, upstream: 172.18.0.3:8080"), "{}", e.signals[0].last);
    }

    #[test]
    fn text_of_clients_is_no_signal() {
        let line = |level: &str, message: &str| {
            format!("2026/11/21 13:00:00 [{level}] 12#12: *3 {message}, client: 10.0.0.1, server: a.org")
        };
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
        let mut e = Errors::default();
        count(text.join("\n").as_bytes(), &mut e);
        assert_eq!(e, Errors::default());
    }

    #[test]
    fn shortages_are_counted_by_their_level() {
        let text = "2026/11/21 13:00:00 [crit] 12#12: *3 pwrite() \"/var/lib/nginx/body/0000000001\" failed (28: No space left on device), client: 10.0.0.1, server: a.org
2026/11/21 13:00:00 [alert] 12#12: accept4() failed (24: Too many open files)
2026/11/21 13:00:00 [emerg] 1#1: bind() to 0.0.0.0:80 failed (98: Address already in use)";
        let mut e = Errors::default();
        count(text.as_bytes(), &mut e);
        let kinds: Vec<&str> = e.signals.iter().map(|s| s.kind.as_str()).collect();
        assert_eq!(kinds, ["emergency", "files-exhausted", "no-space"]);
        assert!(e.signals[2].last.ends_with("pwrite() \"…\", server: a.org"), "{}", e.signals[2].last);
    }

    #[test]
    fn times_use_the_time_zone_of_the_process() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(time(REFUSED.as_bytes(), &zone).unwrap().to_string(), "2026-11-21T11:00:00Z");
        assert_eq!(time(b"[error] nothing of the kind", &zone), None);
    }
}
