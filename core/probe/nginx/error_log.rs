//! Lines of an error log: `2026/11/21 13:00:00 [error] 12#12: *34 connect() failed (111: Connection refused) while connecting to upstream, …`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// Signals of an error log: the name, and texts that a line has to contain. The texts are those of nginx 1.18 to 1.28
/// (`ngx_http_upstream.c`, `ngx_event_accept.c`, `ngx_connection.c`).
const SIGNALS: &[(&str, &[&str])] = &[
    ("connections-exhausted", &["worker_connections are not enough"]),
    ("files-exhausted", &["24: Too many open files"]),
    ("no-live-upstreams", &["no live upstreams while connecting to upstream"]),
    ("refused", &["(111: ", "while connecting to upstream"]),
    ("unreachable", &["(113: ", "while connecting to upstream"]),
    ("timed-out", &["upstream timed out (110: "]),
    ("closed-early", &["upstream prematurely closed connection"]),
    ("reset", &["(104: ", "from upstream"]),
    ("header-too-big", &["upstream sent too big header"]),
    ("body-too-large", &["client intended to send too large body"]),
    ("upstream-tls", &["SSL_do_handshake() failed", "while SSL handshaking to upstream"]),
    ("no-space", &["(28: No space left on device)"]),
    ("emergency", &["[emerg]"]),
];

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
        let Some((kind, _)) = SIGNALS.iter().find(|(_, words)| words.iter().all(|w| text.contains(w))) else { continue };
        let known = errors.signals.iter().position(|s| s.kind == *kind);
        let at = known.unwrap_or_else(|| {
            errors.signals.push(Signal { kind: (*kind).to_owned(), ..Signal::default() });
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

/// The line without client data: addresses, requests with their queries, referrers.
fn without_client(text: &str) -> String {
    let kept = text
        .split(", ")
        .filter(|part| !["client: ", "request: ", "referrer: ", "subrequest: "].iter().any(|p| part.starts_with(p)));
    let short: String = kept.collect::<Vec<_>>().join(", ").chars().take(300).collect();
    // `upstream: "http://10.0.0.3:80/path?token"`: only the address is kept
    match (short.find("upstream: \""), UPSTREAM.captures(&short)) {
        (Some(at), Some(c)) => format!("{}upstream: {}", &short[..at], &c[1]),
        _ => short,
    }
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
        let said = serde_json::to_string(&e).unwrap();
        assert!(!said.contains("canary") && !said.contains("10.0.0.1"), "{said}");
        assert!(e.signals[0].last.ends_with("server: a.org, upstream: 172.18.0.3:8080"), "{}", e.signals[0].last);
    }

    #[test]
    fn times_use_the_time_zone_of_the_process() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(time(REFUSED.as_bytes(), &zone).unwrap().to_string(), "2026-11-21T11:00:00Z");
        assert_eq!(time(b"[error] nothing of the kind", &zone), None);
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let mut e = Errors::default();
            count(&bytes, &mut e);
            let _ = time(&bytes, &TimeZone::UTC);
        }
    }
}
