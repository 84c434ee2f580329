//! The nginx runbook: configuration, upstreams, failed requests, sockets and maintenance mode.

mod config;
mod errors;
mod meanings;
mod mode;
mod processes;
mod sockets;
mod traffic;
mod upstreams;

use opsctl_core::model::{Finding, KeyKind, Link, Runbook};

use crate::shared::servers::Server;
use crate::shared::settings::settings;

settings! {
    /// `[runbooks.nginx]`.
    pub struct Settings {
        /// Evaluated window of the logs in seconds (judgement: 5 min).
        window_s: u32 = 300,
        /// Requests in that window below which a share is ignored (judgement: 60; netdata `health.d/web_log.conf`: 120 a minute).
        min_requests: u64 = 60,
        /// Share of 5xx responses in percent that is warn (netdata, web log alarms: 2).
        failed_warn_percent: f64 = 2.0,
        /// The same for crit (netdata: 5; awesome-prometheus-alerts: 5).
        failed_crit_percent: f64 = 5.0,
        /// 5xx responses that are crit also with fewer requests, if they are at least half of them (judgement).
        few_failed_crit: u64 = 10,
        /// Error log lines of one kind within the window that are warn (judgement).
        errors_warn: u64 = 10,
        /// Usage of `worker_connections` or of the open files limit by a worker, in percent, that is warn (judgement: 80).
        connections_warn_percent: f64 = 80.0,
        /// The same for crit (judgement).
        connections_crit_percent: f64 = 95.0,
        /// Connections waiting to be accepted, in two samples, that are warn (judgement).
        backlog_warn: u64 = 50,
        /// Timeout of a connection to an upstream in milliseconds (judgement; on this host or its networks).
        connect_timeout_ms: u64 = 1000,
        /// Seconds after its start in which an upstream container may still be starting (judgement).
        starting_s: i64 = 30,
        /// Hours after which a worker that is shutting down is reported (judgement: 1).
        leaving_h: i64 = 1,
    }
    limits {
        failed: Percent at_least(failed_warn_percent, failed_crit_percent),
        connections: Percent at_least(connections_warn_percent, connections_crit_percent),
    }
}

/// Causes and effects; docs/causes.md lists all links.
const LINKS: &[Link] = &[
    Link::confirmed(
        "healthcheck.tcp",
        "nginx.upstream-unreachable",
        KeyKind::Container,
        "the upstream container does not listen on the port",
    ),
    Link::confirmed("nginx.config-test", "nginx.config-not-loaded", KeyKind::Server, "an invalid configuration is not loaded"),
    Link::confirmed("nginx.upstream-stale-ip", "nginx.upstream-unreachable", KeyKind::Upstream, "it connects to the old address"),
    Link::confirmed("nginx.upstream-stale-ip", "nginx.5xx-rate", KeyKind::Upstream, "requests go to the old address"),
    Link::confirmed("nginx.upstream-unreachable", "nginx.5xx-rate", KeyKind::Upstream, "the upstream is unreachable"),
    Link::confirmed("nginx.upstream-stale-ip", "nginx.error-signals", KeyKind::Upstream, "requests go to the old address"),
    Link::confirmed("nginx.upstream-unreachable", "nginx.error-signals", KeyKind::Upstream, "the upstream is unreachable"),
    Link::confirmed("nginx.connections", "nginx.5xx-rate", KeyKind::Server, "its connections run out"),
    Link::confirmed("nginx.mode", "nginx.5xx-rate", KeyKind::Server, "it is in maintenance mode"),
    // the log states the reason, the rate only counts
    Link::confirmed("nginx.error-signals", "nginx.5xx-rate", KeyKind::Upstream, "its error log names the reason"),
    Link::confirmed("nginx.error-signals", "nginx.5xx-rate", KeyKind::ErrorLog, "its error log names the reason"),
    Link::confirmed("nginx.upstream-stale-ip", "healthcheck.http", KeyKind::Server, "requests go to the old address"),
    Link::confirmed("nginx.upstream-stale-ip", "healthcheck.content", KeyKind::Server, "requests go to another service"),
    Link::confirmed("nginx.upstream-unreachable", "healthcheck.http", KeyKind::Server, "the upstream is unreachable"),
    Link::confirmed("nginx.mode", "healthcheck.http", KeyKind::Server, "it is in maintenance mode"),
    Link::confirmed("nginx.mode", "healthcheck.content", KeyKind::Server, "it is in maintenance mode"),
    Link::likely("nginx.5xx-rate", "healthcheck.http", KeyKind::Server, "the same failures"),
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
        ..Runbook::default()
    }
}

/// Keys a finding about an upstream to the nginx server, not to its container, which is healthy.
fn behind(server: &Server, finding: Finding) -> Finding {
    let Some(server) = server.get() else { return finding };
    finding.key(KeyKind::Server, &server.id).key(KeyKind::Upstream, &server.id)
}
