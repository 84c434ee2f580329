//! What resolv.conf says, and whether somebody listens where it says this machine itself answers.

use std::net::IpAddr;
use std::time::Duration;

use opsctl_core::model::{
    Action, Check, CheckSpec, Code, Finding, FixSpec, Inventory, Judged, Judgement, KeyKind, Plan, Refusal, Risk, Severity,
    Subject, Target,
};
use opsctl_core::probe::names::{FileState, MAXNS, NameServer, PATH, ResolvFile, hosts_line, resolv_conf_of};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking, listeners};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::standing::{Standing, standing};
use crate::processes::of_host;
use crate::servers::READ_TIMEOUT;

const STUB: Code = Code {
    id: "dns.stub",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "resolv.conf is missing, a dangling link, cannot be read or names nobody, or names this machine itself, where nobody answers (crit; warn when there is another way); it names over three servers, or one twice, or has ndots:5 or more (info)",
    hint: "start the name server of this machine, or let /etc/resolv.conf name one that answers",
};

const RESTART: FixSpec = FixSpec {
    id: "dns.restart-resolved",
    risk: Risk::R2,
    title: "restart systemd-resolved, when resolv.conf names its address and it does not listen there",
};

static SPEC: CheckSpec = CheckSpec {
    id: "dns.stub",
    title: "resolv.conf names somebody who is there",
    codes: &[STUB],
    fixes: &[RESTART],
    timeout: Duration::from_secs(8),
};

const RESOLVED: &str = "systemd-resolved.service";
/// Name servers that run on the machine they serve.
const LOCAL: &[&str] = &[
    "dnsmasq.service",
    "unbound.service",
    "named.service",
    "bind9.service",
    "pdns-recursor.service",
    "dnscrypt-proxy.service",
    "stubby.service",
    "coredns.service",
];
/// With so many dots a name is first looked for in every domain of the search list (the setting of Kubernetes).
const MANY_DOTS: u32 = 5;

