//! The failing step of a walk: one clause of a message, and the next command.

use std::net::IpAddr;

use opsctl_core::model::address::join;
use opsctl_core::model::{Finding, KeyKind};
use opsctl_core::probe::endpoint::EndpointResult;
use opsctl_core::probe::names::{LibcLookup, Lookup};
use opsctl_core::probe::nginx::DocumentFault;

use super::{Place, Walk};
use crate::shared::log_reason::{with_log, with_reason};

/// Duration from which the lookup of a name explains a slow response, in milliseconds (judgement: 1 s).
const SLOW_LOOKUP_MS: u64 = 1000;

/// The failing step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::healthcheck) struct Failed {
    /// For the message: `no listener on port 8080`.
    pub(in crate::healthcheck) words: String,
    /// The next command; `None` for that of the object which serves the endpoint.
    pub(in crate::healthcheck) hint: Option<String>,
}

impl Failed {
    #[expect(clippy::unnecessary_wraps, reason = "every step returns an option")]
    fn new(words: String, hint: impl Into<Option<String>>) -> Option<Self> {
        Some(Self { words, hint: hint.into() })
    }
}

impl Walk {
    /// The first step that fails, in the order of a request.
    pub(in crate::healthcheck) fn failed(&self, last: &EndpointResult) -> Option<Failed> {
        let connected = matches!(last, EndpointResult::Answered { .. } | EndpointResult::Connected { .. });
        if connected {
            return self.by_hosts_file().or_else(|| self.file()).or_else(|| self.upstream(last));
        }
        self.name(last)
            .or_else(|| self.by_hosts_file())
            .or_else(|| self.no_local_port(last))
            .or_else(|| self.no_route(last))
            .or_else(|| self.no_listener())
            .or_else(|| self.filtered())
            .or_else(|| self.upstream(last))
            .or_else(|| self.unanswered(last))
    }

    /// A name that the C library does not resolve.
    fn name(&self, last: &EndpointResult) -> Option<Failed> {
        let names = self.names.as_ref().filter(|_| matches!(last, EndpointResult::Unreachable(_)) && self.address.is_none())?;
        let host = &self.host;
        if let (Some(end), Some(line)) = (names.sources.dead_end(), &names.sources.line) {
            let known = if names.in_dns().is_empty() { String::new() } else { format!(", and DNS has {host}") };
            let hint =
                "the hosts line of /etc/nsswitch.conf needs `dns` (or `resolve`), and no entry before it may end the search";
            return Failed::new(format!("nsswitch.conf has `hosts: {line}`: {}{known}", end.words()), hint.to_owned());
        }
        match (&names.libc, &names.dns) {
            (LibcLookup::NoSuchName, Some(Lookup::Up(addresses))) => Failed::new(
                format!("DNS has {host} ({}), and the name service of this host does not", list(addresses)),
                format!("getent ahosts {host}; grep hosts: /etc/nsswitch.conf"),
            ),
            (_, Some(Lookup::NoAnswer(why))) => {
                Failed::new(format!("no name server replies for {host}: {why}"), "opsctl dns".to_owned())
            }
            (_, Some(Lookup::NoSuchName)) => Failed::new(
                format!("{host} is neither in /etc/hosts nor in DNS"),
                format!("correct the name, or its record: getent ahosts {host}; dig {host}"),
            ),
            _ => None,
        }
    }

    /// The hosts file hides another address that works.
    fn by_hosts_file(&self) -> Option<Failed> {
        let names = self.names.as_ref().filter(|names| self.by_dns == Some(true) && names.contradict())?;
        let (host, file, dns) = (&self.host, list(&names.file), list(names.in_dns()));
        Failed::new(
            format!("/etc/hosts has {host} as {file}, DNS has {dns}, which responds as expected"),
            format!("correct or remove {host} in /etc/hosts"),
        )
    }

    /// EADDRNOTAVAIL (connect(2)): all local ports are in use.
    fn no_local_port(&self, last: &EndpointResult) -> Option<Failed> {
        let EndpointResult::Unreachable(why) = last else { return None };
        why.contains("Cannot assign requested address").then_some(())?;
        Failed::new(
            format!("this host has no local port left for a connection to {}", join(&self.host, self.port)),
            "ss -tan state time-wait | wc -l; sysctl net.ipv4.ip_local_port_range: reuse connections, or widen the range"
                .to_owned(),
        )
    }

