//! The way of a failing request, step by step: name, route, packet filter, listener, file or upstream, and the log of the object that
//! serves it. Read only for an endpoint that fails.

mod candidates;
mod step;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::address::without_brackets;
use opsctl_core::probe::docker::Container;
use opsctl_core::probe::endpoint::{self, Endpoint, EndpointResult};
use opsctl_core::probe::io::clock;
use opsctl_core::probe::logs::{LogEvidence, journal_of};
use opsctl_core::probe::names::{self, NameSources};
use opsctl_core::probe::network::listeners::listeners_of;
use opsctl_core::probe::network::{self, NetworkRoute};
use opsctl_core::probe::nginx::{DocumentFault, Nginx, document_fault};
use opsctl_core::probe::{Io, ProbeCx, blocking};
use serde::{Deserialize, Serialize};

use crate::shared::packet_filter::{self, Request};
use crate::shared::servers::READ_TIMEOUT;
use candidates::Candidate;

/// Age of the errors in the log of a running container that can be the reason (judgement: 10 min).
const RECENT_ERRORS: SignedDuration = SignedDuration::from_mins(10);

/// Limit of upstreams that are tried.
const MAX_UPSTREAMS: usize = 4;

/// Time limit of `getent`: the request itself has waited longer.
const LIBC_TIMEOUT: Duration = Duration::from_millis(1500);

/// Time limit of the same request to another address.
const SECOND_REQUEST: Duration = Duration::from_secs(1);

/// The object of this host that serves an endpoint, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub(super) enum Place {
    /// Another host, or unknown.
    #[default]
    Elsewhere,
    /// A container of this host.
    Container { name: String },
    /// A unit of this host.
    Unit { unit: String },
    /// A process of this host without a unit.
    Process { program: String, pid: i32 },
}

/// The steps.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Walk {
    host: String,
    port: u16,
    /// The host name in each source; `None` for an address, or for a request from a container.
    names: Option<NameSources>,
    /// The address in DNS responds as expected; only if the hosts file has another one.
    by_dns: Option<bool>,
    /// The address of the requests.
    address: Option<IpAddr>,
    /// Whether the routes were read: then no `route` is a missing one.
    routed: bool,
    route: Option<NetworkRoute>,
    /// It is an address of the namespace of the client.
    own: bool,
    /// Listening addresses of the port in the namespace of the client, if it is its own address.
    listening: Option<Vec<IpAddr>>,
    /// Units and containers that serve the port and do not run.
    candidates: Vec<Candidate>,
    /// The rule of the packet filter that drops or rejects its packets.
    filter: Option<String>,
    pub(super) place: Place,
    log: LogEvidence,
    /// Upstreams of the nginx that serves it, with the result of a connection.
    upstreams: Vec<(String, String)>,
    /// The upstreams are those of one site only.
    one_site: bool,
    /// The reason why the workers of the nginx cannot serve the file.
    document: Option<DocumentFault>,
}

/// The objects that serve an endpoint, found by the check.
pub(super) struct Behind<'a> {
    /// Ids of the servers; an nginx first.
    pub(super) servers: &'a [String],
    /// Full id of the container that publishes its port.
    pub(super) container: Option<&'a str>,
    /// Units of its port.
    pub(super) units: &'a [String],
}

impl Walk {
    /// The C library of this host finds no address for the name.
    pub(super) fn is_unresolved(&self) -> bool {
        self.names.is_some() && self.address.is_none()
    }
}

