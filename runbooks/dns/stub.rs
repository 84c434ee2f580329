//! Contents of resolv.conf, and listeners at the loopback addresses it lists.

use std::net::IpAddr;
use std::time::Duration;

use opsctl_core::model::{
    Action, Check, CheckSpec, Code, DependsOn, Finding, FixSpec, Inventory, Judged, Judgement, KeyKind, Object, Plan, Refusal,
    Risk, Role, Severity,
};
use opsctl_core::probe::names::{FileState, MAXNS, NameServer, PATH, ResolvFile, hosts_line, resolv_conf_of};
use opsctl_core::probe::network::listeners;
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::status::{ServerStatus, status_of};
use crate::shared::processes::of_host;
use crate::shared::servers::READ_TIMEOUT;

const STUB: Code = Code {
    id: "dns.stub",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "resolv.conf is missing, a dangling link, unreadable or without name servers, or lists a loopback address without a listener (crit; warn if names still resolve); it lists over three servers, or one twice, or has ndots:5 or more (info)",
    hint: "start the name server of this machine, or list a working one in /etc/resolv.conf",
    depends_on: &[&[DependsOn::confirmed(Role::Down, KeyKind::Unit, "its")]],
    ..Code::BASE
};

const RESTART: FixSpec = FixSpec {
    id: "dns.restart-resolved",
    risk: Risk::R2,
    title: "restart systemd-resolved, if resolv.conf lists its address and it does not listen there",
};

static SPEC: CheckSpec = CheckSpec {
    id: "dns.stub",
    title: "resolv.conf lists running name servers",
    codes: &[STUB],
    fixes: &[RESTART],
    timeout: Duration::from_secs(8),
};

const RESOLVED: &str = "systemd-resolved.service";
/// Units of name servers for the local machine.
const LOCAL_RESOLVERS: &[&str] = &[
    "dnsmasq.service",
    "unbound.service",
    "named.service",
    "bind9.service",
    "pdns-recursor.service",
    "dnscrypt-proxy.service",
    "stubby.service",
    "coredns.service",
];
/// `ndots` from which it is reported: names with fewer dots are queried in every search domain first (the setting of Kubernetes).
const HIGH_NDOTS: u32 = 5;

pub(super) struct Stub {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    file: ResolvFile,
    /// Servers on loopback without a listener on UDP port 53, and without a response.
    dead: Vec<NameServer>,
    /// 127.0.0.1, the default without a `nameserver` line, has a listener on UDP port 53 or responds.
    local: bool,
    /// The unit of systemd-resolved; `None` without systemd or the unit.
    resolved: Option<Resolved>,
    /// Units of other name servers on this machine, with their state.
    others: Vec<(String, String)>,
    /// The `hosts` line of nsswitch.conf; only if resolv.conf has no usable server.
    hosts: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Resolved {
    load: String,
    active: String,
    file_state: String,
}

/// The addresses at which systemd-resolved listens (systemd-resolved.service(8)).
fn is_resolved(server: &NameServer) -> bool {
    [[127, 0, 0, 53], [127, 0, 0, 54]].iter().any(|a| server.address == IpAddr::from(*a))
}

/// Whether a socket bound to `open` receives packets for `address`.
fn receives(open: IpAddr, address: IpAddr) -> bool {
    open == address || (open.is_unspecified() && (open.is_ipv6() || address.is_ipv4()))
}

impl Check for Stub {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let file = resolv_conf_of(None).await?;
        if file.state == FileState::Denied && file.hidden_mode.is_none() {
            return Err(ProbeError::Denied {
                subject: "the name servers".to_owned(),
                from: PATH.to_owned(),
                needs: "root".to_owned(),
            });
        }
        let used = file.conf.used();
        let read = |io: &Io| listeners::udp_addresses_of(io, i64::from(std::process::id()), 53).unwrap_or_default();
        let open = blocking::run("listening sockets", "/proc/self/net/udp", READ_TIMEOUT, read).await?;
        let without_listener: Vec<NameServer> =
            used.into_iter().filter(|s| s.is_loopback() && !open.iter().any(|o| receives(*o, s.address))).collect();
        let mut e = Evidence { file, local: without_listener.is_empty(), ..Evidence::default() };
        if e.file.state == FileState::Denied {
            return Ok(e);
        }
        if !without_listener.is_empty() {
            // a NAT rule may redirect the queries, as in a container
            let host = cx.resolvers().host(&self.settings.names, self.settings.query_limits()).await?;
            let silent = |s: &NameServer| host.servers.iter().any(|a| a.server == *s && status_of(a) == ServerStatus::Silent);
            e.dead = without_listener.into_iter().filter(silent).collect();
            e.local = e.dead.is_empty();
        }
        if !e.dead.is_empty() || e.file.conf.servers.is_empty() {
            e.hosts = hosts_line().await;
            e.resolved = resolved(cx).await?;
            e.others = others(&cx.inventory);
        }
        Ok(e)
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut j = Judgement::default();
        if e.file.state == FileState::Denied {
            j.gaps.push(format!("reading {PATH}: permission denied; needs root"));
        }
        j.findings.extend(not_world_readable(e));
        j.findings.extend(no_servers(e).or_else(|| dead(e)));
        j.findings.extend(unusual_settings(e));
        j.findings = j.findings.into_iter().map(of_host).collect();
        j
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        let refuse = |why: String| Err(Refusal::Precondition(why));
        if !e.dead.iter().any(is_resolved) {
            return refuse("resolv.conf does not list systemd-resolved, or it responds".to_owned());
        }
        let Some(unit) = &e.resolved else { return refuse(format!("systemd has no unit {RESOLVED} on this host")) };
        if unit.load == "masked" || unit.file_state == "masked" {
            return Err(Refusal::Policy(format!("{RESOLVED} is masked: disabled on purpose")));
        }
        if unit.load != "loaded" {
            return refuse(format!("{RESOLVED} is {}", unit.load));
        }
        let plan = Plan::new(&RESTART, &SPEC, finding, judged.target, vec![Action::RestartUnit { unit: RESOLVED.to_owned() }])
            .affects(["all programs on this host that resolve names, and the cache of the server".to_owned()])
            .downtime("names do not resolve for a moment");
        let was_off = unit.active != "active";
        let undo = if was_off { vec![Action::StopUnit { unit: RESOLVED.to_owned() }] } else { Vec::new() };
        let plan = if unit.file_state == "disabled" {
            plan.recurs("the unit is not enabled: it is not started at the next boot")
        } else {
            plan
        };
        Ok(plan.undo(undo))
    }
}

