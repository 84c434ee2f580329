//! The matrix of codes and roles: every cell is a dependency or has a reason (docs/roles.md).

use std::fmt::Write as _;
use std::path::Path;

use opsctl::catalog::Catalog;
use opsctl_core::model::{Code, Role, Severity};

use Role::*;

/// The reason why these roles explain none of these codes. `runbook.*` stands for all codes of a runbook; the first match counts.
struct Independent {
    codes: &'static [&'static str],
    roles: &'static [Role],
    reason: &'static str,
}

const fn none(codes: &'static [&'static str], roles: &'static [Role], reason: &'static str) -> Independent {
    Independent { codes, roles, reason }
}

#[rustfmt::skip]
const INDEPENDENT: &[Independent] = &[
    // the machine
    none(&["cpu.*", "memory.*", "host.*"], Role::ALL, "measured on the machine itself, and independent of its services; links between measurements name their mechanism"),
    none(&["time.*"], &[Down], "the daemon that sets the clock is reported by systemd, and by this runbook as missing"),
    none(&["time.*"], Role::ALL, "read from the clock of the kernel and from the synchronisation daemon"),
    none(&["disk.*"], Role::ALL, "measured on the filesystem or disk itself: its causes fill or break it, and are links that name their mechanism"),
    none(&["mtu.*"], Role::ALL, "measured on interfaces, rules and paths: a packet is too large independently of the services at its ends"),
    // network
    none(&["network.triage"], &[Unresponsive, Exhausted, RejectsWrites, Starved, NoRoom, NoDescriptors, CertificateRejected, ClockWrong, OldFile], "the diagnosis ends with the connection: the state of the service behind it is a finding of its own"),
    none(&["network.triage"], &[NamesBroken], "the resolution of the name is a step of the diagnosis itself"),
    none(&["network.*"], Role::ALL, "read from sockets, rules and settings of the kernel, which do not depend on other services"),
    none(&["dns.container"], &[Down, Unresponsive, Exhausted, RejectsWrites, Starved, NoRoom, NoDescriptors, PortClosed, NamesBroken, ClockWrong, CertificateRejected, OldFile], "the name servers of the host are compared first (a link of its own), and only a running container is examined"),
    none(&["dns.stub"], Role::ALL, "read from resolv.conf and its listener: only the unit of the resolver stands behind it"),
    none(&["dns.*"], Role::ALL, "the query goes to each name server itself: its failure is the finding"),
    // containers and units
    none(&["container.engine-reachable", "container.engine-hung"], Role::ALL, "the engine is a unit; any other reason is in its log"),
    none(&["container.start-failed", "container.log-blocked"], Role::ALL, "the engine reports the reason in the error of the start or in its log"),
    none(&["container.down", "container.restart-loop"], &[Exhausted, RejectsWrites, Unresponsive], "an application that exits for a server that responds names it in its log; the state of that server alone proves nothing"),
    none(&["container.*"], Role::ALL, "reported by the engine about the container itself; any other reason is in the log of its processes"),
    none(&["systemd.unit-failed", "systemd.restart-loop"], &[Unresponsive, Exhausted, RejectsWrites], "a unit that exits for a server that responds names it in its log; the state of that server alone proves nothing"),
    none(&["systemd.*"], Role::ALL, "reported by systemd about the unit itself; required units are links of their own"),
    // servers
    none(&["postgres.up", "redis.up", "rabbitmq.up", "nginx.stopped"], &[Unresponsive], "it is this server that does not respond"),
    none(&["postgres.up", "redis.up", "rabbitmq.up", "nginx.stopped"], &[Starved], "a timeout on a host that delays opsctl itself is unknown, not down"),
    none(&["postgres.up", "redis.up", "rabbitmq.up", "nginx.stopped"], &[Exhausted, RejectsWrites], "it needs no other server, and its own limits are findings of their own"),
    none(&["postgres.up", "redis.up", "rabbitmq.up", "nginx.stopped"], &[NoRoom], "a full disk is reported with the operation that fails: snapshots, alarms, temporary files"),
    none(&["postgres.up", "redis.up", "rabbitmq.up", "nginx.stopped"], Role::ALL, "opsctl connects inside the network namespace of the server, to its own socket, without names and certificates"),
    none(&["postgres.crash-restart", "redis.restarted"], Role::ALL, "a restart is read from start times and the log: only the end of its processes or a failed write causes one"),
    none(&["postgres.pgbouncer"], Role::ALL, "the pooler reports its own pools; a database that is down is reported for the database"),
    none(&["postgres.replication", "redis.replication"], Role::ALL, "the other end is another server, mostly on another host, and not examined in this run"),
    none(&["postgres.*"], Role::ALL, "read in a session with the server, which therefore runs and responds; sessions and replication slots are links of their own"),
    none(&["redis.persistence"], Role::ALL, "the server reports the error of its last save: no space, or a fork that the kernel rejects"),
    none(&["redis.*"], Role::ALL, "read in a session with the server, which therefore runs and responds"),
    none(&["rabbitmq.*"], Role::ALL, "reported by the node, which therefore runs; consumers and the disk are links of their own"),
    none(&["celery.no-consumer", "celery.stalled"], &[Unresponsive, Exhausted, Detached, PortClosed, PacketsDropped, NamesBroken], "a broker that does not respond makes the check unknown; other connections of a worker are in its log"),
    none(&["celery.*"], Role::ALL, "counted in the broker, which responds; the processes of the workers are the only other part"),
    // nginx
    none(&["nginx.config-test", "nginx.config-not-loaded"], Role::ALL, "`nginx -t` reports its reason: names, certificates and files are the only dependencies of a configuration"),
    none(&["nginx.upstream-unreachable"], &[Exhausted, RejectsWrites, Starved, NoRoom, NoDescriptors], "only the connection is tested, which the kernel accepts for a busy process"),
    none(&["nginx.upstream-unreachable"], &[NamesBroken, ClockWrong, CertificateRejected, OldFile], "the names of upstreams are resolved in this check; TLS and files are not part of a connection"),
    none(&["nginx.5xx-rate"], &[Starved, NoRoom, NoDescriptors], "slow responses and exhausted files are logged by nginx and reported as error signals"),
    none(&["nginx.5xx-rate"], &[Detached, PortClosed, PacketsDropped, NamesBroken], "reported through the unreachable upstream, which is a link of its own"),
    none(&["nginx.5xx-rate"], &[ClockWrong, CertificateRejected, OldFile], "nginx answers a rejected certificate and an old file with other statuses"),
    none(&["nginx.error-signals"], &[Down, Unresponsive, Exhausted, RejectsWrites, Starved, Detached, PortClosed, PacketsDropped, NamesBroken], "reported through the upstream or the failed requests, which are links of their own"),
    none(&["nginx.*"], Role::ALL, "read from the processes, sockets and files of nginx itself"),
    // certificates
    none(&["tls.handshake"], &[Down], "the server that does not run is the link: its container and unit are the causes of that"),
    none(&["tls.handshake"], Role::ALL, "the listener accepts the connection and ends the handshake itself"),
    none(&["tls.renewal-failing"], &[Down, Unresponsive, Detached, PortClosed], "the log of the renewal names the reason"),
    none(&["tls.*"], Role::ALL, "read from the certificate that is served or stored"),
    // health checks
    none(&["healthcheck.http"], &[Starved], "slow responses are `healthcheck.slow`; a timeout on a host that delays opsctl itself is unknown"),
    none(&["healthcheck.http", "healthcheck.tcp"], &[NoRoom], "the server that cannot write is the link"),
    none(&["healthcheck.http"], &[Detached, ClockWrong, CertificateRejected, OldFile], "the request is sent to an address or a name of the host, and does not verify certificates"),
    none(&["healthcheck.tcp"], Role::ALL, "only the connection is tested, which the kernel accepts for a busy process"),
    none(&["healthcheck.content"], &[Down, Unresponsive, Starved, NoRoom, NoDescriptors, Detached, PortClosed, NamesBroken, ClockWrong, CertificateRejected, OldFile], "a response arrived with a success status: its server runs and is reachable"),
    none(&["healthcheck.slow"], &[Down, Unresponsive, RejectsWrites, NoRoom, NoDescriptors, Detached, PortClosed, NamesBroken, ClockWrong, CertificateRejected, OldFile], "a correct response arrived: only time is missing"),
    none(&["healthcheck.timeout"], Role::ALL, "the test was started and did not end: its container runs, and the servers it queries let it wait"),
    none(&["healthcheck.unhealthy"], &[Starved], "a test that is too slow is `healthcheck.timeout`, which is a link of its own"),
    none(&["healthcheck.unhealthy"], Role::ALL, "the test runs inside the container; the output of the test names any other reason"),
    none(&["healthcheck.*"], Role::ALL, "read from the health test itself: its command, its address, its credentials"),
    // monitoring
    none(&["monitoring.targets-down"], Role::ALL, "the scrape error of a target that responds names its reason"),
    none(&["monitoring.exporter-stale"], Role::ALL, "the exporter responds, and reports that its service does not"),
    none(&["monitoring.notify"], Role::ALL, "the error of a failed notification names the reason: a connection, a name, the engine"),
    none(&["monitoring.loki", "monitoring.grafana", "monitoring.prometheus", "monitoring.alertmanager", "monitoring.alloy", "monitoring.tsdb"], &[Unresponsive, Starved], "it is this server that does not respond; a timeout on a host that delays opsctl itself is unknown"),
    none(&["monitoring.tsdb", "monitoring.replay-storm", "monitoring.remote-write"], Role::ALL, "read from the metrics of the server, which therefore runs and responds"),
    none(&["monitoring.grafana"], Role::ALL, "its own health response covers its database only"),
    none(&["monitoring.loki", "monitoring.prometheus", "monitoring.alertmanager", "monitoring.alloy"], Role::ALL, "opsctl connects inside the network namespace of the server; its own counters name the peers that it cannot reach"),
    none(&["monitoring.*"], Role::ALL, "read from the configuration of the monitoring, or from a server that responds"),
];