/// Follows a request that failed with `last`.
pub(super) async fn walk(cx: &ProbeCx, e: &Endpoint, last: &EndpointResult, behind: &Behind<'_>) -> Walk {
    let host = without_brackets(e.address.as_deref().unwrap_or(&e.host)).to_owned();
    let mut walk = Walk { host: host.clone(), port: e.port, ..Walk::default() };
    let pid = match &e.from {
        Some(name) => cx.pid_of(name).await.ok(),
        None => None,
    };
    if e.from.is_some() && pid.is_none() {
        return walk;
    }
    let literal: Option<IpAddr> = host.parse().ok();
    let is_localhost = host.eq_ignore_ascii_case("localhost");
    if literal.is_none() && !is_localhost && pid.is_none() {
        let names = Box::pin(names::name_sources_of(&host, LIBC_TIMEOUT)).await;
        if names.contradict() && e.address.is_none() {
            walk.by_dns = by_dns(cx, e, &names).await;
        }
        walk.names = Some(names);
    }
    walk.address = match (literal, &walk.names) {
        (Some(ip), _) => Some(ip),
        (None, Some(names)) => names.first(),
        (None, None) if is_localhost && pid.is_none() => Some(Ipv4Addr::LOCALHOST.into()),
        (None, None) => {
            let found = names::addresses_of(pid, &host, e.port).await;
            found.ok().and_then(Result::ok).and_then(|all| Some(all.first()?.ip()))
        }
    };
    if let Some(address) = walk.address {
        route(&mut walk, pid, address).await;
        if !matches!(last, EndpointResult::Answered { .. } | EndpointResult::Connected { .. }) {
            listener(cx, &mut walk, pid, address).await;
            if e.from.is_none() {
                walk.filter = filter(cx, &walk, address, last).await;
            }
        }
    }
    if e.from.is_none() {
        place(cx, &mut walk, behind).await;
    }
    if !matches!(last, EndpointResult::Answered { status: ..=499, .. } | EndpointResult::Connected { .. }) {
        walk.log = log(cx, &walk, behind).await;
    }
    nginx(cx, &mut walk, e, last, behind).await;
    walk
}

/// Whether the address in DNS, which the hosts file hides, responds as expected.
async fn by_dns(cx: &ProbeCx, e: &Endpoint, names: &NameSources) -> Option<bool> {
    // headers may contain a token: they are sent only to the configured name as this host resolves it
    let other = names.in_dns().first().filter(|_| e.headers.is_empty())?;
    let elsewhere = Endpoint { address: Some(other.to_string()), ..e.clone() };
    let result = Box::pin(endpoint::request(cx, &elsewhere, SECOND_REQUEST, SECOND_REQUEST)).await;
    result.ok().map(|result| result.is_right())
}

async fn route(walk: &mut Walk, pid: Option<i32>, address: IpAddr) {
    if let Ok(view) = network::view(pid, vec![address]).await {
        walk.own = address.is_loopback() || view.has(address);
        walk.routed = true;
        walk.route = view.ways.into_iter().next().flatten();
    }
}

async fn listener(cx: &ProbeCx, walk: &mut Walk, pid: Option<i32>, address: IpAddr) {
    let published = |c: &std::sync::Arc<Container>| c.is_up() && c.ports.iter().any(|p| p.host == walk.port);
    // without docker-proxy the kernel translates the port, and this host has no socket
    if !walk.own || cx.inspected(cx.inventory.running()).await.iter().any(published) {
        return;
    }
    let (of, port) = (pid.map_or_else(|| i64::from(std::process::id()), i64::from), walk.port);
    let read = move |io: &Io| listeners_of(io, of);
    let all = blocking::run("listening sockets", &format!("/proc/{of}/net/tcp"), READ_TIMEOUT, read).await;
    let Ok(Some(all)) = all else { return };
    let mut listening: Vec<IpAddr> = all.iter().filter(|l| l.port == port).map(|l| l.address).collect();
    listening.sort();
    listening.dedup();
    if listening.is_empty() && pid.is_none() {
        walk.candidates = candidates::of_port(cx, address, port).await;
    }
    walk.listening = Some(listening);
}

/// The rule that discards packets between this host and the endpoint.
async fn filter(cx: &ProbeCx, walk: &Walk, address: IpAddr, last: &EndpointResult) -> Option<String> {
    // a refusal of the peer itself is the ordinary case
    if !matches!(last, EndpointResult::Timeout | EndpointResult::Unreachable(_)) {
        return None;
    }
    let route = walk.route.as_ref();
    let request = Request {
        bridge: None,
        source: route.and_then(|r| r.source),
        destination: address,
        to_host: walk.own,
        output: route.map_or("", |r| r.interface.as_str()),
        protocol: "tcp",
    };
    packet_filter::discarded(cx, &request).await
}

async fn place(cx: &ProbeCx, walk: &mut Walk, behind: &Behind<'_>) {
    let container = behind.container.and_then(|id| cx.inventory.container(id));
    let nginx = behind.servers.iter().find(|id| id.starts_with("nginx:"));
    let server = nginx.and_then(|id| cx.inventory.servers.iter().find(|s| s.id == *id));
    let inside = server.and_then(|s| s.container.as_deref()).and_then(|id| cx.inventory.container(id));
    walk.place = if let Some(c) = container.or(inside) {
        Place::Container { name: c.name.clone() }
    } else if let Some(unit) = behind.units.first().or_else(|| server.and_then(|s| s.unit.as_ref())) {
        Place::Unit { unit: unit.clone() }
    } else if walk.own
        && let Some(owner) = cx.owner_of_tcp_port(walk.port).await
    {
        Place::Process { program: owner.comm, pid: owner.pid }
    } else {
        Place::Elsewhere
    };
}

