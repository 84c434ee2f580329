//! Upstreams: the address nginx uses, the current address of the upstream, and a connection from the network namespace of
//! nginx.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{
    Check, CheckSpec, Code, DependsOn, Finding, Inventory, Judged, Judgement, KeyKind, Object, Plan, Product, Refusal, Role,
    Sample, Severity, quantity,
};
use opsctl_core::probe::docker::{Container, NAME_SERVER};
use opsctl_core::probe::names::{Lookup, look_up};
use opsctl_core::probe::network::listeners::{Listener, listeners_of};
use opsctl_core::probe::network::netns;
use opsctl_core::probe::network::netns::ConnectError;
use opsctl_core::probe::nginx::{Backend, DeniedSocket, Nginx, denied_socket, known_addresses, ports_used_by, remotes_of};
use opsctl_core::probe::servers::{ConnectAddr, Socket, open_connection};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::meanings::meaning;
use super::{Settings, behind};
use crate::shared::dependencies::{PACKETS_DROPPED, PORT_CLOSED, UNRESPONSIVE, running};
use crate::shared::nginx_context::ProxyContext;
use crate::shared::processes::of_host;
use crate::shared::reload_nginx::{RELOAD, Reload};
use crate::shared::servers::{READ_TIMEOUT, Server};

const STALE: Code = Code {
    id: "nginx.upstream-stale-ip",
    severities: &[Severity::Warn, Severity::Crit],
    when: "nginx has none (crit) or not all (warn) of the current addresses of an upstream container: it resolved the name when it loaded its configuration, and keeps the result",
    hint: "reload nginx; to resolve names at run time, use `resolver 127.0.0.11 valid=10s` and a variable in proxy_pass",
    ..Code::BASE
};

const UNREACHABLE: Code = Code {
    id: "nginx.upstream-unreachable",
    severities: &[Severity::Warn, Severity::Crit],
    when: "an upstream server refuses connections from nginx, does not answer, denies its unix socket to the workers, or its name does not resolve (crit; warn if others of its group answer)",
    hint: "check the listener of the upstream, and the networks of both",
    depends_on: &[
        &running("the upstream's"),
        PACKETS_DROPPED,
        PORT_CLOSED,
        UNRESPONSIVE,
        &[DependsOn::confirmed(Role::Detached, KeyKind::Container, "the upstream's")],
    ],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "nginx.upstreams",
    title: "Upstreams are reachable at the addresses nginx uses",
    codes: &[STALE, UNREACHABLE],
    fixes: &[RELOAD],
    timeout: Duration::from_secs(9),
};

/// Limit of upstreams to probe.
const MAX_UPSTREAMS: usize = 300;

/// Timeout of the search in a worker's memory.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct Upstreams {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    loaded_at: Option<Timestamp>,
    networks: Vec<String>,
    seen: Vec<UpstreamState>,
    /// Why the addresses that nginx uses are unknown.
    blind: Option<String>,
    /// Only if a reload would help.
    reload: Option<Reload>,
    /// This process of nginx with this configuration: the resolved addresses do not change during its life.
    object: String,
}

/// One upstream server.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct UpstreamState {
    backend: Backend,
    /// Its addresses now.
    looked: Lookup,
    /// The container of that name.
    container: Option<Named>,
    /// A connection to each address, from the network namespace of nginx.
    tried: Vec<(String, ConnectOutcome)>,
    /// Its addresses that nginx uses.
    #[serde(default)]
    known: Option<Vec<Ipv4Addr>>,
    /// The units that serve its port, for an upstream on this host.
    #[serde(default)]
    units: Vec<String>,
    /// Addresses with its port that nginx uses and no upstream has: the current owner, and whether nginx has connections to
    /// them.
    #[serde(default)]
    others: Vec<Other>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "why")]
