//! Queries to the name servers of a container, and containers with the same name servers.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::join_all;
use opsctl_core::probe::docker::Container;
use opsctl_core::probe::names::{
    Answers, HostAnswers, QueryLimits, QueryResult, Question, ResolvConf, Transport, query_all, query_each, questions,
};
use opsctl_core::probe::network::netns;
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};

use super::container::{ThisHost, is_embedded};
use super::leak::Short;
use crate::shared::servers::READ_TIMEOUT;

/// Limit of short names queried in search domains.
const MAX_SHORT_NAMES: usize = 4;

/// Of the containers with the same networks and resolv.conf only the first is probed. Returns its name if it is another
/// container, or the names of the others.
pub(super) async fn same(cx: &ProbeCx, container: &Container) -> (Option<String>, Vec<String>) {
    let groups = cx.resolver_groups().await;
    let Some(alike) = groups.iter().find(|group| group.iter().any(|c| c.id == container.id)) else { return (None, Vec::new()) };
    match &alike[0].name {
        first if *first != container.name => (Some(first.clone()), Vec::new()),
        _ => (None, alike.iter().skip(1).map(|c| c.name.clone()).collect()),
    }
}

/// Whether its queries can leave its networks: it has a default route, and not all of its networks are internal.
pub(super) async fn has_egress(cx: &ProbeCx, pid: i32, container: &Container) -> Result<Option<bool>, ProbeError> {
    let from = format!("/proc/{pid}/net/route");
    let read = move |io: &Io| netns::has_default_route(io, i64::from(pid));
    let route = blocking::run("routes", &from, READ_TIMEOUT, read).await?;
    if route != Some(true) {
        return Ok(route);
    }
    for network in container.networks.keys() {
        if !cx.docker()?.is_internal(network).await? {
            return Ok(Some(true));
        }
    }
    Ok(Some(container.networks.is_empty()))
}

/// The setting that configures its name servers, if any.
pub(super) async fn chosen(cx: &ProbeCx, container: &Container) -> Option<String> {
    if !container.dns.is_empty() {
        return Some(format!("--dns {}", container.dns.join(" ")));
    }
    let all = cx.resolvers().engine(cx.docker.as_deref(), cx.systemd.as_deref()).await;
    (!all.is_empty()).then(|| format!("dns in daemon.json: {}", all.join(" ")))
}

/// Queries Docker's embedded name server, if the container uses it, for the container's own name. No query leaves this host.
pub(super) async fn inside(
    pid: i32,
    container: &Container,
    conf: &ResolvConf,
    limits: QueryLimits,
) -> Result<Option<QueryResult>, ProbeError> {
    let Some(own) = conf.used().into_iter().find(is_embedded) else { return Ok(None) };
    let jobs = vec![(own, Transport::Udp, Question::Address(container.name.clone()))];
    Ok(query_each(Some(pid), jobs, limits).await?.into_iter().next())
}

/// Queries its name servers for the root and for the names of the configuration.
pub(super) async fn outside(
    pid: i32,
    conf: &ResolvConf,
    names: &[String],
    limits: QueryLimits,
) -> Result<Vec<Answers>, ProbeError> {
    query_all(Some(pid), &conf.used(), &questions(names), false, limits).await
}

/// Queries the upstreams of Docker's embedded name server directly and once, as far as resolv.conf lists them. An upstream that
/// Docker queries from the host's network is queried from there.
pub(super) async fn upstream(pid: i32, conf: &ResolvConf, limits: QueryLimits) -> Result<Vec<Answers>, ProbeError> {
    let once = QueryLimits { tries: 1, ..limits };
    let query = |ext: &opsctl_core::probe::names::ExtServer| {
        let (server, from) = (ext.server.clone(), (!ext.from_host).then_some(pid));
        async move { query_all(from, &[server], &questions(&[]), false, once).await }
    };
    let embedded = conf.used().iter().any(is_embedded);
    let all = join_all(conf.ext_servers.iter().flatten().filter(|_| embedded).map(query)).await;
    Ok(all.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// The name servers of this host, for comparison with a container.
pub(super) fn this_host(host: &HostAnswers, container: &Container) -> ThisHost {
    ThisHost {
        servers: host.servers.clone(),
        given: host.for_containers.used(),
        changed_since: matches!((host.file.modified, container.state.started_at), (Some(file), Some(start)) if file > start),
        search: host.file.conf.search.clone(),
    }
}

/// The addresses of all containers.
pub(super) fn addresses(all: &[Arc<Container>]) -> Vec<IpAddr> {
    all.iter().flat_map(|c| c.networks.values()).filter_map(|a| a.parse().ok()).collect()
}

/// The short names of its neighbours that libc would query in search domains: all of them if search domains come first, else
/// those unknown to Docker's embedded name server because the container does not run.
pub(super) fn short_names(container: &Container, all: &[Arc<Container>], conf: &ResolvConf) -> Vec<Short> {
    if conf.search.is_empty() || !conf.used().iter().any(is_embedded) {
        return Vec::new();
    }
    let neighbours =
        || all.iter().filter(|c| c.id != container.id && c.networks.keys().any(|n| container.networks.contains_key(n)));
    let running: BTreeSet<String> = neighbours().filter(|c| c.is_up()).flat_map(|c| names(c)).collect();
    let stopped: BTreeSet<String> = neighbours().flat_map(|c| names(c)).filter(|n| !running.contains(n)).collect();
    // libc queries a name without search domains first if it has at least `ndots` dots (resolv.conf(5)); a short name has none
    let search_first = conf.number("ndots").unwrap_or(1) > 0;
    let running = running.into_iter().filter(|_| search_first).map(|name| Short { name, runs: true });
    running.chain(stopped.into_iter().map(|name| Short { name, runs: false })).take(MAX_SHORT_NAMES).collect()
}

/// Its name, its Compose service and its aliases.
fn names(container: &Container) -> Vec<String> {
    let service = container.compose().map(|(_, service)| service.to_owned());
    let aliases = container.aliases.values().flatten().cloned();
    let is_id = |name: &String| container.id.starts_with(name.as_str());
    let all = std::iter::once(container.name.clone()).chain(service).chain(aliases);
    all.filter(|n| !n.is_empty() && !n.contains('.') && !is_id(n)).collect()
}
