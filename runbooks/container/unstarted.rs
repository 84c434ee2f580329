//! Containers that were created and never started.

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Finding, KeyKind, Severity, quantity::duration};
use opsctl_core::probe::ProbeCx;
use opsctl_core::probe::docker::{Container, depends_on};
use serde::{Deserialize, Serialize};

use super::state::{DOWN, Evidence, START};

/// Age from which a container that was not started is a finding (judgement: 5 min; compose waits for its dependencies at most their start
/// period).
const MAX_WAIT: SignedDuration = SignedDuration::from_mins(5);

/// A service that has to run before the container is started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Dependency {
    /// Compose service.
    pub(super) service: String,
    /// Condition: `service_started`, `service_healthy`, `service_completed_successfully`.
    pub(super) condition: String,
    /// Full id of its container; empty if it does not exist.
    pub(super) container: String,
    /// State of that container, with its health.
    pub(super) state: String,
    /// The condition is met.
    pub(super) met: bool,
    /// Its health test is still in its start period.
    pub(super) starting: bool,
}

/// The first unmet dependency of a container; if all are met, the first one.
pub(super) async fn dependency(cx: &ProbeCx, container: &Container) -> Option<Dependency> {
    let own = cx.inventory.container(&container.id)?;
    let project = own.project.as_deref()?;
    let docker = cx.docker.as_ref()?;
    let mut found: Option<Dependency> = None;
    for (service, condition) in depends_on(own) {
        let of_service = cx
            .inventory
            .containers
            .iter()
            .find(|c| c.project.as_deref() == Some(project) && c.service.as_deref() == Some(service));
        let mut dependency = Dependency {
            service: service.to_owned(),
            condition: condition.to_owned(),
            state: "missing".to_owned(),
            ..Dependency::default()
        };
        if let Some(other) = of_service
            && let Ok(other) = docker.inspect(&other.id).await
        {
            let health = other.state.health.as_ref().map(|h| h.status.clone()).unwrap_or_default();
            dependency.container.clone_from(&other.id);
            dependency.starting = other.is_up() && health == "starting";
            dependency.met = match condition {
                "service_healthy" => other.is_up() && health == "healthy",
                "service_completed_successfully" => other.state.status == "exited" && other.state.exit_code == 0,
                _ => other.is_up(),
            };
            dependency.state = match (other.state.status.as_str(), health.as_str()) {
                ("exited", _) => format!("exited with {}", other.state.exit_code),
                (status, "" | "healthy") => status.to_owned(),
                (_, health) => health.to_owned(),
            };
        }
        if !dependency.met {
            return Some(dependency);
        }
        found.get_or_insert(dependency);
    }
    found
}

/// A container of compose with a restart policy and a dependency: `docker compose up` stopped waiting for it, and no policy starts the container.
pub(super) fn judge(e: &Evidence, now: Timestamp) -> Option<Finding> {
    let c = &e.container;
    let dependency = e.waits_for.as_ref()?;
    let keeps_up = matches!(c.restart_policy.name.as_str(), "always" | "unless-stopped" | "on-failure");
    let age = c.created.map(|created| now.duration_since(created))?;
    if !keeps_up || age < MAX_WAIT || dependency.starting || !c.state.error.is_empty() {
        return None;
    }
    let Dependency { service, state, .. } = dependency;
    let name = &c.name;
    let why = if dependency.met {
        format!("its dependency {service} was not ready in time, and is now")
    } else {
        format!("its dependency {service} is {state}")
    };
    let message = format!("{name} was created {} ago and never started: {why}", duration(age));
    let mut finding = Finding::new(&DOWN, Severity::Crit, c.subject(), message)
        .since(c.created)
        .key(KeyKind::Container, &c.id)
        .cite("depends on", format!("{service} ({})", dependency.condition))
        .cite("restart policy", format!("{}: it applies to containers that were started once", c.restart_policy.name));
    if dependency.met {
        finding = finding.fix(START.id).hint("start it: `docker start`, or `docker compose up -d` in its project");
    } else if !dependency.container.is_empty() {
        finding = finding.needs(&dependency.container).hint("restore its dependency first, then `docker compose up -d`");
    }
    Some(finding)
}
