//! The network namespace of another container (`--network container:NAME`, in compose `network_mode: service:NAME`).
//!
//! The namespace belongs to one run of the other container, the owner. When that run ends, the engine removes its interfaces,
//! and the next run has a new namespace. Containers that had joined the old one keep it, with nothing but `lo`, until they are
//! started again themselves (docker/compose#6626). The network mode holds the id of the owner, so a container cannot be started
//! again after its owner was recreated: it has to be recreated, too.

use jiff::Timestamp;
use opsctl_core::model::{ContainerRef, Severity, quantity};
use opsctl_core::probe::docker::{Container, Docker, Event, depends_on};
use opsctl_core::probe::network::{netns, view};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use crate::shared::servers::READ_TIMEOUT;

/// The end of the namespace that a container has joined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Change {
    /// The owner runs again, in another namespace.
    #[default]
    Restarted,
    /// Another container has the place of the owner.
    Recreated,
    /// The owner does not run.
    Stopped,
    /// The owner was removed.
    Removed,
}

/// A namespace that its owner has left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct LostNetwork {
    /// Full id of the owner; empty if it was removed.
    pub(super) owner: String,
    /// Its name, or the beginning of its id.
    name: String,
    change: Change,
    /// Time of the change, if known.
    pub(super) at: Option<Timestamp>,
    /// Interfaces that are left.
    pub(super) interfaces: Vec<String>,
}

impl LostNetwork {
    /// Without any interface but `lo`, all connections fail.
    pub(super) fn severity(&self) -> Severity {
        if self.has_only_loopback() { Severity::Crit } else { Severity::Warn }
    }

    pub(super) fn message(&self, container: &str, now: Timestamp) -> String {
        let change = match self.change {
            Change::Restarted => "was restarted",
            Change::Recreated => "was recreated",
            Change::Stopped => "stopped",
            Change::Removed => "was removed",
        };
        let when = self.at.map(|at| format!(" {}", quantity::ago(now, at))).unwrap_or_default();
        let left = if self.has_only_loopback() { "it has only lo" } else { "it is still in the old one" };
        format!("{container} shares the network of {}, which {change}{when}: {left}", self.name)
    }

    pub(super) fn hint(&self, container: &str) -> String {
        let owner = &self.name;
        match self.change {
            Change::Restarted => format!("restart it: docker restart {container}"),
            Change::Stopped => {
                format!("start {owner} first, then restart {container}: it does not join the new network by itself")
            }
            Change::Recreated | Change::Removed => format!(
                "recreate {container} (docker compose up -d --force-recreate): its network mode names the removed container, so a restart fails"
            ),
        }
    }

    fn has_only_loopback(&self) -> bool {
        self.interfaces.iter().all(|name| name == "lo")
    }
}

/// The change of the owner's namespace since a running container has joined it; `None` while both share it.
pub(super) async fn lost(cx: &ProbeCx, container: &Container, owner: &str) -> Result<Option<LostNetwork>, ProbeError> {
    let pid = container.process()?;
    let docker = cx.docker()?;
    let mut lost = match docker.inspect(owner).await {
        Ok(owner) => {
            if is_shared(container, pid, &owner).await? {
                return Ok(None);
            }
            of_owner(container, &owner)
        }
        // 404
        Err(ProbeError::Skip(_)) => without_owner(cx, docker, container, owner).await,
        Err(why) => return Err(why),
    };
    let interfaces = view(Some(pid), Vec::new()).await?.interfaces;
    lost.interfaces = interfaces.into_iter().map(|i| i.name).collect();
    Ok(Some(lost))
}

