//! The fields of `inspect` that checks use, without secrets.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::Object;
use crate::probe::ProbeError;

/// Reason why the processes of a running container cannot be read.
const PID_UNPROVEN: &str =
    "the PID reported by the engine does not belong to this container on this host (remote engine, other PID namespace)";

/// A container. Environment values, labels of other tools and command arguments are omitted on purpose.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    /// 64 hex digits.
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    /// Image reference as given at creation.
    pub image: String,
    /// `sha256:…` of the image it runs.
    pub image_id: String,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Runtime state.
    pub state: State,
    /// Restarts by the engine since it was last started by hand.
    pub restart_count: i64,
    /// Restart policy.
    pub restart_policy: RestartPolicy,
    /// `--rm`.
    pub auto_remove: bool,
    /// Labels that opsctl acts on (`opsctl.*`, `autoheal*`, `com.docker.compose.*`, `com.docker.swarm.*`).
    pub labels: BTreeMap<String, String>,
    /// Log driver and options.
    pub log: LogConfig,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Network names with its IPv4 address in each (empty while it is not running).
    pub networks: BTreeMap<String, String>,
    /// Additional names in each network (aliases; compose services).
    pub aliases: BTreeMap<String, Vec<String>>,
    /// `bridge`, `host`, `none`, `container:<id>`, or a network's name.
    pub network_mode: String,
    /// Name servers set with `--dns`.
    pub dns: Vec<String>,
    /// Published TCP ports.
    pub ports: Vec<PortMap>,
    /// Published UDP ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub udp_ports: Vec<PortMap>,
    /// TCP ports of this host that its configuration publishes; [`Self::ports`] is empty while it does not run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configured_ports: Vec<u16>,
    /// TCP ports the image or the command line exposes.
    pub exposed: Vec<u16>,
    /// Memory limit in bytes; 0 is none.
    pub memory: i64,
    /// Memory plus swap limit in bytes; 0 is unset, -1 unlimited.
    pub memory_swap: i64,
    /// CPU limit in billionths of a core; 0 is none.
    pub nano_cpus: i64,
    /// Limit on processes; 0 or less is none.
    pub pids_limit: i64,
    /// `--init`.
    pub init: bool,
    /// Seconds between stop signal and SIGKILL, where the container sets it.
    pub stop_timeout: Option<i64>,
    /// Its health test, if it has one that is not `NONE`.
    pub health_test: Option<HealthTest>,
    /// `PATH` inside it, to resolve a health command.
    pub path: String,
    /// The program it runs, without arguments.
    pub program: String,
    /// Values of `PGDATA` and `--storage.path`-like settings that name a data directory; nothing else of environment or
    /// arguments.
    pub state_paths: Vec<String>,
    /// Host path of its writable layer; empty if the engine does not report it (containerd's image store).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub own_layer: String,
    /// The PID reported by the engine is not proven to be a process of this container on this host.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pid_unproven: bool,
    /// Fields of an unexpected shape, which are empty here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
}

/// State of a container, as reported by the engine.
#[expect(clippy::struct_excessive_bools, reason = "these are the engine's own flags, and they are not exclusive")]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`; any other state as the engine reports it.
    pub status: String,
    /// True also between two runs of a restart loop, and while it is paused.
    pub running: bool,
    /// Frozen by `docker pause`.
    pub paused: bool,
    /// Waiting for the next start.
    pub restarting: bool,
    /// The engine received an OOM event; false proves nothing (moby#38352).
    pub oom_killed: bool,
    /// Could not be removed.
    pub dead: bool,
    /// PID of its first process on this host; 0 if it is not running or the PID is unproven.
    pub pid: i64,
    /// Exit code of the last run.
    pub exit_code: i64,
    /// Error of the last failed start.
    pub error: String,
    /// Start of this run, or of the last.
    pub started_at: Option<Timestamp>,
    /// End of the last run.
    pub finished_at: Option<Timestamp>,
    /// State of its health test.
    pub health: Option<Health>,
}

/// State of a health test.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// `starting`, `healthy`, `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
    /// The last five runs of the test, oldest first.
    pub log: Vec<HealthEntry>,
}

/// One run of a health test.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthEntry {
    /// When it began.
    pub start: Option<Timestamp>,
    /// When it ended.
    pub end: Option<Timestamp>,
    /// 0 healthy, 1 unhealthy, -1 could not be run, else the command's own.
    pub exit_code: i64,
    /// Output, at most 4096 bytes (the engine's limit); untrusted text.
    pub output: String,
}

/// A health test with the engine's defaults filled in (moby daemon/health.go: 30 s, 30 s, 3, 0 s).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthTest {
    /// `["CMD", "wget", …]` or `["CMD-SHELL", "…"]`.
    pub test: Vec<String>,
    /// Milliseconds between two runs.
    pub interval_ms: i64,
    /// Milliseconds one run may take.
    pub timeout_ms: i64,
    /// Failures in a row that make it unhealthy.
    pub retries: i64,
    /// Milliseconds after the start in which failures do not count.
    pub start_period_ms: i64,
}

/// Restart policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartPolicy {
    /// `no`, `always`, `unless-stopped`, `on-failure`.
    pub name: String,
    /// Only for `on-failure`; 0 is unlimited.
    pub maximum_retry_count: i64,
}

