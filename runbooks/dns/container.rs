//! Does a container find names: those of its network, and those outside? Asked as it would ask, from its own network namespace.

use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, KeyKind, Severity, Subject, Target, has_own_network,
};
use opsctl_core::probe::docker::NAME_SERVER;
use opsctl_core::probe::names::{Answers, Asked, FileState, NameServer, Question, ResolvFile};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking, listeners};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::asking;
use super::leak::{self, LEAK, Leak, Wildcard};
use super::standing::{self, Standing, standing as standing_of};
use crate::servers::READ_TIMEOUT;

const CONTAINER: Code = Code {
    id: "dns.container",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "the engine's own name server does not answer in a container, or no name outside can be looked up from it (crit); the first of its name servers does not answer (warn); it was given Google's because this host names only itself (info)",
    hint: "restart the container, so that it gets this host's name servers as they are now; docker run --dns, or `dns` in /etc/docker/daemon.json, sets others",
};

static SPEC: CheckSpec = CheckSpec {
    id: "dns.container",
    title: "containers find names, inside and outside",
    codes: &[CONTAINER, LEAK],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

/// What Docker falls back on when the host names only itself (moby `defaultIPv4Dns`).
const FALLBACK: &[&str] = &["8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"];

pub(super) struct Container {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    id: String,
    subject: Option<Subject>,
    networks: Vec<String>,
    file: ResolvFile,
    /// Its servers were chosen for it (`--dns`) or for all containers (`dns` in daemon.json).
    chosen: Option<String>,
    /// Asks the same servers from the same networks as this one, which is asked about names outside for both.
    same_as: Option<String>,
    /// The other way round.
    stands_for: Vec<String>,
    /// What it asks can leave its networks; none when that could not be seen.
    way_out: Option<bool>,
    /// Docker's own name server has its socket in this namespace.
    embedded_socket: bool,
    /// The question about its own name.
    internal: Option<Asked>,
    /// Its servers, asked for names outside.
    external: Vec<Answers>,
    /// Whom Docker's own server asks, asked directly; only when that did not answer.
    upstream: Vec<Answers>,
    /// This host's servers, for comparison.
    host: Option<ThisHost>,
    leaks: Vec<Leak>,
    wildcards: Vec<Wildcard>,
}

/// What this host says of its own name servers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ThisHost {
    /// Those of its resolv.conf.
    pub(super) servers: Vec<Answers>,
    /// Those a container would be given that starts now.
    pub(super) given: Vec<NameServer>,
    /// resolv.conf was written after the container was started.
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

    fn targets(&self, inventory: &Inventory) -> Vec<Target> {
        inventory.container_targets(|c| c.state == "running" && has_own_network(&c.network_mode))
    }

    async fn probe(&self, cx: &ProbeCx, target: &Target) -> Result<Evidence, ProbeError> {
        let container = cx.running(target).await?;
        let pid = container.process()?;
        let file = cx.resolvers.file_of(pid).await?;
        let (same_as, stands_for) = asking::same(cx, &container).await;
        let read = move |io: &Io| listeners::udp_sockets_of(io, i64::from(pid)).unwrap_or_default();
        let sockets = blocking::run("listening sockets", &format!("/proc/{pid}/net/udp"), READ_TIMEOUT, read).await?;
        let mut e = Evidence {
            id: container.id.clone(),
            subject: Some(container.subject()),
            networks: container.networks.keys().cloned().collect(),
            file: (*file).clone(),
            chosen: asking::chosen(cx, &container).await,
            same_as,
            stands_for,
            way_out: asking::way_out(cx, pid, &container).await?,
            embedded_socket: sockets.iter().any(|s| s.ip() == NAME_SERVER),
            ..Evidence::default()
        };
        let patience = self.settings.patience();
        if e.same_as.is_some() || e.way_out != Some(true) {
            e.internal = Box::pin(asking::inside(pid, &container, &file.conf, patience)).await?;
            return Ok(e);
        }
        let (internal, external, host) = tokio::join!(
            Box::pin(asking::inside(pid, &container, &file.conf, patience)),
            Box::pin(asking::outside(pid, &file.conf, &self.settings.names, patience)),
            Box::pin(cx.resolvers.host(&self.settings.names, patience)),
        );
        (e.internal, e.external) = (internal?, external?);
        e.host = host.ok().map(|h| asking::this_host(&h, &container));
        match e.external.iter().find(|s| standing_of(s) == Standing::Good) {
            Some(good) => {
                let all = cx.inspected(&cx.inventory.containers).await;
                let short = asking::short_names(&container, &all, &file.conf);
                let (search, server) = (&file.conf.search, &good.server);
                let own = asking::addresses(&all);
                let (wildcards, leaks) = tokio::join!(
                    Box::pin(leak::wildcards(Some(pid), server, search, patience)),
                    Box::pin(leak::leaks(pid, server, short, search, &own, patience)),
                );
                (e.wildcards, e.leaks) = (wildcards?, leaks?);
            }
            None => e.upstream = Box::pin(asking::upstream(pid, &file.conf, patience)).await?,
        }
        Ok(e)
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let Some(subject) = &e.subject else { return Judgement::skip("nothing is known of it") };
        let mut j = Judgement::default();
        if e.file.state == FileState::Denied {
            j.gaps.push("reading its /etc/resolv.conf: permission denied; needs root".to_owned());
            return j;
        }
        j.findings = match embedded(e, subject) {
            Some(broken) => vec![broken],
            None => outside(e, subject).or_else(|| fallback(e, subject)).into_iter().collect(),
        };
        j.findings.extend(misled(e, subject));
        j
    }
}

