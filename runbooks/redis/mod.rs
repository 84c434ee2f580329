//! The redis runbook: availability, persistence, memory, clients, replication and exposure of Redis, Valkey, KeyDB and Dragonfly.

mod clients;
mod exposure;
mod info;
mod latency;
mod memory;
mod persistence;
mod persistence_off;
mod refused;
mod replication;
mod up;

use std::collections::HashMap;

use opsctl_core::model::{KeyKind, Link, Runbook};

pub(crate) use self::replication::is_public;
use crate::shared::settings::settings;

settings! {
    /// `[runbooks.redis]`.
    pub struct Settings {
        /// Remaining loading time in seconds that is crit (judgement).
        loading_crit_s: u64 = 300,
        /// Seconds a snapshot may take before warn (netdata health.d/redis.conf: 600).
        bgsave_warn_s: u64 = 600,
        /// The same for crit (netdata: 1200).
        bgsave_crit_s: u64 = 1200,
        /// Share of maxmemory in percent that is warn with the policy noeviction (awesome-prometheus-alerts: 90).
        maxmemory_warn_percent: f64 = 90.0,
        /// The same for crit (judgement).
        maxmemory_crit_percent: f64 = 98.0,
        /// Share in percent of the container's limit or of the host's memory that is warn without maxmemory (judgement).
        unlimited_warn_percent: f64 = 75.0,
        /// The same for crit (judgement).
        unlimited_crit_percent: f64 = 90.0,
        /// Share of maxclients in percent that is warn (judgement).
        clients_warn_percent: f64 = 80.0,
        /// The same for crit (judgement).
        clients_crit_percent: f64 = 90.0,
        /// Seconds without data from its master that are warn for a replica (judgement: 30).
        replica_silent_s: u64 = 30,
        /// Milliseconds of the slowest PING that are warn (judgement).
        latency_warn_ms: f64 = 100.0,
        /// Uptime in seconds below which a restart is reported (judgement: 600).
        restarted_s: u64 = 600,
    }
    limits {
        bgsave: Seconds more_than(bgsave_warn_s, bgsave_crit_s),
        maxmemory: Percent at_least(maxmemory_warn_percent, maxmemory_crit_percent),
        unlimited: Percent at_least(unlimited_warn_percent, unlimited_crit_percent),
        clients: Percent at_least(clients_warn_percent, clients_crit_percent),
    }
}

/// Causal links between findings; docs/causes.md lists all links.
const LINKS: &[Link] = &[
    Link::confirmed(
        "redis.persistence",
        "healthcheck.unhealthy",
        KeyKind::Container,
        "it rejects even PING while it cannot save",
    ),
    Link::confirmed("redis.fork-risk", "redis.persistence", KeyKind::Server, "the kernel rejects the fork for lack of memory"),
    Link::confirmed("redis.replication", "redis.up", KeyKind::Server, "without its master it rejects every command"),
    Link::likely(
        "memory.overcommit",
        "redis.persistence",
        KeyKind::Host,
        "the commit limit is reached, and a fork commits the whole memory again",
    ),
    Link::likely("redis.exposed", "redis.persistence", KeyKind::Altered, "any client can change where it saves"),
    Link::likely("redis.exposed", "redis.foreign-master", KeyKind::Altered, "any client can make it a replica"),
    Link::confirmed("redis.foreign-master", "redis.replication", KeyKind::Server, "its master is a foreign one"),
    Link::likely("redis.foreign-master", "redis.persistence", KeyKind::Altered, "a client changed its settings"),
    Link::confirmed("redis.broker-policy", "redis.evictions", KeyKind::Server, "its policy evicts keys"),
];

/// Builds the runbook from its settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let settings = settings.clone();
    Runbook {
        id: "redis",
        about: "Redis and compatible servers: availability, snapshots, memory, clients, replicas, exposure",
        checks: vec![
            Box::new(up::Up { settings: settings.clone() }),
            Box::new(persistence::Persistence { settings: settings.clone() }),
            Box::new(persistence_off::PersistenceOff),
            Box::new(memory::Memory { settings: settings.clone() }),
            Box::new(clients::Clients { settings: settings.clone() }),
            Box::new(refused::Refused),
            Box::new(replication::Replication { settings: settings.clone() }),
            Box::new(latency::Latency { settings: settings.clone() }),
            Box::new(exposure::Exposure { settings }),
        ],
        links: &[LINKS],
        doc: include_str!("RUNBOOK.md"),
        ..Runbook::default()
    }
}

/// The fields of a line of `CLIENT LIST`.
pub(crate) fn client(line: &str) -> HashMap<&str, &str> {
    line.split(' ').filter_map(|field| field.split_once('=')).collect()
}
