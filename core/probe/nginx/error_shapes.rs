//! Shapes of the messages in an error log, and the parts of a line that clients cannot choose.
//!
//! The texts are those of nginx 1.18 to 1.28 (`ngx_http_upstream.c`, `ngx_event_connect.c`, `ngx_file.c`, `ngx_process.c`,
//! `ngx_resolver.c`). nginx quotes all text of clients (paths, users, requests, referrers), and appends the client to the
//! message. The head of a message, before the first quotation mark and before `, client: `, is therefore text of nginx. The
//! exceptions are host names from variables and messages of scripts.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use jiff::Timestamp;
use regex::{Regex, RegexSet};

use super::Config;

/// Signals: the name, and the beginning of the head. The first that matches counts. Signals without a meaning in the checks are
/// harmless, or errors of clients.
const SHAPES: &[(&str, &str)] = &[
    ("stapling", r" while requesting certificate status"),
    ("stapling", r"^(?:OCSP|ssl_stapling)"),
    ("connections-exhausted", r"^\d+ worker_connections are not enough"),
    ("no-live-upstreams", r"^no live upstreams while connecting to upstream"),
    ("socket-denied", r"^connect\(\) to unix:[^ ]+ failed \(13: [A-Za-z -]*\) while connecting to upstream"),
    ("socket-missing", r"^connect\(\) to unix:[^ ]+ failed \(2: [A-Za-z -]*\) while connecting to upstream"),
    ("backlog-full", r"^connect\(\) to unix:[^ ]+ failed \(11: [A-Za-z -]*\) while connecting to upstream"),
    ("connect-denied", r"^connect\(\) (?:to [^ ]+ )?failed \((?:1|13): [A-Za-z -]*\) while connecting to upstream"),
    ("no-ipv6", r"^connect\(\) to \[[^ ]+ failed \(99: [A-Za-z -]*\) while connecting to upstream"),
    ("ports-exhausted", r"^connect\(\) (?:to [^ ]+ )?failed \(99: [A-Za-z -]*\) while connecting to upstream"),
    ("ports-exhausted", r"^bind\([0-9a-f.:]*\) failed \(98: [A-Za-z -]*\) while connecting to upstream"),
    ("refused", r"^connect\(\) (?:to [^ ]+ )?failed \(111: [A-Za-z -]*\) while connecting to upstream"),
    ("unreachable", r"^connect\(\) (?:to [^ ]+ )?failed \((?:101|113): [A-Za-z -]*\) while connecting to upstream"),
    ("timed-out", r"^connect\(\) (?:to [^ ]+ )?failed \(110: [A-Za-z -]*\) while connecting to upstream"),
    ("timed-out", r"^upstream timed out \(110: [A-Za-z -]*\)"),
    ("closed-early", r"^upstream prematurely closed connection"),
    ("reset", r"^(?:recv|send|readv|writev|sendfile)\(\) failed \(104: [A-Za-z -]*\) while [a-z ]* upstream"),
    ("header-too-big", r"^upstream sent too big header"),
    ("body-too-large", r"^client intended to send too large body"),
    ("upstream-certificate-expired", r"^upstream SSL certificate verify error: \(10:[A-Za-z -]*\)"),
    ("upstream-certificate", r"^upstream SSL certificate verify error: \(\d+:[A-Za-z -]*\)"),
    ("upstream-certificate", r"^upstream SSL certificate does not match"),
    ("upstream-tls", r"^SSL_do_handshake\(\) failed .* while SSL handshaking to upstream"),
    // handshakes and connections of clients
    ("client-tls", r"^SSL_[a-z_]+\(\) failed "),
    ("rewrite-cycle", r"^rewrite or internal redirection cycle"),
    ("epoll", r"^epoll_[a-z0-9]+\([A-Z0-9, ]*\) failed \(\d+: [A-Za-z ]*\)"),
    ("worker-killed", r"^(?:worker|cache manager|cache loader) process \d+ exited on signal 9\b"),
    ("worker-crashed", r"^(?:worker|cache manager|cache loader) process \d+ exited on signal (?:4|5|6|7|8|11|31)\b"),
    // stopped by hand
    ("worker-stopped", r"^(?:worker|cache manager|cache loader) process \d+ exited on signal \d+"),
    ("worker-fatal", r"^(?:worker|cache manager|cache loader) process \d+ exited with fatal code \d+ and cannot be respawned"),
    ("fork-failed", r"^fork\(\) failed while spawning"),
    ("zero-size-buf", r"^zero size buf in [a-z]+"),
    ("limited", r"^limiting (?:connections|requests)"),
    ("resolver", r"^(?:connect|send|recv)\(\) failed \(\d+: [A-Za-z -]*\) while resolving"),
    ("no-resolver", r"^no resolver defined to resolve"),
    ("unresolved", r"^[^ ]+ could not be resolved \(\d+: [A-Za-z ]+\)"),
    // at the end of a worker
    ("leaked", r"^(?:open socket #\d+ left in connection \d+|aborting$)"),
    // configuration: a start, a reload or `nginx -t`
    ("names-hash", r"^could not build (?:the )?[a-z_]+_hash, you should increase (?:either )?[a-z_]+: \d+(?: or [a-z_]+: \d+)?"),
    ("key-mismatch", r"^SSL_CTX_use_PrivateKey\("),
];