enum ConnectOutcome {
    Connected,
    Refused,
    Timeout,
    Failed(String),
    /// opsctl connects as root; the workers may not.
    Denied(DeniedSocket),
    /// docker-proxy accepts, but the container has no listener.
    NothingBehind(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Named {
    id: String,
    name: String,
    state: String,
    started_at: Option<Timestamp>,
    restarts: i64,
    networks: Vec<String>,
    /// The listeners of the container.
    listening: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Other {
    address: String,
    /// The container with this address now.
    owner: Option<String>,
    seen_talking: bool,
}

impl Check for Upstreams {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Nginx)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        let nginx = cx.nginx(target)?;
        let Some(known) = server.get() else { return Ok(Evidence::default()) };
        if nginx.config.backends.is_empty() {
            return Err(ProbeError::Skip("it has no upstreams, or resolves them at run time".to_owned()));
        }
        let context = ProxyContext::of(cx, known).await;
        let mut e = Evidence { loaded_at: nginx.loaded_at(), networks: context.networks.clone(), ..Evidence::default() };
        e.seen = self.inspect(cx, &nginx, &context).await?;
        self.compare(&nginx, &context, &mut e).await;
        // by its oldest worker: a computed start time varies slightly between runs
        e.object = nginx.serving().next().map_or_else(String::new, |w| format!("{}@{}", known.identity(), w.pid));
        remembered(cx, &context, &mut e);
        // a name that only NSS resolves (LDAP, mDNS) is resolved by `nginx -t`
        let unknown = |s: &UpstreamState| s.looked == Lookup::NoSuchName && s.container.is_none() && s.backend.unix.is_none();
        if e.seen.iter().any(|s| stale(s) != Stale::No || unknown(s)) {
            e.reload = Some(Reload::of(cx, &server, &nginx).await);
        }
        e.server = server;
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut judgement = Judgement::default();
        for seen in &e.seen {
            match stale(seen) {
                Stale::No => {
                    if let Lookup::NoAnswer(why) = &seen.looked {
                        judgement.gaps.push(format!("the address of {}: {why}", seen.backend.host));
                    }
                    self.unreachable(judged, e, seen, &mut judgement);
                }
                how => judgement.findings.push(finding_stale(judged, e, seen, how)),
            }
        }
        judgement.gaps.extend(e.blind.clone());
        // two containers may have swapped addresses: then both addresses are known, but for the other one
        for seen in e.seen.iter().filter(|s| is_resolved_at_load(s) && stale(s) == Stale::No) {
            if let (Lookup::Up(addresses), false) = (&seen.looked, e.object.is_empty())
                && let [IpAddr::V4(address)] = addresses.as_slice()
            {
                let address = u64::from(u32::from(*address));
                judgement.samples.push(Sample::count(&e.object, &metric(&seen.backend), judged.taken_at, address));
            }
        }
        judgement.gaps.dedup();
        judgement
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        match &e.reload {
            Some(reload) => reload.plan(&SPEC, finding, judged.target),
            None => Err(Refusal::Precondition("a reload would not change the addresses".to_owned())),
        }
    }
}

impl Upstreams {
    async fn inspect(&self, cx: &ProbeCx, nginx: &Nginx, context: &ProxyContext) -> Result<Vec<UpstreamState>, ProbeError> {
        let backends: Vec<Backend> = nginx.config.backends.iter().take(MAX_UPSTREAMS).cloned().collect();
        let unresolved: BTreeSet<String> = backends
            .iter()
            .filter(|b| b.unix.is_none() && !b.host.is_empty() && context.called(&b.host).is_empty())
            // a container of that name that does not exist now has no address, even if the name resolves elsewhere
            .filter(|b| b.host.contains('.') || context.named(&b.host).is_none() || context.networks.is_empty())
            .map(|b| b.host.clone())
            .collect();
        let unresolved: Vec<String> = unresolved.into_iter().collect();
        let answers = look_up(nginx.master, unresolved.clone()).await?;
        let lookups: BTreeMap<String, Lookup> = unresolved.into_iter().zip(answers).collect();
        let upstream_state = |backend: Backend| {
            let lookups = &lookups;
            async move {
                let called = context.called(&backend.host);
                let (found, mut owner) = if called.is_empty() {
                    (lookups.get(&backend.host).cloned().unwrap_or(Lookup::NoSuchName), context.named(&backend.host))
                } else {
                    (Lookup::Up(called.iter().map(|(_, ip)| *ip).collect()), called.first().map(|(c, _)| *c))
                };
                let mut tried = Vec::new();
                if let Some(path) = &backend.unix {
                    tried.push((backend.label(), self.unix(nginx, path).await?));
                } else if let Lookup::Up(addresses) = &found {
                    for ip in addresses.iter().take(8) {
                        let at = SocketAddr::new(*ip, backend.port);
                        let (outcome, behind) = self.connect(nginx.master, at, context).await?;
                        owner = owner.or(behind).or_else(|| context.owner(*ip));
                        tried.push((at.to_string(), outcome));
                    }
                }
                let container = match owner {
                    Some(c) => Some(Named {
                        id: c.id.clone(),
                        name: c.name.clone(),
                        state: c.state.status.clone(),
                        started_at: c.state.started_at,
                        restarts: c.restart_count,
                        networks: c.networks.keys().cloned().collect(),
                        listening: listening(c).await,
                    }),
                    None => None,
                };
                let failed = !tried.is_empty() && tried.iter().all(|(_, outcome)| *outcome != ConnectOutcome::Connected);
                // a container has its own loopback address
                let units = match &found {
                    Lookup::Up(addresses) if failed && container.is_none() && context.own.is_empty() => {
                        let units_of = |ip: &IpAddr| {
                            let host = ip.to_string();
                            async move { cx.units_of(&host, backend.port).await }
                        };
                        join_all(addresses.iter().map(units_of)).await.concat()
                    }
                    _ => Vec::new(),
                };
                let (known, others) = (None, Vec::new());
                Ok::<_, ProbeError>(UpstreamState { backend, looked: found, container, tried, known, units, others })
            }
        };
        join_all(backends.into_iter().map(upstream_state)).await.into_iter().collect()
    }

