//! Probes the path from a client to the service it needs. A working path costs one connection at most.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use opsctl_core::model::{Kind, Object};
use opsctl_core::probe::docker::Container;
use opsctl_core::probe::names::Lookup;
use opsctl_core::probe::needs;
use opsctl_core::probe::needs::{ConnectResult, Dependency, DependencyGraph, DependencySource};
use opsctl_core::probe::network::listeners::{ConnectionState, connection_state};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};

use super::DATABASES;
use super::ladder::{Aim, Ladder, Owner};
use super::providers::{Providers, same_product, serves};
use crate::shared::servers::READ_TIMEOUT;

/// The steps of the path; `None` if it works, or if the service is not on this host.
pub(super) async fn climb(cx: &ProbeCx, known: &DependencyGraph, need: &Dependency) -> Result<Option<Ladder>, ProbeError> {
    let all = &known.neighbours;
    let from = need.consumer.container.as_deref().and_then(|id| all.get(id));
    let target = need.target.as_deref().and_then(|id| all.get(id));
    let mut ladder = Ladder {
        host: need.host.clone(),
        port: need.port,
        how: Some(need.how.clone()),
        on_host: all.on_host(from),
        networks: from.map(|c| all.holder(c).networks.keys().cloned().collect()).unwrap_or_default(),
        target: target.map(|c| aim(all, c)),
        shared: target.map(|c| all.shared(from, c)).unwrap_or_default(),
        consumer: need.consumer.container.is_none().then(|| subject_of(need)),
        uncertain: is_uncertain(need),
        ..Ladder::default()
    };
    let scraped = matches!(need.how, DependencySource::Scrape { .. });
    if let Some(target) = target {
        if !target.is_up() {
            return Ok(Some(ladder));
        }
        if !scraped && works(cx, known, need, from, target).await? {
            return Ok(None);
        }
    }

    let lookup = cx.lookup_as(need.consumer.pid, &need.host).await?;
    let addresses = match &lookup {
        Lookup::Up(addresses) => addresses.clone(),
        // whether a name exists is unknown without an answer, and whether a variable is used as well
        Lookup::NoAnswer(_) if ladder.uncertain && target.is_none() => return Ok(None),
        _ => Vec::new(),
    };
    ladder.looked = Some(lookup);
    let Some(first) = addresses.first() else {
        if is_default(cx, need, &ladder).await {
            return Ok(None);
        }
        ladder.aliases = all.elsewhere(from, &need.host).iter().map(|(c, n)| (c.name.clone(), (*n).to_owned())).collect();
        return Ok(Some(ladder));
    };
    let is_target =
        |ip: &&IpAddr| all.owner(**ip).is_some_and(|o| target.is_some_and(|t| is_equivalent(known, from, o, t, &need.host)));
    let address = addresses.iter().find(is_target).or_else(|| addresses.iter().find(|a| a.is_ipv4())).unwrap_or(first);
    ladder.address = Some(*address);
    let Some((owner, pid, aimed)) = owner_of(cx, known, need, from, target, *address).await else { return Ok(None) };
    ladder.owner = Some(owner);
    if ladder.target.is_none() {
        ladder.shared = aimed.as_ref().and_then(|a| all.get(&a.id)).map(|c| all.shared(from, c)).unwrap_or_default();
        ladder.target = aimed;
    }

    let at = SocketAddr::new(*address, need.port);
    // an entry that hides the address in Docker's DNS
    if need.host.parse::<IpAddr>().is_err() && cx.in_hosts_file(need.consumer.pid, &need.host).await.contains(address) {
        ladder.hosts_file = true;
    }
    if target.is_none() && !scraped && proven(cx, need, pid, at).await? {
        return Ok(None);
    }
    let reached = cx.reach(Some(need.consumer.pid), at).await?;
    let connected = reached == ConnectResult::Connected;
    ladder.reached = Some(reached);
    if connected && !scraped {
        return Ok(None);
    }
    ladder.listening = match pid {
        Some(pid) => needs::listening(cx, pid, false).await.ok(),
        None => None,
    };
    if connected {
        if let DependencySource::Scrape { url, path, .. } = &need.how
            && url.starts_with("http:")
        {
            ladder.answered = Some(cx.scrape(&need.consumer, at, &ladder.endpoint(), path).await?);
        }
    } else {
        elsewhere(cx, &mut ladder, pid, at).await;
    }
    if !scraped && !connected && ladder.is_silent() {
        ladder.instead = same_product(cx, known, need.port, from).await;
        let on_host = ladder.target.as_ref().is_some_and(|t| t.id.is_empty());
        if on_host {
            ladder.providers = Providers::of(cx, known, need.port);
        }
        // without a server of the product, a loopback address in a container is a default that is not used
        let is_idle = address.is_loopback() && !on_host && ladder.instead.is_empty();
        if is_idle || is_default(cx, need, &ladder).await {
            return Ok(None);
        }
    }
    Ok(Some(ladder))
}

