//! The cpu runbook: saturation of the processors, their users, and causes other than computation.

mod load;
mod usage;

use opsctl_core::model::{KeyKind, Link, Runbook};

use crate::shared::settings::settings;

settings! {
    /// `[runbooks.cpu]`.
    pub struct Settings {
        /// Busy processors in percent that are warn (netdata health.d/cpu.conf: 85); programs with nice above 0 do not count.
        busy_warn_percent: f64 = 85.0,
        /// The same for crit (netdata: 95).
        busy_crit_percent: f64 = 95.0,
        /// Share of the last minute in percent in which tasks waited for a processor, also required for warn (judgement: 20).
        waiting_warn_percent: f64 = 20.0,
        /// The same for crit (judgement: 40).
        waiting_crit_percent: f64 = 40.0,
        /// Load of 1, 5 and 15 min per processor that is warn (netdata health.d/load.conf: 8, 4 and 2; at least two processors are counted).
        load_warn_per_cpu: [f64; 3] = [8.0, 4.0, 2.0],
        /// Processor time taken by the hypervisor in percent that is warn (netdata: 10).
        steal_warn_percent: f64 = 10.0,
        /// The same for crit (judgement: 25).
        steal_crit_percent: f64 = 25.0,
        /// Time waiting for disks in percent that is warn (netdata: 40), together with `io_waiting_percent`.
        iowait_warn_percent: f64 = 40.0,
        /// Share of the last minute in percent in which tasks waited for a disk (judgement: 20).
        io_waiting_percent: f64 = 20.0,
        /// The same for all tasks at once that is crit (judgement: 50).
        io_stalled_crit_percent: f64 = 50.0,
        /// How long a task may wait uninterruptibly, in milliseconds (judgement: 10 s).
        stuck_after_ms: u64 = 10_000,
    }
    limits {
        steal: Percent at_least(steal_warn_percent, steal_crit_percent),
    }
}

/// Causes and effects, also of the parts of the load average; docs/causes.md lists all links.
const LINKS: &[Link] = &[
    Link::confirmed("container.cpu-hot", "cpu.saturated", KeyKind::Container, "its processes use most of the processors"),
    Link::confirmed("cpu.d-state", "cpu.load", KeyKind::Host, "tasks that wait in the kernel count as load"),
    Link::confirmed("cpu.saturated", "cpu.load", KeyKind::Host, "tasks that wait for a processor count as load"),
    Link::confirmed("cpu.iowait", "cpu.load", KeyKind::Host, "tasks that wait for a disk count as load"),
    Link::confirmed("disk.io-saturation", "cpu.iowait", KeyKind::Host, "the disk does not keep up"),
];

/// The runbook with these settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let settings = settings.clone();
    Runbook {
        id: "cpu",
        about: "Processors that are saturated, stolen or waiting for disks, and their users",
        checks: vec![Box::new(usage::Usage { settings: settings.clone() }), Box::new(load::Load { settings })],
        links: &[LINKS],
        doc: include_str!("RUNBOOK.md"),
        ..Runbook::default()
    }
}