/// Signals of healthy servers and of clients, which are not counted.
pub(super) const HARMLESS: &[&str] = &["stapling", "client-tls", "worker-stopped", "leaked", "cache-missing"];

/// Signals with lines that report the configuration, not requests.
pub const CONFIGURATION_SIGNALS: &[&str] = &["names-hash", "key-mismatch", "emergency"];

/// Messages of level `error` that are caused by requests, by the head: their responses are 4xx.
const BY_CLIENTS: &str = r"^(?:access forbidden by rule|directory index of $|user $|no user/password was provided|client |delaying request|ModSecurity: |peer closed connection)";

/// A failed call without a quoted path: `accept4() failed (24: Too many open files)`, `malloc(4096) failed (12: …)`.
const FAILED_CALL: &str = r"^[A-Za-z0-9_]+\([A-Z0-9_|, ]{0,60}\) failed \((\d+): [A-Za-z][A-Za-z ,/'-]{0,60}\)";

/// A failed call with a quoted path: `open() "PATH" failed (13: Permission denied)`.
const FAILED_ON_PATH: &str = r#"^([a-z0-9_]+)\(\) "([^"]*)" (failed \((\d+): [A-Za-z][A-Za-z ,/'-]{0,60}\))"#;

/// The error behind the last quoted path.
const FAILED: &str = r#"" (failed \(\d+: [A-Za-z][A-Za-z ,/'-]{0,60}\)(?: while [A-Za-z ]{1,80})?)"#;

/// The operation behind an error.
const WHILE: &str = r"^ while [A-Za-z ]{1,80}";

/// Messages of scripts: the text behind the position of the script can be of a client.
const SCRIPT: &str = r"^(?:\[lua\] [^ ]+:\d+:|lua [a-z ]+ thread aborted: [a-z ]+ error: [^ ]+:\d+:|js: |js exception: )";

/// `2026/11/21 13:00:00 [error] 12#12: *34 MESSAGE`: everything before the message, the level, the message.
const LINE: &str = r"^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[([a-z]+)\] \d+#\d+: (?:\*\d+ )?)(.*)$";

/// The address of an upstream.
const UPSTREAM: &str = r#", upstream: "(?:[a-z]+://)?([0-9.]+:\d+|\[[0-9a-f:]+\]:\d+|unix:[^:"]+)"#;

/// The address of a name server.
const RESOLVER: &str = r", resolver: ([0-9A-Fa-f.:\[\]]+)$";

/// The path of a unix socket.
const SOCKET: &str = r" to unix:([^ ]+) failed";

/// Length of a line in bytes from which nginx may have cut it (`NGX_MAX_ERROR_STR`): the end of its message can be missing.
const MAX_COMPLETE_BYTES: usize = 1990;

/// Limit of the characters of a quoted line.
const MAX_QUOTE: usize = 300;

struct Patterns {
    shapes: RegexSet,
    of_shape: Vec<Regex>,
    by_clients: Regex,
    failed_call: Regex,
    failed_on_path: Regex,
    failed: Regex,
    operation: Regex,
    script: Regex,
    line: Regex,
    upstream: Regex,
    resolver: Regex,
    socket: Regex,
}

