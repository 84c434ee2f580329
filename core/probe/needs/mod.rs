//! Who needs whom: what a container or a process of this host is known to connect to, how that is known, and whether it gets there.

mod bindings;
#[cfg(any(test, feature = "fuzz"))]
pub(super) mod fuzz;
mod neighbours;
mod places;
mod reach;

use std::sync::Arc;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::docker::Container;
use super::names::Looked;
use super::prometheus::Scraped;
use super::{Memo, ProbeCx, ProbeError};
use crate::model::{Kind, Product, Target};

pub use super::prometheus::Health;
pub use bindings::{Binding, Listening, bindings, listening};
pub use neighbours::{Meant, Neighbours};
pub use reach::{Answered, Reached};

use places::Place;
pub(super) use places::url;

/// More needs of one consumer are not looked at.
const MOST: usize = 60;

/// More targets of one Prometheus that are not up are not looked at.
const MOST_SCRAPES: usize = 20;

/// Who needs something.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Consumer {
    /// Full id of its container; none for a process of the host.
    pub container: Option<String>,
    /// Name of its container, or of the process.
    pub name: String,
    /// Its first process.
    pub pid: i32,
}

/// How a need is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum How {
    /// A Prometheus scrapes it.
    Scrape {
        /// URL without its query, which may hold a token.
        url: String,
        /// What it says of it.
        health: Health,
        /// What went wrong last, without the URL.
        error: String,
        /// What is asked for, with the query: it is sent and neither shown nor kept.
        #[serde(skip)]
        path: String,
    },
    /// A variable of its environment names it.
    Environment {
        /// Name of the variable.
        variable: String,
    },
    /// The configuration asks it from there.
    Endpoint,
    /// It is an nginx that passes requests on.
    Nginx,
}

/// A consumer needs a port of a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Need {
    /// Who.
    pub consumer: Consumer,
    /// Name or address, as the consumer has it.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How it is known.
    pub how: How,
    /// Full id of the container it means, if it means one of this host.
    pub target: Option<String>,
}

impl Need {
    /// `web (BACKEND_URL)`, `prometheus (scrapes it)`.
    #[must_use]
    pub fn label(&self) -> String {
        let how = match &self.how {
            How::Scrape { .. } => "scrapes it",
            How::Environment { variable } => variable,
            How::Endpoint => "an endpoint of the configuration",
            How::Nginx => "passes requests to it",
        };
        format!("{} ({how})", self.consumer.name)
    }
}

/// What is known of this host.
#[derive(Debug, Default)]
pub struct Needs {
    /// The containers, and what they call each other.
    pub neighbours: Neighbours,
    /// Who needs whom, sorted.
    pub list: Vec<Need>,
    /// Whose needs could not be read, and why.
    pub blind: Vec<(Consumer, String)>,
    /// How many needs of a consumer were left out.
    pub more: Vec<(Consumer, usize)>,
}

/// What one run knows of needs, each read once.
#[derive(Debug, Default)]
pub struct Known {
    all: Memo<(), Result<Arc<Needs>, ProbeError>>,
    reached: Memo<(Option<i32>, std::net::SocketAddr), Result<Reached, ProbeError>>,
    looked: Memo<(i32, String), Result<Looked, ProbeError>>,
}

impl ProbeCx {
    /// Who needs whom on this host; read once per run.
    pub async fn needs(&self) -> Result<Arc<Needs>, ProbeError> {
        self.needs.all.get((), || Box::pin(read(self))).await
    }
}

async fn read(cx: &ProbeCx) -> Result<Arc<Needs>, ProbeError> {
    let neighbours = Neighbours::of(cx).await;
    let (environments, scrapes) = tokio::join!(Box::pin(environments(cx, &neighbours)), Box::pin(scrapes(cx, &neighbours)));
    let mut needs = Needs::default();
    needs.list.extend(environments);
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
    Some(Consumer { container: Some(c.id.clone()), name: c.name.clone(), pid: c.pid()? })
}

