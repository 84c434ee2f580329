//! The network runbook: clients reach the services they need, and private services are not exposed.

mod attached;
mod backlog;
mod chains;
mod climb;
mod conntrack;
mod ephemeral_ports;
mod filter;
mod forwarding;
mod hosts_entries;
mod ladder;
mod listeners;
mod neighbour_table;
mod nic_errors;
mod providers;
mod published;
mod rp_filter;
mod triage;
mod verdict;
mod wiring;

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
        /// Usage of the local ports to one peer in percent that is warn (judgement: 75).
        ephemeral_warn_percent: f64 = 75.0,
        /// The same, crit (judgement: 95).
        ephemeral_crit_percent: f64 = 95.0,
        /// Usage of the neighbour table in percent that is warn (judgement: 75).
        neighbours_warn_percent: f64 = 75.0,
        /// Share of the packets of an interface in percent that had errors or were lost, above which it is warn (node-mixin
        /// `NodeNetworkReceiveErrs` and `NodeNetworkTransmitErrs`: 1).
        nic_errors_warn_percent: f64 = 1.0,
        /// Free subnets in the address pools of the engine that are info (judgement: 2).
        free_subnets_info: usize = 2,
        /// Free addresses in a network that are info (judgement: 2).
        free_addresses_info: usize = 2,
    }
    limits {
        conntrack: Percent at_least(conntrack_warn_percent, conntrack_crit_percent),
        overflows: Count more_than(overflows_warn, overflows_crit),
        ephemeral: Percent at_least(ephemeral_warn_percent, ephemeral_crit_percent),
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
    Link::confirmed(
        "network.bridge-address",
        "network.endpoint-detached",
        KeyKind::Container,
        "the bridge of its network is down or missing",
    ),
    Link::confirmed(
        "network.bridge-address",
        "dns.container",
        KeyKind::Names,
        "without a gateway the container reaches no name server",
    ),
    Link::confirmed(
        "network.endpoint-detached",
        "dns.container",
        KeyKind::Names,
        "without its interface the container reaches no name server",
    ),
    Link::confirmed(
        "network.subnet-collision",
        "dns.resolve",
        KeyKind::Names,
        "the address of the name server is in the subnet of a container network",
    ),
    Link::confirmed(
        "network.subnet-collision",
        "network.triage",
        KeyKind::Address,
        "the address is in the subnet of a container network",
    ),
    Link::confirmed(
        "network.ephemeral-ports",
        "nginx.error-signals",
        KeyKind::ErrorLog,
        "no local port is left for a connection to the upstream",
    ),
    Link::confirmed("network.hosts-entry", "network.triage", KeyKind::Address, "its /etc/hosts has another address for the name"),
    Link::confirmed(
        "network.filter-drop",
        "network.triage",
        KeyKind::Address,
        "the packet filter of this host drops its packets",
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
            Box::new(hosts_entries::HostsEntries),
            Box::new(published::Published { settings: settings.clone() }),
            Box::new(attached::Attached),
            Box::new(chains::Chains),
            Box::new(forwarding::Forwarding),
            Box::new(filter::Filter),
            Box::new(conntrack::Conntrack { settings: settings.clone() }),
            Box::new(backlog::Backlog { settings: settings.clone() }),
            Box::new(wiring::stale_dnat::StaleDnat),
            Box::new(wiring::bridge_address::BridgeAddress),
            Box::new(wiring::endpoint_detached::EndpointDetached),
            Box::new(wiring::subnet_collision::SubnetCollision),
            Box::new(wiring::address_pools::AddressPools { settings: settings.clone() }),
            Box::new(wiring::stale_conntrack::StaleConntrack),
            Box::new(rp_filter::RpFilter),
            Box::new(ephemeral_ports::EphemeralPorts { settings: settings.clone() }),
            Box::new(neighbour_table::Neighbours { settings: settings.clone() }),
            Box::new(nic_errors::NicErrors { settings }),
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