    async fn connect<'a>(
        &self,
        pid: i32,
        at: SocketAddr,
        context: &'a ProxyContext,
    ) -> Result<(ConnectOutcome, Option<&'a Container>), ProbeError> {
        let timeout = Duration::from_millis(self.settings.connect_timeout_ms);
        let outcome = match netns::connect_inside(i64::from(pid), at, timeout).await? {
            Ok(_) => ConnectOutcome::Connected,
            Err(ConnectError::Refused) => ConnectOutcome::Refused,
            Err(ConnectError::Timeout) => ConnectOutcome::Timeout,
            Err(ConnectError::Other(why)) => ConnectOutcome::Failed(why),
        };
        // docker-proxy accepts connections for a dead port too
        if outcome == ConnectOutcome::Connected
            && at.ip().is_loopback()
            && context.networks.is_empty()
            && let Some((c, port)) = context.publishes(at.port())
        {
            let has_listener = listeners(c).await.is_none_or(|l| l.iter().any(|l| l.port == port && !l.is_loopback()));
            return Ok((
                if has_listener { outcome } else { ConnectOutcome::NothingBehind(format!("{} port {port}", c.name)) },
                Some(c),
            ));
        }
        Ok((outcome, None))
    }

    async fn unix(&self, nginx: &Nginx, path: &str) -> Result<ConnectOutcome, ProbeError> {
        let address = ConnectAddr { socket: Socket::Unix(PathBuf::from(path)), inside: Some(nginx.master), user: None };
        let timeout = Duration::from_millis(self.settings.connect_timeout_ms);
        let outcome = match open_connection(&address, timeout).await? {
            Ok(_) => ConnectOutcome::Connected,
            Err(ConnectError::Refused) => ConnectOutcome::Refused,
            Err(ConnectError::Timeout) => ConnectOutcome::Timeout,
            Err(ConnectError::Other(why)) => ConnectOutcome::Failed(why),
        };
        let Some(worker) = nginx.serving().next().map(|w| w.pid).filter(|_| outcome == ConnectOutcome::Connected) else {
            return Ok(outcome);
        };
        let socket = path.to_owned();
        let read = move |io: &Io| denied_socket(io, worker, &socket);
        let denied = blocking::run("the permissions of a socket", path, READ_TIMEOUT, read).await;
        Ok(denied.ok().flatten().map_or(outcome, ConnectOutcome::Denied))
    }

