//! The container engines of this host and their containers, behind one handle.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use opsctl_core::model::{ContainerRef, EngineRef, EngineState};
use opsctl_core::probe::docker::{Docker, Located, Placement};
use opsctl_core::probe::{Io, ProbeError, Redactor, blocking, docker, lag};

/// Time limit of locating the sockets of the engines.
const LOCATE_TIMEOUT: Duration = Duration::from_secs(1);

/// Time limit of all answers of another user's engine: the targets of this host wait for them.
const FOREIGN_LIMIT: Duration = Duration::from_secs(2);

/// Limit of the name of a container of another user's engine, in characters.
const MAX_FOREIGN_NAME: usize = 128;

/// Limit of containers of another user's engine.
const MAX_FOREIGN_CONTAINERS: usize = 200;

/// The engines, their containers and a connection to them.
#[derive(Default)]
pub(super) struct Engines {
    /// The first engine that responds, otherwise the first that was found.
    pub(super) first: Option<EngineRef>,
    /// Further engines.
    pub(super) more: Vec<EngineRef>,
    /// Containers of all engines that respond.
    pub(super) containers: Vec<ContainerRef>,
    /// The handle, if one of them responds.
    pub(super) client: Option<Arc<Docker>>,
    /// Users whose Podman was found.
    pub(super) podman_users: Vec<u32>,
    /// Values that could not be read, and objects that are left out.
    pub(super) gaps: Vec<String>,
}

impl Engines {
    /// An engine in unknown state, with the reason.
    pub(super) fn unknown(error: String) -> Self {
        let first = EngineRef {
            name: "docker".to_owned(),
            endpoint: "unknown".to_owned(),
            found_by: "configuration, DOCKER_HOST or DOCKER_CONTEXT".to_owned(),
            state: EngineState::Unsupported { error },
        };
        Self { first: Some(first), ..Self::default() }
    }
}

/// An engine that was queried.
struct Queried {
    located: Located,
    engine: EngineRef,
    answer: Option<Answer>,
}

/// An engine that responded.
struct Answer {
    client: Arc<Docker>,
    containers: Vec<ContainerRef>,
    /// It is behind a network address, and none of its containers has a process here.
    remote: bool,
}

impl Queried {
    /// The other user whose engine it is.
    fn user(&self) -> Option<String> {
        let listener = self.answer.as_ref().map(|a| a.client.listener()).filter(docker::Listener::is_foreign);
        self.located.user.clone().or_else(|| Some(listener?.uid.map_or_else(|| "unknown".to_owned(), |uid| uid.to_string())))
    }

    fn is_local(&self) -> bool {
        self.user().is_none() && self.answer.as_ref().is_some_and(|answer| !answer.remote)
    }

    /// The user of its Podman.
    fn podman_user(&self) -> Option<u32> {
        let is_podman = self.engine.name == "podman";
        let by_path = match &self.located.endpoint {
            docker::Endpoint::OfUser { uid, .. } => Some(*uid),
            _ => None,
        };
        by_path.or_else(|| self.answer.as_ref()?.client.listener().uid).filter(|_| is_podman)
    }
}

/// Finds and queries all engines at the same time. `limit` is that of each.
pub(super) async fn find(configured: Option<String>, redactor: Arc<Redactor>, limit: Duration) -> Engines {
    let locate = move |io: &Io| docker::locate(io, configured.as_deref());
    let located = blocking::run("the container engine", "its socket", LOCATE_TIMEOUT, locate).await;
    let (mut located, is_named) = match located.map_err(|e| e.to_string()).flatten() {
        Ok(engines) => (engines.located, engines.is_named),
        // the endpoint is configured: an error is no proof of its absence
        Err(error) => return Engines::unknown(error),
    };
    let mut gaps = Vec::new();
    if !is_named {
        let users = docker::user_engines().await;
        located.extend(users.found);
        gaps.extend(users.gaps);
    }
    let queried = join_all(located.into_iter().map(|located| query(located, redactor.clone(), limit))).await;
    merged(queried, gaps, &redactor)
}

async fn query(located: Located, redactor: Arc<Redactor>, limit: Duration) -> Queried {
    let limit = if located.user.is_some() { limit.min(FOREIGN_LIMIT) } else { limit };
    let began = Instant::now();
    let hung = |after: Duration| EngineState::Hung { after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX) };
    let query = async {
        let (state, client) = docker::connect(&located.endpoint, redactor, limit).await;
        let Some(client) = client else { return (state, None) };
        match client.list().await {
            Ok(containers) => {
                let running: Vec<ContainerRef> = containers.iter().filter(|c| c.state == "running").cloned().collect();
                let remote = located.endpoint.is_network() && !client.runs_here(&running).await;
                (state, Some(Answer { client, containers, remote }))
            }
            // /_ping succeeds and the list times out: the lock of a container is stuck (moby#36661)
            Err(ProbeError::Timeout { after, .. }) => (hung(after), None),
            // a proxy that does not permit the list
            Err(e @ ProbeError::Denied { .. }) => (EngineState::Unsupported { error: e.to_string() }, None),
            Err(e) => (EngineState::Garbage { error: e.to_string() }, None),
        }
    };
    let (answered, late) = Box::pin(lag::watched(tokio::time::timeout(limit, query))).await;
    let (mut state, answer) = answered.unwrap_or_else(|_| (hung(began.elapsed()), None));
    if let (EngineState::Hung { .. }, Some(late)) = (&state, late.or_else(|| lag::was_late(began))) {
        // if opsctl itself was late, the engine is not considered hung
        state = EngineState::Unsupported { error: lag::too_busy(late) };
    }
    let podman = docker::is_podman_socket(&located.endpoint) || answer.as_ref().is_some_and(|a| a.client.is_podman());
    let engine = EngineRef {
        name: if podman { "podman" } else { "docker" }.to_owned(),
        endpoint: located.endpoint.to_string(),
        found_by: located.found_by.clone(),
        state,
    };
    Queried { located, engine, answer }
}