/// The unit or process that needs it.
fn subject_of(need: &Dependency) -> Object {
    match &need.consumer.unit {
        Some(unit) => Object::named(Kind::Unit, unit),
        None => Object::new(Kind::Process, need.consumer.name.clone(), need.consumer.pid.to_string()),
    }
}

/// Whether the variable may be unused, or its port a guess: it names neither a container nor a port of one.
fn is_uncertain(need: &Dependency) -> bool {
    let by_variable = matches!(need.how, DependencySource::Environment { .. });
    by_variable && (need.target.is_none() || need.consumer.container.is_none() || need.is_assumed())
}

/// Whether an uncertain need is a default of the image: the program may not use it.
async fn is_default(cx: &ProbeCx, need: &Dependency, ladder: &Ladder) -> bool {
    let (true, Some(container), DependencySource::Environment { variable, .. }) =
        (ladder.uncertain, &need.consumer.container, &need.how)
    else {
        return false;
    };
    cx.is_image_default(container, variable).await == Some(true)
}

/// Whether kernel state proves that a port of this host, or of the client itself, is open. Databases log a connection without data.
async fn proven(cx: &ProbeCx, need: &Dependency, owner: Option<i32>, at: SocketAddr) -> Result<bool, ProbeError> {
    let consumer = i64::from(need.consumer.pid);
    let read = move |io: &Io| connection_state(io, consumer, at);
    let state = blocking::run("connections", &format!("/proc/{consumer}/net/tcp"), READ_TIMEOUT, read).await?;
    if state == ConnectionState::Works {
        return Ok(true);
    }
    if let Some(owner) = owner.filter(|_| DATABASES.contains(&need.port) && state == ConnectionState::None)
        && let Ok(listening) = needs::listening(cx, owner, false).await
    {
        return Ok(listening.iter().any(|l| serves(l, at.ip(), at.port())));
    }
    Ok(false)
}

/// Whether a need is met, by kernel state first: established connections, then listeners; only then by a probe connection.
async fn works(
    cx: &ProbeCx,
    known: &DependencyGraph,
    need: &Dependency,
    from: Option<&Container>,
    target: &Container,
) -> Result<bool, ProbeError> {
    let all = &known.neighbours;
    // a name outside Docker's DNS has to be resolved, and so has one in the hosts file, which is read before DNS
    let is_address = need.host.parse::<IpAddr>().is_ok();
    let answered = || all.answers(from, target, &need.host);
    let named = is_address || (answered() && cx.in_hosts_file(need.consumer.pid, &need.host).await.is_empty());
    let (true, Some(address)) = (named, all.address(from, target)) else { return Ok(false) };
    let address = need.host.parse().unwrap_or(address);
    let at = SocketAddr::new(address, need.port);
    let consumer = i64::from(need.consumer.pid);
    let read = move |io: &Io| connection_state(io, consumer, at);
    let state = blocking::run("connections", &format!("/proc/{consumer}/net/tcp"), READ_TIMEOUT, read).await?;
    if state == ConnectionState::Works {
        return Ok(true);
    }
    if let Some(pid) = target.pid()
        && let Ok(listening) = needs::listening(cx, pid, false).await
    {
        let open = listening.iter().any(|l| l.port == need.port && (l.address.is_unspecified() || l.address == address));
        if !open {
            return Ok(false);
        }
        if DATABASES.contains(&need.port) && state == ConnectionState::None {
            return Ok(true);
        }
    }
    Ok(cx.reach(Some(need.consumer.pid), at).await? == ConnectResult::Connected)
}

