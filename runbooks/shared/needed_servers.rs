//! The databases, caches and brokers that a container names in its environment.

use opsctl_core::model::{Finding, KeyKind, Product};
use opsctl_core::probe::ProbeCx;
use opsctl_core::probe::docker::Docker;

/// Ids of the databases, caches and brokers that the environment of a container names, other than its own.
pub(crate) async fn needs_of(cx: &ProbeCx, docker: &Docker, container: &str) -> Vec<String> {
    let mut needs = Vec::new();
    let stores = [Product::Postgres, Product::Pgbouncer, Product::Redis, Product::Rabbitmq];
    for s in cx.inventory.servers.iter().filter(|s| stores.contains(&s.product) && s.container.as_deref() != Some(container)) {
        let its = s.container.as_deref().and_then(|id| cx.inventory.container(id));
        let names = [Some(s.name.as_str()), its.map(|c| c.name.as_str()), its.and_then(|c| c.service.as_deref())];
        let names: Vec<&str> = names.into_iter().flatten().collect();
        if docker.names_host(container, &names).await {
            needs.push(s.id.clone());
        }
    }
    needs
}

/// Ties a finding to the servers that its object needs.
pub(crate) fn tied_to_needs<'n>(finding: Finding, needs: impl IntoIterator<Item = &'n String>) -> Finding {
    needs.into_iter().fold(finding, |f, server| f.key(KeyKind::Server, server).key(KeyKind::Writes, server))
}
