//! Containers of a host, and the names by which they reach each other.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::probe::ProbeCx;
use crate::probe::docker::Container;

/// All containers, running or not.
#[derive(Debug, Default)]
pub struct Neighbours(Vec<Arc<Container>>);

/// The container that a name or an address refers to.
#[derive(Debug, Clone, Copy)]
pub struct ResolvedContainer<'a> {
    /// The container.
    pub container: &'a Container,
    /// Whether Docker's name server resolves the name, because both are in a network with name resolution; also set for an
    /// address.
    pub known: bool,
}

impl Neighbours {
    pub(super) async fn of(cx: &ProbeCx) -> Self {
        Self(cx.inspected(&cx.inventory.containers).await)
    }

    /// All containers.
    #[must_use]
    pub fn all(&self) -> &[Arc<Container>] {
        &self.0
    }

    /// Container with this full id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Container> {
        self.0.iter().find(|c| c.id == id).map(|c| &**c)
    }

    /// Container with this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Container> {
        self.0.iter().find(|c| c.name == name).map(|c| &**c)
    }

    /// Owner of the container's network namespace: the container itself, unless it joined that of another container.
    #[must_use]
    pub fn holder<'a>(&'a self, container: &'a Container) -> &'a Container {
        let mut at = container;
        // a chain is at most as long as the number of containers
        for _ in 0..self.0.len() {
            match at.network_mode.strip_prefix("container:").and_then(|id| self.get(id)) {
                Some(next) => at = next,
                None => break,
            }
        }
        at
    }

    /// Running container that has this address.
    #[must_use]
    pub fn owner(&self, address: IpAddr) -> Option<&Container> {
        let has = |c: &&Arc<Container>| c.state.running && c.networks.values().any(|ip| ip.parse() == Ok(address));
        self.0.iter().find(has).map(|c| &**c)
    }

    /// Resolves a name or an address as seen by `from` (a container, or this host) to a container.
    ///
    /// A name is resolved like Docker does: in a shared network with name resolution. Otherwise only the exact name of a
    /// container, or a service of the same compose project, matches: `db` in another project is a different service.
    #[must_use]
    pub fn resolve(&self, from: Option<&Container>, host: &str) -> Option<ResolvedContainer<'_>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return self.owner(address).map(|container| ResolvedContainer { container, known: true });
        }
        let mut near: Vec<&Arc<Container>> = self.0.iter().filter(|c| self.answers(from, c, host)).collect();
        near.sort_by_key(|c| !c.is_up());
        if let Some(container) = near.first() {
            return Some(ResolvedContainer { container, known: true });
        }
        let project = from.and_then(|c| c.compose()).map(|(project, _)| project);
        let service = |c: &&Arc<Container>| project.is_some() && c.compose() == project.map(|p| (p, host));
        let far = self.0.iter().find(|c| c.name == host).or_else(|| self.0.iter().find(service));
        far.map(|container| ResolvedContainer { container, known: false })
    }

    /// Running containers with an alias or a name of compose in networks that `from` is not in.
    #[must_use]
    pub fn elsewhere(&self, from: Option<&Container>, host: &str) -> Vec<(&Container, &str)> {
        let mut found = Vec::new();
        for c in self.0.iter().filter(|c| c.is_up() && from.is_none_or(|from| from.id != c.id)) {
            let shared = self.shared(from, c);
            let has = |aliases: &[String]| aliases.iter().any(|a| a.eq_ignore_ascii_case(host));
            let network = c.aliases.iter().find(|(network, aliases)| !shared.contains(network) && has(aliases));
            found.extend(network.map(|(network, _)| (&**c, network.as_str())));
        }
        found
    }

    /// Whether a name resolves to a container in a network shared with `from`. The default bridge has no name resolution
    /// (<https://docs.docker.com/engine/network/drivers/bridge/>).
    #[must_use]
    pub fn answers(&self, from: Option<&Container>, container: &Container, host: &str) -> bool {
        self.shared(from, container).iter().filter(|n| *n != "bridge").any(|network| {
            let aliases = self.holder(container).aliases.get(network).map(Vec::as_slice).unwrap_or_default();
            container.name.eq_ignore_ascii_case(host) || aliases.iter().any(|a| a.eq_ignore_ascii_case(host))
        })
    }

    /// Networks that both are in.
    #[must_use]
    pub fn shared(&self, from: Option<&Container>, to: &Container) -> Vec<String> {
        let Some(from) = from else { return Vec::new() };
        let own = &self.holder(from).networks;
        let real = |n: &&String| !matches!(n.as_str(), "host" | "none");
        self.holder(to).networks.keys().filter(real).filter(|n| own.contains_key(*n)).cloned().collect()
    }

    /// Whether `from` is in the network namespace of the host, from which every bridge can be reached.
    #[must_use]
    pub fn on_host(&self, from: Option<&Container>) -> bool {
        from.is_none_or(|c| self.holder(c).network_mode == "host")
    }

    /// Address of a container for `from`: in a shared network; any of its addresses from the host.
    #[must_use]
    pub fn address(&self, from: Option<&Container>, to: &Container) -> Option<IpAddr> {
        let networks: &BTreeMap<String, String> = &self.holder(to).networks;
        let parse = |ip: &String| ip.parse().ok();
        if self.on_host(from) {
            return networks.values().find_map(parse);
        }
        self.shared(from, to).iter().filter_map(|n| networks.get(n)).find_map(parse)
    }

    /// Number of other running containers that share a network with this one.
    #[must_use]
    pub fn others(&self, container: &Container) -> usize {
        let other = |c: &&Arc<Container>| c.id != container.id && c.state.running && !self.shared(Some(container), c).is_empty();
        self.0.iter().filter(other).count()
    }
}

