//! The container runbook: engine, life, resources, logs, storage, network and image of every container.

mod architecture;
mod decode;
mod engine;
mod errors;
mod expected;
mod health;
mod image;
mod logs;
mod network;
mod obstacle;
mod oom;
mod resources;
mod restart;
mod shared_network;
mod start;
mod state;
mod storage;
mod unstarted;

use opsctl_core::model::{KeyKind, Link, Runbook};

use crate::shared::settings::settings;

settings! {
    /// `[runbooks.container]`.
    pub struct Settings {
        /// Names of containers that must exist and run; a missing one is crit. Nothing is expected by default.
        expect: Vec<String> = Vec::new(),
        /// Response time of `GET /_ping` from which the engine is warn, in milliseconds (judgement).
        ping_warn_ms: u64 = 1000,
        /// Restarts by the engine, with the last start under 10 minutes ago, that are warn (judgement).
        restarts_warn: i64 = 3,
        /// The same for crit (judgement).
        restarts_crit: i64 = 5,
        /// Non-evictable memory in percent of the container's limit that is warn (netdata health.d/cgroups.conf: 90).
        memory_warn_percent: f64 = 90.0,
        /// The same for crit (netdata: 98).
        memory_crit_percent: f64 = 98.0,
        /// Share of scheduler periods without CPU left, in percent, that is warn (awesome-prometheus-alerts `ContainerHighThrottleRate`: 25).
        throttled_warn_percent: f64 = 25.0,
        /// The same for crit (judgement).
        throttled_crit_percent: f64 = 75.0,
        /// Cores used by one container, now and on average, that are warn (judgement: 1.5).
        cpu_hot_cores: f64 = 1.5,
        /// Processes in percent of the container's limit that are warn (judgement).
        pids_warn_percent: f64 = 90.0,
        /// Zombie processes that are warn (judgement).
        zombies_warn: usize = 20,
        /// Log size in bytes that is warn on any filesystem (judgement; not applied to filesystems under 5 GiB).
        log_warn_bytes: u64 = 1 << 30,
        /// Log size in percent of its filesystem that is warn (judgement).
        log_warn_percent: f64 = 10.0,
    }
    limits {
        memory: Percent at_least(memory_warn_percent, memory_crit_percent),
        throttled: Percent more_than(throttled_warn_percent, throttled_crit_percent),
    }
}

/// Causes and effects that involve containers; docs/causes.md lists all links.
const LINKS: &[Link] = &[
    Link::confirmed(
        "container.memory-near-limit",
        "container.oom-killed",
        KeyKind::Container,
        "its memory was close to the limit at which it was killed",
    )
    // a higher limit cures both
    .treatable(),
    Link::confirmed(
        "container.oom-killed",
        "container.restart-loop",
        KeyKind::Container,
        "the kernel kills it at its memory limit and its restart policy starts it again",
    ),
    Link::confirmed("container.oom-killed", "container.down", KeyKind::Container, "the kernel killed it at its memory limit"),
    Link::likely(
        "container.pids",
        "healthcheck.unhealthy",
        KeyKind::Container,
        "no process can be started in it, so the health test cannot run",
    ),
    Link::likely(
        "container.bind-broken",
        "container.restart-loop",
        KeyKind::Container,
        "a file or directory that it needs is not mounted",
    ),
    Link::likely(
        "container.bind-broken",
        "container.down",
        KeyKind::Container,
        "a file or directory that it needs is not mounted",
    ),
    Link::likely(
        "container.bind-broken",
        "container.start-failed",
        KeyKind::Container,
        "a bind source is missing or of the wrong type",
    ),
    Link::confirmed("container.log-huge", "disk.space", KeyKind::Filesystem, "its log takes the space"),
    Link::confirmed("container.architecture", "container.restart-loop", KeyKind::Container, OTHER_ARCHITECTURE),
    Link::confirmed("container.architecture", "container.down", KeyKind::Container, OTHER_ARCHITECTURE),
    Link::confirmed("container.architecture", "container.start-failed", KeyKind::Container, OTHER_ARCHITECTURE),
    // a quadlet, or a unit of `podman generate systemd`: the unit starts and stops its container
    Link::confirmed("systemd.unit-failed", "container.down", KeyKind::Unit, "the unit that runs it failed"),
    Link::confirmed("systemd.restart-loop", "container.down", KeyKind::Unit, "the unit that runs it restarts repeatedly"),
    Link::confirmed("systemd.restart-loop", "container.restart-loop", KeyKind::Unit, "the unit that runs it restarts repeatedly"),
    Link::confirmed("systemd.enabled-inactive", "container.down", KeyKind::Unit, "the unit that runs it is not started"),
    Link::confirmed(
        "container.oom-killed",
        "systemd.unit-failed",
        KeyKind::Unit,
        "the kernel killed its container at the memory limit",
    ),
    Link::confirmed(
        "container.oom-killed",
        "systemd.restart-loop",
        KeyKind::Unit,
        "the kernel kills its container at the memory limit",
    ),
    Link::confirmed("container.start-failed", "systemd.unit-failed", KeyKind::Unit, "its container could not be started"),
    Link::confirmed("container.start-failed", "systemd.restart-loop", KeyKind::Unit, "its container could not be started"),
];

/// Because of `container.architecture`.
const OTHER_ARCHITECTURE: &str = "its image is for another processor architecture";

/// The runbook with these settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let settings = settings.clone();
    Runbook {
        id: "container",
        about: "Containers that are down, restarting, killed, frozen or close to a limit",
        checks: vec![
            Box::new(engine::Engine { settings: settings.clone() }),
            Box::new(expected::Expected { settings: settings.clone() }),
            Box::new(state::State { settings: settings.clone() }),
            Box::new(resources::Resources { settings: settings.clone() }),
            Box::new(logs::Logs { settings }),
            Box::new(errors::Errors),
            Box::new(storage::Storage),
            Box::new(network::Network),
            Box::new(image::Image),
            Box::new(architecture::Architecture),
        ],
        links: &[LINKS],
        doc: include_str!("RUNBOOK.md"),
        ..Runbook::default()
    }
}