/// The last errors of the object that serves it, or would serve it.
async fn log(cx: &ProbeCx, walk: &Walk, behind: &Behind<'_>) -> LogEvidence {
    let stopped = walk.candidates.iter().filter(|c| c.is_certain);
    let container = behind.container.or_else(|| stopped.clone().find_map(|c| c.container.as_deref()));
    if let (Some(id), Some(docker)) = (container, &cx.docker)
        && let Ok(container) = docker.inspect(id).await
    {
        if !container.is_up() {
            return cx.log_of_run(&container).await;
        }
        let since = clock::now().checked_sub(RECENT_ERRORS).unwrap_or(Timestamp::UNIX_EPOCH);
        return cx.errors_since(&container, since).await;
    }
    let unit = behind.units.first().or_else(|| stopped.clone().find_map(|c| c.unit.as_ref()));
    let Some(unit) = unit else { return LogEvidence::default() };
    match journal_of(unit).await {
        Ok(lines) => cx.log_of_unit(unit, &lines, None).await,
        Err(_) => LogEvidence::default(),
    }
}

/// Upstreams and files of the nginx that serves it.
async fn nginx(cx: &ProbeCx, walk: &mut Walk, e: &Endpoint, last: &EndpointResult, behind: &Behind<'_>) {
    let ids = behind.servers.iter().filter(|id| id.starts_with("nginx:"));
    for server in ids.filter_map(|id| cx.inventory.servers.iter().find(|s| s.id == *id)) {
        let target = server.object();
        let Ok(nginx) = cx.nginx(&target) else { continue };
        match last {
            EndpointResult::Answered { status: 502..=504, .. } | EndpointResult::Timeout | EndpointResult::Closed => {
                let inside = server.container.is_some().then_some(nginx.master);
                let one_site = nginx.config.sites.len() == 1;
                walk.upstreams.extend(upstreams(cx, &nginx, inside).await);
                walk.one_site = one_site && behind.servers.iter().filter(|id| id.starts_with("nginx:")).count() == 1;
            }
            EndpointResult::Answered { status: 403 | 404, .. } => {
                walk.document = document(&nginx, e).await;
            }
            _ => {}
        }
    }
    walk.upstreams.truncate(MAX_UPSTREAMS);
}

async fn upstreams(cx: &ProbeCx, nginx: &Nginx, pid: Option<i32>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for backend in nginx.config.backends.iter().filter(|b| b.unix.is_none()).take(MAX_UPSTREAMS) {
        let words = match names::addresses_of(pid, &backend.host, backend.port).await {
            Ok(Ok(all)) => match all.first() {
                Some(at) => connected(cx, pid, *at).await,
                None => "it has no address".to_owned(),
            },
            Ok(Err(why)) => why,
            Err(e) => e.to_string(),
        };
        found.push((backend.label(), words));
    }
    found
}

async fn connected(cx: &ProbeCx, pid: Option<i32>, at: SocketAddr) -> String {
    match cx.reach(pid, at).await {
        Ok(result) => result.words(),
        Err(e) => e.to_string(),
    }
}

/// The reason why a worker cannot serve the file of a URL.
async fn document(nginx: &Nginx, e: &Endpoint) -> Option<DocumentFault> {
    let host = e.host.to_ascii_lowercase();
    let on_port = || nginx.config.documents.iter().filter(|d| d.listens.iter().any(|l| l.port == e.port && l.unix.is_none()));
    let named = on_port().find(|d| d.names.contains(&host));
    // without a site of this name, the only one or an unknown default server answers
    let site = named.or_else(|| on_port().next().filter(|_| on_port().count() == 1))?;
    let file = site.file(&e.path)?;
    let worker = nginx.serving().next()?.pid;
    let read = move |io: &Io| document_fault(io, worker, &file);
    blocking::run("a file of nginx", &format!("the root of process {worker}"), READ_TIMEOUT, read).await.ok().flatten()
}
