//! Name resolution in containers, of internal and external names, queried from the container's network namespace.

use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, DependsOn, Finding, Impact, Inventory, Judged, Judgement, KeyKind, Object, Role, Severity,
    has_own_network,
};
use opsctl_core::probe::docker::NAME_SERVER;
use opsctl_core::probe::names::{
    Answers, FileState, HostSources, NSSWITCH, NameServer, QueryResult, Question, ResolvFile, host_sources,
};
use opsctl_core::probe::network::listeners;
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::egress::{self, Egress};
use super::leak::{self, LEAK, Leak, Wildcard};
use super::queries;
use super::status::{self, ServerStatus, status_of};
use crate::shared::servers::READ_TIMEOUT;

const CONTAINER: Code = Code {
    id: "dns.container",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "the engine's embedded name server does not respond in a container, or no external name resolves in it, with the layer that fails (crit); the first of its name servers does not respond, its default route is missing, or its nsswitch.conf excludes DNS (warn); it uses the name servers of Google because this host lists only loopback addresses (info)",
    hint: "compare its name servers with those of this host, and follow its packets to them: docker exec CONTAINER cat /etc/resolv.conf; nsenter -t PID -n ip route get SERVER",
    impacts: &[Impact::likely(Role::NamesBroken, KeyKind::Names, "names cannot be resolved")],
    depends_on: &[&[
        DependsOn::likely(Role::PacketsDropped, KeyKind::Host, ""),
        DependsOn::confirmed(Role::Detached, KeyKind::Container, "its"),
    ]],
};

static SPEC: CheckSpec = CheckSpec {
    id: "dns.container",
    title: "containers resolve internal and external names",
    codes: &[CONTAINER, LEAK],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

/// Docker's fallback if the host lists only loopback addresses (moby `defaultIPv4Dns`).
const FALLBACK: &[&str] = &["8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"];

pub(super) struct Container {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    id: String,
    subject: Option<Object>,
    networks: Vec<String>,
    file: ResolvFile,
    /// Its servers are configured for it (`--dns`) or for all containers (`dns` in daemon.json).
    chosen: Option<String>,
    /// A container with the same servers and networks, which is probed for both.
    same_as: Option<String>,
    /// Containers with the same servers and networks that this one is probed for.
    stands_for: Vec<String>,
    /// Its queries can leave its networks; `None` if unknown.
    way_out: Option<bool>,
    /// Docker's embedded name server has its socket in this namespace.
    embedded_socket: bool,
    /// The query for its own name.
    internal: Option<QueryResult>,
    /// Its servers, queried for external names.
    external: Vec<Answers>,
    /// Upstreams of Docker's embedded server, queried directly; only if that server did not respond.
    upstream: Vec<Answers>,
    /// This host's servers, for comparison.
    host: Option<ThisHost>,
    leaks: Vec<Leak>,
    wildcards: Vec<Wildcard>,
    /// `hosts` of its nsswitch.conf.
    sources: HostSources,
    /// The way to its name servers; only if none of them responds as it should.
    egress: Egress,
}

/// Name servers of this host.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ThisHost {
    /// Those of its resolv.conf.
    pub(super) servers: Vec<Answers>,
    /// Those that a container started now would get.
    pub(super) given: Vec<NameServer>,
    /// resolv.conf was modified after the start of the container.
    pub(super) changed_since: bool,
    /// Its search list.
    pub(super) search: Vec<String>,
}

pub(super) fn is_embedded(server: &NameServer) -> bool {
    server.address == NAME_SERVER
}