fn reason(code: &Code, role: Role) -> Option<usize> {
    let matches = |pattern: &str| pattern.strip_suffix('*').map_or(pattern == code.id, |start| code.id.starts_with(start));
    INDEPENDENT.iter().position(|i| i.roles.contains(&role) && i.codes.iter().any(|p| matches(p)))
}

/// The page, and the cells without dependency and reason.
fn page() -> (String, Vec<String>) {
    let catalog = Catalog::new();
    let mut page = "# Roles\n\nA finding explains another if its code has a role for an object on which the other depends. `x`: it does. A number: it \
        does not, with the reason below. Codes that are info only neither explain nor are explained. This page is generated.\n\n| code |"
        .to_owned();
    for role in Role::ALL {
        let _ = write!(page, " {role} |");
    }
    let _ = writeln!(page, "\n|---|{}", "---|".repeat(Role::ALL.len()));
    let mut open = Vec::new();
    for code in catalog.codes().into_iter().filter(|c| c.severities.iter().any(|s| *s > Severity::Info)) {
        let _ = write!(page, "| `{}` |", code.id);
        for role in Role::ALL {
            let cell = if code.dependencies().any(|d| d.role == *role) {
                "x".to_owned()
            } else if let Some(at) = reason(code, *role) {
                (at + 1).to_string()
            } else {
                open.push(format!("{} {role}", code.id));
                String::new()
            };
            let _ = write!(page, " {cell} |");
        }
        page.push('\n');
    }
    page.push_str("\n## Reasons\n\n");
    for (n, independent) in INDEPENDENT.iter().enumerate() {
        let _ = writeln!(page, "{}. {}", n + 1, independent.reason);
    }
    (page, open)
}

#[test]
fn every_cell_is_a_dependency_or_has_a_reason() {
    let (_, open) = page();
    assert!(open.is_empty(), "{} cells: {}", open.len(), open.join("\n"));
}

#[test]
fn page_of_roles_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/roles.md");
    let (page, _) = page();
    if std::env::var_os("OPSCTL_REGENERATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert!(std::fs::read_to_string(&path).unwrap_or_default() == page, "OPSCTL_REGENERATE=1 writes it");
}

#[test]
fn every_reason_is_used() {
    let catalog = Catalog::new();
    let codes = catalog.codes();
    let is_used = |at: usize| {
        let used = |code: &&&Code| {
            Role::ALL.iter().any(|role| !code.dependencies().any(|d| d.role == *role) && reason(code, *role) == Some(at))
        };
        codes.iter().filter(|c| c.severities.iter().any(|s| *s > Severity::Info)).find(used).is_some()
    };
    let unused: Vec<&str> = INDEPENDENT.iter().enumerate().filter(|(at, _)| !is_used(*at)).map(|(_, i)| i.reason).collect();
    assert!(unused.is_empty(), "{unused:#?}");
}
