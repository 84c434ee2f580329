//! The postgres runbook: availability, connections, locks, WAL, replication and vacuum of
//! PostgreSQL, and `PgBouncer` in front of it.

mod activity;
mod advisory;
mod backend;
mod connections;
mod disk;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod integrity;
mod lock_tree;
mod pgbouncer;
mod refused;
mod replication;
mod restarts;
mod sequences;
mod session;
mod slot_reader;
mod up;
mod vacuum;
mod wal;

use opsctl_core::model::{Code, Impact, KeyKind, Link, Role, Runbook, Severity};
use opsctl_core::probe::proc::files::{file_tail, open_files};
use opsctl_core::probe::proc::process::children_of;
use opsctl_core::probe::{Io, ProbeCx, blocking};

use crate::shared::servers::{READ_TIMEOUT, Server};
use crate::shared::settings::settings;

settings! {
    /// `[runbooks.postgres]`.
    pub struct Settings {
        /// Share in percent of the connections available to applications that is warn (netdata, pgx-mixin: 80).
        connections_warn_percent: f64 = 80.0,
        /// The same for crit (check_postgres: 95).
        connections_crit_percent: f64 = 95.0,
        /// Free connections that are crit at any share above the warn limit (judgement).
        connections_crit_free: u64 = 2,
        /// Seconds idle in a transaction that are warn (pganalyze, RDS: 1800).
        idle_warn_s: f64 = 1800.0,
        /// The same for crit (pganalyze: 3600).
        idle_crit_s: f64 = 3600.0,
        /// Seconds a query waits for a lock that are warn (check_postgres: 60).
        blocked_warn_s: f64 = 60.0,
        /// The same for crit (check_postgres: 120).
        blocked_crit_s: f64 = 120.0,
        /// Seconds after which many waiters behind one transaction count as a pile-up (judgement).
        pile_up_s: f64 = 10.0,
        /// Waiters of a pile-up that are warn (judgement).
        pile_up_warn: usize = 5,
        /// The same for crit (judgement).
        pile_up_crit: usize = 10,
        /// Seconds a query runs that are warn (judgement).
        query_warn_s: f64 = 300.0,
        /// The same for crit (judgement).
        query_crit_s: f64 = 3600.0,
        /// Applications, by `application_name`, with sessions that may be terminated and queries that may be
        /// cancelled; empty means all except
        /// backups and superusers.
        terminate_apps: Vec<String> = Vec::new(),
        /// Bytes of WAL retained by an inactive slot that are warn (judgement: 1 GiB).
        slot_warn_bytes: u64 = 1 << 30,
        /// Age of the oldest transaction ID that is warn (netdata: 500 million).
        wraparound_warn: u64 = 500_000_000,
        /// The same for crit (check_postgres: 1.4 billion).
        wraparound_crit: u64 = 1_400_000_000,
        /// Replay lag of a standby in seconds that is warn (judgement).
        replay_warn_s: f64 = 300.0,
        /// The same for crit (pgx-mixin: 3600).
        replay_crit_s: f64 = 3600.0,
        /// Names of the servers that must be primaries.
        primaries: Vec<String> = Vec::new(),
        /// Share of a sequence in percent that is warn (check_postgres: 85).
        sequence_warn_percent: f64 = 85.0,
        /// The same for crit (check_postgres: 95).
        sequence_crit_percent: f64 = 95.0,
        /// Deadlocks a minute that are warn (awesome-prometheus-alerts: 5).
        deadlocks_per_minute: f64 = 5.0,
        /// Share of the filesystem of its data in percent that is warn (judgement: 90).
        disk_warn_percent: f64 = 90.0,
        /// Seconds a client of PgBouncer waits that are warn (judgement).
        pool_wait_warn_s: f64 = 1.0,
        /// The same for crit (judgement).
        pool_wait_crit_s: f64 = 10.0,
        /// Share of max_client_conn in percent that is warn (judgement).
        pool_clients_warn_percent: f64 = 90.0,
    }
    limits {
        connections: Percent at_least(connections_warn_percent, connections_crit_percent),
        idle: Seconds at_least(idle_warn_s, idle_crit_s),
        blocked: Seconds at_least(blocked_warn_s, blocked_crit_s),
        pile_up: Count at_least(pile_up_warn, pile_up_crit),
        query: Seconds at_least(query_warn_s, query_crit_s),
        replay: Seconds more_than(replay_warn_s, replay_crit_s),
        sequence: Percent at_least(sequence_warn_percent, sequence_crit_percent),
        pool_wait: Seconds at_least(pool_wait_warn_s, pool_wait_crit_s),
    }
}