pub(super) struct Stub {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    file: ResolvFile,
    /// Servers on the loopback where no UDP port 53 is open here, and which do not answer either.
    dead: Vec<NameServer>,
    /// Whether UDP port 53 is open at 127.0.0.1, which is asked when the file names nobody, or something answers there.
    local: bool,
    /// The unit of systemd-resolved; none where systemd or the unit is not there.
    resolved: Option<Resolved>,
    /// Other name servers that this machine has a unit for, with their state.
    others: Vec<(String, String)>,
    /// The `hosts` line of nsswitch.conf, when the file is of no use.
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

/// Whether a socket at `open` takes what is sent to `address`.
fn takes(open: IpAddr, address: IpAddr) -> bool {
    open == address || (open.is_unspecified() && (open.is_ipv6() || address.is_ipv4()))
}

impl Check for Stub {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Target) -> Result<Evidence, ProbeError> {
        let file = resolv_conf_of(None).await?;
        if file.state == FileState::Denied && file.hidden_mode.is_none() {
            return Err(ProbeError::Denied {
                what: "the name servers".to_owned(),
                from: PATH.to_owned(),
                needs: "root".to_owned(),
            });
        }
        let used = file.conf.used();
        let read = |io: &Io| listeners::udp_addresses_of(io, i64::from(std::process::id()), 53).unwrap_or_default();
        let open = blocking::run("listening sockets", "/proc/self/net/udp", READ_TIMEOUT, read).await?;
        let deaf: Vec<NameServer> =
            used.into_iter().filter(|s| s.is_loopback() && !open.iter().any(|o| takes(*o, s.address))).collect();
        let mut e = Evidence { file, local: deaf.is_empty(), ..Evidence::default() };
        if e.file.state == FileState::Denied {
            return Ok(e);
        }
        if !deaf.is_empty() {
            // a rule of the packet filter may lead elsewhere, as in a container
            let host = cx.resolvers.host(&self.settings.names, self.settings.patience()).await?;
            let silent = |s: &NameServer| host.servers.iter().any(|a| a.server == *s && standing(a) == Standing::Silent);
            e.dead = deaf.into_iter().filter(silent).collect();
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
        j.findings.extend(hidden(e));
        j.findings.extend(nobody(e).or_else(|| dead(e)));
        j.findings.extend(remarks(e));
        j.findings = j.findings.into_iter().map(of_host).collect();
        j
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        let refuse = |why: String| Err(Refusal::Precondition(why));
        if !e.dead.iter().any(is_resolved) {
            return refuse("resolv.conf does not name systemd-resolved, or it answers".to_owned());
        }
        let Some(unit) = &e.resolved else { return refuse(format!("systemd has no {RESOLVED} here")) };
        if unit.load == "masked" || unit.file_state == "masked" {
            return Err(Refusal::Policy(format!("{RESOLVED} is masked: somebody decided against it")));
        }
        if unit.load != "loaded" {
            return refuse(format!("{RESOLVED} is {}", unit.load));
        }
        let plan = Plan::new(&RESTART, &SPEC, finding, judged.target, vec![Action::RestartUnit { unit: RESOLVED.to_owned() }])
            .affects(["everything on this host that looks up names, and the answers it had cached".to_owned()])
            .downtime("names are not looked up for a moment");
        let was_off = unit.active != "active";
        let undo = if was_off { vec![Action::StopUnit { unit: RESOLVED.to_owned() }] } else { Vec::new() };
        let plan =
            if unit.file_state == "disabled" { plan.recurs("it is not enabled: the next boot leaves it off") } else { plan };
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
    units.filter(|u| LOCAL.contains(&u.name.as_str())).map(|u| (u.name.clone(), u.active.clone())).collect()
}

fn found(severity: Severity, message: String) -> Finding {
    Finding::new(&STUB, severity, Subject::host(), message)
}

/// A file that only some may read.
fn hidden(e: &Evidence) -> Option<Finding> {
    let mode = e.file.hidden_mode?;
    let message = format!("only its owner and group may read {PATH} (mode {mode:04o}): programs of other users ask 127.0.0.1");
    Some(found(Severity::Warn, message).hint("chmod 644 /etc/resolv.conf, and see who writes it so"))
}

/// A file that names nobody.
fn nobody(e: &Evidence) -> Option<Finding> {
    let what = match &e.file.state {
        FileState::Denied => return None,
        FileState::Read if !e.file.conf.servers.is_empty() => return None,
        FileState::Read if e.file.empty => format!("{PATH} is empty"),
        FileState::Read => format!("{PATH} has no line that names a server"),
        FileState::Missing => format!("there is no {PATH}"),
        FileState::Dangling(to) => format!("{PATH} leads to {to}, which is not there"),
        FileState::Failed(why) => format!("{PATH} cannot be read ({why})"),
    };
    let by_module = e.hosts.as_deref().is_some_and(|h| h.split(' ').any(|w| w == "resolve"))
        && e.resolved.as_ref().is_some_and(|r| r.active == "active");
    let finding = if e.local {
        // written so on purpose, unless it is a link to nowhere
        let severity = if matches!(e.file.state, FileState::Read | FileState::Missing) { Severity::Info } else { Severity::Warn };
        found(severity, format!("{what}; names are found all the same, at 127.0.0.1"))
    } else if by_module {
        found(Severity::Warn, format!("{what}: only programs that use libc find names, through systemd-resolved"))
    } else {
        found(Severity::Crit, format!("{what}, and at 127.0.0.1, which is asked then, nobody answers"))
    };
    let finding = finding
        .cite("it links to", e.file.link.clone().unwrap_or_default())
        .cite("nsswitch.conf", e.hosts.clone().unwrap_or_default());
    let behind_resolved = e.file.link.as_deref().is_some_and(|l| l.contains("systemd/resolve"));
    Some(if behind_resolved { finding.key(KeyKind::Unit, RESOLVED) } else { finding })
}

/// Servers of this machine that are not there.
fn dead(e: &Evidence) -> Option<Finding> {
    let first = e.dead.first()?;
    let all = e.file.conf.used().len() == e.dead.len();
    let severity = if all { Severity::Crit } else { Severity::Warn };
    let names = e.dead.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    let by_resolved = e.dead.iter().any(is_resolved);
    let who = match (&e.resolved, by_resolved) {
        (Some(r), true) if r.load == "masked" || r.file_state == "masked" => format!("{RESOLVED}, which would, is masked"),
        (Some(r), true) => format!("{RESOLVED}, which should, is {}", r.active),
        (None, true) => "systemd-resolved, whose address it is, is not there".to_owned(),
        _ => match e.others.first() {
            Some((unit, state)) => format!("{unit}, which may be the one, is {state}"),
            None => "no unit of a name server is known here".to_owned(),
        },
    };
    let message = format!("{PATH} names {names}, this machine itself, and nobody answers there: {who}");
    let finding = found(severity, message).cite("it links to", e.file.link.clone().unwrap_or_default());
    if !is_resolved(first) && !by_resolved {
        return Some(e.others.iter().fold(finding, |f, (unit, _)| f.key(KeyKind::Unit, unit)));
    }
    let finding = finding.key(KeyKind::Unit, RESOLVED);
    let can = e.resolved.as_ref().is_some_and(|r| r.load == "loaded" && r.file_state != "masked");
    Some(if can { finding.fix(RESTART.id) } else { finding })
}

/// What is odd and does no harm by itself.
fn remarks(e: &Evidence) -> Vec<Finding> {
    let conf = &e.file.conf;
    let mut remarks = Vec::new();
    if conf.servers.len() > MAXNS {
        let ignored: Vec<String> = conf.servers.iter().skip(MAXNS).map(ToString::to_string).collect();
        let are = if ignored.len() == 1 { "is" } else { "are" };
        let message =
            format!("{PATH} names {} servers, limit {MAXNS}: {} {are} never asked", conf.servers.len(), ignored.join(", "));
        remarks.push(found(Severity::Info, message));
    }
    if let Some(ndots) = conf.number("ndots").filter(|n| *n >= MANY_DOTS) {
        let message =
            format!("{PATH} has ndots:{ndots}: names with fewer dots are looked for in {} domains first", conf.search.len());
        remarks.push(found(Severity::Info, message).hint("every lookup is asked many times; a final dot, or ndots:1, avoids it"));
    }
    let used: Vec<&NameServer> = conf.servers.iter().take(MAXNS).collect();
    if let Some(twice) = used.iter().enumerate().find_map(|(i, s)| used[..i].contains(s).then_some(s)) {
        remarks.push(found(Severity::Info, format!("{PATH} names {twice} twice: there is one server less to fall back on")));
    }
    remarks
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
        let target = Target::host();
        let finding = found(Severity::Crit, "dead".to_owned());
        let stub = Stub { settings: Settings::default() };
        stub.plan(RESTART.id, &finding, &Judged { target: &target, taken_at: Timestamp::UNIX_EPOCH }, &e)
    }

