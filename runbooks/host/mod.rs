//! The host runbook: the boot, cloud-init, and the setup of the machine.

mod baseline;
mod boot;
mod cloud_init;
mod entropy;
mod user_limits;

use opsctl_core::model::{KeyKind, Link, Runbook};

use crate::shared::settings::settings;

settings! {
    /// `[runbooks.host]`.
    pub struct Settings {
        /// Days after which a required reboot is warn (judgement: 14).
        reboot_warn_days: f64 = 14.0,
        /// Minutes after boot in which a boot counts as recent (netdata: 10).
        recent_boot_min: i64 = 10,
        /// Minutes after which cloud-init should be done (judgement: 15).
        cloud_init_min: i64 = 15,
        /// Unallocated space behind the last partition, in percent of the disk, that is info (judgement: 10).
        unallocated_percent: f64 = 10.0,
        /// `net.core.somaxconn` below which listen backlogs are truncated (Linux 5.4 and later: 4096).
        somaxconn: u64 = 4096,
        /// `fs.inotify.max_user_instances` below which many containers run out (judgement: 512; the kernel's default is 128).
        inotify_instances: u64 = 512,
        /// Inotify instances or watches, or processes, of one user in percent of their shared limit that are warn (judgement).
        user_limit_warn_percent: f64 = 90.0,
        /// The same for crit: the next one fails.
        user_limit_crit_percent: f64 = 100.0,
    }
    limits {
        user_limit: Percent at_least(user_limit_warn_percent, user_limit_crit_percent),
    }
}

/// Causes and effects; docs/causes.md lists all links.
const LINKS: &[Link] = &[
    Link::likely(
        "host.reboot-required",
        "container.start-failed",
        KeyKind::Host,
        "the modules of the running kernel were removed, so no further module can be loaded",
    ),
    Link::confirmed("host.cloud-init", "systemd.unit-failed", KeyKind::Unit, "the unit is the stage of cloud-init that failed"),
    Link::likely("host.inotify", "container.new-errors", KeyKind::Host, NO_INOTIFY),
    Link::likely("host.inotify", "container.restart-loop", KeyKind::Host, NO_INOTIFY),
    Link::likely("host.inotify", "container.down", KeyKind::Host, NO_INOTIFY),
    Link::likely("host.inotify", "systemd.unit-failed", KeyKind::Host, NO_INOTIFY),
    Link::likely("host.inotify", "systemd.new-errors", KeyKind::Host, NO_INOTIFY),
    Link::likely("host.user-processes", "container.new-errors", KeyKind::Host, NO_PROCESS),
    Link::likely("host.user-processes", "container.restart-loop", KeyKind::Host, NO_PROCESS),
    Link::likely("host.user-processes", "container.down", KeyKind::Host, NO_PROCESS),
    Link::likely("host.user-processes", "systemd.unit-failed", KeyKind::Host, NO_PROCESS),
    Link::likely("host.user-processes", "systemd.new-errors", KeyKind::Host, NO_PROCESS),
    Link::likely("host.user-processes", "healthcheck.unhealthy", KeyKind::Container, NO_PROCESS),
];

/// Because of `host.inotify`.
const NO_INOTIFY: &str = "its log reports that its user has no inotify instance or watch left";

/// Because of `host.user-processes`.
const NO_PROCESS: &str = "its user has reached the limit of its processes";

/// The runbook with these settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let settings = settings.clone();
    Runbook {
        id: "host",
        about: "Failed and pending reboots, cloud-init, and the setup of the machine",
        checks: vec![
            Box::new(boot::BootCheck { settings: settings.clone() }),
            Box::new(cloud_init::CloudInitCheck { settings: settings.clone() }),
            Box::new(entropy::Entropy),
            Box::new(user_limits::UserLimitsCheck { settings: settings.clone() }),
            Box::new(baseline::Baseline { settings }),
        ],
        links: &[LINKS],
        doc: include_str!("RUNBOOK.md"),
        ..Runbook::default()
    }
}