    /// Finds the addresses that nginx uses, for names of containers.
    async fn compare(&self, nginx: &Nginx, context: &ProxyContext, e: &mut Evidence) {
        let ports: BTreeSet<u16> = e.seen.iter().filter(|s| is_resolved_at_load(s)).map(|s| s.backend.port).collect();
        let Some(worker) = nginx.serving().next().map(|w| w.pid).filter(|_| !ports.is_empty()) else { return };
        let ports: Vec<u16> = ports.into_iter().collect();
        let from = format!("/proc/{worker}/mem");
        let known =
            blocking::run("the addresses nginx uses", &from, SEARCH_TIMEOUT, move |io| known_addresses(io, worker, &ports)).await;
        let known = match known {
            Ok(Some((known, true))) => known,
            Ok(Some((_, false))) => {
                e.blind = Some(format!("addresses in use by nginx: {from} is too large to search"));
                return;
            }
            Ok(None) => {
                e.blind = Some(format!("addresses in use by nginx: reading {from}: needs root"));
                return;
            }
            Err(why) => {
                e.blind = Some(why.to_string());
                return;
            }
        };
        let current: BTreeSet<(IpAddr, u16)> = e
            .seen
            .iter()
            .flat_map(|s| match &s.looked {
                Lookup::Up(addresses) => addresses.iter().map(|a| (*a, s.backend.port)).collect(),
                _ => Vec::new(),
            })
            .collect();
        // connections to addresses that nginx still uses: read together, on one thread
        let strange = known.iter().filter(|(ip, port)| !current.contains(&(IpAddr::V4(*ip), *port)));
        let owners: BTreeSet<i32> = strange.filter_map(|(ip, _)| context.owner((*ip).into())?.pid()).collect();
        let own = context.own.clone();
        let read = move |io: &Io| {
            let used: BTreeMap<i32, BTreeSet<u16>> = owners.into_iter().map(|pid| (pid, ports_used_by(io, pid, &own))).collect();
            (remotes_of(io, worker), used)
        };
        let read = blocking::run("connections of nginx", &format!("/proc/{worker}/net/tcp"), SEARCH_TIMEOUT, read).await;
        let (remotes, used) = match read {
            Ok(read) => read,
            Err(why) => {
                e.blind = Some(why.to_string());
                return;
            }
        };
        for seen in e.seen.iter_mut().filter(|s| is_resolved_at_load(s)) {
            let port = seen.backend.port;
            let Lookup::Up(addresses) = &seen.looked else { continue };
            let in_use = |ip: &IpAddr| match ip {
                IpAddr::V4(v4) if known.contains(&(*v4, port)) => Some(*v4),
                _ => None,
            };
            seen.known = Some(addresses.iter().filter_map(in_use).collect());
            let strange = known.iter().filter(|(ip, p)| *p == port && !current.contains(&(IpAddr::V4(*ip), port)));
            seen.others = strange
                .map(|(ip, _)| {
                    let at = SocketAddr::new((*ip).into(), port);
                    let owner = context.owner((*ip).into());
                    let answered = owner.is_some_and(|c| {
                        c.state.running && c.pid().and_then(|pid| used.get(&pid)).is_some_and(|ports| ports.contains(&port))
                    });
                    Other {
                        address: at.to_string(),
                        owner: owner.map(|c| c.name.clone()),
                        seen_talking: remotes.contains(&at) || answered,
                    }
                })
                .collect();
        }
    }