#[expect(clippy::expect_used, reason = "constant patterns, compiled by a test")]
static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let pattern = |text: &str| Regex::new(text).expect("constant pattern");
    Patterns {
        shapes: RegexSet::new(SHAPES.iter().map(|(_, shape)| *shape)).expect("constant patterns"),
        of_shape: SHAPES.iter().map(|(_, shape)| pattern(shape)).collect(),
        by_clients: pattern(BY_CLIENTS),
        failed_call: pattern(FAILED_CALL),
        failed_on_path: pattern(FAILED_ON_PATH),
        failed: pattern(FAILED),
        operation: pattern(WHILE),
        script: pattern(SCRIPT),
        line: pattern(LINE),
        upstream: pattern(UPSTREAM),
        resolver: pattern(RESOLVER),
        socket: pattern(SOCKET),
    }
});

/// Directories of temporary files in packages and images, used unless the configuration sets others.
const DEFAULT_DIRECTORIES: &[(&str, &[&str])] = &[
    ("/var/lib/nginx", &["body", "proxy", "fastcgi", "uwsgi", "scgi"]),
    ("/var/lib/nginx/tmp", &["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]),
    ("/var/cache/nginx", &["client_temp", "proxy_temp", "fastcgi_temp", "uwsgi_temp", "scgi_temp"]),
    ("/usr/local/nginx", &["client_body_temp", "proxy_temp", "fastcgi_temp", "uwsgi_temp", "scgi_temp"]),
    ("/usr/local/openresty/nginx", &["client_body_temp", "proxy_temp", "fastcgi_temp", "uwsgi_temp", "scgi_temp"]),
];

/// Names and paths of the configuration. Elsewhere in a message the same text could be of a client.
#[derive(Debug, Clone, Default)]
pub(super) struct Configured {
    /// Paths of the unix sockets of upstreams.
    sockets: BTreeSet<String>,
    /// Directories of temporary files and caches.
    directories: Vec<String>,
    /// Host names in lower case.
    names: BTreeSet<String>,
}

impl Configured {
    pub(super) fn of(config: &Config) -> Self {
        let default = DEFAULT_DIRECTORIES.iter().flat_map(|(parent, names)| names.iter().map(move |n| format!("{parent}/{n}")));
        let hosts = config.backends.iter().map(|b| &b.host).chain(&config.names);
        Self {
            sockets: config.backends.iter().filter_map(|b| b.unix.clone()).collect(),
            directories: config.own_directories.iter().cloned().chain(default).collect(),
            names: hosts.filter(|h| !h.is_empty()).map(|h| h.to_ascii_lowercase()).collect(),
        }
    }

    /// The directory of a temporary file or of a file of a cache: `proxy/1/00/0000000001`.
    fn directory_of(&self, path: &str) -> Option<&str> {
        let holds = |directory: &&String| {
            let rest = path.strip_prefix(directory.as_str()).and_then(|rest| rest.strip_prefix('/'));
            rest.is_some_and(|r| !r.is_empty() && r.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b'/' | b'.')))
        };
        self.directories.iter().find(holds).map(String::as_str)
    }

    fn has_name(&self, host: &str) -> bool {
        self.names.contains(&host.to_ascii_lowercase())
    }
}

/// A line of an error log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'l> {
    /// The complete line.
    text: &'l str,
    /// Time, level, process and connection.
    prefix: &'l str,
    pub(super) level: &'l str,
    message: &'l str,
    /// The part of the message before the first quotation mark and before the client.
    head: &'l str,
}

/// A signal in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) kind: &'static str,
    /// The object that the line names, as it is in the configuration: a path of a socket, a directory, a host name, a name
    /// server.
    pub(super) object: Option<String>,
    /// The text of nginx.
    quote: String,
}

impl<'l> Record<'l> {
    pub(super) fn parse(text: &'l str) -> Option<Self> {
        let parts = PATTERNS.line.captures(text)?;
        let part = |n: usize| parts.get(n).map(|m| m.as_str());
        let (prefix, level, message) = (part(1)?, part(2)?, part(3)?);
        let end = [message.find('"'), message.find(", client: ")].into_iter().flatten().min().unwrap_or(message.len());
        Some(Self { text, prefix, level, message, head: &message[..end] })
    }

