//! The network runbook: does who needs a service get there, and who gets there that should not?

mod attached;
mod backlog;
mod chains;
mod climb;
mod conntrack;
mod forwarding;
mod ladder;
mod listeners;
mod published;
mod triage;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{KeyKind, Link, Runbook};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[runbooks.network]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seconds after its start in which a container need not listen yet (catalogue §14: 60).
    pub starting_s: i64,
    /// Ports of databases, brokers and metrics that are published to everybody on purpose: container and port.
    #[schemars(example = ["prometheus:9090"])]
    pub exposed_ok: Vec<String>,
    /// Percent of the table of connections that is warn (node-mixin `NodeHighNumberConntrackEntriesUsed`: 75).
    pub conntrack_warn_percent: f64,
    /// The same, crit (netdata `health.d/tcp_conn.conf` and `netfilter.conf`: 90 to 95).
    pub conntrack_crit_percent: f64,
    /// Connections dropped for full queues a second that are warn (netdata `health.d/tcp_listen.conf`: 1).
    pub overflows_warn: f64,
    /// The same, crit (netdata: 5).
    pub overflows_crit: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            starting_s: 60,
            exposed_ok: Vec::new(),
            conntrack_warn_percent: 75.0,
            conntrack_crit_percent: 90.0,
            overflows_warn: 1.0,
            overflows_crit: 5.0,
        }
    }
}