    fn unreachable(&self, judged: &Judged<'_>, e: &Evidence, seen: &UpstreamState, judgement: &mut Judgement) {
        let Some(why) = self.why_unreachable(e, seen) else { return };
        let name = &judged.target.name;
        // a container may still be starting
        if let Some(c) = &seen.container
            && c.restarts == 0
            && seen.tried.iter().all(|(_, t)| *t == ConnectOutcome::Refused)
            && !seen.tried.is_empty()
            && c.started_at
                .is_some_and(|t| judged.taken_at.duration_since(t) < SignedDuration::from_secs(self.settings.starting_s))
        {
            judgement.pending.push(format!("{} to listen", c.name));
            return;
        }
        let group = |s: &&UpstreamState| s.backend.group.is_some() && s.backend.group == seen.backend.group;
        let peer_connected = e.seen.iter().filter(group).any(|s| s.tried.iter().any(|(_, t)| *t == ConnectOutcome::Connected));
        let severity = if peer_connected || seen.backend.backup { Severity::Warn } else { Severity::Crit };
        let label = seen.backend.label();
        let upstream = seen.backend.group.as_ref().map_or_else(|| label.clone(), |g| format!("{label} (of upstream {g})"));
        let finding = Finding::new(
            &UNREACHABLE,
            severity,
            e.server.subject(judged.target),
            format!("{name} proxies requests to {upstream}, which {why}"),
        );
        let mut finding = match hint_of_attempts(seen) {
            Some(hint) => behind(&e.server, finding).hint(hint),
            None => behind(&e.server, finding),
        };
        finding = finding
            .cite(
                "from the network of nginx",
                seen.tried.iter().map(|(at, t)| format!("{at}: {}", t.words())).collect::<Vec<_>>().join(", "),
            )
            .cite("others of the group", if peer_connected { "answer" } else { "" });
        // dropped packets, not a rejecting service
        if !seen.tried.is_empty() && seen.tried.iter().all(|(_, t)| *t == ConnectOutcome::Timeout) {
            finding = of_host(finding);
        }
        if decisive(seen).is_some_and(|(_, t)| t.is_local()) {
            judgement.findings.push(finding);
            return;
        }
        finding = seen.tried.iter().fold(finding, |f, (at, _)| f.key(KeyKind::Address, at));
        finding = seen.units.iter().fold(finding, |f, unit| f.key(KeyKind::Unit, unit));
        if let Some(c) = &seen.container {
            finding = finding
                .key(KeyKind::Container, &c.id)
                .key(KeyKind::Port, format!("{}:{}", c.id, seen.backend.port))
                .cite("container", format!("{} is {}", c.name, c.state))
                .cite("listeners", if c.listening.is_empty() { String::new() } else { c.listening.join(", ") });
        }
        judgement.findings.push(finding);
    }