    /// The time of the line.
    pub(super) fn time(&self, zone: &jiff::tz::TimeZone) -> Option<Timestamp> {
        super::error_log::time(self.text.as_bytes(), zone)
    }

    /// Whether its level is that of an error or a warning.
    pub(super) fn is_logged_fault(&self) -> bool {
        !matches!(self.level, "notice" | "info" | "debug")
    }

    fn is_severe(&self) -> bool {
        matches!(self.level, "crit" | "alert" | "emerg")
    }

    fn is_cut(&self) -> bool {
        self.text.len() >= MAX_COMPLETE_BYTES
    }

    /// Whether the head ends at a quoted text, which can be of a client and can contain line breaks.
    pub(super) fn has_quoted_text(&self) -> bool {
        self.message[self.head.len()..].starts_with('"')
    }

    /// Whether its text can contain line breaks that no later part of the line shows: output of scripts and applications.
    pub(super) fn has_foreign_output(&self) -> bool {
        self.head.starts_with("FastCGI sent in stderr: ") || PATTERNS.script.is_match(self.head)
    }

    /// Whether it has one error behind a quoted path. A client that writes such an error into its path makes it ambiguous.
    fn has_one_failure(&self) -> bool {
        !self.is_cut() && self.message.matches("\" failed (").count() == 1
    }

    /// The signal of the line.
    pub(super) fn signal(&self, configured: &Configured) -> Option<Found> {
        self.shape(configured).or_else(|| self.failed_call(configured)).or_else(|| {
            let quote = "…".to_owned();
            (self.level == "emerg").then_some(Found { kind: "emergency", object: None, quote })
        })
    }

    fn shape(&self, configured: &Configured) -> Option<Found> {
        let at = PATTERNS.shapes.matches(self.head).into_iter().next()?;
        let kind = SHAPES.get(at)?.0;
        if kind == "client-tls" && self.head.contains("upstream") {
            return None;
        }
        let fixed = PATTERNS.of_shape.get(at)?.find(self.head)?;
        let rest = &self.head[fixed.end()..];
        let operation = PATTERNS.operation.find(rest).map_or("", |m| m.as_str());
        // `while internally redirecting to "PATH"`
        let quoted = if self.has_quoted_text() && operation.len() == rest.len() { "\"…\"" } else { "" };
        let quote = format!("{}{operation}{quoted}", fixed.as_str()).trim_end().to_owned();
        let mut found = Found { kind, object: None, quote };
        if let Some(path) = PATTERNS.socket.captures(self.head).and_then(|c| c.get(1)) {
            if configured.sockets.contains(path.as_str()) {
                found.object = Some(path.as_str().to_owned());
            } else {
                found.quote = found.quote.replacen(&format!("unix:{}", path.as_str()), "unix:…", 1);
            }
        }
        match kind {
            "resolver" => found.object = PATTERNS.resolver.captures(self.head).map(|c| c[1].to_owned()),
            "no-resolver" => found.object = Some(rest.trim().to_owned()).filter(|name| configured.has_name(name)),
            "unresolved" => {
                let (name, _) = self.head.split_once(' ')?;
                if configured.has_name(name) {
                    found.object = Some(name.to_owned());
                } else {
                    // a name from a variable, which a client may have chosen
                    found.kind = "unresolved-variable";
                    found.quote = found.quote.replacen(name, "…", 1);
                }
            }
            _ => {}
        }
        Some(found)
    }