    #[test]
    fn resolved_is_restarted_only_where_it_is_missed() {
        let stopped = plan(&["127.0.0.53"], Some(["loaded", "failed", "enabled"])).unwrap();
        assert!(matches!(&stopped.actions[..], [Action::RestartUnit { unit }] if unit == RESOLVED), "{stopped:?}");
        assert!(matches!(&stopped.undo[..], [Action::StopUnit { .. }]) && stopped.recurs.is_none());
        assert!(plan(&["127.0.0.54"], Some(["loaded", "active", "disabled"])).unwrap().recurs.is_some());
        // somebody else's address, no such unit, nobody missed
        assert!(matches!(plan(&["127.0.0.1"], Some(["loaded", "active", "enabled"])), Err(Refusal::Precondition(_))));
        assert!(matches!(plan(&["127.0.0.53"], None), Err(Refusal::Precondition(_))));
        assert!(matches!(plan(&[], Some(["loaded", "active", "enabled"])), Err(Refusal::Precondition(_))));
        assert!(matches!(plan(&["127.0.0.53"], Some(["bad-setting", "inactive", ""])), Err(Refusal::Precondition(_))));
        assert!(matches!(plan(&["127.0.0.53"], Some(["masked", "inactive", "masked"])), Err(Refusal::Policy(_))));
    }

    #[test]
    fn a_socket_for_all_addresses_takes_what_is_sent_to_one() {
        let takes = |open: &str, address: &str| super::takes(open.parse().unwrap(), address.parse().unwrap());
        assert!(
            takes("127.0.0.53", "127.0.0.53") && takes("0.0.0.0", "127.0.0.1") && takes("::", "127.0.0.1") && takes("::", "::1")
        );
        assert!(!takes("127.0.0.53", "127.0.0.1") && !takes("0.0.0.0", "::1"));
    }
}