    fn no_route(&self, last: &EndpointResult) -> Option<Failed> {
        let address = self.address.filter(|_| self.routed && !self.own)?;
        let EndpointResult::Unreachable(why) = last else { return None };
        let hint = format!("ip route get {address}; ip rule; ip route show table all");
        if let Some(route) = &self.route {
            let by = self.by_interface(route.gateway);
            // EHOSTUNREACH: no answer to ARP, or a reject by a packet filter (ICMP)
            why.contains("No route to host").then_some(())?;
            return Failed::new(
                format!("{address} is routed {by}, where the next hop does not respond or the packets are rejected"),
                format!("ip neigh show dev {}; ip route get {address}", route.interface),
            );
        }
        let kind = match why {
            w if w.contains("No route to host") => "an unreachable route",
            w if w.contains("Permission denied") => "a prohibit route",
            w if w.contains("Invalid argument") => "a blackhole route",
            _ => return Failed::new(format!("no route to {address}"), hint),
        };
        Failed::new(format!("{kind} matches {address}"), hint)
    }

    fn no_listener(&self) -> Option<Failed> {
        let listening = self.listening.as_ref().filter(|_| self.own)?;
        let (address, port) = (self.address?, self.port);
        if listening.is_empty() {
            let Some(candidate) = self.candidates.first() else {
                return Failed::new(
                    format!("no listener on port {port} of this host"),
                    format!("ss -ltnp 'sport = :{port}'; start the service, or correct the port of the endpoint"),
                );
            };
            let others = self.candidates.len() - 1;
            let others = if others == 0 { String::new() } else { format!(" (and {others} other candidates)") };
            return Failed::new(
                format!("no listener on port {port} of this host: {}{others}", candidate.words()),
                candidate.hint(),
            );
        }
        let serves = |on: &IpAddr| *on == address || (on.is_unspecified() && (on.is_ipv6() || address.is_ipv4()));
        if listening.iter().any(serves) {
            return None;
        }
        Failed::new(
            format!("port {port} listens on {} only, and the endpoint is at {address}", list(listening)),
            format!("bind the service to {address} or 0.0.0.0, or correct the endpoint: ss -ltnp 'sport = :{port}'"),
        )
    }

    fn filtered(&self) -> Option<Failed> {
        let rule = self.filter.as_ref()?;
        Failed::new(rule.clone(), "iptables -S; nft list ruleset: correct the rule, or accept these packets before it".to_owned())
    }

    /// An upstream that fails, if it can only be that one.
    fn upstream(&self, last: &EndpointResult) -> Option<Failed> {
        let is_failure =
            matches!(last, EndpointResult::Answered { status: 502..=504, .. } | EndpointResult::Timeout | EndpointResult::Closed);
        let failing: Vec<&(String, String)> = self.upstreams.iter().filter(|(_, words)| words != "connected").collect();
        let (label, words) = failing.first().filter(|_| is_failure)?;
        let certain = failing.len() == self.upstreams.len() && (self.one_site || self.upstreams.len() == 1);
        certain.then_some(())?;
        Failed::new(
            format!("its upstream {label} fails: {words}"),
            format!("start or repair {label}; then request the endpoint again"),
        )
    }

    fn file(&self) -> Option<Failed> {
        let fault = self.document.as_ref()?;
        let hint = match fault {
            DocumentFault::Denied { user, permission, path } => {
                let path = path.split(" has mode").next().unwrap_or_default();
                let access = if permission == "search" { "x" } else { "r" };
                format!("namei -l {path}; grant the workers access, for example setfacl -m u:{user}:{access} {path}")
            }
            DocumentFault::Missing { path } => format!("ls -la {path}: deploy the file, or correct root and alias"),
            DocumentFault::NoIndex { path, .. } => format!("ls -la {path}: deploy the index file, or correct root and index"),
        };
        Failed::new(fault.to_string(), hint)
    }