/// Whether `other` is equivalent to the target: one of several containers with the same name.
fn is_equivalent(known: &DependencyGraph, from: Option<&Container>, other: &Container, target: &Container, host: &str) -> bool {
    let holder = |c| &known.neighbours.holder(c).id;
    holder(other) == holder(target) || known.neighbours.answers(from, other, host)
}

/// The owner of an address, a process in its network namespace, and its description; `None` for another host.
async fn owner_of(
    cx: &ProbeCx,
    known: &DependencyGraph,
    need: &Dependency,
    from: Option<&Container>,
    target: Option<&Container>,
    address: IpAddr,
) -> Option<(Owner, Option<i32>, Option<Aim>)> {
    let all = &known.neighbours;
    let here = Aim { name: "this host".to_owned(), state: "running".to_owned(), up: true, ..Aim::default() };
    if address.is_loopback() {
        // its own address
        let own = from.map_or(here, |c| aim(all, c));
        return Some((Owner::Meant, Some(need.consumer.pid), Some(own)));
    }
    if let Some(owner) = all.owner(address) {
        // its own address is announced to others
        if target.is_none() && from.is_some_and(|from| all.holder(from).id == all.holder(owner).id) {
            return None;
        }
        let pid = owner.pid();
        return Some(match target {
            Some(target) if !is_equivalent(known, from, owner, target, &need.host) => {
                (Owner::Other(owner.name.clone()), pid, None)
            }
            _ => (Owner::Meant, pid, Some(aim(all, owner))),
        });
    }
    if cx.is_own_address(address).await {
        return Some((Owner::Meant, i32::try_from(std::process::id()).ok(), Some(here)));
    }
    // of another host only the name is known
    target.map(|_| (Owner::Nobody, None, None))
}

/// The same connection from the host and inside the target: only if the cause is not known yet.
async fn elsewhere(cx: &ProbeCx, ladder: &mut Ladder, pid: Option<i32>, at: SocketAddr) {
    let on: Option<Vec<&needs::Listening>> =
        ladder.listening.as_ref().map(|l| l.iter().filter(|l| l.port == at.port()).collect());
    let silent = on.as_ref().is_some_and(Vec::is_empty);
    let loopback = on.as_ref().is_some_and(|on| on.iter().all(|l| l.address.is_loopback()));
    let Some(pid) = pid.filter(|_| !(silent || DATABASES.contains(&at.port()) && loopback)) else { return };
    let inside = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), at.port());
    let (lo, own, host) = tokio::join!(
        Box::pin(cx.reach(Some(pid), inside)),
        Box::pin(cx.reach(Some(pid), at)),
        Box::pin(async { if at.ip().is_loopback() { None } else { cx.reach(None, at).await.ok() } })
    );
    (ladder.inside_loopback, ladder.inside_own, ladder.from_host) = (lo.ok(), own.ok(), host);
}

fn aim(all: &needs::Neighbours, c: &Container) -> Aim {
    Aim {
        id: c.id.clone(),
        name: c.name.clone(),
        state: c.state.status.clone(),
        up: c.is_up(),
        started_at: c.state.started_at,
        networks: all.holder(c).networks.keys().cloned().collect(),
    }
}