    fn why_unreachable(&self, e: &Evidence, seen: &UpstreamState) -> Option<String> {
        if seen.tried.iter().any(|(_, t)| *t == ConnectOutcome::Connected) {
            return None;
        }
        let Some((address, tried)) = decisive(seen) else {
            let known_to_nginx = seen.container.is_none() && e.reload.as_ref().is_some_and(|r| r.tested.passes);
            if seen.looked != Lookup::NoSuchName || known_to_nginx {
                return None;
            }
            return Some(match &seen.container {
                Some(c) if c.state == "running" && !e.networks.is_empty() => {
                    let networks = if c.networks.is_empty() { "none".to_owned() } else { c.networks.join(", ") };
                    format!("shares no network with it: {} is in {networks}, nginx in {}", c.name, e.networks.join(", "))
                }
                Some(c) => format!("has no address: container {} is {}", c.name, c.state),
                None => "does not resolve: no such name".to_owned(),
            });
        };
        Some(match tried {
            ConnectOutcome::Refused => match &seen.container {
                Some(c) if c.listening.iter().any(|l| l.ends_with(&format!(":{}", seen.backend.port))) => {
                    format!("refuses connections: in {} it listens on the loopback address only", c.name)
                }
                Some(c) if c.listening.is_empty() => format!("refuses connections: {} has no listener", c.name),
                Some(c) => format!("refuses connections: {} has no listener on port {}", c.name, seen.backend.port),
                None => "refuses connections".to_owned(),
            },
            ConnectOutcome::Timeout => format!("does not answer within {} ms", self.settings.connect_timeout_ms),
            ConnectOutcome::Failed(_) if tried.is_local() && is_ipv6(address) => {
                "cannot be reached: nginx has no IPv6 address".to_owned()
            }
            ConnectOutcome::Failed(_) if tried.is_local() => {
                "cannot be reached: no local port is left for connections to it".to_owned()
            }
            ConnectOutcome::Failed(why) => format!("cannot be reached: {why}"),
            ConnectOutcome::Denied(denied) => {
                format!("denies access to the workers, which run as {}: {denied}", denied.user)
            }
            ConnectOutcome::NothingBehind(endpoint) => format!("has no listener at {endpoint}"),
            ConnectOutcome::Connected => return None,
        })
    }
}

/// The attempt that shows the state of the upstream: the first one that did not fail on this side.
fn decisive(seen: &UpstreamState) -> Option<&(String, ConnectOutcome)> {
    seen.tried.iter().find(|(_, t)| !t.is_local()).or(seen.tried.first())
}

/// A hint for attempts that failed for a reason other than the listener of the upstream.
fn hint_of_attempts(seen: &UpstreamState) -> Option<&'static str> {
    let (address, tried) = decisive(seen)?;
    Some(match tried {
        ConnectOutcome::Denied(_) => meaning("socket-denied")?.hint,
        _ if tried.is_local() && is_ipv6(address) => meaning("no-ipv6")?.hint,
        _ if tried.is_local() => meaning("ports-exhausted")?.hint,
        _ => return None,
    })
}

fn is_ipv6(address: &str) -> bool {
    address.starts_with('[')
}

impl ConnectOutcome {
    /// `EADDRNOTAVAIL`: this side has no address or no port for the connection (connect(2)).
    fn is_local(&self) -> bool {
        matches!(self, Self::Failed(why) if why.contains("(os error 99)"))
    }

    fn words(&self) -> String {
        match self {
            Self::Connected => "connected".to_owned(),
            Self::Refused => "refused".to_owned(),
            Self::Timeout => "timeout".to_owned(),
            Self::Failed(why) => why.clone(),
            Self::Denied(denied) => format!("connected as root; {} may not connect", denied.user),
            Self::NothingBehind(endpoint) => format!("no listener at {endpoint}"),
        }
    }
}

/// Retention of a stored address in seconds.
const RETENTION_S: i64 = 7 * 86400;

fn metric(backend: &Backend) -> String {
    format!("address of {}", backend.label())
}

/// Upstreams with another address at an earlier run, since which nginx has not resolved again.
fn remembered(cx: &ProbeCx, context: &ProxyContext, e: &mut Evidence) {
    let object = e.object.clone();
    for seen in e.seen.iter_mut().filter(|s| is_resolved_at_load(s) && stale(s) == Stale::No) {
        let Lookup::Up(addresses) = &seen.looked else { continue };
        let Some(before) = cx.history.oldest(&object, &metric(&seen.backend), RETENTION_S) else { continue };
        let Ok(before) = u32::try_from(before.as_count()).map(Ipv4Addr::from) else { continue };
        if addresses.iter().all(|a| *a != IpAddr::V4(before)) {
            let at = SocketAddr::new(before.into(), seen.backend.port);
            let owner = context.owner(before.into()).map(|c| c.name.clone());
            seen.known = Some(Vec::new());
            seen.others = vec![Other { address: at.to_string(), owner, seen_talking: false }];
        }
    }
}