/// One handle for all engines. An engine without an answer is a target of its own if it is expected to run; otherwise it is only
/// reported while no other one responds, or as a gap.
fn merged(mut queried: Vec<Queried>, gaps: Vec<String>, redactor: &Redactor) -> Engines {
    let mut engines = Engines { gaps, ..Engines::default() };
    engines.podman_users = queried.iter().filter_map(Queried::podman_user).collect();
    // the engine of this host before one on another machine, and before that of another user
    queried.sort_by_key(|q| (q.answer.is_none(), !q.is_local(), q.user().is_some()));
    let mut taken = Taken::default();
    let mut clients: Vec<(Arc<Docker>, Vec<String>)> = Vec::new();
    for mut one in queried {
        let user = one.user();
        let Some(answer) = one.answer.take() else {
            if user.is_none() && (one.located.expected || (engines.first.is_none() && clients.is_empty())) {
                taken.name_engine(&mut one.engine, None);
                engines.add(one.engine);
            } else {
                engines.gaps.push(format!(
                    "reading containers from {}: {}",
                    one.engine.endpoint,
                    without_answer(&one.engine.state)
                ));
            }
            continue;
        };
        let suffix = taken.name_engine(&mut one.engine, user.as_deref());
        let Answer { client, mut containers, remote } = answer;
        if remote {
            engines.gaps.push(format!(
                "the containers of {} are not proven to run on this host: their processes, listeners, disks, log files and networks \
                 are left out; run opsctl on that machine",
                one.engine.endpoint
            ));
        }
        if user.is_some() && matches!(one.located.endpoint, docker::Endpoint::Tcp(_)) {
            engines.gaps.push(format!(
                "the listener of {} is not proven to belong to root: its reports count as those of another user; use the unix socket of \
                 the engine, or TLS",
                one.engine.endpoint
            ));
        }
        if user.is_some() && containers.len() > MAX_FOREIGN_CONTAINERS {
            engines.gaps.push(format!(
                "{} has {} containers: {MAX_FOREIGN_CONTAINERS} of them are examined",
                one.engine.name,
                containers.len()
            ));
            containers.truncate(MAX_FOREIGN_CONTAINERS);
        }
        let names = taken.name_containers(&mut containers, &suffix, user.is_some());
        for name in names.values() {
            redactor.register_name(name);
        }
        engines.gaps.extend(client.gaps());
        let projects = taken.projects.clone();
        if user.is_none() {
            taken.projects.extend(containers.iter().filter_map(|c| c.project.clone()));
        }
        client.place(Placement { user, remote, names, projects });
        for container in &mut containers {
            client.confine_listed(container);
        }
        clients.push((client, containers.iter().map(|c| c.id.clone()).collect()));
        engines.containers.extend(containers);
        engines.add(one.engine);
    }
    if !clients.is_empty() {
        let (first, _) = clients.remove(0);
        first.join(clients);
        engines.client = Some(first);
    }
    engines
}

impl Engines {
    fn add(&mut self, engine: EngineRef) {
        match &self.first {
            None => self.first = Some(engine),
            Some(_) => self.more.push(engine),
        }
    }
}

fn without_answer(state: &EngineState) -> String {
    match state {
        EngineState::Answers { .. } => String::new(),
        EngineState::Missing => "the socket does not exist".to_owned(),
        EngineState::Denied => "permission denied; needs root or group docker".to_owned(),
        EngineState::Refused => "connection refused, and no unit of it is enabled".to_owned(),
        EngineState::Hung { after_ms } => format!("no response within {after_ms} ms"),
        EngineState::Unsupported { error } | EngineState::Garbage { error } => error.clone(),
    }
}

/// Names and ids that an earlier engine has.
#[derive(Default)]
struct Taken {
    engines: HashSet<String>,
    containers: HashSet<String>,
    ids: HashSet<String>,
    /// Compose projects of the engines of this host.
    projects: HashSet<String>,
}

