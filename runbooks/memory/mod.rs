//! The memory runbook: available memory, its largest users, memory pressure and OOM kills.

mod growth;
mod oom;
mod pressure;
mod usage;

use opsctl_core::model::{KeyKind, Link, Runbook};

use crate::shared::settings::settings;

settings! {
    /// `[runbooks.memory]`.
    pub struct Settings {
        /// Available memory in percent below which is warn (netdata health.d/ram.conf, mixin: 10).
        available_warn_percent: f64 = 10.0,
        /// Available memory in percent below which is crit (judgement: 5).
        available_crit_percent: f64 = 5.0,
        /// Share of the last minute in percent in which tasks waited for memory that is warn (judgement: 10).
        waiting_warn_percent: f64 = 10.0,
        /// Share of the last 10 s in which all tasks stalled for memory that is crit (judgement: 20).
        stalled_crit_percent_10s: f64 = 20.0,
        /// The same for the last minute (judgement: 10; systemd-oomd kills at 60).
        stalled_crit_percent_60s: f64 = 10.0,
        /// Used swap in percent that is warn when it is also in use (netdata health.d/swap.conf: 80).
        swap_warn_percent: f64 = 80.0,
        /// The same for crit (netdata: 98).
        swap_crit_percent: f64 = 98.0,
        /// Pages read from swap per second above which is warn (mixin: 500), with as many major faults.
        swap_in_pages: f64 = 500.0,
        /// Committed memory in percent of the commit limit that is crit when the limit is enforced (judgement: 90).
        committed_crit_percent: f64 = 90.0,
        /// Unreclaimable kernel memory in percent of the total that is warn (judgement: 25).
        slab_warn_percent: f64 = 25.0,
        /// tmpfs and shared memory in percent of the total that is warn (judgement: 50).
        shmem_warn_percent: f64 = 50.0,
        /// Growth of a process per hour in percent that makes it suspect (judgement: 10).
        growth_warn_percent: f64 = 10.0,
    }
    limits {
        available: Percent less_than(available_warn_percent, available_crit_percent),
        swap: Percent at_least(swap_warn_percent, swap_crit_percent),
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
        ..Runbook::default()
    }
}