/// What the environments of containers name of other containers.
async fn environments(cx: &ProbeCx, neighbours: &Neighbours) -> Vec<Need> {
    let Some(docker) = &cx.docker else { return Vec::new() };
    let running = neighbours.all().iter().filter_map(|c| Some((c, consumer_of(c)?)));
    let read = running.map(|(c, consumer)| async move {
        let environment = docker.environment(&c.id).await.unwrap_or_default();
        let named = places::in_environment(&environment);
        let need = |(variable, place): (String, Place)| {
            let meant = neighbours.meant(Some(c), &place.host)?.container;
            // its own address is told to others
            let own = meant.id == c.id || neighbours.holder(meant).id == neighbours.holder(c).id;
            (!own).then(|| Need {
                consumer: consumer.clone(),
                host: place.host.clone(),
                port: place.port,
                how: How::Environment { variable },
                target: Some(meant.id.clone()),
            })
        };
        named.into_iter().filter_map(need).take(MOST).collect::<Vec<_>>()
    });
    join_all(read).await.into_iter().flatten().collect()
}

type Scrapes = Vec<(Consumer, Result<(Vec<Need>, usize), String>)>;

/// What the Prometheus servers of this host scrape and do not get. Alloy and the agent have no such list.
async fn scrapes(cx: &ProbeCx, neighbours: &Neighbours) -> Scrapes {
    let servers = cx.inventory.servers.iter().filter(|s| s.product == Product::Prometheus);
    let asked = servers.filter_map(|s| Some((s, s.process?))).map(|(server, process)| async move {
        let target = Target { kind: Kind::Prometheus, name: server.name.clone(), id: server.id.clone() };
        let container = server.container.as_deref().and_then(|id| neighbours.get(id));
        let consumer = Consumer {
            container: container.map(|c| c.id.clone()),
            name: container.map_or_else(|| "prometheus".to_owned(), |c| c.name.clone()),
            pid: process.pid,
        };
        if cx.flags(&target).await.is_agent() {
            return (consumer, Ok((Vec::new(), 0)));
        }
        let found = cx.scraped(&target).await.map_err(|e| format!("the targets of Prometheus: {e}")).map(|mut scraped| {
            scraped.retain(|s| s.health != Health::Up);
            scraped.sort_by_key(|s| (s.health != Health::Down, s.host.clone(), s.port));
            let more = scraped.len().saturating_sub(MOST_SCRAPES);
            let need = |s: Scraped| {
                let meant = neighbours.meant(container, &s.host);
                Need {
                    consumer: consumer.clone(),
                    target: meant.map(|m| m.container.id.clone()),
                    host: s.host,
                    port: s.port,
                    how: How::Scrape { url: s.url, health: s.health, error: s.error, path: s.path },
                }
            };
            (scraped.into_iter().take(MOST_SCRAPES).map(need).collect(), more)
        });
        (consumer, found)
    });
    join_all(asked).await
}

/// Addresses of the configuration that are asked from a container.
fn endpoints(cx: &ProbeCx, neighbours: &Neighbours) -> Vec<Need> {
    let need = |e: &super::endpoint::Endpoint| {
        let from = neighbours.named(e.from.as_deref()?)?;
        let meant = neighbours.meant(Some(from), &e.host)?.container;
        (meant.id != from.id).then_some(())?;
        let target = Some(meant.id.clone());
        Some(Need { consumer: consumer_of(from)?, host: e.host.clone(), port: e.port, how: How::Endpoint, target })
    };
    cx.endpoints.iter().filter(|e| e.is_asked()).filter_map(need).collect()
}

/// What the nginx servers in containers pass requests to.
fn proxies(cx: &ProbeCx, neighbours: &Neighbours) -> Vec<Need> {
    let mut needs = Vec::new();
    for server in cx.inventory.servers.iter().filter(|s| s.product == Product::Nginx) {
        let target = Target { kind: Kind::Nginx, name: server.name.clone(), id: server.id.clone() };
        let own = server.container.as_deref().and_then(|id| neighbours.get(id));
        let (Some(own), Ok(nginx)) = (own, cx.nginx(&target)) else { continue };
        let Some(consumer) = consumer_of(own) else { continue };
        for backend in nginx.config.backends.iter().filter(|b| b.unix.is_none()).take(MOST) {
            let Some(meant) = neighbours.meant(Some(own), &backend.host) else { continue };
            if meant.container.id != own.id {
                needs.push(Need {
                    consumer: consumer.clone(),
                    host: backend.host.clone(),
                    port: backend.port,
                    how: How::Nginx,
                    target: Some(meant.container.id.clone()),
                });
            }
        }
    }
    needs
}
