//! Counting of failures in an access log at memory speed: lines are counted and searched with SIMD, and only matching lines are
//! parsed.

use std::collections::BTreeMap;

use memchr::memchr_iter;
use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};

use super::LogFormat;
use super::log_format::status_of;

/// Limit of different keys per map.
const MAX_KEYS: usize = 200;

/// Counts of a part of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Requests {
    /// All requests.
    pub all: u64,
    /// Failed requests (500 to 599) by status.
    pub failed: BTreeMap<u16, u64>,
    /// Requests closed by the client before the response (499): slow, not failed.
    pub gave_up: u64,
    /// Failed requests by upstream address.
    pub by_upstream: BTreeMap<String, u64>,
    /// Failed requests by host name.
    pub by_host: BTreeMap<String, u64>,
    /// Failed requests by the beginning of the path, without its query.
    pub by_path: BTreeMap<String, u64>,
}

impl Requests {
    /// All failed requests.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Adds another part.
    pub fn add(&mut self, other: &Self) {
        self.all += other.all;
        self.gave_up += other.gave_up;
        for (status, n) in &other.failed {
            *self.failed.entry(*status).or_default() += n;
        }
        for (counts, added) in [
            (&mut self.by_upstream, &other.by_upstream),
            (&mut self.by_host, &other.by_host),
            (&mut self.by_path, &other.by_path),
        ] {
            for (key, n) in added {
                count(counts, key, *n);
            }
        }
    }
}

fn count(map: &mut BTreeMap<String, u64>, key: &str, n: u64) {
    if let Some(known) = map.get_mut(key) {
        *known += n;
    } else if map.len() < MAX_KEYS {
        map.insert(key.to_owned(), n);
    }
}

/// Counter of a scan.
#[derive(Debug, Clone)]
pub struct Scanner {
    format: LogFormat,
    failed: Finder<'static>,
    /// Not searched for in a complete scan: it would be an additional pass.
    gave_up: Option<Finder<'static>>,
    /// Positions of the used variables in the format, and the last of them.
    status: usize,
    agent: Option<usize>,
    upstream: Option<usize>,
    host: Option<usize>,
    request: Option<usize>,
    path: Option<usize>,
    last: usize,
}

impl Scanner {
    /// For lines of this format.
    #[must_use]
    pub fn new(format: LogFormat) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|n| format.index(n));
        let status = first(&["status"]).unwrap_or_default();
        let (agent, upstream) = (first(&["http_user_agent"]), first(&["upstream_addr"]));
        let (host, request) = (first(&["host", "server_name", "http_host"]), first(&["request"]));
        let path = first(&["request_uri", "uri"]);
        let last = [Some(status), agent, upstream, host, request, path].into_iter().flatten().max().unwrap_or_default();
        let (failed, gave_up) = (format.needle("5"), Some(format.needle("499")));
        Self { format, failed, gave_up, status, agent, upstream, host, request, path, last }
    }

    /// Without requests closed by the client (499).
    #[must_use]
    pub fn only_failures(mut self) -> Self {
        self.gave_up = None;
        self
    }

    /// The log format.
    #[must_use]
    pub fn format(&self) -> &LogFormat {
        &self.format
    }

    /// Counts complete lines. The last one may have no line break.
    pub fn scan(&self, lines: &[u8], into: &mut Requests) {
        into.all += memchr_iter(b'\n', lines).count() as u64 + u64::from(lines.last().is_some_and(|b| *b != b'\n'));
        if let Some(gave_up) = &self.gave_up {
            for_each_line(gave_up, lines, |line| {
                if self.format.status(line) == Some(499) {
                    into.gave_up += 1;
                }
            });
        }
        let mut values = Vec::with_capacity(self.last + 1);
        for_each_line(&self.failed, lines, |line| {
            if self.format.split(line, self.last, &mut values).is_some() {
                self.failure(&values, into);
            }
        });
    }

    fn failure(&self, values: &[&[u8]], into: &mut Requests) {
        let Some(status @ 500..=599) = values.get(self.status).and_then(|v| status_of(v)) else { return };
        let value = |index: Option<usize>| index.and_then(|i| values.get(i)).map(|v| String::from_utf8_lossy(v));
        // requests of opsctl itself must not be counted
        if value(self.agent).is_some_and(|agent| agent.starts_with("opsctl/")) {
            return;
        }
        *into.failed.entry(status).or_default() += 1;
        // the response is from the upstream that was tried last
        if let Some(upstreams) = value(self.upstream)
            && let Some(upstream) = upstreams.rsplit([',', ' ']).next().filter(|u| *u != "-" && !u.is_empty())
        {
            count(&mut into.by_upstream, upstream, 1);
        }
        if let Some(host) = value(self.host) {
            count(&mut into.by_host, &host, 1);
        }
        if let Some(request) = value(self.request)
            && let Some(path) = request.split(' ').nth(1)
        {
            count(&mut into.by_path, &beginning(path), 1);
        } else if let Some(path) = value(self.path) {
            count(&mut into.by_path, &beginning(&path), 1);
        }
    }
}

