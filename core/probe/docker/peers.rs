//! Several engines behind one handle: a request about a container goes to the engine that listed it.
//!
//! An engine of another user is controlled by that user, and an engine on another machine describes that machine. Paths, ports and
//! interfaces that such an engine reports are removed: they would be read on this host with the rights of opsctl.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use futures_util::future::join_all;

use super::inspect::UNIT_LABEL;
use super::{Container, Docker, Event, Network, events, network};
use crate::model::ContainerRef;
use crate::probe::ProbeError;

/// The relation of an engine to this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// Name of another user, if the engine belongs to one; `None` for the own user and for root.
    pub user: Option<String>,
    /// It runs on another machine.
    pub remote: bool,
    /// Names of its containers, by id, that differ from those of the engine: another engine has the name, too.
    pub names: HashMap<String, String>,
    /// Compose projects of earlier engines: another user's project of this name is another one.
    pub projects: HashSet<String>,
}

/// The other engines of a handle.
#[derive(Debug, Default)]
pub(super) struct Peers {
    engines: Vec<Arc<Docker>>,
    /// Index of the engine, by container id.
    owners: HashMap<String, usize>,
}

impl Docker {
    /// Sets the relation to this host, once, before the containers are inspected.
    pub fn place(&self, placement: Placement) {
        // a second call has no effect
        let _ = self.placement.set(placement);
    }

    /// Adds the other engines with the ids of their containers, once.
    pub fn join(&self, others: Vec<(Arc<Docker>, Vec<String>)>) {
        let mut peers = Peers::default();
        for (at, (engine, ids)) in others.into_iter().enumerate() {
            peers.engines.push(engine);
            for id in ids {
                peers.owners.entry(id).or_insert(at);
            }
        }
        let _ = self.peers.set(peers);
    }

    fn others(&self) -> &[Arc<Docker>] {
        self.peers.get().map_or(&[][..], |peers| peers.engines.as_slice())
    }

    /// This engine and the others.
    pub fn engines(&self) -> impl Iterator<Item = &Docker> {
        std::iter::once(self).chain(self.others().iter().map(Arc::as_ref))
    }

    /// The engine of a container: the one that listed it.
    #[must_use]
    pub fn of(&self, id: &str) -> &Docker {
        let other = self.peers.get().and_then(|peers| peers.engines.get(*peers.owners.get(id)?));
        other.map_or(self, Arc::as_ref)
    }

    /// The user of this engine, if it is another one.
    #[must_use]
    pub fn foreign_user(&self) -> Option<&str> {
        self.placement.get()?.user.as_deref()
    }

