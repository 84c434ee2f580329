//! The one fix that two runbooks share: a container that is frozen, and one whose service does not answer.

use std::time::Duration;

use opsctl_core::model::{Action, CheckSpec, Finding, FixSpec, Plan, Risk, Target};
use opsctl_core::probe::docker::Container;

pub(crate) const RESTART: FixSpec =
    FixSpec { id: "container.restart", risk: Risk::R2, title: "restart the container with its own stop timeout" };

/// Restarts a container: its own stop timeout, its dependants named, and it has to stay well for 5 s.
pub(crate) fn plan(c: &Container, dependants: &[String], check: &CheckSpec, finding: &Finding, target: &Target) -> Plan {
    // the engine's default (moby daemon/stop.go)
    let timeout_s = c.stop_timeout.unwrap_or(10);
    let until_healthy = c.health_test.as_ref().map_or(0, |t| t.start_period_ms + t.retries * (t.interval_ms + t.timeout_ms));
    let until_healthy = Duration::from_millis(u64::try_from(until_healthy).unwrap_or(0));
    Plan::new(&RESTART, check, finding, target, vec![Action::RestartContainer { id: c.id.clone(), timeout_s }])
        .affects(dependants.iter().map(|d| format!("{d} depends on it")))
        .downtime(format!("up to {timeout_s} s to stop, then its own start time"))
        .verified(until_healthy.clamp(Duration::from_secs(90), Duration::from_secs(300)), Duration::from_secs(5))
}