    /// A failed system call. nginx logs a missing file, with a path that the client chooses, at level `error`; shortages and files of
    /// nginx itself are logged at `crit` or above.
    fn failed_call(&self, configured: &Configured) -> Option<Found> {
        if !self.is_severe() {
            return None;
        }
        let shortage = |errno: &str| {
            Some(match errno {
                "12" => "memory-exhausted",
                "23" => "system-files-exhausted",
                "24" => "files-exhausted",
                // no space, quota
                "28" | "122" => "no-space",
                "30" => "read-only",
                _ => return None,
            })
        };
        if let Some(call) = PATTERNS.failed_call.captures(self.head) {
            let kind = shortage(&call[1])?;
            let operation = PATTERNS.operation.find(&self.head[call[0].len()..]).map_or("", |m| m.as_str());
            return Some(Found { kind, object: None, quote: format!("{}{operation}", &call[0]) });
        }
        let call = PATTERNS.failed_on_path.captures(self.message).filter(|_| self.has_one_failure())?;
        let (name, path, errno) = (&call[1], &call[2], &call[4]);
        let directory = configured.directory_of(path);
        let kind = match (name, errno) {
            // a start or a reload, not a request
            _ if self.level == "emerg" => shortage(errno)?,
            // a cache that was deleted
            ("unlink", "2") => "cache-missing",
            (_, "1" | "13") if directory.is_some() => "temp-denied",
            (_, "2" | "20") if directory.is_some() => "temp-missing",
            ("open" | "openat" | "stat" | "lstat" | "opendir", "13") => "files-denied",
            _ => shortage(errno)?,
        };
        let shown = directory.map_or_else(|| "…".to_owned(), |d| format!("{d}/…"));
        let operation = PATTERNS.operation.find(&self.message[call[0].len()..]).map_or("", |m| m.as_str());
        Some(Found { kind, object: directory.map(str::to_owned), quote: format!("{name}() \"{shown}\" {}{operation}", &call[3]) })
    }

    /// The line of a signal without text of clients.
    pub(super) fn quoted(&self, found: &Found, configured: &Configured) -> String {
        let (server, upstream) = self.context(configured);
        let server = server.map(|s| format!(", server: {s}")).unwrap_or_default();
        let upstream = upstream.map(|u| format!(", upstream: {u}")).unwrap_or_default();
        format!("{}{}{server}{upstream}", self.prefix, found.quote.chars().take(MAX_QUOTE).collect::<String>())
    }

    /// The name of the virtual server and the address of the upstream. A client that writes such parts into its path or its
    /// headers makes them ambiguous, and they are left out.
    pub(super) fn context(&self, configured: &Configured) -> (Option<&'l str>, Option<&'l str>) {
        let Some((_, rest)) = self.message.split_once(", client: ").filter(|(_, rest)| !rest.contains(", client: ")) else {
            return (None, None);
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '*' | ':' | '-' | '[' | ']');
        let server = rest.split(", ").find_map(|part| part.strip_prefix("server: "));
        let server = server.filter(|s| !s.is_empty() && s.len() <= 100 && s.chars().all(plain));
        // only lines about an upstream have the address of one
        let once = self.head.contains("upstream") && rest.matches(", upstream: \"").count() == 1;
        let upstream = PATTERNS.upstream.captures(rest).filter(|_| once).and_then(|c| c.get(1)).map(|m| m.as_str());
        let known = |at: &&str| at.strip_prefix("unix:").is_none_or(|path| configured.sockets.contains(path));
        (server, upstream.filter(known))
    }

    /// A line without a known shape, as text of nginx with its level. `None` for lines that requests cause, and those without a
    /// proven text.
    pub(super) fn unclassified(&self) -> Option<String> {
        if !matches!(self.level, "error" | "crit" | "alert") || self.is_cut() || self.is_by_client() {
            return None;
        }
        let mut text = match PATTERNS.script.find(self.head) {
            Some(position) => format!("{} …", position.as_str().trim_end()),
            None => self.head.to_owned(),
        };
        if self.has_quoted_text() && !text.ends_with('…') {
            text.push_str("\"…\"");
            if let Some(failure) = PATTERNS.failed.captures(self.message).filter(|_| self.has_one_failure()) {
                text = format!("{text} {}", &failure[1]);
            }
        }
        let text: String = text.chars().filter(|c| !c.is_control()).take(MAX_QUOTE).collect();
        Some(format!("[{}] {text}", self.level))
    }