/// Log driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    /// `json-file`, `local`, `journald`, `syslog`, …
    pub driver: String,
    /// `max-size`, if set.
    pub max_size: Option<String>,
    /// `max-file`, if set.
    pub max_file: Option<String>,
    /// `blocking` or `non-blocking`, if set.
    pub mode: Option<String>,
    /// File of json-file; empty for other drivers.
    pub path: String,
}

/// One mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// `bind`, `volume`, `tmpfs`, …
    pub kind: String,
    /// Volume name; 64 hex digits for an anonymous one.
    pub name: String,
    /// Path on the host.
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// Writable.
    pub rw: bool,
}

/// A published TCP port.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct PortMap {
    /// Port in the container.
    pub container: u16,
    /// Address on the host: `0.0.0.0`, `::`, `127.0.0.1`.
    pub host_ip: String,
    /// Port on the host.
    pub host: u16,
}

impl Container {
    /// Identity of this run of this container.
    #[must_use]
    pub fn subject(&self) -> Object {
        let started = self.state.started_at.map(|t| t.to_string()).unwrap_or_default();
        Object::new(crate::model::Kind::Container, self.name.clone(), format!("{}@{started}", self.id))
    }

    /// Identity of this container across runs: for faults of a restart loop, which would otherwise get a new identity with every
    /// restart.
    #[must_use]
    pub fn subject_of_all_runs(&self) -> Object {
        Object { id: self.id.clone(), ..self.subject() }
    }

    /// Running with a process, neither paused nor between two runs. In a restart loop the engine reports `Running: true` with pid
    /// 0.
    #[must_use]
    pub fn is_up(&self) -> bool {
        let has_process = self.state.pid > 0 || self.pid_unproven;
        self.state.running && !self.state.restarting && !self.state.paused && has_process
    }

    /// PID of its first process on this host, while it is up and the PID is proven.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        i32::try_from(self.state.pid).ok().filter(|pid| *pid > 0 && self.is_up())
    }

    /// [`Container::pid`], or the error for a check that requires it.
    pub fn process(&self) -> Result<i32, ProbeError> {
        let missing = || {
            if self.is_up() && self.pid_unproven {
                ProbeError::failed("processes", format!("container {}", self.name), PID_UNPROVEN)
            } else {
                ProbeError::Skip("the container is not running".to_owned())
            }
        };
        self.pid().ok_or_else(missing)
    }

    /// Whether the container is labelled as under maintenance.
    #[must_use]
    pub fn in_maintenance(&self) -> bool {
        self.labels.get("opsctl.maintenance").is_some_and(|v| v != "false")
    }

    /// Whether a CI or test system created it for one job: GitLab and GitHub runners, Testcontainers, Jenkins, Drone.
    #[must_use]
    pub fn is_ci_job(&self) -> bool {
        self.labels.keys().any(|name| CI_LABELS.iter().any(|prefix| name.starts_with(prefix)))
    }

    /// The path on the host of a path in the container, if it is on one of its mounts.
    #[must_use]
    pub fn host_path(&self, path: &str) -> Option<String> {
        let below = |m: &&Mount| std::path::Path::new(path).starts_with(&m.destination) && !m.source.is_empty();
        let mount = self.mounts.iter().filter(below).max_by_key(|m| m.destination.len())?;
        let rest = path.strip_prefix(&mount.destination).unwrap_or_default();
        Some(format!("{}{rest}", mount.source))
    }

    /// Whether it publishes a TCP port of this host, also while it does not run.
    #[must_use]
    pub fn publishes(&self, port: u16) -> bool {
        self.ports.iter().any(|p| p.host == port) || self.configured_ports.contains(&port)
    }

    /// Compose project and service.
    #[must_use]
    pub fn compose(&self) -> Option<(&str, &str)> {
        Some((self.labels.get("com.docker.compose.project")?, self.labels.get("com.docker.compose.service")?))
    }

    /// The system unit that runs it with Podman: a quadlet, or a unit of `podman generate systemd`. A unit starts and stops its
    /// container.
    #[must_use]
    pub fn system_unit(&self) -> Option<&str> {
        let unit = self.labels.get(super::inspect::UNIT_LABEL).map(String::as_str)?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        (unit.ends_with(".service") && !unit.starts_with('-') && unit.chars().all(is_name)).then_some(unit)
    }
}

/// Parses a timestamp of the engine; its zero value (`0001-01-01T00:00:00Z`) means never.
#[must_use]
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let time: Timestamp = text.parse().ok()?;
    (time.as_second() > 0).then_some(time)
}

/// Labels of containers that CI and test systems create.
pub(super) const CI_LABELS: &[&str] =
    &["com.gitlab.gitlab-runner.", "org.testcontainers", "io.drone.", "actions.github.com", "com.github.actions.", "jenkins."];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_timestamp_is_none() {
        assert_eq!(parse_time("0001-01-01T00:00:00Z"), None);
        assert_eq!(parse_time("garbage"), None);
        assert!(parse_time("2026-11-21T04:00:00.123456789Z").is_some());
        assert!(parse_time("2026-11-21T05:00:00.1+01:00").is_some());
    }
}