/// Whether both are in one namespace. A paused container keeps its own.
async fn is_shared(container: &Container, pid: i32, owner: &Container) -> Result<bool, ProbeError> {
    if owner.state.paused {
        return Ok(true);
    }
    if !owner.is_up() {
        return Ok(false);
    }
    let owner_pid = owner.process()?;
    let read = move |io: &Io| netns::is_shared(io, pid, owner_pid);
    let shared = blocking::run("network namespaces", &container.name, READ_TIMEOUT, read).await?;
    shared.map_err(|e| ProbeError::io("the network namespaces", format!("{} and {}", container.name, owner.name), &e))
}

/// An owner that exists, and has left the namespace.
fn of_owner(container: &Container, owner: &Container) -> LostNetwork {
    let change = if !owner.is_up() {
        Change::Stopped
    } else if owner.created > container.state.started_at {
        // the network mode holds a name
        Change::Recreated
    } else {
        Change::Restarted
    };
    let at = if change == Change::Stopped { owner.state.finished_at } else { owner.state.started_at };
    LostNetwork { owner: owner.id.clone(), name: owner.name.clone(), change, at, ..LostNetwork::default() }
}

/// An owner that was removed: its name is in the engine's events, or among the dependencies that compose has recorded.
async fn without_owner(cx: &ProbeCx, docker: &Docker, container: &Container, id: &str) -> LostNetwork {
    let events = docker.events().await.unwrap_or_default();
    let last_event = |events: &[Event]| events.iter().filter(|e| e.container == id).max_by_key(|e| e.at).cloned();
    let mut removed = last_event(&events);
    if removed.is_none()
        && let Ok(memory) = docker.of(&container.id).event_memory(cx.systemd.as_deref()).await
    {
        removed = last_event(&memory.events);
    }
    let own = cx.inventory.container(&container.id);
    // compose adds the owner to the dependencies: of several it can be any
    let mut services = own.into_iter().flat_map(depends_on).map(|(service, _)| service);
    let service = services.next().filter(|_| services.next().is_none());
    let of_service = |c: &&ContainerRef| {
        c.id != id && service.is_some() && c.service.as_deref() == service && c.project == own.and_then(|own| own.project.clone())
    };
    let name = removed.as_ref().and_then(|e| e.name.clone());
    let named = |c: &&ContainerRef| c.id != id && Some(&c.name) == name.as_ref();
    let containers = &cx.inventory.containers;
    let successor = containers.iter().find(named).or_else(|| containers.iter().find(of_service));
    let successor_at = match successor {
        Some(c) => docker.inspect(&c.id).await.ok().and_then(|c| c.created),
        None => None,
    };
    LostNetwork {
        name: successor.map(|c| c.name.clone()).or(name).unwrap_or_else(|| format!("container {}", id.get(..12).unwrap_or(id))),
        change: if successor.is_some() { Change::Recreated } else { Change::Removed },
        at: removed.map(|e| e.at).or(successor_at),
        ..LostNetwork::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<Timestamp> {
        text.parse().ok()
    }

    fn container(started: &str) -> Container {
        let mut c =
            Container { id: "a".repeat(64), name: "vpn".to_owned(), created: at("2026-11-21T08:00:00Z"), ..Container::default() };
        (c.state.running, c.state.pid, c.state.started_at) = (true, 7, at(started));
        c.state.finished_at = at("2026-11-21T10:59:00Z");
        c
    }

    #[test]
    fn owner_that_was_restarted_recreated_or_stopped() {
        let web = container("2026-11-21T09:00:00Z");
        let owner = container("2026-11-21T11:00:00Z");
        assert_eq!((of_owner(&web, &owner).change, of_owner(&web, &owner).at), (Change::Restarted, at("2026-11-21T11:00:00Z")));
        let named = Container { created: at("2026-11-21T10:00:00Z"), ..owner.clone() };
        assert_eq!(of_owner(&web, &named).change, Change::Recreated);
        let mut stopped = owner;
        (stopped.state.running, stopped.state.pid) = (false, 0);
        assert_eq!((of_owner(&web, &stopped).change, of_owner(&web, &stopped).at), (Change::Stopped, at("2026-11-21T10:59:00Z")));
    }
}