/// What may cause what (catalogue §18). The causes share the port with their effects: another port of the same container is
/// another matter.
const LINKS: &[Link] = &[
    Link::confirmed(
        "network.loopback-only",
        "network.triage",
        KeyKind::Port,
        "it listens where only its own container reaches it",
    ),
    Link::confirmed("network.missing", "network.triage", KeyKind::Port, "nothing listens there"),
    Link::confirmed("network.wrong-port", "network.triage", KeyKind::Port, "it listens on another port"),
    Link::confirmed("network.family", "network.triage", KeyKind::Port, "it listens for the other family of addresses only"),
    Link::confirmed("container.down", "network.triage", KeyKind::Container, "what it needs is down"),
    Link::confirmed("container.restart-loop", "network.triage", KeyKind::Container, "what it needs is restarted again and again"),
    Link::confirmed("container.start-failed", "network.triage", KeyKind::Container, "what it needs could not be started"),
    Link::confirmed("container.oom-killed", "network.triage", KeyKind::Container, "the kernel killed what it needs"),
    Link::confirmed("container.paused", "network.triage", KeyKind::Container, "what it needs is paused"),
    Link::confirmed("container.network-detached", "network.triage", KeyKind::Container, "they share no network"),
    Link::confirmed(
        "network.loopback-only",
        "healthcheck.tcp",
        KeyKind::Port,
        "it listens where only its own container reaches it",
    ),
    Link::confirmed("network.missing", "healthcheck.tcp", KeyKind::Port, "nothing listens there"),
    Link::confirmed("network.wrong-port", "healthcheck.tcp", KeyKind::Port, "it listens on another port"),
    Link::confirmed("network.family", "healthcheck.tcp", KeyKind::Port, "it listens for the other family of addresses only"),
    Link::confirmed("network.loopback-only", "healthcheck.http", KeyKind::Port, "only its own container reaches it"),
    Link::confirmed("network.missing", "healthcheck.http", KeyKind::Port, "nothing listens there"),
    Link::confirmed("network.wrong-port", "healthcheck.http", KeyKind::Port, "it listens on another port"),
    Link::confirmed(
        "network.loopback-only",
        "nginx.upstream-unreachable",
        KeyKind::Port,
        "it listens where only its own container reaches it",
    ),
    Link::confirmed("network.missing", "nginx.upstream-unreachable", KeyKind::Port, "nothing listens there"),
    Link::confirmed("network.wrong-port", "nginx.upstream-unreachable", KeyKind::Port, "it listens on another port"),
    Link::confirmed(
        "network.family",
        "nginx.upstream-unreachable",
        KeyKind::Port,
        "it listens for the other family of addresses only",
    ),
    Link::confirmed("network.loopback-only", "network.docker-proxy-dead", KeyKind::Port, "only its own container reaches it"),
    Link::confirmed("network.missing", "network.docker-proxy-dead", KeyKind::Port, "nothing listens there"),
    Link::confirmed("network.wrong-port", "network.docker-proxy-dead", KeyKind::Port, "it listens on another port"),
    Link::confirmed(
        "healthcheck.tcp",
        "network.docker-proxy-dead",
        KeyKind::Port,
        "nothing in the container listens where it should",
    ),
    Link::confirmed(
        "systemd.unit-failed",
        "network.docker-chains",
        KeyKind::Unit,
        "a firewall that could not start has removed the rules of others before",
    )
    .treatable(),
    Link::confirmed(
        "network.docker-chains",
        "network.forward-drop",
        KeyKind::Host,
        "the rules that let containers' packets through are gone",
    ),
    Link::likely("network.docker-chains", "network.triage", KeyKind::Host, "packets between networks are not forwarded"),
    Link::likely("network.ip-forward", "network.triage", KeyKind::Host, "packets between networks are not forwarded"),
    Link::likely("network.forward-drop", "network.triage", KeyKind::Host, "packets between networks are dropped"),
    Link::likely("network.conntrack", "network.triage", KeyKind::Host, "the kernel drops packets of new connections"),
    Link::likely(
        "network.docker-chains",
        "nginx.upstream-unreachable",
        KeyKind::Host,
        "packets between networks are not forwarded",
    ),
    Link::likely("network.ip-forward", "nginx.upstream-unreachable", KeyKind::Host, "packets between networks are not forwarded"),
    Link::likely("network.forward-drop", "nginx.upstream-unreachable", KeyKind::Host, "packets between networks are dropped"),
    Link::likely("network.conntrack", "nginx.upstream-unreachable", KeyKind::Host, "the kernel drops packets of new connections"),
    Link::likely("network.docker-chains", "healthcheck.http", KeyKind::Host, "packets between networks are not forwarded"),
    Link::likely("network.ip-forward", "healthcheck.http", KeyKind::Host, "packets between networks are not forwarded"),
    Link::likely("network.forward-drop", "healthcheck.http", KeyKind::Host, "packets between networks are dropped"),
    Link::likely("network.conntrack", "healthcheck.http", KeyKind::Host, "the kernel drops packets of new connections"),
    Link::likely("network.docker-chains", "dns.container", KeyKind::Host, "what containers ask does not leave this host"),
    Link::likely("network.ip-forward", "dns.container", KeyKind::Host, "what containers ask does not leave this host"),
    Link::likely("network.forward-drop", "dns.container", KeyKind::Host, "what containers ask is dropped"),
    Link::confirmed("network.exposed", "redis.exposed", KeyKind::Container, "its port is published to everybody").treatable(),
];

/// The runbook with these settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let settings = settings.clone();
    Runbook {
        id: "network",
        about: "Who listens where, whether those who need it get there, what is open to everybody, and what forwards packets",
        checks: vec![
            Box::new(listeners::Listeners { settings: settings.clone() }),
            Box::new(triage::Triage { settings: settings.clone() }),
            Box::new(published::Published { settings: settings.clone() }),
            Box::new(attached::Attached),
            Box::new(chains::Chains),
            Box::new(forwarding::Forwarding),
            Box::new(conntrack::Conntrack { settings: settings.clone() }),
            Box::new(backlog::Backlog { settings }),
        ],
        links: &[LINKS],
        doc: include_str!("RUNBOOK.md"),
    }
}

/// What ties findings about one port of one container.
fn port_key(container: &str, port: u16) -> String {
    format!("{container}:{port}")
}

/// Whether something was started so lately that it need not listen yet.
fn is_young(started: Option<Timestamp>, now: Timestamp, settings: &Settings) -> bool {
    started.is_some_and(|t| now.duration_since(t) < SignedDuration::from_secs(settings.starting_s))
}

/// Ports of servers that count or log a connection on which nothing is said: there the kernel is asked instead.
const DATABASES: &[u16] = &[1433, 3306, 5432, 5671, 5672, 6379, 6432, 9042, 11211, 26379, 27017];
