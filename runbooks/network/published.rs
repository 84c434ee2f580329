//! Published ports: to a running container with a listener, and none of a private service on every address.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, KeyKind, Kind, Object, Product, Severity,
};
use opsctl_core::probe::docker::{Container, PortMap, main_process};
use opsctl_core::probe::needs;
use opsctl_core::probe::product::spec;
use opsctl_core::probe::proxies::{Proxy, docker_proxies};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::{Settings, is_young, port_key};

const DEAD: Code = Code {
    id: "network.docker-proxy-dead",
    severities: &[Severity::Warn, Severity::Crit],
    when: "a docker-proxy holds a port of this host for a container that no longer exists: connections are accepted and closed, and no container can publish that port (crit); for a container without a listener on the port (warn)",
    hint: "a stale docker-proxy ends with a restart of the engine, or can be killed by its pid once no container needs it",
    ..Code::BASE
};

const EXPOSED: Code = Code {
    id: "network.exposed",
    severities: &[Severity::Warn],
    when: "the port of a database, cache, broker or metrics endpoint is published on every address of this host",
    hint: "publish it on 127.0.0.1 only, or not at all if only containers need it: a shared network needs no published port; list intended exceptions in exposed_ok",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "network.published",
    title: "Published ports have a listener, and private ports are not exposed",
    codes: &[DEAD, EXPOSED],
    fixes: &[],
    timeout: Duration::from_secs(6),
};

/// Time between two samples, for containers that are starting or stopping.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(300);

/// Ports of private services, by their usual listener (judgement).
const PRIVATE: &[(u16, &str)] = &[
    (1433, "SQL Server"),
    (2181, "ZooKeeper"),
    (2375, "the Docker API without authentication"),
    (2379, "etcd"),
    (3100, "Loki"),
    (3306, "MySQL"),
    (5432, "PostgreSQL"),
    (5672, "a broker"),
    (5984, "CouchDB"),
    (6379, "Redis"),
    (6432, "PgBouncer"),
    (8086, "InfluxDB"),
    (9042, "Cassandra"),
    (9090, "Prometheus"),
    (9092, "Kafka"),
    (9093, "Alertmanager"),
    (9100, "node metrics"),
    (9200, "Elasticsearch"),
    (9300, "Elasticsearch"),
    (11211, "memcached"),
    (15672, "RabbitMQ's management"),
    (27017, "MongoDB"),
];

pub(super) struct Published {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    proxies: Vec<Proxy>,
    containers: Vec<Publisher>,
}

/// A running container.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Publisher {
    id: String,
    subject: Object,
    product: Option<Product>,
    started_at: Option<Timestamp>,
    addresses: Vec<IpAddr>,
    ports: Vec<PortMap>,
    /// Ports that are open for others; `None` without permission to read them.
    open: Option<BTreeSet<u16>>,
}

impl Check for Published {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.engine_targets()
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let docker = cx.docker()?;
        let containers = cx.inspected(cx.inventory.running()).await;
        let mut e = Evidence { proxies: proxies(cx).await?, containers: publishers(cx, containers).await };
        if e.proxies.iter().any(|p| e.owner(p).is_none()) {
            // between two samples a container may have started or stopped
            tokio::time::sleep(SAMPLE_INTERVAL).await;
            let mut now = Vec::new();
            for engine in docker.engines() {
                match engine.list().await {
                    // another user's engine reports its own containers only, and must not make this host's unknown
                    Ok(listed) if !engine.is_local() => {
                        now.extend(listed.into_iter().filter(|c| std::ptr::eq(docker.of(&c.id), engine)));
                    }
                    Ok(listed) => now.extend(listed),
                    Err(e) if engine.is_local() => return Err(e),
                    Err(_) => {}
                }
            }
            let running: Vec<_> = now.into_iter().filter(|c| c.state == "running").collect();
            let containers = join_all(running.iter().map(|c| docker.inspect_now(&c.id))).await.into_iter().flatten().collect();
            e = Evidence { proxies: proxies(cx).await?, containers: publishers(cx, containers).await };
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut judgement = Judgement::default();
        let mut reported = BTreeSet::new();
        for proxy in &e.proxies {
            match e.owner(proxy) {
                None => {
                    if reported.insert(proxy.host.port()) {
                        judgement.findings.push(stale(proxy));
                    }
                }
                Some(c) => {
                    let silent = c.open.as_ref().is_some_and(|open| !open.contains(&proxy.container.port()));
                    if silent && !is_young(c.started_at, judged.taken_at, &self.settings) && reported.insert(proxy.host.port()) {
                        judgement.findings.push(silent_behind(proxy, c));
                    }
                }
            }
        }
        if e.containers.iter().any(|c| c.open.is_none() && !c.ports.is_empty()) {
            judgement.gaps.push("listeners behind the published ports: needs root".to_owned());
        }
        judgement.findings.extend(e.containers.iter().filter_map(|c| self.exposed(c)));
        judgement
    }
}

/// The proxies of the engines of this run. One that another `dockerd` has started belongs to containers that are not known here.
async fn proxies(cx: &ProbeCx) -> Result<Vec<Proxy>, ProbeError> {
    let mut found = docker_proxies().await?;
    if found.iter().any(|p| p.engine.is_some()) {
        let engines = cx.docker()?.engines().filter(|engine| engine.is_local() && !engine.is_podman());
        let pids = join_all(engines.map(|engine| main_process(engine, cx.systemd.as_deref()))).await;
        // with an unknown process of an engine, every proxy may be one of that engine
        if let Some(own) = pids.into_iter().collect::<Option<Vec<i32>>>().filter(|own| !own.is_empty()) {
            found.retain(|p| p.engine.is_none_or(|engine| own.contains(&engine)));
        }
    }
    Ok(found)
}

