//! Needs in the environments of containers.

use std::net::IpAddr;

use futures_util::future::join_all;

use crate::probe::ProbeCx;
use crate::probe::docker::Container;
use crate::probe::needs::environment::{self, Named};
use crate::probe::needs::neighbours::Neighbours;
use crate::probe::needs::plausible::{is_loopback, is_plausible};
use crate::probe::needs::{Consumer, Dependency, DependencySource, MAX_NEEDS, consumer_of};

/// The needs in the environments of the running containers.
pub(super) async fn environments(cx: &ProbeCx, neighbours: &Neighbours) -> Vec<Dependency> {
    let Some(docker) = &cx.docker else { return Vec::new() };
    let running = neighbours.all().iter().filter_map(|c| Some((c, consumer_of(c)?)));
    let read = running.map(|(c, consumer)| async move {
        let environment = docker.environment(&c.id).await.unwrap_or_default();
        let named = environment::addresses(&environment);
        named.into_iter().filter_map(|n| need(neighbours, &consumer, c, n)).take(MAX_NEEDS).collect::<Vec<_>>()
    });
    join_all(read).await.into_iter().flatten().collect()
}

/// A variable as a need: of another container, of an address, or of a name that may not exist.
fn need(neighbours: &Neighbours, consumer: &Consumer, from: &Container, named: Named) -> Option<Dependency> {
    let host = named.address.host.as_str();
    let target = match neighbours.resolve(Some(from), host) {
        Some(resolved) => {
            let container = resolved.container;
            // its own address is announced to others
            let own = container.id == from.id || neighbours.holder(container).id == neighbours.holder(from).id;
            if own {
                return None;
            }
            Some(container.id.clone())
        }
        None if named.own_page => return None,
        // in a container its own loopback address; a page of HTTP there is requested by browsers and health tests
        None if is_loopback(host) => named.store.then_some(None)?,
        None if host.parse::<IpAddr>().is_ok_and(|ip| !ip.is_unspecified()) => None,
        None => is_plausible(host, named.store).then_some(None)?,
    };
    Some(Dependency {
        consumer: consumer.clone(),
        host: named.address.host,
        port: named.address.port,
        how: DependencySource::Environment { variable: named.variable, place: String::new(), assumed: named.assumed },
        target,
    })
}

impl ProbeCx {
    /// Whether a variable of a container has the value that its image sets: it may be unused. `None` if the image cannot be read.
    pub async fn is_image_default(&self, container: &str, variable: &str) -> Option<bool> {
        let docker = self.docker.as_ref()?.of(container);
        let image = docker.inspect(container).await.ok()?.image_id.clone();
        let defaults = docker.image(&image).await.ok()??.environment;
        let environment = docker.environment(container).await.ok()?;
        let is_of = |e: &&String| e.split_once('=').is_some_and(|(name, _)| name == variable);
        Some(environment.iter().find(is_of).is_some_and(|entry| defaults.contains(entry)))
    }
}
