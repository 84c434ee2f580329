//! The systemd runbook: units that failed, restart in a loop, were never started, or run a version other than the one on disk.

mod data_directory;
mod decode;
mod deleted_exe;
mod disabled;
mod errors;
mod failed;
mod fault;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod ignored_setting;
mod inactive;
mod journal;
mod names;
mod plans;
mod prerequisites;
mod reload;
mod restarting;
mod run;
mod state;
mod stuck;
mod timer;
mod unit;

use opsctl_core::model::{KeyKind, Link, Runbook};

use crate::shared::settings::settings;

settings! {
    /// `[runbooks.systemd]`.
    pub struct Settings {
        /// Units with failures that are crit; `*` matches any text (judgement: the essential services of a host of this kind).
        critical_units: Vec<String> = list(CRITICAL_UNITS),
        /// Units with failures that are info (judgement: they fail on healthy hosts).
        noise_units: Vec<String> = list(NOISE_UNITS),
        /// Restarts by systemd within one minute that are warn (judgement: 2; a service with RestartSec=3 has no time for more).
        restarts_1min: usize = 2,
        /// Restarts by systemd within 5 min above which it is warn (mixin: 2).
        restarts_5min: usize = 2,
        /// The same within an hour (awesome-prometheus-alerts: 5).
        restarts_hour: usize = 5,
        /// Tasks of a service in percent of its limit that are warn (awesome: 90).
        tasks_warn_percent: f64 = 90.0,
        /// Time limit of the boot in minutes (judgement: 10).
        starting_min: i64 = 10,
        /// Time limit of the start or stop of a service in minutes (judgement: 10; the default timeout of systemd is 90 s).
        stuck_min: i64 = 10,
        /// Time limit of a timer's job in hours (awesome: 24).
        job_hours: i64 = 24,
    }
}

/// Essential services of a host of this kind (judgement).
const CRITICAL_UNITS: &[&str] = &[
    "docker.service",
    "docker.socket",
    "containerd.service",
    "podman.service",
    "ssh.service",
    "sshd.service",
    "networking.service",
    "systemd-networkd.service",
    "NetworkManager.service",
    "iptables.service",
    "ip6tables.service",
    "netfilter-persistent.service",
    "nftables.service",
    "ufw.service",
    "firewalld.service",
    "postgresql*.service",
    "redis*.service",
    "valkey*.service",
    "rabbitmq-server.service",
    "nginx.service",
    "chrony.service",
    "chronyd.service",
    "systemd-timesyncd.service",
    "certbot.service",
    "*backup*.service",
    "logrotate.service",
];

/// Units that fail on healthy hosts (judgement).
const NOISE_UNITS: &[&str] = &[
    "run-*.scope",
    "run-*.service",
    "session-*.scope",
    "user@*.service",
    "user-runtime-dir@*.service",
    "app-*.scope",
    "*-wait-online.service",
    "fwupd*.service",
    "snap.*",
    "apport*.service",
    "motd-news.service",
    "packagekit*.service",
    // Debian and Ubuntu enable them beside the responders of sssd.conf (SSSD#8087, Debian#977462)
    "sssd-*.socket",
];

fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

/// Causal links between findings; docs/causes.md lists all links.
const LINKS: &[Link] = &[
    Link::confirmed("systemd.unit-failed", "systemd.enabled-inactive", KeyKind::Requirement, "it requires a unit that failed"),
    Link::confirmed(
        "systemd.bad-unit",
        "systemd.enabled-inactive",
        KeyKind::Requirement,
        "it requires a unit that cannot be loaded",
    ),
    Link::confirmed("systemd.masked", "systemd.enabled-inactive", KeyKind::Requirement, "it requires a unit that is masked"),
    Link::confirmed("nginx.config-test", "systemd.reload-failed", KeyKind::Server, "its configuration is invalid"),
    // a reload is the cure of both
    Link::confirmed("systemd.reload-failed", "nginx.config-not-loaded", KeyKind::Server, "its reload failed").treatable(),
];

/// Builds the runbook from its settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let settings = settings.clone();
    Runbook {
        id: "systemd",
        about: "Units that failed, restart in a loop, were never started, or run an outdated version",
        checks: vec![
            Box::new(state::State { settings: settings.clone() }),
            Box::new(unit::UnitCheck { settings: settings.clone() }),
            Box::new(timer::TimerCheck { settings }),
            Box::new(deleted_exe::DeletedExe),
            Box::new(errors::Errors),
            Box::new(ignored_setting::IgnoredSettings),
            Box::new(journal::Journal),
        ],
        links: &[LINKS],
        doc: include_str!("RUNBOOK.md"),
        ..Runbook::default()
    }
}
