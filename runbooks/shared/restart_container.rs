//! The fix `container.restart`, shared by two runbooks: for a frozen container, and for one with an unresponsive service.

use std::time::Duration;

use opsctl_core::model::{Action, CheckSpec, Finding, FixSpec, Object, Plan, Product, Refusal, Risk};
use opsctl_core::probe::ProbeCx;
use opsctl_core::probe::docker::Container;
use opsctl_core::probe::nginx;
use serde::{Deserialize, Serialize};

pub(crate) const RESTART: FixSpec =
    FixSpec { id: "container.restart", risk: Risk::R2, title: "restart the container with its own stop timeout" };

/// Data needed for a restart besides the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RestartContext {
    /// Containers that depend on it.
    pub(crate) dependants: Vec<String>,
    /// The reason why its service would not start again.
    pub(crate) stays_down: Option<String>,
}

impl RestartContext {
    /// Reads the data. A running nginx keeps serving with a configuration that it would not start with, so `nginx -t` is run.
    pub(crate) async fn of(cx: &ProbeCx, c: &Container) -> Self {
        let dependants = opsctl_core::probe::docker::dependants(&cx.inventory.containers, c);
        let nginx = |s: &&opsctl_core::model::ServerRef| s.product == Product::Nginx && s.container.as_deref() == Some(&c.id);
        let Some(server) = cx.inventory.servers.iter().find(nginx) else { return Self { dependants, stays_down: None } };
        let target = server.object();
        let stays_down = match cx.nginx(&target) {
            Ok(nginx) => {
                let tested = nginx::test(cx, server, &nginx).await;
                match &tested.not_run {
                    Some(why) => Some(format!("`nginx -t` could not be run: {why}")),
                    None => (!tested.passes).then(|| format!("`nginx -t` fails: {}", tested.complaint().unwrap_or("no output"))),
                }
            }
            Err(e) => Some(format!("its configuration could not be read: {e}")),
        };
        Self { dependants, stays_down }
    }
}

/// The plan of a restart: the container's stop timeout, its dependants named, and success only after 5 s without the finding.
pub(crate) fn plan(
    c: &Container,
    context: &RestartContext,
    check: &CheckSpec,
    finding: &Finding,
    target: &Object,
) -> Result<Plan, Refusal> {
    if let Some(why) = &context.stays_down {
        return Err(Refusal::Precondition(format!("nginx would not start again in it: {why}")));
    }
    // the engine's default (moby daemon/stop.go)
    let timeout_s = c.stop_timeout.unwrap_or(10);
    let until_healthy = c
        .health_test
        .as_ref()
        .map_or(0, |t| t.start_period_ms.saturating_add(t.retries.saturating_mul(t.interval_ms.saturating_add(t.timeout_ms))));
    let until_healthy = Duration::from_millis(u64::try_from(until_healthy).unwrap_or(0));
    // systemd takes the end of the container for the end of its unit: only the unit can restart it
    let action = match c.system_unit() {
        Some(unit) => Action::RestartUnit { unit: unit.to_owned() },
        None => Action::RestartContainer { id: c.id.clone(), timeout_s },
    };
    Ok(Plan::new(&RESTART, check, finding, target, vec![action])
        .affects(context.dependants.iter().map(|d| format!("{d} depends on it")))
        .downtime(format!("up to {timeout_s} s to stop, then its own start time"))
        .verified(until_healthy.clamp(Duration::from_secs(90), Duration::from_secs(300)), Duration::from_secs(5)))
}