    /// Packets to another host without any reply.
    fn unanswered(&self, last: &EndpointResult) -> Option<Failed> {
        let address = self.address.filter(|_| !self.own && *last == EndpointResult::Timeout)?;
        let by = self.by_interface(self.route.as_ref()?.gateway);
        let hint = "check the service and the packet filters on that host and on the way".to_owned();
        matches!(self.place, Place::Elsewhere).then_some(())?;
        Failed::new(format!("no response from {address}, {by}"), hint)
    }

    /// `by eth0 through 10.0.0.1`.
    fn by_interface(&self, gateway: Option<IpAddr>) -> String {
        let interface = self.route.as_ref().map(|r| r.interface.as_str()).unwrap_or_default();
        let through = gateway.map(|g| format!(" through {g}")).unwrap_or_default();
        format!("by {interface}{through}")
    }

    /// The next command for the object that serves it.
    fn command(&self) -> String {
        let at = join(&self.host, self.port);
        match &self.place {
            Place::Container { name } => format!("the service itself fails: read its log, docker logs --tail 50 {name}"),
            Place::Unit { unit } => format!("the service itself fails: read its log, journalctl -u {unit} -n 50"),
            Place::Process { program, pid } => {
                format!("the service itself fails: read the log of {program} (pid {pid}): ls -l /proc/{pid}/fd")
            }
            Place::Elsewhere => format!("check the service at {at} and its log"),
        }
    }

    /// Adds the steps, the log and the next command to a finding; without `fails` the finding keeps its own hint.
    pub(in crate::healthcheck) fn describe(&self, mut finding: Finding, failed: Option<&Failed>, fails: bool) -> Finding {
        if self.host.is_empty() {
            return finding;
        }
        if let Some(failed) = failed {
            finding.message = format!("{}; {}", finding.message, failed.words);
        } else if !self.log.entries.is_empty() {
            finding.message = with_reason(finding.message, &self.log);
        }
        if fails {
            finding = finding.hint(self.command());
        }
        // its reason has a hint of its own
        finding = with_log(finding, &self.log);
        if let Some(hint) = failed.and_then(|f| f.hint.clone()) {
            finding = finding.hint(hint);
        }
        for candidate in self.candidates.iter().filter(|c| c.is_certain) {
            if let Some(id) = &candidate.container {
                finding = finding.key(KeyKind::Container, id);
            }
            if let Some(unit) = &candidate.unit {
                finding = finding.key(KeyKind::Unit, unit);
            }
        }
        for (label, value) in self.cited() {
            finding = finding.cite(label, value);
        }
        finding
    }

    /// The steps as evidence.
    fn cited(&self) -> Vec<(String, String)> {
        let mut cited = Vec::new();
        let mut cite = |label: &str, value: String| {
            if !value.is_empty() {
                cited.push((label.to_owned(), value));
            }
        };
        if let Some(names) = &self.names {
            cite("name in /etc/hosts", list(&names.file));
            let libc = match &names.libc {
                LibcLookup::Up(addresses) => list(addresses),
                LibcLookup::NoSuchName => "not found".to_owned(),
                LibcLookup::Failed(why) => why.clone(),
                LibcLookup::Unknown => String::new(),
            };
            let slow = if names.libc_ms >= SLOW_LOOKUP_MS { format!(", after {} ms", names.libc_ms) } else { String::new() };
            cite("name by libc", if libc.is_empty() { libc } else { format!("{libc}{slow}") });
            cite(
                "name in DNS",
                match &names.dns {
                    Some(Lookup::Up(addresses)) => list(addresses),
                    Some(Lookup::NoSuchName) => "not found".to_owned(),
                    Some(Lookup::NoAnswer(why)) => why.clone(),
                    None => String::new(),
                },
            );
        }
        if let (Some(address), Some(route)) = (self.address, &self.route)
            && !self.own
        {
            cite("route", format!("{address} {}", self.by_interface(route.gateway)));
        }
        if let Some(listening) = &self.listening {
            cite("listener", if listening.is_empty() { "none".to_owned() } else { list(listening) });
        }
        for candidate in self.candidates.iter().skip(1) {
            cite("not running", candidate.words());
        }
        for (label, words) in &self.upstreams {
            cite("upstream", format!("{label}: {words}"));
        }
        cited
    }
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().take(4).map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