impl Check for Container {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.container_targets(|c| c.state == "running" && has_own_network(&c.network_mode))
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let container = cx.running(target).await?;
        let pid = container.process()?;
        let file = cx.resolvers().file_of(pid).await?;
        let (same_as, stands_for) = queries::same(cx, &container).await;
        let read = move |io: &Io| listeners::udp_sockets_of(io, i64::from(pid)).unwrap_or_default();
        let sockets = blocking::run("listening sockets", &format!("/proc/{pid}/net/udp"), READ_TIMEOUT, read).await?;
        let mut e = Evidence {
            id: container.id.clone(),
            subject: Some(container.subject()),
            networks: container.networks.keys().cloned().collect(),
            file: (*file).clone(),
            chosen: queries::chosen(cx, &container).await,
            same_as,
            stands_for,
            way_out: queries::has_egress(cx, pid, &container).await?,
            embedded_socket: sockets.iter().any(|s| s.ip() == NAME_SERVER),
            ..Evidence::default()
        };
        let limits = self.settings.query_limits();
        if e.same_as.is_none() {
            e.sources = host_sources(Some(pid)).await.unwrap_or_default();
        }
        let cut_off = e.way_out == Some(false) && egress::expects_egress(cx, &container).await;
        if e.same_as.is_some() || (e.way_out != Some(true) && !cut_off) {
            e.internal = Box::pin(queries::inside(pid, &container, &file.conf, limits)).await?;
            return Ok(e);
        }
        let (internal, external, host) = tokio::join!(
            Box::pin(queries::inside(pid, &container, &file.conf, limits)),
            Box::pin(queries::outside(pid, &file.conf, &self.settings.names, limits)),
            Box::pin(cx.resolvers().host(&self.settings.names, limits)),
        );
        (e.internal, e.external) = (internal?, external?);
        e.host = host.ok().map(|h| queries::this_host(&h, &container));
        if let Some(good) = e.external.iter().find(|s| is_good(s)) {
            let all = cx.inspected(&cx.inventory.containers).await;
            let short = queries::short_names(&container, &all, &file.conf);
            let (search, server) = (&file.conf.search, &good.server);
            let own = queries::addresses(&all);
            let (wildcards, leaks) = tokio::join!(
                Box::pin(leak::wildcards(Some(pid), server, search, limits)),
                Box::pin(leak::leaks(pid, server, short, search, &own, limits)),
            );
            (e.wildcards, e.leaks) = (wildcards?, leaks?);
            return Ok(e);
        }
        e.upstream = Box::pin(queries::upstream(pid, &file.conf, limits)).await?;
        if !e.upstream.iter().any(is_good) {
            let servers = queried_from_inside(&e);
            let of = egress::Subject { pid, container: &container, servers: &servers, host: e.host.as_ref(), limits };
            e.egress = Box::pin(egress::read(cx, &of)).await.unwrap_or_default();
        }
        Ok(e)
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let Some(subject) = &e.subject else { return Judgement::skip("no data about the container") };
        let mut j = Judgement::default();
        if e.file.state == FileState::Denied {
            j.gaps.push("reading its /etc/resolv.conf: permission denied; needs root".to_owned());
            return j;
        }
        j.findings = match embedded(e, subject) {
            Some(broken) => vec![broken],
            None => outside(e, subject).or_else(|| fallback(e, subject)).into_iter().collect(),
        };
        j.findings.extend(no_dns(e, subject));
        j.findings.extend(search_leaks(e, subject));
        j
    }
}

