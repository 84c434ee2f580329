//! Dependencies: the connections that a container or a process of this host is known to need, their source, and whether they
//! succeed.

mod bindings;
mod connection;
mod containers;
mod environment;
#[cfg(any(test, feature = "fuzz"))]
pub(in crate::probe) mod fuzz;
mod hosts_entries;
mod neighbours;
mod plausible;
mod proxy;
mod reach;
mod services;
mod upstreams;

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use crate::model::Product;
use crate::probe::docker::Container;
use crate::probe::names::Lookup;
use crate::probe::network::View;
use crate::probe::servers::prometheus::ScrapeTarget;
use crate::probe::{Memo, ProbeCx, ProbeError};

pub use crate::probe::servers::prometheus::Health;
pub use bindings::{Binding, Listening, bindings, listening};
pub use hosts_entries::HostsEntry;
pub use neighbours::{Neighbours, ResolvedContainer};
pub use plausible::HOST_NAMES;
pub use proxy::{ProxySettings, proxy_settings};
pub use reach::{ConnectResult, ScrapeResult};

/// Limit of dependencies of one consumer.
const MAX_NEEDS: usize = 60;

/// Limit of failing targets of one Prometheus.
const MAX_SCRAPES: usize = 20;

/// The client of a dependency.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Consumer {
    /// Full id of its container, or `None` for a process of the host.
    pub container: Option<String>,
    /// Name of its container, or of the process.
    pub name: String,
    /// Process id of its first process.
    pub pid: i32,
    /// Its unit, if systemd confirms it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// Source of a dependency.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum DependencySource {
    /// Scraped by a Prometheus.
    Scrape {
        /// URL without its query, which may hold a token.
        url: String,
        /// Health reported by Prometheus.
        health: Health,
        /// Last error, without the URL.
        error: String,
        /// Requested path, with the query: it is sent, and neither shown nor stored.
        #[serde(skip)]
        path: String,
    },
    /// A variable of its environment.
    Environment {
        /// Name of the variable.
        variable: String,
        /// The setting of the unit that sets it: `Environment= of app.service`, `/etc/default/app:3`. Empty if unknown.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        place: String,
        /// The port is the default one of the product: the variable has none.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        assumed: bool,
    },
    /// An upstream of a reverse proxy.
    Upstream {
        /// `haproxy`, `apache`, `caddy`, `traefik`.
        product: String,
        /// `/etc/haproxy/haproxy.cfg:12`.
        place: String,
        /// The servers with the same purpose: `backend web`.
        group: String,
        /// Number of servers in the group.
        servers: u32,
    },
    /// An endpoint of the configuration with this container as the source.
    Endpoint,
    /// An nginx with this upstream.
    Nginx,
}

/// A dependency: a consumer needs a port of a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Dependency {
    /// The client.
    pub consumer: Consumer,
    /// Host name or address, as the consumer has it.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Source.
    pub how: DependencySource,
    /// Full id of the container that the host refers to, if it is one of this host.
    pub target: Option<String>,
}

impl Dependency {
    /// `web (BACKEND_URL)`, `prometheus (scrapes it)`.
    #[must_use]
    pub fn label(&self) -> String {
        let how = match &self.how {
            DependencySource::Scrape { .. } => "scrapes it",
            DependencySource::Environment { variable, .. } => variable,
            DependencySource::Upstream { place, .. } => place,
            DependencySource::Endpoint => "an endpoint of the configuration",
            DependencySource::Nginx => "passes requests to it",
        };
        format!("{} ({how})", self.consumer.name)
    }

    /// Whether the port is the default one of the product, and not written.
    #[must_use]
    pub fn is_assumed(&self) -> bool {
        matches!(self.how, DependencySource::Environment { assumed: true, .. })
    }
}

/// Dependencies of this host.
#[derive(Debug, Default)]
pub struct DependencyGraph {
    /// The containers, and the names by which they reach each other.
    pub neighbours: Neighbours,
    /// All dependencies, sorted.
    pub list: Vec<Dependency>,
    /// Consumers with unreadable dependencies, with the reason.
    pub blind: Vec<(Consumer, String)>,
    /// Number of omitted dependencies per consumer.
    pub more: Vec<(Consumer, usize)>,
}

/// Cache of one run.
#[derive(Debug, Default)]
pub struct DependencyCache {
    all: Memo<(), Result<Arc<DependencyGraph>, ProbeError>>,
    reached: Memo<(String, SocketAddr), Result<ConnectResult, ProbeError>>,
    namespaces: Memo<Option<i32>, Option<String>>,
    own: Memo<(), Option<Arc<View>>>,
    hosts: Memo<i32, Arc<str>>,
    entries: Memo<(), Arc<Vec<HostsEntry>>>,
    lookups: Memo<(i32, String), Result<Lookup, ProbeError>>,
}

impl ProbeCx {
    /// Dependencies of this host; read once per run.
    pub async fn needs(&self) -> Result<Arc<DependencyGraph>, ProbeError> {
        // erased: the compiler would otherwise prove the type of every read in every check
        self.shared.get::<DependencyCache>().all.get((), || read(self).boxed()).await
    }
}