async fn resolved(cx: &ProbeCx) -> Result<Option<Resolved>, ProbeError> {
    let Ok(systemd) = cx.systemd() else { return Ok(None) };
    let unit = systemd.unit(RESOLVED).await?;
    let resolved = || Resolved { load: unit.load.clone(), active: unit.active.clone(), file_state: unit.file_state.clone() };
    Ok((unit.load != "not-found").then(resolved))
}

fn others(inventory: &Inventory) -> Vec<(String, String)> {
    let units = inventory.systemd.iter().flat_map(|s| &s.units);
    units.filter(|u| LOCAL_RESOLVERS.contains(&u.name.as_str())).map(|u| (u.name.clone(), u.active.clone())).collect()
}

fn found(severity: Severity, message: String) -> Finding {
    Finding::new(&STUB, severity, Object::host(), message)
}

/// A resolv.conf that is not world-readable.
fn not_world_readable(e: &Evidence) -> Option<Finding> {
    let mode = e.file.hidden_mode?;
    let message =
        format!("{PATH} is only readable by its owner and group (mode {mode:04o}): programs of other users query 127.0.0.1");
    Some(found(Severity::Warn, message).hint("chmod 644 /etc/resolv.conf, and correct the program that writes it with this mode"))
}

/// A resolv.conf without name servers.
fn no_servers(e: &Evidence) -> Option<Finding> {
    let problem = match &e.file.state {
        FileState::Denied => return None,
        FileState::Read if !e.file.conf.servers.is_empty() => return None,
        FileState::Read if e.file.empty => format!("{PATH} is empty"),
        FileState::Read => format!("{PATH} has no nameserver line"),
        FileState::Missing => format!("{PATH} does not exist"),
        FileState::Dangling(to) => format!("{PATH} links to {to}, which does not exist"),
        FileState::Failed(why) => format!("{PATH} cannot be read ({why})"),
    };
    let by_module = e.hosts.as_deref().is_some_and(|h| h.split(' ').any(|w| w == "resolve"))
        && e.resolved.as_ref().is_some_and(|r| r.active == "active");
    let finding = if e.local {
        // may be intended, unless it is a dangling link
        let severity = if matches!(e.file.state, FileState::Read | FileState::Missing) { Severity::Info } else { Severity::Warn };
        found(severity, format!("{problem}; names still resolve, through 127.0.0.1"))
    } else if by_module {
        found(Severity::Warn, format!("{problem}: names resolve only in programs that use libc, through systemd-resolved"))
    } else {
        found(Severity::Crit, format!("{problem}, and the default 127.0.0.1 does not respond"))
    };
    let finding = finding
        .cite("links to", e.file.link.clone().unwrap_or_default())
        .cite("nsswitch.conf", e.hosts.clone().unwrap_or_default());
    let behind_resolved = e.file.link.as_deref().is_some_and(|l| l.contains("systemd/resolve"));
    Some(if behind_resolved { finding.key(KeyKind::Unit, RESOLVED) } else { finding })
}

