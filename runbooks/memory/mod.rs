//! The memory runbook: available memory, its largest users, memory pressure and OOM kills.

mod growth;
mod oom;
mod pressure;
mod usage;

use opsctl_core::model::{KeyKind, Link, Runbook};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[runbooks.memory]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Available memory in percent below which is warn (netdata health.d/ram.conf, mixin: 10).
    pub available_warn_percent: f64,
    /// Available memory in percent below which is crit (judgement: 5).
    pub available_crit_percent: f64,
    /// Share of the last minute in percent in which tasks waited for memory that is warn (judgement: 10).
    pub waiting_warn_percent: f64,
    /// Share of the last 10 s in which all tasks stalled for memory that is crit (judgement: 20).
    pub stalled_crit_percent_10s: f64,
    /// The same for the last minute (judgement: 10; systemd-oomd kills at 60).
    pub stalled_crit_percent_60s: f64,
    /// Used swap in percent that is warn when it is also in use (netdata health.d/swap.conf: 80).
    pub swap_warn_percent: f64,
    /// The same for crit (netdata: 98).
    pub swap_crit_percent: f64,
    /// Pages read from swap per second above which is warn (mixin: 500), with as many major faults.
    pub swap_in_pages: f64,
    /// Committed memory in percent of the commit limit that is crit when the limit is enforced (judgement: 90).
    pub committed_crit_percent: f64,
    /// Unreclaimable kernel memory in percent of the total that is warn (judgement: 25).
    pub slab_warn_percent: f64,
    /// tmpfs and shared memory in percent of the total that is warn (judgement: 50).
    pub shmem_warn_percent: f64,
    /// Growth of a process per hour in percent that makes it suspect (judgement: 10).
    pub growth_warn_percent: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            available_warn_percent: 10.0,
            available_crit_percent: 5.0,
            waiting_warn_percent: 10.0,
            stalled_crit_percent_10s: 20.0,
            stalled_crit_percent_60s: 10.0,
            swap_warn_percent: 80.0,
            swap_crit_percent: 98.0,
            swap_in_pages: 500.0,
            committed_crit_percent: 90.0,
            slab_warn_percent: 25.0,
            shmem_warn_percent: 50.0,
            growth_warn_percent: 10.0,
        }
    }
}

/// Causes and effects; docs/causes.md lists all links.
const LINKS: &[Link] = &[
    Link::confirmed("memory.leak-suspect", "memory.available", KeyKind::Host, "one process keeps growing"),
    Link::confirmed("memory.slab", "memory.available", KeyKind::Host, "kernel objects use it"),
    Link::confirmed("memory.shm", "memory.available", KeyKind::Host, "tmpfs files and shared memory use it"),
    Link::confirmed("memory.available", "memory.swap-thrash", KeyKind::Host, "the working set does not fit into memory"),
    Link::confirmed("memory.available", "memory.pressure", KeyKind::Host, "no memory is left to allocate"),
    Link::confirmed("memory.swap-thrash", "memory.pressure", KeyKind::Host, "tasks wait for pages from swap"),
    Link::likely(
        "container.memory-near-limit",
        "memory.pressure",
        KeyKind::Host,
        "a container at its limit waits for memory although the host has free memory",
    ),
    Link::likely("memory.pressure", "cpu.iowait", KeyKind::Host, "reclaim and swapping keep the disk busy"),
    Link::confirmed(
        "memory.oom-kill",
        "container.down",
        KeyKind::Container,
        "the kernel killed it because the host was out of memory",
    ),
    Link::confirmed(
        "memory.oom-kill",
        "container.restart-loop",
        KeyKind::Container,
        "the kernel killed it because the host was out of memory",
    ),
    Link::confirmed(
        "memory.oom-kill",
        "systemd.unit-failed",
        KeyKind::Unit,
        "the kernel killed it because the host was out of memory",
    ),
    Link::confirmed(
        "memory.oom-kill",
        "systemd.restart-loop",
        KeyKind::Unit,
        "the kernel killed it because the host was out of memory",
    ),
];

/// The runbook with these settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let settings = settings.clone();
    Runbook {
        id: "memory",
        about: "Memory shortage and pressure, the largest processes, and OOM kills",
        checks: vec![
            Box::new(usage::Usage { settings: settings.clone() }),
            Box::new(pressure::Pressure { settings: settings.clone() }),
            Box::new(oom::Oom),
            Box::new(growth::Growth { settings }),
        ],
        links: &[LINKS],
        doc: include_str!("RUNBOOK.md"),
    }
}
