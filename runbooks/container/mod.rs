//! The container runbook: engine, life, resources, logs, storage, network and image of every container.

mod decode;
mod engine;
mod expected;
mod image;
mod logs;
mod network;
mod oom;
mod resources;
mod restart;
mod start;
mod state;
mod storage;

use opsctl_core::model::{Confidence, KeyKind, Link, Runbook};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[runbooks.container]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Names of containers that must exist and run; a missing one is crit. Nothing is expected by default.
    pub expect: Vec<String>,
    /// An engine that takes longer than this for `GET /_ping` is warn, in milliseconds (judgement).
    pub ping_warn_ms: u64,
    /// Restarts by the engine, with the last start under 10 minutes ago, that are warn (judgement).
    pub restarts_warn: i64,
    /// The same for crit (judgement).
    pub restarts_crit: i64,
    /// Non-evictable memory in percent of the container's limit that is warn (netdata health.d/cgroups.conf: 90).
    pub memory_warn_percent: f64,
    /// The same for crit (netdata: 98).
    pub memory_crit_percent: f64,
    /// Share of scheduler periods without CPU left, in percent, that is warn (awesome-prometheus-alerts `ContainerHighThrottleRate`: 25).
    pub throttled_warn_percent: f64,
    /// The same for crit (judgement).
    pub throttled_crit_percent: f64,
    /// Cores used by one container, now and on average, that are warn (operations runbook `ContainerHighCpu`: 1.5).
    pub cpu_hot_cores: f64,
    /// Processes in percent of the container's limit that are warn (judgement).
    pub pids_warn_percent: f64,
    /// Dead children nobody waited for that are warn (judgement).
    pub zombies_warn: usize,
    /// Log size in bytes that is warn whatever the filesystem (judgement; not applied to filesystems under 5 GiB).
    pub log_warn_bytes: u64,
    /// Log size in percent of its filesystem that is warn (judgement).
    pub log_warn_percent: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            expect: Vec::new(),
            ping_warn_ms: 1000,
            restarts_warn: 3,
            restarts_crit: 5,
            memory_warn_percent: 90.0,
            memory_crit_percent: 98.0,
            throttled_warn_percent: 25.0,
            throttled_crit_percent: 75.0,
            cpu_hot_cores: 1.5,
            pids_warn_percent: 90.0,
            zombies_warn: 20,
            log_warn_bytes: 1 << 30,
            log_warn_percent: 10.0,
        }
    }
}

/// What may cause what, as far as containers are one end of it (catalogue §18: 6, 9, 15, 19, 41, 50).
const LINKS: &[Link] = &[
    link("container.memory-near-limit", "container.oom-killed", "it was close to the limit it was then killed at"),
    link(
        "container.oom-killed",
        "container.restart-loop",
        "the kernel kills it at its memory limit and its restart policy starts it again",
    ),
    link("container.oom-killed", "container.down", "the kernel killed it at its memory limit"),
    link("container.oom-killed", "healthcheck.unhealthy", "the kernel killed a process the health test depends on"),
    link("container.restart-loop", "healthcheck.unhealthy", "it does not live long enough to become healthy"),
    Link {
        cause: "container.pids",
        effect: "healthcheck.unhealthy",
        tie: KeyKind::Container,
        confidence: Confidence::Likely,
        because: "no process can be started in it, so the health test cannot run",
    },
    Link {
        cause: "container.cpu-throttled",
        effect: "healthcheck.timeout",
        tie: KeyKind::Container,
        confidence: Confidence::Likely,
        because: "it has no CPU time left for the health test",
    },
    filesystem("container.log-huge", "disk.space", "its log takes the space"),
    filesystem("disk.space", "container.start-failed", "the engine has no space left to start it"),
    filesystem("disk.inodes", "container.start-failed", "the engine has no inodes left to start it"),
    filesystem("disk.space", "container.log-blocked", "the engine cannot write its log, so its output pipe is full"),
];

const fn link(cause: &'static str, effect: &'static str, because: &'static str) -> Link {
    Link { cause, effect, tie: KeyKind::Container, confidence: Confidence::Confirmed, because }
}

const fn filesystem(cause: &'static str, effect: &'static str, because: &'static str) -> Link {
    Link { cause, effect, tie: KeyKind::Filesystem, confidence: Confidence::Confirmed, because }
}

/// The runbook with these settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let settings = settings.clone();
    Runbook {
        id: "container",
        about: "Containers that are down, looping, killed, frozen or about to be",
        checks: vec![
            Box::new(engine::Engine { settings: settings.clone() }),
            Box::new(expected::Expected { settings: settings.clone() }),
            Box::new(state::State { settings: settings.clone() }),
            Box::new(resources::Resources { settings: settings.clone() }),
            Box::new(logs::Logs { settings }),
            Box::new(storage::Storage),
            Box::new(network::Network),
            Box::new(image::Image),
        ],
        links: LINKS,
        doc: include_str!("RUNBOOK.md"),
    }
}