/// Calls `line` once for every line that contains the needle.
fn for_each_line<'l>(needle: &Finder<'_>, lines: &'l [u8], mut line: impl FnMut(&'l [u8])) {
    let mut from = 0;
    while let Some(at) = needle.find(&lines[from..]).map(|at| from + at) {
        let start = memchr::memrchr(b'\n', &lines[..at]).map_or(0, |n| n + 1);
        let end = memchr::memchr(b'\n', &lines[at..]).map_or(lines.len(), |n| at + n);
        line(&lines[start..end]);
        from = end;
    }
}

/// First two segments of a path. The rest and the query may contain a token or a user name.
pub(super) fn beginning(path: &str) -> String {
    let path = path.split(['?', '#', ';']).next().unwrap_or_default();
    let mut out = String::new();
    for part in path.split('/').filter(|p| !p.is_empty()).take(2) {
        out.push('/');
        let telling = part.len() <= 24 && part.bytes().filter(u8::is_ascii_digit).count() <= 3;
        out.push_str(if telling { part } else { "…" });
    }
    if out.is_empty() { "/".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::COMBINED;
    use super::*;

    fn line(status: u16, path: &str, agent: &str) -> String {
        format!("10.0.0.1 - - [21/Nov/2026:13:37:12 +0000] \"GET {path} HTTP/1.1\" {status} 5 \"-\" \"{agent}\"\n")
    }

    fn scanned(text: &str) -> Requests {
        let mut requests = Requests::default();
        Scanner::new(LogFormat::new(COMBINED).unwrap()).scan(text.as_bytes(), &mut requests);
        requests
    }

    #[test]
    fn failures_are_counted_and_grouped() {
        let text = [
            line(200, "/", "x"),
            line(502, "/api/orders/1?token=s", "x"),
            line(502, "/api/orders/2", "x"),
            line(500, "/user/1234567", "x"),
            line(499, "/", "x"),
            line(503, "/health", "opsctl/0.1.0"),
            line(404, "/a", "500 \\x22 503 "),
        ]
        .concat();
        let r = scanned(text.trim_end());
        assert_eq!((r.all, r.failures(), r.gave_up), (7, 3, 1));
        assert_eq!(r.failed, BTreeMap::from([(500, 1), (502, 2)]));
        assert_eq!(r.by_path, BTreeMap::from([("/api/orders".to_owned(), 2), ("/user/…".to_owned(), 1)]));
        let mut twice = r.clone();
        twice.add(&r);
        assert_eq!((twice.all, twice.failures()), (14, 6));
    }

    #[test]
    fn failure_is_attributed_to_the_last_upstream() {
        let format = LogFormat::new("$status $upstream_addr|$host").unwrap();
        let mut r = Requests::default();
        Scanner::new(format).scan(b"502 10.0.0.1:80, 10.0.0.2:80|a.org\n200 -|a.org\n503 -|a.org\n", &mut r);
        assert_eq!(r.by_upstream, BTreeMap::from([("10.0.0.2:80".to_owned(), 1)]));
        assert_eq!(r.by_host, BTreeMap::from([("a.org".to_owned(), 2)]));
    }
}