impl Taken {
    /// Names an engine: `docker`, `podman (user deploy)`, `docker (unix:///run/second.sock)`. Returns the addition for its
    /// containers: `podman, user deploy`.
    fn name_engine(&mut self, engine: &mut EngineRef, user: Option<&str>) -> String {
        let kind = engine.name.clone();
        let suffix = match user {
            Some(user) => format!("{kind}, user {user}"),
            None if self.engines.contains(&kind) => format!("{kind}, {}", engine.endpoint),
            None => kind.clone(),
        };
        if let Some((_, addition)) = suffix.split_once(", ") {
            engine.name = format!("{kind} ({addition})");
        }
        self.engines.insert(engine.name.clone());
        suffix
    }

    /// Removes containers that an earlier engine has, and names the others: with the engine if an earlier engine has the name,
    /// and always if they belong to another user, who can choose any name. Returns the changed names by id.
    fn name_containers(&mut self, containers: &mut Vec<ContainerRef>, suffix: &str, foreign: bool) -> HashMap<String, String> {
        containers.retain(|container| !self.ids.contains(&container.id));
        let mut changed = HashMap::new();
        for container in containers.iter_mut() {
            if foreign || self.containers.contains(&container.name) {
                let limit = if foreign { MAX_FOREIGN_NAME } else { usize::MAX };
                container.name = format!("{} ({suffix})", container.name.chars().take(limit).collect::<String>());
                changed.insert(container.id.clone(), container.name.clone());
            }
        }
        self.ids.extend(containers.iter().map(|c| c.id.clone()));
        self.containers.extend(containers.iter().map(|c| c.name.clone()));
        changed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn container(id: &str, name: &str) -> ContainerRef {
        serde_json::from_value(serde_json::json!({
            "id": id, "name": name, "image": "", "state": "running", "project": null, "service": null, "labels": {}
        }))
        .unwrap()
    }

    fn engine(kind: &str, endpoint: &str) -> EngineRef {
        EngineRef { name: kind.into(), endpoint: endpoint.into(), found_by: String::new(), state: EngineState::Missing }
    }

    fn unanswered(endpoint: &str, expected: bool, user: Option<&str>, state: EngineState) -> Queried {
        Queried {
            located: Located {
                endpoint: docker::Endpoint::parse(endpoint).unwrap(),
                found_by: "well-known socket".into(),
                expected,
                user: user.map(str::to_owned),
            },
            engine: EngineRef { state, ..engine("docker", endpoint) },
            answer: None,
        }
    }

    #[test]
    fn same_name_in_two_engines_names_the_second_engine() {
        let mut taken = Taken::default();
        let mut first = vec![container("a", "web"), container("b", "db")];
        assert!(taken.name_containers(&mut first, "docker", false).is_empty());
        let mut second = vec![container("c", "web"), container("d", "cache")];
        taken.name_containers(&mut second, "podman", false);
        assert_eq!(second.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["web (podman)", "cache"]);
    }

    #[test]
    fn containers_of_another_user_are_always_named_with_the_user() {
        let mut containers = vec![container("a", "web")];
        Taken::default().name_containers(&mut containers, "podman, user deploy", true);
        assert_eq!(containers[0].name, "web (podman, user deploy)");
    }

    #[test]
    fn name_of_another_users_container_is_cut() {
        let mut containers = vec![container("a", &"x".repeat(1 << 20))];
        Taken::default().name_containers(&mut containers, "docker, user mallory", true);
        assert_eq!(containers[0].name.len(), MAX_FOREIGN_NAME + " (docker, user mallory)".len());
    }

    #[test]
    fn id_of_an_earlier_engine_cannot_be_claimed() {
        let mut taken = Taken::default();
        taken.name_containers(&mut vec![container("a", "web")], "docker", false);
        let mut claimed = vec![container("a", "web")];
        taken.name_containers(&mut claimed, "docker, user mallory", true);
        assert!(claimed.is_empty());
    }

    #[test]
    fn engines_of_one_kind_have_different_names() {
        let mut taken = Taken::default();
        let mut engines = [engine("docker", "unix:///a"), engine("docker", "unix:///b"), engine("podman", "unix:///c")];
        for engine in &mut engines {
            taken.name_engine(engine, None);
        }
        assert_eq!(engines.map(|e| e.name), ["docker", "docker (unix:///b)", "podman"]);
    }

    #[test]
    fn only_engine_without_an_answer_is_reported() {
        let queried = vec![unanswered("unix:///run/a.sock", false, None, EngineState::Refused)];
        let engines = merged(queried, Vec::new(), &Redactor::default());
        assert_eq!(engines.first.map(|e| e.state), Some(EngineState::Refused));
        assert!(engines.gaps.is_empty() && engines.client.is_none());
    }

    #[test]
    fn silent_engine_of_another_user_is_a_gap() {
        let hung = EngineState::Hung { after_ms: 3000 };
        let queried = vec![unanswered("unix:///run/user/1000/docker.sock", false, Some("deploy"), hung)];
        let engines = merged(queried, Vec::new(), &Redactor::default());
        assert_eq!(engines.first, None);
        assert_eq!(engines.gaps, ["reading containers from unix:///run/user/1000/docker.sock: no response within 3000 ms"]);
    }
}
