//! Meanings of the signals of an error log.

use opsctl_core::model::Severity;
use opsctl_core::model::Severity::{Crit, Warn};

use super::Settings;
use Frequency::{Once, Repeated};
use Tie::{Neither, Own, Upstream};

/// The object that a signal concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tie {
    /// Connections to upstreams: an upstream that is unreachable explains it.
    Upstream,
    /// nginx itself.
    Own,
    /// Neither the reachability of an upstream nor nginx: a certificate, a name server, the network of this host.
    Neither,
}

/// The number of lines that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frequency {
    /// One line.
    Once,
    /// `errors_warn` lines.
    Repeated,
}

/// The meaning of a signal.
#[derive(Debug)]
pub(super) struct Meaning {
    kind: &'static str,
    pub(super) severity: Severity,
    frequency: Frequency,
    pub(super) tie: Tie,
    /// Predicate of the message.
    pub(super) problem: &'static str,
    /// Remedy.
    pub(super) hint: &'static str,
}

impl Meaning {
    /// The number of lines from which it is reported.
    pub(super) fn least(&self, settings: &Settings) -> u64 {
        match self.frequency {
            Once => 1,
            Repeated => settings.errors_warn,
        }
    }
}

const fn row(
    kind: &'static str,
    severity: Severity,
    frequency: Frequency,
    tie: Tie,
    problem: &'static str,
    hint: &'static str,
) -> Meaning {
    Meaning { kind, severity, frequency, tie, problem, hint }
}

