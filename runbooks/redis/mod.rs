//! The redis runbook: availability, persistence, memory, clients, replication and exposure of Redis, Valkey, KeyDB and Dragonfly.

mod clients;
mod exposure;
mod info;
mod latency;
mod memory;
mod persistence;
mod replication;
mod up;

use std::collections::HashMap;

use opsctl_core::model::{KeyKind, Link, Runbook};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[runbooks.redis]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Remaining loading time in seconds that is crit (judgement).
    pub loading_crit_s: u64,
    /// Seconds a snapshot may take before warn (netdata health.d/redis.conf: 600).
    pub bgsave_warn_s: u64,
    /// The same for crit (netdata: 1200).
    pub bgsave_crit_s: u64,
    /// Share of maxmemory in percent that is warn with the policy noeviction (awesome-prometheus-alerts: 90).
    pub maxmemory_warn_percent: f64,
    /// The same for crit (judgement).
    pub maxmemory_crit_percent: f64,
    /// Share in percent of the container's limit or of the host's memory that is warn without maxmemory (judgement).
    pub unlimited_warn_percent: f64,
    /// The same for crit (judgement).
    pub unlimited_crit_percent: f64,
    /// Share of maxclients in percent that is warn (judgement).
    pub clients_warn_percent: f64,
    /// The same for crit (judgement).
    pub clients_crit_percent: f64,
    /// Seconds without data from its master that are warn for a replica (judgement: 30).
    pub replica_silent_s: u64,
    /// Milliseconds of the slowest PING that are warn (judgement).
    pub latency_warn_ms: f64,
    /// Uptime in seconds below which a restart is reported (judgement: 600).
    pub restarted_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            loading_crit_s: 300,
            bgsave_warn_s: 600,
            bgsave_crit_s: 1200,
            maxmemory_warn_percent: 90.0,
            maxmemory_crit_percent: 98.0,
            unlimited_warn_percent: 75.0,
            unlimited_crit_percent: 90.0,
            clients_warn_percent: 80.0,
            clients_crit_percent: 90.0,
            replica_silent_s: 30,
            latency_warn_ms: 100.0,
            restarted_s: 600,
        }
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
            Box::new(memory::Memory { settings: settings.clone() }),
            Box::new(clients::Clients { settings: settings.clone() }),
            Box::new(replication::Replication { settings: settings.clone() }),
            Box::new(latency::Latency { settings: settings.clone() }),
            Box::new(exposure::Exposure { settings }),
        ],
        links: &[LINKS],
        doc: include_str!("RUNBOOK.md"),
    }
}

/// The fields of a line of `CLIENT LIST`.
pub(crate) fn client(line: &str) -> HashMap<&str, &str> {
    line.split(' ').filter_map(|field| field.split_once('=')).collect()
}