fn found(e: &Evidence, subject: &Object, severity: Severity, message: String) -> Finding {
    Finding::new(&CONTAINER, severity, subject.clone(), message)
        .key(KeyKind::Container, &e.id)
        .key(KeyKind::Names, &e.id)
        .cite("networks", e.networks.join(", "))
        .cite("name servers", e.file.conf.used().iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        .cite("also affected", e.stands_for.join(", "))
}

/// Failure of Docker's embedded name server for a name that it knows itself.
fn embedded(e: &Evidence, subject: &Object) -> Option<Finding> {
    let query = e.internal.as_ref().filter(|a| a.code().is_none())?;
    let why = if e.embedded_socket {
        "it listens, but its NAT rules are missing in the container's packet filter"
    } else {
        "the engine does not run it there"
    };
    let message =
        format!("the engine's name server, {NAME_SERVER}, does not respond in {} ({}): {why}", subject.name, query.words());
    Some(
        found(e, subject, Severity::Crit, message)
            .hint("restart the container: the engine configures its name server at container start"),
    )
}

/// The servers that its queries reach: the upstreams of Docker's embedded server if known, else those in its resolv.conf.
fn reached_servers(e: &Evidence) -> Vec<NameServer> {
    match &e.file.conf.ext_servers {
        Some(ext) if e.file.conf.used().iter().any(is_embedded) => ext.iter().map(|x| x.server.clone()).collect(),
        _ => e.file.conf.used().into_iter().filter(|s| !is_embedded(s)).collect(),
    }
}

fn names_of(servers: &[NameServer]) -> String {
    servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn is_good(server: &Answers) -> bool {
    status_of(server) == ServerStatus::Good
}

/// Failures for external names.
fn outside(e: &Evidence, subject: &Object) -> Option<Finding> {
    let first = e.external.first().filter(|s| !is_good(s))?;
    let host = e.host.clone().unwrap_or_default();
    let host_is_good = host.servers.iter().any(is_good);
    let names = first.udp().any(|a| a.question != Question::Root);
    // if not even this host resolves the root, external names may not be wanted
    if !names && !host_is_good {
        return None;
    }
    // errors returned by the servers themselves are reported for the host
    let returns_error = |s: &Answers| matches!(status_of(s), ServerStatus::Failing | ServerStatus::Refusing);
    if returns_error(first) && !host.servers.is_empty() && host.servers.iter().all(returns_error) {
        return None;
    }
    // an upstream of Docker's embedded server may respond, but later than clients wait
    let behind = if is_embedded(&first.server) { &e.upstream } else { &e.external };
    let other = behind.iter().find(|s| is_good(s));
    let reached = reached_servers(e);
    let bad_on_host: Vec<&NameServer> = host.servers.iter().filter(|s| !is_good(s)).map(|s| &s.server).collect();
    // an engine that does not list its upstreams uses the servers of this host
    let same_servers = reached.is_empty() || reached == host.given || reached.iter().any(|s| bad_on_host.contains(&s));
    let shared = !bad_on_host.is_empty() && same_servers;
    let others = match e.stands_for.len() {
        0 => String::new(),
        1 => " and another container like it".to_owned(),
        n => format!(" and {n} other containers like it"),
    };
    let (severity, failure) = if let Some(good) = other {
        let dead = behind.iter().find(|s| !is_good(s)).unwrap_or(first);
        let how = format!("the first name server of {}{others} does not respond", subject.name);
        (Severity::Warn, format!("{how}: {} ({}) is queried before {}", dead.server, status::words(dead), good.server))
    } else {
        let how = format!("no external name resolves in {}{others}", subject.name);
        (Severity::Crit, format!("{how}: {} ({})", first.server, status::words(first)))
    };
    let reason = why(e, &host, &reached, host_is_good);
    let layer = e.egress.layer(&subject.name).filter(|_| other.is_none());
    if e.way_out == Some(false) && layer.is_none() {
        return None;
    }
    // a route that the container itself lacks may be intended
    let severity = if e.way_out == Some(false) { severity.min(Severity::Warn) } else { severity };
    let words = match &layer {
        Some(layer) if e.chosen.is_some() => format!("{}; {}", reason.words, layer.words),
        Some(layer) => layer.words.clone(),
        None => reason.words.clone(),
    };
    let mut finding = found(e, subject, severity, format!("{failure}; {words}"));
    for server in e.external.iter().chain(&e.upstream) {
        finding = finding.cite(server.server.to_string(), status::all(server));
    }
    finding = finding.cite("route", e.egress.route());
    for server in e.egress.queried_from_host() {
        finding = finding.cite(format!("{} from this host", server.server), status::all(server));
    }
    for server in e.egress.reference() {
        finding = finding.cite(format!("{} from the container", server.server), status::all(server));
    }
    finding = match (&layer, other) {
        (Some(layer), _) => {
            let finding = finding.cite("name servers of this host", reason.words).hint(layer.hint.clone());
            layer.key.into_iter().fold(finding, |f, (kind, value)| f.key(kind, value))
        }
        (None, None) if is_lost(e, host_is_good) => {
            let bridge = e.egress.bridge().unwrap_or("BRIDGE");
            let hint = format!(
                "its packets or their replies are lost on the way: tcpdump -ni {bridge} port 53, then on the egress interface; a restart of the container does not help"
            );
            finding.key(KeyKind::Host, "host").likely().hint(hint)
        }
        (None, _) => match reason.hint {
            Some(hint) => finding.hint(hint),
            None => finding,
        },
    };
    Some(if shared { finding.key(KeyKind::Host, "host") } else { finding })
}

/// None of its servers responds to it although they respond to this host, and no other egress is proven.
fn is_lost(e: &Evidence, host_is_good: bool) -> bool {
    let silent = |s: &Answers| status_of(s) == ServerStatus::Silent;
    let behind: Vec<&Answers> = if e.upstream.is_empty() {
        e.external.iter().filter(|s| !is_embedded(&s.server)).collect()
    } else {
        e.upstream.iter().collect()
    };
    host_is_good && e.egress.is_known() && e.egress.works().is_none() && !behind.is_empty() && behind.into_iter().all(silent)
        // a server that does not respond to this host either is itself the reason
        && !e.egress.queried_from_host().iter().any(silent)
}

/// The name servers that its queries reach by its own network; those of this host if the engine does not list them.
fn queried_from_inside(e: &Evidence) -> Vec<NameServer> {
    let by_engine = e.file.conf.used().iter().any(is_embedded);
    match &e.file.conf.ext_servers {
        Some(ext) if by_engine => ext.iter().filter(|x| !x.from_host).map(|x| x.server.clone()).collect(),
        None if by_engine => {
            let given = e.host.as_ref().map(|h| h.given.clone()).unwrap_or_default();
            given.into_iter().filter(|s| !s.is_loopback()).collect()
        }
        _ => e.file.conf.used().into_iter().filter(|s| !is_embedded(s)).collect(),
    }
}

/// The nsswitch.conf of the container excludes DNS.
fn no_dns(e: &Evidence, subject: &Object) -> Option<Finding> {
    let end = e.sources.dead_end().filter(|_| !e.file.conf.servers.is_empty())?;
    let line = e.sources.line.as_deref().unwrap_or_default();
    let message = format!("{NSSWITCH} in {} has `hosts: {line}`: {}", subject.name, end.words());
    Some(
        found(e, subject, Severity::Warn, message)
            .likely()
            .hint("programs of its image that use glibc or Go resolve no name by DNS: `hosts: files dns` in the image; a restart does not help"),
    )
}

/// A reason with the remedy that helps.
struct Reason {
    words: String,
    hint: Option<String>,
}

/// The difference between its name servers and those of the host.
fn why(e: &Evidence, host: &ThisHost, reached: &[NameServer], host_is_good: bool) -> Reason {
    let now = names_of(&host.given);
    let reason = |words: String, hint: &str| Reason { words, hint: Some(hint.to_owned()) };
    let open = |words: &str| Reason { words: words.to_owned(), hint: None };
    let of_container =
        "correct the name servers of the container and recreate it: docker run --dns, or `dns` in /etc/docker/daemon.json";
    if let Some(chosen) = &e.chosen {
        return reason(format!("its name servers are configured ({chosen})"), of_container);
    }
    if e.host.is_none() {
        return open("the state of this host's own name servers is unknown");
    }
    if !host_is_good {
        return reason(
            "this host's own name servers do not respond either".to_owned(),
            "restore the name servers of this host first (opsctl dns); a restart of the container does not help",
        );
    }
    if is_fallback(reached) && only_loopback(host) {
        return reason(
            format!("it uses {}, because this host lists only loopback addresses ({now})", names_of(reached)),
            "set `dns` in /etc/docker/daemon.json to servers that the containers reach, and recreate them; or allow DNS queries to the fallback servers",
        );
    }
    let restart = "restart the container, so that it gets the current name servers of this host; docker run --dns, or `dns` in /etc/docker/daemon.json, sets others";
    if !reached.is_empty() && reached != host.given {
        return reason(
            format!("it still uses {}, the servers at its start, and this host now lists {now}", names_of(reached)),
            restart,
        );
    }
    if reached.is_empty() && host.changed_since {
        return reason(format!("this host's resolv.conf was modified after its start, and now lists {now}"), restart);
    }
    reason(
        "this host's own name servers respond".to_owned(),
        "this host reaches the same name servers: check whether its firewall forwards DNS queries of containers (iptables -S FORWARD)",
    )
}

fn is_fallback(servers: &[NameServer]) -> bool {
    !servers.is_empty() && servers.iter().all(|s| FALLBACK.contains(&s.address.to_string().as_str()))
}

fn only_loopback(host: &ThisHost) -> bool {
    host.given.iter().all(NameServer::is_loopback)
}

/// Google's servers, used without being configured.
fn fallback(e: &Evidence, subject: &Object) -> Option<Finding> {
    let host = e.host.as_ref()?;
    let reached = reached_servers(e);
    (e.chosen.is_none() && is_fallback(&reached) && only_loopback(host)).then(|| {
        let message = format!(
            "{} uses {}, the engine's fallback, because this host lists only loopback addresses ({}): internal names are unknown there",
            subject.name,
            names_of(&reached),
            names_of(&host.given)
        );
        found(e, subject, Severity::Info, message)
            .hint("set `dns` in /etc/docker/daemon.json to servers that know the internal names, and recreate the containers")
    })
}

/// Search domains that resolve names to foreign addresses.
fn search_leaks(e: &Evidence, subject: &Object) -> Vec<Finding> {
    let of_host: &[String] = e.host.as_ref().map_or(&[], |h| &h.search);
    let finding = |message: String| Finding::new(&LEAK, Severity::Warn, subject.clone(), message).key(KeyKind::Container, &e.id);
    let wild = |domain: &String| e.wildcards.iter().any(|w| w.domain == *domain);
    // a domain of this host is reported once, by dns.search
    let wildcards = e.wildcards.iter().filter(|w| !of_host.contains(&w.domain)).map(|w| {
        let to = leak::list(&w.addresses);
        finding(format!("in {} every name has an address in the search domain {} ({to})", subject.name, w.domain))
    });
    // in a wildcard domain the name of a stopped container also has an address
    let leaks = e.leaks.iter().filter(|l| l.runs || !wild(&l.domain)).map(|l| {
        let state = if l.runs { "" } else { ", which is not running," };
        finding(format!(
            "in {} the name of container {}{state} resolves as {}.{} to {}, which is no container of this host",
            subject.name,
            l.name,
            l.name,
            l.domain,
            leak::list(&l.addresses)
        ))
    });
    wildcards.chain(leaks).collect()
}