async fn read(cx: &ProbeCx) -> Result<Arc<DependencyGraph>, ProbeError> {
    let neighbours = Neighbours::of(cx).await;
    let (environments, services, upstreams, scrapes) = tokio::join!(
        containers::environments(cx, &neighbours).boxed(),
        services::services(cx, &neighbours).boxed(),
        upstreams::proxies(cx, &neighbours).boxed(),
        scrapes(cx, &neighbours).boxed()
    );
    let mut needs = DependencyGraph::default();
    needs.list.extend(environments);
    needs.list.extend(services);
    needs.list.extend(upstreams);
    for (consumer, found) in scrapes {
        match found {
            Ok((list, more)) => {
                needs.list.extend(list);
                if more > 0 {
                    needs.more.push((consumer, more));
                }
            }
            Err(why) => needs.blind.push((consumer, why)),
        }
    }
    needs.list.extend(endpoints(cx, &neighbours));
    needs.list.extend(proxies(cx, &neighbours));
    needs.list.sort();
    needs.list.dedup();
    needs.neighbours = neighbours;
    Ok(Arc::new(needs))
}

fn consumer_of(c: &Container) -> Option<Consumer> {
    Some(Consumer { container: Some(c.id.clone()), name: c.name.clone(), pid: c.pid()?, unit: None })
}

type Scrapes = Vec<(Consumer, Result<(Vec<Dependency>, usize), String>)>;

/// Failing scrapes of the Prometheus servers of this host. Alloy and the agent have no such list.
async fn scrapes(cx: &ProbeCx, neighbours: &Neighbours) -> Scrapes {
    let servers = cx.inventory.servers.iter().filter(|s| s.product == Product::Prometheus);
    let queries = servers.filter_map(|s| Some((s, s.process?))).map(|(server, process)| async move {
        let target = server.object();
        let container = server.container.as_deref().and_then(|id| neighbours.get(id));
        let consumer = Consumer {
            container: container.map(|c| c.id.clone()),
            name: container.map_or_else(|| "prometheus".to_owned(), |c| c.name.clone()),
            pid: process.pid,
            unit: server.unit.clone(),
        };
        if cx.flags(&target).await.is_agent() {
            return (consumer, Ok((Vec::new(), 0)));
        }
        let found = cx.scraped(&target).await.map_err(|e| format!("the targets of Prometheus: {e}")).map(|mut scraped| {
            // a URL without a port cannot be requested
            scraped.retain(|s| s.health != Health::Up && s.port > 0);
            scraped.sort_by_key(|s| (s.health != Health::Down, s.host.clone(), s.port));
            let more = scraped.len().saturating_sub(MAX_SCRAPES);
            let need = |s: ScrapeTarget| {
                let resolved = neighbours.resolve(container, &s.host);
                Dependency {
                    consumer: consumer.clone(),
                    target: resolved.map(|m| m.container.id.clone()),
                    host: s.host,
                    port: s.port,
                    how: DependencySource::Scrape { url: s.url, health: s.health, error: s.error, path: s.path },
                }
            };
            (scraped.into_iter().take(MAX_SCRAPES).map(need).collect(), more)
        });
        (consumer, found)
    });
    join_all(queries).await
}

/// Endpoints of the configuration that are requested from a container.
fn endpoints(cx: &ProbeCx, neighbours: &Neighbours) -> Vec<Dependency> {
    let need = |e: &crate::probe::endpoint::Endpoint| {
        let from = neighbours.named(e.from.as_deref()?)?;
        let resolved = neighbours.resolve(Some(from), &e.host)?.container;
        (resolved.id != from.id).then_some(())?;
        let target = Some(resolved.id.clone());
        Some(Dependency {
            consumer: consumer_of(from)?,
            host: e.host.clone(),
            port: e.port,
            how: DependencySource::Endpoint,
            target,
        })
    };
    cx.endpoints().iter().filter(|e| e.is_queried()).filter_map(need).collect()
}

/// Upstreams of the nginx servers in containers.
fn proxies(cx: &ProbeCx, neighbours: &Neighbours) -> Vec<Dependency> {
    let mut needs = Vec::new();
    for server in cx.inventory.servers.iter().filter(|s| s.product == Product::Nginx) {
        let target = server.object();
        let own = server.container.as_deref().and_then(|id| neighbours.get(id));
        let (Some(own), Ok(nginx)) = (own, cx.nginx(&target)) else { continue };
        let Some(consumer) = consumer_of(own) else { continue };
        for backend in nginx.config.backends.iter().filter(|b| b.unix.is_none()).take(MAX_NEEDS) {
            let Some(resolved) = neighbours.resolve(Some(own), &backend.host) else { continue };
            if resolved.container.id != own.id {
                needs.push(Dependency {
                    consumer: consumer.clone(),
                    host: backend.host.clone(),
                    port: backend.port,
                    how: DependencySource::Nginx,
                    target: Some(resolved.container.id.clone()),
                });
            }
        }
    }
    needs
}