fn found(e: &Evidence, subject: &Subject, severity: Severity, message: String) -> Finding {
    Finding::new(&CONTAINER, severity, subject.clone(), message)
        .key(KeyKind::Container, &e.id)
        .key(KeyKind::Names, &e.id)
        .cite("networks", e.networks.join(", "))
        .cite("name servers", e.file.conf.used().iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        .cite("the same holds for", e.stands_for.join(", "))
}

/// Docker's own name server, asked for what it knows itself.
fn embedded(e: &Evidence, subject: &Subject) -> Option<Finding> {
    let asked = e.internal.as_ref().filter(|a| a.code().is_none())?;
    let why = if e.embedded_socket {
        "it is there, and the rules that lead to it are gone from the container's packet filter"
    } else {
        "the engine does not serve it there"
    };
    let message =
        format!("the engine's name server, {NAME_SERVER}, does not answer in {} ({}): {why}", subject.name, asked.words());
    Some(
        found(e, subject, Severity::Crit, message)
            .hint("restart the container: the engine sets its name server up when a container starts"),
    )
}

/// Whom its questions reach in the end: the servers behind Docker's own where that is known, else those of its file.
fn asks(e: &Evidence) -> Vec<NameServer> {
    match &e.file.conf.ext_servers {
        Some(ext) if e.file.conf.used().iter().any(is_embedded) => ext.iter().map(|x| x.server.clone()).collect(),
        _ => e.file.conf.used().into_iter().filter(|s| !is_embedded(s)).collect(),
    }
}

fn names_of(servers: &[NameServer]) -> String {
    servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn is_good(server: &Answers) -> bool {
    standing_of(server) == Standing::Good
}

/// Names outside.
fn outside(e: &Evidence, subject: &Subject) -> Option<Finding> {
    let first = e.external.first().filter(|s| !is_good(s))?;
    let host = e.host.clone().unwrap_or_default();
    let host_is_good = host.servers.iter().any(is_good);
    let names = first.udp().any(|a| a.question != Question::Root);
    // where not even this host finds the root, nobody may want to
    if !names && !host_is_good {
        return None;
    }
    // what the servers themselves say no to is told of the host
    let said_no = |s: &Answers| matches!(standing_of(s), Standing::Failing | Standing::Refusing);
    if said_no(first) && !host.servers.is_empty() && host.servers.iter().all(said_no) {
        return None;
    }
    // behind Docker's own server there may be one that answers, later than anybody waits
    let behind = if is_embedded(&first.server) { &e.upstream } else { &e.external };
    let other = behind.iter().find(|s| is_good(s));
    let asks = asks(e);
    let bad_on_host: Vec<&NameServer> = host.servers.iter().filter(|s| !is_good(s)).map(|s| &s.server).collect();
    // an engine that does not say whom it asks asks whom this host asks
    let same_servers = asks.is_empty() || asks == host.given || asks.iter().any(|s| bad_on_host.contains(&s));
    let shared = !bad_on_host.is_empty() && same_servers;
    let others = match e.stands_for.len() {
        0 => String::new(),
        1 => " and another container like it".to_owned(),
        n => format!(" and {n} other containers like it"),
    };
    let (severity, what) = if let Some(good) = other {
        let dead = behind.iter().find(|s| !is_good(s)).unwrap_or(first);
        let how = format!("the first name server of {}{others} does not answer", subject.name);
        (Severity::Warn, format!("{how}: {} ({}) is asked before {}", dead.server, standing::words(dead), good.server))
    } else {
        let how = format!("no name outside is found from {}{others}", subject.name);
        (Severity::Crit, format!("{how}: {} ({})", first.server, standing::words(first)))
    };
    let mut finding = found(e, subject, severity, format!("{what}; {}", why(e, &host, &asks, host_is_good)));
    for server in e.external.iter().chain(&e.upstream) {
        finding = finding.cite(server.server.to_string(), standing::all(server));
    }
    if host_is_good && asks == host.given && other.is_none() {
        finding = finding.hint("this host reaches the same name servers: see whether its firewall lets out what containers ask (iptables -S FORWARD)");
    }
    Some(if shared { finding.key(KeyKind::Host, "host") } else { finding })
}

/// What is different about whom it asks.
fn why(e: &Evidence, host: &ThisHost, asks: &[NameServer], host_is_good: bool) -> String {
    let now = names_of(&host.given);
    if let Some(chosen) = &e.chosen {
        return format!("its name servers were chosen for it ({chosen})");
    }
    if e.host.is_none() {
        return "what this host's own name servers do is not known".to_owned();
    }
    if !host_is_good {
        return "this host's own name servers do not answer either".to_owned();
    }
    if is_fallback(asks) && only_itself(host) {
        return format!("it asks {}, because this host names only itself ({now})", names_of(asks));
    }
    if !asks.is_empty() && asks != host.given {
        return format!("it still asks {}, as when it was started, and this host now names {now}", names_of(asks));
    }
    if asks.is_empty() && host.changed_since {
        return format!("this host's resolv.conf was written after it was started, and now names {now}");
    }
    "this host's own name servers answer".to_owned()
}

fn is_fallback(servers: &[NameServer]) -> bool {
    !servers.is_empty() && servers.iter().all(|s| FALLBACK.contains(&s.address.to_string().as_str()))
}

fn only_itself(host: &ThisHost) -> bool {
    host.given.iter().all(NameServer::is_loopback)
}

/// Google's servers, which nobody asked for.
fn fallback(e: &Evidence, subject: &Subject) -> Option<Finding> {
    let host = e.host.as_ref()?;
    let asks = asks(e);
    (e.chosen.is_none() && is_fallback(&asks) && only_itself(host)).then(|| {
        let message = format!(
            "{} asks {}, the engine's fallback, because this host names only itself ({}): names inside your network are unknown there",
            subject.name,
            names_of(&asks),
            names_of(&host.given)
        );
        found(e, subject, Severity::Info, message)
            .hint("set `dns` in /etc/docker/daemon.json to servers that know the names inside, and create the containers anew")
    })
}

/// Search domains that lead elsewhere.
fn misled(e: &Evidence, subject: &Subject) -> Vec<Finding> {
    let of_host: &[String] = e.host.as_ref().map_or(&[], |h| &h.search);
    let finding = |message: String| Finding::new(&LEAK, Severity::Warn, subject.clone(), message).key(KeyKind::Container, &e.id);
    let wild = |domain: &String| e.wildcards.iter().any(|w| w.domain == *domain);
    // a domain of this host is told of once, by dns.search
    let wildcards = e.wildcards.iter().filter(|w| !of_host.contains(&w.domain)).map(|w| {
        let to = leak::list(&w.addresses);
        finding(format!("in {} every name has an address in the search domain {} ({to})", subject.name, w.domain))
    });
    // where every name has an address, one that does not run has one too
    let leaks = e.leaks.iter().filter(|l| l.runs || !wild(&l.domain)).map(|l| {
        let state = if l.runs { "" } else { ", which does not run," };
        finding(format!(
            "in {} the container {}{state} is found as {}.{} at {}, which is no container of this host",
            subject.name,
            l.name,
            l.name,
            l.domain,
            leak::list(&l.addresses)
        ))
    });
    wildcards.chain(leaks).collect()
}
