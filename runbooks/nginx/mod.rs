//! The nginx runbook: configuration, upstreams, failed requests, sockets and maintenance mode.

mod config;
mod errors;
mod mode;
mod processes;
mod sockets;
mod traffic;
mod upstreams;

use opsctl_core::model::{Finding, KeyKind, Link, Runbook};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::servers::Server;

/// `[runbooks.nginx]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Evaluated window of the logs in seconds (judgement: 5 min).
    pub window_s: u32,
    /// Requests in that window below which a share is ignored (judgement: 60; netdata `health.d/web_log.conf`: 120 a minute).
    pub min_requests: u64,
    /// Share of 5xx responses in percent that is warn (netdata, web log alarms: 2).
    pub failed_warn_percent: f64,
    /// The same for crit (netdata: 5; awesome-prometheus-alerts: 5).
    pub failed_crit_percent: f64,
    /// 5xx responses that are crit also with fewer requests, if they are at least half of them (judgement).
    pub few_failed_crit: u64,
    /// Error log lines of one kind within the window that are warn (judgement).
    pub errors_warn: u64,
    /// Usage of `worker_connections` or of the open files limit by a worker, in percent, that is warn (judgement: 80).
    pub connections_warn_percent: f64,
    /// The same for crit (judgement).
    pub connections_crit_percent: f64,
    /// Connections waiting to be accepted, in two samples, that are warn (judgement).
    pub backlog_warn: u64,
    /// Timeout of a connection to an upstream in milliseconds (judgement; on this host or its networks).
    pub connect_timeout_ms: u64,
    /// Seconds after its start in which an upstream container may still be starting (judgement).
    pub starting_s: i64,
    /// Hours after which a worker that is shutting down is reported (judgement: 1).
    pub leaving_h: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window_s: 300,
            min_requests: 60,
            failed_warn_percent: 2.0,
            failed_crit_percent: 5.0,
            few_failed_crit: 10,
            errors_warn: 10,
            connections_warn_percent: 80.0,
            connections_crit_percent: 95.0,
            backlog_warn: 50,
            connect_timeout_ms: 1000,
            starting_s: 30,
            leaving_h: 1,
        }
    }
}