    /// Whether a request causes the line and gets a response that is not 5xx.
    fn is_by_client(&self) -> bool {
        // `open() "PATH" failed (2: …)`, `"PATH" is forbidden`
        let on_path = self.level == "error" && self.has_quoted_text() && (self.head.is_empty() || self.head.ends_with("() "));
        let no_script = self.message.starts_with("FastCGI sent in stderr: \"Primary script unknown");
        on_path || no_script || self.head.trim().is_empty() || PATTERNS.by_clients.is_match(self.head)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const CONTEXT: &str = ", client: 10.0.0.1, server: a.org, request: \"GET /x?token=canary HTTP/1.1\", upstream: \"http://10.0.0.3:8080/x?token=canary\", host: \"a.org\", referrer: \"http://canary/\"";

    fn configured() -> Configured {
        Configured {
            sockets: BTreeSet::from(["/run/app.sock".to_owned()]),
            directories: vec!["/var/lib/nginx/proxy".to_owned()],
            names: BTreeSet::from(["app.internal".to_owned()]),
        }
    }

    fn line(level: &str, message: &str) -> String {
        format!("2026/11/21 13:00:00 [{level}] 12#12: *3 {message}")
    }

    fn found(level: &str, message: &str) -> Option<(&'static str, Option<String>, String)> {
        let text = line(level, message);
        let found = Record::parse(&text).unwrap().signal(&configured())?;
        Some((found.kind, found.object, found.quote))
    }

    fn unclassified(level: &str, message: &str) -> Option<String> {
        let text = line(level, message);
        Record::parse(&text).unwrap().unclassified()
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one line per shape")]
    fn kind_of_every_shape() {
        for (level, message, kind) in [
            ("alert", "64 worker_connections are not enough", "connections-exhausted"),
            ("error", "no live upstreams while connecting to upstream", "no-live-upstreams"),
            (
                "crit",
                "connect() to unix:/run/app.sock failed (13: Permission denied) while connecting to upstream",
                "socket-denied",
            ),
            (
                "crit",
                "connect() to unix:/run/app.sock failed (2: No such file or directory) while connecting to upstream",
                "socket-missing",
            ),
            (
                "error",
                "connect() to unix:/run/app.sock failed (11: Resource temporarily unavailable) while connecting to upstream",
                "backlog-full",
            ),
            ("crit", "connect() to 127.0.0.1:8080 failed (13: Permission denied) while connecting to upstream", "connect-denied"),
            (
                "crit",
                "connect() to [::1]:8080 failed (99: Cannot assign requested address) while connecting to upstream",
                "no-ipv6",
            ),
            (
                "crit",
                "connect() to 10.0.0.3:80 failed (99: Cannot assign requested address) while connecting to upstream",
                "ports-exhausted",
            ),
            ("error", "connect() failed (111: Connection refused) while connecting to upstream", "refused"),
            (
                "error",
                "connect() to 10.0.0.3:80 failed (101: Network is unreachable) while connecting to upstream",
                "unreachable",
            ),
            ("error", "upstream timed out (110: Connection timed out) while reading response header from upstream", "timed-out"),
            (
                "error",
                "upstream SSL certificate verify error: (10:certificate has expired) while SSL handshaking to upstream",
                "upstream-certificate-expired",
            ),
            (
                "error",
                "upstream SSL certificate verify error: (20:unable to get local issuer certificate) while SSL handshaking to upstream",
                "upstream-certificate",
            ),
            (
                "error",
                "upstream SSL certificate does not match \"app\" while SSL handshaking to upstream",
                "upstream-certificate",
            ),
            (
                "error",
                "SSL_do_handshake() failed (SSL: error:0A00010B:SSL routines::wrong version number) while SSL handshaking to upstream",
                "upstream-tls",
            ),
            (
                "crit",
                "SSL_do_handshake() failed (SSL: error:0A00006C:SSL routines::bad key share) while SSL handshaking",
                "client-tls",
            ),
            ("error", "rewrite or internal redirection cycle while internally redirecting to \"/x\"", "rewrite-cycle"),
            ("alert", "epoll_ctl(1, 12) failed (17: File exists)", "epoll"),
            ("alert", "worker process 31 exited on signal 11", "worker-crashed"),
            ("alert", "worker process 31 exited on signal 11 (core dumped)", "worker-crashed"),
            ("alert", "worker process 31 exited on signal 9", "worker-killed"),
            ("alert", "worker process 31 exited on signal 15", "worker-stopped"),
            ("alert", "worker process 31 exited with fatal code 2 and cannot be respawned", "worker-fatal"),
            ("alert", "fork() failed while spawning \"worker process\" (11: Resource temporarily unavailable)", "fork-failed"),
            ("alert", "zero size buf in output t:0 r:0 f:0 00005603 00005603-00005603 00000000 0-0", "zero-size-buf"),
            ("error", "limiting requests, excess: 1.000 by zone \"z\"", "limited"),
            ("error", "limiting connections by zone \"z\"", "limited"),
            ("error", "recv() failed (111: Connection refused) while resolving, resolver: 127.0.0.53:53", "resolver"),
            ("error", "no resolver defined to resolve app.internal", "no-resolver"),
            ("error", "app.internal could not be resolved (3: Host not found)", "unresolved"),
            ("error", "app.internal could not be resolved (110: Operation timed out)", "unresolved"),
            ("error", "x.example could not be resolved (3: Host not found)", "unresolved-variable"),
            (
                "error",
                "r3.o.lencr.org could not be resolved (3: Host not found) while requesting certificate status, responder: r3.o.lencr.org",
                "stapling",
            ),
            ("alert", "open socket #12 left in connection 5", "leaked"),
            ("emerg", "could not build server_names_hash, you should increase server_names_hash_bucket_size: 32", "names-hash"),
            ("emerg", "SSL_CTX_use_PrivateKey(\"/a.key\") failed (SSL: error:05800074:key values mismatch)", "key-mismatch"),
            ("emerg", "bind() to 0.0.0.0:80 failed (98: Address already in use)", "emergency"),
            ("crit", "accept4() failed (24: Too many open files)", "files-exhausted"),
            ("alert", "socket() failed (24: Too many open files) while connecting to upstream", "files-exhausted"),
            ("crit", "accept4() failed (23: Too many open files in system)", "system-files-exhausted"),
            ("emerg", "malloc(4096) failed (12: Cannot allocate memory)", "memory-exhausted"),
            ("alert", "mmap(MAP_ANON|MAP_SHARED, 65536) failed (12: Cannot allocate memory)", "memory-exhausted"),
            (
                "crit",
                "open() \"/var/lib/nginx/proxy/1/00/0000000001\" failed (13: Permission denied) while reading upstream",
                "temp-denied",
            ),
            ("crit", "mkdir() \"/var/lib/nginx/proxy/1\" failed (13: Permission denied) while reading upstream", "temp-denied"),
            (
                "crit",
                "open() \"/var/lib/nginx/proxy/0000000001\" failed (2: No such file or directory) while reading upstream",
                "temp-missing",
            ),
            ("crit", "pwrite() \"/var/lib/nginx/proxy/0000000001\" failed (28: No space left on device)", "no-space"),
            ("crit", "writev() \"/srv/cache/x\" failed (30: Read-only file system)", "read-only"),
            ("crit", "stat() \"/srv/canary\" failed (13: Permission denied)", "files-denied"),
            ("crit", "unlink() \"/srv/cache/canary\" failed (2: No such file or directory)", "cache-missing"),
        ] {
            for message in [message.to_owned(), format!("{message}{CONTEXT}")] {
                let found = found(level, &message);
                assert_eq!(found.as_ref().map(|(k, ..)| *k), Some(kind), "{message}");
                assert!(!found.unwrap().2.contains("canary"), "{message}");
            }
        }
    }

    #[test]
    fn objects_are_those_of_the_configuration() {
        let of = |level: &str, message: &str| found(level, message).unwrap();
        let (_, object, quote) =
            of("crit", "connect() to unix:/run/app.sock failed (13: Permission denied) while connecting to upstream");
        assert_eq!(object.as_deref(), Some("/run/app.sock"));
        assert_eq!(quote, "connect() to unix:/run/app.sock failed (13: Permission denied) while connecting to upstream");
        let (_, object, quote) =
            of("crit", "connect() to unix:/canary failed (13: Permission denied) while connecting to upstream");
        assert_eq!((object, quote.contains("canary")), (None, false));
        let (_, object, quote) =
            of("crit", "open() \"/var/lib/nginx/proxy/1/00/0000000001\" failed (13: Permission denied) while reading upstream");
        assert_eq!(object.as_deref(), Some("/var/lib/nginx/proxy"));
        assert_eq!(quote, "open() \"/var/lib/nginx/proxy/…\" failed (13: Permission denied) while reading upstream");
        let (_, object, quote) = of("error", "canary could not be resolved (3: Host not found)");
        assert_eq!((object, quote.as_str()), (None, "… could not be resolved (3: Host not found)"));
        let (_, object, _) = of("error", "send() failed (111: Connection refused) while resolving, resolver: 127.0.0.11:53");
        assert_eq!(object.as_deref(), Some("127.0.0.11:53"));
    }

    #[test]
    fn shape_in_text_of_clients_is_no_signal() {
        let missing = |path: &str| format!("open() \"/srv/{path}\" failed (2: No such file or directory){CONTEXT}");
        for message in [
            missing("rewrite or internal redirection cycle while processing "),
            missing("worker process 1 exited on signal 11"),
            missing("x (28: No space left on device)"),
            missing("x\" failed (24: Too many open files), client: 1.1.1.1"),
            missing("connect() to unix:/run/app.sock failed (13: Permission denied) while connecting to upstream"),
            format!("access forbidden by rule{CONTEXT}, referrer: \"upstream timed out (110: x)\""),
        ] {
            assert_eq!(found("error", &message), None, "{message}");
            assert_eq!(unclassified("error", &message), None, "{message}");
        }
        // a denied directory is logged at `crit`, with the path of the client
        let denied = "stat() \"/srv/x\" failed (24: Too many open files)\" failed (13: Permission denied)";
        assert_eq!(found("crit", denied), None);
        let cut = format!("stat() \"/srv/x\" failed (24: Too many open files){}", "x".repeat(2000));
        assert_eq!((found("crit", &cut), unclassified("crit", &cut)), (None, None));
    }

    #[test]
    fn quoted_line_has_server_and_upstream_only() {
        let text = line("error", &format!("upstream prematurely closed connection while reading upstream{CONTEXT}"));
        let record = Record::parse(&text).unwrap();
        let quoted = record.quoted(&record.signal(&configured()).unwrap(), &configured());
        assert!(quoted.ends_with("connection while reading upstream, server: a.org, upstream: 10.0.0.3:8080"), "{quoted}");
        // a second client, in a header
        let text = format!("{text}, referrer: \"x, client: 1.1.1.1, server: canary\"");
        let record = Record::parse(&text).unwrap();
        let quoted = record.quoted(&record.signal(&configured()).unwrap(), &configured());
        assert!(quoted.ends_with("connection while reading upstream"), "{quoted}");
    }

    #[test]
    fn unclassified_line_without_text_of_clients() {
        let shown = |level: &str, message: &str| unclassified(level, &format!("{message}{CONTEXT}")).unwrap_or_default();
        assert_eq!(
            shown("crit", "rename() \"/srv/canary\" to \"/srv/canary\" failed (18: Invalid cross-device link)"),
            "[crit] rename() \"…\" failed (18: Invalid cross-device link)"
        );
        assert_eq!(
            shown("error", "auth request unexpected status: 502 while sending to client"),
            "[error] auth request unexpected status: 502 while sending to client"
        );
        assert_eq!(
            shown("error", "FastCGI sent in stderr: \"PHP message: canary\" while reading response header from upstream"),
            "[error] FastCGI sent in stderr: \"…\""
        );
        assert_eq!(shown("error", "[lua] auth.lua:12: token canary is invalid"), "[error] [lua] auth.lua:12: …");
        assert_eq!(shown("warn", "an upstream response is buffered"), "");
        for by_client in [
            "\"/srv/x/index.html\" is forbidden (13: Permission denied)",
            "directory index of \"/srv/\" is forbidden",
            "user \"canary\" was not found in \"/etc/nginx/htpasswd\"",
            "client sent invalid chunked body",
            "FastCGI sent in stderr: \"Primary script unknown\" while reading response header from upstream",
        ] {
            assert_eq!(shown("error", by_client), "", "{by_client}");
        }
    }
}