#[cfg(test)]
impl From<Vec<Arc<Container>>> for Neighbours {
    fn from(all: Vec<Arc<Container>>) -> Self {
        Self(all)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::probe::needs) fn container(name: &str, networks: &[(&str, &str)], project: Option<&str>) -> Arc<Container> {
        let mut c = Container { id: format!("id-{name}"), name: name.to_owned(), ..Container::default() };
        c.state.running = true;
        c.state.pid = 7;
        c.networks = networks.iter().map(|(n, ip)| ((*n).to_owned(), (*ip).to_owned())).collect();
        if let Some(project) = project {
            c.labels.insert("com.docker.compose.project".to_owned(), project.to_owned());
            c.labels.insert("com.docker.compose.service".to_owned(), "db".to_owned());
            c.aliases = networks.iter().map(|(n, _)| ((*n).to_owned(), vec!["db".to_owned()])).collect();
        }
        Arc::new(c)
    }

    #[test]
    fn name_is_resolved_like_docker() {
        let all = Neighbours(vec![
            container("shop-db-1", &[("shop", "10.0.1.2")], Some("shop")),
            container("blog-db-1", &[("blog", "10.0.2.2")], Some("blog")),
            container("web", &[("blog", "10.0.2.3"), ("bridge", "172.17.0.2")], None),
            container("old", &[("bridge", "172.17.0.3")], None),
        ]);
        let web = all.named("web");
        let resolve = |from, host: &str| all.resolve(from, host).map(|m| (m.container.name.as_str(), m.known));
        assert_eq!(resolve(web, "db"), Some(("blog-db-1", true)));
        assert_eq!(resolve(web, "shop-db-1"), Some(("shop-db-1", false)));
        assert_eq!(resolve(all.named("old"), "db"), None, "a service of another project");
        assert_eq!(resolve(all.named("old"), "web"), Some(("web", false)), "the default bridge has no name resolution");
        assert_eq!(resolve(None, "10.0.1.2"), Some(("shop-db-1", true)));
        let old = all.named("old").map(|c| all.address(web, c));
        assert_eq!(old, Some("172.17.0.3".parse().ok()));
    }
}