const MEANINGS: &[Meaning] = &[
    // limits of nginx and of this host
    row(
        "connections-exhausted",
        Crit,
        Once,
        Own,
        "ran out of connections",
        "raise worker_connections; a proxied request uses two",
    ),
    row(
        "ports-exhausted",
        Crit,
        Once,
        Neither,
        "has no local port left for connections to an upstream",
        "not a fault of the upstream: reuse connections (`keepalive` in the upstream block with `proxy_http_version 1.1`), and widen net.ipv4.ip_local_port_range; `ss -s` counts the sockets",
    ),
    row("files-exhausted", Crit, Once, Own, "ran out of open files", "raise worker_rlimit_nofile, or its unit's LimitNOFILE"),
    row(
        "system-files-exhausted",
        Crit,
        Once,
        Own,
        "cannot open files: this host has no file handles left",
        "raise fs.file-max, and find the process that holds the files: see `opsctl disk`",
    ),
    row("no-space", Crit, Once, Own, "found no space left on the device", "see `opsctl disk`"),
    row(
        "read-only",
        Crit,
        Once,
        Own,
        "cannot write: its filesystem is read-only",
        "see `opsctl disk`, `dmesg` and the mount options; a container with a read-only root needs a tmpfs for the temporary files of nginx",
    ),
    row(
        "memory-exhausted",
        Crit,
        Once,
        Own,
        "cannot allocate memory",
        "see `opsctl memory`; its container or unit may have a memory limit, and overcommit may be disabled",
    ),
    row(
        "fork-failed",
        Crit,
        Once,
        Own,
        "cannot start a process",
        "raise its limit of processes (TasksMax=, --pids-limit), or free memory: see `opsctl memory`",
    ),
    // files of nginx
    row(
        "temp-denied",
        Crit,
        Once,
        Own,
        "may not write its temporary files: uploads and downloads are cut",
        "the user of the workers needs write permission: `namei -l PATH` shows the directory that denies access; correct its owner or mode",
    ),
    row(
        "temp-missing",
        Crit,
        Once,
        Own,
        "cannot create its temporary files, because a directory is missing: uploads and downloads are cut",
        "nginx creates these directories at its start and at a reload: reload it, and exclude the path from the job that deletes it",
    ),
    row(
        "files-denied",
        Warn,
        Repeated,
        Own,
        "may not read files of a site",
        "the user of the workers needs read permission on the files and search permission on every directory above them; `namei -l FILE` shows the one that denies it",
    ),
    // processes
    row(
        "worker-crashed",
        Warn,
        Once,
        Own,
        "lost a worker by a crash, with all its connections",
        "a module is the usual cause: compare its version with that of nginx, and `coredumpctl info nginx`",
    ),
    row(
        "worker-killed",
        Warn,
        Once,
        Own,
        "lost a worker by SIGKILL, with all its connections",
        "the kernel kills processes that run out of memory: see `opsctl memory`",
    ),
    row(
        "worker-fatal",
        Crit,
        Once,
        Own,
        "has a worker that cannot start again",
        "the lines before it give the reason; after that, restart nginx",
    ),
    row(
        "zero-size-buf",
        Warn,
        Repeated,
        Own,
        "cuts responses: a filter module passes an empty buffer",
        "a module or a version with this defect: update nginx and its modules",
    ),
    row(
        "epoll",
        Warn,
        Repeated,
        Own,
        "cannot register connections with epoll",
        "error 28: raise fs.epoll.max_user_watches; error 12: see `opsctl memory`; otherwise a module is the usual cause",
    ),
    // configuration
    row(
        "rewrite-cycle",
        Warn,
        Repeated,
        Own,
        "ends requests in a cycle of internal redirections",
        "the last argument of try_files, or the target of error_page or rewrite, leads to itself: the file does not exist below `root`, or no location handles it",
    ),
    row(
        "names-hash",
        Warn,
        Once,
        Own,
        "cannot load its configuration: the hash of names is too small",
        "set the directive in the line to the next power of two, then `nginx -t`",
    ),
    row(
        "key-mismatch",
        Warn,
        Once,
        Own,
        "cannot load its configuration: a private key does not match its certificate",
        "compare `openssl x509 -noout -pubkey -in CERTIFICATE` with `openssl pkey -pubout -in KEY`",
    ),
    row(
        "emergency",
        Warn,
        Once,
        Own,
        "cannot load its configuration, or could not start",
        "run `nginx -t` where it runs; the running nginx keeps its previous configuration",
    ),
    // names
    row(
        "resolver",
        Warn,
        Repeated,
        Neither,
        "cannot query the name server of its `resolver`",
        "no name server responds at that address: 127.0.0.11 in a container of a user-defined network, 127.0.0.53 for systemd-resolved",
    ),
    row(
        "no-resolver",
        Warn,
        Repeated,
        Own,
        "cannot resolve the name in a variable: no resolver is configured",
        "set `resolver`, for example `resolver 127.0.0.11 valid=10s` in a container, or remove the variable from proxy_pass",
    ),
    row(
        "unresolved",
        Warn,
        Repeated,
        Neither,
        "cannot resolve the name of an upstream",
        "query that name at the address of `resolver`: nginx uses neither /etc/hosts nor the search domains of resolv.conf",
    ),
    // upstreams
    row(
        "no-live-upstreams",
        Warn,
        Repeated,
        Upstream,
        "had no live upstreams",
        "all servers of the group failed; see nginx.upstream-unreachable",
    ),
    row(
        "refused",
        Warn,
        Repeated,
        Upstream,
        "was refused by an upstream",
        "the port has no listener; see nginx.upstream-unreachable",
    ),
    row(
        "unreachable",
        Warn,
        Repeated,
        Upstream,
        "found no route to an upstream",
        "its address no longer exists; see nginx.upstream-stale-ip",
    ),
    row(
        "timed-out",
        Warn,
        Repeated,
        Upstream,
        "timed out waiting for an upstream",
        "it is slow, or its address no longer exists: see nginx.upstream-stale-ip",
    ),
    row(
        "socket-denied",
        Warn,
        Repeated,
        Upstream,
        "may not connect to the unix socket of an upstream",
        "the user of the workers needs write permission on the socket and search permission on its directories (listen.owner and listen.mode of PHP-FPM, UMask= and Group= of a unit); a restart of nginx does not help",
    ),
    row(
        "socket-missing",
        Warn,
        Repeated,
        Upstream,
        "found no unix socket of an upstream",
        "the application that creates the socket does not run, or creates it elsewhere (PrivateTmp= hides sockets below /tmp); see nginx.upstream-unreachable",
    ),
    row(
        "backlog-full",
        Warn,
        Repeated,
        Upstream,
        "found the accept queue of an upstream's unix socket full",
        "the upstream has too few workers (pm.max_children of PHP-FPM) or is stuck; a longer queue (listen.backlog, net.core.somaxconn) only delays the error",
    ),
    row(
        "connect-denied",
        Warn,
        Repeated,
        Neither,
        "may not connect to an upstream",
        "SELinux (`ausearch -m avc -c nginx`, `setsebool -P httpd_can_network_connect 1`) or a rule in the OUTPUT chain denies the connection, not the upstream",
    ),
    row(
        "no-ipv6",
        Warn,
        Repeated,
        Neither,
        "connects to an upstream over IPv6 without an IPv6 address",
        "`localhost` resolves to ::1 as well: write 127.0.0.1 in proxy_pass, or add an IPv6 address",
    ),
    row(
        "closed-early",
        Warn,
        Repeated,
        Upstream,
        "lost the connection to an upstream during a response",
        "the application closes its connections: it crashes, or its keep-alive timeout is shorter than that of nginx",
    ),
    row(
        "reset",
        Warn,
        Repeated,
        Upstream,
        "lost the connection to an upstream during a response",
        "the application closes its connections: it crashes, or its keep-alive timeout is shorter than that of nginx",
    ),
    row(
        "header-too-big",
        Warn,
        Repeated,
        Upstream,
        "received response headers larger than its buffer",
        "raise proxy_buffer_size, or find the cause of the large cookies of the application",
    ),
    row(
        "upstream-tls",
        Warn,
        Repeated,
        Upstream,
        "failed the TLS handshake with an upstream",
        "check the certificate and the TLS versions of the upstream; proxy_ssl_server_name is often missing",
    ),
    row(
        "upstream-certificate-expired",
        Warn,
        Repeated,
        Neither,
        "rejects the certificate of an upstream, which has expired",
        "renew the certificate of the upstream and reload the upstream; do not disable proxy_ssl_verify",
    ),
    row(
        "upstream-certificate",
        Warn,
        Repeated,
        Neither,
        "rejects the certificate of an upstream",
        "compare its issuer with proxy_ssl_trusted_certificate and its names with proxy_ssl_name; do not disable proxy_ssl_verify",
    ),
];

/// The meaning of a kind of line. Errors of clients (bodies too large, broken handshakes) have none.
pub(super) fn meaning(kind: &str) -> Option<&'static Meaning> {
    MEANINGS.iter().find(|m| m.kind == kind)
}

/// Signals that are no fault by themselves and can be the reason of failed requests, with their hints.
const REASONS: &[(&str, &str)] = &[
    (
        "limited",
        "limit_req or limit_conn rejects these requests with 503: raise `burst` if the clients are legitimate; `limit_req_status 429` separates them from failures",
    ),
    (
        "unresolved-variable",
        "nginx cannot resolve a name from a variable in proxy_pass: query that name at the address of `resolver`",
    ),
];

/// The hint for a signal that has no meaning of its own.
pub(super) fn hint_of_reason(kind: &str) -> Option<&'static str> {
    REASONS.iter().find(|(k, _)| *k == kind).map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_one_meaning() {
        let kinds: BTreeSet<&str> = MEANINGS.iter().map(|m| m.kind).collect();
        assert_eq!(kinds.len(), MEANINGS.len());
        assert!(REASONS.iter().all(|(kind, _)| meaning(kind).is_none()));
    }
}