    /// Whether it runs on another machine.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.placement.get().is_some_and(|placement| placement.remote)
    }

    /// Whether its paths, ports and interfaces are those of this host, and reported by an engine of root or of this user.
    #[must_use]
    pub fn is_local(&self) -> bool {
        !self.is_remote() && self.foreign_user().is_none()
    }

    /// Whether one of these containers has a process on this host: then the engine behind a network address runs here.
    pub async fn runs_here(&self, running: &[ContainerRef]) -> bool {
        for container in running.iter().take(MAX_PROVEN) {
            if self.inspect_now(&container.id).await.is_ok_and(|c| c.state.pid > 0) {
                return true;
            }
        }
        false
    }

    /// Removes from a container what must not be used on this host.
    pub(super) fn confine(&self, container: &mut Container) {
        // the units of another manager, and labels that Podman did not set
        if !(self.is_podman && self.listener.uid == Some(0)) {
            container.labels.remove(UNIT_LABEL);
        }
        let Some(placement) = self.placement.get() else { return };
        if let Some(name) = placement.names.get(&container.id) {
            container.name.clone_from(name);
        }
        if self.is_local() {
            return;
        }
        container.log.path.clear();
        container.own_layer.clear();
        container.state_paths.clear();
        container.mounts.iter_mut().for_each(|mount| mount.source.clear());
        container.labels.retain(|name, value| !names_file(name, value));
        if let Some(user) = &placement.user {
            // a name or an address of its network must not resolve to it for the containers of this host
            container.networks =
                std::mem::take(&mut container.networks).into_keys().map(|name| (of_user(&name, user), String::new())).collect();
            container.aliases =
                std::mem::take(&mut container.aliases).into_iter().map(|(name, a)| (of_user(&name, user), a)).collect();
            placement.hide_namespace(&mut container.network_mode);
            placement.hide_project(&mut container.labels);
        }
        if placement.remote {
            container.state.pid = 0;
            container.pid_unproven = container.state.running;
            container.ports.clear();
            container.udp_ports.clear();
            container.configured_ports.clear();
        }
    }

    /// The same for an entry of the list.
    pub fn confine_listed(&self, container: &mut ContainerRef) {
        if !self.is_local() {
            container.labels.retain(|name, value| !names_file(name, value));
        }
        if let Some(placement) = self.placement.get().filter(|placement| placement.user.is_some()) {
            placement.hide_namespace(&mut container.network_mode);
            if placement.hide_project(&mut container.labels) {
                (container.project, container.service) = (None, None);
            }
        }
    }

    /// The networks of this engine alone, sorted by name.
    pub async fn own_networks(&self) -> Result<Arc<Vec<Network>>, ProbeError> {
        self.networks
            .get((), || async {
                let mut networks = network::list(self).await?;
                if !self.is_local() {
                    networks.iter_mut().for_each(without_interface);
                }
                if let Some(user) = self.foreign_user() {
                    for network in &mut networks {
                        network.name = of_user(&network.name, user);
                    }
                }
                Ok(Arc::new(networks))
            })
            .await
    }

    /// Events of all engines in the order of their times. One without an answer is a gap. Another user's engine reports events of its
    /// own containers only: it could otherwise claim that a container of this host was stopped by hand.
    pub(super) async fn all_events(&self, since: jiff::Timestamp) -> Result<Vec<Event>, ProbeError> {
        let mut all: Vec<Event> = events::since(self, since).await?.into_iter().map(|event| self.named(event)).collect();
        let read = self.others().iter().map(|engine| async move { (engine, events::since(engine, since).await) });
        for (engine, events) in join_all(read).await {
            let is_own = |event: &Event| engine.is_local() || std::ptr::eq(self.of(&event.container), engine.as_ref());
            match events {
                Ok(events) => all.extend(events.into_iter().filter(is_own).map(|event| engine.named(event))),
                Err(e) => self.api.add_gaps([e.to_string()]),
            }
        }
        all.sort_by_key(|event| event.at);
        Ok(all)
    }

    /// The event with the name under which its container is listed.
    fn named(&self, mut event: Event) -> Event {
        if let Some(name) = self.placement.get().and_then(|placement| placement.names.get(&event.container)) {
            event.name = Some(name.clone());
        }
        event
    }
}

/// Containers that are inspected to find out whether an engine behind a network address runs here.
const MAX_PROVEN: usize = 4;

impl Placement {
    /// Removes the network namespace of a container that this engine does not have.
    fn hide_namespace(&self, network_mode: &mut String) {
        if network_mode.strip_prefix("container:").is_some_and(|id| !self.names.contains_key(id)) {
            network_mode.clear();
        }
    }

    /// Removes the labels of compose of a project that an earlier engine has. Returns whether it has it.
    fn hide_project(&self, labels: &mut BTreeMap<String, String>) -> bool {
        let is_taken = labels.get(PROJECT_LABEL).is_some_and(|project| self.projects.contains(project));
        if is_taken {
            labels.retain(|name, _| !name.starts_with(COMPOSE_LABELS));
        }
        is_taken
    }
}

/// Labels of compose, and the one with the name of the project.
const COMPOSE_LABELS: &str = "com.docker.compose.";
const PROJECT_LABEL: &str = "com.docker.compose.project";

/// The name of a network of another user's engine. Those with a meaning keep it: no name is resolved in them.
fn of_user(network: &str, user: &str) -> String {
    if matches!(network, "bridge" | "host" | "none") { network.to_owned() } else { format!("{network} (user {user})") }
}

/// Whether a label of compose names files.
fn names_file(label: &str, value: &str) -> bool {
    label.starts_with(COMPOSE_LABELS) && value.split(',').any(|part| Path::new(part.trim()).is_absolute())
}

