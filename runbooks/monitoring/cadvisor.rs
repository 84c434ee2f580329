//! Names of containers in the metrics of cAdvisor. Without access to Docker's socket and data it exports control groups with an id
//! only (google/cadvisor issues 1873, 2270, 3408), and with the containerd image store too (issue 3643, grafana/alloy issue 6308).

use opsctl_core::probe::ProbeCx;
use opsctl_core::probe::servers::metrics::MetricSample;
use serde::{Deserialize, Serialize};

use crate::shared::servers::Server;

/// A sample for each control group.
pub(super) const LAST_SEEN: &str = "container_last_seen";

/// The running containers of its engine that its metrics contain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Named {
    /// By their id.
    listed: usize,
    /// Those also by a name.
    named: usize,
}

impl Named {
    /// Compares the metrics with the containers of the engine that it observes. `None` for a rootless or remote engine and for
    /// Podman, with sockets and data in other places.
    pub(super) async fn of(cx: &ProbeCx, server: &Server, samples: &[MetricSample]) -> Option<Self> {
        let docker = cx.docker.as_ref()?;
        let own = server.get()?.container.as_deref();
        let engine = own.map_or_else(|| docker.as_ref(), |id| docker.of(id));
        if !engine.is_local() || engine.is_podman() || engine.settings().await.ok()?.rootless {
            return None;
        }
        let of_engine = cx.inventory.running().filter(|c| docker.of(&c.id).endpoint() == engine.endpoint());
        Some(Self::count(of_engine.map(|c| c.id.as_str()), samples))
    }

    fn count<'a>(ids: impl Iterator<Item = &'a str>, samples: &[MetricSample]) -> Self {
        let mut found = Self::default();
        for id in ids {
            let mut of_container = samples.iter().filter(|s| s.name == LAST_SEEN && s.label("id").contains(id)).peekable();
            found.listed += usize::from(of_container.peek().is_some());
            // with the containerd image store the name is the id
            found.named += usize::from(of_container.any(|s| !matches!(s.label("name"), "") && !s.label("name").contains(id)));
        }
        found
    }

    /// The number of containers, if it knows none of them by name.
    pub(super) fn nameless(self) -> Option<usize> {
        (self.listed > 0 && self.named == 0).then_some(self.listed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opsctl_core::probe::servers::metrics::parse;

    const ONE: &str = "1111111111111111111111111111111111111111111111111111111111111111";
    const TWO: &str = "2222222222222222222222222222222222222222222222222222222222222222";

    fn nameless(text: &str) -> Option<usize> {
        let text = text.replace("ONE", ONE).replace("TWO", TWO);
        Named::count([ONE, TWO].into_iter(), &parse(&text, &[LAST_SEEN])).nameless()
    }

    #[test]
    fn control_groups_without_names() {
        let text = "container_last_seen{id=\"/\"} 1\ncontainer_last_seen{id=\"/docker/ONE\"} 1\n\
                    container_last_seen{id=\"/system.slice/docker-TWO.scope\",name=\"\",image=\"\"} 1\n";
        assert_eq!(nameless(text), Some(2));
        // grafana/alloy issue 6308
        assert_eq!(nameless("container_last_seen{id=\"/system.slice/docker-ONE.scope\",name=\"ONE\"} 1\n"), Some(1));
    }

    #[test]
    fn named_containers_and_another_engine() {
        let text = "container_last_seen{id=\"/docker/ONE\",image=\"redis:7\",name=\"cache\"} 1\ncontainer_last_seen{id=\"/docker/TWO\"} 1\n";
        assert_eq!(nameless(text), None);
        assert_eq!(nameless("container_last_seen{id=\"/docker/3333\"} 1\ncontainer_last_seen{id=\"/\"} 1\n"), None);
    }
}
