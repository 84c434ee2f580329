//! Listeners of containers: needed ports are open for other containers, not only on the loopback address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Impact, Inventory, Judged, Judgement, KeyKind, Object, Role, Severity, has_own_network,
    quantity,
};
use opsctl_core::probe::docker::Container;
use opsctl_core::probe::needs;
use opsctl_core::probe::needs::{Binding, ConnectResult, Listening};
use opsctl_core::probe::network::listeners::v6_only;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::{DATABASES, Settings, is_young, port_key};

const LOOPBACK: Code = Code {
    id: "network.loopback-only",
    severities: &[Severity::Warn, Severity::Crit],
    when: "a port that another container needs, or that is published, is open on the loopback address of its container only: connections from outside the container are refused (crit); the same for a port of the image without a known client, with other containers in its network (warn)",
    hint: "let the service listen on 0.0.0.0 (often HOST, BIND or LISTEN in its settings): 127.0.0.1 is separate in every container",
    impacts: &[Impact::confirmed(Role::PortClosed, KeyKind::Port, "port is open on the loopback address only")],
    ..Code::BASE
};

const MISSING: Code = Code {
    id: "network.missing",
    severities: &[Severity::Warn, Severity::Crit],
    when: "a port that another container needs has no listener (crit; warn in the first {starting_s} of the container)",
    hint: "check the log of the service and its configured port",
    impacts: &[Impact::confirmed(Role::PortClosed, KeyKind::Port, "port has no listener")],
    ..Code::BASE
};

const WRONG: Code = Code {
    id: "network.wrong-port",
    severities: &[Severity::Info, Severity::Crit],
    when: "a port that another container needs or that is published has no listener, but the container listens on another one (crit); the same for the ports of its image without a known client (info)",
    hint: "use the same port for the listener and the clients",
    impacts: &[Impact::confirmed(Role::PortClosed, KeyKind::Port, "service listens on another port")],
    ..Code::BASE
};

const FAMILY: Code = Code {
    id: "network.family",
    severities: &[Severity::Crit],
    when: "a port is open for IPv6 only but needed over IPv4, or vice versa",
    hint: "let the service listen on both: on [::] with net.ipv6.bindv6only = 0, or on 0.0.0.0 too",
    impacts: &[Impact::confirmed(Role::PortClosed, KeyKind::Port, "port is open for the other address family only")],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "network.listeners",
    title: "Needed ports are open for other containers",
    codes: &[LOOPBACK, MISSING, WRONG, FAMILY],
    fixes: &[],
    timeout: Duration::from_secs(8),
};

pub(super) struct Listeners {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    container: Container,
    listening: Vec<Listening>,
    wanted: Vec<RequestedPort>,
    /// Running containers that share a network with it.
    others: usize,
    /// `net.ipv6.bindv6only` in the container, if relevant.
    v6_only: Option<bool>,
    /// Ports open on `[::]` that refuse IPv4 connections: the program set `IPV6_V6ONLY`.
    refused_v4: Vec<u16>,
    /// Variables that may contain its bind address; only on suspicion.
    bindings: Vec<Binding>,
}

/// A client that needs a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RequestedPort {
    port: u16,
    by: String,
    /// Requested by an IPv6 address.
    #[serde(default)]
    v6: bool,
}