/// Reported by the activity check for a single session, and by the connections check for many.
const IDLE_IN_TX: Code = Code {
    id: "postgres.idle-in-tx",
    severities: &[Severity::Warn, Severity::Crit],
    when: "a session is idle in a transaction for {idle_warn_s} (warn) or {idle_crit_s} (crit), or blocks others for too long (crit); half of the connections are idle in transactions while no connection is free (crit)",
    hint: "find the code that leaves the transaction open; `query` is the last statement, not the cause",
    impacts: &[Impact::likely(Role::Exhausted, KeyKind::Server, "database is blocked")],
    ..Code::BASE
};

/// Causal links between findings; docs/causes.md lists all links.
const LINKS: &[Link] = &[
    Link::confirmed(
        "memory.oom-kill",
        "postgres.crash-restart",
        KeyKind::Host,
        "the host was out of memory and the kernel chose one of its processes",
    ),
    Link::confirmed("disk.space", "postgres.disk", KeyKind::Filesystem, "it is the same filesystem"),
    Link::confirmed("postgres.slots", "postgres.wal-size", KeyKind::Server, "a slot retains it"),
    Link::confirmed("postgres.archiver", "postgres.wal-size", KeyKind::Server, "WAL that is not archived is not removed"),
    Link::confirmed("postgres.wal-size", "disk.space", KeyKind::Filesystem, "the WAL fills it"),
    Link::confirmed("postgres.idle-in-tx", "postgres.blocked", KeyKind::Backend, "the blocking session is idle"),
    Link::confirmed("postgres.long-query", "postgres.blocked", KeyKind::Backend, "the blocking query is still running"),
    Link::confirmed(
        "postgres.sync-standby-missing",
        "postgres.blocked",
        KeyKind::Backend,
        "the blocking session waits for a synchronous standby",
    ),
    Link::likely(
        "postgres.sync-standby-missing",
        "postgres.connections",
        KeyKind::Server,
        "waiting commits keep their connections",
    ),
    Link::likely("postgres.blocked", "postgres.connections", KeyKind::Server, "blocked sessions keep their connections"),
    Link::confirmed("postgres.idle-in-tx", "postgres.connections", KeyKind::Server, "idle transactions hold the connections"),
    Link::likely("postgres.idle-in-tx", "postgres.wraparound", KeyKind::Server, "an open transaction retains dead rows"),
    Link::likely("postgres.slots", "postgres.wraparound", KeyKind::Server, "a slot retains dead rows"),
    Link::likely("postgres.prepared-xacts", "postgres.wraparound", KeyKind::Server, "a prepared transaction retains dead rows"),
    Link::likely("postgres.prepared-xacts", "postgres.blocked", KeyKind::Backend, "a prepared transaction keeps its locks"),
];

/// The last lines of the server's log that contain one of these words, from its container's log or its log file.
async fn log_of(cx: &ProbeCx, server: &Server, words: &[&str]) -> Vec<String> {
    let Some(server) = server.get() else { return Vec::new() };
    let mut lines = Vec::new();
    if let (Some(id), Some(docker)) = (&server.container, &cx.docker) {
        lines = docker.log_tail(id, 300).await.unwrap_or_default();
    } else if let Some(process) = server.process {
        // the log file is open in the logging collector, or is the server's own output
        let read = move |io: &Io| {
            let pids = children_of(io, process.pid).into_iter().chain([process.pid]);
            let files: std::collections::BTreeSet<String> = pids.flat_map(|pid| open_files(io, pid, ".log")).collect();
            files.iter().flat_map(|f| file_tail(io, process.pid, f, 256 << 10)).collect()
        };
        lines = blocking::run("its log", &format!("process {}", process.pid), READ_TIMEOUT, read).await.unwrap_or_default();
    }
    lines.retain(|l| words.iter().any(|w| l.contains(w)));
    lines.drain(..lines.len().saturating_sub(5));
    lines
}

/// Builds the runbook from its settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let settings = settings.clone();
    Runbook {
        id: "postgres",
        about: "PostgreSQL and PgBouncer: connections, locks, WAL, replication, wraparound, disk space",
        checks: vec![
            Box::new(up::Up),
            Box::new(connections::Connections { settings: settings.clone() }),
            Box::new(refused::RefusedClients),
            Box::new(activity::Activity { settings: settings.clone() }),
            Box::new(wal::Wal { settings: settings.clone() }),
            Box::new(vacuum::Vacuum { settings: settings.clone() }),
            Box::new(replication::Replication { settings: settings.clone() }),
            Box::new(integrity::Integrity { settings: settings.clone() }),
            Box::new(restarts::Restarts),
            Box::new(disk::Disk { settings: settings.clone() }),
            Box::new(pgbouncer::Pgbouncer { settings }),
        ],
        links: &[LINKS],
        doc: include_str!("RUNBOOK.md"),
        ..Runbook::default()
    }
}