/// Loopback addresses without a name server.
fn dead(e: &Evidence) -> Option<Finding> {
    let first = e.dead.first()?;
    let all = e.file.conf.used().len() == e.dead.len();
    let severity = if all { Severity::Crit } else { Severity::Warn };
    let names = e.dead.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    let by_resolved = e.dead.iter().any(is_resolved);
    let unit = match (&e.resolved, by_resolved) {
        (Some(r), true) if r.load == "masked" || r.file_state == "masked" => format!("{RESOLVED} is masked"),
        (Some(r), true) => format!("{RESOLVED} is {}", r.active),
        (None, true) => "systemd-resolved, the owner of the address, is not installed".to_owned(),
        _ => match e.others.first() {
            Some((unit, state)) => format!("{unit} is {state}"),
            None => "no unit of a name server was found".to_owned(),
        },
    };
    let message = format!("{PATH} lists {names}, which does not respond: {unit}");
    let finding = found(severity, message).cite("links to", e.file.link.clone().unwrap_or_default());
    if !is_resolved(first) && !by_resolved {
        return Some(e.others.iter().fold(finding, |f, (unit, _)| f.key(KeyKind::Unit, unit)));
    }
    let finding = finding.key(KeyKind::Unit, RESOLVED);
    let can = e.resolved.as_ref().is_some_and(|r| r.load == "loaded" && r.file_state != "masked");
    Some(if can { finding.fix(RESTART.id) } else { finding })
}

/// Unusual settings that cause no failure by themselves.
fn unusual_settings(e: &Evidence) -> Vec<Finding> {
    let conf = &e.file.conf;
    let mut findings = Vec::new();
    if conf.servers.len() > MAXNS {
        let ignored: Vec<String> = conf.servers.iter().skip(MAXNS).map(ToString::to_string).collect();
        let are = if ignored.len() == 1 { "is" } else { "are" };
        let message =
            format!("{PATH} lists {} servers, limit {MAXNS}: {} {are} never queried", conf.servers.len(), ignored.join(", "));
        findings.push(found(Severity::Info, message));
    }
    if let Some(ndots) = conf.number("ndots").filter(|n| *n >= HIGH_NDOTS) {
        let message =
            format!("{PATH} has ndots:{ndots}: names with fewer dots are queried in {} search domains first", conf.search.len());
        findings.push(
            found(Severity::Info, message).hint("every lookup sends several queries; a trailing dot, or ndots:1, avoids them"),
        );
    }
    let used: Vec<&NameServer> = conf.servers.iter().take(MAXNS).collect();
    if let Some(twice) = used.iter().enumerate().find_map(|(i, s)| used[..i].contains(s).then_some(s)) {
        findings.push(found(Severity::Info, format!("{PATH} lists {twice} twice: one fallback server less")));
    }
    findings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use jiff::Timestamp;

    use super::*;

    fn plan(dead: &[&str], resolved: Option<[&str; 3]>) -> Result<Plan, Refusal> {
        let of = |[load, active, file_state]: [&str; 3]| Resolved {
            load: load.into(),
            active: active.into(),
            file_state: file_state.into(),
        };
        let dead = dead.iter().map(|s| s.parse().unwrap()).collect();
        let e = Evidence { dead, resolved: resolved.map(of), ..Evidence::default() };
        let target = Object::host();
        let finding = found(Severity::Crit, "dead".to_owned());
        let stub = Stub { settings: Settings::default() };
        stub.plan(RESTART.id, &finding, &Judged { target: &target, taken_at: Timestamp::UNIX_EPOCH }, &e)
    }

    #[test]
    fn resolved_is_restarted_only_for_its_own_dead_address() {
        let stopped = plan(&["127.0.0.53"], Some(["loaded", "failed", "enabled"])).unwrap();
        assert!(matches!(&stopped.actions[..], [Action::RestartUnit { unit }] if unit == RESOLVED), "{stopped:?}");
        assert!(matches!(&stopped.undo[..], [Action::StopUnit { .. }]) && stopped.recurs.is_none());
        assert!(plan(&["127.0.0.54"], Some(["loaded", "active", "disabled"])).unwrap().recurs.is_some());
        // another address, no such unit, no dead server
        assert!(matches!(plan(&["127.0.0.1"], Some(["loaded", "active", "enabled"])), Err(Refusal::Precondition(_))));
        assert!(matches!(plan(&["127.0.0.53"], None), Err(Refusal::Precondition(_))));
        assert!(matches!(plan(&[], Some(["loaded", "active", "enabled"])), Err(Refusal::Precondition(_))));
        assert!(matches!(plan(&["127.0.0.53"], Some(["bad-setting", "inactive", ""])), Err(Refusal::Precondition(_))));
        assert!(matches!(plan(&["127.0.0.53"], Some(["masked", "inactive", "masked"])), Err(Refusal::Policy(_))));
    }

    #[test]
    fn wildcard_socket_receives_packets_for_any_address() {
        let receives = |open: &str, address: &str| super::receives(open.parse().unwrap(), address.parse().unwrap());
        assert!(
            receives("127.0.0.53", "127.0.0.53")
                && receives("0.0.0.0", "127.0.0.1")
                && receives("::", "127.0.0.1")
                && receives("::", "::1")
        );
        assert!(!receives("127.0.0.53", "127.0.0.1") && !receives("0.0.0.0", "::1"));
    }
}