impl Check for Listeners {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        // on the host network the loopback address is sufficient; a shared network namespace is checked with its owner
        inventory.container_targets(|c| c.state == "running" && has_own_network(&c.network_mode))
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let container = cx.running(target).await?;
        let known = cx.needs().await?;
        let dependencies: Vec<&needs::Dependency> =
            known.list.iter().filter(|n| n.target.as_deref() == Some(container.id.as_str()) && !n.is_assumed()).collect();
        if dependencies.is_empty() && container.ports.is_empty() && container.exposed.is_empty() {
            return Err(ProbeError::Skip("it has no known client".to_owned()));
        }
        let requested_port =
            |n: &&needs::Dependency| RequestedPort { port: n.port, by: n.label(), v6: n.host.parse::<Ipv6Addr>().is_ok() };
        let pid = container.process()?;
        let mut e = Evidence {
            listening: needs::listening(cx, pid, false).await?,
            wanted: dependencies.iter().map(requested_port).collect(),
            others: known.neighbours.others(&container),
            container: (*container).clone(),
            ..Evidence::default()
        };
        let requested = e.requested_ports();
        // open on the IPv6 wildcard only, which covers IPv4 unless IPV6_V6ONLY is set
        let wide = |port: &u16| e.on(*port).iter().any(|l| l.address == IpAddr::V6(Ipv6Addr::UNSPECIFIED)) && !e.has_v4(*port);
        let only_v6: BTreeSet<u16> = requested.keys().copied().filter(wide).collect();
        if !only_v6.is_empty() {
            e.v6_only = v6_only(pid).await;
        }
        for need in dependencies.iter().filter(|n| only_v6.contains(&n.port) && !DATABASES.contains(&n.port)) {
            let from = need.consumer.container.as_deref().and_then(|id| known.neighbours.get(id));
            let Some(ip) = known.neighbours.address(from, &container) else { continue };
            // the triage uses the same connection: it is made once
            if let Ok(ConnectResult::Refused) = cx.reach(Some(need.consumer.pid), SocketAddr::new(ip, need.port)).await {
                e.refused_v4.push(need.port);
            }
        }
        e.refused_v4.sort_unstable();
        e.refused_v4.dedup();
        let suspicious = |port: &u16| e.on(*port).iter().all(|l| l.address.is_loopback());
        if requested.keys().any(suspicious)
            || (requested.is_empty() && container.exposed.iter().any(suspicious))
            || !e.refused_v4.is_empty()
        {
            e.listening = needs::listening(cx, pid, true).await?;
            e.bindings = needs::bindings(cx, &container.id).await;
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut judgement = Judgement::default();
        let young = is_young(e.container.state.started_at, judged.taken_at, &self.settings);
        let requested = e.requested_ports();
        for (port, by) in &requested {
            if let Some(problem) = problem(e, &requested, *port) {
                let needed = e.wanted.iter().any(|w| w.port == *port);
                match problem {
                    Problem::Closed { .. } if young => {
                        judgement.pending.push(format!("{} to listen on port {port}", e.container.name));
                        if needed {
                            judgement
                                .findings
                                .push(e.closed(*port, by, &[], Severity::Warn).cite("started", "less than a minute ago"));
                        }
                    }
                    // a dead published port is reported by healthcheck.tcp, unless the cause is known here
                    Problem::Closed { ref instead } if needed || !instead.is_empty() => {
                        judgement.findings.push(e.closed(*port, by, instead, Severity::Crit));
                    }
                    Problem::Closed { .. } => {}
                    Problem::Loopback => judgement.findings.push(e.loopback(*port, by)),
                    Problem::Family(words) => judgement.findings.push(e.family(*port, by, &words)),
                }
            }
        }
        if requested.is_empty() && !young {
            judgement.findings.extend(e.of_image());
        }
        judgement
    }
}

/// The fault of a requested port.
enum Problem {
    Loopback,
    /// No listener; the listed open ports are requested by no client.
    Closed {
        instead: Vec<u16>,
    },
    Family(String),
}

fn problem(e: &Evidence, requested: &BTreeMap<u16, Vec<String>>, port: u16) -> Option<Problem> {
    let on = e.on(port);
    if on.is_empty() {
        return Some(Problem::Closed { instead: e.spare(requested) });
    }
    let open: Vec<&&Listening> = on.iter().filter(|l| !l.address.is_loopback()).collect();
    if open.is_empty() {
        return Some(Problem::Loopback);
    }
    let (v4, v6) = (open.iter().any(|l| l.address.is_ipv4()), open.iter().any(|l| l.address.is_ipv6()));
    // the IPv6 wildcard serves IPv4 too, unless IPV6_V6ONLY is set
    let narrow = e.v6_only == Some(true) || e.refused_v4.contains(&port);
    let over_v6 = e.wanted.iter().any(|w| w.port == port && w.v6);
    let over_v4 = e.wanted.iter().any(|w| w.port == port && !w.v6) || e.published(port).is_some();
    if over_v4 && !v4 && v6 && narrow {
        return Some(Problem::Family("for IPv6 only, but it is needed over IPv4".to_owned()));
    }
    (over_v6 && !v6).then(|| Problem::Family("for IPv4 only, but it is needed over IPv6".to_owned()))
}

impl Evidence {
    fn on(&self, port: u16) -> Vec<&Listening> {
        self.listening.iter().filter(|l| l.port == port).collect()
    }

    fn has_v4(&self, port: u16) -> bool {
        self.on(port).iter().any(|l| l.address.is_ipv4() && !l.address.is_loopback())
    }

    fn published(&self, port: u16) -> Option<u16> {
        self.container.ports.iter().find(|p| p.container == port).map(|p| p.host)
    }