/// Removes the interface, addresses and rules: they are not those of this host.
fn without_interface(network: &mut Network) {
    network.interface = None;
    network.subnets.clear();
    network.masquerade = false;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::docker::Mount;

    fn confined(placement: Placement) -> Container {
        let docker = Docker::for_test("unix:///run/peers-test.sock");
        docker.place(placement);
        let mut container = Container { id: "a".into(), name: "web".into(), own_layer: "/etc".into(), ..Container::default() };
        container.log.path = "/etc/shadow".into();
        container.mounts = vec![Mount { source: "/etc".into(), destination: "/data".into(), ..Mount::default() }];
        container.labels.insert("com.docker.compose.project.config_files".into(), "/etc/shadow".into());
        container.labels.insert("com.docker.compose.project".into(), "shop".into());
        container.configured_ports = vec![80];
        docker.confine(&mut container);
        container
    }

    #[tokio::test(flavor = "current_thread")]
    async fn paths_of_another_users_engine_are_removed() {
        let container = confined(Placement { user: Some("mallory".into()), ..Placement::default() });
        assert_eq!(
            (container.log.path.as_str(), container.own_layer.as_str(), container.mounts[0].source.as_str()),
            ("", "", "")
        );
        assert_eq!(container.labels.keys().collect::<Vec<_>>(), ["com.docker.compose.project"]);
        assert_eq!(container.configured_ports, [80]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn network_and_project_of_another_user_are_not_those_of_this_host() {
        let docker = Docker::for_test("unix:///run/peers-network.sock");
        let projects = HashSet::from(["shop".to_owned()]);
        docker.place(Placement { user: Some("mallory".into()), projects, ..Placement::default() });
        let mut container = Container { id: "a".into(), ..Container::default() };
        container.networks.insert("shop_default".into(), "172.18.0.2".into());
        container.aliases.insert("shop_default".into(), vec!["db".into()]);
        container.labels.insert("com.docker.compose.project".into(), "shop".into());
        container.labels.insert("com.docker.compose.service".into(), "db".into());
        docker.confine(&mut container);
        let named = "shop_default (user mallory)".to_owned();
        assert_eq!(container.networks.into_iter().collect::<Vec<_>>(), [(named.clone(), String::new())]);
        assert_eq!(container.aliases.into_keys().collect::<Vec<_>>(), [named]);
        assert!(container.labels.is_empty(), "{:?}", container.labels);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn container_of_another_user_is_not_in_the_namespace_of_a_container_of_this_host() {
        let docker = Docker::for_test("unix:///run/peers-namespace.sock");
        let names = HashMap::from([("own".to_owned(), "web (docker, user mallory)".to_owned())]);
        docker.place(Placement { user: Some("mallory".into()), names, ..Placement::default() });
        let confined = |mode: &str| {
            let mut container = Container { network_mode: mode.into(), ..Container::default() };
            docker.confine(&mut container);
            container.network_mode
        };
        assert_eq!(["container:other", "container:own", "host"].map(confined), ["", "container:own", "host"]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn ports_of_a_remote_engine_are_removed() {
        assert!(confined(Placement { remote: true, ..Placement::default() }).configured_ports.is_empty());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn local_engine_keeps_its_paths() {
        let container =
            confined(Placement { names: HashMap::from([("a".into(), "web (podman)".into())]), ..Placement::default() });
        assert_eq!((container.name.as_str(), container.own_layer.as_str()), ("web (podman)", "/etc"));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn first_engine_that_listed_a_container_owns_it() {
        let docker = Docker::for_test("unix:///run/peers-first.sock");
        let other = |path: &str, ids: &[&str]| {
            (Arc::new(Docker::for_test(path)), ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>())
        };
        docker.join(vec![other("unix:///run/peers-b.sock", &["b"]), other("unix:///run/peers-c.sock", &["b", "c"])]);
        let endpoint = |id: &str| docker.of(id).endpoint().to_string();
        assert_eq!(endpoint("a"), "unix:///run/peers-first.sock");
        assert_eq!(endpoint("b"), "unix:///run/peers-b.sock");
        assert_eq!(endpoint("c"), "unix:///run/peers-c.sock");
        assert_eq!(docker.engines().count(), 3);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn labels_with_paths_are_removed_from_the_list() {
        let docker = Docker::for_test("unix:///run/peers-list.sock");
        docker.place(Placement { user: Some("mallory".into()), ..Placement::default() });
        let mut listed: ContainerRef = serde_json::from_value(serde_json::json!({
            "id": "a", "name": "web", "image": "", "state": "running", "project": null, "service": null,
            "labels": {"com.docker.compose.project.working_dir": "/root", "opsctl.maintenance": "true"}
        }))
        .unwrap_or_else(|e| panic!("{e}"));
        docker.confine_listed(&mut listed);
        assert_eq!(listed.labels.keys().collect::<Vec<_>>(), ["opsctl.maintenance"]);
    }
}