/// Whether nginx resolves this name only when it loads its configuration.
fn is_resolved_at_load(seen: &UpstreamState) -> bool {
    seen.backend.unix.is_none()
        && !seen.backend.resolves
        && seen.container.is_some()
        && seen.backend.host.parse::<IpAddr>().is_err()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stale {
    No,
    /// nginx uses some of the addresses.
    Partly,
    /// nginx uses none of them.
    Wholly,
}

fn stale(seen: &UpstreamState) -> Stale {
    let (Some(known), Lookup::Up(addresses)) = (&seen.known, &seen.looked) else { return Stale::No };
    let v4: Vec<&IpAddr> = addresses.iter().filter(|a| a.is_ipv4()).collect();
    if v4.is_empty() || known.len() >= v4.len() {
        return Stale::No;
    }
    match known.is_empty() {
        true => Stale::Wholly,
        // an added address gets no requests, which is harmless; a replaced one fails
        false if seen.others.iter().any(|o| o.seen_talking) => Stale::Partly,
        false => Stale::No,
    }
}

fn finding_stale(judged: &Judged<'_>, e: &Evidence, seen: &UpstreamState, how: Stale) -> Finding {
    let name = &judged.target.name;
    let label = seen.backend.label();
    let now = match &seen.looked {
        Lookup::Up(addresses) => addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        _ => String::new(),
    };
    // an address with connections is the best evidence
    let old = seen.others.iter().find(|o| o.seen_talking).or_else(|| match seen.others.as_slice() {
        [only] => Some(only),
        several => several.iter().find(|o| o.owner.is_some()),
    });
    let message = match old {
        Some(Other { address, owner: Some(owner), .. }) => {
            format!(
                "{name} sends requests for {label} to {address}, now the address of {owner}; {} is at {now}",
                seen.backend.host
            )
        }
        Some(Other { address, .. }) => {
            format!("{name} sends requests for {label} to {address}, now unused; {} is at {now}", seen.backend.host)
        }
        None => format!("{name} does not use the current address of {label}, {now}"),
    };
    let severity = if how == Stale::Wholly { Severity::Crit } else { Severity::Warn };
    let finding = Finding::new(&STALE, severity, e.server.subject(judged.target), message).fix(RELOAD.id);
    let since = seen.container.as_ref().and_then(|c| c.started_at);
    let mut finding = behind(&e.server, finding)
        .since(since)
        .cite_opt("nginx resolved addresses", e.loaded_at.map(|t| quantity::ago(judged.taken_at, t)));
    if let Some(c) = &seen.container {
        finding = finding.cite_opt(format!("{} was started", c.name), c.started_at.map(|t| quantity::ago(judged.taken_at, t)));
    }
    finding.cite(
        "observed",
        if seen.others.iter().any(|o| o.seen_talking) { "connections to the old address within the last minute" } else { "" },
    )
}

/// The listeners of a container; `None` where they cannot be read.
async fn listeners(c: &Container) -> Option<Vec<Listener>> {
    let pid = i64::from(c.pid()?);
    let read = move |io: &Io| listeners_of(io, pid);
    blocking::run("listening sockets", &format!("/proc/{pid}/net/tcp"), READ_TIMEOUT, read).await.ok().flatten()
}

/// Addresses of the listeners.
async fn listening(c: &Container) -> Vec<String> {
    let mut all: Vec<String> = listeners(c)
        .await
        .unwrap_or_default()
        .iter()
        .filter(|l| l.address != NAME_SERVER)
        .map(|l| SocketAddr::new(l.address, l.port).to_string())
        .collect();
    all.sort();
    all.dedup();
    all
}