/// Causes and effects; docs/causes.md lists all links.
const LINKS: &[Link] = &[
    Link::confirmed("container.down", "nginx.stopped", KeyKind::Container, "its container is down"),
    Link::confirmed("container.restart-loop", "nginx.stopped", KeyKind::Container, "its container restarts repeatedly"),
    Link::confirmed("container.start-failed", "nginx.stopped", KeyKind::Container, "its container could not be started"),
    Link::confirmed("container.oom-killed", "nginx.stopped", KeyKind::Container, "the OOM killer killed it"),
    Link::confirmed("container.paused", "nginx.stopped", KeyKind::Container, "its container is paused"),
    Link::confirmed("systemd.unit-failed", "nginx.stopped", KeyKind::Unit, "its unit failed"),
    Link::confirmed("systemd.enabled-inactive", "nginx.stopped", KeyKind::Unit, "its unit is not started"),
    Link::confirmed("nginx.stopped", "healthcheck.http", KeyKind::Server, "nginx is not running"),
    Link::confirmed("container.down", "nginx.upstream-unreachable", KeyKind::Container, "the upstream container is down"),
    Link::confirmed(
        "container.restart-loop",
        "nginx.upstream-unreachable",
        KeyKind::Container,
        "the upstream container restarts repeatedly",
    ),
    Link::confirmed(
        "container.start-failed",
        "nginx.upstream-unreachable",
        KeyKind::Container,
        "the upstream container could not be started",
    ),
    Link::confirmed(
        "container.oom-killed",
        "nginx.upstream-unreachable",
        KeyKind::Container,
        "the kernel killed the upstream container",
    ),
    Link::confirmed("container.paused", "nginx.upstream-unreachable", KeyKind::Container, "the upstream container is paused"),
    Link::confirmed(
        "container.network-detached",
        "nginx.upstream-unreachable",
        KeyKind::Container,
        "the upstream container is detached from their network",
    ),
    Link::confirmed(
        "healthcheck.tcp",
        "nginx.upstream-unreachable",
        KeyKind::Container,
        "the upstream container does not listen on the port",
    ),
    Link::confirmed(
        "container.down",
        "nginx.config-test",
        KeyKind::Container,
        "a name in its configuration belongs to a container that is down",
    ),
    Link::confirmed(
        "container.restart-loop",
        "nginx.config-test",
        KeyKind::Container,
        "a name in its configuration belongs to a container that is restarting",
    ),
    Link::confirmed(
        "container.start-failed",
        "nginx.config-test",
        KeyKind::Container,
        "a name in its configuration belongs to a container that could not be started",
    ),
    Link::confirmed(
        "container.network-detached",
        "nginx.config-test",
        KeyKind::Container,
        "a name in its configuration belongs to a container that is detached from their network",
    ),
    Link::confirmed("nginx.config-test", "nginx.config-not-loaded", KeyKind::Server, "an invalid configuration is not loaded"),
    Link::confirmed(
        "container.bind-broken",
        "nginx.config-not-loaded",
        KeyKind::Container,
        "its bind mount still refers to the replaced file",
    ),
    Link::confirmed("nginx.upstream-stale-ip", "nginx.upstream-unreachable", KeyKind::Upstream, "it connects to the old address"),
    Link::confirmed("nginx.upstream-stale-ip", "nginx.5xx-rate", KeyKind::Upstream, "requests go to the old address"),
    Link::confirmed("nginx.upstream-unreachable", "nginx.5xx-rate", KeyKind::Upstream, "the upstream is unreachable"),
    Link::confirmed("nginx.upstream-stale-ip", "nginx.error-signals", KeyKind::Upstream, "requests go to the old address"),
    Link::confirmed("nginx.upstream-unreachable", "nginx.error-signals", KeyKind::Upstream, "the upstream is unreachable"),
    Link::confirmed("nginx.connections", "nginx.5xx-rate", KeyKind::Server, "its connections run out"),
    Link::confirmed("nginx.mode", "nginx.5xx-rate", KeyKind::Server, "it is in maintenance mode"),
    Link::confirmed("container.restart-loop", "nginx.5xx-rate", KeyKind::Container, "the upstream container restarts repeatedly"),
    Link::confirmed("container.oom-killed", "nginx.5xx-rate", KeyKind::Container, "the kernel kills the upstream container"),
    Link::confirmed("container.down", "nginx.5xx-rate", KeyKind::Container, "the upstream container is down"),
    Link::likely("container.memory-near-limit", "nginx.5xx-rate", KeyKind::Container, "the upstream runs out of memory"),
    Link::likely("postgres.connections", "nginx.5xx-rate", KeyKind::Server, "the upstream cannot connect to its database"),
    Link::likely("postgres.idle-in-tx", "nginx.5xx-rate", KeyKind::Server, "the database of the upstream is blocked"),
    Link::likely("postgres.blocked", "nginx.5xx-rate", KeyKind::Server, "the database of the upstream is blocked"),
    Link::likely("postgres.up", "nginx.5xx-rate", KeyKind::Server, "the database of the upstream is down"),
    Link::likely("redis.up", "nginx.5xx-rate", KeyKind::Server, "the cache of the upstream is down"),
    Link::likely("redis.persistence", "nginx.5xx-rate", KeyKind::Writes, "the cache of the upstream rejects writes"),
    Link::likely("redis.memory", "nginx.5xx-rate", KeyKind::Writes, "the cache of the upstream rejects writes"),
    Link::likely("rabbitmq.up", "nginx.5xx-rate", KeyKind::Server, "the broker of the upstream is down"),
    Link::confirmed("nginx.5xx-rate", "nginx.error-signals", KeyKind::Upstream, "the same failures"),
    Link::confirmed("nginx.upstream-stale-ip", "healthcheck.http", KeyKind::Server, "requests go to the old address"),
    Link::confirmed("nginx.upstream-stale-ip", "healthcheck.content", KeyKind::Server, "requests go to another service"),
    Link::confirmed("nginx.upstream-unreachable", "healthcheck.http", KeyKind::Server, "the upstream is unreachable"),
    Link::confirmed("nginx.mode", "healthcheck.http", KeyKind::Server, "it is in maintenance mode"),
    Link::confirmed("nginx.mode", "healthcheck.content", KeyKind::Server, "it is in maintenance mode"),
    Link::likely("postgres.connections", "healthcheck.http", KeyKind::Server, "the application cannot connect to its database"),
    Link::likely("postgres.idle-in-tx", "healthcheck.http", KeyKind::Server, "the database of the application is blocked"),
    Link::likely("postgres.blocked", "healthcheck.http", KeyKind::Server, "the database of the application is blocked"),
    Link::likely("postgres.up", "healthcheck.http", KeyKind::Server, "the database of the application is down"),
    Link::likely("redis.up", "healthcheck.http", KeyKind::Server, "the cache of the application is down"),
    Link::likely("redis.persistence", "healthcheck.http", KeyKind::Writes, "the cache of the application rejects writes"),
    Link::likely("redis.memory", "healthcheck.http", KeyKind::Writes, "the cache of the application rejects writes"),
    Link::likely("rabbitmq.up", "healthcheck.http", KeyKind::Server, "the broker of the application is down"),
    Link::likely(
        "postgres.connections",
        "healthcheck.content",
        KeyKind::Server,
        "the application cannot connect to its database",
    ),
    Link::likely("postgres.idle-in-tx", "healthcheck.content", KeyKind::Server, "the database of the application is blocked"),
    Link::likely("postgres.blocked", "healthcheck.content", KeyKind::Server, "the database of the application is blocked"),
    Link::likely("redis.persistence", "healthcheck.content", KeyKind::Writes, "the cache of the application rejects writes"),
    Link::likely("redis.memory", "healthcheck.content", KeyKind::Writes, "the cache of the application rejects writes"),
    Link::likely("rabbitmq.up", "healthcheck.content", KeyKind::Server, "the broker of the application is down"),
    Link::likely("redis.up", "healthcheck.content", KeyKind::Server, "the cache of the application is down"),
    Link::likely("postgres.up", "healthcheck.content", KeyKind::Server, "the database of the application is down"),
    Link::likely("nginx.5xx-rate", "healthcheck.http", KeyKind::Server, "the same failures"),
    Link::likely("postgres.pgbouncer", "nginx.5xx-rate", KeyKind::Server, "the upstream waits for a pooled connection"),
    Link::likely("postgres.pgbouncer", "healthcheck.http", KeyKind::Server, "the application waits for a pooled connection"),
    Link::likely("postgres.pgbouncer", "healthcheck.content", KeyKind::Server, "the application waits for a pooled connection"),
    Link::likely("rabbitmq.alarms", "nginx.5xx-rate", KeyKind::Server, "the broker of the upstream rejects messages"),
    Link::likely("rabbitmq.alarms", "healthcheck.http", KeyKind::Server, "the broker of the application rejects messages"),
    Link::likely("rabbitmq.alarms", "healthcheck.content", KeyKind::Server, "the broker of the application rejects messages"),
    Link::likely("disk.space", "nginx.error-signals", KeyKind::Filesystem, "no space is left for request bodies"),
    Link::likely("disk.inodes", "nginx.error-signals", KeyKind::Filesystem, "no space is left for request bodies"),
    Link::confirmed("disk.fds", "nginx.error-signals", KeyKind::Descriptors, "its processes have no free file descriptors"),
];

/// The runbook with these settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let settings = settings.clone();
    Runbook {
        id: "nginx",
        about: "nginx: configuration, upstreams, failed requests, sockets, maintenance mode",
        checks: vec![
            Box::new(processes::Processes { settings: settings.clone() }),
            Box::new(config::Config),
            Box::new(upstreams::Upstreams { settings: settings.clone() }),
            Box::new(traffic::Traffic { settings: settings.clone() }),
            Box::new(errors::Errors { settings: settings.clone() }),
            Box::new(sockets::Sockets { settings }),
            Box::new(mode::Mode),
        ],
        links: &[LINKS],
        doc: include_str!("RUNBOOK.md"),
    }
}

/// Keys a finding about an upstream to the nginx server, not to its container, which is healthy.
fn behind(server: &Server, finding: Finding) -> Finding {
    let Some(server) = server.get() else { return finding };
    finding.key(KeyKind::Server, &server.id).key(KeyKind::Upstream, &server.id)
}