    /// The needed or published ports, each with its clients.
    fn requested_ports(&self) -> BTreeMap<u16, Vec<String>> {
        let mut requested: BTreeMap<u16, Vec<String>> = BTreeMap::new();
        for w in &self.wanted {
            requested.entry(w.port).or_default().push(w.by.clone());
        }
        for p in &self.container.ports {
            requested.entry(p.container).or_default().push(format!("clients of port {} of this host", p.host));
        }
        for by in requested.values_mut() {
            by.sort();
            by.dedup();
        }
        requested
    }

    /// Ports that are open for others, without a known client.
    fn spare(&self, requested: &BTreeMap<u16, Vec<String>>) -> Vec<u16> {
        let open = self.listening.iter().filter(|l| !l.address.is_loopback() && !requested.contains_key(&l.port)).map(|l| l.port);
        open.collect::<BTreeSet<u16>>().into_iter().collect()
    }

    fn finding(&self, code: &'static Code, severity: Severity, port: u16, message: String) -> Finding {
        let listeners: Vec<String> = self.listening.iter().map(Listening::socket_address).collect();
        let holder = self.on(port).iter().find_map(|l| l.process.clone());
        let holder = holder.or_else(|| self.listening.iter().find_map(|l| l.process.clone()));
        let set = |b: &Binding| match &b.address {
            Some(address) => format!("{}={address}", b.variable),
            None => b.variable.clone(),
        };
        Finding::new(code, severity, self.container.subject(), message)
            .key(KeyKind::Container, &self.container.id)
            .key(KeyKind::Port, port_key(&self.container.id, port))
            .cite("listeners", if listeners.is_empty() { "none".to_owned() } else { listeners.join(", ") })
            .cite_opt("process", holder)
            .cite("bind address variables", self.bindings.iter().map(set).collect::<Vec<_>>().join(", "))
    }

    fn loopback(&self, port: u16, by: &[String]) -> Finding {
        let at = self.at(port);
        let message = format!("{} listens on {at} only, and port {port} is needed by {}", self.container.name, list(by));
        self.finding(&LOOPBACK, Severity::Crit, port, message).cite(
            "inside and outside",
            "its own health check and connections from inside succeed: 127.0.0.1 is separate in every container, so other connections are refused",
        )
    }

    fn at(&self, port: u16) -> String {
        self.on(port).iter().map(|l| l.socket_address()).collect::<Vec<_>>().join(" and ")
    }

    fn closed(&self, port: u16, by: &[String], instead: &[u16], severity: Severity) -> Finding {
        let name = &self.container.name;
        let nothing = format!("{name} has no listener on port {port}, which is needed by {}", list(by));
        if instead.is_empty() {
            return self.finding(&MISSING, severity, port, nothing);
        }
        let instead: Vec<String> = instead.iter().map(ToString::to_string).collect();
        self.finding(&WRONG, severity, port, format!("{nothing}; it listens on {} instead", instead.join(", ")))
    }

    fn family(&self, port: u16, by: &[String], words: &str) -> Finding {
        let message = format!("{} listens on {} {words} by {}", self.container.name, self.at(port), list(by));
        self.finding(&FAMILY, Severity::Crit, port, message)
            .cite_opt("net.ipv6.bindv6only", self.v6_only.map(|only| if only { "1" } else { "0" }))
    }

    /// The exposed ports of the image, without a known client: only if none of them is reachable.
    fn of_image(&self) -> Option<Finding> {
        if self.others == 0 || self.container.exposed.iter().any(|p| self.on(*p).iter().any(|l| !l.address.is_loopback())) {
            return None;
        }
        let open = self.spare(&BTreeMap::new());
        let first = *self.container.exposed.first()?;
        if let Some(port) = self.container.exposed.iter().find(|p| !self.on(**p).is_empty()) {
            // another program of the container may be its proxy
            let message = format!(
                "{} listens on {} only, but its image exposes port {port}; {} in its networks",
                self.container.name,
                self.at(*port),
                if self.others == 1 {
                    "1 other container is".to_owned()
                } else {
                    format!("{} other containers are", self.others)
                },
            );
            return open.is_empty().then(|| self.finding(&LOOPBACK, Severity::Warn, *port, message).likely());
        }
        let open: Vec<String> = open.iter().map(ToString::to_string).collect();
        let message =
            format!("{} has no listener on port {first} of its image; it listens on {}", self.container.name, open.join(", "));
        (!open.is_empty()).then(|| self.finding(&WRONG, Severity::Info, first, message).likely())
    }
}

/// At most three, and the number of further ones.
fn list(by: &[String]) -> String {
    quantity::some_of(by, 3)
}
