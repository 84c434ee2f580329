//! The network runbook: clients reach the services they need, and private services are not exposed.

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
mod verdict;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{KeyKind, Link, Runbook};

use crate::shared::settings::settings;

settings! {
    /// `[runbooks.network]`.
    pub struct Settings {
        /// Seconds after its start in which a missing listener of a container is no finding (judgement: 60).
        starting_s: i64 = 60,
        /// Ports of databases, brokers and metrics that are published on every address on purpose: container and port.
        #[schemars(example = ["prometheus:9090"])]
        exposed_ok: Vec<String> = Vec::new(),
        /// Usage of the conntrack table in percent that is warn (node-mixin `NodeHighNumberConntrackEntriesUsed`: 75).
        conntrack_warn_percent: f64 = 75.0,
        /// The same, crit (netdata `health.d/tcp_conn.conf` and `netfilter.conf`: 90 to 95).
        conntrack_crit_percent: f64 = 90.0,
        /// Connections dropped per second because of full queues that are warn (netdata `health.d/tcp_listen.conf`: 1).
        overflows_warn: f64 = 1.0,
        /// The same, crit (netdata: 5).
        overflows_crit: f64 = 5.0,
    }
    limits {
        conntrack: Percent at_least(conntrack_warn_percent, conntrack_crit_percent),
        overflows: Count more_than(overflows_warn, overflows_crit),
    }
}

/// Causes and effects; docs/causes.md lists all links. A cause and its effect share the port: another port of the same
/// container is unrelated.
const LINKS: &[Link] = &[
    Link::confirmed(
        "network.loopback-only",
        "network.docker-proxy-dead",
        KeyKind::Port,
        "it listens on the loopback address of its container only",
    ),
    Link::confirmed("network.missing", "network.docker-proxy-dead", KeyKind::Port, "the port has no listener"),
    Link::confirmed("network.wrong-port", "network.docker-proxy-dead", KeyKind::Port, "it listens on another port"),
    Link::confirmed(
        "healthcheck.tcp",
        "network.docker-proxy-dead",
        KeyKind::Port,
        "the container does not listen on the published port",
    ),
    Link::confirmed(
        "network.docker-chains",
        "network.forward-drop",
        KeyKind::Host,
        "the rules that accept packets of containers are missing",
    ),
    Link::confirmed("network.exposed", "redis.exposed", KeyKind::Container, "its port is published on every address").treatable(),
];

/// The runbook with these settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let settings = settings.clone();
    Runbook {
        id: "network",
        about: "Listeners, reachability of needed services, exposed ports, packet forwarding and packet filter rules",
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
        ..Runbook::default()
    }
}

/// Key shared by the findings about one port of one container.
fn port_key(container: &str, port: u16) -> String {
    format!("{container}:{port}")
}

/// Whether the container started so recently that a missing listener is no finding.
fn is_young(started: Option<Timestamp>, now: Timestamp, settings: &Settings) -> bool {
    started.is_some_and(|t| now.duration_since(t) < SignedDuration::from_secs(settings.starting_s))
}

/// Ports of servers that count or log a connection without data: kernel state is used instead of a probe.
const DATABASES: &[u16] = &[1433, 3306, 5432, 5671, 5672, 6379, 6432, 9042, 11211, 26379, 27017];