async fn publishers(cx: &ProbeCx, containers: Vec<Arc<Container>>) -> Vec<Publisher> {
    let publisher = |c: Arc<Container>| async move {
        let open = if c.ports.is_empty() || !c.is_up() {
            Some(BTreeSet::new())
        } else {
            let listening = match c.pid() {
                Some(pid) => needs::listening(cx, pid, false).await.ok(),
                None => None,
            };
            listening.map(|all| all.iter().filter(|l| !l.address.is_loopback()).map(|l| l.port).collect())
        };
        Publisher {
            id: c.id.clone(),
            subject: c.subject(),
            product: cx.inventory.container(&c.id).and_then(|r| r.product),
            started_at: c.state.started_at,
            addresses: c.networks.values().filter_map(|ip| ip.parse().ok()).collect(),
            ports: c.ports.clone(),
            open,
        }
    };
    let mut all = join_all(containers.into_iter().map(publisher)).await;
    all.sort_by(|a, b| a.subject.name.cmp(&b.subject.name));
    all
}

impl Evidence {
    /// The running container behind a proxy.
    fn owner(&self, proxy: &Proxy) -> Option<&Publisher> {
        let leads = |c: &&Publisher| c.addresses.contains(&proxy.container.ip());
        // IPv6 addresses of containers are not known here: the container that publishes the port is assumed
        let publishes = |c: &&Publisher| {
            proxy.container.is_ipv6()
                && c.ports.iter().any(|p| p.host == proxy.host.port() && p.container == proxy.container.port())
        };
        self.containers.iter().find(leads).or_else(|| self.containers.iter().find(publishes))
    }
}

fn stale(proxy: &Proxy) -> Finding {
    let subject = Object::new(Kind::Process, proxy.pid.to_string(), format!("{}@{}", proxy.pid, proxy.host));
    let message = format!(
        "docker-proxy {} holds port {} for {}, which belongs to no container: connections are accepted and closed",
        proxy.pid,
        proxy.host.port(),
        proxy.container
    );
    Finding::new(&DEAD, Severity::Crit, subject, message).cite("listens on", proxy.host.to_string())
}

fn silent_behind(proxy: &Proxy, c: &Publisher) -> Finding {
    let port = proxy.container.port();
    let message = format!(
        "port {} of this host is forwarded to port {port} of {}, which has no reachable listener: connections are accepted and closed",
        proxy.host.port(),
        c.subject.name
    );
    Finding::new(&DEAD, Severity::Warn, c.subject.clone(), message)
        .key(KeyKind::Container, &c.id)
        .key(KeyKind::Port, port_key(&c.id, port))
        .cite("held by", format!("docker-proxy {}", proxy.pid))
        .hint("check the bind address and port of the service, and the published port")
}

impl Published {
    fn exposed(&self, c: &Publisher) -> Option<Finding> {
        let is_wildcard = |ip: &str| ip.is_empty() || ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        let is_allowed = |p: &PortMap| {
            let name = &c.subject.name;
            self.settings
                .exposed_ok
                .iter()
                .any(|ok| *ok == format!("{name}:{}", p.host) || *ok == format!("{name}:{}", p.container))
        };
        let mut open: Vec<(u16, u16, String)> = c
            .ports
            .iter()
            .filter(|p| is_wildcard(&p.host_ip) && !is_allowed(p))
            .filter_map(|p| Some((p.host, p.container, kind_of(c.product, p.container)?)))
            .collect();
        open.sort();
        open.dedup();
        let first = open.first()?;
        let ports: Vec<String> = open.iter().map(|(host, ..)| host.to_string()).collect();
        let message = format!(
            "{} publishes {} on every address of this host, port{} {}",
            c.subject.name,
            first.2,
            if ports.len() == 1 { "" } else { "s" },
            ports.join(", ")
        );
        let mut finding = Finding::new(&EXPOSED, Severity::Warn, c.subject.clone(), message).key(KeyKind::Container, &c.id).cite(
            "firewall",
            "published ports pass FORWARD, not INPUT: rules of ufw or firewalld for incoming packets do not apply",
        );
        for (_, port, _) in &open {
            finding = finding.key(KeyKind::Port, port_key(&c.id, *port));
        }
        // by its number alone it may be another service
        Some(if c.product.is_some_and(|p| p != Product::Nginx) { finding } else { finding.likely() })
    }
}

/// The private service of a container port: by its product, then by its number.
fn kind_of(product: Option<Product>, port: u16) -> Option<String> {
    match product {
        // intended for external clients; it has its own authentication
        Some(Product::Nginx | Product::Grafana | Product::Minio) => None,
        // they accept logs and traces of other hosts, or are scraped by them, on purpose
        Some(Product::Alloy | Product::Promtail | Product::Tempo | Product::Blackbox | Product::Cadvisor) | None => {
            PRIVATE.iter().find(|(p, _)| *p == port).map(|(_, service)| (*service).to_owned())
        }
        Some(product) => Some(spec(product).name.to_owned()),
    }
}
